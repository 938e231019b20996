//! Where a letter stands among those that one party sent to one other, and for how long it holds.
//!
//! Numbers count from one within an epoch. A party begins a new epoch only when it lost count; epochs are ordered by when they began, so
//! that the other party can tell a new one from an old one that somebody kept.

use std::fmt;

use safelight_policies::id::VerifyKey;
use serde::{Deserialize, Serialize};

use crate::{LIFE_MAX, SKEW};

/// One run of numbers. Ordered by the second in which it began, then at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub [u8; 8]);

impl Epoch {
    /// The epoch that begins at `seconds` since 1970. The random bytes tell two apart that begin in one second.
    pub const fn new(seconds: u64, random: [u8; 3]) -> Self {
        let [_, _, _, a, b, c, d, e] = seconds.to_be_bytes();
        Self([a, b, c, d, e, random[0], random[1], random[2]])
    }

    /// When it began, in seconds since 1970.
    pub const fn seconds(&self) -> u64 {
        u64::from_be_bytes(self.0) >> 24
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// The place of a letter among those from one signer to one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq {
    /// The run of numbers.
    pub epoch: Epoch,
    /// Counts from one.
    pub number: u64,
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

/// What every letter begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Whom it is for. Signed, so that nobody can turn a letter to another reader.
    pub to: VerifyKey,
    /// Its place.
    pub seq: Seq,
    /// When it was signed, in seconds since 1970.
    pub issued: u64,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
}

impl Stamp {
    /// What is wrong with the stamp, if anything is.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if self.seq.number == 0 {
            Some("letters count from one")
        } else if self.expires <= self.issued || self.expires - self.issued > LIFE_MAX {
            Some("it ends before it begins, or is valid for more than 90 days")
        } else if self.seq.epoch.seconds() > self.issued.saturating_add(SKEW) {
            Some("it is older than its epoch")
        } else {
            None
        }
    }
}
