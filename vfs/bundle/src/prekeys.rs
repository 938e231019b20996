//! One-time prekeys in advance, so that a client can seal jobs without asking first. Signed by the render site.

use std::collections::BTreeSet;

use safelight_policies::id::VerifyKey;
use serde::{Deserialize, Serialize};

use crate::{Document, Error, Kind, Letter, Prekey, Stamp, letter::not_valid, open};

/// The most prekeys of a batch.
pub const PREKEYS_MAX: usize = 256;

/// Prekeys for you, each for one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrekeyBatch {
    /// For the client, by the render site.
    pub stamp: Stamp,
    /// Signed [`Prekey`]s, as an envelope's stanza is made for them.
    pub prekeys: Vec<Vec<u8>>,
}

impl PrekeyBatch {
    fn fault(&self, signer: &VerifyKey) -> Option<&'static str> {
        if !(1..=PREKEYS_MAX).contains(&self.prekeys.len()) {
            return Some("it has no prekey or more than 256");
        }
        let mut ids = BTreeSet::new();
        for signed in &self.prekeys {
            // Checked here, since a batch is all that a client sees of them before it makes a stanza.
            let Ok(prekey) = open::<Prekey>(signed, signer) else {
                return Some("a prekey is not signed by the site");
            };
            if !ids.insert(prekey.id) {
                return Some("it has a prekey twice");
            }
        }
        None
    }
}

impl Document for PrekeyBatch {
    const CONTEXT: &'static str = "prekey batch";
    const BYTES_MAX: usize = 128 * 1024;

    fn check(&self, signer: &VerifyKey) -> Result<(), Error> {
        not_valid::<Self>(self.stamp.fault().or_else(|| self.fault(signer)))
    }
}

impl Letter for PrekeyBatch {
    const KIND: Kind = Kind::Prekeys;
    fn stamp(&self) -> &Stamp {
        &self.stamp
    }
}
