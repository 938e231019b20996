//! The notice that a task has ended. Signed by the render site; what it brings home is sealed for the client.

use safelight_policies::{
    cause::Cause,
    id::{Fence, JobId, ObjectId, SessionId, TaskId, VerifyKey},
};
use serde::{Deserialize, Serialize};

use crate::{BlobList, Document, Error, Kind, Letter, Load, Stamp, letter::not_valid};

/// The most audit logs that come with one result.
const AUDIT_MAX: usize = 64;
/// The longest name of a launch step.
const STEP_MAX: usize = 100;

/// A task of your job has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultNotice {
    /// For the client, by the render site.
    pub stamp: Stamp,
    /// The job.
    pub job: JobId,
    /// The task.
    pub task: TaskId,
    /// The session that ran it.
    pub session: SessionId,
    /// Which attempt at the task it was, from one.
    pub attempt: u32,
    /// The fence under which the result was committed.
    pub fence: Fence,
    /// The sealed manifest of the outputs; an attempt that never began has none.
    pub manifest: Option<ObjectId>,
    /// The sealed log of the task, if it wrote one.
    pub log: Option<ObjectId>,
    /// The audit logs, or their parts, in order.
    pub audit: Vec<ObjectId>,
    /// How it ended.
    pub cause: Cause,
    /// The manifest, the log, the audit logs, the segments.
    pub load: Load,
}

impl ResultNotice {
    /// What the notice names that is not in its list, if anything is not.
    pub fn disagreement(&self, list: &BlobList) -> Option<&'static str> {
        let mut named = self.manifest.iter().chain(&self.log).chain(&self.audit);
        (!named.all(|id| list.has(*id)))
            .then_some("the manifest, the log or an audit log is not in the list")
    }

    fn fault(&self) -> Option<&'static str> {
        if self.cause.is_success() && self.manifest.is_none() {
            return Some("it succeeded and brings no outputs");
        }
        fault(self.attempt, self.fence, &self.audit, &self.cause)
    }
}

/// What is wrong with what an attempt left, whoever says it.
pub(crate) fn fault(
    attempt: u32,
    fence: Fence,
    audit: &[ObjectId],
    cause: &Cause,
) -> Option<&'static str> {
    if attempt == 0 || fence == Fence(0) {
        return Some("attempts and fences count from one");
    }
    if audit.len() > AUDIT_MAX {
        return Some("it has more than 64 audit logs");
    }
    match cause {
        // It is shown to people: no line breaks, no escape sequences.
        Cause::NotStarted { step, .. }
            if step.len() > STEP_MAX || step.chars().any(char::is_control) =>
        {
            Some("the step that failed is not 0 to 100 bytes of text")
        }
        _ => None,
    }
}

impl Document for ResultNotice {
    const CONTEXT: &'static str = "result notice";
    const BYTES_MAX: usize = 4096;

    fn check(&self, _signer: &VerifyKey) -> Result<(), Error> {
        let fault = self.stamp.fault().or(self.load.fault());
        not_valid::<Self>(fault.or_else(|| self.fault()))
    }
}

impl Letter for ResultNotice {
    const KIND: Kind = Kind::Result;
    fn stamp(&self) -> &Stamp {
        &self.stamp
    }
    fn load(&self) -> Option<&Load> {
        Some(&self.load)
    }
}
