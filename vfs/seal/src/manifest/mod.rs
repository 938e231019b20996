//! The manifest: which segments make which file, under which name, with which mode and times.
//!
//! It is the capability: whoever holds a manifest can open the segments it names and no others. It is valid by construction of
//! [`Manifest::encode`] and [`Manifest::decode`]: sorted, without duplicates, every parent a directory, every length adding up. It is
//! signed before it is sealed, and bound to its job and, for results, to the attempt. No type here has `Debug`: names and keys are a
//! client's.

mod check;
mod codec;
mod opened;

use std::collections::BTreeMap;

use safelight_policies::{
    id::{Fence, JobId, ObjectId, SessionId, VerifyKey},
    path::CentralPath,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use self::opened::{Entries, EntryRef, KindRef, Opened, OpenedTree, Segments};
use crate::{
    Error, blob::Purpose, identity::SigningSecret, job_key::ReadKey, random::Random,
    segment::OpenKey,
};

const WHAT: &str = "a manifest";

/// The most entries of a manifest, all trees together.
pub const ENTRIES_MAX: usize = 1 << 22;
/// The most trees of a manifest.
pub const TREES_MAX: usize = 64;
/// The most extended attributes of an entry.
pub const XATTRS_MAX: usize = 64;
/// The most bytes of an extended attribute's value (XATTR_SIZE_MAX of Linux).
pub const XATTR_VALUE_MAX: usize = 64 * 1024;
/// The most bytes of a path, and of a symbolic link's target (PATH_MAX of Linux).
pub const PATH_MAX: usize = 4096;
/// The most bytes of a name (NAME_MAX of Linux).
pub const NAME_MAX: usize = 255;
/// The bits a mode may have: no set-user-id, no set-group-id.
pub const MODE_MASK: u32 = 0o1777;

/// A job's inputs, or an attempt's outputs.
#[derive(Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Of which job.
    pub job: JobId,
    /// Inputs or outputs.
    pub kind: Kind,
    /// One for each central path, sorted by it, none within another.
    pub trees: Vec<Tree>,
}

/// What a manifest describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// What the client packed; signed by the client.
    Inputs,
    /// What an attempt left behind; signed by the job's attest key.
    Result {
        /// The session that made it.
        session: SessionId,
        /// The attempt's number.
        attempt: u32,
        /// The fence under which it may be committed.
        fence: Fence,
    },
}

/// What is below one central path.
#[derive(Clone, PartialEq, Eq)]
pub struct Tree {
    /// The central path.
    pub path: CentralPath,
    /// Sorted by path as bytes. The first is the root. In a result: what changed, and the directories above it.
    pub entries: Vec<Entry>,
}

/// One name.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the central path, parts joined by `/`; empty for the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, within [`MODE_MASK`].
    pub mode: u32,
    /// Last modification, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Extended attributes of the `user.` namespace, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a name is.
#[derive(Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory {
        /// True if it hides what the inputs have at its place; in results only.
        opaque: bool,
    },
    /// A file.
    File {
        /// Bytes.
        len: u64,
        /// In order; each but the last is of [`crate::segment::SEGMENT_MAX`] bytes.
        segments: Vec<SegmentRef>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points: bytes that nobody here follows.
        target: Vec<u8>,
    },
    /// Another name of a file of the same tree.
    Link {
        /// The path of that file, which comes earlier in the tree.
        to: Vec<u8>,
    },
    /// The inputs' entry of this name is gone; in results only.
    Whiteout,
}

/// One segment of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct SegmentRef {
    /// The object that holds it; `None` if it is all zero and not stored.
    pub object: Option<ObjectId>,
    /// Bytes of plaintext.
    pub len: u32,
    /// What opens it; [`OpenKey::none`] if it is not stored.
    pub key: OpenKey,
}

impl SegmentRef {
    /// A segment of zeros, which needs no object.
    pub fn zero(len: u32) -> Self {
        Self {
            object: None,
            len,
            key: OpenKey::none(),
        }
    }
}

impl Tree {
    /// A tree in the order that a manifest wants: sorted by path, and of the names of one file the first is the file.
    pub fn new(path: CentralPath, mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        // Names under which files were known before they took an earlier one. Looked up, not searched for: how many there are is the job's choice.
        let mut renamed: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for at in 0..entries.len() {
            let EntryKind::Link { to } = &mut entries[at].kind else {
                continue;
            };
            if let Some(new) = renamed.get(to) {
                to.clone_from(new);
            }
            let to = to.clone();
            let Ok(file) = entries.binary_search_by(|entry| entry.path.cmp(&to)) else {
                continue;
            };
            if file < at || !matches!(entries[file].kind, EntryKind::File { .. }) {
                continue;
            }
            // The file takes the earlier name, and its old name and all its other names follow it.
            let (old, new) = (entries[file].path.clone(), entries[at].path.clone());
            let link = EntryKind::Link { to: new.clone() };
            entries[at].kind = std::mem::replace(&mut entries[file].kind, link);
            renamed.insert(old, new);
        }
        Self { path, entries }
    }

    /// The entry of this path.
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        let at = self
            .entries
            .binary_search_by(|entry| entry.path.as_slice().cmp(path));
        at.ok().map(|at| &self.entries[at])
    }
}

impl Kind {
    fn purpose(&self) -> Purpose {
        match self {
            Self::Inputs => Purpose::InputManifest,
            Self::Result { .. } => Purpose::ResultManifest,
        }
    }

    fn signing_context(&self) -> &'static str {
        match self {
            Self::Inputs => "input manifest",
            Self::Result { .. } => "result manifest",
        }
    }

    /// The context of a blob that belongs to this: a manifest, and a result's task log. All parts have fixed lengths.
    pub fn place(&self, job: JobId) -> Vec<u8> {
        let mut out = job.as_bytes().to_vec();
        if let Self::Result {
            session,
            attempt,
            fence,
        } = self
        {
            out.extend_from_slice(session.as_bytes());
            out.extend_from_slice(&attempt.to_be_bytes());
            out.extend_from_slice(&fence.0.to_be_bytes());
        }
        out
    }
}

/// A signature stands in front of the manifest that it signs.
const SIGNATURE_LEN: usize = 64;

impl Manifest {
    /// Checks, signs and seals.
    pub fn sign_and_seal(
        &self,
        by: &SigningSecret,
        key: &impl AsRef<ReadKey>,
        rng: &dyn Random,
    ) -> Result<Vec<u8>, Error> {
        let mut bytes = self.encode_after(SIGNATURE_LEN)?;
        let signature = by.sign(self.kind.signing_context(), &bytes[SIGNATURE_LEN..]);
        bytes[..SIGNATURE_LEN].copy_from_slice(&signature);
        let key = key.as_ref();
        key.seal_blob(self.kind.purpose(), &self.kind.place(self.job), &bytes, rng)
    }

    /// Opens a sealed manifest of this job and kind, signed by `by`; checks the signature before it reads anything.
    pub fn open(
        sealed: &[u8],
        key: &impl AsRef<ReadKey>,
        job: JobId,
        kind: &Kind,
        by: &VerifyKey,
    ) -> Result<Self, Error> {
        Ok(Opened::open(sealed.to_vec(), key, job, kind, by)?.unfold())
    }

    /// The manifest's bytes, after a check. They hold keys: they leave the process sealed only.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.encode_after(0)
    }
}

#[cfg(test)]
mod tests;
