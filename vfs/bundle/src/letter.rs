//! A letter: a signed document that travels by hot folder.
//!
//! The kind of a letter is not in its bytes but in its name, as a claim, and in what is signed, as its context: renamed to another kind, it
//! does not verify.

use std::str::FromStr;

use safelight_policies::id::{ObjectId, VerifyKey};
use serde::{Deserialize, Serialize};

use crate::{
    Announcement, BLOB_MAX, BLOBS_MAX, Cancel, Document, Error, Heartbeat, JobEnded, LookNotice,
    PrekeyBatch, Receipt, RegisterNotice, ResultNotice, Revocation, Stamp, open, seal,
    signed::HEAD,
};

/// What a letter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// An [`Announcement`].
    Job,
    /// A [`ResultNotice`].
    Result,
    /// A [`PrekeyBatch`].
    Prekeys,
    /// A [`Receipt`].
    Receipt,
    /// A [`Heartbeat`].
    Heartbeat,
    /// A [`Cancel`].
    Cancel,
    /// A [`JobEnded`].
    Ended,
    /// A [`RegisterNotice`].
    Register,
    /// A [`LookNotice`].
    Look,
    /// A [`Revocation`].
    Revocation,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Job,
        Self::Result,
        Self::Prekeys,
        Self::Receipt,
        Self::Heartbeat,
        Self::Cancel,
        Self::Ended,
        Self::Register,
        Self::Look,
        Self::Revocation,
    ];

    /// What a letter's name ends with.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Result => "result",
            Self::Prekeys => "prekeys",
            Self::Receipt => "receipt",
            Self::Heartbeat => "heartbeat",
            Self::Cancel => "cancel",
            Self::Ended => "ended",
            Self::Register => "register",
            Self::Look => "look",
            Self::Revocation => "revocation",
        }
    }

    /// True if the reader owes a receipt. A receipt for a receipt would never end, and nobody waits for a heartbeat's.
    pub const fn is_answered(self) -> bool {
        !matches!(self, Self::Receipt | Self::Heartbeat)
    }

    /// True if a letter of this kind is kept when it is refused or not answered: nothing else tells what it tells. An announcement is not:
    /// its job fails, and may be handed in again.
    pub const fn is_kept(self) -> bool {
        matches!(
            self,
            Self::Result | Self::Ended | Self::Prekeys | Self::Look | Self::Revocation
        )
    }

    /// The most bytes that a signed letter of this kind has.
    pub const fn bytes_max(self) -> usize {
        HEAD + match self {
            Self::Job => Announcement::BYTES_MAX,
            Self::Result => ResultNotice::BYTES_MAX,
            Self::Prekeys => PrekeyBatch::BYTES_MAX,
            Self::Receipt => Receipt::BYTES_MAX,
            Self::Heartbeat => Heartbeat::BYTES_MAX,
            Self::Cancel => Cancel::BYTES_MAX,
            Self::Ended => JobEnded::BYTES_MAX,
            Self::Register => RegisterNotice::BYTES_MAX,
            Self::Look => LookNotice::BYTES_MAX,
            Self::Revocation => Revocation::BYTES_MAX,
        }
    }
}

impl FromStr for Kind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// The blobs that a letter brings: it counts only when they are all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// The object that lists them; see [`crate::BlobList`].
    pub list: ObjectId,
    /// The sum of their lengths in bytes, the list not counted. Space is reserved by it before the first byte is taken.
    pub bytes: u64,
}

impl Load {
    pub(crate) fn fault(&self) -> Option<&'static str> {
        (self.bytes > BLOB_MAX * BLOBS_MAX as u64)
            .then_some("it brings more than any list can name")
    }
}

/// A document that travels by hot folder.
pub trait Letter: Document {
    /// What it is about.
    const KIND: Kind;
    /// Its stamp.
    fn stamp(&self) -> &Stamp;
    /// The blobs that it brings, if it may bring any.
    fn load(&self) -> Option<&Load> {
        None
    }
}

/// A letter of any kind, opened.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each is the kind of the same name")]
pub enum AnyLetter {
    Job(Announcement),
    Result(ResultNotice),
    Prekeys(PrekeyBatch),
    Receipt(Receipt),
    Heartbeat(Heartbeat),
    Cancel(Cancel),
    Ended(JobEnded),
    Register(RegisterNotice),
    Look(LookNotice),
    Revocation(Revocation),
}

impl AnyLetter {
    /// Verifies, decodes and checks a letter of this kind, signed by `signer`.
    pub fn open(kind: Kind, bytes: &[u8], signer: &VerifyKey) -> Result<Self, Error> {
        Ok(match kind {
            Kind::Job => Self::Job(open(bytes, signer)?),
            Kind::Result => Self::Result(open(bytes, signer)?),
            Kind::Prekeys => Self::Prekeys(open(bytes, signer)?),
            Kind::Receipt => Self::Receipt(open(bytes, signer)?),
            Kind::Heartbeat => Self::Heartbeat(open(bytes, signer)?),
            Kind::Cancel => Self::Cancel(open(bytes, signer)?),
            Kind::Ended => Self::Ended(open(bytes, signer)?),
            Kind::Register => Self::Register(open(bytes, signer)?),
            Kind::Look => Self::Look(open(bytes, signer)?),
            Kind::Revocation => Self::Revocation(open(bytes, signer)?),
        })
    }

    /// What it is about.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Job(_) => Kind::Job,
            Self::Result(_) => Kind::Result,
            Self::Prekeys(_) => Kind::Prekeys,
            Self::Receipt(_) => Kind::Receipt,
            Self::Heartbeat(_) => Kind::Heartbeat,
            Self::Cancel(_) => Kind::Cancel,
            Self::Ended(_) => Kind::Ended,
            Self::Register(_) => Kind::Register,
            Self::Look(_) => Kind::Look,
            Self::Revocation(_) => Kind::Revocation,
        }
    }

    /// Its stamp.
    pub fn stamp(&self) -> &Stamp {
        match self {
            Self::Job(letter) => letter.stamp(),
            Self::Result(letter) => letter.stamp(),
            Self::Prekeys(letter) => letter.stamp(),
            Self::Receipt(letter) => letter.stamp(),
            Self::Heartbeat(letter) => letter.stamp(),
            Self::Cancel(letter) => letter.stamp(),
            Self::Ended(letter) => letter.stamp(),
            Self::Register(letter) => letter.stamp(),
            Self::Look(letter) => letter.stamp(),
            Self::Revocation(letter) => letter.stamp(),
        }
    }

    /// Signs the same under another stamp; see [`crate::seal`].
    pub(crate) fn seal_again(
        mut self,
        stamp: Stamp,
        signer: &VerifyKey,
        sign: impl FnOnce(&str, &[u8]) -> [u8; 64],
    ) -> Result<Vec<u8>, Error> {
        match &mut self {
            Self::Job(letter) => restamped(letter, |it| &mut it.stamp, stamp, signer, sign),
            Self::Result(letter) => restamped(letter, |it| &mut it.stamp, stamp, signer, sign),
            Self::Prekeys(letter) => restamped(letter, |it| &mut it.stamp, stamp, signer, sign),
            Self::Receipt(letter) => restamped(letter, |it| &mut it.stamp, stamp, signer, sign),
            Self::Heartbeat(letter) => restamped(letter, |it| &mut it.stamp, stamp, signer, sign),
            Self::Cancel(letter) => restamped(letter, |it| &mut it.stamp, stamp, signer, sign),
            Self::Ended(letter) => restamped(letter, |it| &mut it.stamp, stamp, signer, sign),
            Self::Register(letter) => restamped(letter, |it| &mut it.stamp, stamp, signer, sign),
            Self::Look(letter) => restamped(letter, |it| &mut it.stamp, stamp, signer, sign),
            Self::Revocation(letter) => restamped(letter, |it| &mut it.stamp, stamp, signer, sign),
        }
    }

    /// The blobs that it brings.
    pub fn load(&self) -> Option<&Load> {
        match self {
            Self::Job(letter) => letter.load(),
            Self::Result(letter) => letter.load(),
            Self::Look(letter) => letter.load(),
            Self::Prekeys(_)
            | Self::Receipt(_)
            | Self::Heartbeat(_)
            | Self::Cancel(_)
            | Self::Ended(_)
            | Self::Register(_)
            | Self::Revocation(_) => None,
        }
    }
}

fn restamped<T: Letter>(
    letter: &mut T,
    of: impl FnOnce(&mut T) -> &mut Stamp,
    stamp: Stamp,
    signer: &VerifyKey,
    sign: impl FnOnce(&str, &[u8]) -> [u8; 64],
) -> Result<Vec<u8>, Error> {
    *of(letter) = stamp;
    seal(letter, signer, sign)
}

/// The error of a document that says what it may not, if it does.
pub(crate) fn not_valid<T: Document>(fault: Option<&'static str>) -> Result<(), Error> {
    fault.map_or(Ok(()), |reason| {
        Err(Error::NotValid {
            kind: T::CONTEXT,
            reason,
        })
    })
}
