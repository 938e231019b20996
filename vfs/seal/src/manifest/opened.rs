//! An opened manifest as it was signed: its bytes, and where each entry begins in them.
//!
//! A manifest of a million files is a hundred megabytes, and several times that as a list of [`Entry`]. Who holds one for as long as a
//! session lasts keeps the bytes, and reads an entry when somebody asks for it. What is here was checked as a whole: an entry that can be
//! asked for decodes.

use std::sync::Arc;

use safelight_policies::{
    id::{JobId, ObjectId, VerifyKey},
    path::CentralPath,
};
use zeroize::Zeroizing;

use super::{Entry, EntryKind, Kind, Manifest, SIGNATURE_LEN, SegmentRef, Tree, check, codec};
use crate::{
    Error,
    identity::verify,
    job_key::ReadKey,
    segment::{OpenKey, SEGMENT_MAX},
};

/// A manifest, opened and not unfolded.
pub struct Opened {
    /// Of which job.
    pub job: JobId,
    /// Inputs or outputs.
    pub kind: Kind,
    /// One for each central path, sorted by it, none within another.
    pub trees: Vec<OpenedTree>,
}

/// What is below one central path.
pub struct OpenedTree {
    /// The central path.
    pub path: CentralPath,
    /// Sorted by path as bytes. The first is the root.
    pub entries: Entries,
}

/// The entries of one tree. They hold keys: wiped when the last of those who share them lets go.
#[derive(Clone)]
pub struct Entries {
    bytes: Arc<Zeroizing<Vec<u8>>>,
    starts: Arc<[u32]>,
}

/// One name, where it lies.
#[derive(Clone)]
pub struct EntryRef<'a> {
    /// As [`Entry::path`].
    pub path: &'a [u8],
    /// What it is.
    pub kind: KindRef<'a>,
    /// As [`Entry::mode`].
    pub mode: u32,
    /// As [`Entry::mtime_ns`].
    pub mtime_ns: i64,
    /// As [`Entry::xattrs`].
    pub xattrs: Vec<(&'a [u8], &'a [u8])>,
}

/// What a name is: as [`EntryKind`].
#[derive(Clone)]
pub enum KindRef<'a> {
    /// A directory.
    Directory {
        /// True if it hides what the inputs have at its place.
        opaque: bool,
    },
    /// A file.
    File {
        /// Bytes.
        len: u64,
        /// What they are in.
        segments: Segments<'a>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: &'a [u8],
    },
    /// Another name of a file.
    Link {
        /// The path of that file.
        to: &'a [u8],
    },
    /// Nothing any more.
    Whiteout,
}

/// The segments of a file, where they lie.
#[derive(Clone)]
pub struct Segments<'a>(Lie<'a>);

#[derive(Clone)]
enum Lie<'a> {
    Listed(&'a [SegmentRef]),
    /// Records of object and key; lengths follow from the file's.
    Records(u64, &'a [[u8; codec::RECORD_LEN]]),
}

impl<'a> Segments<'a> {
    pub(super) fn records(len: u64, records: &'a [[u8; codec::RECORD_LEN]]) -> Self {
        Self(Lie::Records(len, records))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self.0 {
            Lie::Listed(list) => list.len(),
            Lie::Records(_, records) => records.len(),
        }
    }

    /// True if the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = SegmentRef> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// The segment of this number.
    pub fn get(&self, at: usize) -> Option<SegmentRef> {
        match self.0 {
            Lie::Listed(list) => list.get(at).cloned(),
            Lie::Records(len, records) => {
                let (object, key) = records.get(at)?.split_at(32);
                let mut open = Zeroizing::new([0; 32]);
                open.copy_from_slice(key);
                Some(SegmentRef {
                    object: name(object),
                    len: at_most_one(len, at),
                    key: OpenKey::from_bytes(&open),
                })
            }
        }
    }

    /// Bytes that are in objects: all but segments of zeros.
    pub fn stored(&self) -> u64 {
        match self.0 {
            Lie::Listed(list) => {
                let stored = list.iter().filter(|segment| segment.object.is_some());
                stored.map(|segment| u64::from(segment.len)).sum()
            }
            Lie::Records(len, records) => {
                let all = records.iter().enumerate();
                let stored = all.filter(|(_, record)| name(&record[..32]).is_some());
                stored.map(|(at, _)| u64::from(at_most_one(len, at))).sum()
            }
        }
    }
}

/// Bytes of the segment of this number in a file of this length.
fn at_most_one(len: u64, at: usize) -> u32 {
    let before = at as u64 * SEGMENT_MAX as u64;
    len.saturating_sub(before).min(SEGMENT_MAX as u64) as u32
}

fn name(object: &[u8]) -> Option<ObjectId> {
    let object: [u8; 32] = object.try_into().ok()?;
    (object != [0; 32]).then_some(ObjectId(object))
}

impl Opened {
    /// Opens a sealed manifest of this job and kind, signed by `by`, where it lies; checks the signature before it reads anything.
    pub fn open(
        sealed: Vec<u8>,
        key: &impl AsRef<ReadKey>,
        job: JobId,
        kind: &Kind,
        by: &VerifyKey,
    ) -> Result<Self, Error> {
        let key = key.as_ref();
        let bytes = key.open_blob_in_place(kind.purpose(), &kind.place(job), sealed)?;
        let (signature, body) = bytes
            .split_first_chunk::<SIGNATURE_LEN>()
            .ok_or(check::malformed("it is too short"))?;
        verify(kind.signing_context(), by, body, signature)?;
        let parsed = codec::parse(&bytes, SIGNATURE_LEN)?;
        if parsed.job != job || parsed.kind != *kind {
            return Err(Error::NotTheOne {
                wanted: "the manifest of this job and attempt",
                found: "the manifest of another",
            });
        }
        Ok(parsed.held(Arc::new(bytes)))
    }

    /// The same as a list of entries.
    pub fn unfold(&self) -> Manifest {
        let trees = self.trees.iter().map(|tree| Tree {
            path: tree.path.clone(),
            entries: tree.entries.iter().map(|entry| entry.to_entry()).collect(),
        });
        Manifest {
            job: self.job,
            kind: self.kind,
            trees: trees.collect(),
        }
    }
}

impl codec::Parsed {
    /// What was found in these bytes, with them.
    pub(super) fn held(self, bytes: Arc<Zeroizing<Vec<u8>>>) -> Opened {
        let trees = self.trees.into_iter().map(|(path, starts)| OpenedTree {
            path,
            entries: Entries {
                bytes: bytes.clone(),
                starts: starts.into(),
            },
        });
        Opened {
            job: self.job,
            kind: self.kind,
            trees: trees.collect(),
        }
    }
}

impl Entries {
    /// A list of entries as if a manifest, a result's, had them; they must be as one has them.
    pub fn of(list: &[Entry]) -> Result<Self, Error> {
        check::tree(&list, true)?;
        let (bytes, starts) = codec::write(list)?;
        Ok(Self {
            bytes: Arc::new(bytes),
            starts: starts.into(),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Never: a tree has a root.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The entry of this number.
    pub fn get(&self, at: usize) -> Option<EntryRef<'_>> {
        self.rows().entry(at)
    }

    /// The path of the entry of this number; of none, the root's.
    pub fn path(&self, at: usize) -> &[u8] {
        self.rows().path(at)
    }

    /// The number of the entry of this path.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        check::find(&self.rows(), self.len(), path)
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    fn rows(&self) -> codec::Rows<'_> {
        codec::Rows {
            bytes: &self.bytes,
            starts: &self.starts,
        }
    }
}

impl EntryRef<'_> {
    /// An entry of its own.
    pub fn to_entry(&self) -> Entry {
        let owned = |(name, value): &(&[u8], &[u8])| (name.to_vec(), value.to_vec());
        Entry {
            path: self.path.to_vec(),
            kind: match &self.kind {
                KindRef::Directory { opaque } => EntryKind::Directory { opaque: *opaque },
                KindRef::File { len, segments } => EntryKind::File {
                    len: *len,
                    segments: segments.iter().collect(),
                },
                KindRef::Symlink { target } => EntryKind::Symlink {
                    target: target.to_vec(),
                },
                KindRef::Link { to } => EntryKind::Link { to: to.to_vec() },
                KindRef::Whiteout => EntryKind::Whiteout,
            },
            mode: self.mode,
            mtime_ns: self.mtime_ns,
            xattrs: self.xattrs.iter().map(owned).collect(),
        }
    }
}

impl Entry {
    /// The entry, where it lies.
    pub(super) fn lying(&self) -> EntryRef<'_> {
        let pairs = self.xattrs.iter();
        EntryRef {
            path: &self.path,
            kind: match &self.kind {
                EntryKind::Directory { opaque } => KindRef::Directory { opaque: *opaque },
                EntryKind::File { len, segments } => KindRef::File {
                    len: *len,
                    segments: Segments(Lie::Listed(segments)),
                },
                EntryKind::Symlink { target } => KindRef::Symlink { target },
                EntryKind::Link { to } => KindRef::Link { to },
                EntryKind::Whiteout => KindRef::Whiteout,
            },
            mode: self.mode,
            mtime_ns: self.mtime_ns,
            xattrs: pairs.map(|(name, value)| (&name[..], &value[..])).collect(),
        }
    }
}
