//! Packing: a directory of the client's becomes sealed segments and the entries of a manifest.
//!
//! Each segment is hashed, encrypted and named from one buffer, so what was sealed is what was read, whatever the file does meanwhile.
//! Symbolic links are kept as they are and never followed. What is neither file, directory nor link cannot travel and is named.

mod select;

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use safelight_seal::{
    manifest::{Entry, EntryKind, PATH_MAX, SegmentRef},
    segment::{DedupKey, SEGMENT_MAX, seal_segment_into},
};

use zeroize::Zeroizing;

use crate::area::{self, Area, Batch};
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
    let mut packing = Packing::begin(root, area, key, progress)?;
    packing.visit(root)?;
    packing.finish()
}

/// Seals what is selected of a directory, like [`pack`]. A directory that is not there becomes an empty one.
pub fn pack_selection(
    selection: &Selection,
    area: &Area,
    key: &DedupKey,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Entry>, Error> {
    let root = selection.root();
    let mut packing = Packing::begin(root, area, key, progress)?;
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
    packing.finish()
}

struct Packing<'a> {
    root: &'a Path,
    batch: Batch<'a>,
    key: &'a DedupKey,
    progress: &'a mut dyn FnMut(Progress),
    done: Progress,
    entries: Vec<Entry>,
    /// Wiped when dropped.
    buffer: Zeroizing<Vec<u8>>,
    sealed: Vec<u8>,
}

impl<'a> Packing<'a> {
    fn begin(
        root: &'a Path,
        area: &'a Area,
        key: &'a DedupKey,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Result<Self, Error> {
        let failed = |source| Error::Read {
            path: root.to_owned(),
            source,
        };
        if !fs::metadata(root).map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self {
            root,
            batch: area.batch(),
            key,
            progress,
            done: Progress::default(),
            entries: Vec::new(),
            // As large as it will be, so that it never moves and leaves a copy behind.
            buffer: Zeroizing::new(Vec::with_capacity(SEGMENT_MAX)),
            sealed: Vec::new(),
        })
    }

    /// The entries, sorted by path, once everything that they name is in the area for good.
    fn finish(mut self) -> Result<Vec<Entry>, Error> {
        self.batch.settle()?;
        self.entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(self.entries)
    }

    /// Packs a path and all that is below it.
    fn visit(&mut self, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        if self.entry(path)? {
            for entry in fs::read_dir(path).map_err(failed)? {
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
            let (len, segments) = self.file(path)?;
            EntryKind::File { len, segments }
        } else {
            return Err(Error::Special {
                path: path.to_owned(),
            });
        };
        let is_directory = matches!(kind, EntryKind::Directory { .. });
        self.entries.push(Entry {
            path: self.relative(path)?,
            kind,
            mode: metadata.mode() & 0o777,
            mtime_ns: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
            xattrs: Vec::new(),
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

    fn file(&mut self, path: &Path) -> Result<(u64, Vec<SegmentRef>), Error> {
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let mut file = File::options()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map_err(failed)?;
        // The name may be something else's by now.
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Error::Special {
                path: path.to_owned(),
            });
        }
        let (mut len, mut segments) = (0, Vec::new());
        loop {
            self.buffer.clear();
            let read = (&mut file)
                .take(SEGMENT_MAX as u64)
                .read_to_end(&mut self.buffer)
                .map_err(failed)?;
            if read == 0 {
                break;
            }
            segments.push(self.segment(path)?);
            len += read as u64;
            self.done.bytes += read as u64;
            (self.progress)(self.done);
            if read < SEGMENT_MAX {
                break;
            }
        }
        self.done.files += 1;
        (self.progress)(self.done);
        Ok((len, segments))
    }

    fn segment(&mut self, path: &Path) -> Result<SegmentRef, Error> {
        let failed = |source| Error::Seal {
            path: path.to_owned(),
            source,
        };
        let len = self.buffer.len() as u32;
        if self.buffer.iter().all(|byte| *byte == 0) {
            return Ok(SegmentRef::zero(len));
        }
        let key = self.key.segment_key(&self.buffer);
        let (id, key) = seal_segment_into(key, &self.buffer, &mut self.sealed).map_err(failed)?;
        self.batch.put(id, &self.sealed)?;
        Ok(SegmentRef {
            object: Some(id),
            len,
            key,
        })
    }
}

#[cfg(test)]
mod tests;
