//! What can go wrong with an audit log.

use std::{io, path::PathBuf};

use safelight_policies::id::{ClientAlias, JobId};

/// An error of the audit log. Every one of them means: nothing may be answered on the strength of this log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened or made.
    #[error("cannot open the audit log {path}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log could not be read.
    #[error("cannot read the audit log")]
    Read {
        /// Why.
        source: io::Error,
    },
    /// The log could not be written: what was appended since the last checkpoint may be lost.
    #[error("cannot write the audit log")]
    Write {
        /// Why.
        source: io::Error,
    },
    /// Another process writes this log.
    #[error("another process writes this audit log")]
    Locked,
    /// The descriptor is not a regular file that was opened for appending.
    #[error("an audit log must be a regular file that is opened for appending")]
    NotAppendable,
    /// The file does not begin as an audit log does.
    #[error("the file is not an audit log, or its header was changed")]
    NotALog,
    /// The log was written by another version of the format.
    #[error("the audit log has version {found} of the format, and this program reads only version {expected}", expected = crate::VERSION)]
    Version {
        /// The version that the file names.
        found: u16,
    },
    /// The log belongs to another job or client.
    #[error("the audit log belongs to {found_job} of {found_client}, not to {job} of {client}")]
    OtherLog {
        /// The job in the header.
        found_job: JobId,
        /// The client in the header.
        found_client: ClientAlias,
        /// The job that was expected.
        job: JobId,
        /// The client that was expected.
        client: ClientAlias,
    },
    /// A record does not follow from the one before it: someone changed the log.
    #[error("record {record} of the audit log is not authentic")]
    Damaged {
        /// The first record that cannot be trusted, counted from one.
        record: u64,
    },
    /// The record is longer than a record may be.
    #[error("a record of {len} bytes does not fit the audit log (at most {max})", max = crate::BODY_MAX)]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The record does not encode.
    #[error("a record does not encode")]
    Encode {
        /// Why.
        source: postcard::Error,
    },
    /// The writer's order does not fit the descriptors that came with it.
    #[error(
        "the audit writer was ordered to serve {sources} sources but got {descriptors} descriptors"
    )]
    Order {
        /// The sources in the order.
        sources: usize,
        /// The descriptors that came, of which the first is the log.
        descriptors: usize,
    },
    /// Waiting for messages failed.
    #[error("cannot wait for messages to the audit writer")]
    Wait {
        /// Why.
        source: io::Error,
    },
    /// The channel to or from the audit writer failed.
    #[error("the channel to the audit writer failed")]
    Channel {
        /// Why.
        source: safelight_channel::Error,
    },
    /// The audit writer could not write.
    #[error("the audit writer could not write the log (error {errno})")]
    Refused {
        /// The error number that it was given by the disk.
        errno: i32,
    },
    /// A part of a log is not the one that follows the part before it.
    #[error("part {part} of the audit log does not continue the one before it")]
    Part {
        /// The part, counted from one.
        part: u64,
    },
    /// A register's file is not what a register's file is.
    #[error("{path} is damaged", path = path.display())]
    Register {
        /// The file.
        path: PathBuf,
    },
    /// A key that signs notes is none.
    #[error("a key that signs checkpoints is malformed")]
    NoteKey,
    /// An earlier call failed, so this log can no longer be relied upon.
    #[error("the audit log was lost earlier")]
    Lost,
}

impl Error {
    /// The error number to pass on: the disk's own if there is one, else `EIO`.
    pub fn errno(&self) -> i32 {
        let own = match self {
            Self::Open { source, .. }
            | Self::Read { source }
            | Self::Write { source }
            | Self::Wait { source } => source.raw_os_error(),
            Self::Refused { errno } => Some(*errno),
            _ => None,
        };
        own.unwrap_or(nix::errno::Errno::EIO as i32)
    }
}
