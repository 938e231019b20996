//! What was refused: moved as it is, never followed, never deleted, with the reason beside it.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, RenameFlags},
    io::Errno,
};
use safelight_policies::id::VerifyKey;

use super::{door::Door, read_file, write};
use crate::{EntryName, MediumError, ReadyName, Reason, name::mailbox};

/// The most entries that are set aside for one recipient.
const ASIDE_MAX: usize = 1_000;
/// The most bytes of a reason.
const REASON_MAX: u64 = 16 * 1024;

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
        match shift(&ready, name, &aside, &format!("{stem}.entry")) {
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
    match shift(&from, &stem, &ready, &name.to_string()) {
        Ok(()) => {}
        Err(Errno::NOENT | Errno::EXIST) => return Ok(false),
        Err(errno) => return Err(door.fault("put back", &path.join(name.as_os_str()), errno)),
    }
    door.remove(&folder(to).join(format!("{}.json", aside.stem)))?;
    Ok(true)
}

fn folder(to: &VerifyKey) -> PathBuf {
    Path::new("aside").join(mailbox(to))
}

/// Renames to a name that nothing has yet, where the file system can tell; elsewhere the name is looked up first.
fn shift(from: &OwnedFd, name: &EntryName, to: &OwnedFd, new: &str) -> Result<(), Errno> {
    let name = name.as_os_str();
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
