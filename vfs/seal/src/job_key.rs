//! The one key of a job: how it travels, and what derives from it.
//!
//! HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. `info` binds a stanza to its purpose and job, so
//! that a stanza made for one recipient, job or purpose opens as no other. Every derived key has its own HKDF `info`.

use safelight_policies::id::{JobId, KemKey, SessionId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    Error,
    audit_key::AuditKey,
    identity::{KemSecret, SigningSecret},
    kdf::derive,
    random::{Random, draw},
};

/// Purpose of a stanza that the client can open, to read results and to debug at home.
pub const TO_CLIENT: &str = "client";
/// Purpose of a stanza to a one-time prekey of the render site's warden.
pub const TO_WARDEN: &str = "warden";
/// Purpose of a stanza to the ephemeral key of a view server.
pub const TO_VIEW: &str = "view";

/// The job key. Wiped when dropped.
pub struct JobKey(Zeroizing<[u8; 32]>);

/// A job key wrapped to one recipient: public, and worth nothing to anyone else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stanza {
    /// The encapsulated key.
    pub enc: [u8; 32],
    /// The job key's ciphertext.
    pub sealed: [u8; 32],
    /// Its tag.
    pub tag: [u8; 16],
}

impl JobKey {
    /// A new key.
    pub fn generate(rng: &dyn Random) -> Result<Self, Error> {
        Ok(Self(draw(rng)?))
    }

    /// Wraps the key so that only the holder of `to`'s secret can open it, for this purpose and job.
    pub fn wrap(
        &self,
        to: &KemKey,
        purpose: &'static str,
        job: JobId,
        rng: &dyn Random,
    ) -> Result<Stanza, Error> {
        let mut sealed = *self.0;
        let (enc, tag) = kem::seal(to, &info(purpose, job), &mut sealed, rng)?;
        Ok(Stanza { enc, sealed, tag })
    }

    /// Opens a stanza.
    pub fn unwrap(
        stanza: &Stanza,
        secret: &KemSecret,
        purpose: &'static str,
        job: JobId,
    ) -> Result<Self, Error> {
        let mut key = Zeroizing::new(stanza.sealed);
        kem::open(
            secret,
            &stanza.enc,
            &info(purpose, job),
            &mut key[..],
            &stanza.tag,
        )?;
        Ok(Self(key))
    }

    /// The key that seals the audit records of one session.
    pub fn audit_key(&self, session: SessionId) -> AuditKey {
        let info: [&[u8]; 2] = [b"safelight v0 audit", session.as_bytes()];
        AuditKey::new(&derive::<64>(&self.0[..], b"", &info))
    }

    /// The key that signs the result manifests of this job: it proves that whoever signed had held the job key.
    pub fn attest_key(&self) -> SigningSecret {
        SigningSecret::from_seed(derive(&self.0[..], b"", &[b"safelight v0 attest"]))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0[..]
    }
}

/// The purpose ends at the zero byte and the job has a fixed length.
fn info(purpose: &'static str, job: JobId) -> Vec<u8> {
    [
        b"safelight v0 job key ",
        purpose.as_bytes(),
        &[0],
        job.as_bytes(),
    ]
    .concat()
}

/// The only door to the `hpke` crate.
pub(crate) mod kem {
    use std::convert::Infallible;

    use hpke::{
        Deserializable, HpkeError, Kem, OpModeR, OpModeS, Serializable,
        aead::{AeadTag, AesGcm256},
        inout::InOutBuf,
        kdf::HkdfSha256,
        kem::X25519HkdfSha256,
        rand_core::{TryCryptoRng, TryRng},
        single_shot_open_inout_detached, single_shot_seal_inout_detached_with_rng,
    };
    use safelight_policies::id::KemKey;

    use crate::{Error, identity::KemSecret, random::Random};

    type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
    type Public = <X25519HkdfSha256 as Kem>::PublicKey;
    type Encapped = <X25519HkdfSha256 as Kem>::EncappedKey;

    /// Our source of randomness in the shape that `hpke` wants. That shape cannot fail, so a failure is kept and asked for afterwards.
    struct Source<'a> {
        rng: &'a dyn Random,
        failed: Option<Error>,
    }

    impl TryRng for Source<'_> {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            let mut bytes = [0; 4];
            self.try_fill_bytes(&mut bytes)?;
            Ok(u32::from_le_bytes(bytes))
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            let mut bytes = [0; 8];
            self.try_fill_bytes(&mut bytes)?;
            Ok(u64::from_le_bytes(bytes))
        }

        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
            if let Err(error) = self.rng.fill(out) {
                self.failed = Some(error);
            }
            Ok(())
        }
    }

    impl TryCryptoRng for Source<'_> {}

    #[expect(
        clippy::expect_used,
        reason = "hpke refuses a wrong length only, and clamps every scalar"
    )]
    fn private(secret: &[u8; 32]) -> Private {
        Private::from_bytes(secret).expect("a 32 byte scalar")
    }

    pub(crate) fn public(secret: &[u8; 32]) -> KemKey {
        KemKey(X25519HkdfSha256::sk_to_pk(&private(secret)).to_bytes().0)
    }

    /// Encrypts `bytes` in place; returns the encapsulated key and the tag.
    pub(crate) fn seal(
        to: &KemKey,
        info: &[u8],
        bytes: &mut [u8],
        rng: &dyn Random,
    ) -> Result<([u8; 32], [u8; 16]), Error> {
        let unusable = |_: HpkeError| Error::Malformed {
            what: "a public key",
            reason: "no secret can be agreed on with it",
        };
        let to = Public::from_bytes(&to.0).map_err(unusable)?;
        let mut source = Source { rng, failed: None };
        let sealed =
            single_shot_seal_inout_detached_with_rng::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
                &OpModeS::Base,
                &to,
                info,
                InOutBuf::from(&mut *bytes),
                b"",
                &mut source,
            );
        if let Some(error) = source.failed {
            zeroize::Zeroize::zeroize(bytes);
            return Err(error);
        }
        let (enc, tag) = sealed.map_err(unusable)?;
        Ok((enc.to_bytes().0, tag.to_bytes().0))
    }

    /// Decrypts `bytes` in place; wipes them if they are not authentic.
    pub(crate) fn open(
        secret: &KemSecret,
        enc: &[u8; 32],
        info: &[u8],
        bytes: &mut [u8],
        tag: &[u8; 16],
    ) -> Result<(), Error> {
        let opened = (|| {
            single_shot_open_inout_detached::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
                &OpModeR::Base,
                &private(secret.bytes()),
                &Encapped::from_bytes(enc)?,
                info,
                InOutBuf::from(&mut *bytes),
                b"",
                &AeadTag::from_bytes(tag)?,
            )
        })();
        opened.map_err(|_: HpkeError| {
            zeroize::Zeroize::zeroize(bytes);
            Error::NotAuthentic {
                what: "a wrapped job key",
            }
        })
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

    struct Fixed([u8; 32]);
    impl Random for Fixed {
        fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
            out.copy_from_slice(&self.0);
            Ok(())
        }
    }

    const JOB: JobId = JobId::from_random([1; 10]);
    const OTHER: JobId = JobId::from_random([2; 10]);

    /// RFC 9180, A.1.1 (its KEM is ours; its AEAD is AES-128-GCM): the recipient's keys, and the encapsulation made from `ikmE`.
    #[test]
    fn the_kem_is_that_of_the_rfc() {
        let secret = KemSecret::from_bytes(&hex(
            "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8",
        ));
        assert_eq!(
            secret.public(),
            KemKey(hex(
                "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d"
            ))
        );
        let ikm = Fixed(hex(
            "7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234",
        ));
        let stanza = JobKey(Zeroizing::new([7; 32]))
            .wrap(&secret.public(), TO_VIEW, JOB, &ikm)
            .unwrap();
        assert_eq!(
            stanza.enc,
            hex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")
        );
        let key = JobKey::unwrap(&stanza, &secret, TO_VIEW, JOB).unwrap();
        assert_eq!(key.bytes(), [7; 32]);
    }

    #[test]
    fn a_stanza_opens_for_its_recipient_purpose_and_job_only() {
        let rng = Counting::from(5);
        let mine = KemSecret::generate(&rng).unwrap();
        let other = KemSecret::generate(&rng).unwrap();
        let key = JobKey::generate(&rng).unwrap();
        let stanza = key.wrap(&mine.public(), TO_WARDEN, JOB, &rng).unwrap();
        let opened = JobKey::unwrap(&stanza, &mine, TO_WARDEN, JOB).unwrap();
        assert_eq!(opened.bytes(), key.bytes());
        let refused = |stanza: &Stanza, secret: &KemSecret, purpose, job| {
            JobKey::unwrap(stanza, secret, purpose, job).err()
                == Some(Error::NotAuthentic {
                    what: "a wrapped job key",
                })
        };
        assert!(refused(&stanza, &other, TO_WARDEN, JOB));
        assert!(refused(&stanza, &mine, TO_CLIENT, JOB));
        assert!(refused(&stanza, &mine, TO_WARDEN, OTHER));
        for byte in 0..80 {
            let mut flipped = stanza.clone();
            match byte {
                0..32 => flipped.enc[byte] ^= 1,
                32..64 => flipped.sealed[byte - 32] ^= 1,
                _ => flipped.tag[byte - 64] ^= 1,
            }
            assert!(refused(&flipped, &mine, TO_WARDEN, JOB), "byte {byte}");
        }
    }

    #[test]
    fn a_useless_key_or_no_randomness_wraps_nothing() {
        let rng = Counting::from(6);
        let key = JobKey::generate(&rng).unwrap();
        let zero = KemKey([0; 32]);
        assert!(matches!(
            key.wrap(&zero, TO_VIEW, JOB, &rng),
            Err(Error::Malformed { .. })
        ));
        let to = KemSecret::generate(&rng).unwrap().public();
        assert_eq!(key.wrap(&to, TO_VIEW, JOB, &Dry), Err(Error::NoRandomness));
        let a = key.wrap(&to, TO_VIEW, JOB, &rng).unwrap();
        let b = key.wrap(&to, TO_VIEW, JOB, &rng).unwrap();
        assert_ne!(a.enc, b.enc);
    }

    #[test]
    fn what_derives_from_two_jobs_differs() {
        let rng = Counting::from(7);
        let a = JobKey::generate(&rng).unwrap();
        let b = JobKey::generate(&rng).unwrap();
        assert_ne!(a.attest_key().public(), b.attest_key().public());
        assert_eq!(a.attest_key().public(), a.attest_key().public());
    }
}
