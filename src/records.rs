//! A job's audit records, opened with its client's key.
//!
//! Invariants: nothing is left out silently. A record that does not open, or whose number within its session is not the next, is
//! reported in its place. A log that does not follow from itself, or not from what the ledger noted of it, ends with a failure
//! after everything that came before; so does one that is not there. Bytes after the last whole record are one that is being written or
//! that a crash cut short; only `audit verify` names them.

mod action;
mod export;
mod index;
pub(crate) mod joined;
mod line;
mod log;
mod name;
mod ocsf;
mod paths;
mod place;
mod reading;
#[cfg(test)]
pub(crate) mod samples;
mod span;
#[cfg(test)]
mod tests;
pub(crate) mod time;
mod walk;

use std::sync::Arc;

use safelight_audit::Source;
use safelight_policies::{
    event::{Access, Control},
    id::{SessionId, TaskId},
};

use crate::{
    failure::Failure,
    opened::OpenedJob,
    registers,
    run::{AuditWriter, Books, draw_session},
    state::{LogOf, State},
};

pub(crate) use self::{
    action::{ACTIONS, action},
    export::{ExportFile, export},
    index::Group,
    joined::Unfit,
    line::Line,
    log::{Log, Logs, changed},
    name::{Name, Run},
    ocsf::ocsf,
    paths::{Paths, Summary, Touched, summary},
    place::Place,
    span::Span,
    time::{Moment, utc, utc_of_ns},
    walk::{Walked, Wanted, ends, grouped, in_order},
};

/// One record as its client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenedRecord {
    /// The log that it stands in.
    pub(crate) log: Name,
    /// The task that it tells of, if it is known.
    pub(crate) task: Option<TaskId>,
    /// Where the session that it tells of ran, if it is known.
    pub(crate) place: Option<Arc<Place>>,
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

/// Reads all records of a job, by time. Whatever is wrong with a log itself is a failure.
pub(crate) fn read(state: &State, opened: &OpenedJob) -> Result<Vec<OpenedRecord>, Failure> {
    let logs = Logs::of(state, opened)?;
    let mut all = Vec::new();
    let walked = in_order(&logs, Wanted::ALL, |record| {
        all.push(record);
        Ok(())
    })?;
    walked.whole().map(|()| all)
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
    Books::open(state)?.anchor(opened.job(), last?)?;
    let client = &opened.envelope.outline.client;
    registers::note(state, client, opened.job(), LogOf::Job)
}

/// Puts a look at a job from outside a session on a log of its own. When this returns it is on disk.
pub(crate) fn note_look(state: &State, opened: &OpenedJob, how: &str) -> Result<(), Failure> {
    let which = LogOf::Look(draw_session()?);
    let log = (&opened.envelope.outline.client, opened.job(), which);
    let (writer, _) = AuditWriter::start(state, log, Source::Debug, &[])?;
    let noted = writer.note(Control::DebugAccess {
        uid: nix::unistd::getuid().as_raw(),
        how: how.to_owned(),
    });
    let last = writer.finish();
    noted.and(last)?;
    registers::note(state, &opened.envelope.outline.client, opened.job(), which)
}
