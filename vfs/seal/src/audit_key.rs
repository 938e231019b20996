//! Seals audit records to the client and its auditor.
//!
//! A record is sealed under a synthetic nonce: 12 bytes of a keyed hash over the record's index and bytes, under a key of its own. Two
//! different records therefore never share a nonce, whatever a crash, a retry or a caller does with indices; only the same record at the
//! same index gives the same bytes. The index is authenticated. Good for 2^32 records of a session (2^-33 for any two nonces to meet).

use zeroize::Zeroizing;

use crate::{
    Error,
    cipher::{Cipher, TAG_LEN},
};

const WHAT: &str = "an audit record";
const NONCE_LEN: usize = 12;

/// How many bytes a sealed record is longer than the record.
pub const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// The longest record in bytes: what fits a channel message with room for the rest of it.
pub const RECORD_MAX: usize = 128 * 1024;

/// The key of one session's records. Wiped when dropped, but for ring's expanded copy.
pub struct AuditKey {
    cipher: Cipher,
    nonces: Zeroizing<[u8; 32]>,
}

impl AuditKey {
    pub(crate) fn new(keys: &[u8; 64]) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        let mut nonces = Zeroizing::new([0; 32]);
        key.copy_from_slice(&keys[..32]);
        nonces.copy_from_slice(&keys[32..]);
        Self {
            cipher: Cipher::new(&key),
            nonces,
        }
    }

    /// Seals the record with this index.
    pub fn seal(&self, index: u64, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        if bytes.len() > RECORD_MAX {
            return Err(Error::TooLarge {
                what: WHAT,
                len: bytes.len() as u64,
                max: RECORD_MAX as u64,
            });
        }
        self.seal_any(index, bytes)
    }

    fn seal_any(&self, index: u64, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce = self.nonce(index, bytes);
        let mut out = Vec::with_capacity(bytes.len() + OVERHEAD);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(bytes);
        let tag = self
            .cipher
            .seal(WHAT, nonce, &index.to_be_bytes(), &mut out[NONCE_LEN..])?;
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// Opens the record with this index.
    pub fn open(&self, index: u64, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.open_into(index, sealed, &mut bytes)?;
        Ok(bytes)
    }

    /// The same, in place of what was in `bytes`: for whoever opens many.
    pub fn open_into(&self, index: u64, sealed: &[u8], bytes: &mut Vec<u8>) -> Result<(), Error> {
        let short = Error::Malformed {
            what: WHAT,
            reason: "it is too short",
        };
        let (nonce, rest) = sealed.split_first_chunk().ok_or(short.clone())?;
        let (sealed, tag) = rest.split_last_chunk().ok_or(short)?;
        bytes.clear();
        bytes.extend_from_slice(sealed);
        self.cipher
            .open(WHAT, *nonce, &index.to_be_bytes(), bytes, tag)
    }

    fn nonce(&self, index: u64, bytes: &[u8]) -> [u8; NONCE_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(&self.nonces);
        hasher.update(&index.to_be_bytes()).update(bytes);
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&hasher.finalize().as_bytes()[..NONCE_LEN]);
        nonce
    }
}

/// Seals what is kept beside a log to find its records by: it names what they name. Each part has a number and its own key is the job's.
pub struct IndexKey(AuditKey);

impl IndexKey {
    pub(crate) fn new(keys: &[u8; 64]) -> Self {
        Self(AuditKey::new(keys))
    }

    /// Seals a part.
    pub fn seal(&self, number: u64, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.seal_any(number, bytes)
    }

    /// Opens a part.
    pub fn open(&self, number: u64, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.open(number, sealed)
    }
}

#[cfg(test)]
mod tests {
    use safelight_policies::id::SessionId;

    use super::*;
    use crate::{job_key::JobKey, random::testing::Counting};

    #[test]
    fn a_record_opens_at_its_index_in_its_session_only() {
        let job = JobKey::generate(&Counting::from(8)).unwrap();
        let key = job.audit_key(SessionId::from_random([1; 10]));
        let other = job.audit_key(SessionId::from_random([2; 10]));
        let sealed = key.seal(7, b"/mnt/central/a").unwrap();
        assert_eq!(sealed.len(), 14 + OVERHEAD);
        assert_eq!(key.open(7, &sealed).as_deref(), Ok(&b"/mnt/central/a"[..]));
        let refused = Err(Error::NotAuthentic { what: WHAT });
        assert_eq!(key.open(8, &sealed), refused);
        assert_eq!(other.open(7, &sealed), refused);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(7, &flipped), refused, "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(key.open(7, &sealed[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn an_index_is_as_long_as_it_is_and_opens_as_no_record() {
        let job = JobKey::generate(&Counting::from(8)).unwrap();
        let index = job.read_key().index_key();
        let long = vec![7; RECORD_MAX + 1];
        let sealed = index.seal(1, &long).unwrap();
        assert_eq!(index.open(1, &sealed), Ok(long));
        assert!(index.open(2, &sealed).is_err());
        let other = job.audit_key(SessionId::from_random([0; 10]));
        assert!(other.open(1, &sealed).is_err());
    }

    #[test]
    fn an_index_used_twice_does_not_repeat_a_nonce() {
        let job = JobKey::generate(&Counting::from(9)).unwrap();
        let key = job.audit_key(SessionId::from_random([1; 10]));
        let a = key.seal(0, b"one").unwrap();
        let b = key.seal(0, b"two").unwrap();
        assert_ne!(a[..NONCE_LEN], b[..NONCE_LEN]);
        assert!(key.seal(0, &vec![0; RECORD_MAX + 1]).is_err());
    }
}
