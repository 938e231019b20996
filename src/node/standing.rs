//! While a session goes on, the state of its log goes to the site again and again, and from there to the client's own site: whoever holds the
//! site's key cannot write another beginning of it afterwards.
//!
//! Invariants: a state is told only when every record up to it is on this host's disk. What cannot be told costs the session nothing: the
//! next state covers it.

use std::{
    fs::File,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use safelight_audit::Reader;

use super::{
    beat::{failed, out_of_turn},
    protocol::{Answer, Call, Often, Standing},
    session::Session,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    run::AuditWriter,
    state::LogOf,
    terminal,
};

/// How often it is looked whether there is something to tell.
const LOOK: Duration = Duration::from_secs(1);
/// How long the site may take to write a state down.
const ANSWER: Duration = Duration::from_secs(10);

/// Does something that takes long, and tells the state of the session's log while it does.
pub(super) fn told_while<T>(
    session: &Session<'_>,
    audit: &AuditWriter,
    work: impl FnOnce() -> T,
) -> T {
    let (over, is_over) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            if let Err(failure) = tell(session, audit, &is_over) {
                terminal::complain(&failure);
            }
        });
        let done = work();
        drop(over);
        done
    })
}

fn tell(session: &Session<'_>, audit: &AuditWriter, over: &Receiver<()>) -> Result<(), Failure> {
    let lease = session.lease;
    let state = &session.node.state;
    let path = state.audit_log(&lease.client, lease.job, LogOf::Session(lease.session))?;
    let file = File::open(path).or_fail(Kind::Environment)?;
    let mut reader = Reader::open(file).or_fail(Kind::Environment)?.with_tree();
    let (mut told, mut since, mut well) = (0, Instant::now(), true);
    while over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        for record in &mut reader {
            record.or_fail(Kind::Denied)?;
        }
        let records = reader.checkpoint().records;
        if !is_due(session.node.pulse.contact().often(), records - told, since) {
            continue;
        }
        let standing = Standing {
            session: lease.session,
            fence: lease.fence,
            records,
            root: reader.root().unwrap_or_default(),
            chain: reader.checkpoint().chain,
        };
        let sent = send(session, audit, standing);
        if let (Err(failure), true) = (&sent, well) {
            terminal::complain(failure);
        }
        (well, since) = (sent.is_ok(), Instant::now());
        if well {
            told = records;
        }
    }
    Ok(())
}

/// True if so many new records, or any after so long, are to be told of.
fn is_due(often: Often, new: u64, since: Instant) -> bool {
    new >= often.records || (new > 0 && since.elapsed().as_secs() >= often.seconds)
}

fn send(session: &Session<'_>, audit: &AuditWriter, standing: Standing) -> Result<(), Failure> {
    audit.sync()?;
    let once = |_| false;
    let site = &session.node.site;
    match site.call(&Call::Standing(standing), ANSWER, &once) {
        Ok(Answer::Settled) => Ok(()),
        Ok(Answer::Refused { reason }) => Err(Failure::new(
            Kind::Denied,
            format!(
                "the site does not note the state of a log: {}",
                terminal::shown(reason.as_bytes())
            ),
        )),
        Ok(_) => Err(out_of_turn()),
        Err(error) => Err(failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_due_after_so_many_records_or_so_long_and_never_without_any() {
        let often = |seconds, records| Often { seconds, records };
        let (now, long_ago) = (Instant::now(), Instant::now() - Duration::from_secs(9));
        for (often, new, since, due) in [
            (often(5, 100), 100, now, true),
            (often(5, 100), 99, now, false),
            (often(5, 100), 1, long_ago, true),
            (often(5, 100), 0, long_ago, false),
            (often(60, 100), 1, long_ago, false),
        ] {
            assert_eq!(is_due(often, new, since), due, "{often:?} {new}");
        }
    }
}
