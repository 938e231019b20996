//! The secure area on disk: sealed objects by name, and nothing else.
//!
//! An object's name is the BLAKE3 hash of its bytes. An object appears under its name whole or not at all: it is written under a
//! temporary name, made durable, then renamed; and whoever is told that it is there is told so when its name is durable too. No name,
//! size or tree of the client's is on this disk.
//!
//! Several processes use one area at once. Whoever puts or claims an object holds its directory's lock together with others, and whoever
//! removes holds it alone ([`Area::collect`]).

mod batch;
mod collect;
#[cfg(test)]
mod crash;
mod disk;

use std::{
    fs::{self, File, FileTimes, OpenOptions},
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt, chown},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use safelight_policies::id::ObjectId;

use disk::{Disk, Real};

pub use batch::Batch;
pub use collect::Collected;

/// The largest object that is ever read whole into memory: a manifest of a million files.
const WHOLE_MAX: u64 = 1 << 30;

/// How long a claim need not be made again. Whoever collects spares what is younger than an hour at least.
const FRESH: Duration = Duration::from_secs(60);

/// What can go wrong with the area.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the area cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the area cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An object's bytes do not hash to its name.
    #[error("object {id} is not authentic: its bytes do not have the hash that is its name")]
    NotAuthentic {
        /// The object.
        id: ObjectId,
    },
    /// An object is larger than any that is read whole.
    #[error("object {id} is too large to be read whole")]
    TooLarge {
        /// The object.
        id: ObjectId,
    },
    /// Where an object comes from failed before its end.
    #[error("object {id} did not come whole")]
    Source {
        /// The object.
        id: ObjectId,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// True if the area does not hold what was put into it: an object that was changed, cut, swapped or removed.
    pub fn is_not_authentic(&self) -> bool {
        match self {
            Self::NotAuthentic { .. } | Self::TooLarge { .. } => true,
            Self::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Write { .. } | Self::Source { .. } => false,
        }
    }
}

/// Numbers temporary names: one counter for the process, since several of its threads may have the same directory open.
static NAMES: AtomicU64 = AtomicU64::new(0);

/// A directory of sealed objects.
#[derive(Debug)]
pub struct Area {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    /// Which of the 256 directories have durable names, as far as this process knows.
    fans: Mutex<[bool; 256]>,
    /// Which of them are there, likewise: nobody removes one.
    made: [AtomicBool; 256],
    /// Keeps the directory open if the area was handed over as a descriptor.
    _held: Option<OwnedFd>,
}

impl Area {
    /// Opens an area, making its directory if need be.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::open_on(root.into(), Arc::new(Real))
    }

    fn open_on(root: PathBuf, disk: Arc<dyn Disk>) -> Result<Self, Error> {
        let area = Self::at(root, disk, None);
        area.make_directory(&area.root)?;
        Ok(area)
    }

    fn at(root: PathBuf, disk: Arc<dyn Disk>, held: Option<OwnedFd>) -> Self {
        Self {
            root,
            disk,
            fans: Mutex::new([false; 256]),
            made: [const { AtomicBool::new(false) }; 256],
            _held: held,
        }
    }

    /// The area in a directory that another process opened for this one, which may not be able to reach it by its path.
    pub fn held(directory: OwnedFd) -> Self {
        let root = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        Self::at(root, Arc::new(Real), Some(directory))
    }

    /// The same area once more. The other one must outlive it if it was handed over as a descriptor.
    pub fn again(&self) -> Self {
        Self::at(self.root.clone(), self.disk.clone(), None)
    }

    /// The area's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Stores an object under its name and makes it durable. What is there already is compared, and replaced if somebody changed it.
    pub fn put(&self, id: ObjectId, bytes: &[u8]) -> Result<(), Error> {
        debug_assert_eq!(blake3::hash(bytes).as_bytes(), &id.0);
        let directory = self.durable_fan(id)?;
        // Whoever put it may not have come to this yet.
        if self.pinned(&directory, || self.holds(id, bytes))? {
            return self.sync_directory(&directory);
        }
        self.write(id, &directory, |file| {
            let path = self.path(id);
            let written = self.disk.write(file, bytes);
            written.map_err(|source| Error::Write { path, source })
        })
    }

    /// Stores what `source` has to its end, at most `most` bytes, if it hashes to `id`; nothing else appears under that name, and no more than
    /// a little of it is in memory at a time. Answers its length.
    pub fn receive(&self, id: ObjectId, most: u64, source: &mut dyn Read) -> Result<u64, Error> {
        let directory = self.durable_fan(id)?;
        self.write(id, &directory, |file| {
            self.copy_verified(id, most, source, file)
        })
    }

    /// Writes a file, then gives it an object's name.
    fn write<T>(
        &self,
        id: ObjectId,
        directory: &Path,
        fill: impl FnOnce(&mut File) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let path = self.path(id);
        let temporary = self.temporary(directory);
        let failed = |source| Error::Write {
            path: path.clone(),
            source,
        };
        let written = (|| {
            let mut file = self.disk.create(&temporary).map_err(failed)?;
            let filled = fill(&mut file)?;
            self.disk.sync(&file).map_err(failed)?;
            self.pinned(directory, || self.disk.rename(&temporary, &path))?
                .map_err(failed)?;
            Ok(filled)
        })();
        if written.is_err() {
            let _ = self.disk.remove(&temporary);
        }
        let filled = written?;
        self.sync_directory(directory)?;
        Ok(filled)
    }

    /// An object's length in bytes if it is here; then it is young again, and stays while whoever asked makes something refer to it.
    pub fn claim(&self, id: ObjectId) -> Result<Option<u64>, Error> {
        let path = self.path(id);
        let directory = self.fan_path(id);
        match fs::symlink_metadata(&path) {
            // Nobody removes it for a long while, so there is nothing to lock and nothing to change.
            Ok(about) if about.is_file() && is_fresh(&about) => return Ok(Some(about.len())),
            Ok(about) if about.is_file() => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Read { path, source }),
        }
        self.pinned(&directory, || {
            let Some(file) = open_plain(&path) else {
                return Ok(None);
            };
            file.set_times(FileTimes::new().set_modified(SystemTime::now()))
                .and_then(|()| file.metadata())
                .map(|about| Some(about.len()))
                .map_err(|source| Error::Write { path, source })
        })?
    }

    /// True if an object is here with exactly these bytes; then it is young again.
    fn holds(&self, id: ObjectId, bytes: &[u8]) -> bool {
        let Some(mut file) = open_plain(&self.path(id)) else {
            return false;
        };
        let same = |about: fs::Metadata| about.len() == bytes.len() as u64;
        if !file.metadata().is_ok_and(same) {
            return false;
        }
        let mut buffer = vec![0; bytes.len().min(1 << 20)];
        let there = bytes.chunks(1 << 20).all(|part| {
            let there = &mut buffer[..part.len()];
            file.read_exact(there).is_ok() && there == part
        });
        let now = FileTimes::new().set_modified(SystemTime::now());
        there && file.set_times(now).is_ok()
    }

    /// Does something under the lock that a removal needs alone.
    fn pinned<T>(&self, directory: &Path, act: impl FnOnce() -> T) -> Result<T, Error> {
        self.locked(directory, FlockArg::LockShared, act)
    }

    fn locked<T>(
        &self,
        directory: &Path,
        how: FlockArg,
        act: impl FnOnce() -> T,
    ) -> Result<T, Error> {
        let path = directory.to_owned();
        let mut file = match File::open(directory) {
            Ok(file) => file,
            Err(source) => return Err(Error::Read { path, source }),
        };
        loop {
            match Flock::lock(file, how) {
                Ok(_lock) => return Ok(act()),
                Err((again, Errno::EINTR)) => file = again,
                Err((_, errno)) => {
                    let source = errno.into();
                    return Err(Error::Write { path, source });
                }
            }
        }
    }

    /// A name in a directory that no object has.
    fn temporary(&self, directory: &Path) -> PathBuf {
        let number = NAMES.fetch_add(1, Ordering::Relaxed);
        directory.join(format!(".{}-{number}", std::process::id()))
    }

    /// Opens an object's file. Its bytes are as hostile as the disk: each block is authenticated as it is read.
    pub fn object(&self, id: ObjectId) -> Result<File, Error> {
        let path = self.path(id);
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|source| Error::Read { path, source })
    }

    /// Reads a whole object and checks it against its name.
    pub fn read(&self, id: ObjectId) -> Result<Vec<u8>, Error> {
        let mut file = self.object(id)?;
        let failed = |source| Error::Read {
            path: self.path(id),
            source,
        };
        if file.metadata().map_err(failed)?.len() > WHOLE_MAX {
            return Err(Error::TooLarge { id });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        if blake3::hash(&bytes).as_bytes() == &id.0 {
            Ok(bytes)
        } else {
            Err(Error::NotAuthentic { id })
        }
    }

    /// An object's length in bytes, if it is here.
    pub fn len(&self, id: ObjectId) -> Result<Option<u64>, Error> {
        let path = self.path(id);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// Takes over every object of another area on the same file system, which is how an attempt's outputs enter the site's area. Answers
    /// their names and lengths.
    pub fn adopt(&self, other: &Self) -> Result<Vec<(ObjectId, u64)>, Error> {
        let mut adopted = Vec::new();
        for fan in list(&other.root)? {
            for object in list(&fan)? {
                let Some(id) = object
                    .file_name()
                    .and_then(|name| name.to_str())
                    .and_then(|name| name.parse().ok())
                else {
                    continue;
                };
                let place = self.path(id);
                let directory = self.durable_fan(id)?;
                let moved = self.pinned(&directory, || self.disk.rename(&object, &place))?;
                moved.map_err(|source| Error::Write {
                    path: place.clone(),
                    source,
                })?;
                give_to_owner_of(&self.root, &place)?;
                self.sync_directory(&directory)?;
                let len = fs::symlink_metadata(&place).map(|metadata| metadata.len());
                let failed = |source| Error::Read {
                    path: place.clone(),
                    source,
                };
                adopted.push((id, len.map_err(failed)?));
            }
        }
        adopted.sort_unstable();
        Ok(adopted)
    }

    /// Where an object lies: 256 directories by the first byte of its name.
    fn path(&self, id: ObjectId) -> PathBuf {
        self.fan_path(id).join(id.to_string())
    }

    fn fan_path(&self, id: ObjectId) -> PathBuf {
        self.root.join(&id.to_string()[..2])
    }

    /// The directory of an object, made if need be; whether its own name is durable is another question.
    fn fan(&self, id: ObjectId) -> Result<PathBuf, Error> {
        let (path, made) = (self.fan_path(id), &self.made[usize::from(id.0[0])]);
        if !made.load(Ordering::Relaxed) {
            self.make_directory(&path)?;
            made.store(true, Ordering::Relaxed);
        }
        Ok(path)
    }

    /// The directory of an object, with a durable name. Asked of the disk once for each, since nobody removes them.
    fn durable_fan(&self, id: ObjectId) -> Result<PathBuf, Error> {
        let path = self.fan(id)?;
        let known = || self.fans.lock().unwrap_or_else(PoisonError::into_inner);
        let at = usize::from(id.0[0]);
        if !known()[at] {
            self.sync_directory(&self.root)?;
            known()[at] = true;
        }
        Ok(path)
    }

    fn make_directory(&self, path: &Path) -> Result<(), Error> {
        let made = self.disk.make_directory(path);
        made.map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
    }

    fn sync_directory(&self, path: &Path) -> Result<(), Error> {
        let synced = self.disk.sync_directory(path);
        synced.map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// Copies to the end of `source`, and says how much that was if it was the object.
    fn copy_verified(
        &self,
        id: ObjectId,
        most: u64,
        source: &mut dyn Read,
        file: &mut File,
    ) -> Result<u64, Error> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 256 * 1024];
        let mut len = 0;
        loop {
            let count = match source.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(Error::Source { id, source }),
            };
            if count == 0 {
                break;
            }
            len += count as u64;
            if len > most {
                return Err(Error::TooLarge { id });
            }
            hasher.update(&buffer[..count]);
            let written = self.disk.write(file, &buffer[..count]);
            written.map_err(|source| Error::Write {
                path: self.path(id),
                source,
            })?;
        }
        if hasher.finalize().as_bytes() == &id.0 {
            Ok(len)
        } else {
            Err(Error::NotAuthentic { id })
        }
    }
}

/// True for what was put or claimed just now.
fn is_fresh(about: &fs::Metadata) -> bool {
    let age = about.modified().ok().and_then(|at| at.elapsed().ok());
    age.is_some_and(|age| age < FRESH)
}

/// Opens a plain file, and nothing else.
fn open_plain(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    file.metadata()
        .is_ok_and(|about| about.is_file())
        .then_some(file)
}

/// What enters an area belongs to the area: whoever wrote it, and whoever has that user next, cannot touch it any more.
fn give_to_owner_of(root: &Path, object: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write {
        path: object.to_owned(),
        source,
    };
    let owner = fs::metadata(root).map_err(failed)?;
    let now = fs::symlink_metadata(object).map_err(failed)?;
    if (now.uid(), now.gid()) != (owner.uid(), owner.gid()) {
        chown(object, Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
    }
    Ok(())
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read {
        path: directory.to_owned(),
        source,
    };
    fs::read_dir(directory)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
        .collect()
}

#[cfg(test)]
mod tests;
