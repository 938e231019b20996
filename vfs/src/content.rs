//! The bytes of one file: sealed blocks below, the session's own blocks on top.
//!
//! Copying up is by block, not by file: a write of one byte to a sealed file of a terabyte costs one block. Below `lower_len` a block
//! that was not changed shows the sealed bytes; above it, zeros. So a file that shrinks and grows again shows zeros, never old bytes.

mod blocks;

use std::{
    cell::RefCell,
    ops::Range,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::errno::Errno;
use safelight_seal::segment::BLOCK;

use self::blocks::{Blocks, Changed};
pub(crate) use self::blocks::{Part, Sealing};
use crate::{
    lower::{LowerFile, Segments, Unreadable},
    tree::Answer,
    upper::{Slot, Upper},
};

/// The largest file: 16 TiB, as ext4 has it. A hole costs a manifest 64 bytes for every 16 MiB.
const SIZE_MAX: u64 = 1 << 44;

thread_local! {
    /// Where each event loop encrypts what it was given. It holds ciphertext when nobody writes.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where a view's bytes come from and go to.
#[derive(Debug)]
pub struct Store {
    /// Sealed segments.
    pub segments: Segments,
    /// The session's own blocks; none in a view that only reads.
    pub upper: Option<Upper>,
    files: AtomicU64,
}

impl Store {
    /// A store over sealed segments, with or without a place for the session's own blocks.
    pub fn new(segments: Segments, upper: Option<Upper>) -> Self {
        Self {
            segments,
            upper,
            files: AtomicU64::new(0),
        }
    }

    /// A number for a file, unique within the store: it is bound into every block of the file's.
    pub(crate) fn file_number(&self) -> u64 {
        self.files.fetch_add(1, Ordering::Relaxed)
    }
}

/// The bytes of one file.
#[derive(Debug)]
pub(crate) struct Content {
    /// Binds the file's own blocks to it; unique within the store.
    id: u64,
    blocks: RwLock<Blocks>,
}

impl Content {
    /// An empty file.
    pub(crate) fn empty(id: u64) -> Self {
        Self {
            id,
            blocks: RwLock::default(),
        }
    }

    /// A sealed file.
    pub(crate) fn sealed(id: u64, lower: LowerFile) -> Self {
        Self {
            id,
            blocks: RwLock::new(Blocks::new(lower)),
        }
    }

    fn shared(&self) -> RwLockReadGuard<'_, Blocks> {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn exclusive(&self) -> RwLockWriteGuard<'_, Blocks> {
        self.blocks.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.shared().len
    }

    /// True if it is a sealed file of which nothing was changed.
    pub(crate) fn is_as_sealed(&self) -> bool {
        self.shared().is_as_sealed()
    }

    /// Bytes that are stored for it, as `stat` counts them.
    pub(crate) fn stored(&self) -> u64 {
        self.shared().stored
    }

    /// What sealing the segment of this index and length has to do.
    pub(crate) fn sealing(&self, index: usize, len: u32) -> Sealing {
        self.shared().sealing(index, len)
    }

    /// Reads up to `len` bytes at `offset`; fewer at the end of the file. They are in `out` where the answer says: `out` keeps its memory from
    /// call to call, and what else is in it means nothing.
    pub(crate) fn read_into(
        &self,
        store: &Store,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, Unreadable> {
        let blocks = self.shared();
        let end = offset.saturating_add(len as u64).min(blocks.len);
        if offset >= end {
            return Ok(0..0);
        }
        // Whole blocks are decrypted where the answer lies; what was not asked for is left out afterwards.
        let head = (offset % BLOCK as u64) as usize;
        let start = offset - head as u64;
        let stop = end.next_multiple_of(BLOCK as u64).min(blocks.len);
        let whole = (stop - start) as usize;
        if out.len() < whole {
            out.resize(whole, 0);
        }
        self.fill(&blocks, store, start, &mut out[..whole])?;
        Ok(head..(end - start) as usize)
    }

    /// As [`Content::read_into`], with nothing in `out` but the answer.
    pub(crate) fn read(
        &self,
        store: &Store,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        out.clear();
        let answer = self.read_into(store, offset, len, out)?;
        out.truncate(answer.end);
        out.drain(..answer.start);
        Ok(())
    }

    /// Fills all of `out` from `start`, a block border, with the file's bytes; `out` ends at a block border or the end of the file.
    fn fill(
        &self,
        blocks: &Blocks,
        store: &Store,
        start: u64,
        out: &mut [u8],
    ) -> Result<(), Unreadable> {
        let first = start / BLOCK as u64;
        let count = out.len().div_ceil(BLOCK) as u64;
        let mut at = 0;
        while at < count {
            let from = at as usize * BLOCK;
            let run = match blocks.changed.get(&(first + at)) {
                Some(Changed::Zero) => {
                    let to = out.len().min(from + BLOCK);
                    out[from..to].fill(0);
                    1
                }
                Some(Changed::Written(_)) => {
                    let slots = blocks.slots(first + at, count - at);
                    let to = out.len().min(from + slots.len() * BLOCK);
                    self.fill_upper(store, first + at, &slots, &mut out[from..to])?;
                    slots.len() as u64
                }
                None => {
                    let next = blocks
                        .changed
                        .range(first + at..)
                        .next()
                        .map_or(u64::MAX, |(index, _)| *index);
                    let run = next.min(first + count) - (first + at);
                    let to = out.len().min(from + run as usize * BLOCK);
                    self.fill_lower(blocks, store, first + at, &mut out[from..to])?;
                    run
                }
            };
            at += run;
        }
        Ok(())
    }

    fn fill_upper(
        &self,
        store: &Store,
        first: u64,
        slots: &[&Slot],
        out: &mut [u8],
    ) -> Result<(), Unreadable> {
        let upper = store.upper.as_ref().ok_or(Unreadable::Failed(Errno::EIO))?;
        // A block that reaches past a later truncation was cut then: none is longer than what may be shown.
        let stored: usize = slots.iter().map(|slot| slot.len).sum();
        let (written, never) = out
            .split_at_mut_checked(stored)
            .ok_or(Unreadable::Failed(Errno::EIO))?;
        never.fill(0);
        upper
            .read(self.id, first, slots, written)
            .map_err(Unreadable::Failed)
    }

    fn fill_lower(
        &self,
        blocks: &Blocks,
        store: &Store,
        first: u64,
        out: &mut [u8],
    ) -> Result<(), Unreadable> {
        let Some(lower) = &blocks.lower else {
            out.fill(0);
            return Ok(());
        };
        let start = first * BLOCK as u64;
        let visible = blocks.lower_len.saturating_sub(start);
        let visible = visible.min(out.len() as u64) as usize;
        out[visible..].fill(0);
        if visible == 0 {
            return Ok(());
        }
        // The sealed file's last block may be longer than what is still visible of it: read it whole, then hide the rest.
        let readable = (visible as u64)
            .next_multiple_of(BLOCK as u64)
            .min(lower.len - start) as usize;
        if readable <= out.len() {
            store.segments.read(lower, start, &mut out[..readable])?;
            out[visible..readable].fill(0);
        } else {
            let mut whole = vec![0; readable];
            store.segments.read(lower, start, &mut whole)?;
            out[..visible].copy_from_slice(&whole[..visible]);
        }
        Ok(())
    }

    /// Writes `data` at `offset`.
    pub(crate) fn write(&self, store: &Store, offset: u64, data: &[u8]) -> Result<(), Unreadable> {
        let upper = store
            .upper
            .as_ref()
            .ok_or(Unreadable::Failed(Errno::EROFS))?;
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|end| *end <= SIZE_MAX)
            .ok_or(Unreadable::Failed(Errno::EFBIG))?;
        let whole = offset.next_multiple_of(BLOCK as u64)..end - end % BLOCK as u64;
        if whole.is_empty() {
            return self.write_at(&mut self.exclusive(), store, upper, offset, data);
        }
        let (head, rest) = data.split_at((whole.start - offset) as usize);
        let (middle, tail) = rest.split_at((whole.end - whole.start) as usize);
        self.write_at(&mut self.exclusive(), store, upper, offset, head)?;
        self.write_whole(upper, whole.start / BLOCK as u64, middle)
            .map_err(Unreadable::Failed)?;
        self.write_at(&mut self.exclusive(), store, upper, whole.end, tail)
    }

    /// Writes whole blocks. They are encrypted and written to new slots while others read, and put in their place afterwards.
    fn write_whole(&self, upper: &Upper, first: u64, data: &[u8]) -> Answer<()> {
        let indices = first..first + (data.len() / BLOCK) as u64;
        let before = self.shared().written(indices.clone());
        let slots = SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.extend_from_slice(data);
            upper.write_new(self.id, first, scratch, before)
        })?;
        let mut blocks = self.exclusive();
        for (index, slot) in indices.clone().zip(slots) {
            if let Some(Changed::Written(old)) = blocks.set(index, Some(Changed::Written(slot))) {
                upper.release(&old);
            }
        }
        blocks.len = blocks.len.max(indices.end * BLOCK as u64);
        upper.replaced(data.len() as u64, before);
        Ok(())
    }

    fn write_at(
        &self,
        blocks: &mut Blocks,
        store: &Store,
        upper: &Upper,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Unreadable> {
        let mut at = offset;
        let mut rest = data;
        let mut block =
            Vec::with_capacity(BLOCK.min(blocks.valid(at / BLOCK as u64).max(rest.len())));
        while !rest.is_empty() {
            let index = at / BLOCK as u64;
            let within = (at % BLOCK as u64) as usize;
            let (here, after) = rest.split_at(rest.len().min(BLOCK - within));
            let valid = blocks.valid(index);
            block.clear();
            if within > 0 || here.len() < valid {
                block.resize(valid, 0);
                self.fill(blocks, store, index * BLOCK as u64, &mut block)?;
            }
            block.resize(block.len().max(within + here.len()), 0);
            block[within..within + here.len()].copy_from_slice(here);
            self.put(blocks, upper, index, &mut block)
                .map_err(Unreadable::Failed)?;
            at += here.len() as u64;
            blocks.len = blocks.len.max(at);
            rest = after;
        }
        Ok(())
    }

    /// Sets the length.
    pub(crate) fn truncate(&self, store: &Store, len: u64) -> Result<(), Unreadable> {
        if len > SIZE_MAX {
            return Err(Unreadable::Failed(Errno::EFBIG));
        }
        let upper = store
            .upper
            .as_ref()
            .ok_or(Unreadable::Failed(Errno::EROFS))?;
        let mut blocks = self.exclusive();
        if len < blocks.len {
            self.cut(&mut blocks, store, upper, len)?;
        }
        blocks.len = len;
        Ok(())
    }

    fn cut(
        &self,
        blocks: &mut Blocks,
        store: &Store,
        upper: &Upper,
        len: u64,
    ) -> Result<(), Unreadable> {
        let keep = len.div_ceil(BLOCK as u64);
        for (_, changed) in blocks.changed.split_off(&keep) {
            if let Changed::Written(slot) = changed {
                upper.release(&slot);
            }
        }
        let tail = (len % BLOCK as u64) as usize;
        let last = len / BLOCK as u64;
        let longer =
            matches!(blocks.changed.get(&last), Some(Changed::Written(slot)) if slot.len > tail);
        if tail > 0 && longer {
            let mut block = vec![0; blocks.valid(last)];
            self.fill(blocks, store, last * BLOCK as u64, &mut block)?;
            block.truncate(tail);
            self.put(blocks, upper, last, &mut block)
                .map_err(Unreadable::Failed)?;
        }
        blocks.lower_len = blocks.lower_len.min(len);
        blocks.count();
        Ok(())
    }

    /// Makes a range read as zeros, without changing the length (`FALLOC_FL_PUNCH_HOLE`).
    pub(crate) fn punch(&self, store: &Store, offset: u64, len: u64) -> Result<(), Unreadable> {
        let upper = store
            .upper
            .as_ref()
            .ok_or(Unreadable::Failed(Errno::EROFS))?;
        let mut blocks = self.exclusive();
        let len_now = blocks.len;
        let end = offset.saturating_add(len).min(len_now);
        let mut at = offset;
        while at < end {
            let index = at / BLOCK as u64;
            let (part, next) = blocks.run(index);
            let stop = match part {
                // Zeros already: go on where something else may be.
                Part::Hole => next.saturating_mul(BLOCK as u64).min(end),
                Part::Data => ((index + 1) * BLOCK as u64).min(end),
            };
            let whole = at.is_multiple_of(BLOCK as u64)
                && (stop.is_multiple_of(BLOCK as u64) || stop == len_now);
            match part {
                Part::Hole => {}
                Part::Data if whole => {
                    let zero = (blocks.lower_at(index) > 0).then_some(Changed::Zero);
                    if let Some(Changed::Written(slot)) = blocks.set(index, zero) {
                        upper.release(&slot);
                    }
                }
                Part::Data => {
                    let zeros = vec![0; (stop - at) as usize];
                    self.write_at(&mut blocks, store, upper, at, &zeros)?;
                }
            }
            at = stop;
        }
        Ok(())
    }

    /// Grows the file to `len` at least, without storing anything (`fallocate`).
    pub(crate) fn grow(&self, len: u64) -> Answer<()> {
        if len > SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        let mut blocks = self.exclusive();
        blocks.len = blocks.len.max(len);
        Ok(())
    }

    /// Bytes of a range that nothing is stored for yet.
    pub(crate) fn unstored(&self, offset: u64, len: u64) -> u64 {
        self.shared().unstored(offset, len)
    }

    /// The next offset at or after `offset` where a part of the wanted kind begins. Beyond the end: `ENXIO`.
    pub(crate) fn seek(&self, offset: u64, wanted: &Part) -> Answer<u64> {
        self.shared().seek(offset, wanted).ok_or(Errno::ENXIO)
    }

    fn put(&self, blocks: &mut Blocks, upper: &Upper, index: u64, block: &mut [u8]) -> Answer<()> {
        let old = match blocks.changed.get(&index) {
            Some(Changed::Written(slot)) => Some(slot),
            _ => None,
        };
        let slot = upper.write(self.id, index, block, old)?;
        blocks.set(index, Some(Changed::Written(slot)));
        Ok(())
    }

    /// Gives every slot back; the file is gone.
    pub(crate) fn discard(&self, store: &Store) {
        let mut blocks = self.exclusive();
        for changed in std::mem::take(&mut blocks.changed).into_values() {
            if let (Changed::Written(slot), Some(upper)) = (changed, &store.upper) {
                upper.release(&slot);
            }
        }
        *blocks = Blocks::default();
    }
}

/// Shared by handles and the tree.
pub(crate) type SharedContent = Arc<Content>;
