//! A backup of a site that may be served meanwhile, and its way back.
//!
//! Order is all there is to it. The warden goes first: it remembers which fences it released keys for, and must never know of one that the
//! ledger does not, or it would refuse the new one of that number. Then the ledger, as one moment of it. Then the rest, which only grows: what
//! the ledger speaks of is there, and what it does not know yet does no harm. A backup is one when its last file is there.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{restored::restored, serve::alone};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs, process,
    run::Books,
    state::State,
};

/// What makes a directory a backup: written last.
const WHOLE: &str = "safelight-backup.json";

/// The form of a backup.
const FORM: u32 = 1;

/// One-time prekeys, below the state directory. Whoever has one, and the bundles of that time, can open those jobs after they were erased.
const PREKEYS: &str = "warden/prekeys";

/// What a backup is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    form: u32,
    at: u64,
    files: u64,
    bytes: u64,
    prekeys: bool,
}

impl Whole {
    fn copied(&self) -> Copied {
        Copied {
            files: self.files,
            bytes: self.bytes,
        }
    }
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Backs a state up into a directory that is not there yet.
pub(crate) fn backup(state: &State, to: &Path, prekeys: bool) -> Result<Copied, Failure> {
    if to.starts_with(state.root()) {
        let message = format!("{} lies in the state itself", to.display());
        return Err(Failure::new(Kind::User, message).hint("name a directory elsewhere"));
    }
    match DirBuilder::new().mode(0o700).create(to) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let message = format!("{} is there already", to.display());
            return Err(
                Failure::new(Kind::User, message).hint("a backup goes into a new directory")
            );
        }
        Err(error) => return Err(cannot("make", to, &error)),
    }
    let mut copy = Copy {
        from: state.root().to_owned(),
        to: to.to_owned(),
        prekeys,
        done: Copied::default(),
    };
    let (warden, ledger) = (PathBuf::from("warden"), ledger(state)?);
    copy.tree(&warden, &[])?;
    let books = Books::open(state)?;
    books.wait(books.ledger().backup(&to.join(&ledger)))?;
    let beside = ["-wal", "-shm", ".lock"].map(|end| {
        let mut name = ledger.clone().into_os_string();
        name.push(end);
        PathBuf::from(name)
    });
    let mut left_out = vec![warden, ledger.clone(), PathBuf::from("serve.lock")];
    left_out.extend(beside);
    copy.tree(Path::new(""), &left_out)?;
    copy.done.files += 1;
    copy.done.bytes += to
        .join(&ledger)
        .metadata()
        .or_fail(Kind::Environment)?
        .len();
    let whole = Whole {
        form: FORM,
        at: process::now_seconds(),
        files: copy.done.files,
        bytes: copy.done.bytes,
        prekeys,
    };
    sync_tree(to).or_fail(Kind::Environment)?;
    write_whole(to, &whole)?;
    Ok(copy.done)
}

/// Puts a backup back into a state directory that holds nothing, and begins new runs of letters.
pub(crate) fn restore(state: &State, from: &Path) -> Result<(Copied, usize), Failure> {
    let whole = read_whole(from)?;
    let there = measure(from).or_fail(Kind::Environment)?;
    if there != whole.copied() {
        let message = format!(
            "{} has {} files with {} bytes, and had {} with {} when it was made",
            from.display(),
            there.files,
            there.bytes,
            whole.files,
            whole.bytes
        );
        return Err(
            Failure::new(Kind::Config, message).hint("copy it again from where it was made")
        );
    }
    let lock = alone(state)?;
    if let Some(there) = first_file(state.root()).or_fail(Kind::Environment)? {
        let message = format!("{} is there already", there.display());
        return Err(Failure::new(Kind::User, message)
            .hint("a backup is restored into an empty state directory: move the old one away"));
    }
    let mut copy = Copy {
        from: from.to_owned(),
        to: state.root().to_owned(),
        prekeys: true,
        done: Copied::default(),
    };
    // The ledger comes last: what was cut off is no site's state, and is not served.
    let ledger = ledger(state)?;
    copy.tree(Path::new(""), &[ledger.clone(), PathBuf::from(WHOLE)])?;
    copy.tree(&ledger, &[])?;
    sync_tree(state.root()).or_fail(Kind::Environment)?;
    drop(lock);
    let links = restored(state)?;
    Ok((copy.done, links))
}

/// The ledger's place in the state directory.
fn ledger(state: &State) -> Result<PathBuf, Failure> {
    let path = state.ledger();
    let below = path.strip_prefix(state.root()).or_fail(Kind::Internal)?;
    Ok(below.to_owned())
}

/// Copies what lies below one directory to below another, with owners, modes and times.
struct Copy {
    from: PathBuf,
    to: PathBuf,
    prekeys: bool,
    done: Copied,
}

impl Copy {
    /// Copies one path and all below it, but not these. What disappears meanwhile was not to stay.
    fn tree(&mut self, start: &Path, but: &[PathBuf]) -> Result<(), Failure> {
        let mut open = vec![start.to_owned()];
        while let Some(below) = open.pop() {
            if but.contains(&below) {
                continue;
            }
            let from = self.from.join(&below);
            let metadata = match fs::symlink_metadata(&from) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(cannot("read", &from, &error)),
            };
            let to = self.to.join(&below);
            // The root belongs to whoever made it.
            let is_root = below.as_os_str().is_empty();
            let copied = match is_root {
                true => Ok(()),
                false => self.one(&from, &to, &metadata),
            };
            match copied {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound && !from.exists() => continue,
                Err(error) => return Err(cannot("copy", &from, &error)),
            }
            let keys = below == Path::new(PREKEYS) && !self.prekeys;
            if metadata.is_dir() && !keys {
                let entries = fs::read_dir(&from).map_err(|error| cannot("read", &from, &error))?;
                for entry in entries {
                    let entry = entry.map_err(|error| cannot("read", &from, &error))?;
                    open.push(below.join(entry.file_name()));
                }
            }
        }
        Ok(())
    }

    fn one(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        if kind.is_dir() {
            match DirBuilder::new().mode(0o700).create(to) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        } else if kind.is_symlink() {
            symlink(fs::read_link(from)?, to)?;
            return Ok(());
        } else if kind.is_file() {
            let mut source = File::open(from)?;
            let mut options = OpenOptions::new();
            let mut target = options.write(true).create_new(true).mode(0o600).open(to)?;
            // A log that grows meanwhile is copied as long as it was.
            let bytes = io::copy(
                &mut io::Read::take(&mut source, metadata.len()),
                &mut target,
            )?;
            target.set_modified(metadata.modified()?)?;
            self.done.files += 1;
            self.done.bytes += bytes;
        } else {
            // A socket or a pipe belongs to a process.
            return Ok(());
        }
        let owner = (metadata.uid(), metadata.gid());
        let new = fs::symlink_metadata(to)?;
        if (new.uid(), new.gid()) != owner {
            chown(to, Some(owner.0), Some(owner.1))?;
        }
        fs::set_permissions(to, metadata.permissions())
    }
}

/// A file below a directory that is somebody's. A state that was just opened has directories, and a lock.
fn first_file(root: &Path) -> io::Result<Option<PathBuf>> {
    let lock = root.join("serve.lock");
    let mut found = None;
    visit(root, |path, _| {
        found = found.take().or((path != lock).then(|| path.to_owned()))
    })?;
    Ok(found)
}

/// What a backup holds.
fn measure(root: &Path) -> io::Result<Copied> {
    let (mut there, whole) = (Copied::default(), root.join(WHOLE));
    visit(root, |path, metadata| {
        if metadata.is_file() && path != whole {
            there.files += 1;
            there.bytes += metadata.len();
        }
    })?;
    Ok(there)
}

/// Everything below a directory that is no directory.
fn visit(root: &Path, mut each: impl FnMut(&Path, &Metadata)) -> io::Result<()> {
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.is_dir() {
                open.push(path);
            } else {
                each(&path, &metadata);
            }
        }
    }
    Ok(())
}

/// Everything below a directory is on the disk. One call for the file system costs less than one for each of many files.
fn sync_tree(root: &Path) -> io::Result<()> {
    let root = File::open(root)?;
    nix::unistd::syncfs(&root).map_err(io::Error::from)?;
    root.sync_all()
}

fn write_whole(root: &Path, whole: &Whole) -> Result<(), Failure> {
    let path = root.join(WHOLE);
    let failed = |error: io::Error| cannot("write", &path, &error);
    let bytes = serde_json::to_vec(whole).or_fail(Kind::Internal)?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let root = File::open(root).map_err(failed)?;
    root.sync_all().map_err(failed)
}

fn read_whole(root: &Path) -> Result<Whole, Failure> {
    let path = root.join(WHOLE);
    if !path.exists() {
        let message = format!("{} is no backup, or one that was cut off", root.display());
        return Err(Failure::new(Kind::User, message).hint("safelight site backup DIR makes one"));
    }
    let whole: Whole = serde_json::from_slice(&jobs::read(&path)?).or_fail(Kind::Config)?;
    if whole.form != FORM {
        let message = format!("{} has form {}", root.display(), whole.form);
        return Err(
            Failure::new(Kind::Config, message).hint("restore it with the version that made it")
        );
    }
    Ok(whole)
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot {what} {}: {error}", path.display());
    Failure::new(Kind::Environment, message)
}
