//! An index on the disk: sealed parts, one for each block of the log, and a sealed head that names them.
//!
//! Invariants: it is derived from a log that was whole when it was made, and of use only while the log's file is the one that was looked at:
//! same inode, length and times. It holds names, so nothing of it is in the clear. Whoever has not the job's key can take it away and no
//! more: a part has a number, and the head names the tag of each, so parts of two indexes do not mix.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt},
    path::Path,
};

use safelight_audit::{Checkpoint, Header, Record, pass::Position};
use safelight_policies::id::ObjectId;
use safelight_seal::audit_key::IndexKey;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::digest::{Kind, Tally, Who};

const MAGIC: &[u8; 8] = b"SLINDEX\0";

/// Another version of an index is as good as none.
const VERSION: u16 = 1;

const BEGIN: u64 = 10;

/// A head names every path of a log of any size; what is longer was not made by us.
const HEAD_MAX: u64 = 1 << 32;

/// Which bytes an index is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stamp {
    /// A file, as it was.
    File {
        inode: u64,
        len: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
    /// Objects, which never change.
    Objects(Vec<ObjectId>),
}

impl Stamp {
    /// The stamp of a file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let it = file.metadata()?;
        Ok(Self::File {
            inode: it.ino(),
            len: it.len(),
            modified: (it.mtime(), it.mtime_nsec()),
            changed: (it.ctime(), it.ctime_nsec()),
        })
    }
}

/// A part of an index: one block of the log.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) from: Position,
    pub(super) to: Position,
    /// When its first and its last record was written.
    pub(super) times: (u64, u64),
    at: u64,
    len: u64,
    tag: [u8; 16],
}

/// How much of a kind is in a block.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Share {
    /// The place of the kind in the head's list.
    pub(super) kind: u32,
    pub(super) tally: Tally,
}

/// What a part says: how much of each kind, and where its records begin in the block, each kind's in order as differences.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Shares {
    pub(super) shares: Vec<Share>,
    offsets: Vec<u32>,
}

impl Shares {
    pub(super) fn new(kinds: impl IntoIterator<Item = (Share, Vec<u32>)>) -> Self {
        let (mut shares, mut offsets) = (Vec::new(), Vec::new());
        for (share, places) in kinds {
            shares.push(share);
            let mut before = 0;
            for place in places {
                offsets.push(place.wrapping_sub(before));
                before = place;
            }
        }
        Self { shares, offsets }
    }

    /// Where the records of these kinds begin, each with its share, by place.
    pub(super) fn places(&self, wanted: impl Fn(u32) -> bool) -> Vec<(u32, Share)> {
        let mut found = Vec::new();
        let mut rest = self.offsets.as_slice();
        for share in &self.shares {
            let count = usize::try_from(share.tally.count).unwrap_or(usize::MAX);
            let (own, others) = rest.split_at(count.min(rest.len()));
            rest = others;
            if wanted(share.kind) {
                let mut place = 0_u32;
                found.extend(own.iter().map(|step| {
                    place = place.wrapping_add(*step);
                    (place, *share)
                }));
            }
        }
        found.sort_unstable_by_key(|(place, _)| *place);
        found
    }
}

/// What an index says of the whole log.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) of: Stamp,
    pub(super) header: Header,
    /// What was noted of the log elsewhere when it was gone through, and held.
    pub(super) anchor: Option<Checkpoint>,
    pub(super) end: Position,
    pub(super) whos: Vec<Who>,
    pub(super) paths: Vec<Vec<u8>>,
    pub(super) kinds: Vec<(Kind, Tally)>,
    pub(super) controls: Vec<Record>,
    pub(super) parts: Vec<Part>,
}

/// An index that is being written.
pub(super) struct Making<'a> {
    file: NamedTempFile,
    key: &'a IndexKey,
    at: u64,
    parts: Vec<Part>,
}

fn invalid(_: impl std::error::Error) -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}

impl<'a> Making<'a> {
    /// Begins one that will be at `path`.
    pub(super) fn begin(path: &Path, key: &'a IndexKey) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let mut file = NamedTempFile::new_in(directory)?;
        file.write_all(MAGIC)?;
        file.write_all(&VERSION.to_le_bytes())?;
        Ok(Self {
            file,
            key,
            at: BEGIN,
            parts: Vec::new(),
        })
    }

    /// Adds the part of the next block.
    pub(super) fn part(
        &mut self,
        (from, to): (Position, Position),
        times: (u64, u64),
        shares: &Shares,
    ) -> io::Result<()> {
        let plain = postcard::to_stdvec(shares).map_err(invalid)?;
        let number = self.parts.len() as u64 + 1;
        let sealed = self.key.seal(number, &plain).map_err(invalid)?;
        self.file.write_all(&sealed)?;
        let mut tag = [0; 16];
        tag.copy_from_slice(&sealed[sealed.len() - 16..]);
        self.parts.push(Part {
            from,
            to,
            times,
            at: self.at,
            len: sealed.len() as u64,
            tag,
        });
        self.at += sealed.len() as u64;
        Ok(())
    }

    /// Writes the head, which is given the parts, and puts the index into its place. It need not outlive a crash: it can be made again.
    pub(super) fn end(mut self, path: &Path, mut head: Head) -> io::Result<(File, Head)> {
        head.parts = self.parts;
        let plain = postcard::to_stdvec(&head).map_err(invalid)?;
        let sealed = self.key.seal(0, &plain).map_err(invalid)?;
        self.file.write_all(&sealed)?;
        self.file.write_all(&(sealed.len() as u64).to_le_bytes())?;
        let file = self.file.persist(path).map_err(|error| error.error)?;
        Ok((file, head))
    }
}

/// Opens an index; `None` if there is none that this key opens.
pub(super) fn open(path: &Path, key: &IndexKey) -> Option<(File, Head)> {
    let mut file = File::open(path).ok()?;
    let mut begin = [0; BEGIN as usize];
    file.read_exact(&mut begin).ok()?;
    if begin[..8] != MAGIC[..] || begin[8..] != VERSION.to_le_bytes() {
        return None;
    }
    let end = file.metadata().ok()?.len().checked_sub(8)?;
    let mut len = [0; 8];
    file.read_exact_at(&mut len, end).ok()?;
    let len = u64::from_le_bytes(len);
    let at = end.checked_sub(len).filter(|at| *at >= BEGIN)?;
    let mut sealed = vec![0; usize::try_from(len).ok().filter(|_| len <= HEAD_MAX)?];
    file.read_exact_at(&mut sealed, at).ok()?;
    let head = postcard::from_bytes(&key.open(0, &sealed).ok()?).ok()?;
    Some((file, head))
}

/// Reads a part; `None` if it is not the one that was written.
pub(super) fn part(file: &File, key: &IndexKey, number: usize, part: &Part) -> Option<Shares> {
    let within = part.at.checked_add(part.len)? <= file.metadata().ok()?.len();
    let mut sealed = vec![0; usize::try_from(part.len).ok().filter(|_| within)?];
    file.read_exact_at(&mut sealed, part.at).ok()?;
    if !sealed.ends_with(&part.tag) {
        return None;
    }
    let plain = key.open(number as u64 + 1, &sealed).ok()?;
    postcard::from_bytes(&plain).ok()
}

/// Takes an index away that is of no use.
pub(super) fn remove(path: &Path) {
    let _nothing_lost = fs::remove_file(path);
}
