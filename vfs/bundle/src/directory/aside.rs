//! What was refused: moved as it is, never followed, and deleted only when somebody says so; with the reason beside it.

use std::{
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags, RenameFlags},
    io::Errno,
};
use safelight_policies::id::VerifyKey;

use super::{door::Door, read_file, write};
use crate::{EntryName, MediumError, ReadyName, Reason, name::mailbox};

/// The most entries that are set aside for one recipient.
pub(crate) const ASIDE_MAX: usize = 1_000;
/// The most bytes of a reason.
pub(crate) const REASON_MAX: u64 = 16 * 1024;

/// Something that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// What it is called there.
    pub stem: String,
    /// Why; none if what is written beside it cannot be read.
    pub reason: Option<Reason>,
}

pub(super) fn set_aside(
    door: &Door<'_>,
    to: &VerifyKey,
    name: &EntryName,
    reason: &Reason,
) -> Result<(), MediumError> {
    let from = Path::new("ready").join(mailbox(to));
    let Some(ready) = door.directory(&from)? else {
        return Ok(());
    };
    let path = folder(to);
    let aside = door.make_directory(&path)?;
    let failed = |errno| door.fault("set aside", &from.join(name.as_os_str()), errno);
    // Two files for each, and `.` and `..`.
    let count = Dir::read_from(&aside)
        .map_err(failed)?
        .take(2 * ASIDE_MAX + 2)
        .count();
    if count >= 2 * ASIDE_MAX + 2 {
        return Err(door.aside_full(ASIDE_MAX));
    }
    for number in 0..=ASIDE_MAX {
        let stem = format!("{}-{number}", reason.at);
        match shift(&ready, name.as_os_str(), &aside, &format!("{stem}.entry")) {
            Ok(()) => {
                let text = serde_json::to_vec_pretty(reason).unwrap_or_default();
                return write(door, &path.join(format!("{stem}.json")), &text);
            }
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(failed(Errno::EXIST))
}

pub(super) fn list(door: &Door<'_>, to: &VerifyKey) -> Result<Vec<Aside>, MediumError> {
    let path = folder(to);
    let Some(directory) = door.directory(&path)? else {
        return Ok(vec![]);
    };
    let failed = |errno| door.fault("list", &path, errno);
    let mut found = Vec::new();
    for entry in Dir::new(directory).map_err(failed)?.take(4 * ASIDE_MAX) {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_str().unwrap_or_default();
        let Some(stem) = name.strip_suffix(".entry") else {
            continue;
        };
        let reason = read_file(door, &path.join(format!("{stem}.json")), REASON_MAX);
        let reason = reason
            .ok()
            .flatten()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        found.push(Aside {
            stem: stem.to_owned(),
            reason,
        });
    }
    found.sort_by(|one, other| one.stem.cmp(&other.stem));
    Ok(found)
}

pub(super) fn put_back(
    door: &Door<'_>,
    to: &VerifyKey,
    aside: &Aside,
) -> Result<bool, MediumError> {
    // Only what is a letter by its name goes back; the reason beside it is the medium's word, too.
    let said = aside
        .reason
        .as_ref()
        .and_then(|reason| EntryName::new(reason.name.as_str()));
    let letter = said.and_then(|name| ReadyName::parse(*to, &name));
    let stem = EntryName::new(format!("{}.entry", aside.stem));
    let (Some(letter), Some(stem), Some(from)) = (letter, stem, door.directory(&folder(to))?)
    else {
        return Ok(false);
    };
    let path = Path::new("ready").join(mailbox(to));
    let ready = door.make_directory(&path)?;
    let name = letter.entry();
    match shift(&from, stem.as_os_str(), &ready, &name.to_string()) {
        Ok(()) => {}
        Err(Errno::NOENT | Errno::EXIST) => return Ok(false),
        Err(errno) => return Err(door.fault("put back", &path.join(name.as_os_str()), errno)),
    }
    door.remove(&folder(to).join(format!("{}.json", aside.stem)))?;
    Ok(true)
}

pub(super) fn discard(door: &Door<'_>, to: &VerifyKey, stem: &str) -> Result<bool, MediumError> {
    let path = folder(to);
    let entry = EntryName::new(format!("{stem}.entry"));
    let (Some(entry), Some(aside)) = (entry, door.directory(&path)?) else {
        return Ok(false);
    };
    let mut lifted = 0;
    let failed = |errno| door.fault("discard", &path.join(entry.as_os_str()), errno);
    match rustix::fs::unlinkat(&aside, entry.as_os_str(), AtFlags::empty()) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(false),
        Err(Errno::ISDIR | Errno::PERM) => {
            lift(&aside, &aside, entry.as_os_str(), &mut lifted).map_err(failed)?;
        }
        Err(errno) => return Err(failed(errno)),
    }
    while let Some(name) = a_lifted(&aside).map_err(failed)? {
        empty(&aside, &name, &mut lifted).map_err(failed)?;
    }
    door.remove(&path.join(format!("{stem}.json")))?;
    Ok(true)
}

/// How a directory is called that is being deleted.
const LIFTED: &str = ".discarded-";

/// A directory that is being deleted, if one is: also of a deletion that was interrupted.
fn a_lifted(aside: &OwnedFd) -> Result<Option<String>, Errno> {
    for entry in Dir::read_from(aside)? {
        let entry = entry?;
        let name = entry.file_name().to_str().unwrap_or_default();
        if name.starts_with(LIFTED) {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

/// Moves a directory to the top, to be emptied there: so however deep a tree is, nothing is walked down and nothing is followed.
fn lift(aside: &OwnedFd, from: &OwnedFd, name: &OsStr, lifted: &mut u64) -> Result<(), Errno> {
    loop {
        let new = format!("{LIFTED}{lifted}");
        *lifted += 1;
        match shift(from, name, aside, &new) {
            Err(Errno::EXIST) => {}
            other => return other,
        }
    }
}

/// Deletes one directory; those in it are lifted out of it.
fn empty(aside: &OwnedFd, name: &str, lifted: &mut u64) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inside = match rustix::fs::openat(aside, name, flags, Mode::empty()) {
        // Somebody has put something else there.
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return rustix::fs::unlinkat(aside, name, AtFlags::empty());
        }
        other => other?,
    };
    loop {
        let mut any = false;
        for entry in Dir::read_from(&inside)? {
            let entry = entry?;
            let child = OsStr::from_bytes(entry.file_name().to_bytes());
            if child == "." || child == ".." {
                continue;
            }
            any = true;
            match rustix::fs::unlinkat(&inside, child, AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => lift(aside, &inside, child, lifted)?,
                Err(Errno::NOENT) | Ok(()) => {}
                Err(errno) => return Err(errno),
            }
        }
        if !any {
            return rustix::fs::unlinkat(aside, name, AtFlags::REMOVEDIR);
        }
    }
}

fn folder(to: &VerifyKey) -> PathBuf {
    Path::new("aside").join(mailbox(to))
}

/// Renames to a name that nothing has yet, where the file system can tell; elsewhere the name is looked up first.
fn shift(from: &OwnedFd, name: &OsStr, to: &OwnedFd, new: &str) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            match rustix::fs::statat(to, new, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => rustix::fs::renameat(from, name, to, new),
                Ok(_) => Err(Errno::EXIST),
                Err(errno) => Err(errno),
            }
        }
        other => other,
    }
}
