//! The ledger: which jobs there are, who may run what until when, and which result counts.
//!
//! Decisions are pure functions in [`decide`]; [`SqliteLedger`] asks them inside one transaction and writes down what they say. Nothing
//! here can read what a job holds: there are ids, counts, hashes and causes.
#![forbid(unsafe_code)]

pub mod decide;
mod error;
mod ledger;
mod rows;
mod sqlite;

pub use error::Error;
pub use ledger::{
    Anchor, AttemptEntry, AttemptState, JobEntry, JobState, LeaseRefusal, Leased, Leasing, Place,
    SettleRefusal, Settlement,
};
pub use sqlite::SqliteLedger;
