//! One turn of a site's loop: read what came, decide what is to be done, do it, send what goes.
//!
//! Each act is small, is noted in the ledger when it is done, and may be done again: a site that is killed anywhere goes on where it was.

use safelight_bundle::{Epoch, Heartbeat, Receipt};
use safelight_policies::id::{JobId, ObjectId, SiteName};
use safelight_scheduler::{Errand, Event, JobEntry, JobState, Queue, Report, Target};
use safelight_seal::random::{Random, SystemRandom};

use super::{
    arrivals::Arrivals,
    card::{Peer, Role},
    config::Config,
    errand,
    link::Link,
    status::Status,
    voice::Voice,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    run::Books,
    state::State,
};

/// How much of a kind is done in one turn.
const BATCH: u32 = 64;
/// How long a letter that is not about a job holds, in seconds.
pub(super) const LETTER_LIFE: u64 = 14 * 86_400;

/// A site at work.
pub(super) struct Site {
    pub(super) state: State,
    pub(super) config: Config,
    pub(super) books: Books,
    pub(super) voice: Voice,
    pub(super) links: Vec<Link>,
    /// The last line of the ledger's story that was looked at.
    story: u64,
    status: Status,
}

impl Site {
    /// Opens everything.
    pub(super) fn open(state: &State, config: Config) -> Result<Self, Failure> {
        let books = Books::open_with(state, config.rules.clone())?;
        let voice = Voice::start(state, config.role)?;
        let rule = books.wait(books.ledger().queue_rule(Queue::Outsourced))?;
        let rule = config.outsourced(rule.paused);
        books.wait(books.ledger().set_queue(Queue::Outsourced, rule))?;
        let mut site = Self {
            state: state.clone(),
            config,
            books,
            voice,
            links: Vec::new(),
            story: 0,
            status: Status::default(),
        };
        site.links = Peer::all(state)?
            .into_iter()
            .map(|peer| site.link(peer))
            .collect::<Result<_, _>>()?;
        Ok(site)
    }

    fn link(&self, peer: Peer) -> Result<Link, Failure> {
        let mut random = [0; 3];
        SystemRandom::new()
            .fill(&mut random)
            .or_fail(Kind::Internal)?;
        let own = match &self.voice {
            Voice::Client(client) => Some(client.public().1),
            Voice::Warden(_) => None,
        };
        let epoch = Epoch::new(crate::process::now_seconds(), random);
        let me = self.voice.public();
        Link::open(&self.state, &self.books, me, own.as_ref(), peer, epoch)
    }

    /// One turn. What fails is reported and tried again in the next one; it keeps nothing else from being done.
    pub(super) fn turn(&mut self, now: u64) {
        let mut troubles = Vec::new();
        let mut acts: Vec<(&str, Act)> = vec![
            ("who signs", Self::revive),
            ("the ledger", Self::expire),
            ("letters", Self::read),
            ("the story", Self::follow),
            ("placement", Self::place),
            ("results", Self::results),
            ("ends", Self::ends),
            ("cancellations", Self::cancels),
            ("prekeys", Self::prekeys),
            ("signs of life", Self::live),
        ];
        if matches!(self.voice, Voice::Client(_)) {
            acts.extend([
                ("announcements", Self::announce as Act),
                ("deliveries", Self::deliver),
                ("what ended elsewhere", Self::ended_there),
            ]);
        }
        acts.push(("the hot folders", Self::write));
        for (what, act) in acts {
            if let Err(failure) = act(self, now) {
                troubles.push(format!("{what}: {}", failure.message()));
            }
        }
        self.status.report(&self.state, troubles, now);
    }

    /// The process that signs may have been killed: another one takes its place.
    fn revive(&mut self, _now: u64) -> Result<(), Failure> {
        if !self.voice.lives() {
            tracing::error!("the process that signs for this site is gone; another one is started");
            self.voice = Voice::start(&self.state, self.config.role)?;
        }
        Ok(())
    }

    fn expire(&mut self, now: u64) -> Result<(), Failure> {
        let reaped = self.books.wait(self.books.ledger().expire(now))?;
        for session in reaped.sessions {
            tracing::warn!("the lease of {session} ran out: its node was not heard of");
        }
        for node in reaped.nodes {
            tracing::warn!("node {node} is lost");
        }
        Ok(())
    }

    /// Reads every hot folder and answers.
    fn read(&mut self, now: u64) -> Result<(), Failure> {
        let mut stopped = Ok(());
        for index in 0..self.links.len() {
            let peer = self.links[index].peer.clone();
            let mut arrivals = Arrivals {
                state: &self.state,
                books: &self.books,
                peer: &peer,
                now,
                going: self.links[index].going(),
                receipts: Vec::new(),
            };
            let report = self.links[index].scan(&mut arrivals, now);
            let receipts = std::mem::take(&mut arrivals.receipts);
            for owed in &report.receipts {
                let (of, verdict) = (owed.of, owed.verdict);
                let times = (now, now + LETTER_LIFE);
                let letter = |stamp| Receipt { stamp, of, verdict };
                self.links[index].post(&self.books, &self.voice, times, letter)?;
            }
            self.status.scanned(&peer.card.site, &report, now);
            if let Some(error) = report.stopped {
                stopped = Err(Failure::from_error(Kind::Environment, &error));
            }
            let collected = self.links[index].collect(&self.books, receipts);
            stopped = stopped.and(collected);
        }
        stopped
    }

    /// Reports, and leaves what does not fit the job's state as it is.
    pub(super) fn report(&self, job: JobId, report: Report, now: u64) -> Result<(), Failure> {
        self.books.report(job, report, now)
    }

    /// What happened to jobs since the last turn: ends become errands.
    fn follow(&mut self, now: u64) -> Result<(), Failure> {
        loop {
            let lines = self
                .books
                .wait(self.books.ledger().story_after(self.story, 256))?;
            let Some(last) = lines.last().map(|line| line.number) else {
                return Ok(());
            };
            for line in lines {
                let subject = line.job.to_string();
                let kind = match (&line.event, line.to) {
                    (Event::Canceled, _) if self.config.role == Role::Local => errand::CANCEL,
                    (_, JobState::Succeeded | JobState::Failed | JobState::Canceled) => errand::END,
                    _ => continue,
                };
                let add = self
                    .books
                    .ledger()
                    .add_errand(kind, &subject, line.job, now);
                self.books.wait(add)?;
            }
            self.story = last;
        }
    }

    /// Here or there.
    fn place(&mut self, now: u64) -> Result<(), Failure> {
        let new = self.books.wait(self.books.ledger().queue(Queue::New))?;
        if new.is_empty() {
            return Ok(());
        }
        let mut open = Vec::new();
        for link in &self.links {
            if self
                .books
                .wait(self.books.ledger().prekeys_left(&link.key()))?
                > 0
            {
                open.push(link.peer.card.site.clone());
            }
        }
        let mut profile = self.config.placement.clone();
        if profile.sites.is_empty() {
            // A site that was enrolled was enrolled to be used.
            profile.sites = self
                .links
                .iter()
                .map(|link| link.peer.card.site.clone())
                .collect();
        }
        for entry in new {
            let placed = self
                .books
                .ledger()
                .place(entry.job, &profile, open.clone(), now);
            let _ = self.books.wait(placed)?;
        }
        Ok(())
    }

    fn link_to(&self, site: &SiteName) -> Option<usize> {
        self.links
            .iter()
            .position(|link| link.peer.card.site == *site)
    }

    /// Where a job was sent: the link, if it was and the site is still known.
    pub(super) fn sent_to(&self, job: JobId) -> Result<Option<usize>, Failure> {
        let placed = self.books.wait(self.books.ledger().placement(job))?;
        Ok(placed.and_then(|placement| match placement.target {
            Target::There(site) => self.link_to(&site),
            Target::Here | Target::Nowhere => None,
        }))
    }

    /// The other end of a job that came here: its client's link.
    pub(super) fn client_of(&self, job: &JobEntry) -> Option<usize> {
        self.links
            .iter()
            .position(|link| link.peer.card.client.as_ref() == Some(&job.outline.client))
    }

    pub(super) fn job(&self, job: JobId) -> Result<JobEntry, Failure> {
        self.books.wait(self.books.ledger().job(&job.to_string()))
    }

    pub(super) fn errands(&self, kind: &str) -> Result<Vec<Errand>, Failure> {
        self.books.wait(self.books.ledger().errands(kind, BATCH))
    }

    pub(super) fn done(&self, kind: &str, subject: &str, now: u64) -> Result<(), Failure> {
        self.books
            .wait(self.books.ledger().finish_errand(kind, subject, now))
            .map(drop)
    }

    /// A letter about a job waits for its receipt.
    pub(super) fn await_receipt(
        &self,
        kind: &str,
        of: ObjectId,
        job: JobId,
        now: u64,
    ) -> Result<(), Failure> {
        let subject = of.to_string();
        let add = self.books.ledger().add_errand(kind, &subject, job, now);
        self.books.wait(add)
    }

    /// Notes something that was done, once and for all.
    pub(super) fn note(
        &self,
        kind: &str,
        subject: &str,
        job: JobId,
        now: u64,
    ) -> Result<(), Failure> {
        self.books
            .wait(self.books.ledger().add_errand(kind, subject, job, now))?;
        self.done(kind, subject, now)
    }

    /// How many errands of a kind a job has that are to be done, and how many in all.
    pub(super) fn count(&self, job: JobId, kind: &str) -> Result<(u64, u64), Failure> {
        self.books.wait(self.books.ledger().errands_of(job, kind))
    }

    /// Says that we live.
    fn live(&mut self, now: u64) -> Result<(), Failure> {
        for link in &mut self.links {
            if now < link.beat.saturating_add(self.config.heartbeat) {
                continue;
            }
            let last_seen = link.newest();
            let times = (now, now + LETTER_LIFE);
            let letter = |stamp| Heartbeat { stamp, last_seen };
            link.post(&self.books, &self.voice, times, letter)?;
            link.beat = now;
        }
        Ok(())
    }

    /// Writes what goes.
    fn write(&mut self, now: u64) -> Result<(), Failure> {
        let mut stopped = Ok(());
        for link in &mut self.links {
            let pushed = link.push(&self.books, now);
            self.status
                .pushed(&link.peer.card.site, &pushed, link.waiting());
            if let Some(error) = pushed.stopped {
                stopped = Err(Failure::from_error(Kind::Environment, &error));
            }
        }
        stopped
    }
}

type Act = fn(&mut Site, u64) -> Result<(), Failure>;

/// Does something for each, whatever fails; answers the first failure.
pub(super) fn each<T>(
    all: Vec<T>,
    mut act: impl FnMut(&T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut first = Ok(());
    for one in &all {
        let done = act(one);
        first = first.and(done);
    }
    first
}
