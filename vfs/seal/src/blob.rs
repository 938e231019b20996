//! Small things sealed whole under a job key: manifests, the recipe, task logs.
//!
//! Every blob has its own key, derived from the job key with a fresh 32-byte salt; its purpose and the caller's context are in the
//! derivation, so a blob opens for its purpose and place only. The header is authenticated and commits to the key.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    Error,
    cipher::{AES_256_GCM_ID, Cipher, TAG_LEN, counting_nonce},
    job_key::ReadKey,
    kdf::derive_committed,
    random::Random,
};

const WHAT: &str = "a sealed blob";
const MAGIC: [u8; 7] = *b"SLBLOB\0";
const VERSION: u8 = 1;

/// Bytes before the ciphertext: magic, version, cipher, purpose, two zero bytes, salt, commitment.
pub const HEADER_LEN: usize = 8 + 4 + 32 + 32;

/// How many bytes a blob is longer than what it holds.
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;

/// The most bytes a blob may hold: a manifest of about 1.5 million files.
pub const PLAINTEXT_MAX: usize = 256 << 20;

/// What a blob is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// The manifest of a job's inputs.
    InputManifest = 1,
    /// The recipe: template, parameters, commands, paths.
    Recipe = 2,
    /// The manifest of an attempt's outputs.
    ResultManifest = 3,
    /// What a task printed.
    TaskLog = 4,
    /// What the client's own process needs to bring results home.
    Home = 5,
    /// What the files of a job's inputs were like when they were read.
    Files = 6,
}

impl ReadKey {
    /// Seals `bytes` (at most [`PLAINTEXT_MAX`]) for one purpose and context.
    pub fn seal_blob(
        &self,
        purpose: Purpose,
        context: &[u8],
        bytes: &[u8],
        rng: &dyn Random,
    ) -> Result<Vec<u8>, Error> {
        check_len(bytes.len())?;
        let mut salt = [0; 32];
        rng.fill(&mut salt)?;
        let (cipher, commitment) = self.blob_key(purpose, context, &salt);
        let mut out = Vec::with_capacity(bytes.len() + OVERHEAD);
        out.extend_from_slice(&prefix(purpose));
        out.extend_from_slice(&salt);
        out.extend_from_slice(&commitment);
        out.extend_from_slice(bytes);
        let (header, body) = out.split_at_mut(HEADER_LEN);
        let tag = cipher.seal(WHAT, counting_nonce(0), header, body)?;
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// Opens a blob. The answer is plaintext: the caller keeps it no longer than it needs it.
    pub fn open_blob(
        &self,
        purpose: Purpose,
        context: &[u8],
        blob: &[u8],
    ) -> Result<Vec<u8>, Error> {
        check_len(blob.len().saturating_sub(OVERHEAD))?;
        let mut bytes = self.open_blob_in_place(purpose, context, blob.to_vec())?;
        Ok(std::mem::take(&mut *bytes))
    }

    /// Opens a blob in its own memory, for those that are too large to be there twice.
    pub fn open_blob_in_place(
        &self,
        purpose: Purpose,
        context: &[u8],
        mut blob: Vec<u8>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let malformed = |reason| Error::Malformed { what: WHAT, reason };
        check_len(blob.len().saturating_sub(OVERHEAD))?;
        let (header, rest) = blob
            .split_first_chunk_mut::<HEADER_LEN>()
            .ok_or(malformed("it is too short"))?;
        let (body, tag) = rest
            .split_last_chunk_mut::<TAG_LEN>()
            .ok_or(malformed("it is too short"))?;
        let (found, keyed) = header.split_at(12);
        if found[..7] != MAGIC {
            return Err(malformed("it does not begin like one"));
        }
        if found[7] != VERSION {
            return Err(Error::Version {
                what: WHAT,
                found: found[7],
                known: VERSION,
            });
        }
        if found != prefix(purpose) {
            return Err(malformed("its cipher or purpose is another"));
        }
        let (salt, commitment) = keyed.split_at(32);
        let (cipher, expected) = self.blob_key(purpose, context, salt);
        if !bool::from(expected.ct_eq(commitment)) {
            return Err(Error::NotAuthentic { what: WHAT });
        }
        cipher.open(WHAT, counting_nonce(0), header, body, tag)?;
        let mut blob = Zeroizing::new(blob);
        let end = blob.len() - TAG_LEN;
        blob.truncate(end);
        blob.drain(..HEADER_LEN);
        Ok(blob)
    }

    fn blob_key(&self, purpose: Purpose, context: &[u8], salt: &[u8]) -> (Cipher, [u8; 32]) {
        let info: [&[u8]; 3] = [b"safelight v1 blob", &[purpose as u8], context];
        let (key, commitment) = derive_committed(self.bytes(), salt, &info);
        (Cipher::new(&key), commitment)
    }
}

fn prefix(purpose: Purpose) -> [u8; 12] {
    let mut out = [0; 12];
    out[..7].copy_from_slice(&MAGIC);
    out[7..10].copy_from_slice(&[VERSION, AES_256_GCM_ID, purpose as u8]);
    out
}

fn check_len(len: usize) -> Result<(), Error> {
    if len > PLAINTEXT_MAX {
        return Err(Error::TooLarge {
            what: WHAT,
            len: len as u64,
            max: PLAINTEXT_MAX as u64,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        job_key::JobKey,
        random::testing::{Counting, Dry},
    };

    fn key(seed: u64) -> JobKey {
        JobKey::generate(&Counting::from(seed)).unwrap()
    }

    #[test]
    fn a_blob_opens_under_its_key_purpose_and_context_only() {
        let blob = key(1)
            .seal_blob(Purpose::Recipe, b"job", b"template", &Counting::from(99))
            .unwrap();
        assert_eq!(blob.len(), 8 + OVERHEAD);
        let open = |seed, purpose, context: &[u8]| key(seed).open_blob(purpose, context, &blob);
        assert_eq!(
            open(1, Purpose::Recipe, b"job").as_deref(),
            Ok(&b"template"[..])
        );
        let refused = Err(Error::NotAuthentic { what: WHAT });
        assert_eq!(open(2, Purpose::Recipe, b"job"), refused);
        assert_eq!(open(1, Purpose::Recipe, b"jo"), refused);
        for other in [
            Purpose::InputManifest,
            Purpose::ResultManifest,
            Purpose::TaskLog,
            Purpose::Home,
        ] {
            assert!(open(1, other, b"job").is_err());
            // The purpose is not only a label: relabelled, it does not open either.
            let mut relabelled = blob.clone();
            relabelled[9] = other as u8;
            assert_eq!(key(1).open_blob(other, b"job", &relabelled), refused);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_refused() {
        let key = key(3);
        let blob = key
            .seal_blob(Purpose::TaskLog, b"", b"Fra:1 Mem:2", &Counting::from(98))
            .unwrap();
        for bit in 0..blob.len() * 8 {
            let mut flipped = blob.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                key.open_blob(Purpose::TaskLog, b"", &flipped).is_err(),
                "bit {bit}"
            );
        }
        for len in 0..blob.len() {
            assert!(
                key.open_blob(Purpose::TaskLog, b"", &blob[..len]).is_err(),
                "{len}"
            );
        }
        let longer = [&blob[..], &[0]].concat();
        assert!(key.open_blob(Purpose::TaskLog, b"", &longer).is_err());
    }

    #[test]
    fn without_randomness_nothing_is_sealed() {
        let sealed = key(4).seal_blob(Purpose::Home, b"", b"x", &Dry);
        assert_eq!(sealed, Err(Error::NoRandomness));
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(bytes in proptest::collection::vec(any::<u8>(), 0..3000), context in ".*", seed in 0..1000u64) {
            let key = key(seed);
            let rng = Counting::from(seed + 5000);
            let a = key.seal_blob(Purpose::Home, context.as_bytes(), &bytes, &rng).unwrap();
            let b = key.seal_blob(Purpose::Home, context.as_bytes(), &bytes, &rng).unwrap();
            prop_assert_ne!(&a, &b);
            prop_assert_eq!(key.open_blob(Purpose::Home, context.as_bytes(), &a).unwrap(), bytes);
        }
    }
}
