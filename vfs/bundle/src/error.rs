//! Why a signed document is refused.

use safelight_policies::id::VerifyKey;

/// An error of a signed document.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes do not begin as a signed document does.
    #[error("not a signed document")]
    NotSigned,
    /// The document has another version of the format.
    #[error("the document has version {found} of the format, and this program reads only version {expected}", expected = crate::signed::VERSION)]
    Version {
        /// The version that it names.
        found: u16,
    },
    /// The document is longer than one of its kind may be.
    #[error("the {kind} has {len} bytes, and may have at most {max}")]
    TooLong {
        /// What it was to be.
        kind: &'static str,
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The document names another signer.
    #[error("the {kind} is signed by {found:?}, not by {expected:?}")]
    OtherSigner {
        /// What it was to be.
        kind: &'static str,
        /// Whom it names.
        found: VerifyKey,
        /// Who should have signed.
        expected: VerifyKey,
    },
    /// The signature does not hold: the document was changed, or was signed as another kind of document.
    #[error("the signature of the {kind} does not hold")]
    NotAuthentic {
        /// What it was to be.
        kind: &'static str,
    },
    /// The document does not encode.
    #[error("the {kind} does not encode")]
    Encode {
        /// What it is.
        kind: &'static str,
        /// Why.
        source: postcard::Error,
    },
    /// The signed bytes are no document of this kind.
    #[error("the {kind} does not decode")]
    Decode {
        /// What it was to be.
        kind: &'static str,
        /// Why.
        source: postcard::Error,
    },
    /// More bytes are signed than the document takes.
    #[error("{len} bytes follow the {kind}")]
    Trailing {
        /// What it is.
        kind: &'static str,
        /// How many.
        len: usize,
    },
    /// The document is spelled otherwise than by whoever follows the format: a number that is longer than it need be, a map in disorder.
    #[error("the {kind} is not in its only spelling")]
    NotCanonical {
        /// What it is.
        kind: &'static str,
    },
    /// The document says something that it may not say.
    #[error("the {kind} is not valid: {reason}")]
    NotValid {
        /// What it is.
        kind: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
}
