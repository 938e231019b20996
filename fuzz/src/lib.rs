//! Every parser of bytes from a disk, a job, a person's file or another site, one function for each family. The first byte chooses the parser.
//!
//! Each says more than that nothing panics: what is accepted is what our own code writes for it, to the last byte; what is forged or was changed
//! in one place is not accepted; and memory is bounded by the length of what came, never by a number in it. Each answers whether the bytes
//! were accepted, so that a corpus of which everything is refused is noticed.
//!
//! The fuzzer calls them with bytes that it makes up (`make fuzz-short`); the tests call them with the corpus. So this is a library for the
//! fuzzer and, under the same path, a test of the workspace.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    unreachable_pub,
    reason = "a check that does not hold is a panic; it is a crate for the fuzzer, a test for the workspace"
)]

pub mod bounded;
pub mod jobs;
pub mod logs;
pub mod sealed;
pub mod signed;
pub mod talk;

#[cfg(test)]
mod large;
#[cfg(test)]
mod made_up;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod seeds;

// The node protocol and what a client's process is asked belong to the binary; they are compiled here as they are there.
#[allow(dead_code, missing_docs, reason = "not all of it is called here")]
#[path = "../../src/client/protocol.rs"]
mod client_protocol;
#[allow(dead_code, missing_docs, reason = "not all of it is called here")]
#[path = "../../src/node/protocol.rs"]
mod node_protocol;
#[allow(dead_code, missing_docs, reason = "not all of it is called here")]
#[path = "../../src/warden/request.rs"]
mod request;
mod warden {
    pub(crate) use crate::request::Request;
}
#[allow(dead_code, missing_docs, reason = "not all of it is called here")]
#[path = "../../worker/src/turns/words.rs"]
mod words;
