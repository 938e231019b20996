//! The one form in which anything is signed.
//!
//! ```text
//! "SLSIGNED" | version u16 | signer's public key (32) | signature (64) | postcard(document)
//! ```
//! The signature is Ed25519 (RFC 8032) over `"safelight v1 " || context || 0x00 || postcard(document)`. The context is the document's kind,
//! a constant of ours without a zero byte: bytes that were signed as one kind are never valid as another. The signer's key in the file is
//! only a claim, to look up the one that is trusted.

use ring::signature::{ED25519, UnparsedPublicKey};
use safelight_policies::id::VerifyKey;
use serde::{Serialize, de::DeserializeOwned};

use crate::Error;

/// The first eight bytes.
pub const MAGIC: &[u8; 8] = b"SLSIGNED";

/// The version of the form.
pub const VERSION: u16 = 1;

/// The bytes in front of the document.
pub(crate) const HEAD: usize = 8 + 2 + 32 + 64;

/// A kind of document that is signed.
pub trait Document: Serialize + DeserializeOwned {
    /// Its name, which is bound into the signature.
    const CONTEXT: &'static str;
    /// The most bytes that it may take.
    const BYTES_MAX: usize;
    /// Checks what types cannot: bounds, order, and that the document speaks for `signer`.
    fn check(&self, signer: &VerifyKey) -> Result<(), Error>;
}

/// Checks and signs a document. `sign` gets the context and the bytes, and returns the signature of the message above; `signer` is its
/// public half, and the result is verified with it, so a signer that signs something else is an error here and not at the other site.
pub fn seal<T: Document>(
    document: &T,
    signer: &VerifyKey,
    sign: impl FnOnce(&str, &[u8]) -> [u8; 64],
) -> Result<Vec<u8>, Error> {
    document.check(signer)?;
    let kind = T::CONTEXT;
    let body = postcard::to_stdvec(document).map_err(|source| Error::Encode { kind, source })?;
    require_fits::<T>(body.len())?;
    let signature = sign(kind, &body);
    verify(kind, signer, &body, &signature)?;
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&signer.0);
    bytes.extend_from_slice(&signature);
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Verifies that `signer` signed this document of this kind, then decodes and checks it.
pub fn open<T: Document>(bytes: &[u8], signer: &VerifyKey) -> Result<T, Error> {
    let kind = T::CONTEXT;
    require_fits::<T>(bytes.len().saturating_sub(HEAD))?;
    let parts = split(bytes)?;
    if parts.signer != *signer {
        return Err(Error::OtherSigner {
            kind,
            found: parts.signer,
            expected: *signer,
        });
    }
    verify(kind, signer, parts.body, parts.signature)?;
    let (document, rest) = postcard::take_from_bytes::<T>(parts.body)
        .map_err(|source| Error::Decode { kind, source })?;
    if !rest.is_empty() {
        return Err(Error::Trailing {
            kind,
            len: rest.len(),
        });
    }
    // Postcard reads numbers that are longer than they need be, and maps in any order. One document has one spelling.
    if postcard::to_stdvec(&document).as_deref() != Ok(parts.body) {
        return Err(Error::NotCanonical { kind });
    }
    document.check(signer)?;
    Ok(document)
}

/// The signer that a document names. Nothing is verified: look up whether that key is trusted, then [`open`] with it.
pub fn claimed_signer(bytes: &[u8]) -> Result<VerifyKey, Error> {
    split(bytes).map(|parts| parts.signer)
}

struct Parts<'a> {
    signer: VerifyKey,
    signature: &'a [u8; 64],
    body: &'a [u8],
}

fn split(bytes: &[u8]) -> Result<Parts<'_>, Error> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Error::NotSigned)?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or(Error::NotSigned)?;
    let found = u16::from_le_bytes(*version);
    if found != VERSION {
        return Err(Error::Version { found });
    }
    let (signer, rest) = rest.split_first_chunk::<32>().ok_or(Error::NotSigned)?;
    let (signature, body) = rest.split_first_chunk::<64>().ok_or(Error::NotSigned)?;
    Ok(Parts {
        signer: VerifyKey(*signer),
        signature,
        body,
    })
}

fn require_fits<T: Document>(len: usize) -> Result<(), Error> {
    if len > T::BYTES_MAX {
        return Err(Error::TooLong {
            kind: T::CONTEXT,
            len,
            max: T::BYTES_MAX,
        });
    }
    Ok(())
}

fn verify(
    kind: &'static str,
    signer: &VerifyKey,
    body: &[u8],
    signature: &[u8; 64],
) -> Result<(), Error> {
    let message = [b"safelight v1 ", kind.as_bytes(), &[0], body].concat();
    UnparsedPublicKey::new(&ED25519, signer.0)
        .verify(&message, signature)
        .map_err(|_| Error::NotAuthentic { kind })
}
