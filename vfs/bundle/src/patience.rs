//! How long something may look wrong before it is wrong. A file that is still being written looks like a bad one.
//!
//! A doubt ends when the thing looks right, or when it has not changed for as long as the reader is patient. That a file stopped changing never makes it good.

use std::collections::BTreeMap;

use safelight_policies::id::ObjectId;

use crate::EntryName;

/// How long something must stay wrong, unchanged, until it is refused, if the reader says nothing else; in seconds.
pub(crate) const SETTLE: u64 = 3_600;
/// How many times as long something may be wrong at all.
const WRONG_MAX: u64 = 6;

/// What is doubted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Letter(EntryName),
    Blob(ObjectId),
}

struct Doubt {
    began: u64,
    changed: u64,
    digest: [u8; 32],
    fresh: bool,
}

/// The doubts of an inbox. In memory only: after a restart everything gets its time again.
pub(crate) struct Patience {
    doubts: BTreeMap<Subject, Doubt>,
    settle: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self::of(SETTLE)
    }
}

impl Patience {
    /// One that refuses what stayed wrong, unchanged, for so many seconds.
    pub(crate) fn of(settle: u64) -> Self {
        Self {
            doubts: BTreeMap::new(),
            settle,
        }
    }

    /// Notes that a thing looks wrong, with a digest of how. True if it has been wrong for long enough.
    pub(crate) fn is_over(&mut self, subject: Subject, digest: [u8; 32], now: u64) -> bool {
        let first = Doubt {
            began: now,
            changed: now,
            digest,
            fresh: true,
        };
        let doubt = self.doubts.entry(subject).or_insert(first);
        if doubt.digest != digest {
            doubt.digest = digest;
            doubt.changed = now;
        }
        doubt.fresh = true;
        now.saturating_sub(doubt.changed) >= self.settle
            || now.saturating_sub(doubt.began) >= self.settle.saturating_mul(WRONG_MAX)
    }

    /// Ends a scan: what was not doubted in it is doubted no more. So memory is bounded by what one scan looks at.
    pub(crate) fn turn(&mut self) {
        self.doubts
            .retain(|_, doubt| std::mem::take(&mut doubt.fresh));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Subject = Subject::Blob(ObjectId([1; 32]));

    #[test]
    fn what_changes_gets_more_time_but_not_for_ever() {
        let mut patience = Patience::default();
        assert!(!patience.is_over(ONE, [0; 32], 100));
        assert!(!patience.is_over(ONE, [0; 32], 99 + SETTLE));
        assert!(patience.is_over(ONE, [0; 32], 100 + SETTLE));
        assert!(!patience.is_over(ONE, [1; 32], 100 + SETTLE));
        assert!(patience.is_over(ONE, [2; 32], 100 + WRONG_MAX * SETTLE));
    }

    #[test]
    fn a_doubt_that_is_not_renewed_is_forgotten() {
        let mut patience = Patience::default();
        patience.is_over(ONE, [0; 32], 100);
        patience.turn();
        assert_eq!(patience.doubts.len(), 1);
        patience.turn();
        assert!(patience.doubts.is_empty());
        assert!(!patience.is_over(ONE, [0; 32], 100 + SETTLE));
    }
}
