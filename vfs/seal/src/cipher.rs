//! AES-256-GCM (NIST SP 800-38D): the only file that names a cipher.
//!
//! The caller owns nonce uniqueness. A buffer that does not open is wiped, so that no caller can use what was not verified.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use zeroize::Zeroize;

use crate::Error;

/// Identifies the cipher in file headers.
pub(crate) const AES_256_GCM_ID: u8 = 1;

/// Bytes of an authentication tag.
pub(crate) const TAG_LEN: usize = 16;

/// A key, expanded and ready. Holds key material: never printed. ring does not wipe it, so holders drop it early and a process that
/// held one ends by exiting.
pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    #[expect(clippy::expect_used, reason = "ring refuses a wrong key length only")]
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(LessSafeKey::new(
            UnboundKey::new(&AES_256_GCM, key).expect("a 32 byte key"),
        ))
    }

    /// Encrypts in place. `what` names the thing in the error.
    pub(crate) fn seal(
        &self,
        what: &'static str,
        nonce: [u8; 12],
        aad: &[u8],
        bytes: &mut [u8],
    ) -> Result<[u8; TAG_LEN], Error> {
        let len = bytes.len() as u64;
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), bytes)
            // SP 800-38D 5.2.1.1: at most 2^39-256 bits in one message; the only way to fail.
            .map_err(|_| Error::TooLarge {
                what,
                len,
                max: (1 << 36) - 32,
            })?;
        let mut out = [0; TAG_LEN];
        out.copy_from_slice(tag.as_ref());
        Ok(out)
    }

    /// Decrypts in place; wipes `bytes` if they are not authentic.
    pub(crate) fn open(
        &self,
        what: &'static str,
        nonce: [u8; 12],
        aad: &[u8],
        bytes: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Error> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self
            .0
            .open_in_place_separate_tag(nonce, Aad::from(aad), Tag::from(*tag), bytes, 0..)
            .is_ok();
        if opened {
            Ok(())
        } else {
            bytes.zeroize();
            Err(Error::NotAuthentic { what })
        }
    }
}

/// A nonce that counts: four zero bytes, then the number, big endian.
pub(crate) fn counting_nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 16 of McGrew and Viega, "The Galois/Counter Mode of Operation", the vectors that NIST points to.
    #[test]
    fn the_published_vector_holds() {
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let key = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
        let aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let mut bytes = hex(concat!(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72",
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
        ));
        let nonce = hex("cafebabefacedbaddecaf888").try_into().unwrap();
        let cipher = Cipher::new(&key.try_into().unwrap());
        let tag = cipher.seal("test", nonce, &aad, &mut bytes).unwrap();
        assert_eq!(tag[..], hex("76fc6ece0f4e1768cddf8853bb2d551b"));
        assert_eq!(
            bytes,
            hex(concat!(
                "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa",
                "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
            ))
        );
    }

    #[test]
    fn what_is_not_authentic_is_wiped() {
        let cipher = Cipher::new(&[1; 32]);
        let mut bytes = *b"a frame of a film";
        let tag = cipher.seal("test", [0; 12], b"", &mut bytes).unwrap();
        let refused = cipher.open("test", [0; 12], b"other", &mut bytes, &tag);
        assert_eq!(refused, Err(Error::NotAuthentic { what: "test" }));
        assert_eq!(bytes, [0; 17]);
    }
}
