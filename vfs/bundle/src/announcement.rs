//! The announcement of a job, and its withdrawal. Signed by the client.

use safelight_policies::id::{JobId, ObjectId, VerifyKey};
use serde::{Deserialize, Serialize};

use crate::{BlobList, Document, Envelope, Error, Kind, Letter, Load, Stamp, letter::not_valid};

/// A job is here for you.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// For the render site, by the client.
    pub stamp: Stamp,
    /// The job.
    pub job: JobId,
    /// The signed [`Envelope`], one of the blobs.
    pub envelope: ObjectId,
    /// The envelope, the sealed recipe, the sealed manifest, the segments.
    pub load: Load,
}

impl Announcement {
    /// What does not agree between the announcement, the envelope that it names and the list that it names, if anything does not. An
    /// announcement is taken only if its envelope is for the same site, about the same job, and has its sealed parts in the list.
    pub fn disagreement(&self, envelope: &Envelope, list: &BlobList) -> Option<&'static str> {
        if envelope.site != self.stamp.to {
            Some("the envelope is for another site")
        } else if envelope.outline.job != self.job {
            Some("the envelope is about another job")
        } else if envelope.expires < self.stamp.expires {
            Some("the envelope ends before its announcement")
        } else if ![self.envelope, envelope.inputs, envelope.recipe]
            .iter()
            .all(|id| list.has(*id))
        {
            Some("the envelope, the inputs or the recipe is not in the list")
        } else {
            None
        }
    }
}

impl Document for Announcement {
    const CONTEXT: &'static str = "announcement";
    const BYTES_MAX: usize = 512;

    fn check(&self, _signer: &VerifyKey) -> Result<(), Error> {
        let fault = self.stamp.fault().or(self.load.fault());
        let same =
            (self.envelope == self.load.list).then_some("the envelope and the list are one object");
        not_valid::<Self>(fault.or(same))
    }
}

impl Letter for Announcement {
    const KIND: Kind = Kind::Job;
    fn stamp(&self) -> &Stamp {
        &self.stamp
    }
    fn load(&self) -> Option<&Load> {
        Some(&self.load)
    }
}

/// A job is no longer wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// For the render site, by the client.
    pub stamp: Stamp,
    /// The job. Whether it is the signer's is for the reader to look up.
    pub job: JobId,
}

impl Document for Cancel {
    const CONTEXT: &'static str = "cancel";
    const BYTES_MAX: usize = 256;

    fn check(&self, _signer: &VerifyKey) -> Result<(), Error> {
        not_valid::<Self>(self.stamp.fault())
    }
}

impl Letter for Cancel {
    const KIND: Kind = Kind::Cancel;
    fn stamp(&self) -> &Stamp {
        &self.stamp
    }
}
