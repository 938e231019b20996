//! The envelope: what announces a job to a render site. Signed by the client; everything secret in it is in a stanza or named by a hash.
//!
//! Only the site's stanza travels. The client's stays at home, so that erasing both ends of a job leaves no carrier anything that opens it.

use safelight_policies::{
    id::{ObjectId, VerifyKey},
    outline::Outline,
};
use serde::{Deserialize, Serialize};

use crate::{Document, Error, outline};

/// The version of the envelope.
pub const ENVELOPE_VERSION: u16 = 1;

/// The longest that an envelope may be valid: 90 days in seconds. Ids must be remembered for as long.
pub const LIFE_MAX: u64 = 90 * 86_400;

/// How far the clocks of two sites may be apart, in seconds.
pub const SKEW: u64 = 300;

/// The longest stanza.
const STANZA_MAX: usize = 1024;

/// A job, announced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`ENVELOPE_VERSION`].
    pub version: u16,
    /// What the render site may know of the job.
    pub outline: Outline,
    /// The client's signing key: who signed this and the manifests.
    pub client_verify: VerifyKey,
    /// Who signs this job's results: derived from the job key, so that whoever may read the job and no more can tell what it made.
    pub attest: VerifyKey,
    /// The sealed manifest of the inputs.
    pub inputs: ObjectId,
    /// The sealed recipe.
    pub recipe: ObjectId,
    /// The one-time prekey that the stanza for the site is made for.
    pub prekey: [u8; 16],
    /// The render site: only it may take this job.
    pub site: VerifyKey,
    /// The job key, wrapped to the prekey.
    pub stanza_for_site: Vec<u8>,
    /// When it was made, in seconds since 1970.
    pub issued: u64,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
}

impl Envelope {
    /// Refuses an envelope that ended, or that was issued in the future by more than [`SKEW`]. `now` is in seconds since 1970.
    pub fn check_time(&self, now: u64) -> Result<(), Error> {
        let reason = if now >= self.expires {
            "it has expired"
        } else if self.issued > now.saturating_add(SKEW) {
            "it was issued in the future"
        } else {
            return Ok(());
        };
        Err(Error::NotValid {
            kind: Self::CONTEXT,
            reason,
        })
    }

    fn fault(&self, signer: &VerifyKey) -> Option<&'static str> {
        if self.version != ENVELOPE_VERSION {
            return Some("its version is unknown");
        }
        if self.client_verify != *signer {
            return Some("it names another client than the one who signed it");
        }
        if self.expires <= self.issued || self.expires - self.issued > LIFE_MAX {
            return Some("it ends before it begins, or is valid for more than 90 days");
        }
        if self.outline.expires > self.expires {
            return Some("its outline outlives it");
        }
        if !(1..=STANZA_MAX).contains(&self.stanza_for_site.len()) {
            return Some("its stanza is empty or longer than 1,024 bytes");
        }
        if self.inputs == self.recipe {
            return Some("the inputs and the recipe are one object");
        }
        outline::check(&self.outline).err()
    }
}

impl Document for Envelope {
    const CONTEXT: &'static str = "envelope";
    const BYTES_MAX: usize = 256 * 1024;

    fn check(&self, signer: &VerifyKey) -> Result<(), Error> {
        match self.fault(signer) {
            None => Ok(()),
            Some(reason) => Err(Error::NotValid {
                kind: Self::CONTEXT,
                reason,
            }),
        }
    }
}
