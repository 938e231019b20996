//! The upper's store: one working file of encrypted slots, whose keys and tags are only in this process's memory.
//!
//! If the process dies, the slots are noise: an attempt that was not committed never happened. So a slot may be rewritten in place, and
//! nothing here is ever read back by another process. The file is unlinked as soon as it is made. One failed write poisons the store.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use nix::errno::Errno;
use safelight_seal::{
    segment::BLOCK,
    working::{Seal, WorkingKey},
};

use crate::{room::Room, tree::Answer};

/// One encrypted block of at most [`BLOCK`] bytes.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    number: u64,
    seal: Seal,
    /// The bytes in it.
    pub(crate) len: usize,
}

impl Slot {
    /// True if it lies right behind another one, which is full.
    pub(crate) fn follows(&self, other: &Self) -> bool {
        other.len == BLOCK && self.number == other.number + 1
    }
}

/// What a session may add to its views together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Bytes that it may write.
    pub bytes: u64,
    /// Names that it may add.
    pub entries: u64,
}

/// The store.
pub struct Upper {
    file: File,
    key: WorkingKey,
    free: Mutex<Free>,
    /// Bytes that may be written.
    quota: u64,
    room: Arc<Room>,
    used: AtomicU64,
    poisoned: AtomicBool,
}

#[derive(Default)]
struct Free {
    reusable: Vec<u64>,
    next: u64,
}

impl Upper {
    /// A store in an empty file that nobody else has.
    pub fn new(file: File, key: WorkingKey, quota: Quota) -> Self {
        Self {
            file,
            key,
            free: Mutex::default(),
            quota: quota.bytes,
            room: Arc::new(Room::for_names(quota.entries)),
            used: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
        }
    }

    /// True if a write failed since the beginning: what was written cannot be trusted as a whole.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Marks the attempt as spoiled.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    /// The room for names.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Quota and use in bytes.
    pub(crate) fn space(&self) -> (u64, u64) {
        (
            self.quota,
            self.used.load(Ordering::Relaxed).min(self.quota),
        )
    }

    /// Encrypts `block` in place and writes it to the slot of `old`, or a new one. On failure `old` is spoiled, and so is the store. Nobody
    /// may be reading `old`.
    pub(crate) fn write(
        &self,
        file: u64,
        index: u64,
        block: &mut [u8],
        old: Option<&Slot>,
    ) -> Answer<Slot> {
        let before = old.map_or(0, |slot| slot.len as u64);
        let len = block.len();
        self.charge((len as u64).saturating_sub(before))?;
        let number = match old {
            Some(slot) => slot.number,
            None => self.take(1)[0],
        };
        let seal = self.seal(file, index, block)?;
        self.store(block, number)?;
        self.used
            .fetch_sub(before.saturating_sub(len as u64), Ordering::Relaxed);
        Ok(Slot { number, seal, len })
    }

    /// Encrypts neighbouring whole blocks in place, the first of them `first`, and writes them to new slots, so that others may read what they
    /// replace meanwhile. Of that, `before` bytes are stored. [`Upper::replaced`] must follow when the slots are in their place.
    pub(crate) fn write_new(
        &self,
        file: u64,
        first: u64,
        blocks: &mut [u8],
        before: u64,
    ) -> Answer<Vec<Slot>> {
        self.charge((blocks.len() as u64).saturating_sub(before))?;
        let numbers = self.take(blocks.len() / BLOCK);
        let mut slots = Vec::with_capacity(numbers.len());
        for (number, block) in numbers.iter().zip(blocks.chunks_mut(BLOCK)) {
            let index = first + slots.len() as u64;
            let seal = self.seal(file, index, block)?;
            slots.push(Slot {
                number: *number,
                seal,
                len: BLOCK,
            });
        }
        let mut rest = blocks;
        for run in numbers.chunk_by(|a, b| a + 1 == *b) {
            let (here, after) = rest.split_at_mut(run.len() * BLOCK);
            self.store(here, run[0])?;
            rest = after;
        }
        Ok(slots)
    }

    /// Settles what [`Upper::write_new`] charged for, once the slots that it replaced, of `before` bytes as it was told, are released.
    pub(crate) fn replaced(&self, written: u64, before: u64) {
        self.used.fetch_add(written.min(before), Ordering::Relaxed);
    }

    fn charge(&self, grown: u64) -> Answer<()> {
        if grown > 0 && self.used.fetch_add(grown, Ordering::Relaxed) + grown > self.quota {
            self.used.fetch_sub(grown, Ordering::Relaxed);
            self.poison();
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    fn seal(&self, file: u64, index: u64, block: &mut [u8]) -> Answer<Seal> {
        self.key
            .seal_block(file, index, block)
            .map_err(|_| Errno::EIO)
            .inspect_err(|_| self.poison())
    }

    fn store(&self, bytes: &[u8], number: u64) -> Answer<()> {
        let written = self.file.write_all_at(bytes, number * BLOCK as u64);
        written.map_err(|error| {
            self.poison();
            Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
        })
    }

    /// Reads and decrypts neighbouring blocks, the first of them `first`, from slots that follow one another: all but the last are full.
    /// `out` is as long as they are together.
    pub(crate) fn read(
        &self,
        file: u64,
        first: u64,
        slots: &[&Slot],
        out: &mut [u8],
    ) -> Answer<()> {
        let Some(begin) = slots.first() else {
            return Ok(());
        };
        self.file
            .read_exact_at(out, begin.number * BLOCK as u64)
            .map_err(|_| Errno::EIO)?;
        for (index, (slot, block)) in (first..).zip(slots.iter().zip(out.chunks_mut(BLOCK))) {
            self.key
                .open_block(file, index, &slot.seal, block)
                .map_err(|_| Errno::EIO)?;
        }
        Ok(())
    }

    /// Gives a slot back.
    pub(crate) fn release(&self, slot: &Slot) {
        self.used.fetch_sub(slot.len as u64, Ordering::Relaxed);
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .reusable
            .push(slot.number);
    }

    /// Numbers of slots that nobody has. Those that were given back together are given out together, in the same order.
    fn take(&self, count: usize) -> Vec<u64> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let from = free.reusable.len().saturating_sub(count);
        let mut numbers = free.reusable.split_off(from);
        let missing = (count - numbers.len()) as u64;
        numbers.extend(free.next..free.next + missing);
        free.next += missing;
        numbers
    }
}

impl std::fmt::Debug for Upper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upper")
            .field("quota", &self.quota)
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}
