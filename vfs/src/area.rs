//! The secure area on disk: sealed objects by name, and nothing else.
//!
//! An object's name is the BLAKE3 hash of its bytes. An object appears under its name whole or not at all: it is written under a
//! temporary name, made durable, then linked. No name, size or tree of the client's is on this disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use safelight_policies::id::ObjectId;

/// The largest object that is ever read whole into memory: a manifest of a million files.
const WHOLE_MAX: u64 = 1 << 30;

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
    /// Keeps the directory open if the area was handed over as a descriptor.
    _held: Option<OwnedFd>,
}

/// The mode of new directories: the owner writes, the view servers' group reads.
const DIRECTORY: u32 = 0o750;
/// The mode of new objects.
const OBJECT: u32 = 0o640;

impl Area {
    /// Opens an area, making its directory if need be.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = root.into();
        make_directory(&root)?;
        Ok(Self { root, _held: None })
    }

    /// The area in a directory that another process opened for this one, which may not be able to reach it by its path.
    pub fn held(directory: OwnedFd) -> Self {
        let root = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        Self {
            root,
            _held: Some(directory),
        }
    }

    /// The same area once more. The other one must outlive it if it was handed over as a descriptor.
    pub(crate) fn again(&self) -> Self {
        Self {
            root: self.root.clone(),
            _held: None,
        }
    }

    /// The area's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Stores an object under its name and makes it durable. What is there already is compared, and replaced if somebody changed it.
    pub fn put(&self, id: ObjectId, bytes: &[u8]) -> Result<(), Error> {
        debug_assert_eq!(blake3::hash(bytes).as_bytes(), &id.0);
        let path = self.path(id);
        if holds(&path, bytes) {
            return Ok(());
        }
        let directory = path.parent().unwrap_or(&self.root);
        make_directory(directory)?;
        let temporary = self.temporary(directory);
        let written = write_durably(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|source| {
            let _ = fs::remove_file(&temporary);
            Error::Write {
                path: path.clone(),
                source,
            }
        })?;
        sync_directory(directory)
    }

    /// Stores what `source` has to its end, at most `most` bytes, if it hashes to `id`; nothing else appears under that name, and no more than
    /// a little of it is in memory at a time. Answers its length.
    pub fn receive(&self, id: ObjectId, most: u64, source: &mut dyn Read) -> Result<u64, Error> {
        let path = self.path(id);
        let directory = path.parent().unwrap_or(&self.root);
        make_directory(directory)?;
        let temporary = self.temporary(directory);
        let failed = |source| Error::Write {
            path: path.clone(),
            source,
        };
        let received = create(&temporary).map_err(failed).and_then(|mut file| {
            let len = copy_verified(id, most, source, &mut file, &failed)?;
            file.sync_data().map_err(failed)?;
            fs::rename(&temporary, &path).map_err(failed)?;
            Ok(len)
        });
        if received.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        let len = received?;
        sync_directory(directory)?;
        Ok(len)
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
                make_directory(place.parent().unwrap_or(&self.root))?;
                fs::rename(&object, &place).map_err(|source| Error::Write {
                    path: place.clone(),
                    source,
                })?;
                give_to_owner_of(&self.root, &place)?;
                sync_directory(place.parent().unwrap_or(&self.root))?;
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
        let name = id.to_string();
        self.root.join(&name[..2]).join(name)
    }
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

fn make_directory(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY)
        .create(path)
        .map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
}

/// True if a file is there and holds exactly these bytes.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    let mut options = OpenOptions::new();
    let Ok(mut file) = options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
    else {
        return false;
    };
    if !file
        .metadata()
        .is_ok_and(|about| about.is_file() && about.len() == bytes.len() as u64)
    {
        return false;
    }
    let mut buffer = vec![0; 1 << 20];
    bytes.chunks(1 << 20).all(|part| {
        let there = &mut buffer[..part.len()];
        file.read_exact(there).is_ok() && there == part
    })
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OBJECT)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Copies to the end of `source`, and says how much that was if it was the object.
fn copy_verified(
    id: ObjectId,
    most: u64,
    source: &mut dyn Read,
    file: &mut File,
    failed: &dyn Fn(io::Error) -> Error,
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
        file.write_all(&buffer[..count]).map_err(failed)?;
    }
    if hasher.finalize().as_bytes() == &id.0 {
        Ok(len)
    } else {
        Err(Error::NotAuthentic { id })
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(bytes: &[u8]) -> ObjectId {
        ObjectId(*blake3::hash(bytes).as_bytes())
    }

    #[test]
    fn an_object_reads_back_and_a_changed_one_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path().join("area")).unwrap();
        area.put(id(b"one"), b"one").unwrap();
        area.put(id(b"one"), b"one").unwrap();
        assert_eq!(area.read(id(b"one")).unwrap(), b"one");
        fs::write(area.path(id(b"one")), b"two").unwrap();
        assert!(matches!(
            area.read(id(b"one")),
            Err(Error::NotAuthentic { .. })
        ));
        assert!(matches!(area.read(id(b"none")), Err(Error::Read { .. })));
    }

    #[test]
    fn an_object_that_was_changed_is_healed_when_it_is_stored_again() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path().join("area")).unwrap();
        let path = area.path(id(b"one"));
        let outside = directory.path().join("outside");
        fs::write(&outside, b"outside").unwrap();
        let spoil: [&dyn Fn(); 4] = [
            &|| fs::write(&path, b"two").unwrap(),
            &|| fs::write(&path, b"on").unwrap(),
            &|| fs::write(&path, b"one more").unwrap(),
            &|| {
                fs::remove_file(&path).unwrap();
                std::os::unix::fs::symlink(&outside, &path).unwrap();
            },
        ];
        area.put(id(b"one"), b"one").unwrap();
        for spoil in spoil {
            spoil();
            assert!(area.read(id(b"one")).is_err());
            area.put(id(b"one"), b"one").unwrap();
            assert_eq!(area.read(id(b"one")).unwrap(), b"one");
        }
        assert_eq!(fs::read(outside).unwrap(), b"outside");
        let before = fs::metadata(&path).unwrap().ino();
        area.put(id(b"one"), b"one").unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().ino(),
            before,
            "what is whole is not written again"
        );
    }

    #[test]
    fn an_attempts_objects_move_over_whole() {
        let directory = tempfile::tempdir().unwrap();
        let site = Area::open(directory.path().join("site")).unwrap();
        let attempt = Area::open(directory.path().join("attempt")).unwrap();
        attempt.put(id(b"a"), b"a").unwrap();
        attempt.put(id(b"b"), b"b").unwrap();
        fs::write(attempt.root().join(".not-an-object"), b"").unwrap_or_default();
        fs::remove_file(attempt.root().join(".not-an-object")).unwrap_or_default();
        assert_eq!(site.adopt(&attempt).unwrap().len(), 2);
        assert_eq!(site.read(id(b"b")).unwrap(), b"b");
        assert!(attempt.read(id(b"b")).is_err());
    }

    #[test]
    fn what_is_received_is_whole_and_itself_or_not_there() {
        struct Broken(&'static [u8]);
        impl Read for Broken {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                match std::mem::take(&mut self.0) {
                    [] => Err(io::ErrorKind::UnexpectedEof.into()),
                    bytes => {
                        out[..bytes.len()].copy_from_slice(bytes);
                        Ok(bytes.len())
                    }
                }
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let name = id(b"whole");
        let refused = |most, source: &mut dyn Read| area.receive(name, most, source).unwrap_err();
        assert!(matches!(
            refused(9, &mut &b"whol"[..]),
            Error::NotAuthentic { .. }
        ));
        assert!(matches!(
            refused(9, &mut &b"other"[..]),
            Error::NotAuthentic { .. }
        ));
        assert!(matches!(
            refused(4, &mut &b"whole"[..]),
            Error::TooLarge { .. }
        ));
        assert!(matches!(
            refused(9, &mut Broken(b"whole")),
            Error::Source { .. }
        ));
        let left = fs::read_dir(area.path(name).parent().unwrap()).unwrap();
        assert_eq!(left.count(), 0, "nothing is left of what was refused");
        assert_eq!(area.receive(name, 5, &mut &b"whole"[..]).unwrap(), 5);
        assert_eq!(area.read(name).unwrap(), b"whole");
    }

    #[test]
    fn an_object_that_is_a_symlink_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let path = area.path(id(b"x"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", path).unwrap();
        assert!(matches!(area.object(id(b"x")), Err(Error::Read { .. })));
    }
}
