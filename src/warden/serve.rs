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
    job_key::{JobKey, ReadKey, Stanza, TO_VIEW, TO_WARDEN},
    random::Random,
};

use super::{
    Answer, Ask, LookRequest, Request,
    judge::{self, Refusal, Release},
    look::{self, Look},
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
            Ask::Look(request) => warden.answer_look(&request, now()),
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

    fn answer_look(&self, request: &LookRequest, now: u64) -> Answer {
        let granted = look::grant(request, &self.store).and_then(|grant| {
            let (prekey, job) = (grant.prekey, grant.job);
            let judged = self.judge_look(request, grant, now);
            if judged.as_ref().is_err_and(look::Refusal::is_for_good) {
                // Whatever becomes of the clock and of this store's notes: this grant opens nothing any more.
                self.store.forget(&prekey, job)?;
            }
            let look = judged?;
            let stanza = self.pass_on(request, &look)?;
            let seconds = look.grant.expires.saturating_sub(look.now);
            Ok(Answer::Granted { stanza, seconds })
        });
        granted.unwrap_or_else(|refusal| self.refuse(request.session, &refusal))
    }

    /// What may be looked at, with the time by which it was judged on disk, so that it never goes back.
    fn judge_look(
        &self,
        request: &LookRequest,
        grant: safelight_bundle::DebugGrant,
        now: u64,
    ) -> Result<Look, look::Refusal> {
        let _alone = self.store.hold()?;
        let judged = look::judge(request, grant, &self.store, now);
        self.store.note_time(now)?;
        let look = judged?;
        self.store.claim(&look.grant.prekey, look.grant.job)?;
        Ok(look)
    }

    /// The log is on disk before the key is opened.
    fn pass_on(&self, request: &LookRequest, look: &Look) -> Result<Stanza, look::Refusal> {
        let not_logged = |source| look::Refusal::NotLogged { source };
        let seal = |source| look::Refusal::Seal { source };
        let event = Control::KeyReleased {
            session: request.session,
            to: request.view_key.0,
        };
        self.audit.control(event).map_err(not_logged)?;
        self.audit.sync().map_err(not_logged)?;
        let secret = self.store.secret(&look.grant.prekey)?;
        let secret = secret.ok_or(look::Refusal::PrekeyGone)?;
        let key = ReadKey::unwrap(&look.stanza, &secret, look.grant.job).map_err(seal)?;
        key.wrap(&request.view_key, look.grant.job, self.rng)
            .map_err(seal)
    }

    /// A refusal is answered even if it cannot be logged: nothing leaves.
    fn refuse(&self, session: SessionId, refusal: &dyn std::error::Error) -> Answer {
        let reason = refusal.to_string();
        if let Some(source) = refusal.source() {
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
