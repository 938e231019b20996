//! What the ledger holds and answers. Plain values.

use std::fmt;

use safelight_policies::{
    cause::Cause,
    id::{Fence, JobId, NodeName, ObjectId, SessionId, SlotIndex, TaskId},
    outline::Outline,
};
use serde::{Deserialize, Serialize};

/// The state of an audit log that must still be found in it later.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The number of records.
    pub records: u64,
    /// The link of the last of them.
    pub chain: [u8; 32],
}

impl fmt::Debug for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.records, ObjectId(self.chain))
    }
}

/// Makes an enum of states that are stored and shown as one word each.
macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$state_doc:meta])* $state:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$state_doc])* $state,)+ }

        impl $name {
            /// The state in one word, as it is stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$state => $text,)+ }
            }
            /// The state with this word.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$state),)+ _ => None }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

pub(crate) use states;

states!(
    /// Where a job stands. [`crate::state::follow`] is the table of its moves.
    JobState {
        /// At home, not yet placed here or there.
        New = "new",
        /// To be rendered at another site; nothing of it has left yet.
        Outsourced = "outsourced",
        /// Its bundle is in the hot folder of the other site.
        Published = "published",
        /// The other site acknowledged it.
        Accepted = "accepted",
        /// Its results are on their way home.
        Returning = "returning",
        /// Its results are at home.
        Delivered = "delivered",
        /// Someone asked for its end.
        Canceled = "canceled",
        /// No session holds a lease and nothing has failed.
        Waiting = "waiting",
        /// A session holds a lease.
        Running = "running",
        /// Every task has a result.
        Succeeded = "succeeded",
        /// No session holds a lease, and one ended without a result. A job in a queue is failed only when nothing of it may be tried
        /// again; any other job goes back to running with its next lease.
        Failed = "failed",
    }
);

states!(
    /// Where an attempt stands. Only [`AttemptState::Running`] is ever left again.
    AttemptState {
        /// Its session holds the lease.
        Running = "running",
        /// Its result counts.
        Committed = "committed",
        /// It ended without a result.
        Failed = "failed",
        /// Its lease ran out and another session took the task.
        Superseded = "superseded",
    }
);

/// A job in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobEntry {
    /// What the site may know of it, its id among that.
    pub outline: Outline,
    /// The envelope that announced it.
    pub envelope: ObjectId,
    /// Where it stands.
    pub state: JobState,
    /// When it was admitted, in seconds since 1970.
    pub submitted_at: u64,
    /// The newest known state of its audit log.
    pub anchor: Option<Anchor>,
}

impl JobEntry {
    /// The job.
    pub fn id(&self) -> JobId {
        self.outline.job
    }
}

/// An attempt at a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptEntry {
    /// The task; of several, the first.
    pub task: TaskId,
    /// How many, from that one on.
    pub tasks: u32,
    /// Counts the attempts of the task, from one.
    pub attempt: u32,
    /// Its fence.
    pub fence: Fence,
    /// Its session.
    pub session: SessionId,
    /// Where it ran.
    pub place: Place,
    /// When it was leased, in seconds since 1970.
    pub leased_at: u64,
    /// When its lease ends, in seconds since 1970.
    pub lease_until: u64,
    /// Where it stands.
    pub state: AttemptState,
    /// When it came there, in seconds since 1970.
    pub ended_at: Option<u64>,
    /// Why it ended.
    pub cause: Option<Cause>,
    /// The manifest of its results.
    pub result: Option<ObjectId>,
    /// The state of the audit log when it ended.
    pub anchor: Option<Anchor>,
}

/// A slot of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The node.
    pub node: NodeName,
    /// The slot.
    pub slot: SlotIndex,
}

/// The right to run a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leased {
    /// Counts the attempts of the task, from one.
    pub attempt: u32,
    /// Larger than that of any earlier lease of any task.
    pub fence: Fence,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
}

/// The answer to who asks for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Leasing {
    /// The task is leased.
    Leased(Leased),
    /// It is not.
    Refused {
        /// Why.
        reason: LeaseRefusal,
    },
}

/// Why a task is not leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRefusal {
    /// Another session holds it.
    #[error("{session} holds the task until {until}")]
    Held {
        /// The session.
        session: SessionId,
        /// The end of its lease, in seconds since 1970.
        until: u64,
    },
    /// It has a result.
    #[error("the task has a result")]
    Done,
    /// A step that it depends on is not done.
    #[error("step {step} is not done")]
    NotReady {
        /// The first such step.
        step: u32,
    },
    /// The job may no longer start.
    #[error("the job expired")]
    Expired,
    /// The job is in a queue, whose order holds.
    #[error("the job is in a queue: ask for the next task")]
    Queued,
}

/// The answer to who ends an attempt, well or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Settlement {
    /// It is written down, durably. After a commit: this result counts, and no other ever will.
    Accepted,
    /// Nothing changed.
    Refused {
        /// Why.
        reason: SettleRefusal,
    },
}

/// Why an attempt's end is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettleRefusal {
    /// The session never had this fence.
    #[error("the session holds another fence")]
    WrongFence,
    /// A newer lease was given out.
    #[error("the task was leased again")]
    OldFence,
    /// It was committed before.
    #[error("the attempt was committed before")]
    Committed,
    /// It ended before.
    #[error("the attempt ended before")]
    Ended,
    /// The job was canceled: no result counts any more.
    #[error("the job was canceled")]
    Canceled,
}
