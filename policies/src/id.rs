//! Ids as types, so that a task is never taken for a slot.
//!
//! Random ids are drawn by the caller and only shaped here. They are opaque: nothing of a client's data enters them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An id or a name that does not have the shape it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: expected {expected}")]
pub struct Malformed {
    /// What was expected to be named.
    pub kind: &'static str,
    /// What was given.
    pub text: String,
    /// The shape in words.
    pub expected: &'static str,
}

/// Lower-case base32 without the letters people misread; the encoding of [`JobId`] and [`SessionId`].
const ALPHABET: &str = "0123456789abcdefghjkmnpqrstvwxyz";

fn base32() -> data_encoding::Encoding {
    let mut spec = data_encoding::Specification::new();
    spec.symbols.push_str(ALPHABET);
    #[expect(
        clippy::expect_used,
        reason = "a constant specification, exercised by every test"
    )]
    spec.encoding().expect("a valid base32 alphabet")
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; 10]);

        impl $name {
            /// Shapes ten random bytes into an id.
            pub const fn from_random(bytes: [u8; 10]) -> Self { Self(bytes) }
            /// The ten bytes.
            pub const fn as_bytes(&self) -> &[u8; 10] { &self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(&base32().encode(&self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }
        impl FromStr for $name {
            type Err = Malformed;
            fn from_str(text: &str) -> Result<Self, Malformed> {
                text.strip_prefix($prefix)
                    .and_then(|rest| base32().decode(rest.as_bytes()).ok())
                    .and_then(|bytes| bytes.try_into().ok())
                    .map(Self)
                    .ok_or_else(|| Malformed {
                        kind: $kind,
                        text: text.to_owned(),
                        expected: concat!("'", $prefix, "' followed by 16 letters and digits"),
                    })
            }
        }
    };
}

random_id!(
    /// One job of one client, the same at both sites.
    JobId, "job id", "job-"
);
random_id!(
    /// One session: one lease, one key release, one sandbox.
    SessionId, "session id", "ses-"
);
random_id!(
    /// One grant of a client's: somebody may look at a job away from home, for a while.
    GrantId, "grant id", "grant-"
);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks a name: 1 to 63 of `a-z 0-9 . _ -`, the first a letter or a digit.
            pub fn new(text: impl Into<String>) -> Result<Self, Malformed> {
                let text = text.into();
                let fits = (1..=63).contains(&text.len())
                    && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
                    && text.as_bytes()[0].is_ascii_alphanumeric();
                if fits {
                    Ok(Self(text))
                } else {
                    Err(Malformed { kind: $kind, text, expected: "1 to 63 of a-z, 0-9, '.', '_', '-', beginning with a letter or a digit" })
                }
            }
            /// The name.
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl FromStr for $name {
            type Err = Malformed;
            fn from_str(text: &str) -> Result<Self, Malformed> { Self::new(text) }
        }
        impl TryFrom<String> for $name {
            type Error = Malformed;
            fn try_from(text: String) -> Result<Self, Malformed> { Self::new(text) }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self { name.0 }
        }
    };
}

name!(
    /// A client as the render site may know it: an alias, never a studio's name or a title.
    ClientAlias, "client alias"
);
name!(
    /// A site: where a schedule server runs.
    SiteName, "site name"
);
name!(
    /// A render server.
    NodeName, "node name"
);
name!(
    /// A policy.
    PolicyName, "policy name"
);

/// A share of a node, one session at a time. Numbered within its node, from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotIndex(pub u16);

/// The BLAKE3 hash of a sealed object's bytes, which is its name on every disk and in every bundle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId(pub [u8; 32]);

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}
impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for ObjectId {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| Malformed {
                kind: "object id",
                text: text.to_owned(),
                expected: "64 hexadecimal digits",
            })
    }
}

/// A task within a job: its step and its index in the step's parameter space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// Index of the step in the outline.
    pub step: u32,
    /// Index of the task in the step.
    pub task: u64,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.step, self.task)
    }
}

/// A number that grows with every lease of a task; only the holder of the newest may commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence(pub u64);

/// The BLAKE3 hash of a resolved policy's canonical text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PolicyDigest(pub [u8; 32]);

impl fmt::Display for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0[..8]))
    }
}
impl fmt::Debug for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An Ed25519 public key: who signed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VerifyKey(pub [u8; 32]);

impl VerifyKey {
    /// What people compare: the first 20 bytes of the key's BLAKE3 hash in groups of four letters.
    pub fn fingerprint(&self) -> String {
        let text = base32().encode(&blake3::hash(&self.0).as_bytes()[..20]);
        text.as_bytes()
            .chunks(4)
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join("-")
    }
}
impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

/// An X25519 public key: who may receive. Public, hence printable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KemKey(pub [u8; 32]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_written() {
        let job = JobId::from_random([7, 1, 255, 0, 3, 9, 8, 2, 77, 128]);
        assert_eq!(job.to_string().parse(), Ok(job));
        assert_eq!(job.to_string().len(), 20);
        let object = ObjectId([0xab; 32]);
        assert_eq!(object.to_string().parse(), Ok(object));
    }

    #[test]
    fn a_name_that_could_be_a_path_or_a_title_is_refused() {
        for text in [
            "",
            "..",
            "/etc",
            "a/b",
            "Studio X",
            "-rf",
            "\u{e9}",
            &"a".repeat(64),
        ] {
            assert!(ClientAlias::new(text).is_err(), "{text:?}");
        }
        assert_eq!(
            "job-xyz".parse::<JobId>().unwrap_err().to_string(),
            "\"job-xyz\" is not a job id: expected 'job-' followed by 16 letters and digits"
        );
    }
}
