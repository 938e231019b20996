//! What is new in a client's register at a render site, so that the client's own site has all of it. Signed by the render site.
//!
//! The register's own checkpoint comes with it, signed by the site's audit key. This crate believes neither: the reader appends the
//! entries to its copy, and compares.

use safelight_policies::id::VerifyKey;
use serde::{Deserialize, Serialize};

use crate::{Document, Error, Kind, Letter, Stamp, letter::not_valid};

/// The most entries of one letter.
pub const ENTRIES_MAX: usize = 200;
/// The longest entry.
const ENTRY_MAX: usize = 512;
/// The longest checkpoint.
const CHECKPOINT_MAX: usize = 4096;

/// Your register here has grown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterNotice {
    /// For the client, by the render site.
    pub stamp: Stamp,
    /// The number of the first entry that comes here.
    pub first: u64,
    /// The entries, as the register has them.
    pub entries: Vec<Vec<u8>>,
    /// The register's head after the last of them: a signed note.
    pub checkpoint: String,
    /// The key that signed it; the first that a site names stays the one.
    pub key: [u8; 32],
}

impl RegisterNotice {
    fn fault(&self) -> Option<&'static str> {
        if self.entries.is_empty() || self.entries.len() > ENTRIES_MAX {
            return Some("it brings not 1 to 200 entries");
        }
        if self.entries.iter().any(|entry| entry.len() > ENTRY_MAX) {
            return Some("an entry is longer than 512 bytes");
        }
        if self.checkpoint.len() > CHECKPOINT_MAX {
            return Some("its checkpoint is longer than 4096 bytes");
        }
        let last = self.first.checked_add(self.entries.len() as u64);
        last.is_none().then_some("its entries have no numbers")
    }
}

impl Document for RegisterNotice {
    const CONTEXT: &'static str = "register notice";
    const BYTES_MAX: usize = 128 * 1024;

    fn check(&self, _signer: &VerifyKey) -> Result<(), Error> {
        not_valid::<Self>(self.stamp.fault().or_else(|| self.fault()))
    }
}

impl Letter for RegisterNotice {
    const KIND: Kind = Kind::Register;
    fn stamp(&self) -> &Stamp {
        &self.stamp
    }
}
