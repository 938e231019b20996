//! Finds what is to be packed: one thread looks at names, and hands over what others read and seal.

use std::{
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use safelight_seal::{
    manifest::{Entry, EntryKind, PATH_MAX},
    segment::SEGMENT_MAX,
};

use super::{
    Error, Progress, attributes,
    known::{Clocks, Facts, Known},
    linked::Linked,
    parts::FilePart,
};
use crate::area::Area;

/// The mode of a directory that is made for the session.
const NEW_DIRECTORY: u32 = 0o755;

/// Finds what there is, and hands over what is to be sealed.
pub(super) struct Packing<'a> {
    pub(super) root: &'a Path,
    pub(super) progress: &'a mut dyn FnMut(Progress),
    pub(super) done: Progress,
    /// Bytes that are sealed so far.
    pub(super) bytes: &'a AtomicU64,
    pub(super) entries: Vec<Entry>,
    pub(super) area: &'a Area,
    pub(super) known: &'a Known,
    pub(super) facts: Vec<(Vec<u8>, Facts)>,
    pub(super) clocks: Clocks,
    pub(super) linked: Linked,
    /// Takes a part; false if something failed and nobody wants more.
    pub(super) hand: &'a mut dyn FnMut(FilePart) -> bool,
    pub(super) stopped: bool,
}

impl Packing<'_> {
    pub(super) fn check_root(&self) -> Result<(), Error> {
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
    pub(super) fn visit(&mut self, path: &Path) -> Result<(), Error> {
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
    pub(super) fn entry(&mut self, path: &Path) -> Result<bool, Error> {
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
            // Which of several names has its bytes is known when all are.
            match self.linked.is_known(&metadata, self.entries.len()) {
                true => later(),
                false => match self.same(path, &metadata)? {
                    Some(same) => same,
                    None => self.file(path)?,
                },
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
    pub(super) fn make(&mut self, path: &Path) -> Result<(), Error> {
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

    /// What a file has that was sealed before and did not change since.
    fn same(&mut self, path: &Path, metadata: &fs::Metadata) -> Result<Option<EntryKind>, Error> {
        let (relative, facts) = (self.relative(path)?, Facts::of(metadata));
        let Some(segments) = self.known.of(&relative, &facts) else {
            return Ok(None);
        };
        for object in segments.iter().filter_map(|segment| segment.object) {
            // It is young again, so that nobody removes it before the manifest names it.
            if self.area.claim(object)?.is_none() {
                return Ok(None);
            }
        }
        let (len, segments) = (metadata.len(), segments.to_vec());
        self.facts.push((relative, facts));
        self.done.files += 1;
        self.bytes.fetch_add(len, Ordering::Relaxed);
        self.done.bytes = self.bytes.load(Ordering::Relaxed);
        (self.progress)(self.done);
        Ok(Some(EntryKind::File { len, segments }))
    }

    /// Hands over the segments of a file that is about to become the next entry. What it has is known when they are sealed.
    fn file(&mut self, path: &Path) -> Result<EntryKind, Error> {
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
        let facts = Facts::of(&metadata);
        if self.clocks.believes(&facts, &file) {
            self.facts.push((self.relative(path)?, facts));
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
        Ok(later())
    }
}

/// A file of which it is not known yet what it has.
fn later() -> EntryKind {
    EntryKind::File {
        len: 0,
        segments: Vec::new(),
    }
}
