//! What can go wrong with the ledger. A refusal is not an error: see [`crate::Leasing`] and [`crate::Settlement`].

use std::{io, path::PathBuf};

use safelight_policies::id::{JobId, NodeName, SessionId, SlotIndex, TaskId};

use crate::Queue;

/// An error of the ledger. Whatever was asked for did not happen, with the one exception that [`Error::Store`] at a commit leaves open
/// whether it did; asking again tells.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened or made.
    #[error("cannot open the ledger {path}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may read or write the ledger.
    #[error("the ledger {path} is open to others (mode {mode:o}); expected 600", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is some other database.
    #[error("{path} is not a ledger", path = path.display())]
    NotALedger {
        /// The file.
        path: PathBuf,
    },
    /// A newer program wrote the ledger.
    #[error("the ledger {path} has schema {found}, and this program knows only up to {known}", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// The database failed.
    #[error("the ledger failed")]
    Store {
        /// Why.
        source: sqlx::Error,
    },
    /// What the ledger holds does not read back.
    #[error("the ledger's {column} of {row} does not read back")]
    Corrupt {
        /// The column.
        column: &'static str,
        /// The row, by its id.
        row: String,
    },
    /// A number does not fit the database.
    #[error("{what} {value} is out of range")]
    OutOfRange {
        /// What it counts.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// An outline could not be written down.
    #[error("a value does not encode")]
    Encode {
        /// Why.
        source: serde_json::Error,
    },
    /// The job was admitted before: an id is good for one job.
    #[error("{job} is already in the ledger")]
    AlreadyAdmitted {
        /// The job.
        job: JobId,
    },
    /// There is no such job.
    #[error("no job has an id that begins with {selector:?}")]
    NoSuchJob {
        /// What was asked for.
        selector: String,
    },
    /// There is no job at all.
    #[error("there is no job yet")]
    NoJob,
    /// More than one job fits.
    #[error("{selector:?} is not clear: {first} and {second} begin so")]
    Ambiguous {
        /// What was asked for.
        selector: String,
        /// One job that fits.
        first: JobId,
        /// Another.
        second: JobId,
    },
    /// The selector could not be the beginning of an id.
    #[error("{selector:?} is neither \"last\" nor the beginning of a job id")]
    NotASelector {
        /// What was asked for.
        selector: String,
    },
    /// A job is to be put beside another of a queue that it is not in.
    #[error("{job} is not in the {queue} queue")]
    OtherQueue {
        /// The other job.
        job: JobId,
        /// The queue.
        queue: Queue,
    },
    /// The job has no such task.
    #[error("{job} has no task {task}")]
    NoSuchTask {
        /// The job.
        job: JobId,
        /// The task.
        task: TaskId,
    },
    /// There is no such session.
    #[error("{session} is not in the ledger")]
    NoSuchSession {
        /// The session.
        session: SessionId,
    },
    /// There is no such node.
    #[error("{node} is not in the resource database")]
    NoSuchNode {
        /// The node.
        node: NodeName,
    },
    /// There is no such slot.
    #[error("{node} has no slot {slot}", slot = slot.0)]
    NoSuchSlot {
        /// The node.
        node: NodeName,
        /// The slot.
        slot: SlotIndex,
    },
    /// Another key registered under this name before.
    #[error("{node} is known by another key")]
    NodeKey {
        /// The node.
        node: NodeName,
    },
    /// Two anchors for the same number of records differ: one of them is of a log that was rewritten.
    #[error("the audit log of {job} was rewritten: two anchors for {records} records differ")]
    AnchorConflict {
        /// The job.
        job: JobId,
        /// The number of records.
        records: u64,
    },
}
