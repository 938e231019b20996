//! What can go wrong when something is sealed or opened.
//!
//! No message carries a name, a path or a byte of what is sealed: errors end up in logs that the render site reads.

/// Why something could not be sealed, opened or checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    NoRandomness,
    /// Wrong key, or someone changed the bytes.
    #[error("{what} is not authentic")]
    NotAuthentic {
        /// What was to be opened.
        what: &'static str,
    },
    /// The bytes do not have the shape they must have.
    #[error("{what} is malformed: {reason}")]
    Malformed {
        /// What was to be read.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The bytes were damaged by accident: their checksum differs.
    #[error("{what} is damaged: its checksum differs")]
    Damaged {
        /// What was to be read.
        what: &'static str,
    },
    /// The bytes are of a version that this program does not read.
    #[error("{what} has format version {found}, and this program reads version {known}")]
    Version {
        /// What was to be read.
        what: &'static str,
        /// Its version.
        found: u8,
        /// The version that can be read.
        known: u8,
    },
    /// There is more than fits.
    #[error("{what} of {len} exceeds the limit of {max}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its length in bytes, or its count.
        len: u64,
        /// The limit, in the same unit.
        max: u64,
    },
    /// The thing is authentic, but another one was asked for.
    #[error("this is {found}, and {wanted} was asked for")]
    NotTheOne {
        /// What was asked for.
        wanted: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// The key has sealed as much as it may.
    #[error("the key has sealed as many blocks as it may")]
    Exhausted,
    /// The process could not be hardened.
    #[error("cannot {step}")]
    NotHardened {
        /// What could not be done.
        step: &'static str,
        /// Why.
        source: nix::errno::Errno,
    },
}
