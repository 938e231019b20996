//! The debug grant: a client lets one person look at one job at one render site, for a while. Signed by the client.
//!
//! It brings what reads the job, and nothing that signs, wrapped to a one-time prekey of the site's warden. So the file is worth nothing
//! without that warden, nor without the key of the person whom it names, and nothing at all once the prekey is erased.

use safelight_policies::id::{ClientAlias, GrantId, JobId, TaskId, VerifyKey};
use serde::{Deserialize, Serialize};

use crate::{Document, Error, Kind, LIFE_MAX, Letter, SKEW, Stamp, letter::not_valid};

/// The version of the grant.
pub const GRANT_VERSION: u16 = 1;

/// The longest time that a grant may allow looking: 30 days in seconds.
pub const GRANT_LIFE_MAX: u64 = 30 * 86_400;

/// The longest stanza.
const STANZA_MAX: usize = 1024;

/// May look at a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebugGrant {
    /// [`GRANT_VERSION`].
    pub version: u16,
    /// Its number, under which it is revoked and recorded.
    pub number: GrantId,
    /// The client, as the site knows it.
    pub client: ClientAlias,
    /// The client's signing key: who signed this.
    pub client_verify: VerifyKey,
    /// The job.
    pub job: JobId,
    /// Of what was written only this task's is shown; of all tasks if there is none.
    pub task: Option<TaskId>,
    /// The render site, by the key that signs its prekeys: only its warden can open the stanza.
    pub site: VerifyKey,
    /// Who may look: whoever signs for it with this key.
    pub operator: VerifyKey,
    /// When it was made, in seconds since 1970.
    pub issued: u64,
    /// From when on it holds.
    pub from: u64,
    /// When it ends, and every mount with it.
    pub expires: u64,
    /// The one-time prekey that the stanza is made for.
    pub prekey: [u8; 16],
    /// The key that reads the job, wrapped to the prekey as for a reader.
    pub stanza: Vec<u8>,
}

/// Why a grant does not hold at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotNow {
    /// It is from the future, or does not hold yet.
    Early,
    /// It has ended.
    Expired,
}

impl DebugGrant {
    /// Whether it holds at `now`, in seconds since 1970: from its first second, which clocks may see [`SKEW`] early, to before its last.
    pub fn check_time(&self, now: u64) -> Result<(), NotNow> {
        let soon = now.saturating_add(SKEW);
        if now >= self.expires {
            Err(NotNow::Expired)
        } else if self.issued > soon || self.from > soon {
            Err(NotNow::Early)
        } else {
            Ok(())
        }
    }

    fn fault(&self, signer: &VerifyKey) -> Option<&'static str> {
        if self.version != GRANT_VERSION {
            return Some("its version is unknown");
        }
        if self.client_verify != *signer {
            return Some("it names another client than the one who signed it");
        }
        if self.from < self.issued || self.expires <= self.from {
            return Some("it ends before it begins, or begins before it was made");
        }
        if self.expires - self.from > GRANT_LIFE_MAX || self.expires - self.issued > LIFE_MAX {
            return Some(
                "it holds for more than 30 days, or ends more than 90 days after it was made",
            );
        }
        let stanza = (1..=STANZA_MAX).contains(&self.stanza.len());
        (!stanza).then_some("its stanza is empty or longer than 1,024 bytes")
    }
}

impl Document for DebugGrant {
    const CONTEXT: &'static str = "debug grant";
    const BYTES_MAX: usize = 2048;

    fn check(&self, signer: &VerifyKey) -> Result<(), Error> {
        not_valid::<Self>(self.fault(signer))
    }
}

/// A grant holds no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// For the render site, by the client.
    pub stamp: Stamp,
    /// The job that it is for.
    pub job: JobId,
    /// The grant. Whether it is the signer's does not matter: numbers of others are others'.
    pub number: GrantId,
}

impl Document for Revocation {
    const CONTEXT: &'static str = "revocation";
    const BYTES_MAX: usize = 256;

    fn check(&self, _signer: &VerifyKey) -> Result<(), Error> {
        not_valid::<Self>(self.stamp.fault())
    }
}

impl Letter for Revocation {
    const KIND: Kind = Kind::Revocation;
    fn stamp(&self) -> &Stamp {
        &self.stamp
    }
}
