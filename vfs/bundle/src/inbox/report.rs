//! What an inbox hands out: deliveries to keep, and a report of each scan.

use std::{io, ops::RangeInclusive};

use safelight_policies::id::{ObjectId, VerifyKey};

use crate::{
    BlobList, EntryName, Envelope, Epoch, Later, MediumError, Opened, ReadyName, Refusal, Verdict,
    window::Row,
};

/// A letter with everything that it brings.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The letter.
    pub opened: Opened,
    /// The signed bytes.
    pub bytes: Vec<u8>,
    /// The blobs that it brought, now in the sender's area.
    pub list: Option<BlobList>,
    /// The job's envelope, verified: decoded, and its signed bytes.
    pub envelope: Option<(Envelope, Vec<u8>)>,
}

/// Keeps what is settled.
pub trait Keeper {
    /// False if a letter that is complete makes sense only after another that has not come. It waits, and nothing behind it does.
    fn is_due(
        &mut self,
        delivery: &Delivery,
    ) -> Result<bool, Box<dyn std::error::Error + Send + Sync>>;

    /// Stores a row and acts on a delivery, both or neither. A row with a verdict comes once for each letter; a row without one says that the letter waits.
    fn keep(
        &mut self,
        row: &Row,
        delivery: Option<&Delivery>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// A receipt that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// Who sent the letter.
    pub to: VerifyKey,
    /// The letter.
    pub of: ObjectId,
    /// What became of it.
    pub verdict: Verdict,
}

/// Something that was refused in this scan.
#[derive(Debug)]
pub struct Refused {
    /// What it is called in the folder.
    pub entry: EntryName,
    /// Why.
    pub refusal: Refusal,
    /// What failed when it was to be set aside. It is left alone then.
    pub left: Option<MediumError>,
}

/// A letter that waits.
#[derive(Debug)]
pub struct Waiting {
    /// Where it lies.
    pub name: ReadyName,
    /// For what.
    pub why: Why,
}

/// What a letter waits for.
#[derive(Debug)]
pub enum Why {
    /// For blobs that are missing, cut off or not yet right: at least this many.
    Blobs(u64),
    /// For room in the store, in bytes.
    Room {
        /// What is needed.
        needed: u64,
        /// What there is.
        free: u64,
    },
    /// For its time or its turn.
    Later(Later),
    /// For itself: it is not what was signed, and may still be arriving.
    Unsettled(Refusal),
    /// For the medium, which fails on it.
    Medium(MediumError),
    /// For a store: its sender has none.
    NoArea,
    /// For another letter, after which it makes sense.
    Another,
}

/// What somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// Letters are missing: lost, delayed or withheld.
    Gap {
        /// The sender.
        from: VerifyKey,
        /// The run of numbers.
        epoch: Epoch,
        /// Which.
        numbers: RangeInclusive<u64>,
        /// Since when that is known, in seconds since 1970.
        since: u64,
    },
    /// A sender was not heard for long.
    Silent {
        /// The sender.
        from: VerifyKey,
        /// Since when, in seconds since 1970.
        since: u64,
    },
}

/// What a scan did.
#[derive(Debug, Default)]
pub struct Report {
    /// How many letters were accepted.
    pub accepted: u64,
    /// Receipts to be sent. One that is lost is owed again later.
    pub receipts: Vec<Owed>,
    /// What was refused.
    pub refused: Vec<Refused>,
    /// A letter that nobody answers was refused for its number. Its sender lost count, and learns that from a sign of life, which says what was
    /// seen of it.
    pub untold: bool,
    /// What waits.
    pub waiting: Vec<Waiting>,
    /// What somebody should look at.
    pub alarms: Vec<Alarm>,
    /// Why the scan ended early, if it did. What is reported has happened nevertheless.
    pub stopped: Option<InboxError>,
}

/// What can go wrong with an inbox.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// The folder is out of reach.
    #[error("the hot folder cannot be read")]
    Medium {
        /// Why.
        source: MediumError,
    },
    /// The store of sealed objects fails.
    #[error("the store of received objects fails")]
    Objects {
        /// Why.
        source: io::Error,
    },
    /// What was settled could not be kept.
    #[error("what was read could not be kept")]
    Keep {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
