//! What a client's own site does about jobs that are rendered elsewhere.

use std::{cell::RefCell, collections::BTreeSet};

use safelight_bundle::{Announcement, Cancel, Outcome, Revocation};
use safelight_policies::id::{GrantId, JobId, SessionId, SiteName};
use safelight_scheduler::{Errand, Report};

use super::{
    arrivals::EndedThere,
    errand,
    turn::{LETTER_LIFE, Site},
    voice::Voice,
};
use crate::{
    client::ClientProcess,
    failure::{Failure, Kind, OrFail},
    granted, jobs,
};

impl Site {
    /// Sends jobs to where they were placed.
    pub(super) fn announce(&mut self, now: u64) -> Result<(), Failure> {
        let mut passed = BTreeSet::new();
        let mut closed = BTreeSet::new();
        let open: RefCell<BTreeSet<String>> = RefCell::default();
        loop {
            let chores = &self.chores;
            let pass = |job: JobId, site: Option<&SiteName>| {
                open.borrow_mut().insert(job.to_string());
                passed.contains(&job)
                    || site.is_some_and(|site| closed.contains(site))
                    || chores.rests(errand::ANNOUNCE, &job.to_string(), now)
            };
            let next = self.books.ledger().to_publish(now, pass);
            let Some(job) = self.books.wait(next)? else {
                self.chores.only(errand::ANNOUNCE, &open.into_inner());
                return self.chores.trouble(errand::ANNOUNCE);
            };
            passed.insert(job);
            let announced = self.announce_one(job, now);
            if let Ok(Some(without_prekeys)) = &announced {
                closed.insert(without_prekeys.clone());
            }
            let failed = announced.err();
            self.chores
                .tried(errand::ANNOUNCE, &job.to_string(), now, failed.as_ref());
        }
    }

    /// Sends a job; answers the site if it cannot be sent because that site has no prekey for it.
    fn announce_one(&mut self, job: JobId, now: u64) -> Result<Option<SiteName>, Failure> {
        let Some(index) = self.sent_to(job)? else {
            let message = format!("{job} was placed at a site that is not enrolled any more");
            return Err(Failure::new(Kind::Config, message));
        };
        if self.count(job, errand::ANNOUNCE)?.1 == 0 && !self.announce_to(job, index, now)? {
            return Ok(Some(self.links[index].peer.card.site.clone()));
        }
        let pushed = self.links[index].push(&self.books, now);
        if let Some(error) = pushed.stopped {
            return Err(Failure::from_error(Kind::Environment, &error));
        }
        self.report(job, Report::Published, now)?;
        Ok(None)
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
        self.each(errand::DELIVER, now, |site, errand, now| {
            let Errand { subject, job, .. } = errand;
            let Voice::Client(client) = &site.voice else {
                return Ok(false);
            };
            let session: SessionId = subject.parse().or_fail(Kind::Internal)?;
            let Some(left) = jobs::left(&site.state, *job, session)? else {
                return Ok(true);
            };
            if !left.cause.is_success() || !jobs::counts(&site.state, *job, &left)? {
                return Ok(true);
            }
            match deliver_one(client, *job, session) {
                Err(failure) if failure.kind() == Kind::Denied => {
                    // It will not become genuine by being looked at again.
                    tracing::error!("{job}: a result is not genuine: {}", failure.message());
                    site.note(errand::FORGED, subject, *job, now)?;
                }
                delivered => delivered?,
            }
            Ok(true)
        })
    }

    /// Jobs that are over at another site are over here when everything that was announced is at home.
    pub(super) fn ended_there(&mut self, now: u64) -> Result<(), Failure> {
        self.each(errand::ENDED, now, |site, Errand { job, .. }, now| {
            let Some(ended) = EndedThere::of(&site.state, *job)? else {
                return Ok(false);
            };
            let open = site.count(*job, errand::DELIVER)?;
            if open.1 < ended.results || open.0 > 0 {
                return Ok(false);
            }
            let forged = site.count(*job, errand::FORGED)?.1 > 0;
            if ended.outcome == Outcome::Succeeded && !forged {
                site.report(*job, Report::Returning, now)?;
                site.report(*job, Report::Delivered, now)?;
            } else {
                // If it was canceled there and not here, it failed for us.
                site.report(*job, Report::FailedThere, now)?;
            }
            Ok(true)
        })
    }

    /// Tells the sites that grants are for that they are revoked.
    pub(super) fn revocations(&mut self, now: u64) -> Result<(), Failure> {
        self.each(
            errand::REVOKE,
            now,
            |site, Errand { subject, job, .. }, now| {
                let number: GrantId = subject.parse().or_fail(Kind::Internal)?;
                let grant = granted::find(&site.state, number)?.filter(|it| it.job == *job);
                let link = grant.and_then(|grant| {
                    let mut links = site.links.iter();
                    links.position(|link| link.key() == grant.site)
                });
                let Some(index) = link else {
                    // Whose site is trusted no longer has nobody to tell.
                    return Ok(true);
                };
                let times = (now, now + LETTER_LIFE);
                let job = *job;
                let letter = |stamp| Revocation { stamp, job, number };
                site.links[index].post(&site.books, &site.voice, times, letter)?;
                Ok(true)
            },
        )
    }

    /// Withdraws what is no longer wanted from where it was sent.
    pub(super) fn cancels(&mut self, now: u64) -> Result<(), Failure> {
        self.each(errand::CANCEL, now, |site, Errand { job, .. }, now| {
            let job = *job;
            if site.count(job, errand::ANNOUNCE)?.1 > 0
                && let Some(index) = site.sent_to(job)?
            {
                let times = (now, now + LETTER_LIFE);
                let letter = |stamp| Cancel { stamp, job };
                site.links[index].post(&site.books, &site.voice, times, letter)?;
            }
            Ok(true)
        })
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
