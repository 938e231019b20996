//! What an outbox keeps and hands out: numbers, letters on their way, and what became of them.

use std::{error, io};

use safelight_policies::id::{ObjectId, VerifyKey};
use serde::{Deserialize, Serialize};

use crate::{Code, Error, Kind, ListError, Load, MediumError, ReadyName, Seq, object_id};

/// How long a receipt may take until the letter is offered once more, in seconds. Doubles each time, up to a day.
const RETRY: u64 = 600;
/// How long a letter without a receipt stays on the medium, in seconds, unless it expires before.
const UNANSWERED: u64 = 86_400;

/// The numbers of the letters to one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// The recipient.
    pub to: VerifyKey,
    /// The last letter.
    pub last: Seq,
}

/// A letter on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The recipient.
    pub to: VerifyKey,
    /// Its place.
    pub seq: Seq,
    /// What it is about.
    pub kind: Kind,
    /// The signed letter.
    pub bytes: Vec<u8>,
    /// What it brings.
    pub load: Option<Load>,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
    /// How often it was offered.
    pub offers: u32,
    /// When it was last offered, in seconds since 1970.
    pub offered: u64,
    /// Why it is not offered any more though it did not arrive, if so.
    #[serde(default)]
    pub held: Option<Held>,
}

/// A letter that is kept back: it was refused, or nobody answered, and no other letter tells what it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Why it was refused; none if nobody answered.
    pub code: Option<Code>,
    /// Since when, in seconds since 1970.
    pub at: u64,
    /// Somebody decided that it is to be sent once more, under a new number.
    #[serde(default)]
    pub again: bool,
}

impl Item {
    /// The hash of the signed letter.
    pub fn of(&self) -> ObjectId {
        object_id(&self.bytes)
    }

    pub(super) fn name(&self, from: VerifyKey) -> ReadyName {
        ReadyName {
            to: self.to,
            from,
            seq: self.seq,
            kind: self.kind,
        }
    }

    /// When it is to be offered next.
    pub(super) fn due(&self) -> u64 {
        match self.offers {
            _ if self.held.is_some() => u64::MAX,
            0 => 0,
            _ if !self.kind.is_answered() => u64::MAX,
            offers => self
                .offered
                .saturating_add((RETRY << (offers - 1).min(16)).min(86_400)),
        }
    }

    pub(super) fn end(&self) -> u64 {
        if self.held.is_some() {
            u64::MAX
        } else if self.kind.is_answered() || self.offers == 0 {
            self.expires
        } else {
            self.expires.min(self.offered.saturating_add(UNANSWERED))
        }
    }
}

/// Keeps the state of an outbox. Each call is durable when it returns.
pub trait Journal {
    /// A letter was posted or offered: store the numbers and the letter, both or neither; each replaces what it was before.
    fn store(
        &mut self,
        numbers: &Numbers,
        item: &Item,
    ) -> Result<(), Box<dyn error::Error + Send + Sync>>;
    /// A letter is done.
    fn remove(&mut self, of: ObjectId) -> Result<(), Box<dyn error::Error + Send + Sync>>;
    /// A letter takes the place of another, `old`, which goes; whatever refers to `old` refers to it from now on. All or nothing.
    fn replace(
        &mut self,
        old: ObjectId,
        numbers: &Numbers,
        item: &Item,
    ) -> Result<(), Box<dyn error::Error + Send + Sync>>;
    /// A new run of numbers begins.
    fn begin(&mut self, numbers: &Numbers) -> Result<(), Box<dyn error::Error + Send + Sync>>;
}

/// What was posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted {
    /// The hash of the signed letter: what its receipt names.
    pub of: ObjectId,
    /// Its place.
    pub seq: Seq,
}

/// What a push did.
#[derive(Debug, Default)]
pub struct Pushed {
    /// Letters that are offered now.
    pub offered: Vec<ObjectId>,
    /// Letters that ended without a receipt though one was due.
    pub lapsed: Vec<ObjectId>,
    /// Letters that nobody answered in their time, and that are kept back.
    pub held: Vec<ObjectId>,
    /// Blobs that were written, and their bytes.
    pub sent: (u64, u64),
    /// Blobs that were there.
    pub skipped: u64,
    /// Why the push ended early, if it did. What is reported has happened nevertheless.
    pub stopped: Option<OutboxError>,
}

/// What a receipt meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collected {
    /// The letter arrived.
    Accepted {
        /// The letter.
        of: ObjectId,
    },
    /// The letter was refused, and is forgotten.
    Refused {
        /// The letter.
        of: ObjectId,
        /// Why.
        code: Code,
    },
    /// The letter was refused, and is kept back until it is sent again or discarded: see [`Outbox::renumber`](crate::Outbox::renumber).
    Held {
        /// The letter.
        of: ObjectId,
        /// Why.
        code: Code,
    },
    /// Not the letter but its number was refused: it is to be sent under another.
    Renumber {
        /// The letter.
        of: ObjectId,
        /// The number that it had.
        seq: Seq,
        /// Why.
        code: Code,
    },
    /// The receipt is for nothing that is on its way to who signed it; nothing was changed.
    Unknown,
}

/// What can go wrong with an outbox.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// A letter could not be sealed.
    #[error("the letter cannot be signed")]
    Seal {
        /// Why.
        source: Error,
    },
    /// The medium fails.
    #[error("the hot folder cannot be written")]
    Medium {
        /// Why.
        source: MediumError,
    },
    /// What is to be sent cannot be read from our own store.
    #[error("object {object} cannot be read to be sent")]
    Objects {
        /// The object.
        object: ObjectId,
        /// Why.
        source: io::Error,
    },
    /// Our own list of blobs is none, or not of the length that the letter says.
    #[error("object {object} is not the list of the letter's blobs")]
    List {
        /// The object.
        object: ObjectId,
        /// Why, if it cannot be read.
        source: Option<ListError>,
    },
    /// The state could not be kept.
    #[error("the state of the outbox could not be kept")]
    Journal {
        /// Why.
        source: Box<dyn error::Error + Send + Sync>,
    },
    /// Every number of the epoch is used.
    #[error("the epoch has no number left")]
    NoNumber,
}

impl OutboxError {
    /// True if other letters may still go.
    pub(super) const fn is_of_one_letter(&self) -> bool {
        match self {
            Self::Objects { .. } | Self::List { .. } | Self::Seal { .. } => true,
            Self::Medium { source } => !source.is_of_the_folder(),
            Self::Journal { .. } | Self::NoNumber => false,
        }
    }
}
