//! Packing: a directory of the client's becomes sealed segments and the entries of a manifest.
//!
//! Each segment is hashed, encrypted and named from one buffer, so what was sealed is what was read, whatever the file does meanwhile.
//! Symbolic links are kept as they are and never followed. What is neither file, directory nor link cannot travel and is named.

mod find;
mod known;
mod select;

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use safelight_seal::{
    manifest::{Entry, EntryKind, SegmentRef},
    segment::{DedupKey, SEGMENT_MAX, seal_segment_into},
};

use crate::{
    area::{self, Area, Batch},
    spread::{Room, spread},
};
use find::Packing;
use known::Clocks;
use select::Part;

pub use known::{Facts, Known};
pub use select::{NotChosen, Selection};

/// What can go wrong while packing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the client's cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pipe, socket or device.
    #[error("{} is neither a file nor a directory nor a symbolic link, so it cannot travel", path.display())]
    Special {
        /// The path.
        path: PathBuf,
    },
    /// A path is longer than a manifest takes.
    #[error("{} is longer than 4,096 bytes below the central path", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The area does not take an object.
    #[error("cannot store what was sealed")]
    Store {
        /// Why.
        #[from]
        source: area::Error,
    },
    /// The cipher failed.
    #[error("cannot seal {}", path.display())]
    Seal {
        /// The file.
        path: PathBuf,
        /// Why.
        source: safelight_seal::Error,
    },
}

/// How far packing has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files packed.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// Seals everything below `root` into `area`; answers the entries of a manifest, sorted by path. `progress` hears of each file.
pub fn pack(
    root: &Path,
    area: &Area,
    key: &DedupKey,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Entry>, Error> {
    let known = Known::nothing();
    let packed = whole(root, area, key, &known, progress, |packing| {
        packing.visit(root)
    })?;
    Ok(packed.entries)
}

/// What was packed.
pub struct Packed {
    /// The entries of a manifest, sorted by path.
    pub entries: Vec<Entry>,
    /// What files were like, for those of which that tells later whether they are still the same.
    pub facts: Vec<(Vec<u8>, Facts)>,
}

/// Seals what is selected of a directory, like [`pack`], but for files that are `known`. A directory that is not there becomes an empty one.
pub fn pack_selection(
    selection: &Selection,
    area: &Area,
    key: &DedupKey,
    known: &Known,
    progress: &mut dyn FnMut(Progress),
) -> Result<Packed, Error> {
    let root = selection.root();
    whole(root, area, key, known, progress, |packing| {
        for (path, part) in selection.parts() {
            // Joining nothing would add a slash.
            let path = match path.as_os_str().is_empty() {
                true => root.to_owned(),
                false => root.join(path),
            };
            match part {
                Part::Whole => packing.visit(&path)?,
                Part::Alone => packing.entry(&path).map(drop)?,
                Part::New => packing.make(&path)?,
            }
        }
        Ok(())
    })
}

/// Finds entries with `find` while others seal the segments of what was found. Everything that they name is in the area for good.
fn whole(
    root: &Path,
    area: &Area,
    key: &DedupKey,
    known: &Known,
    progress: &mut dyn FnMut(Progress),
    find: impl FnOnce(&mut Packing<'_>) -> Result<(), Error>,
) -> Result<Packed, Error> {
    let (bytes, mut entries, mut done) = (AtomicU64::new(0), Vec::new(), Progress::default());
    let mut facts = Vec::new();
    let batch = area.batch();
    let sealed = spread(
        |hand| {
            let mut packing = Packing {
                root,
                progress,
                done,
                bytes: &bytes,
                entries: Vec::new(),
                area,
                known,
                facts: Vec::new(),
                clocks: Clocks::default(),
                hand,
                stopped: false,
            };
            packing.check_root()?;
            find(&mut packing)?;
            (done, entries, facts) = (packing.done, packing.entries, packing.facts);
            Ok::<_, Error>(())
        },
        |room, part| {
            let sealed = seal_part(&batch, key, &part, room)?;
            bytes.fetch_add(u64::from(sealed.len), Ordering::Relaxed);
            Ok((part.place, sealed))
        },
    )?;
    batch.settle()?;
    put_together(&mut entries, sealed);
    done.bytes = bytes.into_inner();
    progress(done);
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Packed { entries, facts })
}

/// One segment of a file.
struct FilePart {
    /// Which entry it is of, and which of its segments.
    place: (usize, usize),
    /// How many bytes it has, as the file says.
    len: usize,
    file: Arc<File>,
    path: Arc<Path>,
}

/// Reads and seals one segment. It has no bytes if the file ends before it.
fn seal_part(
    batch: &Batch<'_>,
    key: &DedupKey,
    part: &FilePart,
    room: &mut Room,
) -> Result<SegmentRef, Error> {
    let failed = |source| Error::Read {
        path: part.path.to_path_buf(),
        source,
    };
    let start = part.place.1 as u64 * SEGMENT_MAX as u64;
    let mut most = part.len;
    if most == 0 {
        // Some files say that they are empty, and are not.
        let more = read_at(&part.file, start, &mut [0]).map_err(failed)? > 0;
        most = if more { SEGMENT_MAX } else { 0 };
    }
    room.make(most);
    let Room { plain, sealed } = room;
    let len = read_at(&part.file, start, &mut plain[..most]).map_err(failed)?;
    let plaintext = &plain[..len];
    if plaintext.iter().all(|byte| *byte == 0) {
        return Ok(SegmentRef::zero(len as u32));
    }
    let key = key.segment_key(plaintext);
    let (id, key) = seal_segment_into(key, plaintext, sealed).map_err(|source| Error::Seal {
        path: part.path.to_path_buf(),
        source,
    })?;
    batch.put(id, sealed)?;
    Ok(SegmentRef {
        object: Some(id),
        len: len as u32,
        key,
    })
}

/// Fills `out` from `start` on; answers how much there was before the end of the file.
fn read_at(file: &File, start: u64, out: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < out.len() {
        match file.read_at(&mut out[len..], start + len as u64) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Gives each file its segments. A file that became shorter meanwhile ends with its first short one, as whoever reads it from its beginning
/// would have it.
fn put_together(entries: &mut [Entry], mut sealed: Vec<((usize, usize), SegmentRef)>) {
    sealed.sort_unstable_by_key(|(place, _)| *place);
    for ((entry, _), part) in sealed {
        let EntryKind::File { len, segments } = &mut entries[entry].kind else {
            continue;
        };
        let complete = *len == segments.len() as u64 * SEGMENT_MAX as u64;
        if complete && part.len > 0 {
            *len += u64::from(part.len);
            segments.push(part);
        }
    }
}

#[cfg(test)]
mod tests;
