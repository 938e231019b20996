//! The one door into a hot folder. Every path is relative to the folder and resolved by openat2(2) beneath it, without any link.
//!
//! The folder is opened anew for each act, so that a medium can be unmounted between two, and one that is not mounted is noticed: its
//! marker is not there. What is opened to be read is a file, and was found to be one before it was opened: opening a device may do something.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use crate::{MediumError, What};

/// The file that makes a directory a hot folder.
pub const MARKER: &str = "safelight-hotfolder";

/// New directories: both sites' users share them by their group; the umask narrows it.
const DIRECTORY: Mode = Mode::from_raw_mode(0o770);
/// New files.
const FILE: Mode = Mode::from_raw_mode(0o660);

/// How often an openat2(2) is tried again that met a rename elsewhere.
const RACES: usize = 16;

/// A hot folder, opened.
pub(super) struct Door<'a> {
    folder: &'a Path,
    root: OwnedFd,
}

impl<'a> Door<'a> {
    /// Opens a folder that has the marker.
    pub(super) fn open(folder: &'a Path) -> Result<Self, MediumError> {
        let door = Self::open_any(folder)?;
        match door.what(Path::new(MARKER))? {
            Some((What::File, _)) => Ok(door),
            _ => Err(MediumError::NotAHotFolder {
                folder: folder.to_owned(),
                marker: MARKER,
            }),
        }
    }

    /// Opens a folder, hot or not. Its own path is the configuration's, and may lead through links.
    pub(super) fn open_any(folder: &'a Path) -> Result<Self, MediumError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::openat(CWD, folder, flags, Mode::empty()).map_err(|errno| match errno {
                Errno::ACCESS | Errno::PERM => MediumError::Denied {
                    folder: folder.to_owned(),
                    path: PathBuf::from("."),
                    source: errno.into(),
                },
                _ => MediumError::Gone {
                    folder: folder.to_owned(),
                    source: errno.into(),
                },
            })?;
        Ok(Self { folder, root })
    }

    fn at(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        for _ in 0..RACES {
            match rustix::fs::openat2(&self.root, path, flags, mode, resolve) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// What has this name, if anything has.
    pub(super) fn what(&self, path: &Path) -> Result<Option<(What, Stat)>, MediumError> {
        // O_PATH opens a link itself, but RESOLVE_NO_SYMLINKS refuses even that (openat2(2)): so ask its directory.
        let (parent, name) = self.parent(path)?;
        let Some(parent) = parent else {
            return Ok(None);
        };
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some((what(FileType::from_raw_mode(stat.st_mode)), stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.fault("look at", path, errno)),
        }
    }

    /// Opens a file to read it, if it is there, and says how long it is.
    pub(super) fn file(&self, path: &Path, max: u64) -> Result<Option<(File, u64)>, MediumError> {
        match self.what(path)? {
            None => return Ok(None),
            Some((What::File, _)) => {}
            Some((what, _)) => return Err(self.irregular(path, what)),
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.at(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(|errno| self.fault("open", path, errno))?,
        };
        // Once more, of what was opened: the name may be another's by now.
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.fault("look at", path, errno))?;
        let what = what(FileType::from_raw_mode(stat.st_mode));
        if what != What::File {
            return Err(self.irregular(path, what));
        }
        let len = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if len > max {
            return Err(MediumError::TooLong {
                folder: self.folder.to_owned(),
                path: path.to_owned(),
                len,
                max,
            });
        }
        Ok(Some((File::from(file), len)))
    }

    /// Opens a directory to list it, if it is there.
    pub(super) fn directory(&self, path: &Path) -> Result<Option<OwnedFd>, MediumError> {
        match self.at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR) => Err(self.not_a_directory(path)?),
            Err(errno) => Err(self.fault("open", path, errno)),
        }
    }

    /// What is in the place of a directory: the kernel says of a link that it is no directory, too.
    fn not_a_directory(&self, path: &Path) -> Result<MediumError, MediumError> {
        Ok(match self.what(path)? {
            Some((What::Symlink, _)) => self.fault("open", path, Errno::LOOP),
            Some((what, _)) => self.irregular(path, what),
            None => self.fault("open", path, Errno::NOTDIR),
        })
    }

    /// Opens a directory, making it and those above it if need be.
    pub(super) fn make_directory(&self, path: &Path) -> Result<OwnedFd, MediumError> {
        if let Some(directory) = self.directory(path)? {
            return Ok(directory);
        }
        let mut sofar = PathBuf::new();
        let mut above = self.directory(Path::new("."))?;
        for name in path.iter() {
            sofar.push(name);
            let parent = above.ok_or_else(|| self.fault("open", path, Errno::NOENT))?;
            match rustix::fs::mkdirat(&parent, name, DIRECTORY) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.fault("make", &sofar, errno)),
            }
            above = self.directory(&sofar)?;
        }
        above.ok_or_else(|| self.fault("make", path, Errno::NOENT))
    }

    /// Makes a new file in a directory that is open.
    pub(super) fn create(&self, directory: &OwnedFd, name: &OsStr) -> Result<File, Errno> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(directory, name, flags, FILE).map(File::from)
    }

    /// Removes a file, whether or not it is there. Nothing is followed.
    pub(super) fn remove(&self, path: &Path) -> Result<(), MediumError> {
        let (Some(parent), name) = self.parent(path)? else {
            return Ok(());
        };
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.fault("remove", path, errno)),
        }
    }

    /// How many bytes a user without privileges may still write.
    pub(super) fn free(&self) -> Result<u64, MediumError> {
        let stat = rustix::fs::fstatvfs(&self.root)
            .map_err(|errno| self.fault("measure", Path::new("."), errno))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// The directory of a path, if it is there, and the name in it.
    fn parent<'p>(&self, path: &'p Path) -> Result<(Option<OwnedFd>, &'p OsStr), MediumError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(self.fault("open", path, Errno::INVAL));
        };
        let here = parent.as_os_str().is_empty();
        let parent = if here { Path::new(".") } else { parent };
        Ok((self.directory(parent)?, name))
    }

    pub(super) fn full(&self, needed: u64) -> MediumError {
        MediumError::Full {
            folder: self.folder.to_owned(),
            needed,
            free: self.free().unwrap_or(0),
        }
    }

    pub(super) fn aside_full(&self, count: usize) -> MediumError {
        MediumError::AsideFull {
            folder: self.folder.to_owned(),
            count,
        }
    }

    pub(super) fn irregular(&self, path: &Path, what: What) -> MediumError {
        MediumError::Irregular {
            folder: self.folder.to_owned(),
            path: path.to_owned(),
            what,
        }
    }

    /// Says what an error number means for whoever runs the site.
    pub(super) fn fault(&self, act: &'static str, path: &Path, errno: Errno) -> MediumError {
        let (folder, path) = (self.folder.to_owned(), path.to_owned());
        let source = io::Error::from(errno);
        match errno {
            // One byte, or one name, at least.
            Errno::NOSPC | Errno::DQUOT => self.full(1),
            Errno::ROFS => MediumError::ReadOnly { folder },
            Errno::ACCESS | Errno::PERM => MediumError::Denied {
                folder,
                path,
                source,
            },
            Errno::LOOP | Errno::XDEV => MediumError::Escapes { folder, path },
            Errno::STALE | Errno::NODEV | Errno::NXIO | Errno::NOTCONN | Errno::HOSTDOWN => {
                MediumError::Gone { folder, source }
            }
            _ => MediumError::Io {
                folder,
                act,
                path,
                source,
            },
        }
    }
}

pub(super) fn what(kind: FileType) -> What {
    match kind {
        FileType::RegularFile => What::File,
        FileType::Symlink => What::Symlink,
        FileType::Directory => What::Directory,
        FileType::Fifo => What::Pipe,
        FileType::Socket => What::Socket,
        _ => What::Device,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_number_is_told_as_what_it_means() {
        let folder = tempfile::tempdir().unwrap();
        let door = Door::open_any(folder.path()).unwrap();
        let rows = [
            (Errno::NOSPC, "is full", true),
            (Errno::DQUOT, "is full", true),
            (Errno::ROFS, "is read-only", true),
            (Errno::STALE, "is not there", true),
            (Errno::HOSTDOWN, "is not there", true),
            (Errno::ACCESS, "no permission for x", false),
            (Errno::LOOP, "leads elsewhere", false),
            (Errno::XDEV, "leads elsewhere", false),
            (Errno::IO, "cannot read x", false),
        ];
        for (errno, said, of_the_folder) in rows {
            let fault = door.fault("read", Path::new("x"), errno);
            assert!(fault.to_string().contains(said), "{errno:?}: {fault}");
            assert!(
                fault
                    .to_string()
                    .contains(&folder.path().display().to_string()),
                "{fault}"
            );
            assert_eq!(fault.is_of_the_folder(), of_the_folder, "{errno:?}");
        }
    }
}
