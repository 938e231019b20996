//! How many names a session may add to all its views together.
//!
//! A name costs no byte of the quota, but an entry of the manifest at the end, and until then memory of a process that is outside the
//! session's own limit. What a session removes of its own is given back; what it removes of the layers is not.

use std::sync::atomic::{AtomicU64, Ordering};

/// The room of one session.
#[derive(Debug)]
pub(crate) struct Room {
    most: u64,
    added: AtomicU64,
}

impl Room {
    /// Room for this many names.
    pub(crate) fn for_names(most: u64) -> Self {
        Self {
            most,
            added: AtomicU64::new(0),
        }
    }

    /// How many may still be added. Two views that ask at the same moment may both be told of the last one.
    pub(crate) fn left(&self) -> u64 {
        self.most.saturating_sub(self.added.load(Ordering::Relaxed))
    }

    /// Counts a name that was added.
    pub(crate) fn take(&self) {
        self.added.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a name that was taken and is no more.
    pub(crate) fn give_back(&self) {
        self.added.fetch_sub(1, Ordering::Relaxed);
    }
}
