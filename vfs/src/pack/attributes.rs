//! Extended attributes of what is packed: those that begin with `user.`, which are the client's own. Others mean something to the host only.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use rustix::{fs, io::Errno};
use safelight_seal::manifest::{XATTR_VALUE_MAX, XATTRS_MAX};

use super::Error;

/// The longest list of names, and the longest value, that the kernel answers with.
const ANSWER_MAX: usize = 64 * 1024;

/// A name and its value.
type Attribute = (Vec<u8>, Vec<u8>);

/// The attributes of a path, sorted by name. A link at its end is followed only where that is asked for.
pub(super) fn of(path: &Path, follow: bool) -> Result<Vec<Attribute>, Error> {
    let failed = |errno: Errno| Error::Read {
        path: path.to_owned(),
        source: errno.into(),
    };
    let list = answer(|out| match follow {
        true => fs::listxattr(path, out),
        false => fs::llistxattr(path, out),
    });
    let names = match list {
        Ok(names) => names,
        // A file system that has none.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(errno) => return Err(failed(errno)),
    };
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        if !name.starts_with(b"user.") || name == b"user." {
            continue;
        }
        let value = answer(|out| match follow {
            true => fs::getxattr(path, OsStr::from_bytes(name), out),
            false => fs::lgetxattr(path, OsStr::from_bytes(name), out),
        });
        match value {
            Ok(value) => found.push((name.to_vec(), value)),
            // Taken away since.
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    found.sort_unstable();
    found.dedup_by(|again, first| again.0 == first.0);
    if found.len() > XATTRS_MAX || found.iter().any(|(_, value)| value.len() > XATTR_VALUE_MAX) {
        return Err(Error::TooManyAttributes {
            path: path.to_owned(),
        });
    }
    Ok(found)
}

/// What the kernel answers, in a buffer that is as large as it has to be.
fn answer(ask: impl for<'a> Fn(&'a mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 512];
    match ask(&mut small) {
        Ok(len) => Ok(small[..len].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; ANSWER_MAX];
            let len = ask(&mut large)?;
            large.truncate(len);
            Ok(large)
        }
        Err(errno) => Err(errno),
    }
}
