//! The name under which a letter lies in a hot folder: `<sender>-<epoch>-<number>.<kind>`, in the folder of its recipient.
//!
//! A name is a claim: it says whose key to try and spares the reader from opening what it knows. What counts is what is signed.

use std::{
    ffi::{OsStr, OsString},
    fmt,
};

use data_encoding::HEXLOWER;
use safelight_policies::id::VerifyKey;

use crate::{Epoch, Kind, Seq};

/// One component of a path, as somebody else named it: not empty, not `.` or `..`, without `/` and NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryName(OsString);

impl EntryName {
    /// The name, if it is one component and no way out of a folder.
    pub fn new(name: impl Into<OsString>) -> Option<Self> {
        let name = name.into();
        let bytes = name.as_encoded_bytes();
        let fits = (1..=255).contains(&bytes.len())
            && ![b".".as_slice(), b".."].contains(&bytes)
            && !bytes.iter().any(|byte| matches!(byte, b'/' | 0));
        fits.then_some(Self(name))
    }

    /// The name.
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// True for what tools write while they copy, ours among them.
    pub fn is_hidden(&self) -> bool {
        let bytes = self.0.as_encoded_bytes();
        bytes.starts_with(b".") && !bytes.starts_with(b"..")
    }
}

impl fmt::Display for EntryName {
    /// Escapes what a terminal would obey.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_encoded_bytes().escape_ascii())
    }
}

/// Where a letter lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReadyName {
    /// The recipient, whose folder it is in.
    pub to: VerifyKey,
    /// The sender.
    pub from: VerifyKey,
    /// Its place among the sender's letters.
    pub seq: Seq,
    /// What it is about.
    pub kind: Kind,
}

impl ReadyName {
    /// Reads a name in the folder of `to`. Only the one spelling that [`ReadyName::entry`] writes is a name.
    pub fn parse(to: VerifyKey, entry: &EntryName) -> Option<Self> {
        let (stem, kind) = entry.0.to_str()?.rsplit_once('.')?;
        let mut parts = stem.split('-');
        let (from, epoch, number) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = number.len() == 20 && number.bytes().all(|digit| digit.is_ascii_digit());
        if parts.next().is_some() || !digits {
            return None;
        }
        let seq = Seq {
            epoch: Epoch(bytes(epoch)?),
            number: number.parse().ok()?,
        };
        Some(Self {
            to,
            from: VerifyKey(bytes(from)?),
            seq,
            kind: kind.parse().ok()?,
        })
    }

    /// The name in the recipient's folder.
    pub fn entry(&self) -> EntryName {
        let from = HEXLOWER.encode(&self.from.0);
        let (epoch, number) = (self.seq.epoch, self.seq.number);
        EntryName(format!("{from}-{epoch}-{number:020}.{}", self.kind.as_str()).into())
    }
}

/// The folder of a recipient: its key in hexadecimal digits.
pub(crate) fn mailbox(to: &VerifyKey) -> String {
    HEXLOWER.encode(&to.0)
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> ReadyName {
        ReadyName {
            to: VerifyKey([1; 32]),
            from: VerifyKey([0xab; 32]),
            seq: Seq {
                epoch: Epoch::new(1_000, [1, 2, 3]),
                number: 17,
            },
            kind: Kind::Job,
        }
    }

    #[test]
    fn a_name_reads_back_for_every_kind() {
        for kind in Kind::ALL {
            let name = ReadyName { kind, ..name() };
            assert_eq!(ReadyName::parse(name.to, &name.entry()), Some(name));
        }
        let text = name().entry().to_string();
        assert!(
            text.ends_with("-00000003e8010203-00000000000000000017.job"),
            "{text}"
        );
    }

    #[test]
    fn a_way_out_of_a_folder_is_no_name() {
        let long = "a".repeat(256);
        for text in [
            "",
            ".",
            "..",
            "/",
            "a/b",
            "../a",
            "/etc/passwd",
            "a\0b",
            &long,
        ] {
            assert_eq!(EntryName::new(text), None, "{text:?}");
        }
    }

    #[test]
    fn another_spelling_is_no_letter() {
        let good = name().entry().to_string();
        let changed = [
            good.to_uppercase(),
            good.replace(".job", ".jobs"),
            good.replace(".job", ""),
            good.replace("-0000", "-+000"),
            good.replace("017", "17"),
            good.replacen('a', "g", 1),
            format!("{good} (conflicted copy)"),
            format!("{good}.part"),
            format!("..%2f{good}"),
            format!("x-{good}"),
            good.replace("00000000000000000017", "99999999999999999999"),
        ];
        for text in changed {
            let entry = EntryName::new(text.clone()).unwrap();
            assert_eq!(ReadyName::parse(name().to, &entry), None, "{text}");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(EntryName::new("\x1b[2Ja").unwrap().to_string(), "\\x1b[2Ja");
    }

    proptest! {
        #[test]
        fn a_name_that_is_read_is_the_only_spelling(text in "[0-9a-f.-]{0,120}|[0-9a-f]{64}-[0-9a-f]{16}-[0-9]{20}\\.(job|result)") {
            if let Some(entry) = EntryName::new(text) && let Some(name) = ReadyName::parse(VerifyKey([1; 32]), &entry) {
                prop_assert_eq!(name.entry(), entry);
            }
        }
    }
}
