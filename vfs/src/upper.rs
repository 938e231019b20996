//! The upper's store: one working file of encrypted slots, whose keys and tags are only in this process's memory.
//!
//! If the process dies, the slots are noise: an attempt that was not committed never happened. So a slot may be rewritten in place, and
//! nothing here is ever read back by another process. The file is unlinked as soon as it is made. One failed write poisons the store.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use nix::errno::Errno;
use safelight_seal::{
    segment::BLOCK,
    working::{Seal, WorkingKey},
};

use crate::tree::Answer;

/// One encrypted block of at most [`BLOCK`] bytes.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    number: u64,
    seal: Seal,
    /// The bytes in it.
    pub(crate) len: usize,
}

/// The store.
pub struct Upper {
    file: File,
    key: WorkingKey,
    free: Mutex<Free>,
    /// Bytes that may still be written.
    quota: u64,
    used: AtomicU64,
    poisoned: AtomicBool,
}

#[derive(Default)]
struct Free {
    reusable: Vec<u64>,
    next: u64,
}

impl Upper {
    /// A store in an empty file that nobody else has, for at most `quota` bytes.
    pub fn new(file: File, key: WorkingKey, quota: u64) -> Self {
        Self {
            file,
            key,
            free: Mutex::default(),
            quota,
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

    /// Quota and use in bytes.
    pub(crate) fn space(&self) -> (u64, u64) {
        (
            self.quota,
            self.used.load(Ordering::Relaxed).min(self.quota),
        )
    }

    /// Encrypts `block` in place and writes it to the slot of `old`, or a new one. On failure `old` is spoiled, and so is the store.
    pub(crate) fn write(
        &self,
        file: u64,
        index: u64,
        block: &mut [u8],
        old: Option<&Slot>,
    ) -> Answer<Slot> {
        let before = old.map_or(0, |slot| slot.len as u64);
        let grown = (block.len() as u64).saturating_sub(before);
        if grown > 0 && self.used.fetch_add(grown, Ordering::Relaxed) + grown > self.quota {
            self.used.fetch_sub(grown, Ordering::Relaxed);
            self.poison();
            return Err(Errno::ENOSPC);
        }
        let number = old.map_or_else(|| self.take(), |slot| slot.number);
        let len = block.len();
        let seal = self
            .key
            .seal_block(file, index, block)
            .map_err(|_| Errno::EIO)
            .inspect_err(|_| self.poison())?;
        self.file
            .write_all_at(block, number * BLOCK as u64)
            .map_err(|error| {
                self.poison();
                Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
            })?;
        self.used
            .fetch_sub(before.saturating_sub(len as u64), Ordering::Relaxed);
        Ok(Slot { number, seal, len })
    }

    /// Reads and decrypts a slot into `out`, whose length must be the slot's.
    pub(crate) fn read(&self, file: u64, index: u64, slot: &Slot, out: &mut [u8]) -> Answer<()> {
        self.file
            .read_exact_at(out, slot.number * BLOCK as u64)
            .map_err(|_| Errno::EIO)?;
        self.key
            .open_block(file, index, &slot.seal, out)
            .map_err(|_| Errno::EIO)
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

    fn take(&self) -> u64 {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.reusable.pop().unwrap_or_else(|| {
            free.next += 1;
            free.next - 1
        })
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
