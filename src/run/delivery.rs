//! Storing results in a client's own directories: beneath them, following nothing, over nothing.
//!
//! Every step goes through `openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS` (openat2(2)): a result tree with `..`, with links
//! or with names that race with somebody's renames cannot leave the directory it belongs to. A file is written under a temporary name,
//! made durable, and then linked; a link fails where something stands, so nothing is ever replaced by accident.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Write,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use safelight_seal::manifest::{Entry, EntryKind};
use safelight_vfs::whole::Whole;

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{Homeward, Left},
    opened::OpenedJob,
};

/// What was stored.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// Files that were stored where they belong.
    pub(super) stored: Vec<PathBuf>,
    /// Where something stood already, and where the new file is instead.
    pub(super) aside: Vec<(PathBuf, PathBuf)>,
}

/// How many bytes are opened and written at a time.
const CHUNK: usize = 1 << 20;

/// Stores an attempt's results.
pub(super) fn deliver(
    opened: &OpenedJob,
    left: &Left,
    homeward: &Homeward,
    overwrite: bool,
) -> Result<Delivered, Failure> {
    let results = opened.results(left)?;
    let mut delivered = Delivered::default();
    for tree in &results.trees {
        let place = homeward
            .places
            .iter()
            .find(|(path, _, _)| *path == tree.path);
        let Some((_, host, true)) = place else {
            continue;
        };
        let host = PathBuf::from(OsStr::from_bytes(host));
        let root = File::open(&host)
            .map(OwnedFd::from)
            .map_err(|error| cannot(&host, error))?;
        let mut store = Store {
            opened,
            root,
            host,
            overwrite,
            delivered: &mut delivered,
        };
        for entry in &tree.entries {
            store.entry(entry)?;
        }
    }
    Ok(delivered)
}

struct Store<'a> {
    opened: &'a OpenedJob,
    root: OwnedFd,
    host: PathBuf,
    overwrite: bool,
    delivered: &'a mut Delivered,
}

impl Store<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), Failure> {
        let path = Path::new(OsStr::from_bytes(&entry.path));
        match &entry.kind {
            EntryKind::Directory { .. } if entry.path.is_empty() => Ok(()),
            EntryKind::Directory { .. } => self.directory(path, entry.mode),
            EntryKind::File { .. } => {
                self.place(path, |store, name, parent| store.file(entry, name, parent))
            }
            EntryKind::Symlink { target } => {
                let target = OsString::from_vec(target.clone());
                self.place(path, |_, name, parent| {
                    rustix::fs::symlinkat(&target, parent, name).map_err(std::io::Error::from)
                })
            }
            EntryKind::Link { to } => {
                let to = PathBuf::from(OsStr::from_bytes(to));
                let root = self
                    .root
                    .as_fd()
                    .try_clone_to_owned()
                    .or_fail(Kind::Environment)?;
                self.place(path, move |_, name, parent| {
                    let source = beneath(root.as_fd(), &to, OFlags::PATH | OFlags::NOFOLLOW)?;
                    let source =
                        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&source));
                    rustix::fs::linkat(
                        rustix::fs::CWD,
                        source,
                        parent,
                        name,
                        AtFlags::SYMLINK_FOLLOW,
                    )
                    .map_err(std::io::Error::from)
                })
            }
            // A file that the job removed stays at home: taking away is not delivering.
            EntryKind::Whiteout => Ok(()),
        }
    }

    fn directory(&self, path: &Path, mode: u32) -> Result<(), Failure> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode | 0o700)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(errno) => Err(cannot(&self.host.join(path), errno.into())),
        }
    }

    /// Makes something under its own name, or beside what stands there.
    fn place(
        &mut self,
        path: &Path,
        make: impl Fn(&Self, &OsStr, BorrowedFd<'_>) -> std::io::Result<()>,
    ) -> Result<(), Failure> {
        let (parent, name) = self.parent(path)?;
        let full = self.host.join(path);
        match make(self, name, parent.as_fd()) {
            Ok(()) => {
                self.delivered.stored.push(full);
                return Ok(());
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(cannot(&full, error)),
        }
        let beside = beside(name, &self.opened.job().to_string());
        match make(self, &beside, parent.as_fd()) {
            Ok(()) => {}
            // The same result was stored before.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => return Err(cannot(&full, error)),
        }
        if self.overwrite {
            rustix::fs::renameat(&parent, &beside, &parent, name)
                .map_err(|errno| cannot(&full, errno.into()))?;
            self.delivered.stored.push(full);
        } else {
            let aside = full.with_file_name(&beside);
            self.delivered.aside.push((full, aside));
        }
        Ok(())
    }

    fn file(&self, entry: &Entry, name: &OsStr, parent: BorrowedFd<'_>) -> std::io::Result<()> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(
            parent,
            ".",
            flags,
            Mode::from_raw_mode(entry.mode & 0o777),
        )?);
        let whole = Whole::new(&self.opened.area, entry).ok_or(std::io::ErrorKind::InvalidData)?;
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut at = 0;
        while at < whole.len() {
            whole.read(at, CHUNK, &mut chunk)?;
            file.write_all(&chunk)?;
            at += chunk.len() as u64;
        }
        let time = Timespec {
            tv_sec: entry.mtime_ns.div_euclid(1_000_000_000),
            tv_nsec: entry.mtime_ns.rem_euclid(1_000_000_000),
        };
        rustix::fs::futimens(
            &file,
            &Timestamps {
                last_access: time,
                last_modification: time,
            },
        )?;
        file.sync_all()?;
        let unnamed = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        rustix::fs::linkat(
            rustix::fs::CWD,
            unnamed,
            parent,
            name,
            AtFlags::SYMLINK_FOLLOW,
        )?;
        Ok(())
    }

    /// The directory of a path, opened beneath the root, and the path's last part.
    fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), Failure> {
        let failed = |error| cannot(&self.host.join(path), error);
        let name = path
            .file_name()
            .ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))?;
        let above = path
            .parent()
            .filter(|above| !above.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let parent = beneath(self.root.as_fd(), above, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(failed)?;
        Ok((parent, name))
    }
}

fn beneath(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> std::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(
        root,
        path,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?)
}

/// `frame.png` of job `job-x` becomes `frame.job-x.png`.
fn beside(name: &OsStr, job: &str) -> OsString {
    let path = Path::new(name);
    let mut beside = path.file_stem().unwrap_or(name).to_owned();
    beside.push(".");
    beside.push(job);
    if let Some(extension) = path.extension() {
        beside.push(".");
        beside.push(extension);
    }
    beside
}

fn cannot(path: &Path, error: std::io::Error) -> Failure {
    let failure = Failure::new(
        Kind::Environment,
        format!("cannot store {}: {error}", path.display()),
    );
    failure.hint("the results are safe in the secure area: safelight view mount JOB DIR")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_beside_keeps_its_extension() {
        assert_eq!(beside(OsStr::new("frame.png"), "job-x"), "frame.job-x.png");
        assert_eq!(beside(OsStr::new("frame"), "job-x"), "frame.job-x");
        assert_eq!(beside(OsStr::new(".rc"), "job-x"), ".rc.job-x");
    }
}
