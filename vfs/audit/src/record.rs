//! One record, and the checkpoint that stands for all records up to it.
//!
//! Types here are part of the file format: variants and fields are append-only.

use std::fmt;

use safelight_policies::{event::Control, id::SessionId};
use serde::{Deserialize, Serialize};

use crate::format::Chain;

/// Which process a record came from. Stamped by the writer from the channel that it came through, so no process can speak for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The client's process that packed the job.
    Client,
    /// The agent that supervises sessions.
    Agent,
    /// The key warden.
    Warden,
    /// A view server.
    View,
    /// The client's process that brought the results home.
    Home,
    /// Someone who looked into the job from outside a session.
    Debug,
    /// The audit writer itself.
    Writer,
    /// The proxy that carries a session's connections.
    Proxy,
}

impl Source {
    /// The source in one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Agent => "agent",
            Self::Warden => "warden",
            Self::View => "view",
            Self::Home => "home",
            Self::Debug => "debug",
            Self::Writer => "writer",
            Self::Proxy => "proxy",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// Something that the operator may read.
    Control(Control),
    /// Something that only the client and its auditor can open.
    Sealed {
        /// The session whose audit key sealed it.
        session: SessionId,
        /// Counts the sealed records of the session, from zero; bound into the seal.
        index: u64,
        /// The sealed record.
        bytes: Vec<u8>,
    },
}

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Counts the records of the log, from one.
    pub seq: u64,
    /// When it was written, in nanoseconds since 1970, by the writer's clock.
    pub at_ns: u64,
    /// Who said it.
    pub source: Source,
    /// What was said.
    pub body: Body,
}

/// A record where it stands in a buffer: what [`Record`] is, without a copy of a sealed body.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct RecordRef<'a> {
    /// See [`Record::seq`].
    pub seq: u64,
    /// See [`Record::at_ns`].
    pub at_ns: u64,
    /// See [`Record::source`].
    pub source: Source,
    /// What was said.
    #[serde(borrow)]
    pub body: BodyRef<'a>,
}

/// A body where it stands in a buffer; see [`Body`].
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyRef<'a> {
    /// See [`Body::Control`].
    Control(Control),
    /// See [`Body::Sealed`].
    Sealed {
        /// See [`Body::Sealed`].
        session: SessionId,
        /// See [`Body::Sealed`].
        index: u64,
        /// The sealed record.
        bytes: &'a [u8],
    },
}

impl<'a> RecordRef<'a> {
    /// Reads an encoded record; `None` if it is none, or more than one.
    pub fn read(encoded: &'a [u8]) -> Option<Self> {
        match postcard::take_from_bytes(encoded) {
            Ok((record, [])) => Some(record),
            _ => None,
        }
    }
}

/// The state of a log: enough to notice later that any record up to here was changed or removed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The number of records.
    pub records: u64,
    /// The hash of the last of them, or of the header if there is none.
    pub chain: Chain,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.records, blake3::Hash::from(self.chain))
    }
}
