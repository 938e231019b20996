//! The secrets of a client, and the file that keeps them.
//!
//! The file is binary and not encrypted: its protection is that it never leaves the client's own account (mode 0600). Its checksum
//! tells a damaged file from a wrong one; it is no signature.
//!
//! One file holds what a rotation still needs of older keys, so that replacing the file is all that a rotation does at any instant:
//! whoever reads it before or after can open every job.

use safelight_policies::id::VerifyKey;
use zeroize::Zeroizing;

use crate::{
    Error,
    identity::{KemSecret, SigningSecret},
    random::Random,
    segment::DedupKey,
};

const WHAT: &str = "a client key file";
const MAGIC: [u8; 7] = *b"SLCLKEY";
const VERSION: u8 = 1;
const CHECKSUM_LEN: usize = 16;
const HEADER_LEN: usize = 16;

/// The most receiving keys of a file, the present one counted; also the most former signing keys.
pub const KEYS_MAX: usize = 64;

/// Everything that makes a client this client.
pub struct ClientSecret {
    /// Signs envelopes, manifests and debug grants.
    pub sign: SigningSecret,
    /// Receives job keys of the client's own jobs.
    pub kem: KemSecret,
    /// Makes equal plaintexts of this client equal objects.
    pub dedup: DedupKey,
    /// Receiving keys of before, newest first: they open jobs that were not wrapped anew yet.
    pub former_kem: Vec<KemSecret>,
    /// Signing keys of before, newest first, their public halves only: they verify what was signed then.
    pub former_sign: Vec<VerifyKey>,
}

impl ClientSecret {
    /// New secrets.
    pub fn generate(rng: &dyn Random) -> Result<Self, Error> {
        Ok(Self {
            sign: SigningSecret::generate(rng)?,
            kem: KemSecret::generate(rng)?,
            dedup: DedupKey::generate(rng)?,
            former_kem: Vec::new(),
            former_sign: Vec::new(),
        })
    }

    /// Puts new keys in the place of the present ones, which become former ones; the signing key only if `signing`.
    pub fn rotate(&mut self, signing: bool, rng: &dyn Random) -> Result<(), Error> {
        if self.former_kem.len() + 1 >= KEYS_MAX || self.former_sign.len() >= KEYS_MAX {
            return Err(Error::TooLarge {
                what: "a list of former keys",
                len: KEYS_MAX as u64,
                max: KEYS_MAX as u64 - 1,
            });
        }
        let (kem, dedup) = (KemSecret::generate(rng)?, DedupKey::generate(rng)?);
        if signing {
            let sign = SigningSecret::generate(rng)?;
            let former = std::mem::replace(&mut self.sign, sign);
            self.former_sign.insert(0, former.public());
        }
        self.dedup = dedup;
        let former = std::mem::replace(&mut self.kem, kem);
        self.former_kem.insert(0, former);
        Ok(())
    }

    /// Every key that opens something of this client's, the present one first.
    pub fn receiving(&self) -> impl Iterator<Item = &KemSecret> {
        std::iter::once(&self.kem).chain(&self.former_kem)
    }

    /// Every key that this client signed with, the present one first.
    pub fn signing(&self) -> impl Iterator<Item = VerifyKey> {
        std::iter::once(self.sign.public()).chain(self.former_sign.iter().copied())
    }

    /// The file's bytes.
    pub fn to_file_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (kems, signs) = (1 + self.former_kem.len(), self.former_sign.len());
        let len = file_len(kems, signs);
        let mut out = Zeroizing::new(Vec::with_capacity(len));
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, kems as u8, signs as u8, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&self.sign.to_bytes()[..]);
        out.extend_from_slice(&self.dedup.to_bytes()[..]);
        for secret in self.receiving() {
            out.extend_from_slice(&secret.to_bytes()[..]);
        }
        for key in &self.former_sign {
            out.extend_from_slice(&key.0);
        }
        let checksum = checksum(&out);
        out.extend_from_slice(&checksum);
        debug_assert_eq!(out.len(), len);
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
        let (body, found) = bytes
            .split_last_chunk::<CHECKSUM_LEN>()
            .filter(|(body, _)| body.len() >= HEADER_LEN)
            .ok_or(malformed("it is too short"))?;
        if checksum(body) != *found {
            return Err(Error::Damaged { what: WHAT });
        }
        let (kems, signs) = (usize::from(body[8]), usize::from(body[9]));
        if !(1..=KEYS_MAX).contains(&kems) || signs > KEYS_MAX || body[10..HEADER_LEN] != [0; 6] {
            return Err(malformed("its header says what no header may"));
        }
        if bytes.len() != file_len(kems, signs) {
            return Err(malformed("it is too short or too long"));
        }
        let (keys, _) = body[HEADER_LEN..].as_chunks::<32>();
        let (secrets, former_sign) = keys.split_at(2 + kems);
        let mut kems = secrets[2..].iter().map(KemSecret::from_bytes);
        Ok(Self {
            sign: SigningSecret::from_bytes(&secrets[0]),
            dedup: DedupKey::from_bytes(&secrets[1]),
            kem: kems.next().ok_or(malformed("it has no receiving key"))?,
            former_kem: kems.collect(),
            former_sign: former_sign.iter().copied().map(VerifyKey).collect(),
        })
    }
}

/// Bytes of a file with this many receiving and former signing keys.
fn file_len(kems: usize, signs: usize) -> usize {
    HEADER_LEN + 32 * (2 + kems + signs) + CHECKSUM_LEN
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

    fn same(a: &ClientSecret, b: &ClientSecret) -> bool {
        let kems = |it: &ClientSecret| it.receiving().map(KemSecret::public).collect::<Vec<_>>();
        kems(a) == kems(b)
            && a.signing().eq(b.signing())
            && a.dedup.to_bytes() == b.dedup.to_bytes()
    }

    #[test]
    fn a_client_reads_back_with_what_it_was() {
        let rng = Counting::from(3);
        let mut client = ClientSecret::generate(&rng).unwrap();
        assert_eq!(client.to_file_bytes().len(), 128);
        for signing in [false, true, false] {
            let (kem, sign) = (client.kem.public(), client.sign.public());
            client.rotate(signing, &rng).unwrap();
            assert_eq!(client.former_kem[0].public(), kem);
            assert_eq!(client.sign.public() != sign, signing);
            let bytes = client.to_file_bytes();
            assert!(same(
                &client,
                &ClientSecret::from_file_bytes(&bytes).unwrap()
            ));
        }
        assert_eq!((client.former_kem.len(), client.former_sign.len()), (3, 1));
    }

    #[test]
    fn a_client_rotates_no_further_than_its_file_can_say() {
        let rng = Counting::from(5);
        let mut client = ClientSecret::generate(&rng).unwrap();
        while client.former_kem.len() + 1 < KEYS_MAX {
            client.rotate(true, &rng).unwrap();
        }
        let full = client.to_file_bytes();
        assert!(matches!(
            client.rotate(true, &rng),
            Err(Error::TooLarge { .. })
        ));
        assert_eq!(client.to_file_bytes(), full, "it is as it was");
        assert!(same(
            &client,
            &ClientSecret::from_file_bytes(&full).unwrap()
        ));
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

    #[test]
    fn a_header_that_lies_is_refused_though_its_checksum_holds() {
        let bytes = ClientSecret::generate(&Counting::from(4))
            .unwrap()
            .to_file_bytes();
        for (at, value) in [(8, 0), (8, 2), (8, 65), (9, 1), (9, 65), (10, 1), (15, 1)] {
            let mut body = bytes[..bytes.len() - CHECKSUM_LEN].to_vec();
            body[at] = value;
            let sum = checksum(&body);
            body.extend_from_slice(&sum);
            let error = ClientSecret::from_file_bytes(&body).err().unwrap();
            assert!(
                matches!(error, Error::Malformed { .. }),
                "{at} {value}: {error}"
            );
        }
    }
}
