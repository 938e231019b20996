//! Packing: a directory of the client's becomes sealed segments and the entries of a manifest.
//!
//! Each segment is hashed, encrypted and named from one buffer, so what was sealed is what was read, whatever the file does meanwhile.
//! Symbolic links are kept as they are and never followed; several names of one file are kept as such, and so are `user.` attributes. What is
//! neither file, directory nor link cannot travel and is named.

mod attributes;
mod linked;
mod parts;
mod select;

use std::{
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use safelight_seal::{
    manifest::{Entry, EntryKind, PATH_MAX},
    segment::{DedupKey, SEGMENT_MAX},
};

use crate::{
    area::{self, Area},
    spread::spread,
};
use linked::Linked;
use parts::{FilePart, put_together, seal_part};
use select::Part;

pub use select::{NotChosen, Selection};

/// The mode of a directory that is made for the session.
const NEW_DIRECTORY: u32 = 0o755;

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
    whole(root, area, key, progress, |packing| packing.visit(root))
}

/// Seals what is selected of a directory, like [`pack`]. A directory that is not there becomes an empty one.
pub fn pack_selection(
    selection: &Selection,
    area: &Area,
    key: &DedupKey,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Entry>, Error> {
    let root = selection.root();
    whole(root, area, key, progress, |packing| {
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
    progress: &mut dyn FnMut(Progress),
    find: impl FnOnce(&mut Packing<'_>) -> Result<(), Error>,
) -> Result<Vec<Entry>, Error> {
    let (bytes, mut entries, mut done) = (AtomicU64::new(0), Vec::new(), Progress::default());
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
                linked: Linked::default(),
                hand,
                stopped: false,
            };
            packing.check_root()?;
            find(&mut packing)?;
            (done, entries, linked) = (packing.done, packing.entries, packing.linked);
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
    Ok(entries)
}

/// Finds what there is, and hands over what is to be sealed.
struct Packing<'a> {
    root: &'a Path,
    progress: &'a mut dyn FnMut(Progress),
    done: Progress,
    /// Bytes that are sealed so far.
    bytes: &'a AtomicU64,
    entries: Vec<Entry>,
    linked: Linked,
    /// Takes a part; false if something failed and nobody wants more.
    hand: &'a mut dyn FnMut(FilePart) -> bool,
    stopped: bool,
}

impl Packing<'_> {
    fn check_root(&self) -> Result<(), Error> {
        let failed = |source| Error::Read {
            path: self.root.to_owned(),
            source,
        };
        match fs::metadata(self.root).map_err(failed)?.is_dir() {
            true => Ok(()),
            false => Err(failed(io::ErrorKind::NotADirectory.into())),
        }
    }

    /// Packs a path and all that is below it.
    fn visit(&mut self, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        if self.entry(path)? {
            for entry in fs::read_dir(path).map_err(failed)? {
                if self.stopped {
                    break;
                }
                self.visit(&entry.map_err(failed)?.path())?;
            }
        }
        Ok(())
    }

    /// Packs one path; true if it is a directory.
    fn entry(&mut self, path: &Path) -> Result<bool, Error> {
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        // The directory itself may be reached through a link; nothing below it is followed.
        let metadata = if path == self.root {
            fs::metadata(path)
        } else {
            fs::symlink_metadata(path)
        }
        .map_err(failed)?;
        let kind = if metadata.is_dir() {
            EntryKind::Directory { opaque: false }
        } else if metadata.is_symlink() {
            EntryKind::Symlink {
                target: fs::read_link(path)
                    .map_err(failed)?
                    .as_os_str()
                    .as_bytes()
                    .to_vec(),
            }
        } else if metadata.is_file() {
            if !self.linked.is_known(&metadata, self.entries.len()) {
                self.file(path)?;
            }
            // What it has is known when it is sealed, and which of several names has it, when all are known.
            EntryKind::File {
                len: 0,
                segments: Vec::new(),
            }
        } else {
            return Err(Error::Special {
                path: path.to_owned(),
            });
        };
        let is_directory = matches!(kind, EntryKind::Directory { .. });
        let xattrs = match kind {
            // Nobody may give such attributes to a link.
            EntryKind::Symlink { .. } => Vec::new(),
            _ => attributes::of(path, path == self.root)?,
        };
        self.entries.push(Entry {
            path: self.relative(path)?,
            kind,
            mode: metadata.mode() & 0o777,
            mtime_ns: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
            xattrs,
        });
        Ok(is_directory)
    }

    /// Adds an empty directory that is not there.
    fn make(&mut self, path: &Path) -> Result<(), Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        self.entries.push(Entry {
            path: self.relative(path)?,
            kind: EntryKind::Directory { opaque: false },
            mode: NEW_DIRECTORY,
            mtime_ns: i64::try_from(now).unwrap_or(i64::MAX),
            xattrs: Vec::new(),
        });
        Ok(())
    }

    fn relative(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let relative = path
            .strip_prefix(self.root)
            .unwrap_or(path)
            .as_os_str()
            .as_bytes();
        if relative.len() > PATH_MAX {
            return Err(Error::TooLong {
                path: path.to_owned(),
            });
        }
        Ok(relative.to_vec())
    }

    /// Hands over the segments of a file that is about to become the next entry.
    fn file(&mut self, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        // The name may be something else's by now.
        if !metadata.is_file() {
            return Err(Error::Special {
                path: path.to_owned(),
            });
        }
        let (file, path): (_, Arc<Path>) = (Arc::new(file), path.into());
        // At least one, of nothing if need be: it is asked whether that is true.
        let len = metadata.len();
        let count = len.div_ceil(SEGMENT_MAX as u64).max(1);
        for segment in 0..count as usize {
            let rest = len - segment as u64 * SEGMENT_MAX as u64;
            let part = FilePart {
                place: (self.entries.len(), segment),
                len: rest.min(SEGMENT_MAX as u64) as usize,
                file: file.clone(),
                path: path.clone(),
            };
            if !(self.hand)(part) {
                self.stopped = true;
                break;
            }
            self.done.bytes = self.bytes.load(Ordering::Relaxed);
            (self.progress)(self.done);
        }
        self.done.files += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
