//! The secrets of a client, and the file that keeps them.
//!
//! The file is binary and not encrypted: its protection is that it never leaves the client's own account (mode 0600). Its checksum
//! tells a damaged file from a wrong one; it is no signature.

use zeroize::{Zeroize, Zeroizing};

use crate::{
    Error,
    identity::{KemSecret, SigningSecret},
    random::Random,
    segment::DedupKey,
};

const WHAT: &str = "a client key file";
const MAGIC: [u8; 7] = *b"SLCLKEY";
const VERSION: u8 = 0;
const CHECKSUM_LEN: usize = 16;

/// Bytes of a key file: magic, version, three secrets, checksum.
pub const FILE_LEN: usize = 8 + 3 * 32 + CHECKSUM_LEN;

/// Everything that makes a client this client.
pub struct ClientSecret {
    /// Signs envelopes, manifests and debug grants.
    pub sign: SigningSecret,
    /// Receives job keys of the client's own jobs.
    pub kem: KemSecret,
    /// Makes equal plaintexts of this client equal objects.
    pub dedup: DedupKey,
}

impl ClientSecret {
    /// New secrets.
    pub fn generate(rng: &dyn Random) -> Result<Self, Error> {
        Ok(Self {
            sign: SigningSecret::generate(rng)?,
            kem: KemSecret::generate(rng)?,
            dedup: DedupKey::generate(rng)?,
        })
    }

    /// The file's bytes.
    pub fn to_file_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(FILE_LEN));
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&self.sign.to_bytes()[..]);
        out.extend_from_slice(&self.kem.to_bytes()[..]);
        out.extend_from_slice(&self.dedup.to_bytes()[..]);
        let checksum = checksum(&out);
        out.extend_from_slice(&checksum);
        out
    }

    /// Reads a file's bytes.
    pub fn from_file_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = |reason| Error::Malformed { what: WHAT, reason };
        let rest = bytes
            .strip_prefix(&MAGIC)
            .ok_or(malformed("it does not begin like one"))?;
        match rest.first() {
            Some(&VERSION) => {}
            Some(&found) => {
                return Err(Error::Version {
                    what: WHAT,
                    found,
                    known: VERSION,
                });
            }
            None => return Err(malformed("it is too short")),
        }
        if bytes.len() != FILE_LEN {
            return Err(malformed("it is too short or too long"));
        }
        let (body, found) = bytes.split_at(FILE_LEN - CHECKSUM_LEN);
        if checksum(body) != found {
            return Err(Error::Damaged { what: WHAT });
        }
        let mut secret = [0; 32];
        let mut take = |at: usize| {
            secret.copy_from_slice(&body[8 + 32 * at..][..32]);
            secret
        };
        let client = Self {
            sign: SigningSecret::from_bytes(&Zeroizing::new(take(0))),
            kem: KemSecret::from_bytes(&Zeroizing::new(take(1))),
            dedup: DedupKey::from_bytes(&Zeroizing::new(take(2))),
        };
        secret.zeroize();
        Ok(client)
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut out = [0; CHECKSUM_LEN];
    out.copy_from_slice(&blake3::hash(body).as_bytes()[..CHECKSUM_LEN]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::testing::Counting;

    #[test]
    fn a_client_reads_back() {
        let client = ClientSecret::generate(&Counting::from(3)).unwrap();
        let bytes = client.to_file_bytes();
        assert_eq!(bytes.len(), FILE_LEN);
        let again = ClientSecret::from_file_bytes(&bytes).unwrap();
        assert_eq!(again.sign.public(), client.sign.public());
        assert_eq!(again.kem.public(), client.kem.public());
        assert_eq!(again.dedup.to_bytes()[..], client.dedup.to_bytes()[..]);
    }

    #[test]
    fn damage_is_told_from_another_kind_or_version() {
        let bytes = ClientSecret::generate(&Counting::from(4))
            .unwrap()
            .to_file_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = ClientSecret::from_file_bytes(&flipped).err().unwrap();
            let expected = match bit / 8 {
                0..=6 => matches!(error, Error::Malformed { .. }),
                7 => matches!(error, Error::Version { .. }),
                _ => matches!(error, Error::Damaged { .. }),
            };
            assert!(expected, "bit {bit}: {error}");
        }
        for len in 0..bytes.len() {
            assert!(
                ClientSecret::from_file_bytes(&bytes[..len]).is_err(),
                "{len}"
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(ClientSecret::from_file_bytes(&longer).is_err());
    }
}
