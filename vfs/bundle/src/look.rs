//! The notice that somebody looked at a job at a render site, by a grant. Signed by the render site; it brings the log of the look home.

use safelight_policies::id::{JobId, ObjectId, SessionId, VerifyKey};
use serde::{Deserialize, Serialize};

use crate::{BlobList, Document, Error, Kind, Letter, Load, Stamp, letter::not_valid};

/// The most parts of a look's log.
pub const LOOK_PARTS_MAX: usize = 64;

/// Your job was looked at here, or somebody tried to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookNotice {
    /// For the client, by the render site.
    pub stamp: Stamp,
    /// The job.
    pub job: JobId,
    /// The look's own session, which names its log.
    pub session: SessionId,
    /// The parts of its log, in order.
    pub audit: Vec<ObjectId>,
    /// The same.
    pub load: Load,
}

impl LookNotice {
    /// What the notice names that is not in its list, if anything is not.
    pub fn disagreement(&self, list: &BlobList) -> Option<&'static str> {
        let all = self.audit.iter().all(|id| list.has(*id));
        (!all).then_some("a part of the look's log is not in the list")
    }
}

impl Document for LookNotice {
    const CONTEXT: &'static str = "look notice";
    const BYTES_MAX: usize = 4096;

    fn check(&self, _signer: &VerifyKey) -> Result<(), Error> {
        let fault = self.stamp.fault().or(self.load.fault());
        let parts = (1..=LOOK_PARTS_MAX).contains(&self.audit.len());
        let parts = (!parts).then_some("its log has not 1 to 64 parts");
        not_valid::<Self>(fault.or(parts))
    }
}

impl Letter for LookNotice {
    const KIND: Kind = Kind::Look;
    fn stamp(&self) -> &Stamp {
        &self.stamp
    }
    fn load(&self) -> Option<&Load> {
        Some(&self.load)
    }
}
