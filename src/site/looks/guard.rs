//! How often one user of the host may be refused: each refusal is a log of the client's, and those travel.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// So many refusals in [`SPAN`] seconds; then nothing is looked at any more, and nothing is recorded.
const REFUSALS: usize = 30;
const SPAN: u64 = 3600;

/// When each user was refused, newest last.
#[derive(Debug, Default)]
pub(super) struct Guard(Mutex<BTreeMap<u32, Vec<u64>>>);

impl Guard {
    /// Whether a user may ask at this time, in seconds since 1970.
    pub(super) fn may_ask(&self, uid: u32, now: u64) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that is set back forgives nothing early.
        all.retain(|_, times| {
            times.retain(|at| at.saturating_add(SPAN) > now);
            !times.is_empty()
        });
        all.get(&uid).is_none_or(|times| times.len() < REFUSALS)
    }

    /// A user was refused.
    pub(super) fn refused(&self, uid: u32, now: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(uid).or_default().push(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_refused_too_often_waits_and_nobody_else_does() {
        let guard = Guard::default();
        for at in 0..REFUSALS as u64 {
            assert!(guard.may_ask(7, at));
            guard.refused(7, at);
        }
        assert!(!guard.may_ask(7, 100));
        assert!(guard.may_ask(8, 100));
        assert!(!guard.may_ask(7, SPAN - 1));
        assert!(guard.may_ask(7, SPAN), "the first is forgotten");
    }
}
