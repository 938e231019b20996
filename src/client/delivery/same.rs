//! Whether what stands at home is what a result has there: the same kind, the same bytes, the same attributes.
//!
//! Nothing is followed, and what costs a job nothing costs its client nothing: a run of zeros is compared with what the disk holds of it.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
    path::Path,
};

use rustix::{
    fs::{OFlags, SeekFrom},
    io::Errno,
};
use safelight_seal::{
    manifest::{Entry, EntryKind},
    segment::SEGMENT_MAX,
};
use safelight_vfs::{area::Area, whole::Whole};

use super::{CHUNK, attributes, names::beneath};

/// True if a name in a directory is what the entry says. Whatever cannot be read is not.
pub(super) fn is(area: &Area, entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr) -> bool {
    match &entry.kind {
        EntryKind::Symlink { target } => rustix::fs::readlinkat(parent, name, Vec::new())
            .is_ok_and(|found| found.as_bytes() == target.as_slice()),
        EntryKind::File { .. } => is_file(area, entry, parent, name).unwrap_or(false),
        _ => false,
    }
}

fn is_file(area: &Area, entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    let EntryKind::File { len, segments } = &entry.kind else {
        return Ok(false);
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(beneath(parent, Path::new(name), flags)?);
    let found = file.metadata()?;
    if !found.is_file() || found.len() != *len || !attributes::are_there(&file, entry) {
        return Ok(false);
    }
    let Some(whole) = Whole::new(area, entry) else {
        return Ok(false);
    };
    let (mut wanted, mut stands) = (Vec::with_capacity(CHUNK), vec![0; CHUNK]);
    for (index, segment) in segments.iter().enumerate() {
        let start = index as u64 * SEGMENT_MAX as u64;
        let end = start + u64::from(segment.len);
        if segment.object.is_none() {
            if !is_zero(&file, start, end, &mut stands)? {
                return Ok(false);
            }
            continue;
        }
        for at in (start..end).step_by(CHUNK) {
            whole.read(at, CHUNK, &mut wanted)?;
            let stands = &mut stands[..wanted.len()];
            file.read_exact_at(stands, at)?;
            if stands != wanted.as_slice() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// True if a part of a file is zero. Holes are passed over.
fn is_zero(file: &File, start: u64, end: u64, buffer: &mut [u8]) -> io::Result<bool> {
    let mut at = start;
    while at < end {
        at = match rustix::fs::seek(file.as_fd(), SeekFrom::Data(at)) {
            Ok(data) if data < end => data,
            Ok(_) | Err(Errno::NXIO) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        };
        let len = (end - at).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..len], at)?;
        if buffer[..len].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += len as u64;
    }
    Ok(true)
}
