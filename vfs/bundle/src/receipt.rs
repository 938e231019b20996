//! What the reader of a letter says back, and the sign of life.

use safelight_policies::id::{ObjectId, VerifyKey};
use serde::{Deserialize, Serialize};

use crate::{Code, Document, Error, Kind, Letter, Seq, Stamp, letter::not_valid};

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It and all its blobs are kept.
    Accepted,
    /// It never will be; the same in a new letter may be.
    Refused {
        /// Why.
        code: Code,
    },
}

/// Your letter was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// For who signed the letter, by who read it; when that was is `issued`.
    pub stamp: Stamp,
    /// The BLAKE3 hash of the signed letter.
    pub of: ObjectId,
    /// What became of it.
    pub verdict: Verdict,
}

impl Document for Receipt {
    const CONTEXT: &'static str = "receipt";
    const BYTES_MAX: usize = 256;

    fn check(&self, _signer: &VerifyKey) -> Result<(), Error> {
        not_valid::<Self>(self.stamp.fault())
    }
}

impl Letter for Receipt {
    const KIND: Kind = Kind::Receipt;
    fn stamp(&self) -> &Stamp {
        &self.stamp
    }
}

/// We live. Its number shows what was sent before it; a medium that withholds letters must withhold this one, and silence is noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// When it was sent is `issued`.
    pub stamp: Stamp,
    /// The newest letter that came from the reader, if any did.
    pub last_seen: Option<Seq>,
}

impl Document for Heartbeat {
    const CONTEXT: &'static str = "heartbeat";
    const BYTES_MAX: usize = 256;

    fn check(&self, _signer: &VerifyKey) -> Result<(), Error> {
        not_valid::<Self>(self.stamp.fault())
    }
}

impl Letter for Heartbeat {
    const KIND: Kind = Kind::Heartbeat;
    fn stamp(&self) -> &Stamp {
        &self.stamp
    }
}
