//! A file's `user.` attributes at home. Where the file system has none, the file is stored without them.

use std::{ffi::OsStr, fs::File, io, os::unix::ffi::OsStrExt};

use rustix::{
    fs::{XattrFlags, fgetxattr, fsetxattr},
    io::Errno,
};
use safelight_seal::manifest::Entry;

/// Gives a new file what the result says. A manifest holds no others than those of the `user.` namespace.
pub(super) fn give(file: &File, entry: &Entry) -> io::Result<()> {
    for (name, value) in &entry.xattrs {
        match fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// True if a file has what the result says, or cannot have it. What it has besides is the client's.
pub(super) fn are_there(file: &File, entry: &Entry) -> bool {
    let has = |(name, value): &(Vec<u8>, Vec<u8>)| {
        let mut found = vec![0; value.len() + 1];
        match fgetxattr(file, OsStr::from_bytes(name), found.as_mut_slice()) {
            Ok(len) => found[..len] == value[..],
            Err(errno) => errno == Errno::OPNOTSUPP,
        }
    };
    entry.xattrs.iter().all(has)
}
