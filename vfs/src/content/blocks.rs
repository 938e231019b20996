//! Which blocks of a file are whose: the map from a block to what shows there, without its bytes.
//!
//! Pure. Below `lower_len` a block that was not changed is the sealed file's, and beyond it zeros.

use std::collections::BTreeMap;

use safelight_seal::{
    manifest::SegmentRef,
    segment::{BLOCK, SEGMENT_MAX},
};

use crate::{lower::LowerFile, upper::Slot};

/// Blocks of a segment.
const PER_SEGMENT: u64 = (SEGMENT_MAX / BLOCK) as u64;

/// The blocks of a file.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pub(super) len: u64,
    pub(super) lower: Option<LowerFile>,
    /// Sealed bytes from here on are hidden.
    pub(super) lower_len: u64,
    pub(super) changed: BTreeMap<u64, Changed>,
    /// Bytes that are stored for what is shown, here or in sealed segments.
    pub(super) stored: u64,
}

/// What the session made of a block.
#[derive(Debug)]
pub(super) enum Changed {
    /// It wrote it: the block is in the upper.
    Written(Slot),
    /// It reads as zeros, whatever was sealed.
    Zero,
}

/// What a range of a file consists of, for `SEEK_DATA` and for sealing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Bytes that somebody wrote.
    Data,
    /// Nothing but zeros, not stored.
    Hole,
}

/// What sealing has to do for one segment of a file.
pub(crate) enum Sealing {
    /// Nothing: it is as it was sealed.
    Same(SegmentRef),
    /// Nothing: it is all zero.
    Zero,
    /// Read it and seal it.
    Changed,
}

impl Blocks {
    /// Those of a sealed file that nobody changed.
    pub(super) fn new(lower: LowerFile) -> Self {
        let mut blocks = Self {
            len: lower.len,
            lower_len: lower.len,
            lower: Some(lower),
            ..Self::default()
        };
        blocks.count();
        blocks
    }

    /// True if they are those of a sealed file that nobody changed.
    pub(super) fn is_as_sealed(&self) -> bool {
        let sealed = self.lower.as_ref().map(|lower| lower.len);
        self.changed.is_empty() && sealed == Some(self.len) && self.lower_len == self.len
    }

    /// Sealed bytes that would show in a block if it were not changed.
    pub(super) fn lower_at(&self, index: u64) -> u64 {
        let Some(lower) = &self.lower else { return 0 };
        let reference = usize::try_from(index / PER_SEGMENT)
            .ok()
            .and_then(|segment| lower.segments.get(segment));
        match reference {
            Some(reference) if reference.object.is_some() => {
                let start = index * BLOCK as u64;
                self.lower_len.saturating_sub(start).min(BLOCK as u64)
            }
            _ => 0,
        }
    }

    fn stored_at(&self, index: u64) -> u64 {
        match self.changed.get(&index) {
            Some(Changed::Written(slot)) => slot.len as u64,
            Some(Changed::Zero) => 0,
            None => self.lower_at(index),
        }
    }

    /// Sets what was changed of a block; answers what it was.
    pub(super) fn set(&mut self, index: u64, changed: Option<Changed>) -> Option<Changed> {
        self.stored -= self.stored_at(index);
        let old = match changed {
            Some(changed) => self.changed.insert(index, changed),
            None => self.changed.remove(&index),
        };
        self.stored += self.stored_at(index);
        old
    }

    /// Counts afresh what is stored, after more than one block changed.
    pub(super) fn count(&mut self) {
        let segments = self.lower.iter().flat_map(|lower| lower.segments.iter());
        let visible = segments.enumerate().map(|(index, reference)| {
            let start = index as u64 * SEGMENT_MAX as u64;
            let visible = self.lower_len.saturating_sub(start);
            match reference.object {
                Some(_) => visible.min(reference.len.into()),
                None => 0,
            }
        });
        let lower: u64 = visible.sum();
        let hidden: u64 = self.changed.keys().map(|index| self.lower_at(*index)).sum();
        let own: u64 = self
            .changed
            .keys()
            .map(|index| self.stored_at(*index))
            .sum();
        self.stored = lower - hidden + own;
    }

    /// The slots of a written block and of those behind it, as far as they lie behind one another on disk too; at most `most` of them.
    pub(super) fn slots(&self, index: u64, most: u64) -> Vec<&Slot> {
        let mut slots: Vec<&Slot> = Vec::new();
        for (at, changed) in self.changed.range(index..index.saturating_add(most)) {
            let Changed::Written(slot) = changed else {
                break;
            };
            let next = *at == index + slots.len() as u64;
            if !next || slots.last().is_some_and(|last| !slot.follows(last)) {
                break;
            }
            slots.push(slot);
        }
        slots
    }

    /// Bytes of the session's own that are stored for some blocks.
    pub(super) fn written(&self, blocks: std::ops::Range<u64>) -> u64 {
        let changed = self.changed.range(blocks).map(|(_, changed)| changed);
        let lengths = changed.map(|changed| match changed {
            Changed::Written(slot) => slot.len as u64,
            Changed::Zero => 0,
        });
        lengths.sum()
    }

    /// What a block is, and the first block after it that may be something else.
    pub(super) fn run(&self, index: u64) -> (Part, u64) {
        let next = self.changed.range(index..).next();
        let next_index = match next {
            Some((at, Changed::Written(_))) if *at == index => return (Part::Data, index + 1),
            Some((at, Changed::Zero)) if *at == index => return (Part::Hole, index + 1),
            Some((at, _)) => *at,
            None => u64::MAX,
        };
        let end = self.lower_len.div_ceil(BLOCK as u64);
        if index >= end {
            return (Part::Hole, next_index);
        }
        let border = (index / PER_SEGMENT + 1) * PER_SEGMENT;
        let stop = next_index.min(border).min(end);
        if self.lower_at(index) > 0 {
            (Part::Data, stop)
        } else {
            (Part::Hole, stop)
        }
    }

    /// What sealing the segment of this index and length has to do.
    pub(super) fn sealing(&self, index: usize, len: u32) -> Sealing {
        let first = index as u64 * PER_SEGMENT;
        let end = first + u64::from(len).div_ceil(BLOCK as u64);
        let lower = self.lower.as_ref();
        if let Some(reference) = lower.and_then(|lower| lower.segments.get(index)) {
            let untouched = self.changed.range(first..end).next().is_none();
            let shown = first * BLOCK as u64 + u64::from(len) <= self.lower_len;
            if untouched && shown && reference.len == len {
                return Sealing::Same(reference.clone());
            }
        }
        let mut at = first;
        while at < end {
            match self.run(at) {
                (Part::Data, _) => return Sealing::Changed,
                (Part::Hole, next) => at = next,
            }
        }
        Sealing::Zero
    }

    /// The next offset at or after `offset` where a part of the wanted kind begins. None beyond the end.
    pub(super) fn seek(&self, offset: u64, wanted: &Part) -> Option<u64> {
        if offset >= self.len {
            return None;
        }
        let mut index = offset / BLOCK as u64;
        while index.saturating_mul(BLOCK as u64) < self.len {
            let (part, next) = self.run(index);
            if part == *wanted {
                return Some(offset.max(index * BLOCK as u64));
            }
            index = next;
        }
        // Every file ends in a hole of length zero (lseek(2)).
        (*wanted == Part::Hole).then_some(self.len)
    }

    /// Bytes of a range that nothing is stored for.
    pub(super) fn unstored(&self, offset: u64, len: u64) -> u64 {
        let end = offset.saturating_add(len);
        let (mut at, mut sum) = (offset, 0);
        while at < end {
            let (part, next) = self.run(at / BLOCK as u64);
            let stop = next.saturating_mul(BLOCK as u64).min(end);
            if part == Part::Hole {
                sum += stop - at;
            }
            at = stop;
        }
        sum
    }

    /// How many bytes of a block are not beyond the end of the file.
    pub(super) fn valid(&self, index: u64) -> usize {
        self.len
            .saturating_sub(index * BLOCK as u64)
            .min(BLOCK as u64) as usize
    }
}
