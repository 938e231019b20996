//! Parts of files: each is read, sealed and named from one buffer, and the file is put together from them.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, sync::Arc};

use safelight_seal::{
    manifest::{Entry, EntryKind, SegmentRef},
    segment::{DedupKey, SEGMENT_MAX, seal_segment_into},
};

use super::Error;
use crate::{area::Batch, spread::Room};

/// One segment of a file.
pub(super) struct FilePart {
    /// Which entry it is of, and which of its segments.
    pub(super) place: (usize, usize),
    /// How many bytes it has, as the file says.
    pub(super) len: usize,
    pub(super) file: Arc<File>,
    pub(super) path: Arc<Path>,
}

/// Reads and seals one segment. It has no bytes if the file ends before it.
pub(super) fn seal_part(
    batch: &Batch<'_>,
    key: &DedupKey,
    part: &FilePart,
    room: &mut Room,
) -> Result<SegmentRef, Error> {
    let failed = |source| Error::Read {
        path: part.path.to_path_buf(),
        source,
    };
    let start = part.place.1 as u64 * SEGMENT_MAX as u64;
    let mut most = part.len;
    if most == 0 {
        // Some files say that they are empty, and are not.
        let more = read_at(&part.file, start, &mut [0]).map_err(failed)? > 0;
        most = if more { SEGMENT_MAX } else { 0 };
    }
    room.make(most);
    let Room { plain, sealed } = room;
    let len = read_at(&part.file, start, &mut plain[..most]).map_err(failed)?;
    let plaintext = &plain[..len];
    if plaintext.iter().all(|byte| *byte == 0) {
        return Ok(SegmentRef::zero(len as u32));
    }
    let key = key.segment_key(plaintext);
    let (id, key) = seal_segment_into(key, plaintext, sealed).map_err(|source| Error::Seal {
        path: part.path.to_path_buf(),
        source,
    })?;
    batch.put(id, sealed)?;
    Ok(SegmentRef {
        object: Some(id),
        len: len as u32,
        key,
    })
}

/// Fills `out` from `start` on; answers how much there was before the end of the file.
fn read_at(file: &File, start: u64, out: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < out.len() {
        match file.read_at(&mut out[len..], start + len as u64) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Gives each file its segments. A file that became shorter meanwhile ends with its first short one, as whoever reads it from its beginning
/// would have it.
pub(super) fn put_together(entries: &mut [Entry], mut sealed: Vec<((usize, usize), SegmentRef)>) {
    sealed.sort_unstable_by_key(|(place, _)| *place);
    for ((entry, _), part) in sealed {
        let EntryKind::File { len, segments } = &mut entries[entry].kind else {
            continue;
        };
        let complete = *len == segments.len() as u64 * SEGMENT_MAX as u64;
        if complete && part.len > 0 {
            *len += u64::from(part.len);
            segments.push(part);
        }
    }
}
