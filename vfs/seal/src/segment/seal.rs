//! Sealing: one pass in which each block is copied, encrypted in place and hashed while it is in the cache.

use safelight_policies::id::ObjectId;

use super::{
    BLOCK, HEADER_LEN, OpenKey, SEGMENT_MAX, SegmentKey, TAG_LEN,
    header::{Header, PREFIX_LEN, SAID_LEN, WHAT, block_aad},
};
use crate::{
    Error,
    cipher::{Cipher, counting_nonce},
    kdf::derive_committed,
};

/// A sealed segment.
pub struct SealedSegment {
    /// Its name: the hash of its bytes.
    pub id: ObjectId,
    /// What opens it.
    pub key: OpenKey,
    /// What is stored and carried.
    pub bytes: Vec<u8>,
}

/// Seals 1 to [`SEGMENT_MAX`] bytes.
pub fn seal_segment(key: SegmentKey, plaintext: &[u8]) -> Result<SealedSegment, Error> {
    let mut bytes = Vec::new();
    let (id, key) = seal_segment_into(key, plaintext, &mut bytes)?;
    Ok(SealedSegment { id, key, bytes })
}

/// Seals into `out`, which is cleared first and keeps its memory for the next segment.
pub fn seal_segment_into(
    key: SegmentKey,
    plaintext: &[u8],
    out: &mut Vec<u8>,
) -> Result<(ObjectId, OpenKey), Error> {
    out.clear();
    let header = survey(plaintext)?;
    let layout = header.layout();
    out.reserve(layout.file_len as usize);
    let (cipher, said) = start(&key.0, &header);
    out.extend_from_slice(&said);
    out.resize(HEADER_LEN, 0);
    let mut name = blake3::Hasher::new();
    name.update(out);

    let mut tags = Vec::with_capacity(layout.tags_len);
    let last = header.blocks() - 1;
    for (index, block) in plaintext.chunks(BLOCK).enumerate() {
        if header.is_hole(index) {
            continue;
        }
        let at = out.len();
        out.extend_from_slice(block);
        let stored = &mut out[at..];
        let aad = block_aad(&said, index == last);
        let tag = cipher.seal(WHAT, counting_nonce(index as u64), &aad, stored)?;
        name.update(stored);
        tags.extend_from_slice(&tag);
    }
    debug_assert_eq!(tags.len(), layout.stored_blocks as usize * TAG_LEN);
    name.update(&tags);
    out.extend_from_slice(&tags);
    Ok((ObjectId(*name.finalize().as_bytes()), OpenKey(key.0)))
}

/// The header of a segment with this plaintext.
fn survey(plaintext: &[u8]) -> Result<Header, Error> {
    if plaintext.is_empty() {
        return Err(Error::Malformed {
            what: WHAT,
            reason: "an empty file has no segment",
        });
    }
    if plaintext.len() > SEGMENT_MAX {
        return Err(Error::TooLarge {
            what: WHAT,
            len: plaintext.len() as u64,
            max: SEGMENT_MAX as u64,
        });
    }
    let mut header = Header {
        len: plaintext.len() as u32,
        holes: [0; 4],
    };
    for (index, block) in plaintext.chunks(BLOCK).enumerate() {
        if is_zero(block) {
            header.set_hole(index);
        }
    }
    Ok(header)
}

/// Looks at 256 bytes at a time: data is told from a hole at its first such piece.
fn is_zero(block: &[u8]) -> bool {
    block
        .chunks(256)
        .all(|piece| piece.iter().fold(0, |any, &byte| any | byte) == 0)
}

/// The cipher, and all that the header says: prefix, then commitment.
pub(super) fn start(key: &[u8; 32], header: &Header) -> (Cipher, [u8; SAID_LEN]) {
    let prefix = header.prefix();
    let (key, commitment) = derive_committed(key, b"", &[b"safelight v1 segment", &prefix]);
    let mut said = [0; SAID_LEN];
    said[..PREFIX_LEN].copy_from_slice(&prefix);
    said[PREFIX_LEN..].copy_from_slice(&commitment);
    (Cipher::new(&key), said)
}
