//! The ledger: which jobs there are, in which queue, who may run what until when, and which result counts.
//!
//! Decisions are pure functions: [`state`] and [`node`] are tables of states, [`placement`] says here or there, [`matching`] what fits,
//! [`pick`] what is next, [`pools`] what there is so much of for all, [`portion`] how much of it, [`forecast`] until when, [`progress`] how far a job is, [`retry`] what is tried again, [`decide`] who may lease and commit.
//! [`SqliteLedger`] asks them inside one transaction and writes down what they say. Time is passed in. Nothing here can read what a job
//! holds: there are ids, counts, amounts, hashes and causes.
#![forbid(unsafe_code)]

pub mod decide;
mod error;
pub mod event;
pub mod forecast;
mod ledger;
pub mod matching;
pub mod node;
pub mod pick;
pub mod placement;
pub mod pools;
pub mod portion;
pub mod progress;
pub mod queue;
pub mod retry;
mod rows;
pub mod rules;
pub mod shun;
mod sqlite;
pub mod state;
pub mod terms;

pub use error::Error;
pub use event::{Event, Notice, Report, StoryLine};
pub use forecast::Forecast;
pub use ledger::{
    Anchor, AttemptEntry, AttemptState, JobEntry, JobState, LeaseRefusal, Leased, Leasing, Place,
    SettleRefusal, Settlement,
};
pub use matching::{Mismatch, SlotSpec};
pub use node::{Holding, NodeEntry, NodeSpec, NodeState, Pulse, SlotEntry, Unavailable};
pub use pick::{Hold, SlotAnswer, StepAnswer, StepHold};
pub use placement::{ClientProfile, Placement, Reason, Target, Wanted};
pub use pools::{PoolUse, Pools};
pub use queue::{Queue, QueueEntry, QueueRule};
pub use rules::Rules;
pub use sqlite::{
    Ask, Errand, Failures, Given, LeftOf, Next, Overview, Reaped, Received, Running, SqliteLedger,
    Turn, Usage, WhyNot,
};
pub use state::{MoveRefusal, Moved};
pub use terms::Terms;
