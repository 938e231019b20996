//! The append-only audit log: its format, the process that writes it, the clients of that process, and its verification.
//!
//! Every record is linked to the one before by a hash, so that a log can be checked against a single [`Checkpoint`] that was noted
//! elsewhere. Nothing in this crate can open a sealed body: names of a client's files pass through it as opaque bytes.
#![forbid(unsafe_code)]

pub mod client;
mod error;
mod findings;
mod format;
mod log;
pub mod note;
pub mod parts;
pub mod pass;
mod protocol;
mod reader;
mod record;
pub mod register;
pub mod statement;
pub mod tree;
mod verify;
mod window;
pub mod writer;

pub use client::Recorder;
pub use error::Error;
pub use findings::Finding;
pub use format::{BODY_MAX, Chain, Header, MAGIC, VERSION};
pub use log::{Log, open_file};
pub use protocol::{FromWriter, Order, SOURCES_MAX, ToWriter};
pub use reader::Reader;
pub use record::{Body, BodyRef, Checkpoint, Record, RecordRef, Source};
pub use register::Register;
pub use statement::Statement;
pub use verify::{Report, verify};
