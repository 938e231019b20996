//! The queues, and the order in them.
//!
//! A job's key is `submitted - priority * W`, fixed when it is submitted: all jobs age at one rate, so ageing never changes the order of two
//! jobs, nothing has to be recomputed, and nothing starves: a job is overtaken only by those submitted less than `100 * W` after it.

use safelight_policies::id::JobId;
use serde::{Deserialize, Serialize};

use crate::{
    ledger::{JobState, states},
    state::MoveRefusal,
};

states!(
    /// A queue of a site.
    Queue {
        /// At home: submitted, not yet placed.
        New = "new",
        /// At home: rendered elsewhere, until the results are here.
        Outsourced = "outsourced",
        /// Rendered here.
        Active = "active",
    }
);

/// The highest priority.
const PRIORITY_MAX: u8 = 100;

/// The key that a queue is ordered by, the smallest first. `step` is W in seconds.
pub fn key(submitted: u64, priority: u8, step: u64) -> i64 {
    let ahead = u64::from(priority.min(PRIORITY_MAX)).saturating_mul(step);
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    signed(submitted).saturating_sub(signed(ahead))
}

/// True if a job in this state fills a place of the outsourced queue's cap: it left the site, and its results are not here.
pub fn in_flight(state: JobState) -> bool {
    matches!(
        state,
        JobState::Published | JobState::Accepted | JobState::Returning
    )
}

/// What is set for a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueRule {
    /// Nothing of it begins until it is resumed.
    pub paused: bool,
    /// How many of its jobs may be under way at once: on another site for the outsourced queue, holding leases for the active one.
    /// `None` has no limit.
    pub cap: Option<u64>,
}

/// May another job's bundle leave, while `flying` are under way?
pub fn may_leave(paused: bool, rule: QueueRule, flying: u64) -> Result<(), MoveRefusal> {
    let queue = Queue::Outsourced;
    match rule.cap {
        _ if paused || rule.paused => Err(MoveRefusal::Paused),
        Some(cap) if flying >= cap => Err(MoveRefusal::Full { queue, cap }),
        _ => Ok(()),
    }
}

/// A job in a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// Its place, from one.
    pub position: u64,
    /// The job.
    pub job: JobId,
    /// Where it stands.
    pub state: JobState,
    /// Its priority.
    pub priority: u8,
    /// It was paused.
    pub paused: bool,
    /// When it was submitted, in seconds since 1970.
    pub submitted_at: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn priority_is_worth_waiting_time() {
        let table = [
            ((1_000, 0), (1_000, 1), false),
            ((1_000, 50), (1_001, 50), true),
            // Ten steps of priority are ten times 600 seconds.
            ((1_000, 0), (6_999, 10), false),
            ((1_000, 0), (7_001, 10), true),
            ((1_000, 200), (1_001, 100), true),
        ];
        for ((at, priority), (other_at, other_priority), first) in table {
            assert_eq!(
                key(at, priority, 600) < key(other_at, other_priority, 600),
                first,
                "{at} {priority} {other_at} {other_priority}"
            );
        }
    }

    #[test]
    fn a_bundle_leaves_while_there_is_room() {
        let queue = Queue::Outsourced;
        let rule = |paused, cap| QueueRule { paused, cap };
        let full = |cap| Err(MoveRefusal::Full { queue, cap });
        let table = [
            (false, rule(false, None), 99, Ok(())),
            (false, rule(false, Some(2)), 1, Ok(())),
            (false, rule(false, Some(2)), 2, full(2)),
            (false, rule(false, Some(0)), 0, full(0)),
            (true, rule(false, None), 0, Err(MoveRefusal::Paused)),
            (false, rule(true, None), 0, Err(MoveRefusal::Paused)),
        ];
        for (paused, rule, flying, expected) in table {
            assert_eq!(
                may_leave(paused, rule, flying),
                expected,
                "{paused} {rule:?} {flying}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_job_is_overtaken_for_ever(at in 0u64..1 << 40, later in 0u64..1 << 40, low in 0u8..=100, high in 0u8..=100) {
            prop_assume!(later > at + 100 * 600);
            prop_assert!(key(at, low, 600) < key(later, high, 600));
        }

        #[test]
        fn no_number_is_too_large(at: u64, priority: u8, step: u64) {
            let _some_key = key(at, priority, step);
        }
    }
}
