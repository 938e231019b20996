//! Why a letter is not taken: each reason its own, with a code that the sender is told.

use safelight_policies::id::{ObjectId, VerifyKey};
use serde::{Deserialize, Serialize};

use crate::{Error, Kind, ListError, What};

/// A reason in one word, for receipts and for the files beside what was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is the `Refusal` of the same name")]
pub enum Code {
    UnknownSigner,
    NotTheirs,
    NotAFile,
    Misnamed,
    OverLong,
    Truncated,
    Malformed,
    NotAuthentic,
    NotValid,
    WrongRecipient,
    Replayed,
    TooOld,
    StaleEpoch,
    Expired,
    NotYetValid,
    TooManyBlobs,
    TooManyBytes,
    BadList,
    LyingSizes,
    HashMismatch,
    BlobNotAFile,
    Disagrees,
}

impl Code {
    /// True if it is the letter's number that is refused: the same under a new number may be taken.
    pub const fn is_of_the_number(self) -> bool {
        matches!(self, Self::Replayed | Self::TooOld | Self::StaleEpoch)
    }
}

/// Why a letter is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody we know.
    #[error("{signer:?} is not known here")]
    UnknownSigner {
        /// Whom the letter is said to be from.
        signer: VerifyKey,
    },
    /// A client does not send results, and a site sends no jobs.
    #[error("this sender may not send a letter of the kind {}", kind.as_str())]
    NotTheirs {
        /// What it is said to be.
        kind: Kind,
    },
    /// A link, a directory, a pipe, a socket or a device where a file should be.
    #[error("it is {what}, not a file")]
    NotAFile {
        /// What it is.
        what: What,
    },
    /// The name is none that a letter may have, or another letter's.
    #[error("its name is not that of a letter, or of another letter")]
    Misnamed,
    /// Longer than a letter of its kind may be.
    #[error("it has {len} bytes, and may have at most {max}")]
    OverLong {
        /// Its length.
        len: u64,
        /// The limit.
        max: u64,
    },
    /// Shorter than what any signed document begins with.
    #[error("it is cut off after {len} bytes")]
    Truncated {
        /// Its length.
        len: u64,
    },
    /// Another file, or another version.
    #[error("it is no signed document of a version that this program reads")]
    Malformed {
        /// Why.
        source: Error,
    },
    /// Changed on its way, or never signed by the sender.
    #[error("it is not what the sender signed")]
    NotAuthentic {
        /// Why.
        source: Error,
    },
    /// Signed, and yet not what a letter of its kind may say.
    #[error("it says what it may not")]
    NotValid {
        /// Why.
        source: Error,
    },
    /// For somebody else.
    #[error("it is for {to:?}")]
    WrongRecipient {
        /// For whom.
        to: VerifyKey,
    },
    /// Another letter with this number was read before.
    #[error("its number was used by another letter, {of}")]
    Replayed {
        /// The other letter.
        of: ObjectId,
    },
    /// So far behind that nobody remembers whether it was read.
    #[error("it is more than 4,096 letters late")]
    TooOld,
    /// Of an epoch before the last two.
    #[error("its epoch is over")]
    StaleEpoch,
    /// Its time is over.
    #[error("it expired {ago} s ago")]
    Expired {
        /// Since when, in seconds.
        ago: u64,
    },
    /// From more than a day in the future.
    #[error("it is from {ahead} s in the future: a clock is wrong, here or at the sender")]
    NotYetValid {
        /// How far, in seconds.
        ahead: u64,
    },
    /// More blobs than the sender may send at once.
    #[error("it brings {blobs} blobs, and may bring at most {max}")]
    TooManyBlobs {
        /// How many.
        blobs: u64,
        /// The limit.
        max: u64,
    },
    /// More bytes than the sender may send at once.
    #[error("it brings {bytes} bytes, and may bring at most {max}")]
    TooManyBytes {
        /// How many.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// What it names as the list of its blobs is none.
    #[error("its list of blobs cannot be read")]
    BadList {
        /// Why.
        source: ListError,
    },
    /// Lengths that contradict each other, or the blob itself.
    #[error("{object} has {found} bytes where {said} were announced")]
    LyingSizes {
        /// The blob, or the list if it is the sum that is wrong.
        object: ObjectId,
        /// What was announced.
        said: u64,
        /// What there is.
        found: u64,
    },
    /// A blob is not what its name says, and does not change any more.
    #[error("the bytes of {object} do not have the hash that is its name")]
    HashMismatch {
        /// The blob.
        object: ObjectId,
    },
    /// Something else than a file has the name of a blob, and stays there.
    #[error("{object} is {what}, not a file")]
    BlobNotAFile {
        /// The blob.
        object: ObjectId,
        /// What it is.
        what: What,
    },
    /// Letter, list and envelope tell different stories.
    #[error("it does not agree with what it brings: {reason}")]
    Disagrees {
        /// What does not.
        reason: &'static str,
    },
}

impl Refusal {
    /// The reason in one word.
    pub const fn code(&self) -> Code {
        match self {
            Self::UnknownSigner { .. } => Code::UnknownSigner,
            Self::NotTheirs { .. } => Code::NotTheirs,
            Self::NotAFile { .. } => Code::NotAFile,
            Self::Misnamed => Code::Misnamed,
            Self::OverLong { .. } => Code::OverLong,
            Self::Truncated { .. } => Code::Truncated,
            Self::Malformed { .. } => Code::Malformed,
            Self::NotAuthentic { .. } => Code::NotAuthentic,
            Self::NotValid { .. } => Code::NotValid,
            Self::WrongRecipient { .. } => Code::WrongRecipient,
            Self::Replayed { .. } => Code::Replayed,
            Self::TooOld => Code::TooOld,
            Self::StaleEpoch => Code::StaleEpoch,
            Self::Expired { .. } => Code::Expired,
            Self::NotYetValid { .. } => Code::NotYetValid,
            Self::TooManyBlobs { .. } => Code::TooManyBlobs,
            Self::TooManyBytes { .. } => Code::TooManyBytes,
            Self::BadList { .. } => Code::BadList,
            Self::LyingSizes { .. } => Code::LyingSizes,
            Self::HashMismatch { .. } => Code::HashMismatch,
            Self::BlobNotAFile { .. } => Code::BlobNotAFile,
            Self::Disagrees { .. } => Code::Disagrees,
        }
    }

    /// True if a file that is still being written looks like this. Such a file is refused only once it has stopped changing for long.
    pub const fn may_heal(&self) -> bool {
        matches!(
            self,
            Self::Truncated { .. } | Self::Malformed { .. } | Self::NotAuthentic { .. }
        )
    }
}
