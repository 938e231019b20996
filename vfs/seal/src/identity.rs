//! Who signs, and who may receive.
//!
//! Ed25519 (RFC 8032) to sign; X25519 (RFC 7748) to receive. Every signature is over a message that begins with its context, so that no
//! signature made for one purpose can be shown for another.

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use safelight_policies::id::{KemKey, VerifyKey};
use zeroize::Zeroizing;

use crate::{
    Error,
    job_key::kem,
    random::{Random, draw},
};

/// What is signed: `"safelight v1 "`, the context, a zero byte, the bytes. Contexts are constants of ours, never a peer's, and hold no zero byte.
fn message(context: &str, bytes: &[u8]) -> Vec<u8> {
    [b"safelight v1 ", context.as_bytes(), &[0], bytes].concat()
}

/// An Ed25519 secret. Wiped when dropped.
pub struct SigningSecret {
    seed: Zeroizing<[u8; 32]>,
    public: VerifyKey,
}

impl SigningSecret {
    /// A new secret.
    pub fn generate(rng: &dyn Random) -> Result<Self, Error> {
        Ok(Self::from_seed(draw(rng)?))
    }

    /// The secret with this seed (RFC 8032, 5.1.5).
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self::from_seed(Zeroizing::new(*seed))
    }

    pub(crate) fn from_seed(seed: Zeroizing<[u8; 32]>) -> Self {
        let mut public = [0; 32];
        public.copy_from_slice(pair(&seed).public_key().as_ref());
        Self {
            seed,
            public: VerifyKey(public),
        }
    }

    /// The seed, for a file that only its owner can read.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.seed.clone()
    }

    /// The public half.
    pub fn public(&self) -> VerifyKey {
        self.public
    }

    /// Signs `bytes` for one purpose.
    pub fn sign(&self, context: &str, bytes: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        out.copy_from_slice(pair(&self.seed).sign(&message(context, bytes)).as_ref());
        out
    }
}

/// Made for each use: ring's pair is not wiped when dropped, so none is kept.
#[expect(clippy::expect_used, reason = "ring refuses a wrong seed length only")]
fn pair(seed: &[u8; 32]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("a 32 byte seed")
}

/// Checks a signature that was made for `context`.
pub fn verify(
    context: &str,
    key: &VerifyKey,
    bytes: &[u8],
    signature: &[u8; 64],
) -> Result<(), Error> {
    UnparsedPublicKey::new(&ED25519, key.0)
        .verify(&message(context, bytes), signature)
        .map_err(|_| Error::NotAuthentic {
            what: "a signature",
        })
}

/// An X25519 secret. Wiped when dropped.
pub struct KemSecret(Zeroizing<[u8; 32]>);

impl KemSecret {
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

    /// The public half.
    pub fn public(&self) -> KemKey {
        kem::public(&self.0)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::testing::{Counting, Dry};

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .unwrap()
            .try_into()
            .unwrap()
    }

    /// RFC 8032, 7.1, test 1, and RFC 7748, 6.1 (Alice).
    #[test]
    fn public_halves_are_those_of_the_rfcs() {
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(SigningSecret::from_bytes(&seed).public(), VerifyKey(public));
        let alice = hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
        let hers = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        assert_eq!(KemSecret::from_bytes(&alice).public(), KemKey(hers));
    }

    #[test]
    fn a_signature_holds_for_its_context_key_and_bytes_only() {
        let rng = Counting::from(1);
        let mine = SigningSecret::generate(&rng).unwrap();
        let other = SigningSecret::generate(&rng).unwrap();
        let signature = mine.sign("lease", b"bytes");
        assert_eq!(
            verify("lease", &mine.public(), b"bytes", &signature),
            Ok(())
        );
        let refused = Err(Error::NotAuthentic {
            what: "a signature",
        });
        assert_eq!(
            verify("envelope", &mine.public(), b"bytes", &signature),
            refused
        );
        assert_eq!(
            verify("lease", &other.public(), b"bytes", &signature),
            refused
        );
        assert_eq!(
            verify("lease", &mine.public(), b"bytez", &signature),
            refused
        );
        // A context's end is marked: nothing moves between it and the bytes.
        assert_eq!(
            verify("leas", &mine.public(), b"e\0bytes", &signature),
            refused
        );
        for bit in 0..512 {
            let mut flipped = signature;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                verify("lease", &mine.public(), b"bytes", &flipped),
                refused,
                "bit {bit}"
            );
        }
    }

    #[test]
    fn secrets_read_back_and_need_randomness() {
        let rng = Counting::from(2);
        let sign = SigningSecret::generate(&rng).unwrap();
        assert_eq!(
            SigningSecret::from_bytes(&sign.to_bytes()).public(),
            sign.public()
        );
        let kem = KemSecret::generate(&rng).unwrap();
        assert_eq!(
            KemSecret::from_bytes(&kem.to_bytes()).public(),
            kem.public()
        );
        assert!(SigningSecret::generate(&Dry).is_err());
        assert!(KemSecret::generate(&Dry).is_err());
    }
}
