//! A segment: up to 16 MiB of a file as one immutable sealed object.
//!
//! ```text
//! header page, 4,096 bytes | stored blocks, ciphertext only, contiguous | tags, 16 bytes for each stored block
//! ```
//!
//! - Blocks are 64 KiB of plaintext; the last may be short. A block of zeros is a *hole*: not stored, but named in the header.
//! - A key seals one segment, once: [`SegmentKey`] can only be used up. So block numbers may be nonces.
//! - The header is in the derivation of the cipher key and in the additional data of every block, and commits to the key. Changing any of
//!   it, holes included, is found before a block is opened; also for a segment of holes only.
//! - A block's additional data says whether it is the last: blocks cannot be moved, dropped, added or swapped between segments.

mod header;
mod open;
mod seal;

use safelight_policies::id::ObjectId;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub use header::{Layout, layout};
pub use open::{Place, Segment};
pub use seal::{SealedSegment, seal_segment, seal_segment_into};

use crate::{
    Error,
    random::{Random, draw},
};

/// Bytes of plaintext in a block, but for the last.
pub const BLOCK: usize = 64 * 1024;
/// The most bytes of plaintext in a segment.
pub const SEGMENT_MAX: usize = 16 * 1024 * 1024;
/// Bytes of the header page; also where the first stored block begins.
pub const HEADER_LEN: usize = 4096;
/// Bytes of a tag in the tag table.
pub const TAG_LEN: usize = crate::cipher::TAG_LEN;

const BLOCKS_MAX: usize = SEGMENT_MAX / BLOCK;

/// The right to seal one segment. Used up by sealing; what remains is the [`OpenKey`].
pub struct SegmentKey(Zeroizing<[u8; 32]>);

impl SegmentKey {
    /// A random key: equal plaintexts become different objects.
    pub fn generate(rng: &dyn Random) -> Result<Self, Error> {
        Ok(Self(draw(rng)?))
    }
}

/// What opens one segment. Wiped when dropped; compared in constant time.
#[derive(Clone)]
pub struct OpenKey(Zeroizing<[u8; 32]>);

impl OpenKey {
    /// The key of a segment that is not stored at all: it opens nothing.
    pub fn none() -> Self {
        Self(Zeroizing::new([0; 32]))
    }

    /// The bytes, for a manifest.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }
}

impl PartialEq for OpenKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}
impl Eq for OpenKey {}

/// Makes equal plaintexts of one client equal objects, so that an unchanged file is sealed and shipped once.
///
/// The key of a segment is then a keyed hash of its plaintext: nobody without this secret can test a guess of the plaintext, and nothing
/// is shared between clients. What it gives away to the site is which objects of *this* client are equal.
pub struct DedupKey(Zeroizing<[u8; 32]>);

impl DedupKey {
    /// A new secret.
    pub fn generate(rng: &dyn Random) -> Result<Self, Error> {
        Ok(Self(draw(rng)?))
    }

    /// The secret with these bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// The bytes, for a file that only its owner can read.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// The key of the segment with exactly this plaintext.
    ///
    /// The plaintext must not change between this call and sealing, or one key would seal two plaintexts: pass memory that the caller
    /// owns, never a mapped file. [`seal_segment`] borrows it for the same reason.
    pub fn segment_key(&self, plaintext: &[u8]) -> SegmentKey {
        SegmentKey(Zeroizing::new(
            *blake3::keyed_hash(&self.0, plaintext).as_bytes(),
        ))
    }
}

/// The name of an object with these bytes.
pub fn object_id(bytes: &[u8]) -> ObjectId {
    ObjectId(*blake3::hash(bytes).as_bytes())
}

#[cfg(test)]
mod tests;
