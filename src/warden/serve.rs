//! The warden's loop: one question, one answer, in the order that the story in [`super`] tells.

use std::os::fd::OwnedFd;

use safelight_audit::Recorder;
use safelight_channel::Channel;
use safelight_policies::{
    event::Control,
    id::{JobId, SessionId},
    lease::Lease,
};
use safelight_seal::{
    job_key::{JobKey, Stanza, TO_VIEW, TO_WARDEN},
    random::Random,
};

use super::{
    Answer, Ask, Request,
    judge::{self, Refusal, Release},
    store::Store,
};
use crate::failure::{Failure, Kind, OrFail};

/// Stands on the log where no session is known, because the lease that names it is not authentic.
const NO_SESSION: SessionId = SessionId::from_random([0; 10]);

/// Answers the parent until it hangs up. A message that is not understood ends the warden.
pub(super) fn serve(
    parent: &Channel,
    store: Store,
    rng: &dyn Random,
    now: impl Fn() -> u64,
) -> Result<(), Failure> {
    let first = parent.expect::<Ask>().or_fail(Kind::Internal)?;
    let (ask, [audit]) = first.exactly::<1>().or_fail(Kind::Internal)?;
    if !matches!(ask, Ask::Audit) {
        return Err(out_of_turn());
    }
    let warden = Warden::new(audit, store, rng)?;
    while let Some(incoming) = parent.recv::<Ask>().or_fail(Kind::Internal)? {
        let (ask, []) = incoming.exactly::<0>().or_fail(Kind::Internal)?;
        let answer = match ask {
            Ask::Audit => return Err(out_of_turn()),
            Ask::Release(request) => warden.answer_release(&request, now()),
            Ask::Erase { job, prekey } => warden.answer_erase(job, &prekey),
        };
        parent.send(&answer).or_fail(Kind::Internal)?;
    }
    Ok(())
}

fn out_of_turn() -> Failure {
    Failure::new(Kind::Internal, "the warden was asked out of turn")
}

struct Warden<'a> {
    audit: Recorder,
    store: Store,
    rng: &'a dyn Random,
}

impl<'a> Warden<'a> {
    fn new(audit: OwnedFd, store: Store, rng: &'a dyn Random) -> Result<Self, Failure> {
        let audit = Recorder::new(Channel::from(audit)).or_fail(Kind::Internal)?;
        Ok(Self { audit, store, rng })
    }

    fn answer_release(&self, request: &Request, now: u64) -> Answer {
        let mut session = NO_SESSION;
        let released = judge::lease(request, &self.store).and_then(|lease| {
            session = lease.session;
            self.release(&self.claim(request, lease, now)?)
        });
        match released {
            Ok(stanza) => Answer::Released { stanza },
            Err(refusal) => self.refuse(session, &refusal),
        }
    }

    /// What may be released, with its fence on disk. Nobody else judges in between: a fence is good for one release, whoever asks at once.
    fn claim(&self, request: &Request, lease: Lease, now: u64) -> Result<Release, Refusal> {
        let _alone = self.store.hold()?;
        let release = judge::judge(request, lease, &self.store, now)?;
        let Release { lease, prekey, .. } = &release;
        self.store.claim(prekey, lease.job)?;
        self.store
            .note_release(lease.job, lease.task, lease.fence)?;
        Ok(release)
    }

    /// The log is on disk before the key is opened.
    fn release(&self, release: &Release) -> Result<Stanza, Refusal> {
        let Release {
            lease,
            prekey,
            stanza,
            view_key,
        } = release;
        let not_logged = |source| Refusal::NotLogged { source };
        let seal = |source| Refusal::Seal { source };
        let event = Control::KeyReleased {
            session: lease.session,
            to: view_key.0,
        };
        self.audit.control(event).map_err(not_logged)?;
        self.audit.sync().map_err(not_logged)?;
        let secret = self.store.secret(prekey)?.ok_or(Refusal::PrekeyGone)?;
        let key = JobKey::unwrap(stanza, &secret, TO_WARDEN, lease.job).map_err(seal)?;
        key.wrap(view_key, TO_VIEW, lease.job, self.rng)
            .map_err(seal)
    }

    /// A refusal is answered even if it cannot be logged: nothing leaves.
    fn refuse(&self, session: SessionId, refusal: &Refusal) -> Answer {
        let reason = refusal.to_string();
        if let Some(source) = std::error::Error::source(refusal) {
            tracing::warn!(%session, "refused: {reason}: {source}");
        }
        let event = Control::KeyRefused {
            session,
            reason: reason.clone(),
        };
        if let Err(error) = self.audit.control(event) {
            tracing::error!(%session, "a refusal is not on the log: {error}");
        }
        Answer::Refused { reason }
    }

    fn answer_erase(&self, job: JobId, prekey: &[u8; 16]) -> Answer {
        let refused = |reason: &str| Answer::Refused {
            reason: reason.to_owned(),
        };
        match self.store.erase(prekey, job) {
            Ok(true) => Answer::Erased,
            Ok(false) => refused("the prekey belongs to another job"),
            Err(error) => {
                tracing::error!(%job, "cannot erase a prekey: {error}");
                refused("the warden's store failed")
            }
        }
    }
}

#[cfg(test)]
mod tests;
