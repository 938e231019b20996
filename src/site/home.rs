//! What a client's own site does about jobs that are rendered elsewhere.

use safelight_bundle::{Announcement, Cancel, Outcome};
use safelight_policies::id::{JobId, SessionId};
use safelight_scheduler::{Errand, Report};

use super::{
    arrivals::EndedThere,
    errand,
    turn::{LETTER_LIFE, Site, each},
    voice::Voice,
};
use crate::{
    client::ClientProcess,
    failure::{Failure, Kind, OrFail},
    jobs,
};

impl Site {
    /// Sends jobs to where they were placed.
    pub(super) fn announce(&mut self, now: u64) -> Result<(), Failure> {
        while let Some(job) = self.books.wait(self.books.ledger().to_publish(now))? {
            let Some(index) = self.sent_to(job)? else {
                let message = format!("{job} was placed at a site that is not enrolled any more");
                return Err(Failure::new(Kind::Config, message));
            };
            if self.count(job, errand::ANNOUNCE)?.1 == 0 && !self.announce_to(job, index, now)? {
                return Ok(());
            }
            let pushed = self.links[index].push(&self.books, now);
            if let Some(error) = pushed.stopped {
                return Err(Failure::from_error(Kind::Environment, &error));
            }
            self.report(job, Report::Published, now)?;
        }
        Ok(())
    }

    fn announce_to(&mut self, job: JobId, index: usize, now: u64) -> Result<bool, Failure> {
        let Voice::Client(client) = &self.voice else {
            return Ok(false);
        };
        let site = self.links[index].key();
        let Some(prekey) = self
            .books
            .wait(self.books.ledger().take_prekey(&site, job))?
        else {
            tracing::warn!(
                "{job} waits for a prekey of {}",
                self.links[index].peer.card.site
            );
            return Ok(false);
        };
        let (envelope, list) = client.readdress(job, &prekey, &site)?;
        let envelope = safelight_bundle::object_id(&envelope);
        let load = self.links[index].load(list)?;
        let expires = self.job(job)?.outline.expires;
        let letter = |stamp| Announcement {
            stamp,
            job,
            envelope,
            load,
        };
        let posted = self.links[index].post(&self.books, &self.voice, (now, expires), letter)?;
        self.await_receipt(errand::LETTER, posted.of, job, now)?;
        self.note(errand::ANNOUNCE, &job.to_string(), job, now)?;
        Ok(true)
    }

    /// Stores what came from another site.
    pub(super) fn deliver(&mut self, now: u64) -> Result<(), Failure> {
        let Voice::Client(client) = &self.voice else {
            return Ok(());
        };
        each(self.errands(errand::DELIVER)?, |Errand { subject, job }| {
            let session: SessionId = subject.parse().or_fail(Kind::Internal)?;
            let left = jobs::left(&self.state, *job, session)?;
            if left.is_some_and(|left| left.cause.is_success() && left.manifest.is_some()) {
                deliver_one(client, *job, session)?;
            }
            self.done(errand::DELIVER, subject, now)
        })
    }

    /// Jobs that are over at another site are over here when everything that was announced is at home.
    pub(super) fn ended_there(&mut self, now: u64) -> Result<(), Failure> {
        for Errand { subject, job } in self.errands(errand::ENDED)? {
            let Some(ended) = EndedThere::of(&self.state, job)? else {
                continue;
            };
            let open = self.count(job, errand::DELIVER)?;
            if open.1 < ended.results || open.0 > 0 {
                continue;
            }
            match ended.outcome {
                Outcome::Succeeded => {
                    self.report(job, Report::Returning, now)?;
                    self.report(job, Report::Delivered, now)?;
                }
                Outcome::Failed => self.report(job, Report::FailedThere, now)?,
                Outcome::Canceled => {}
            }
            self.done(errand::ENDED, &subject, now)?;
        }
        Ok(())
    }

    /// Withdraws what is no longer wanted from where it was sent.
    pub(super) fn cancels(&mut self, now: u64) -> Result<(), Failure> {
        for Errand { subject, job } in self.errands(errand::CANCEL)? {
            if self.count(job, errand::ANNOUNCE)?.1 > 0
                && let Some(index) = self.sent_to(job)?
            {
                let times = (now, now + LETTER_LIFE);
                let letter = |stamp| Cancel { stamp, job };
                self.links[index].post(&self.books, &self.voice, times, letter)?;
            }
            self.done(errand::CANCEL, &subject, now)?;
        }
        Ok(())
    }
}

/// Stores the results of one session at home. What cannot be stored is tried again.
pub(super) fn deliver_one(
    client: &ClientProcess,
    job: JobId,
    session: SessionId,
) -> Result<(), Failure> {
    let report = client.deliver(job, session)?;
    match report.failed.first() {
        None => {
            let count = crate::terminal::files(report.stored + report.aside);
            tracing::info!("{job}: {count} at home");
            Ok(())
        }
        Some(why) => Err(Failure::new(
            Kind::Environment,
            format!(
                "{job}: {} files cannot be stored at home: {why}",
                report.failed.len()
            ),
        )),
    }
}
