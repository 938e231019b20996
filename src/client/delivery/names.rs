//! Names at home: found beneath a directory, given where nothing stands, made where something does.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use safelight_seal::manifest::{Entry, EntryKind, NAME_MAX};

/// Gives an open file a name where nothing stands.
pub(super) fn give_name(file: &OwnedFd, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    let follow = AtFlags::SYMLINK_FOLLOW;
    rustix::fs::linkat(rustix::fs::CWD, unnamed, parent, name, follow).map_err(io::Error::from)
}

pub(super) fn beneath(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve).map_err(io::Error::from)
}

/// True for a symbolic link that could lead out of its tree: an absolute one, one that climbs above the root, and one that climbs after
/// it went down, since what it went down through may be a link itself.
pub(super) fn leads_out(entry: &Entry) -> bool {
    let EntryKind::Symlink { target } = &entry.kind else {
        return false;
    };
    if target.first() == Some(&b'/') {
        return true;
    }
    let depth = entry.path.iter().filter(|byte| **byte == b'/').count();
    let parts = || {
        let parts = target.split(|byte| *byte == b'/');
        parts.filter(|part| !part.is_empty() && *part != b".")
    };
    let climbs = parts().take_while(|part| *part == b"..").count();
    climbs > depth || parts().skip(climbs).any(|part| part == b"..")
}

/// `frame.png` of job `job-x` becomes `frame.job-x.png`; a name that would be too long loses its end.
pub(super) fn beside(name: &OsStr, job: &str) -> OsString {
    let path = Path::new(name);
    let mut after = vec![b'.'];
    after.extend_from_slice(job.as_bytes());
    let extension = path.extension().map(OsStr::as_bytes).unwrap_or_default();
    let mut stem = path.file_stem().unwrap_or(name).as_bytes();
    if after.len() + 1 + extension.len() >= NAME_MAX {
        stem = name.as_bytes();
    } else if path.extension().is_some() {
        after.push(b'.');
        after.extend_from_slice(extension);
    }
    let mut beside = stem[..stem.len().min(NAME_MAX - after.len())].to_vec();
    beside.extend_from_slice(&after);
    OsString::from_vec(beside)
}
