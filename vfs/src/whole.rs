//! Reading one sealed file from beginning to end, as a client does at home.

use std::io;

use safelight_seal::{
    manifest::{Entry, EntryKind},
    segment::BLOCK,
};

use crate::{
    area::Area,
    lower::{LowerFile, Segments, Unreadable},
};

/// A sealed file.
#[derive(Debug)]
pub struct Whole {
    segments: Segments,
    file: LowerFile,
}

impl Whole {
    /// The file of a manifest's entry; `None` if the entry is not a file.
    pub fn new(area: &Area, entry: &Entry) -> Option<Self> {
        let EntryKind::File { len, segments } = &entry.kind else {
            return None;
        };
        let file = LowerFile {
            len: *len,
            segments: segments.clone().into(),
        };
        Some(Self {
            segments: Segments::new(area.again()),
            file,
        })
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.file.len
    }

    /// True if it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.file.len == 0
    }

    /// Reads up to `len` bytes at `offset`, both multiples of a block's 64 KiB.
    pub fn read(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> io::Result<()> {
        debug_assert!(offset.is_multiple_of(BLOCK as u64) && len.is_multiple_of(BLOCK));
        let count = self.file.len.saturating_sub(offset).min(len as u64);
        out.clear();
        out.resize(count as usize, 0);
        self.segments
            .read(&self.file, offset, out)
            .map_err(|why| match why {
                Unreadable::NotAuthentic(id) => io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("object {id} is not authentic"),
                ),
                Unreadable::Failed(errno) => io::Error::from(errno),
            })
    }
}
