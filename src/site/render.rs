//! What a site does about what was rendered here: results go home, ends are told, prekeys replaced.

use std::collections::BTreeSet;

use safelight_bundle::{
    ENTRIES_MAX, JobEnded, Outcome, PREKEYS_MAX, PrekeyBatch, RegisterNotice, ResultNotice,
};
use safelight_policies::id::{JobId, SessionId};
use safelight_scheduler::{AttemptState, Errand, JobEntry, JobState, Report};

use super::{
    errand,
    home::deliver_one,
    turn::{LETTER_LIFE, Site},
    voice::Voice,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    records::joined::{self, Unfit},
    registers,
    store::Store,
    warden,
};

impl Site {
    /// Sessions that ended here: to the client's site by letter, or to the client's own directories.
    pub(super) fn results(&mut self, now: u64) -> Result<(), Failure> {
        self.each(errand::RESULT, now, Self::result)
    }

    fn result(&mut self, errand: &Errand, now: u64) -> Result<bool, Failure> {
        let Errand { subject, job, .. } = errand;
        let session: SessionId = subject.parse().or_fail(Kind::Internal)?;
        let attempt = self.books.wait(self.books.ledger().attempt_of(session))?;
        let ended = attempt.filter(|(_, attempt)| attempt.state != AttemptState::Running);
        // If not, its end is being written down.
        let Some((_, attempt)) = ended else {
            return Ok(false);
        };
        let left = jobs::left(&self.state, *job, session)?;
        let counts = attempt.state == AttemptState::Committed;
        if let Some(left) = &left {
            self.register(*job, left)?;
        }
        match (&self.voice, left) {
            (Voice::Client(client), Some(left)) if counts && left.manifest.is_some() => {
                deliver_one(client, *job, session)?;
            }
            (Voice::Warden(_), Some(left)) if counts || !left.cause.is_success() => {
                self.send_home(*job, &left, now)?;
            }
            _ => {}
        }
        Ok(true)
    }

    /// Puts the state of a session's logs into its client's register, before anything of it goes home.
    fn register(&self, job: JobId, left: &Left) -> Result<(), Failure> {
        let client = self.job(job)?.outline.client;
        let area = Store::open(&self.state, &client)?;
        let mut statements = Vec::new();
        for parts in joined::logs(area.area(), &left.audit)? {
            let log = joined::open(area.area(), &parts).map_err(Unfit::into_failure)?;
            statements.push(registers::state_of_any(job, log)?);
        }
        registers::register(&self.state, &client, &statements)
    }

    /// Sends each client what is new in its register, so that its own site has all of it.
    pub(super) fn registers(&mut self, now: u64) -> Result<(), Failure> {
        let mut first = Ok(());
        for index in 0..self.links.len() {
            first = first.and(self.send_register(index, now));
        }
        first
    }

    fn send_register(&mut self, index: usize, now: u64) -> Result<(), Failure> {
        let peer = &self.links[index].peer;
        let Some(client) = peer.card.client.clone() else {
            return Ok(());
        };
        let path = peer.registered(&self.state);
        let sent = match path.exists() {
            true => String::from_utf8_lossy(&jobs::read(&path)?)
                .parse()
                .or_fail(Kind::Internal)?,
            false => 0,
        };
        let news = registers::news(&self.state, &client, sent, ENTRIES_MAX as u64)?;
        let Some(registers::News {
            entries,
            checkpoint,
            key,
        }) = news
        else {
            return Ok(());
        };
        let last = sent + entries.len() as u64;
        let letter = |stamp| RegisterNotice {
            stamp,
            first: sent,
            entries,
            checkpoint,
            key,
        };
        let times = (now, now + LETTER_LIFE);
        self.links[index].post(&self.books, &self.voice, times, letter)?;
        jobs::write_private(&path, last.to_string().as_bytes())
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
        self.each(errand::END, now, Self::end)
    }

    fn end(&mut self, Errand { job, .. }: &Errand, now: u64) -> Result<bool, Failure> {
        if self.count(*job, errand::RESULT)?.0 > 0 {
            return Ok(false);
        }
        let entry = self.job(*job)?;
        match self.voice {
            Voice::Client(_) => self.report(*job, Report::Delivered, now).map(|()| true),
            Voice::Warden(_) => self.end_for(&entry, now),
        }
    }

    /// Tells the client that its job is over here, and when it knows and has everything, forgets how to open it.
    fn end_for(&mut self, entry: &JobEntry, now: u64) -> Result<bool, Failure> {
        let job = entry.id();
        let Some(index) = self.client_of(entry) else {
            // Its client was revoked: nobody is to be told.
            warden::erase(&self.state, job)?;
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
        if !matches!(self.voice, Voice::Warden(_)) {
            return Ok(());
        }
        let used: Vec<_> = self
            .page(errand::PREKEY)?
            .into_iter()
            .map(|errand| (self.job(errand.job), errand.subject))
            .collect();
        let mut first = Ok(());
        let mut unsupplied = BTreeSet::new();
        for index in 0..self.links.len() {
            let is_theirs = |(job, _): &&(Result<JobEntry, Failure>, String)| {
                job.as_ref()
                    .is_ok_and(|job| self.client_of(job) == Some(index))
            };
            let replaced = used.iter().filter(is_theirs).count() as u64;
            if let Err(failure) = self.supply(index, replaced, now) {
                unsupplied.insert(index);
                first = first.and(Err(failure));
            }
        }
        for (job, subject) in used {
            let done = job.and_then(|job| match self.client_of(&job) {
                Some(index) if unsupplied.contains(&index) => Ok(()),
                _ => self.done(errand::PREKEY, &subject, now),
            });
            first = first.and(done);
        }
        first
    }

    /// Sends one client so many prekeys for those that it used, and the first ones if it had none.
    fn supply(&mut self, index: usize, replaced: u64, now: u64) -> Result<(), Failure> {
        let Voice::Warden(warden) = &self.voice else {
            return Ok(());
        };
        let advance = if self.links[index].peer.is_to_be_supplied(&self.state) {
            self.config.prekeys
        } else {
            0
        };
        let wanted = advance.saturating_add(replaced).min(PREKEYS_MAX as u64);
        if wanted == 0 {
            return Ok(());
        }
        let prekeys = (0..wanted)
            .map(|_| warden.mint())
            .collect::<Result<Vec<_>, _>>()?;
        let letter = |stamp| PrekeyBatch { stamp, prekeys };
        let times = (now, now + LETTER_LIFE);
        self.links[index].post(&self.books, &self.voice, times, letter)?;
        if advance > 0 {
            self.links[index].peer.now_supplied(&self.state)?;
        }
        Ok(())
    }
}
