//! What a letter means, kept in the same breath as the letter.
//!
//! Everything here may happen twice: after a crash a letter that was kept but not noted is read again. Files are written first, the
//! ledger's row last.

use std::collections::BTreeMap;

use safelight_bundle::{
    Announcement, AnyLetter, Cancel, Delivery, Envelope, JobEnded, Kind as LetterKind, LookNotice,
    Outcome, PrekeyBatch, Receipt, RegisterNotice, ResultNotice, Revocation, Seq, Verdict,
    window::Row,
};
use safelight_policies::id::{ClientAlias, JobId, ObjectId, VerifyKey};
use safelight_scheduler::{self as scheduler, JobEntry, Received, Report, Terms};
use serde::{Deserialize, Serialize};

use super::{
    card::{Peer, Role},
    errand,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    looked, registers, results,
    run::Books,
    state::State,
    warden,
};

/// How many results of one task may come: as often as a task may be tried again, and lost, many times over.
const ATTEMPTS_MAX: u64 = 256;

/// How a job ended at another site, as home keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EndedThere {
    pub(super) outcome: Outcome,
    /// How many results there are.
    pub(super) results: u64,
}

impl EndedThere {
    fn path(state: &State, job: JobId) -> Result<std::path::PathBuf, Failure> {
        Ok(state.job(job)?.join("ended.json"))
    }

    /// What the other site said of a job's end, if it did.
    pub(super) fn of(state: &State, job: JobId) -> Result<Option<Self>, Failure> {
        let path = Self::path(state, job)?;
        if !path.exists() {
            return Ok(None);
        }
        serde_json::from_slice(&jobs::read(&path)?)
            .map(Some)
            .or_fail(Kind::Internal)
    }
}

/// Where letters of one peer arrive.
pub(super) struct Arrivals<'a> {
    pub(super) state: &'a State,
    pub(super) books: &'a Books,
    pub(super) peer: &'a Peer,
    pub(super) now: u64,
    /// Our letters that are on their way to this peer.
    pub(super) going: BTreeMap<ObjectId, LetterKind>,
    /// The newest letter of ours that the peer says it has seen.
    pub(super) seen: Option<Seq>,
    /// The client of this site, if it has one of its own.
    pub(super) own: Option<ClientAlias>,
    /// Receipts among what came: their letters leave the folder after it was read.
    pub(super) receipts: Vec<Receipt>,
}

impl Arrivals<'_> {
    /// False if a letter goes on from another that has not come.
    pub(super) fn is_due(&self, delivery: &Delivery) -> Result<bool, Failure> {
        match (&delivery.opened.letter, &self.own) {
            (AnyLetter::Register(letter), Some(own)) => {
                registers::is_next(self.state, own, &self.peer.card.site, letter)
            }
            _ => Ok(true),
        }
    }

    /// Keeps a letter's row and what it means.
    pub(super) fn keep(&mut self, row: &Row, delivery: Option<&Delivery>) -> Result<(), Failure> {
        let ledger = self.books.ledger();
        if let Some(Delivery {
            opened,
            envelope: Some((envelope, signed)),
            ..
        }) = delivery
            && let AnyLetter::Job(letter) = &opened.letter
            && self.job(letter, envelope, signed)?
        {
            let terms = Terms {
                task_retries: envelope.outline.retries,
                dead_max: envelope.outline.wishes.failures,
                ..Terms::default()
            };
            let received = Received {
                outline: &envelope.outline,
                envelope: letter.envelope,
                terms: &terms,
            };
            self.books
                .wait(ledger.keep_letter(row, Some(received), self.now))?;
            let (job, subject) = (letter.job, letter.job.to_string());
            return self
                .books
                .wait(ledger.add_errand(errand::PREKEY, &subject, job, self.now));
        }
        if let Some(delivery) = delivery {
            self.mean(&delivery.opened.letter, &row.from)?;
        }
        self.books.wait(ledger.keep_letter(row, None, self.now))
    }

    /// Acts on a letter that brings no new job.
    fn mean(&mut self, letter: &AnyLetter, from: &VerifyKey) -> Result<(), Failure> {
        match letter {
            AnyLetter::Result(letter) => self.result(letter),
            AnyLetter::Ended(letter) => self.ended(letter),
            AnyLetter::Cancel(letter) => self.cancel(letter),
            AnyLetter::Prekeys(letter) => self.prekeys(letter, from),
            AnyLetter::Receipt(letter) => self.receipt(letter),
            AnyLetter::Register(letter) => self.register(letter),
            AnyLetter::Look(letter) => self.look(letter),
            AnyLetter::Revocation(letter) => self.revocation(letter),
            AnyLetter::Heartbeat(letter) => {
                self.seen = self.seen.max(letter.last_seen);
                Ok(())
            }
            AnyLetter::Job(_) => Ok(()),
        }
    }

    /// What is new in the client's register there. One that does not fit what came before is evidence, and is kept out.
    fn register(&self, letter: &RegisterNotice) -> Result<(), Failure> {
        let (Some(own), site) = (&self.own, &self.peer.card.site) else {
            return Ok(());
        };
        match registers::take(self.state, own, site, letter) {
            Err(failure) if failure.kind() == Kind::Denied => {
                tracing::error!("{}", failure.message());
                Ok(())
            }
            taken => taken,
        }
    }

    /// A job to render. Its envelope must speak for the client that this peer is, and its id must be new. Answers whether it is to be
    /// received: what was received before is not, and what must not be has no effect.
    fn job(
        &self,
        letter: &Announcement,
        envelope: &Envelope,
        signed: &[u8],
    ) -> Result<bool, Failure> {
        let (site, job) = (&self.peer.card.site, letter.job);
        if Some(&envelope.outline.client) != self.peer.card.client.as_ref() {
            tracing::warn!("{site} announces {job} in another client's name");
            return Ok(false);
        }
        if let Some(known) = self.known(job)? {
            if known.envelope != letter.envelope {
                tracing::warn!("{site} announces {job} again, as another job");
            }
            return Ok(false);
        }
        let directory = self.state.job(job)?;
        jobs::write_private(&directory.join("envelope"), signed)?;
        jobs::write_list(self.state, job, letter.load.list)?;
        tracing::info!("{job} arrived from {site}");
        Ok(true)
    }

    /// A job of this site's. That the ledger cannot say is not that there is none.
    fn known(&self, job: JobId) -> Result<Option<JobEntry>, Failure> {
        let job = job.to_string();
        let known = async {
            match self.books.ledger().job(&job).await {
                Ok(entry) => Ok(Some(entry)),
                Err(scheduler::Error::NoSuchJob { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.books.wait(known)
    }

    /// Why a result cannot be one of a job that this peer renders, if it cannot.
    fn impossible(&self, letter: &ResultNotice) -> Result<Option<&'static str>, Failure> {
        let ledger = self.books.ledger();
        let Some(entry) = self.known(letter.job)? else {
            return Ok(Some(", which is not here"));
        };
        if !self.is_ours(letter.job)? {
            return Ok(Some(", which it was not given"));
        }
        if !results::has(&entry.outline, letter.task) {
            return Ok(Some(", which has no such task"));
        }
        let (open, all) = self
            .books
            .wait(ledger.errands_of(letter.job, errand::ENDED))?;
        if open == 0 && all > 0 {
            return Ok(Some(", which is over"));
        }
        let (_, came) = self
            .books
            .wait(ledger.errands_of(letter.job, errand::DELIVER))?;
        let most = results::tasks(&entry.outline).saturating_mul(ATTEMPTS_MAX);
        Ok((came >= most).then_some(", of which more came than any job has"))
    }

    /// True if the job was sent to this peer, or came from it.
    fn is_ours(&self, job: JobId) -> Result<bool, Failure> {
        let Some(entry) = self.known(job)? else {
            return Ok(false);
        };
        if let Some(client) = &self.peer.card.client {
            return Ok(entry.outline.client == *client);
        }
        let placed = self.books.wait(self.books.ledger().placement(job))?;
        let there = safelight_scheduler::Target::There(self.peer.card.site.clone());
        Ok(placed.is_some_and(|placement| placement.target == there))
    }

    fn result(&self, letter: &ResultNotice) -> Result<(), Failure> {
        let site = &self.peer.card.site;
        if let Some(why) = self.impossible(letter)? {
            tracing::warn!("{site} sends a result of {}{why}", letter.job);
            return Ok(());
        }
        let left = Left {
            task: letter.task,
            manifest: letter.manifest,
            log: letter.log,
            session: letter.session,
            attempt: letter.attempt,
            fence: letter.fence,
            cause: letter.cause.clone(),
            files: 0,
            bytes: letter.load.bytes,
            audit: letter.audit.clone(),
            list: Some(letter.load.list),
            site: Some(self.peer.card.site.clone()),
            at: letter.stamp.issued,
        };
        if !jobs::keep_left(self.state, letter.job, &left)? {
            let session = letter.session;
            tracing::warn!("{site} sends another result of {session}, which left one already");
            return Ok(());
        }
        let session = letter.session.to_string();
        let add = self
            .books
            .ledger()
            .add_errand(errand::DELIVER, &session, letter.job, self.now);
        self.books.wait(add)
    }

    fn ended(&self, letter: &JobEnded) -> Result<(), Failure> {
        if !self.is_ours(letter.job)? {
            return Ok(());
        }
        let ended = EndedThere {
            outcome: letter.outcome,
            results: letter.results,
        };
        let bytes = serde_json::to_vec(&ended).or_fail(Kind::Internal)?;
        // A job ends once: what was said of it first holds.
        let _first = jobs::make_private(&EndedThere::path(self.state, letter.job)?, &bytes)?;
        let (job, subject) = (letter.job, letter.job.to_string());
        let add = self
            .books
            .ledger()
            .add_errand(errand::ENDED, &subject, job, self.now);
        self.books.wait(add)
    }

    fn cancel(&self, letter: &Cancel) -> Result<(), Failure> {
        if !self.is_ours(letter.job)? {
            return Ok(());
        }
        let report = self
            .books
            .ledger()
            .report(letter.job, Report::Canceled, self.now);
        // A job that is over cannot be withdrawn, and that is no fault of the letter's.
        self.books.wait(report).map(drop)
    }

    /// Somebody looked at a job of ours there.
    fn look(&self, letter: &LookNotice) -> Result<(), Failure> {
        let (site, job) = (&self.peer.card.site, letter.job);
        if !self.is_ours(job)? {
            tracing::warn!("{site} tells of a look at {job}, which it was not given");
            return Ok(());
        }
        let session = letter.session;
        if looked::keep(self.state, site, letter)? {
            tracing::info!("{job} was looked at at {site}, {session}");
        } else {
            tracing::warn!(
                "{site} tells of {session} once more and otherwise, or of too many looks"
            );
        }
        Ok(())
    }

    /// A grant that a client gave holds no longer. Its number is the client's own to revoke: others have others.
    fn revocation(&self, letter: &Revocation) -> Result<(), Failure> {
        let Some(client) = &self.peer.card.client else {
            return Ok(());
        };
        if !self.is_ours(letter.job)? {
            return Ok(());
        }
        warden::withdraw(self.state, client, letter.number)?;
        // The grant's prekey is worth nothing any more: the client is to have another.
        let (subject, job) = (letter.number.to_string(), letter.job);
        let ledger = self.books.ledger();
        let add = ledger.add_errand(errand::PREKEY, &subject, job, self.now);
        self.books.wait(add)?;
        tracing::info!("{} revoked {}", self.peer.card.site, letter.number);
        Ok(())
    }

    /// A letter of ours arrived there, or was refused for good.
    fn receipt(&mut self, receipt: &Receipt) -> Result<(), Failure> {
        let Some(kind) = self.going.get(&receipt.of) else {
            return Ok(());
        };
        if let Verdict::Refused { code } = receipt.verdict
            && (kind.is_kept() || code.is_of_the_number())
        {
            // It goes again: by itself under a new number, or when somebody says so. Until then it is not answered.
            let site = &self.peer.card.site;
            tracing::error!("{site}: a letter, {}, was refused: {code:?}", kind.as_str());
            self.receipts.push(receipt.clone());
            return Ok(());
        }
        let (ledger, subject) = (self.books.ledger(), receipt.of.to_string());
        let mut about = None;
        for kind in [errand::LETTER, errand::FAREWELL] {
            let finished = self
                .books
                .wait(ledger.finish_errand(kind, &subject, self.now))?;
            about = about.or(finished);
        }
        if let Some(job) = about {
            let report = match receipt.verdict {
                Verdict::Accepted => Report::Accepted,
                Verdict::Refused { code } => {
                    let site = &self.peer.card.site;
                    tracing::error!("{site}: a letter about {job} was refused: {code:?}");
                    Report::FailedThere
                }
            };
            // Only at home does a receipt move a job: there it is about the announcement, which may not be noted as published yet.
            if self.peer.card.role == Role::Remote {
                self.books.report(job, Report::Published, self.now)?;
                self.books.report(job, report, self.now)?;
            }
        }
        self.receipts.push(receipt.clone());
        Ok(())
    }

    fn prekeys(&self, letter: &PrekeyBatch, site: &VerifyKey) -> Result<(), Failure> {
        let mut prekeys = Vec::with_capacity(letter.prekeys.len());
        for signed in &letter.prekeys {
            let prekey: safelight_bundle::Prekey =
                safelight_bundle::open(signed, site).or_fail(Kind::Denied)?;
            prekeys.push((prekey.id, signed.clone()));
        }
        self.books
            .wait(self.books.ledger().add_prekeys(site, &prekeys))
    }
}

#[cfg(test)]
mod tests;
