//! The header page: what a segment holds and where, checked before any key is used.
//!
//! Everything here is hostile until the commitment holds. Nothing is allocated by what it says.

use super::{BLOCK, BLOCKS_MAX, HEADER_LEN, SEGMENT_MAX, TAG_LEN};
use crate::{Error, cipher::AES_256_GCM_ID};

pub(super) const WHAT: &str = "a segment";
const MAGIC: [u8; 8] = *b"SLSEGMNT";
const VERSION: u8 = 1;
const BLOCK_LOG2: u8 = 16;

const _: () = assert!(BLOCK == 1 << BLOCK_LOG2 && BLOCKS_MAX == 256);

/// Bytes of the header that say something; the rest of the page is zero.
pub(super) const SAID_LEN: usize = PREFIX_LEN + 32;
/// Bytes before the commitment: they are in the derivation of the cipher key.
pub(super) const PREFIX_LEN: usize = 48;

/// Where the parts of a segment's file are. Not authentic before [`super::Segment::open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of plaintext, holes included: 1 to [`SEGMENT_MAX`].
    pub plaintext_len: u32,
    /// Number of blocks that are stored.
    pub stored_blocks: u32,
    /// Offset of the tag table.
    pub tags_at: u64,
    /// Bytes of the tag table, at most 4,096.
    pub tags_len: usize,
    /// Bytes of the whole file: no more, no less.
    pub file_len: u64,
}

/// Reads a header page and says where the parts are.
pub fn layout(page: &[u8; HEADER_LEN]) -> Result<Layout, Error> {
    Header::parse(page).map(|header| header.layout())
}

/// The part of the header that is known before the key: length and holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len: u32,
    /// Bit `i % 64` of word `i / 64` is set if block `i` is a hole.
    pub(super) holes: [u64; 4],
}

impl Header {
    pub(super) fn prefix(&self) -> [u8; PREFIX_LEN] {
        let mut out = [0; PREFIX_LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&[VERSION, AES_256_GCM_ID, BLOCK_LOG2, 0]);
        out[12..16].copy_from_slice(&self.len.to_le_bytes());
        for (place, word) in out[16..].chunks_exact_mut(8).zip(self.holes) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    pub(super) fn parse(page: &[u8; HEADER_LEN]) -> Result<Self, Error> {
        let malformed = |reason| Error::Malformed { what: WHAT, reason };
        if page[..8] != MAGIC {
            return Err(malformed("it does not begin like one"));
        }
        if page[8] != VERSION {
            return Err(Error::Version {
                what: WHAT,
                found: page[8],
                known: VERSION,
            });
        }
        if page[9..12] != [AES_256_GCM_ID, BLOCK_LOG2, 0] {
            return Err(malformed("its cipher, block size or flags are unknown"));
        }
        if page[SAID_LEN..].iter().any(|&byte| byte != 0) {
            return Err(malformed("its header page is not zero to the end"));
        }
        let len = u32::from_le_bytes([page[12], page[13], page[14], page[15]]);
        if len == 0 || len as usize > SEGMENT_MAX {
            return Err(malformed("its length is out of bounds"));
        }
        let mut holes = [0; 4];
        for (word, bytes) in holes.iter_mut().zip(page[16..PREFIX_LEN].chunks_exact(8)) {
            let mut le = [0; 8];
            le.copy_from_slice(bytes);
            *word = u64::from_le_bytes(le);
        }
        let header = Self { len, holes };
        if (header.blocks()..BLOCKS_MAX).any(|index| header.is_hole(index)) {
            return Err(malformed("it has a hole after its end"));
        }
        Ok(header)
    }

    /// Number of blocks, holes included; at least one.
    pub(super) fn blocks(&self) -> usize {
        (self.len as usize).div_ceil(BLOCK)
    }

    pub(super) fn is_hole(&self, index: usize) -> bool {
        self.holes[index / 64] >> (index % 64) & 1 == 1
    }

    pub(super) fn set_hole(&mut self, index: usize) {
        self.holes[index / 64] |= 1 << (index % 64);
    }

    /// Bytes of plaintext in block `index`.
    pub(super) fn block_len(&self, index: usize) -> usize {
        (self.len as usize - index * BLOCK).min(BLOCK)
    }

    /// Number of stored blocks before block `index`: its place in the file and in the tag table.
    pub(super) fn rank(&self, index: usize) -> usize {
        let (word, bit) = (index / 64, index % 64);
        let whole: u32 = self.holes[..word].iter().map(|w| w.count_ones()).sum();
        let part = if bit == 0 {
            0
        } else {
            (self.holes[word] << (64 - bit)).count_ones()
        };
        index - (whole + part) as usize
    }

    pub(super) fn layout(&self) -> Layout {
        let blocks = self.blocks();
        let holes: u32 = self.holes.iter().map(|word| word.count_ones()).sum();
        let stored = blocks - holes as usize;
        let last = blocks - 1;
        let missing = if self.is_hole(last) {
            0
        } else {
            BLOCK - self.block_len(last)
        };
        let tags_at = (HEADER_LEN + stored * BLOCK - missing) as u64;
        let tags_len = stored * TAG_LEN;
        Layout {
            plaintext_len: self.len,
            stored_blocks: stored as u32,
            tags_at,
            tags_len,
            file_len: tags_at + tags_len as u64,
        }
    }
}

/// The additional data of a block: all the header says, then 1 for the segment's last block and 0 for any other.
pub(super) fn block_aad(said: &[u8; SAID_LEN], last: bool) -> [u8; SAID_LEN + 1] {
    let mut out = [0; SAID_LEN + 1];
    out[..SAID_LEN].copy_from_slice(said);
    out[SAID_LEN] = u8::from(last);
    out
}
