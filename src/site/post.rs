//! The letters of a turn: what came is read and answered, what goes is written, and who is quiet or restored is noticed.

use safelight_bundle::{Heartbeat, Receipt};
use safelight_policies::id::ObjectId;
use safelight_scheduler::Report;

use super::{
    arrivals::Arrivals,
    errand, holdings,
    link::Link,
    turn::{LETTER_LIFE, Site},
    voice::Voice,
};
use crate::failure::{Failure, Kind};

/// How soon after the last sign of life there may be another one for a sender that lost count, in seconds.
const TOLD: u64 = 10;

impl Site {
    /// Takes up anew each link of which a command changed what the ledger remembers.
    pub(super) fn refresh(&mut self, _now: u64) -> Result<(), Failure> {
        for index in 0..self.links.len() {
            if self.links[index].is_stale(&self.state)? {
                let anew = self.link(self.links[index].peer.clone())?;
                self.links[index] = anew.after(&mut self.links[index]);
            }
        }
        Ok(())
    }

    /// Letters that are kept back: what may go again does, and of the rest somebody is told.
    pub(super) fn held(&mut self, now: u64) -> Result<(), Failure> {
        let mut held = Ok(());
        for link in &mut self.links {
            link.again(&self.books, &self.voice, false, now)?;
            let (site, count) = (&link.peer.card.site, link.held());
            if count > 0 && held.is_ok() {
                held = Err(Failure::new(
                    Kind::Environment,
                    format!(
                        "{count} letters to {site} were refused there or not answered, and are kept back: safelight hotfolder quarantine {site}"
                    ),
                ));
            }
        }
        held
    }

    /// Reads every hot folder and answers.
    pub(super) fn read(&mut self, now: u64) -> Result<(), Failure> {
        let mut stopped = Ok(());
        for index in 0..self.links.len() {
            let peer = self.links[index].peer.clone();
            let mut arrivals = Arrivals {
                state: &self.state,
                books: &self.books,
                peer: &peer,
                now,
                going: self.links[index].going(),
                seen: None,
                receipts: Vec::new(),
                own: match &self.voice {
                    Voice::Client(client) => Some(client.public().1),
                    Voice::Warden(_) => None,
                },
            };
            let before = self.links[index].newest();
            let report = self.links[index].scan(&mut arrivals, now);
            let receipts = std::mem::take(&mut arrivals.receipts);
            if let Some(seen) = arrivals.seen {
                let compared = self.links[index].compare(&self.books, &self.voice, seen, now);
                stopped = stopped.and(compared);
            }
            let after = self.links[index].newest();
            if before.is_some_and(|before| after.is_some_and(|it| it.epoch > before.epoch)) {
                tracing::warn!("{} began a new run of letters", peer.card.site);
                stopped = stopped.and(peer.resupply(&self.state));
                // What it held then it may not hold now.
                stopped = stopped.and(holdings::forget(&peer, &self.state));
            }
            if report.accepted > 0 {
                let again = self.links[index].again(&self.books, &self.voice, true, now);
                stopped = stopped.and(again);
            }
            for owed in &report.receipts {
                let (of, verdict) = (owed.of, owed.verdict);
                let times = (now, now + LETTER_LIFE);
                let letter = |stamp| Receipt { stamp, of, verdict };
                // A receipt that is not sent now is owed again after a while.
                let posted = self.links[index].post(&self.books, &self.voice, times, letter);
                stopped = stopped.and(posted.map(drop));
            }
            let restored = self.links[index].restored.clone();
            if report.untold && now >= self.links[index].beat.saturating_add(TOLD) {
                self.links[index].beat = 0;
            }
            self.status.scanned(&peer.card.site, &report, restored, now);
            if let Some(error) = report.stopped {
                stopped = stopped.and(Err(Failure::from_error(Kind::Environment, &error)));
            }
            let collected = self.links[index].collect(&self.books, &self.voice, receipts, now);
            stopped = stopped.and(collected);
        }
        stopped
    }

    /// The folders that letters come into.
    pub(super) fn mailboxes(&self) -> Vec<std::path::PathBuf> {
        let me = self.voice.public();
        let links = self.links.iter();
        links.filter_map(|link| link.mailbox(&me)).collect()
    }

    /// Says that we live.
    pub(super) fn live(&mut self, now: u64) -> Result<(), Failure> {
        let mut stopped = Ok(());
        let due = |link: &Link| now >= link.beat.saturating_add(self.config.heartbeat);
        if let Voice::Client(client) = &self.voice
            && self.links.iter().any(due)
        {
            stopped = stopped.and(client.witness());
        }
        for link in &mut self.links {
            if now < link.beat.saturating_add(self.config.heartbeat) {
                continue;
            }
            let last_seen = link.newest();
            let times = (now, now + LETTER_LIFE);
            let letter = |stamp| Heartbeat { stamp, last_seen };
            let posted = link.post(&self.books, &self.voice, times, letter);
            stopped = stopped.and(posted.map(drop));
            link.beat = now;
        }
        stopped
    }

    /// Writes what goes.
    pub(super) fn write(&mut self, now: u64) -> Result<(), Failure> {
        let mut stopped = Ok(());
        let mut lapsed = Vec::new();
        for link in &mut self.links {
            let pushed = link.push(&self.books, now);
            self.status.pushed(link, &pushed);
            lapsed.extend(pushed.lapsed);
            if let Some(error) = pushed.stopped {
                stopped = stopped.and(Err(Failure::from_error(Kind::Environment, &error)));
            }
        }
        for letter in lapsed {
            stopped = stopped.and(self.lapse(letter, now));
        }
        stopped
    }

    /// A letter that nobody answered in its time: nobody waits for the receipt any more.
    fn lapse(&self, letter: ObjectId, now: u64) -> Result<(), Failure> {
        let subject = letter.to_string();
        for kind in [errand::LETTER, errand::FAREWELL] {
            let finished = self.books.ledger().finish_errand(kind, &subject, now);
            let about = self.books.wait(finished)?;
            // At home it announced the job.
            if let (Some(job), Voice::Client(_)) = (about, &self.voice) {
                self.report(job, Report::FailedThere, now)?;
            }
        }
        Ok(())
    }
}
