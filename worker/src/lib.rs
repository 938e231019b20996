//! Render servers: what runs, and how it is held.
//!
//! A [`Plan`] says what a session may do, as data, and is pure. [`launch`] starts the launcher with it, [`launcher`] is the launcher, whose
//! mechanisms are the files of [`sandbox`]; [`supervise`] watches it and ends it. [`probe`] says what this host can enforce.
//!
//! Invariants: a session without every wall its policy requires never runs; nothing in this crate opens a client's data, and the
//! command reaches only the launcher; all `unsafe` is in `sys`.

pub mod behind;
pub mod caching;
pub mod cgroup;
pub mod error;
pub mod facts;
pub mod kernel_log;
pub mod launch;
pub mod launcher;
pub mod message;
pub mod plan;
pub mod probe;
pub mod refused;
mod sandbox;
pub mod supervise;
mod sys;
mod turns;
mod watchdog;
pub mod without;

pub use error::{Error, Unenforceable};
pub use facts::HostFacts;
pub use launch::{LaunchIo, Launcher, spawn};
pub use plan::{Identity, Plan};
pub use supervise::{Ended, Session};
