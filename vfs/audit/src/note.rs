//! Checkpoints as signed notes: the C2SP formats `signed-note`, `tlog-checkpoint` and `tlog-cosignature`. Pure.
//!
//! ```text
//! <origin>\n<size>\n<base64 of the root>\n\n— <name> <base64 of key id (4) || signature>\n …
//! ```
//! A log signs the text; a witness signs `cosignature/v1\ntime <seconds>\n` and the text, and its signature is `time u64 (big-endian) || Ed25519`.

use data_encoding::BASE64;
use ring::{
    digest::{SHA256, digest},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};

use crate::{Error, tree::Hash};

/// The longest note that is read: a text and a few signatures.
pub const NOTE_MAX: usize = 16 * 1024;

/// What a signature is: of a log, or of a witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Of the log itself.
    Log,
    /// Of somebody who saw it.
    Witness,
}

impl Role {
    fn byte(self) -> u8 {
        match self {
            Self::Log => 1,
            Self::Witness => 4,
        }
    }
}

/// The state of a log of statements: how many there are, and the root of their tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Whose log it is.
    pub origin: String,
    /// The number of entries.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
}

impl Head {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            BASE64.encode(&self.root)
        )
    }

    /// Reads a note's text.
    pub fn read(note: &str) -> Option<Self> {
        let (text, _) = note.split_once("\n\n").filter(|_| note.len() <= NOTE_MAX)?;
        let mut lines = text.split('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty())?.to_owned();
        let size = lines.next()?;
        let digits = size.bytes().all(|byte| byte.is_ascii_digit());
        let plain = digits && (size == "0" || !size.starts_with('0'));
        let root = BASE64.decode(lines.next()?.as_bytes()).ok()?;
        Some(Self {
            origin,
            size: size.parse().ok().filter(|_| plain)?,
            root: root.try_into().ok()?,
        })
    }
}

/// A key that signs notes. It has no other use, so nothing else that it signs could be taken for one.
pub struct Signer {
    name: String,
    role: Role,
    pair: Ed25519KeyPair,
}

impl Signer {
    /// The key of this seed, under this name.
    pub fn new(name: &str, role: Role, seed: &[u8; 32]) -> Result<Self, Error> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| Error::NoteKey)?;
        let name = name.to_owned();
        Ok(Self { name, role, pair })
    }

    /// Who verifies what it signs.
    pub fn verifier(&self) -> Verifier {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        Verifier {
            name: self.name.clone(),
            role: self.role,
            key,
        }
    }

    /// The line to append to a note of this text. The time, in seconds since 1970, counts for a witness only.
    pub fn line(&self, text: &str, now: u64) -> String {
        let mut bytes = self.verifier().id().to_vec();
        if self.role == Role::Witness {
            bytes.extend_from_slice(&now.to_be_bytes());
        }
        let signed = signed(self.role, text, now);
        bytes.extend_from_slice(self.pair.sign(signed.as_bytes()).as_ref());
        format!("\u{2014} {} {}\n", self.name, BASE64.encode(&bytes))
    }

    /// A note of this head, signed.
    pub fn sign(&self, head: &Head, now: u64) -> String {
        let text = head.text();
        let line = self.line(&text, now);
        format!("{text}\n{line}")
    }
}

fn signed(role: Role, text: &str, time: u64) -> String {
    match role {
        Role::Log => text.to_owned(),
        Role::Witness => format!("cosignature/v1\ntime {time}\n{text}"),
    }
}

/// A key that verifies notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    /// Its name in the note.
    pub name: String,
    /// What it signs as.
    pub role: Role,
    /// Ed25519.
    pub key: [u8; 32],
}

impl Verifier {
    fn id(&self) -> [u8; 4] {
        let bytes = [self.name.as_bytes(), b"\n", &[self.role.byte()], &self.key].concat();
        let digest = digest(&SHA256, &bytes);
        let mut id = [0; 4];
        id.copy_from_slice(&digest.as_ref()[..4]);
        id
    }

    /// The key as other programs take it: `<name>+<key id>+<base64 of type || key>`.
    pub fn text(&self) -> String {
        let key = [&[self.role.byte()], &self.key[..]].concat();
        let id = data_encoding::HEXLOWER.encode(&self.id());
        format!("{}+{id}+{}", self.name, BASE64.encode(&key))
    }

    /// The head of a note that this key signed; a witness answers also when.
    pub fn open(&self, note: &str) -> Option<(Head, u64)> {
        let head = Head::read(note)?;
        let (text, lines) = note.split_once("\n\n")?;
        let text = format!("{text}\n");
        let public = UnparsedPublicKey::new(&ED25519, &self.key);
        for line in lines.lines() {
            let signed_by = line.strip_prefix("\u{2014} ")?;
            let (name, signature) = signed_by.split_once(' ')?;
            let bytes = BASE64.decode(signature.as_bytes()).ok()?;
            let (id, mut rest) = bytes.split_first_chunk::<4>()?;
            if name != self.name || *id != self.id() {
                continue;
            }
            let mut time = 0;
            if self.role == Role::Witness {
                let (at, after) = rest.split_first_chunk::<8>()?;
                time = u64::from_be_bytes(*at);
                rest = after;
            }
            let signed = signed(self.role, &text, time);
            return public
                .verify(signed.as_bytes(), rest)
                .is_ok()
                .then_some((head, time));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            origin: "safelight/site/c-x".to_owned(),
            size: 12,
            root: [7; 32],
        }
    }

    #[test]
    fn a_note_opens_with_the_key_that_signed_it_and_no_other() {
        let log = Signer::new("site", Role::Log, &[1; 32]).unwrap();
        let witness = Signer::new("home", Role::Witness, &[2; 32]).unwrap();
        let mut note = log.sign(&head(), 0);
        assert_eq!(log.verifier().open(&note), Some((head(), 0)));
        assert_eq!(witness.verifier().open(&note), None);
        note.push_str(&witness.line(&head().text(), 99));
        assert_eq!(log.verifier().open(&note), Some((head(), 0)));
        assert_eq!(witness.verifier().open(&note), Some((head(), 99)));
        let others = [
            Signer::new("site", Role::Log, &[3; 32]).unwrap(),
            Signer::new("other", Role::Log, &[1; 32]).unwrap(),
            Signer::new("site", Role::Witness, &[1; 32]).unwrap(),
        ];
        for other in others {
            assert_eq!(other.verifier().open(&note), None);
        }
        for (from, to) in [("\n12\n", "\n13\n"), ("site/c-x", "site/c-y"), ("Bw", "Cw")] {
            let changed = note.replacen(from, to, 1);
            assert_ne!(changed, note);
            assert_eq!(log.verifier().open(&changed), None);
            assert_eq!(witness.verifier().open(&changed), None);
        }
    }

    #[test]
    fn what_is_no_note_is_none() {
        for text in ["", "a\n1\n\n", "a\n01\nBwcH\n\n", "\n\n\n", "a\n-1\n\n"] {
            assert_eq!(Head::read(text), None, "{text:?}");
        }
        let long = format!(
            "{}\n1\n{}\n\n",
            "a".repeat(NOTE_MAX),
            BASE64.encode(&[0; 32])
        );
        assert_eq!(Head::read(&long), None);
    }
}
