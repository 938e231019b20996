//! A one-time prekey: a key of the render site's warden for one job. Signed by the site, taken by a client, erased after use.

use safelight_policies::id::{KemKey, VerifyKey};
use serde::{Deserialize, Serialize};

use crate::{Document, Error};

/// The public half of a one-time prekey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prekey {
    /// Random; what the envelope calls it by.
    pub id: [u8; 16],
    /// What a job key is wrapped to.
    pub key: KemKey,
    /// The site whose warden holds the private half.
    pub site: VerifyKey,
    /// When it was made, in seconds since 1970.
    pub issued: u64,
}

impl Document for Prekey {
    const CONTEXT: &'static str = "prekey";
    const BYTES_MAX: usize = 256;

    fn check(&self, signer: &VerifyKey) -> Result<(), Error> {
        if self.site != *signer {
            return Err(Error::NotValid {
                kind: Self::CONTEXT,
                reason: "it names another site than the one that signed it",
            });
        }
        Ok(())
    }
}
