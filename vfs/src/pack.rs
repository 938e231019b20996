//! Packing: a directory of the client's becomes sealed segments and the entries of a manifest.
//!
//! Each segment is hashed, encrypted and named from one buffer, so what was sealed is what was read, whatever the file does meanwhile.
//! Symbolic links are kept as they are and never followed; several names of one file are kept as such, and so are `user.` attributes. What is
//! neither file, directory nor link cannot travel and is named.

mod attributes;
mod find;
mod known;
mod linked;
mod measure;
mod parts;
mod select;

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use safelight_seal::{manifest::Entry, segment::DedupKey};

use crate::{
    area::{self, Area},
    spread::spread,
};
use find::Packing;
use known::Clocks;
use linked::Linked;
use parts::{put_together, seal_part};
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
    /// More, or longer, attributes than a manifest takes.
    #[error("{} has more than 64 extended attributes, or one of more than 64 KiB", path.display())]
    TooManyAttributes {
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
    let mut linked = Linked::default();
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
                linked: Linked::default(),
                hand,
                stopped: false,
            };
            packing.check_root()?;
            find(&mut packing)?;
            (done, entries) = (packing.done, packing.entries);
            (linked, facts) = (packing.linked, packing.facts);
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
    linked.settle(&mut entries);
    done.bytes = bytes.into_inner();
    progress(done);
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Packed { entries, facts })
}

#[cfg(test)]
mod tests;
