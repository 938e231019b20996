//! The key under which an attempt writes, before its outputs are sealed.
//!
//! It exists in one process's memory and nowhere else; so do the nonces and tags. If that process dies, what it wrote is noise, and the
//! attempt never happened. Blocks are rewritten in place, each time under a new nonce.
//!
//! Nonces count (the deterministic construction of NIST SP 800-38D, 8.2.1), so none repeats. A key seals at most 2^32 blocks, which
//! keeps what AES's 128-bit block gives away below 2^-40 for 64 KiB blocks; an attempt writes up to 256 TiB before that.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    Error,
    cipher::{Cipher, TAG_LEN, counting_nonce},
    random::{Random, draw},
};

const WHAT: &str = "a block of a file being written";

/// How many blocks one key may seal.
const SEALS_MAX: u64 = 1 << 32;

/// The key. Never leaves the process.
pub struct WorkingKey {
    cipher: Cipher,
    sealed: AtomicU64,
}

/// What opens one stored block together with the key: kept in memory only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    nonce: u32,
    tag: [u8; TAG_LEN],
}

impl WorkingKey {
    /// A new key.
    pub fn generate(rng: &dyn Random) -> Result<Self, Error> {
        Ok(Self {
            cipher: Cipher::new(&*draw(rng)?),
            sealed: AtomicU64::new(0),
        })
    }

    /// Encrypts block `index` of file `file` in place.
    pub fn seal_block(&self, file: u64, index: u64, bytes: &mut [u8]) -> Result<Seal, Error> {
        let number = self.sealed.fetch_add(1, Ordering::Relaxed);
        // The counter is wider than the limit: it would take 2^64 refused calls to come around.
        let nonce = u32::try_from(number).map_err(|_| Error::Exhausted)?;
        const { assert!(SEALS_MAX - 1 == u32::MAX as u64) };
        let tag = self
            .cipher
            .seal(WHAT, counting_nonce(number), &place(file, index), bytes)?;
        Ok(Seal { nonce, tag })
    }

    /// Decrypts block `index` of file `file` in place; wipes it if it is not what was sealed there last.
    pub fn open_block(
        &self,
        file: u64,
        index: u64,
        seal: &Seal,
        bytes: &mut [u8],
    ) -> Result<(), Error> {
        let nonce = counting_nonce(seal.nonce.into());
        self.cipher
            .open(WHAT, nonce, &place(file, index), bytes, &seal.tag)
    }
}

fn place(file: u64, index: u64) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&file.to_be_bytes());
    out[8..].copy_from_slice(&index.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::testing::Counting;

    fn key(seed: u64) -> WorkingKey {
        WorkingKey::generate(&Counting::from(seed)).unwrap()
    }

    #[test]
    fn a_block_opens_where_it_was_written_only() {
        let key = key(1);
        let mut stored = *b"scanline";
        let seal = key.seal_block(3, 9, &mut stored).unwrap();
        assert_ne!(&stored, b"scanline");
        let open = |file, index, seal: &Seal, mut bytes: Vec<u8>| {
            key.open_block(file, index, seal, &mut bytes)
                .map(|()| bytes)
        };
        assert_eq!(open(3, 9, &seal, stored.into()).unwrap(), b"scanline");
        let refused = Err(Error::NotAuthentic { what: WHAT });
        assert_eq!(open(4, 9, &seal, stored.into()), refused);
        assert_eq!(open(3, 8, &seal, stored.into()), refused);
        assert_eq!(open(3, 9, &seal, stored[..7].into()), refused);
        for bit in 0..64 {
            let mut flipped = stored;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(3, 9, &seal, flipped.into()), refused);
        }
        let mut other = *b"scanline";
        assert!(
            super::tests::key(2)
                .open_block(3, 9, &seal, &mut other)
                .is_err()
        );
    }

    #[test]
    fn yesterdays_block_is_not_todays() {
        let key = key(1);
        let (mut old, mut new) = (*b"version 1", *b"version 2");
        let first = key.seal_block(0, 0, &mut old).unwrap();
        let second = key.seal_block(0, 0, &mut new).unwrap();
        assert_ne!(first.nonce, second.nonce);
        assert!(key.open_block(0, 0, &second, &mut old.clone()).is_err());
        key.open_block(0, 0, &second, &mut new).unwrap();
        assert_eq!(&new, b"version 2");
    }

    #[test]
    fn a_key_stops_before_a_nonce_repeats() {
        let key = key(1);
        key.sealed.store(SEALS_MAX - 1, Ordering::Relaxed);
        assert!(key.seal_block(0, 0, &mut [0; 4]).is_ok());
        for _ in 0..3 {
            assert_eq!(key.seal_block(0, 0, &mut [0; 4]), Err(Error::Exhausted));
        }
    }
}
