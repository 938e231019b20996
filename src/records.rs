//! A job's audit records, opened with its client's key.
//!
//! Invariants: nothing is left out silently. A record that does not open, or whose number within its session is not the next, is
//! reported in its place. A log that does not follow from itself, or not from what the ledger noted of it, ends with a failure
//! after everything that came before. Bytes after the last whole record are one that is being written or that a crash cut short; only
//! `audit verify` names them.

mod line;
mod paths;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
mod time;

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
};

use safelight_audit::{Body, Checkpoint, Error, Finding, Reader, Record, Source};
use safelight_policies::{
    event::{Access, Control},
    id::{JobId, SessionId},
};
use safelight_seal::{audit_key::AuditKey, job_key::JobKey};

use crate::{
    failure::{Failure, Kind},
    opened::OpenedJob,
    run::{AuditWriter, Books},
    state::{LogOf, State},
};

pub(crate) use self::{
    line::{ACTIONS, Line, action, export},
    paths::{Paths, Summary, Touched, summary},
    time::{utc, utc_of_ns},
};

/// One record as its client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenedRecord {
    /// Counts the records of the log, from one.
    pub(crate) seq: u64,
    /// When it was written, in nanoseconds since 1970.
    pub(crate) at_ns: u64,
    /// Who said it.
    pub(crate) source: Source,
    /// What was said.
    pub(crate) what: What,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// An act of ours.
    Control(Control),
    /// What a process of a session did.
    Access { session: SessionId, access: Access },
    /// A sealed record that does not open with this job's key, or holds something else.
    Unreadable { session: SessionId, index: u64 },
    /// A sealed record repeats a number of its session or comes after a gap. The record itself follows.
    OutOfTurn {
        session: SessionId,
        index: u64,
        expected: u64,
    },
}

impl What {
    /// True if something is wrong with the record, and not only with what it tells of.
    pub(crate) fn is_wrong(&self) -> bool {
        matches!(self, Self::Unreadable { .. } | Self::OutOfTurn { .. })
    }
}

/// Reads all records of a job. Whatever is wrong with the log itself is a failure.
pub(crate) fn read(state: &State, opened: &OpenedJob) -> Result<Vec<OpenedRecord>, Failure> {
    records(state, opened)?.collect()
}

/// The records of a job one by one. The last item is a failure if the log is not whole.
pub(crate) fn records<'a>(
    state: &State,
    opened: &'a OpenedJob,
) -> Result<Records<'a, File>, Failure> {
    let job = opened.job();
    // The anchor first: the log may grow while it is read, but never shrinks below it.
    let anchor = Books::open(state)?.checkpoint(job)?;
    let file = open_file(state, opened, anchor)?;
    let reader = Reader::open(file).map_err(|error| unreadable(job, &error))?;
    let header = reader.header();
    if header.job != job || header.client != opened.envelope.outline.client {
        return Err(changed(job, format!("it is the log of {}", header.job)));
    }
    Records::new(reader, job, &opened.key, anchor)
}

/// The log's file. A log that was noted and is not there any more was removed. One that was never noted and is empty has not begun: its
/// writer died before it wrote a byte.
pub(crate) fn open_file(
    state: &State,
    opened: &OpenedJob,
    anchor: Option<Checkpoint>,
) -> Result<File, Failure> {
    let job = opened.job();
    let path = state.audit_log(&opened.envelope.outline.client, job, LogOf::Job)?;
    let failed = |error: io::Error| {
        Failure::new(
            Kind::Environment,
            format!("cannot read {}: {error}", path.display()),
        )
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&path);
    let what = match file {
        Ok(file) if file.metadata().map_err(failed)?.len() > 0 => return Ok(file),
        Ok(_) => "empty",
        Err(error) if error.kind() == io::ErrorKind::NotFound => "gone",
        Err(error) => return Err(failed(error)),
    };
    Err(match anchor {
        Some(_) => changed(job, format!("its file is {what}")),
        None => Failure::new(Kind::User, format!("{job} has no audit log yet")),
    })
}

/// The failure of a log that is not as it was written.
pub(crate) fn changed(job: JobId, how: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::Denied, format!("the log of {job} was changed: {how}"))
}

fn unreadable(job: JobId, error: &Error) -> Failure {
    match error {
        Error::Damaged { .. } | Error::NotALog => {
            changed(job, error).hint(format!("safelight audit verify {job}"))
        }
        Error::Version { .. } => Failure::from_error(Kind::Config, error),
        _ => Failure::from_error(Kind::Environment, error),
    }
}

/// Opens the records of a log in order. Ends after the first failure.
pub(crate) struct Records<'a, R> {
    reader: Reader<R>,
    job: JobId,
    key: &'a JobKey,
    anchor: Option<Checkpoint>,
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
    fn new(
        reader: Reader<R>,
        job: JobId,
        key: &'a JobKey,
        anchor: Option<Checkpoint>,
    ) -> Result<Self, Failure> {
        let records = Self {
            reader,
            job,
            key,
            anchor,
            sessions: BTreeMap::new(),
            waiting: None,
            ended: false,
        };
        records.check_anchor()?;
        Ok(records)
    }

    fn check_anchor(&self) -> Result<(), Failure> {
        let here = self.reader.checkpoint();
        match self.anchor {
            Some(anchor) if anchor.records == here.records && anchor.chain != here.chain => {
                let record = here.records;
                Err(changed(self.job, Finding::Rewritten { record }))
            }
            _ => Ok(()),
        }
    }

    fn check_end(&self) -> Result<(), Failure> {
        let after = self.reader.checkpoint().records;
        match self.anchor {
            Some(Checkpoint {
                records: anchored, ..
            }) if anchored > after => Err(changed(self.job, Finding::CutOff { after, anchored })),
            _ => Ok(()),
        }
    }

    fn step(&mut self) -> Result<Option<OpenedRecord>, Failure> {
        match self.reader.next() {
            Some(Ok(record)) => {
                self.check_anchor()?;
                Ok(Some(self.open(record)))
            }
            Some(Err(error)) => Err(unreadable(self.job, &error)),
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
        let opened = |what| OpenedRecord {
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
        let known = self.sessions.entry(session).or_insert_with(|| Session {
            key: self.key.audit_key(session),
            last: None,
        });
        let in_turn = index.checked_sub(1) == known.last;
        let expected = known.last.map_or(0, |last| last.saturating_add(1));
        known.last = known.last.max(Some(index));
        let what = match open_access(&known.key, index, &bytes) {
            Some(access) => What::Access { session, access },
            None => What::Unreadable { session, index },
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

fn open_access(key: &AuditKey, index: u64, sealed: &[u8]) -> Option<Access> {
    let plain = zeroize::Zeroizing::new(key.open(index, sealed).ok()?);
    let (access, rest) = postcard::take_from_bytes(&plain).ok()?;
    rest.is_empty().then_some(access)
}

/// Puts an act of the client's own on the log. When this returns it is on disk, and the ledger knows.
pub(crate) fn note(
    state: &State,
    opened: &OpenedJob,
    source: Source,
    event: Control,
) -> Result<(), Failure> {
    let (writer, _) = AuditWriter::start(
        state,
        (&opened.envelope.outline.client, opened.job(), LogOf::Job),
        source,
        &[],
    )?;
    let noted = writer.note(event).and_then(|()| writer.sync());
    let last = writer.finish();
    noted?;
    Books::open(state)?.anchor(opened.job(), last?)
}
