//! A file's `user.` attributes at home: all of them, or none where the file system has none or no room for them. What a client misses is an
//! attribute then, and not the file; ext4 keeps 4 KiB of them, tmpfs and NFS often none.

use std::{ffi::OsStr, fs::File, io, os::unix::ffi::OsStrExt};

use rustix::{
    fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr},
    io::Errno,
};
use safelight_seal::manifest::Entry;

/// Gives a new file what the result says; false if the file system does not take it. A manifest holds no others than those of the `user.`
/// namespace.
pub(super) fn give(file: &File, entry: &Entry) -> io::Result<bool> {
    for (name, value) in &entry.xattrs {
        match fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => return Ok(false),
            Err(Errno::NOSPC | Errno::DQUOT | Errno::TOOBIG | Errno::RANGE) => {
                take_all(file, entry)?;
                return Ok(false);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(true)
}

fn take_all(file: &File, entry: &Entry) -> io::Result<()> {
    for (name, _) in &entry.xattrs {
        match fremovexattr(file, OsStr::from_bytes(name)) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// True if a file has what the result says, or nothing of it. What it has besides is the client's.
pub(super) fn are_there(file: &File, entry: &Entry) -> bool {
    let mut found = entry.xattrs.iter().map(|(name, value)| {
        let mut found = vec![0; value.len() + 1];
        match fgetxattr(file, OsStr::from_bytes(name), found.as_mut_slice()) {
            Ok(len) => Some(found[..len] == value[..]),
            Err(Errno::OPNOTSUPP | Errno::NODATA) => None,
            Err(_) => Some(false),
        }
    });
    let first = found.next().flatten();
    match first {
        None => found.all(|it| it.is_none()),
        Some(same) => same && found.all(|it| it == Some(true)),
    }
}
