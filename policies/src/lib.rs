//! The vocabulary of Safelight, and the judge.
//!
//! Everything that two parts of the system say to each other is named here: ids, outlines, leases, causes, audit events.
//! The judge reads policy files and answers with a [`Grant`]. The crate is pure: no I/O, no clock, no randomness.
#![forbid(unsafe_code)]

pub mod cause;
pub mod event;
pub mod grant;
pub mod id;
pub mod lease;
pub mod outline;
pub mod path;

pub use grant::Grant;
