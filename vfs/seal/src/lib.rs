//! Keys, segments and manifests: the only crate that can open anything.
//!
//! - [`identity`]: who signs and who may receive; [`key_file`] keeps a client's secrets.
//! - [`job_key`]: the one key of a job, how it travels to a recipient, and what derives from it: [`blob`], [`audit_key`]. [`job_keys`]: who
//!   may open a job at home.
//! - [`segment`]: up to 16 MiB of a file as one immutable sealed object. [`manifest`]: which segments make which file.
//! - [`working`]: the ephemeral key under which an attempt writes before its outputs are sealed.
//!
//! Invariants: key types have neither `Debug` nor `Serialize` and are wiped when dropped; randomness is an argument; nothing that is
//! not authentic is ever handed out; lengths are bounded before anything is allocated for them. The bytes are in `docs/format.md`.
#![forbid(unsafe_code)]

pub mod audit_key;
pub mod blob;
mod cipher;
pub mod error;
pub mod harden;
pub mod identity;
pub mod job_key;
pub mod job_keys;
mod kdf;
pub mod key_file;
pub mod manifest;
pub mod random;
pub mod segment;
pub mod working;

pub use error::Error;
