//! The lease: the right to run one task, or several that follow each other, in one slot until a deadline, and the wrapper order that
//! comes with it.

use serde::{Deserialize, Serialize};

use crate::id::{
    ClientAlias, Fence, JobId, NodeName, PolicyDigest, PolicyName, SessionId, SlotIndex, TaskId,
    VerifyKey,
};

/// The right to run. Signed by the schedule server; the key warden checks it before it releases a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Whose job.
    pub client: ClientAlias,
    /// The job.
    pub job: JobId,
    /// The task; of several, the first.
    pub task: TaskId,
    /// How many tasks of the step, from that one on. They are run in turn and count together or not at all.
    pub tasks: u32,
    /// Counts the leases of this task, from one.
    pub attempt: u32,
    /// Only the newest fence may commit.
    pub fence: Fence,
    /// The session that holds the lease.
    pub session: SessionId,
    /// On which node.
    pub node: NodeName,
    /// The node's key, so that a lease is worth nothing on another node.
    pub node_key: VerifyKey,
    /// In which slot.
    pub slot: SlotIndex,
    /// The end of the lease, in seconds since 1970.
    pub expires: u64,
    /// What the node must enforce around the task.
    pub wrapper: Wrapper,
}

impl Lease {
    /// The task after its last one.
    pub fn end(&self) -> u64 {
        self.task.task.saturating_add(u64::from(self.tasks.max(1)))
    }
}

/// The wrapper order: the node must put exactly this policy around the task, or refuse the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrapper {
    /// The policy.
    pub policy: PolicyName,
    /// The digest of its resolved text.
    pub digest: PolicyDigest,
}
