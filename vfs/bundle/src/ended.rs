//! The notice that a job is over at the render site. Signed by the render site.

use safelight_policies::id::{JobId, VerifyKey};
use serde::{Deserialize, Serialize};

use crate::{Document, Error, Kind, Letter, Stamp, letter::not_valid};

/// How a job ended at the render site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Every task has a result.
    Succeeded,
    /// Nothing of it will be tried again.
    Failed,
    /// Its client withdrew it.
    Canceled,
}

/// Your job is over here. It may arrive before the results that it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnded {
    /// For the client, by the render site.
    pub stamp: Stamp,
    /// The job.
    pub job: JobId,
    /// How it ended.
    pub outcome: Outcome,
    /// How many [`crate::ResultNotice`]s were sent for it: the client is done when it has them all.
    pub results: u64,
}

impl Document for JobEnded {
    const CONTEXT: &'static str = "job ended";
    const BYTES_MAX: usize = 256;

    fn check(&self, _signer: &VerifyKey) -> Result<(), Error> {
        not_valid::<Self>(self.stamp.fault())
    }
}

impl Letter for JobEnded {
    const KIND: Kind = Kind::Ended;
    fn stamp(&self) -> &Stamp {
        &self.stamp
    }
}
