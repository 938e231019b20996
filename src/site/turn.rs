//! One turn of a site's loop: read what came, decide what is to be done, do it, send what goes.
//!
//! Each act is small, is noted in the ledger when it is done, and may be done again: a site that is killed anywhere goes on where it was.

use safelight_bundle::Epoch;
use safelight_policies::id::{JobId, ObjectId, SiteName};
use safelight_scheduler::{Event, JobEntry, JobState, Queue, Report, Target};
use safelight_seal::random::{Random, SystemRandom};

use super::{
    card::{Peer, Role},
    chores::Chores,
    config::Config,
    errand,
    link::Link,
    looks::Standing,
    status::Status,
    voice::Voice,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    run::Books,
    state::State,
};

/// How much of a kind is done in one turn.
pub(super) const BATCH: u32 = 64;
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
    pub(super) chores: Chores,
    /// The peers were read at least once.
    acquainted: bool,
    pub(super) status: Status,
    /// Looks by a grant that go on.
    pub(super) standing: Standing,
}

impl Site {
    /// Opens everything.
    pub(super) fn open(state: &State, config: Config) -> Result<Self, Failure> {
        let books = Books::open_with(state, config.rules.clone())?;
        let voice = Voice::start(state, config.role)?;
        let rule = books.wait(books.ledger().queue_rule(Queue::Outsourced))?;
        let rule = config.outsourced(rule.paused);
        books.wait(books.ledger().set_queue(Queue::Outsourced, rule))?;
        Ok(Self {
            state: state.clone(),
            config,
            books,
            voice,
            links: Vec::new(),
            story: 0,
            chores: Chores::default(),
            acquainted: false,
            status: Status::default(),
            standing: Standing::default(),
        })
    }

    /// Takes up what was enrolled, and lets go of what was revoked: who is trusted no longer is not listened to any more, and nothing
    /// more is begun for it.
    fn acquaint(&mut self, now: u64) -> Result<(), Failure> {
        let peers = Peer::all(&self.state)?;
        if self.acquainted && self.links.iter().map(|link| &link.peer).eq(&peers) {
            return Ok(());
        }
        let mut known = std::mem::take(&mut self.links);
        let mut first = Ok(());
        for peer in peers {
            let link = match known.iter().position(|link| link.peer == peer) {
                Some(index) => Ok(known.swap_remove(index)),
                None => self.link(peer),
            };
            match link {
                Ok(link) => self.links.push(link),
                Err(failure) => first = first.and(Err(failure)),
            }
        }
        for link in known {
            tracing::warn!("{} is trusted no longer as it was", link.peer.card.site);
            self.status.forget(&link.peer.card.site);
        }
        if matches!(self.voice, Voice::Warden(_)) {
            first = first.and(self.forsake(now));
        }
        self.acquainted = first.is_ok();
        first
    }

    /// Jobs of clients that are trusted no longer end.
    fn forsake(&self, now: u64) -> Result<(), Failure> {
        for entry in self.books.wait(self.books.ledger().queue(Queue::Active))? {
            let job = self.job(entry.job)?;
            if self.client_of(&job).is_none() {
                tracing::warn!("{} ends: its client is trusted no longer", entry.job);
                self.report(entry.job, Report::Canceled, now)?;
            }
        }
        Ok(())
    }

    pub(super) fn link(&self, peer: Peer) -> Result<Link, Failure> {
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
        let link = Link::open(&self.state, &self.books, me, own.as_ref(), peer, epoch)?;
        Ok(link.patient(self.config.patience))
    }

    /// One turn. What fails is reported and tried again in the next one; it keeps nothing else from being done.
    pub(super) fn turn(&mut self, now: u64) {
        let mut troubles = Vec::new();
        let mut acts: Vec<(&str, Act)> = vec![
            ("who signs", Self::revive),
            ("other sites", Self::acquaint),
            ("what was asked of the links", Self::refresh),
            ("the ledger", Self::expire),
            ("letters", Self::read),
            ("the story", Self::follow),
            ("placement", Self::place),
            ("results", Self::results),
            ("looks", Self::looked),
            ("registers", Self::registers),
            ("ends", Self::ends),
            ("cancellations", Self::cancels),
            ("prekeys", Self::prekeys),
            ("letters kept back", Self::held),
            ("signs of life", Self::live),
        ];
        if matches!(self.voice, Voice::Client(_)) {
            acts.extend([
                ("announcements", Self::announce as Act),
                ("revoked grants", Self::revocations),
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
}

type Act = fn(&mut Site, u64) -> Result<(), Failure>;
