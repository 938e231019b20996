//! The vocabulary of Safelight, and the judge.
//!
//! Everything that two parts of the system say to each other is named here: ids, outlines, leases, causes, audit events.
//! The judge reads policy files and answers with a [`Grant`]. The crate is pure: no I/O, no clock, no randomness.
#![forbid(unsafe_code)]

pub mod catalogue;
pub mod cause;
pub mod central;
pub mod diff;
pub mod event;
pub mod explain;
pub mod grant;
pub mod id;
pub mod judge;
pub mod learn;
pub mod lease;
pub mod outline;
pub mod path;

mod amount;
mod error;
mod glob;
mod layer;
mod never;
mod origin;
mod parse;
mod place;
mod policy;
pub mod reach;
mod text;
mod warning;

pub use catalogue::Catalogue;
pub use error::Error;
pub use grant::Grant;
pub use judge::{Denied, Request};
pub use never::why_never;
pub use origin::Origin;
pub use parse::PolicyFile;
pub use policy::{Line, Policy};
pub use warning::Warning;
