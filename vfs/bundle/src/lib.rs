//! Envelopes, leases and prekeys: what travels signed between the parties. Verifies, and cannot open anything.
//!
//! A document is decoded only after its signature holds for the key that the caller expects, and handed out only after it was checked.
#![forbid(unsafe_code)]

mod envelope;
mod error;
mod lease;
mod outline;
mod prekey;
pub mod signed;

pub use envelope::{ENVELOPE_VERSION, Envelope, LIFE_MAX, SKEW};
pub use error::Error;
pub use prekey::Prekey;
pub use signed::{Document, claimed_signer, open, seal};

/// The name of an object with these bytes.
pub fn object_id(bytes: &[u8]) -> safelight_policies::id::ObjectId {
    safelight_policies::id::ObjectId(blake3::hash(bytes).into())
}
