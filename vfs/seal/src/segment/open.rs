//! Opening: the header and the tags once, then any block in place, in any order, from any thread.

use subtle::ConstantTimeEq;

use super::{
    BLOCK, HEADER_LEN, OpenKey, TAG_LEN,
    header::{Header, SAID_LEN, WHAT, block_aad},
    seal::start,
};
use crate::{
    Error,
    cipher::{Cipher, counting_nonce},
};

/// An open segment: its header is authentic, its blocks are verified one by one as they are opened.
pub struct Segment {
    cipher: Cipher,
    header: Header,
    said: [u8; SAID_LEN],
    tags: Box<[[u8; TAG_LEN]]>,
}

/// Where a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// All zero, and not stored.
    Hole {
        /// Bytes of plaintext.
        len: usize,
    },
    /// In the file. Stored blocks follow one another: one read of several places gives several blocks.
    Stored {
        /// Offset in the segment's file.
        offset: u64,
        /// Bytes of ciphertext, and of plaintext.
        len: usize,
    },
}

impl Segment {
    /// Opens a segment by its header page and its tag table, which is where [`super::layout`] says.
    pub fn open(key: &OpenKey, page: &[u8; HEADER_LEN], tags: &[u8]) -> Result<Self, Error> {
        let header = Header::parse(page)?;
        let (cipher, said) = start(key.bytes(), &header);
        if !bool::from(said.ct_eq(&page[..SAID_LEN])) {
            return Err(Error::NotAuthentic { what: WHAT });
        }
        let (chunks, rest) = tags.as_chunks::<TAG_LEN>();
        if !rest.is_empty() || tags.len() != header.layout().tags_len {
            return Err(Error::Malformed {
                what: WHAT,
                reason: "its tag table has another length",
            });
        }
        Ok(Self {
            cipher,
            header,
            said,
            tags: chunks.into(),
        })
    }

    /// Bytes of plaintext, holes included. Never zero.
    pub fn plaintext_len(&self) -> usize {
        self.header.len as usize
    }

    /// Number of blocks, holes included.
    pub fn blocks(&self) -> usize {
        self.header.blocks()
    }

    /// Where block `index` is; `None` after the end.
    pub fn place(&self, index: usize) -> Option<Place> {
        if index >= self.blocks() {
            return None;
        }
        let len = self.header.block_len(index);
        if self.header.is_hole(index) {
            return Some(Place::Hole { len });
        }
        let offset = (HEADER_LEN + self.header.rank(index) * BLOCK) as u64;
        Some(Place::Stored { offset, len })
    }

    /// Decrypts block `index` in place: `bytes` are its ciphertext and no more. For a hole, `bytes` become zero.
    ///
    /// If the block is not authentic, `bytes` are wiped.
    pub fn open_block(&self, index: usize, bytes: &mut [u8]) -> Result<(), Error> {
        let wrong = Error::Malformed {
            what: WHAT,
            reason: "a block of another length was asked for",
        };
        match self.place(index) {
            Some(Place::Hole { len }) if len == bytes.len() => {
                bytes.fill(0);
                Ok(())
            }
            Some(Place::Stored { len, .. }) if len == bytes.len() => {
                let aad = block_aad(&self.said, index + 1 == self.blocks());
                let tag = &self.tags[self.header.rank(index)];
                self.cipher
                    .open(WHAT, counting_nonce(index as u64), &aad, bytes, tag)
            }
            _ => Err(wrong),
        }
    }
}
