//! What a site does about what was rendered here: results go home, ends are told, prekeys replaced.

use safelight_bundle::{JobEnded, Outcome, PREKEYS_MAX, PrekeyBatch, ResultNotice};
use safelight_policies::id::{JobId, SessionId};
use safelight_scheduler::{AttemptState, Errand, JobEntry, JobState, Report};

use super::{
    errand,
    home::deliver_one,
    turn::{LETTER_LIFE, Site, each},
    voice::Voice,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    warden,
};

impl Site {
    /// Sessions that ended here: to the client's site by letter, or to the client's own directories.
    pub(super) fn results(&mut self, now: u64) -> Result<(), Failure> {
        let errands = self.errands(errand::RESULT)?;
        each(errands, |errand| self.result(errand, now))
    }

    fn result(&mut self, Errand { subject, job }: &Errand, now: u64) -> Result<(), Failure> {
        let session: SessionId = subject.parse().or_fail(Kind::Internal)?;
        let attempt = self.books.wait(self.books.ledger().attempt_of(session))?;
        let ended = attempt.filter(|(_, attempt)| attempt.state != AttemptState::Running);
        // If not, its end is being written down.
        let Some((_, attempt)) = ended else {
            return Ok(());
        };
        let left = jobs::left(&self.state, *job, session)?;
        let counts = attempt.state == AttemptState::Committed;
        match (&self.voice, left) {
            (Voice::Client(client), Some(left)) if counts && left.manifest.is_some() => {
                deliver_one(client, *job, session)?;
            }
            (Voice::Warden(_), Some(left)) if counts || !left.cause.is_success() => {
                self.send_home(*job, &left, now)?;
            }
            _ => {}
        }
        self.done(errand::RESULT, subject, now)
    }

    fn send_home(&mut self, job: JobId, left: &Left, now: u64) -> Result<(), Failure> {
        let entry = self.job(job)?;
        let (Some(index), Some(list)) = (self.client_of(&entry), left.list) else {
            return Ok(());
        };
        let load = self.links[index].load(list)?;
        let letter = |stamp| ResultNotice {
            stamp,
            job,
            task: left.task,
            session: left.session,
            attempt: left.attempt,
            fence: left.fence,
            manifest: left.manifest,
            log: left.log,
            audit: left.audit.clone(),
            cause: left.cause.clone(),
            load,
        };
        let times = (now, now + LETTER_LIFE);
        let posted = self.links[index].post(&self.books, &self.voice, times, letter)?;
        self.await_receipt(errand::LETTER, posted.of, job, now)?;
        let session = left.session.to_string();
        self.note(errand::SENT, &session, job, now)
    }

    /// Jobs that are over here.
    pub(super) fn ends(&mut self, now: u64) -> Result<(), Failure> {
        let errands = self.errands(errand::END)?;
        each(errands, |Errand { subject, job }| {
            if self.count(*job, errand::RESULT)?.0 > 0 {
                return Ok(());
            }
            let entry = self.job(*job)?;
            let done = match self.voice {
                Voice::Client(_) => {
                    self.report(*job, Report::Delivered, now)?;
                    true
                }
                Voice::Warden(_) => self.end_for(&entry, now)?,
            };
            if done {
                self.done(errand::END, subject, now)?;
            }
            Ok(())
        })
    }

    /// Tells the client that its job is over here, and when it knows and has everything, forgets how to open it.
    fn end_for(&mut self, entry: &JobEntry, now: u64) -> Result<bool, Failure> {
        let job = entry.id();
        let Some(index) = self.client_of(entry) else {
            return Ok(true);
        };
        if self.count(job, errand::FAREWELL)?.1 == 0 {
            let outcome = match entry.state {
                JobState::Failed => Outcome::Failed,
                JobState::Canceled => Outcome::Canceled,
                _ => Outcome::Succeeded,
            };
            let results = self.count(job, errand::SENT)?.1;
            let letter = |stamp| JobEnded {
                stamp,
                job,
                outcome,
                results,
            };
            let times = (now, now + LETTER_LIFE);
            let posted = self.links[index].post(&self.books, &self.voice, times, letter)?;
            self.await_receipt(errand::FAREWELL, posted.of, job, now)?;
            self.report(job, Report::Returning, now)?;
            return Ok(false);
        }
        if self.count(job, errand::LETTER)?.0 > 0 || self.count(job, errand::FAREWELL)?.0 > 0 {
            return Ok(false);
        }
        self.report(job, Report::Delivered, now)?;
        warden::erase(&self.state, job)?;
        tracing::info!(
            "{job} is over, and its client has everything; this site cannot open it any more"
        );
        Ok(true)
    }

    /// Keeps every client supplied with one-time prekeys: some in advance, and another for each that was used.
    pub(super) fn prekeys(&mut self, now: u64) -> Result<(), Failure> {
        let Voice::Warden(warden) = &self.voice else {
            return Ok(());
        };
        let used = self.errands(errand::PREKEY)?;
        let mut clients = Vec::with_capacity(used.len());
        for errand in &used {
            clients.push(self.client_of(&self.job(errand.job)?));
        }
        for index in 0..self.links.len() {
            let first = self.links[index].peer.supplied(&self.state);
            let advance = if first.exists() {
                0
            } else {
                self.config.prekeys
            };
            let replaced = clients
                .iter()
                .filter(|client| **client == Some(index))
                .count();
            let wanted = advance
                .saturating_add(replaced as u64)
                .min(PREKEYS_MAX as u64);
            if wanted == 0 {
                continue;
            }
            let prekeys = (0..wanted)
                .map(|_| warden.mint())
                .collect::<Result<Vec<_>, _>>()?;
            let letter = |stamp| PrekeyBatch { stamp, prekeys };
            let times = (now, now + LETTER_LIFE);
            self.links[index].post(&self.books, &self.voice, times, letter)?;
            jobs::write_private(&first, b"")?;
        }
        for errand in &used {
            self.done(errand::PREKEY, &errand.subject, now)?;
        }
        Ok(())
    }
}
