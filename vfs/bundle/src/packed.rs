//! A packed bundle: a job with what its attempts left, in one directory, for whoever may read it. Signed by the client.
//!
//! It names what belongs to it and is not a letter: it has no recipient and no number, and nobody answers it.

use std::collections::BTreeSet;

use safelight_policies::{
    cause::Cause,
    id::{Fence, JobId, ObjectId, SessionId, TaskId, VerifyKey},
};
use serde::{Deserialize, Serialize};

use crate::{BlobList, Document, Envelope, Error, Load, letter::not_valid, result};

/// The most attempts of a packed bundle.
pub const PACKED_MAX: usize = 1 << 17;

/// A job, packed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Packed {
    /// The job.
    pub job: JobId,
    /// The signed [`Envelope`], one of the blobs.
    pub envelope: ObjectId,
    /// What its attempts left, by task, then by attempt, then by fence.
    pub results: Vec<PackedResult>,
    /// The envelope, what it names, the results, and all their segments.
    pub load: Load,
    /// When it was packed, in seconds since 1970.
    pub issued: u64,
}

/// What one attempt left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackedResult {
    /// The task.
    pub task: TaskId,
    /// The session that ran it.
    pub session: SessionId,
    /// Which attempt at the task it was, from one.
    pub attempt: u32,
    /// The fence that the result is bound to.
    pub fence: Fence,
    /// The sealed manifest of the outputs, if any were sealed.
    pub manifest: Option<ObjectId>,
    /// The sealed log of the task, likewise.
    pub log: Option<ObjectId>,
    /// The audit logs, or their parts, in order.
    pub audit: Vec<ObjectId>,
    /// How it ended.
    pub cause: Cause,
}

impl Packed {
    /// What does not agree between the bundle, the envelope that it names and the list that it names, if anything does not.
    pub fn disagreement(&self, envelope: &Envelope, list: &BlobList) -> Option<&'static str> {
        if envelope.outline.job != self.job {
            Some("the envelope is about another job")
        } else if list.bytes() != self.load.bytes {
            Some("the lengths of the list do not add up to what is announced")
        } else if !self.named(envelope).all(|id| list.has(id)) {
            Some("something that is named is not in the list")
        } else {
            None
        }
    }

    /// Every object that is named in the clear.
    fn named<'a>(&'a self, envelope: &Envelope) -> impl Iterator<Item = ObjectId> + 'a {
        let first = [self.envelope, envelope.inputs, envelope.recipe];
        let left = self.results.iter().flat_map(|result| {
            let sealed = result.manifest.iter().chain(&result.log);
            sealed.chain(&result.audit).copied()
        });
        first.into_iter().chain(left)
    }

    fn fault(&self) -> Option<&'static str> {
        if self.envelope == self.load.list {
            return Some("the envelope and the list are one object");
        }
        if self.results.len() > PACKED_MAX {
            return Some("it has more than 131,072 results");
        }
        let place = |it: &PackedResult| (it.task, it.attempt, it.fence);
        if !self.results.is_sorted_by(|a, b| place(a) < place(b)) {
            return Some("its results are not sorted or not unique");
        }
        let mut sessions = BTreeSet::new();
        self.results.iter().find_map(|it| {
            let again = !sessions.insert(it.session);
            again
                .then_some("it has a session twice")
                .or_else(|| result::fault(it.attempt, it.fence, &it.audit, &it.cause))
        })
    }
}

impl Document for Packed {
    const CONTEXT: &'static str = "bundle";
    const BYTES_MAX: usize = 64 << 20;

    fn check(&self, _signer: &VerifyKey) -> Result<(), Error> {
        not_valid::<Self>(self.load.fault().or_else(|| self.fault()))
    }
}
