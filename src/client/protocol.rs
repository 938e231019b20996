//! What a site asks of its client's process, and the answers. No name, parameter or byte of a job is in any of them.

use safelight_policies::id::{ClientAlias, JobId, ObjectId, SessionId, VerifyKey};
use serde::{Deserialize, Serialize};

/// What the parent asks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Who are you?
    Who,
    /// Sign a letter.
    Sign {
        /// Its kind: the context of the signature.
        context: String,
        /// Its bytes.
        body: Vec<u8>,
    },
    /// Address a job to a site: wrap its key to a prekey of that site's warden.
    Readdress {
        /// The job.
        job: JobId,
        /// A prekey document, signed by the site.
        prekey: Vec<u8>,
        /// The site, by the key that signs its prekeys.
        site: VerifyKey,
    },
    /// Store what a session of a job wrote where it belongs.
    Deliver {
        /// The job.
        job: JobId,
        /// The session.
        session: SessionId,
    },
    /// Look at the registers of this client, and sign what extends what you saw.
    Witness,
    /// Tell whom the job's author wants told.
    Notify {
        /// The job.
        job: JobId,
        /// Where it stands, in one word.
        state: String,
        /// Since when, in seconds since 1970.
        at: u64,
    },
}

/// What the client's process answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// This client.
    Client {
        /// Who signs.
        key: VerifyKey,
        /// Its alias on this host.
        alias: ClientAlias,
    },
    /// The letter's signature: 64 bytes.
    Signature(Vec<u8>),
    /// The job is addressed. The envelope may be longer than a message, so it is named.
    Readdressed {
        /// The envelope, an object of the client's area.
        envelope: ObjectId,
        /// The list of the job's blobs with this envelope.
        list: ObjectId,
    },
    /// The results are at home.
    Delivered(DeliveredReport),
    /// Those who were to be told were, but for what failed.
    Notified(NotifiedReport),
    /// The registers extend what was seen before.
    Witnessed,
    /// It was not done.
    Refused {
        /// Why. Names no file and no word of the job.
        reason: String,
        /// What was asked for is not what it should be, and asking again changes nothing.
        denied: bool,
    },
}

/// What became of a session's results at home.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliveredReport {
    /// Files that are where they belong.
    pub(crate) stored: u64,
    /// Files that are beside what stood there.
    pub(crate) aside: u64,
    /// Links that could lead out of the client's directories, which are not stored.
    pub(crate) leading_out: u64,
    /// Why files could not be stored, one reason each, without their names. Ask again when that may have changed.
    pub(crate) failed: Vec<String>,
}

/// What failed of telling. Who was told, or was not to be told at all, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NotifiedReport {
    /// Why the command did not do it.
    pub(crate) command: Option<String>,
    /// Why the address was not reached.
    pub(crate) url: Option<String>,
}

impl NotifiedReport {
    /// True if everyone was told who was to be.
    pub(crate) fn complete(&self) -> bool {
        self.command.is_none() && self.url.is_none()
    }
}
