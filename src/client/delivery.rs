//! Storing results in a client's own directories: beneath them, following nothing, over nothing.
//!
//! Every step goes through `openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS` (openat2(2)): a result tree with `..`, with links
//! or with names that race with somebody's renames cannot leave the directory it belongs to. A file is written under a temporary name,
//! made durable, and then linked; a link fails where something stands, so nothing is ever replaced by accident.
//!
//! What came back is hostile even though its signature holds: a job made it. So a symbolic link is stored only if it cannot lead out of
//! the client's directory, a hard link never becomes another name of a file that the job did not write, zeros take no room, and one
//! entry that cannot be stored keeps no other from being stored.
//!
//! Storing is repeated after a crash, so what stands there already and is the same counts as stored. What an earlier step of the job
//! brought home gives way to what a later one made of it.

mod attributes;
mod delivered;
mod earlier;
mod names;
mod same;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, ErrorKind, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::FileExt,
        },
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, Timespec, Timestamps};
use safelight_policies::id::JobId;
use safelight_seal::{
    manifest::{Entry, EntryKind, Tree},
    segment::SEGMENT_MAX,
};
use safelight_vfs::{area::Area, whole::Whole};

pub(crate) use delivered::Delivered;
use earlier::Earlier;
use names::{beneath, beside, give_name, leads_out};

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{Homeward, Left},
    opened::OpenedJob,
};

/// How many bytes are opened and written at a time.
const CHUNK: usize = 1 << 20;

/// The most names that are tried beside one that is taken.
const BESIDE_MAX: u32 = 100;

/// Stores an attempt's results. `before` is what other sessions of the job left.
pub(crate) fn deliver(
    opened: &OpenedJob,
    left: &Left,
    homeward: &Homeward,
    before: Vec<Left>,
    overwrite: bool,
) -> Result<Delivered, Failure> {
    let results = opened.results(left)?;
    let earlier = Earlier::of(opened, left, before);
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
        let mut store = Store::new(&opened.area, opened.job(), host, tree, overwrite)?;
        store.earlier = Some(&earlier);
        store.all(&mut delivered);
    }
    Ok(delivered)
}

/// Where a file of this delivery is, and which file it is.
struct Stored {
    at: PathBuf,
    device: u64,
    inode: u64,
}

struct Store<'a> {
    area: &'a Area,
    job: JobId,
    tree: &'a Tree,
    root: OwnedFd,
    host: PathBuf,
    overwrite: bool,
    earlier: Option<&'a Earlier<'a>>,
    /// Directories that are at home under another path than in the tree, because something else stands there.
    moved: BTreeMap<&'a [u8], PathBuf>,
    /// Files that hard links of this tree name; filled in as they are stored.
    linked: BTreeMap<&'a [u8], Option<Stored>>,
}

/// How an entry ended up at home.
enum Outcome {
    Stored(PathBuf),
    /// It, or the same, stood there.
    Standing(PathBuf),
    Aside(PathBuf),
    LeadsOut,
    Nothing,
}

impl<'a> Store<'a> {
    fn new(
        area: &'a Area,
        job: JobId,
        host: PathBuf,
        tree: &'a Tree,
        overwrite: bool,
    ) -> Result<Self, Failure> {
        let root = File::open(&host)
            .map(OwnedFd::from)
            .or_fail(Kind::Environment)?;
        let links: BTreeSet<&[u8]> = tree
            .entries
            .iter()
            .filter_map(|entry| match &entry.kind {
                EntryKind::Link { to } => Some(to.as_slice()),
                _ => None,
            })
            .collect();
        Ok(Self {
            area,
            job,
            tree,
            root,
            host,
            overwrite,
            earlier: None,
            moved: BTreeMap::new(),
            linked: links.into_iter().map(|to| (to, None)).collect(),
        })
    }

    /// Stores every entry that can be stored.
    fn all(mut self, delivered: &mut Delivered) {
        for entry in self.tree.entries.iter().skip(1) {
            let wanted = self.host.join(self.at_home(&entry.path));
            match self.entry(entry) {
                Ok(Outcome::Stored(path) | Outcome::Standing(path)) => {
                    delivered.stored.push(self.host.join(path))
                }
                Ok(Outcome::Aside(path)) => delivered.aside.push((wanted, self.host.join(path))),
                Ok(Outcome::LeadsOut) => delivered.leading_out.push(wanted),
                Ok(Outcome::Nothing) => {}
                Err(error) => delivered.failed.push((wanted, error)),
            }
        }
    }

    fn entry(&mut self, entry: &'a Entry) -> io::Result<Outcome> {
        let at = self.at_home(&entry.path);
        match &entry.kind {
            EntryKind::Directory { .. } => self.directory(entry, &at),
            EntryKind::File { .. } => self.file(entry, &entry.path, &at),
            EntryKind::Symlink { .. } if leads_out(entry) => Ok(Outcome::LeadsOut),
            EntryKind::Symlink { target } => {
                let target = OsString::from_vec(target.clone());
                self.place(entry, &at, |parent, name| {
                    rustix::fs::symlinkat(&target, parent, name).map_err(io::Error::from)
                })
            }
            EntryKind::Link { to } => self.link(to, &at),
            // A file that the job removed stays at home: taking away is not delivering.
            EntryKind::Whiteout => Ok(Outcome::Nothing),
        }
    }

    /// A path of the tree as it is at home.
    fn at_home(&self, path: &[u8]) -> PathBuf {
        let path = Path::new(OsStr::from_bytes(path));
        let above = path.parent().unwrap_or(Path::new(""));
        match (
            self.moved.get(above.as_os_str().as_bytes()),
            path.file_name(),
        ) {
            (Some(above), Some(name)) => above.join(name),
            _ => path.to_owned(),
        }
    }

    /// Makes a directory, unless it is there. Where something else stands, it and all that belongs into it go beside.
    fn directory(&mut self, entry: &'a Entry, at: &Path) -> io::Result<Outcome> {
        let (parent, name) = self.parent(at)?;
        let make = |name: &OsStr| {
            let mode = Mode::from_raw_mode(entry.mode & 0o777 | 0o700);
            match rustix::fs::mkdirat(&parent, name, mode) {
                Ok(()) => Ok(true),
                Err(rustix::io::Errno::EXIST) => {
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                    Ok(beneath(parent.as_fd(), Path::new(name), flags).is_ok())
                }
                Err(errno) => Err(io::Error::from(errno)),
            }
        };
        let home = if make(name)? {
            at.to_owned()
        } else {
            let beside = self.beside(name, 1);
            if !make(&beside)? {
                return Err(ErrorKind::AlreadyExists.into());
            }
            at.with_file_name(beside)
        };
        if home.as_os_str().as_bytes() != entry.path {
            self.moved.insert(&entry.path, home.clone());
        }
        Ok(if home == *at {
            Outcome::Nothing
        } else {
            Outcome::Aside(home)
        })
    }

    /// Makes an entry under its own name, or beside what stands there.
    fn place(
        &self,
        entry: &Entry,
        at: &Path,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> io::Result<()>,
    ) -> io::Result<Outcome> {
        let (parent, name) = self.parent(at)?;
        let parent = parent.as_fd();
        match make(parent, name) {
            Ok(()) => return Ok(Outcome::Stored(at.to_owned())),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        if same::is(self.area, entry, parent, name) {
            return Ok(Outcome::Standing(at.to_owned()));
        }
        let replace = self.overwrite || self.is_of_an_earlier_step(at, parent, name);
        let beside = self.make_beside(entry, parent, name, make)?;
        // A directory of the client's is never replaced by a file; the rename fails then, and the file stays beside.
        if replace && rustix::fs::renameat(parent, &beside, parent, name).is_ok() {
            return Ok(Outcome::Stored(at.to_owned()));
        }
        Ok(Outcome::Aside(at.with_file_name(beside)))
    }

    /// Makes an entry under the first name beside that is free, or has the same already.
    fn make_beside(
        &self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> io::Result<()>,
    ) -> io::Result<OsString> {
        for number in 1..=BESIDE_MAX {
            let beside = self.beside(name, number);
            match make(parent, &beside) {
                Ok(()) => return Ok(beside),
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                Err(_) if same::is(self.area, entry, parent, &beside) => return Ok(beside),
                Err(_) => {}
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// True if what stands at a path is what an earlier step of this job brought there.
    fn is_of_an_earlier_step(&self, at: &Path, parent: BorrowedFd<'_>, name: &OsStr) -> bool {
        let Some(earlier) = self.earlier else {
            return false;
        };
        let path = at.as_os_str().as_bytes();
        let mut known = earlier.entries(&self.tree.path, path);
        known.any(|entry| same::is(self.area, entry, parent, name))
    }

    fn beside(&self, name: &OsStr, number: u32) -> OsString {
        let job = self.job.to_string();
        match number {
            1 => beside(name, &job),
            _ => beside(name, &format!("{job}.{number}")),
        }
    }

    /// Stores a file. `of` is the path in the tree that hard links know it by.
    fn file(&mut self, entry: &Entry, of: &'a [u8], at: &Path) -> io::Result<Outcome> {
        let outcome = self.place(entry, at, |parent, name| self.write(entry, parent, name))?;
        if let (true, Outcome::Stored(at) | Outcome::Aside(at)) =
            (self.linked.contains_key(of), &outcome)
        {
            let status = rustix::fs::fstat(&self.named(at)?)?;
            let stored = Stored {
                at: at.clone(),
                device: status.st_dev,
                inode: status.st_ino,
            };
            self.linked.insert(of, Some(stored));
        }
        Ok(outcome)
    }

    /// Another name of a file of this delivery. If that file is not where it was stored any more, or takes no further name, a copy.
    fn link(&mut self, to: &'a [u8], at: &Path) -> io::Result<Outcome> {
        let entry = self.tree.get(to).ok_or(ErrorKind::InvalidData)?;
        if let Some(Some(stored)) = self.linked.get(to)
            && let Ok(file) = self.named(&stored.at)
            && let Ok(status) = rustix::fs::fstat(&file)
            && (status.st_dev, status.st_ino) == (stored.device, stored.inode)
            && let Ok(outcome) =
                self.place(entry, at, |parent, name| give_name(&file, parent, name))
        {
            return Ok(outcome);
        }
        self.file(entry, to, at)
    }

    fn write(&self, entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        let EntryKind::File { len, segments } = &entry.kind else {
            return Err(ErrorKind::InvalidData.into());
        };
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let mut file = File::from(rustix::fs::openat(parent, ".", flags, mode)?);
        let whole = Whole::new(self.area, entry).ok_or(ErrorKind::InvalidData)?;
        file.set_len(*len)?;
        let mut chunk = Vec::with_capacity(CHUNK);
        for (index, segment) in segments.iter().enumerate() {
            // Zeros cost a job nothing, so they must cost its client nothing.
            if segment.object.is_none() {
                continue;
            }
            let start = index as u64 * SEGMENT_MAX as u64;
            for at in (start..start + u64::from(segment.len)).step_by(CHUNK) {
                whole.read(at, CHUNK, &mut chunk)?;
                if chunk.iter().any(|byte| *byte != 0) {
                    file.write_all_at(&chunk, at)?;
                }
            }
        }
        file.flush()?;
        let time = Timespec {
            tv_sec: entry.mtime_ns.div_euclid(1_000_000_000),
            tv_nsec: entry.mtime_ns.rem_euclid(1_000_000_000),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        attributes::give(&file, entry)?;
        rustix::fs::futimens(&file, &times)?;
        file.sync_all()?;
        give_name(&file.into(), parent, name)
    }

    /// What is stored at a path, whatever it is.
    fn named(&self, at: &Path) -> io::Result<OwnedFd> {
        let (parent, name) = self.parent(at)?;
        beneath(
            parent.as_fd(),
            Path::new(name),
            OFlags::PATH | OFlags::NOFOLLOW,
        )
    }

    /// The directory of a path at home, opened beneath the root, and the path's last part.
    fn parent<'p>(&self, at: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        let name = at.file_name().ok_or(ErrorKind::InvalidData)?;
        let above = at.parent().filter(|above| !above.as_os_str().is_empty());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let parent = beneath(self.root.as_fd(), above.unwrap_or(Path::new(".")), flags)?;
        Ok((parent, name))
    }
}

#[cfg(test)]
mod tests;
