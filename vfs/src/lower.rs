//! Reading sealed files: segments of the area, opened once, each block authenticated before a byte of it is shown.
//!
//! Every byte from the disk is hostile. A block that does not verify is reported with its object, shown to nobody, and told apart from
//! an I/O error.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
};

use nix::errno::Errno;
use safelight_policies::id::ObjectId;
use safelight_seal::{
    manifest::SegmentRef,
    segment::{BLOCK, HEADER_LEN, Place, SEGMENT_MAX, Segment, layout},
};

use crate::area::{self, Area};

/// How many segments are kept open. Each costs a descriptor and a tag table of at most 4 KiB.
const OPEN_MAX: usize = 256;

/// Why sealed bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The disk has other bytes than were sealed, or the object is gone.
    NotAuthentic(ObjectId),
    /// The disk refuses.
    Failed(Errno),
}

/// The area's segments, opened on first use.
pub struct Segments {
    area: Area,
    open: Mutex<HashMap<ObjectId, Arc<OpenSegment>>>,
}

struct OpenSegment {
    file: File,
    segment: Segment,
}

/// A sealed file.
#[derive(Clone)]
pub(crate) struct LowerFile {
    pub(crate) len: u64,
    pub(crate) segments: Arc<[SegmentRef]>,
}

impl Segments {
    /// The segments of an area.
    pub fn new(area: Area) -> Self {
        Self {
            area,
            open: Mutex::default(),
        }
    }

    /// The area.
    pub fn area(&self) -> &Area {
        &self.area
    }

    /// Reads from a sealed file at `offset`, which must be a multiple of [`BLOCK`], until `out` is full. `out` ends at a block border or
    /// at the end of the file.
    pub(crate) fn read(
        &self,
        file: &LowerFile,
        offset: u64,
        mut out: &mut [u8],
    ) -> Result<(), Unreadable> {
        debug_assert_eq!(offset % BLOCK as u64, 0);
        let mut at = offset;
        while !out.is_empty() {
            let index = usize::try_from(at / SEGMENT_MAX as u64)
                .map_err(|_| Unreadable::Failed(Errno::EOVERFLOW))?;
            let within = (at % SEGMENT_MAX as u64) as usize;
            let reference = file
                .segments
                .get(index)
                .ok_or(Unreadable::Failed(Errno::EIO))?;
            let len = out
                .len()
                .min((reference.len as usize).saturating_sub(within));
            if len == 0 {
                return Err(Unreadable::Failed(Errno::EIO));
            }
            let (here, rest) = out.split_at_mut(len);
            match reference.object {
                None => here.fill(0),
                Some(id) => self.segment(id, reference)?.read(id, within, here)?,
            }
            out = rest;
            at += len as u64;
        }
        Ok(())
    }

    fn segment(
        &self,
        id: ObjectId,
        reference: &SegmentRef,
    ) -> Result<Arc<OpenSegment>, Unreadable> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = open.get(&id) {
            return Ok(segment.clone());
        }
        let segment = Arc::new(OpenSegment::open(&self.area, id, reference)?);
        if open.len() >= OPEN_MAX {
            // Any one will do: a renderer reads few files at a time, and reopening costs two small reads.
            if let Some(other) = open.keys().next().copied() {
                open.remove(&other);
            }
        }
        open.insert(id, segment.clone());
        Ok(segment)
    }
}

impl OpenSegment {
    fn open(area: &Area, id: ObjectId, reference: &SegmentRef) -> Result<Self, Unreadable> {
        let file = area.object(id).map_err(|error| match error {
            area::Error::Read { source, .. } => why(id, &source),
            _ => Unreadable::NotAuthentic(id),
        })?;
        let mut header = [0; HEADER_LEN];
        file.read_exact_at(&mut header, 0)
            .map_err(|error| why(id, &error))?;
        let layout = layout(&header).map_err(|_| Unreadable::NotAuthentic(id))?;
        let len = file.metadata().map_err(|error| why(id, &error))?.len();
        if len != layout.file_len {
            return Err(Unreadable::NotAuthentic(id));
        }
        let mut tags = vec![0; layout.tags_len];
        file.read_exact_at(&mut tags, layout.tags_at)
            .map_err(|error| why(id, &error))?;
        let segment = Segment::open(&reference.key, &header, &tags)
            .map_err(|_| Unreadable::NotAuthentic(id))?;
        if segment.plaintext_len() != reference.len as usize {
            return Err(Unreadable::NotAuthentic(id));
        }
        Ok(Self { file, segment })
    }

    /// Reads whole blocks from `within`. Neighbouring stored blocks are fetched by one call and opened where they lie.
    fn read(&self, id: ObjectId, within: usize, out: &mut [u8]) -> Result<(), Unreadable> {
        let first = within / BLOCK;
        let mut run: Option<(u64, usize, usize)> = None;
        for (step, start) in (0..out.len()).step_by(BLOCK).enumerate() {
            let len = BLOCK.min(out.len() - start);
            match self.segment.place(first + step) {
                Some(Place::Hole { .. }) => {
                    self.fetch(run.take(), id, out)?;
                    out[start..start + len].fill(0);
                }
                Some(Place::Stored {
                    offset,
                    len: stored,
                }) => {
                    if stored != len {
                        return Err(Unreadable::NotAuthentic(id));
                    }
                    run = match run {
                        Some((at, from, so_far)) => Some((at, from, so_far + len)),
                        None => Some((offset, start, len)),
                    };
                }
                None => return Err(Unreadable::Failed(Errno::EIO)),
            }
        }
        self.fetch(run, id, out)?;
        for (step, start) in (0..out.len()).step_by(BLOCK).enumerate() {
            let end = out.len().min(start + BLOCK);
            if matches!(self.segment.place(first + step), Some(Place::Stored { .. })) {
                self.segment
                    .open_block(first + step, &mut out[start..end])
                    .map_err(|_| {
                        out.fill(0);
                        Unreadable::NotAuthentic(id)
                    })?;
            }
        }
        Ok(())
    }

    fn fetch(
        &self,
        run: Option<(u64, usize, usize)>,
        id: ObjectId,
        out: &mut [u8],
    ) -> Result<(), Unreadable> {
        let Some((offset, start, len)) = run else {
            return Ok(());
        };
        self.file
            .read_exact_at(&mut out[start..start + len], offset)
            .map_err(|error| why(id, &error))
    }
}

/// An object that is gone, too short or not a plain file is not what was sealed. Everything else is the disk's refusal, or the system's.
fn why(id: ObjectId, error: &io::Error) -> Unreadable {
    match error.raw_os_error() {
        None if error.kind() == io::ErrorKind::UnexpectedEof => Unreadable::NotAuthentic(id),
        Some(libc::ENOENT | libc::ELOOP | libc::ENOTDIR | libc::EISDIR) => {
            Unreadable::NotAuthentic(id)
        }
        errno => Unreadable::Failed(Errno::from_raw(errno.unwrap_or(libc::EIO))),
    }
}

impl std::fmt::Debug for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segments")
            .field("area", &self.area)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for LowerFile {
    /// Segments hold keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LowerFile")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
