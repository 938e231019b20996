//! The records of one log, opened with the job's key one by one.

use std::{collections::BTreeMap, io::Read, sync::Arc};

use safelight_audit::{Body, Checkpoint, Finding, Reader, Record};
use safelight_policies::{
    event::{Access, Control},
    id::{JobId, SessionId, SiteName, TaskId},
};
use safelight_seal::{audit_key::AuditKey, job_key::JobKey};

use super::{
    OpenedRecord, Place, What,
    line::session,
    log::{changed_log, unreadable},
    name::{Name, Runs},
};
use crate::failure::Failure;

/// Opens the records of a log in order. Ends after the first failure.
pub(crate) struct Records<'a, R> {
    reader: Reader<R>,
    job: JobId,
    name: Name,
    runs: &'a Runs,
    key: &'a JobKey,
    anchor: Option<Checkpoint>,
    site: Option<SiteName>,
    places: BTreeMap<SessionId, Arc<Place>>,
    sessions: BTreeMap<SessionId, Session>,
    /// The record that a notice was given of.
    waiting: Option<OpenedRecord>,
    ended: bool,
}

/// What is known of a session while its records are read.
struct Session {
    key: AuditKey,
    /// The highest number so far.
    last: Option<u64>,
}

impl<'a, R: Read> Records<'a, R> {
    /// Opens what `reader` reads, with the key of the job, against the anchor that was noted.
    pub(super) fn new(
        reader: Reader<R>,
        (job, name): (JobId, Name),
        runs: &'a Runs,
        key: &'a JobKey,
        anchor: Option<Checkpoint>,
    ) -> Result<Self, Failure> {
        let records = Self {
            reader,
            job,
            name,
            runs,
            key,
            anchor,
            site: None,
            places: BTreeMap::new(),
            sessions: BTreeMap::new(),
            waiting: None,
            ended: false,
        };
        records.check_anchor()?;
        Ok(records)
    }

    /// The same, of a session that another site left.
    pub(super) fn left_by(mut self, site: Option<&SiteName>) -> Self {
        self.site = site.cloned();
        self
    }

    /// A lease says where its session is.
    fn learn(&mut self, control: &Control) {
        if let Some((session, place)) = Place::told(control, self.site.as_ref()) {
            self.places.insert(session, Arc::new(place));
        }
    }

    fn check_anchor(&self) -> Result<(), Failure> {
        let here = self.reader.checkpoint();
        match self.anchor {
            Some(anchor) if anchor.records == here.records && anchor.chain != here.chain => {
                let record = here.records;
                Err(changed_log(
                    self.job,
                    self.name,
                    Finding::Rewritten { record },
                ))
            }
            _ => Ok(()),
        }
    }

    fn check_end(&self) -> Result<(), Failure> {
        let after = self.reader.checkpoint().records;
        match self.anchor {
            Some(Checkpoint {
                records: anchored, ..
            }) if anchored > after => Err(changed_log(
                self.job,
                self.name,
                Finding::CutOff { after, anchored },
            )),
            _ => Ok(()),
        }
    }

    fn step(&mut self) -> Result<Option<OpenedRecord>, Failure> {
        match self.reader.next() {
            Some(Ok(record)) => {
                self.check_anchor()?;
                Ok(Some(self.open(record)))
            }
            Some(Err(error)) => Err(unreadable(self.job, self.name, &error)),
            None => self.check_end().map(|()| None),
        }
    }

    fn open(&mut self, record: Record) -> OpenedRecord {
        let Record {
            seq,
            at_ns,
            source,
            body,
        } = record;
        if let Body::Control(control) = &body {
            self.learn(control);
        }
        let (log, runs) = (self.name, self.runs);
        let places = &self.places;
        let opened = |what| OpenedRecord {
            log,
            task: task(log, runs, &what),
            place: session(&what).and_then(|session| places.get(&session).cloned()),
            seq,
            at_ns,
            source,
            what,
        };
        let (session, index, bytes) = match body {
            Body::Control(control) => return opened(What::Control(control)),
            Body::Sealed {
                session,
                index,
                bytes,
            } => (session, index, bytes),
        };
        // A session's own log tells of no other session.
        let belongs = log.run().is_none_or(|run| run.session == session);
        let known = self.sessions.entry(session).or_insert_with(|| Session {
            key: self.key.audit_key(session),
            last: None,
        });
        let in_turn = index.checked_sub(1) == known.last;
        let expected = known.last.map_or(0, |last| last.saturating_add(1));
        known.last = known.last.max(Some(index));
        let what = match open_access(&known.key, index, &bytes) {
            Some(access) if belongs => What::Access { session, access },
            _ => What::Unreadable { session, index },
        };
        if in_turn {
            return opened(what);
        }
        self.waiting = Some(opened(what));
        opened(What::OutOfTurn {
            session,
            index,
            expected,
        })
    }
}

impl<R: Read> Iterator for Records<'_, R> {
    type Item = Result<OpenedRecord, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(record) = self.waiting.take() {
            return Some(Ok(record));
        }
        if self.ended {
            return None;
        }
        let step = self.step().transpose();
        self.ended = !matches!(step, Some(Ok(_)));
        step
    }
}

pub(super) fn open_access(key: &AuditKey, index: u64, sealed: &[u8]) -> Option<Access> {
    let plain = zeroize::Zeroizing::new(key.open(index, sealed).ok()?);
    let (access, rest) = postcard::take_from_bytes(&plain).ok()?;
    rest.is_empty().then_some(access)
}

/// The task that a record tells of: its log's, or that of the session that it names.
pub(super) fn task(log: Name, runs: &Runs, what: &What) -> Option<TaskId> {
    let of = match log.run() {
        Some(run) => run.of,
        None => session(what).and_then(|session| runs.get(&session).copied()),
    };
    of.map(|(task, _)| task)
}
