//! The one key of a job: how it travels, and what derives from it.
//!
//! HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. `info` binds a stanza to its purpose and job, so
//! that a stanza made for one recipient, job or purpose opens as no other. Every derived key has its own HKDF `info`.

use safelight_policies::id::{JobId, KemKey, SessionId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    Error,
    audit_key::{AuditKey, IndexKey},
    blob::Purpose,
    identity::{KemSecret, SigningSecret},
    kdf::derive,
    random::{Random, draw},
};

/// Purpose of a stanza that the client can open, to read results and to debug at home.
pub const TO_CLIENT: &str = "client";
/// Purpose of a stanza to somebody who may read the job and no more: it wraps the [`ReadKey`].
pub const TO_READER: &str = "reader";
/// Purpose of a stanza to a one-time prekey of the render site's warden.
pub const TO_WARDEN: &str = "warden";
/// Purpose of a stanza to the ephemeral key of a view server.
pub const TO_VIEW: &str = "view";

/// KEM, KDF and AEAD of a stanza: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
const SUITE: u8 = 1;

/// The job key, and the key to read that derives from it. Wiped when dropped.
///
/// Whoever has it can read everything of the job and sign results; it stands for the [`ReadKey`] wherever one is asked for.
pub struct JobKey {
    secret: Zeroizing<[u8; 32]>,
    read: ReadKey,
}

/// Opens and seals everything of a job but signs nothing: what an auditor or a colleague is given. Wiped when dropped.
pub struct ReadKey(Zeroizing<[u8; 32]>);

/// A key wrapped to one recipient: public, and worth nothing to anyone else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stanza {
    /// How it was wrapped; 1 is the only way yet.
    pub suite: u8,
    /// The encapsulated key.
    pub enc: [u8; 32],
    /// The key's ciphertext.
    pub sealed: [u8; 32],
    /// Its tag.
    pub tag: [u8; 16],
}

/// Bytes of a stanza: suite, encapsulated key, ciphertext, tag.
pub const STANZA_LEN: usize = 1 + 32 + 32 + 16;

impl Stanza {
    /// The stanza's bytes, which are also what postcard makes of it.
    pub fn to_bytes(&self) -> [u8; STANZA_LEN] {
        let mut out = [0; STANZA_LEN];
        out[0] = self.suite;
        out[1..33].copy_from_slice(&self.enc);
        out[33..65].copy_from_slice(&self.sealed);
        out[65..].copy_from_slice(&self.tag);
        out
    }

    /// Reads what [`Stanza::to_bytes`] wrote. Of another suite nothing is known, not even its length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = |reason| Error::Malformed {
            what: "a wrapped key",
            reason,
        };
        if bytes.first().is_some_and(|suite| *suite != SUITE) {
            return Err(malformed("its suite is unknown"));
        }
        let bytes: &[u8; STANZA_LEN] = bytes
            .try_into()
            .map_err(|_| malformed("it has another length"))?;
        let (mut enc, mut sealed, mut tag) = ([0; 32], [0; 32], [0; 16]);
        enc.copy_from_slice(&bytes[1..33]);
        sealed.copy_from_slice(&bytes[33..65]);
        tag.copy_from_slice(&bytes[65..]);
        Ok(Self {
            suite: bytes[0],
            enc,
            sealed,
            tag,
        })
    }

    fn open(
        &self,
        secret: &KemSecret,
        purpose: &'static str,
        job: JobId,
    ) -> Result<Zeroizing<[u8; 32]>, Error> {
        if self.suite != SUITE {
            return Err(Error::Malformed {
                what: "a wrapped key",
                reason: "its suite is unknown",
            });
        }
        let mut key = Zeroizing::new(self.sealed);
        let info = info(purpose, job);
        kem::open(secret, &self.enc, &info, &mut key[..], &self.tag)?;
        Ok(key)
    }
}

impl JobKey {
    /// A new key.
    pub fn generate(rng: &dyn Random) -> Result<Self, Error> {
        Ok(Self::from_secret(draw(rng)?))
    }

    fn from_secret(secret: Zeroizing<[u8; 32]>) -> Self {
        let read = ReadKey(derive(&secret[..], b"", &[b"safelight v1 read"]));
        Self { secret, read }
    }

    /// Wraps the key so that only the holder of `to`'s secret can open it, for this purpose and job.
    pub fn wrap(
        &self,
        to: &KemKey,
        purpose: &'static str,
        job: JobId,
        rng: &dyn Random,
    ) -> Result<Stanza, Error> {
        wrap(&self.secret, to, purpose, job, rng)
    }

    /// Opens a stanza.
    pub fn unwrap(
        stanza: &Stanza,
        secret: &KemSecret,
        purpose: &'static str,
        job: JobId,
    ) -> Result<Self, Error> {
        stanza.open(secret, purpose, job).map(Self::from_secret)
    }

    /// The key that reads and signs nothing.
    pub fn read_key(&self) -> &ReadKey {
        &self.read
    }

    /// Keeps only what reads.
    pub fn into_read_key(self) -> ReadKey {
        self.read
    }

    /// Seals a blob; see [`ReadKey::seal_blob`].
    pub fn seal_blob(
        &self,
        purpose: Purpose,
        context: &[u8],
        bytes: &[u8],
        rng: &dyn Random,
    ) -> Result<Vec<u8>, Error> {
        self.read.seal_blob(purpose, context, bytes, rng)
    }

    /// Opens a blob; see [`ReadKey::open_blob`].
    pub fn open_blob(
        &self,
        purpose: Purpose,
        context: &[u8],
        blob: &[u8],
    ) -> Result<Vec<u8>, Error> {
        self.read.open_blob(purpose, context, blob)
    }

    /// The key that seals the audit records of one session.
    pub fn audit_key(&self, session: SessionId) -> AuditKey {
        self.read.audit_key(session)
    }

    /// The key that signs the result manifests of this job: it proves that whoever signed had held the job key.
    pub fn attest_key(&self) -> SigningSecret {
        SigningSecret::from_seed(derive(&self.secret[..], b"", &[b"safelight v1 attest"]))
    }
}

impl AsRef<ReadKey> for JobKey {
    fn as_ref(&self) -> &ReadKey {
        &self.read
    }
}

impl AsRef<ReadKey> for ReadKey {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl ReadKey {
    /// Wraps the key for a reader.
    pub fn wrap(&self, to: &KemKey, job: JobId, rng: &dyn Random) -> Result<Stanza, Error> {
        wrap(&self.0, to, TO_READER, job, rng)
    }

    /// Opens a reader's stanza.
    pub fn unwrap(stanza: &Stanza, secret: &KemSecret, job: JobId) -> Result<Self, Error> {
        stanza.open(secret, TO_READER, job).map(Self)
    }

    /// The key that seals the audit records of one session.
    pub fn audit_key(&self, session: SessionId) -> AuditKey {
        let info: [&[u8]; 2] = [b"safelight v1 audit", session.as_bytes()];
        AuditKey::new(&derive::<64>(&self.0[..], b"", &info))
    }

    /// The key that seals what is kept beside the job's logs to find records by.
    pub fn index_key(&self) -> IndexKey {
        IndexKey::new(&derive::<64>(
            &self.0[..],
            b"",
            &[b"safelight v1 audit index"],
        ))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0[..]
    }
}

fn wrap(
    key: &[u8; 32],
    to: &KemKey,
    purpose: &'static str,
    job: JobId,
    rng: &dyn Random,
) -> Result<Stanza, Error> {
    let mut sealed = Zeroizing::new(*key);
    let (enc, tag) = kem::seal(to, &info(purpose, job), &mut sealed[..], rng)?;
    Ok(Stanza {
        suite: SUITE,
        enc,
        sealed: *sealed,
        tag,
    })
}

/// The purpose ends at the zero byte and the job has a fixed length.
fn info(purpose: &'static str, job: JobId) -> Vec<u8> {
    [
        b"safelight v1 job key ",
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
        let stanza = JobKey::from_secret(Zeroizing::new([7; 32]))
            .wrap(&secret.public(), TO_VIEW, JOB, &ikm)
            .unwrap();
        assert_eq!(
            stanza.enc,
            hex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")
        );
        let key = JobKey::unwrap(&stanza, &secret, TO_VIEW, JOB).unwrap();
        assert_eq!(*key.secret, [7; 32]);
    }

    #[test]
    fn a_stanza_opens_for_its_recipient_purpose_and_job_only() {
        let rng = Counting::from(5);
        let mine = KemSecret::generate(&rng).unwrap();
        let other = KemSecret::generate(&rng).unwrap();
        let key = JobKey::generate(&rng).unwrap();
        let stanza = key.wrap(&mine.public(), TO_WARDEN, JOB, &rng).unwrap();
        let opened = JobKey::unwrap(&stanza, &mine, TO_WARDEN, JOB).unwrap();
        assert_eq!(*opened.secret, *key.secret);
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
