//! What the audit writer and its clients say to each other over channels.

use safelight_policies::id::{ClientAlias, JobId};
use serde::{Deserialize, Serialize};

use crate::record::{Body, Checkpoint, Source};

/// The most sources of one writer: as many descriptors as one message carries, less the one of the log.
pub const SOURCES_MAX: usize = safelight_channel::DESCRIPTORS_MAX - 1;

/// The parent's first and only message to the writer. Its descriptors: the log (see [`crate::open_file`]), then one end of a channel for
/// each source in order. The parent must close its copies of all of them, or the writer never sees the end of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The job.
    pub job: JobId,
    /// The client, by alias.
    pub client: ClientAlias,
    /// Random; becomes the log's id if the log is new.
    pub log: [u8; 16],
    /// Who is at the other end of each channel.
    pub sources: Vec<Source>,
}

/// What a source says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWriter {
    /// Append this. There is no answer.
    Append {
        /// The record's body.
        body: Body,
    },
    /// Bring everything that I sent before to the disk, then answer.
    Sync,
}

/// What the writer answers; to its parent too, once when the log is open and once at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWriter {
    /// Everything up to this checkpoint is on the disk.
    Synced(Checkpoint),
    /// The log could not be written. The writer is about to end, and every later record is refused.
    Failed {
        /// The error number.
        errno: i32,
    },
}
