//! The view server's log: each record is sealed to the client before it leaves this process, and is in the writer's process before the
//! caller has its answer.

use std::sync::{Mutex, PoisonError, mpsc::Sender};

use safelight_audit::{Body, Recorder};
use safelight_policies::{
    cause::Cause,
    event::Access,
    id::{ObjectId, SessionId},
};
use safelight_seal::audit_key::AuditKey;

use super::ancestry;
use crate::{
    log::{Log, Lost},
    view::Clock,
};

/// A log whose records only the client can read.
///
/// It takes so many bytes of records and no more: the log is on the site's disk and costs the job's quota nothing, so a job that does
/// nothing but look for names must come to an end before the disk does.
#[derive(Debug)]
pub struct SealedLog {
    /// The index is the record's nonce, so it is taken and sent under one lock.
    state: Mutex<State>,
    session: SessionId,
    trouble: Mutex<Sender<Cause>>,
    clock: Clock,
}

struct State {
    recorder: Recorder,
    key: AuditKey,
    next: u64,
    /// Bytes that may still be recorded.
    room: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl SealedLog {
    /// A log for one session, or for one debug access, which has a session id of its own, with room for so many bytes. Trouble with the
    /// log is told to `trouble`.
    pub fn new(
        recorder: Recorder,
        key: AuditKey,
        (session, room): (SessionId, u64),
        trouble: Sender<Cause>,
        clock: Clock,
    ) -> Self {
        Self {
            state: Mutex::new(State {
                recorder,
                key,
                next: 0,
                room,
            }),
            session,
            trouble: Mutex::new(trouble),
            clock,
        }
    }

    /// Waits until everything so far is on disk.
    pub fn sync(&self) -> Result<(), safelight_audit::Error> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recorder
            .sync()
            .map(drop)
    }

    fn tell(&self, cause: Cause) {
        let _ = self
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .send(cause);
    }

    /// Appends a record, or answers what the session's end is put down to: that it has filled the log, or that the log fails.
    fn append(&self, access: &Access) -> Result<(), Cause> {
        let lost = || Cause::AuditLost;
        let plain = postcard::to_stdvec(access).map_err(|_| lost())?;
        let plain = zeroize::Zeroizing::new(plain);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let index = state.next;
        let Some(room) = state.room.checked_sub(plain.len() as u64) else {
            state.room = 0;
            tracing::error!(
                records = index,
                "the session fills the audit log; it is ended"
            );
            return Err(Cause::Flooded);
        };
        state.room = room;
        let bytes = state.key.seal(index, &plain).map_err(|_| lost())?;
        // Once taken, an index is never used again, whether or not the record arrives.
        state.next += 1;
        state
            .recorder
            .append(Body::Sealed {
                session: self.session,
                index,
                bytes,
            })
            .map_err(|_| lost())
    }
}

impl Log for SealedLog {
    fn record(&self, access: Access) -> Result<(), Lost> {
        self.append(&access).map_err(|cause| {
            self.tell(cause);
            Lost
        })
    }

    fn began(&self, pid: u32, comm: &str) -> Result<(), Lost> {
        self.record(ancestry::program(pid, comm, self.clock))
    }

    fn not_authentic(&self, object: ObjectId) {
        tracing::error!(%object, "an object is not authentic");
        self.tell(Cause::NotAuthentic);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use safelight_channel::Channel;
    use safelight_policies::event::{Op, Verdict};
    use safelight_seal::{job_key::JobKey, random::SystemRandom};

    use super::*;

    fn access(path: usize) -> Access {
        Access {
            at: 1,
            pid: 1,
            comm: String::new(),
            op: Op::Lookup,
            path: vec![b'x'; path],
            to: None,
            verdict: Verdict::Missing,
            bytes: 0,
        }
    }

    #[test]
    fn a_log_that_fails_is_not_the_sessions_doing() {
        let (ours, writer) = Channel::pair().unwrap();
        drop(writer);
        let session = SessionId::from_random([1; 10]);
        let key = JobKey::generate(&SystemRandom::new())
            .unwrap()
            .audit_key(session);
        let (tell, told) = mpsc::channel();
        let log = SealedLog::new(
            Recorder::new(ours).unwrap(),
            key,
            (session, 1 << 20),
            tell,
            || 1,
        );
        assert!(log.record(access(100)).is_err());
        assert_eq!(told.try_recv(), Ok(Cause::AuditLost));
    }

    #[test]
    fn a_session_that_fills_the_log_is_ended() {
        let (ours, writer) = Channel::pair().unwrap();
        let drain = std::thread::spawn(move || {
            let mut records = 0;
            while let Ok(Some(_)) = writer.recv::<safelight_audit::ToWriter>() {
                records += 1;
            }
            records
        });
        let session = SessionId::from_random([1; 10]);
        let key = JobKey::generate(&SystemRandom::new())
            .unwrap()
            .audit_key(session);
        let (tell, told) = mpsc::channel();
        let log = SealedLog::new(
            Recorder::new(ours).unwrap(),
            key,
            (session, 1000),
            tell,
            || 1,
        );
        let mut recorded = 0;
        while log.record(access(100)).is_ok() {
            recorded += 1;
            assert!(told.try_recv().is_err());
        }
        assert!((7..10).contains(&recorded), "{recorded}");
        assert_eq!(told.try_recv(), Ok(Cause::Flooded));
        // Once lost, a smaller record does not slip in behind it unseen.
        assert!(log.record(access(500)).is_err());
        drop(log);
        assert_eq!(drain.join().unwrap(), recorded);
    }
}
