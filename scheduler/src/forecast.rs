//! Until when a job will take, and which session takes too long, from what its tasks were seen to take. Pure.
//!
//! Whoever reads a date from a program believes it, so there is none where nothing is known: before a task of each step that is left has a
//! result, or while no slot would take it. Otherwise it is what is left if everything goes on as it is: the slots that the job has or
//! could have now, each task as long as those before. A task under way counts as whole, so the answer is late by one task at most.

use safelight_policies::outline::Outline;
use serde::{Deserialize, Serialize};

use crate::progress::StepCount;

/// A session that takes so many times as long as others of its step is told.
const TIMES: u64 = 3;

/// And never one that takes less than this, in seconds.
const SHORTEST: u64 = 60;

/// A session whose step has no result yet is told when it has used so much of its time limit, in hundredths.
const OF_LIMIT: u64 = 80;

/// When a job is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Forecast {
    /// In so many seconds.
    #[error("in {seconds} s")]
    In {
        /// How many.
        seconds: u64,
    },
    /// No task of this step has a result.
    #[error("not known before a task of step {step} is done")]
    Unknown {
        /// Which.
        step: u32,
    },
    /// No slot that is there now would take a task of this step.
    #[error("no slot takes step {step} now")]
    NoSlot {
        /// Which.
        step: u32,
    },
    /// Tasks were given up: it is never done unless somebody tries them again.
    #[error("never: {dead} tasks were given up")]
    Never {
        /// How many.
        dead: u64,
    },
}

/// Forecasts a job. `lanes` says for each step how many slots run it, or would.
pub fn forecast(outline: &Outline, counts: &[StepCount], lanes: &[u64]) -> Forecast {
    let dead = crate::progress::dead(counts);
    let mut ends: Vec<u64> = Vec::with_capacity(counts.len());
    let (mut work, mut widest) = (0u64, 1u64);
    for (index, step) in (0u32..).zip(&outline.steps) {
        let at = index as usize;
        let count = counts.get(at).copied().unwrap_or_default();
        let before = step.depends_on.iter();
        let begins = before.filter_map(|before| ends.get(*before as usize)).max();
        let begins = begins.copied().unwrap_or(0);
        let left = count
            .tasks
            .saturating_sub(count.done)
            .saturating_sub(count.dead());
        if left == 0 {
            ends.push(begins);
            continue;
        }
        if count.spent_tasks == 0 {
            return Forecast::Unknown { step: index };
        }
        let slots = lanes.get(at).copied().unwrap_or(0);
        if slots == 0 {
            return Forecast::NoSlot { step: index };
        }
        let rounds = left.div_ceil(slots);
        let all = |tasks: u64| {
            let spent = u128::from(count.spent) * u128::from(tasks);
            u64::try_from(spent.div_ceil(u128::from(count.spent_tasks))).unwrap_or(u64::MAX)
        };
        work = work.saturating_add(all(left));
        widest = widest.max(slots);
        ends.push(begins.saturating_add(all(rounds)));
    }
    if dead > 0 {
        return Forecast::Never { dead };
    }
    // Steps that may run beside each other share the slots.
    let longest = ends.into_iter().max().unwrap_or(0);
    Forecast::In {
        seconds: longest.max(work.div_ceil(widest)),
    }
}

/// How long a session of so many tasks usually takes; `None` before one was done.
pub fn usual(count: &StepCount, tasks: u32) -> Option<u64> {
    let all = count.spent.saturating_mul(u64::from(tasks));
    (count.spent_tasks > 0).then(|| all.div_ceil(count.spent_tasks))
}

/// True if a session of a step takes too long, and somebody should look.
pub fn is_stuck(elapsed: u64, usual: Option<u64>, limit: u64) -> bool {
    match usual {
        Some(usual) => elapsed > usual.saturating_mul(TIMES).max(SHORTEST),
        None => elapsed.saturating_mul(100) > limit.saturating_mul(OF_LIMIT),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::progress::tests::outline;

    /// Tasks, done, given up, seconds spent on those that are done.
    fn count([tasks, done, dead, spent]: [u64; 4]) -> StepCount {
        StepCount {
            tasks,
            done,
            fresh: done + dead,
            failed: dead,
            spent,
            spent_tasks: done,
            ..StepCount::default()
        }
    }

    #[test]
    fn what_is_left_is_divided_among_the_slots() {
        let chain: &[(u64, &[u32])] = &[(10, &[]), (4, &[0])];
        let beside: &[(u64, &[u32])] = &[(10, &[]), (4, &[])];
        let seconds = |seconds| Forecast::In { seconds };
        let table = [
            // Eight tasks of ten seconds on two slots.
            (chain, [10, 2, 0, 20], [4, 4, 0, 8], [2, 2], seconds(40)),
            (chain, [10, 3, 0, 30], [4, 4, 0, 8], [2, 2], seconds(40)),
            (chain, [10, 10, 0, 100], [4, 4, 0, 8], [0, 0], seconds(0)),
            // And three of two seconds after them, or beside them.
            (chain, [10, 2, 0, 20], [4, 1, 0, 2], [2, 3], seconds(42)),
            (beside, [10, 2, 0, 20], [4, 1, 0, 2], [2, 2], seconds(43)),
            (
                chain,
                [10, 2, 0, 20],
                [4, 0, 0, 0],
                [2, 2],
                Forecast::Unknown { step: 1 },
            ),
            (
                chain,
                [10, 2, 0, 20],
                [4, 1, 0, 2],
                [0, 2],
                Forecast::NoSlot { step: 0 },
            ),
            (
                chain,
                [10, 9, 1, 90],
                [4, 1, 0, 2],
                [2, 2],
                Forecast::Never { dead: 1 },
            ),
        ];
        for (steps, first, second, lanes, expected) in table {
            let counts = [count(first), count(second)];
            let found = forecast(&outline(steps), &counts, &lanes);
            assert_eq!(found, expected, "{first:?} {second:?} {lanes:?}");
        }
    }

    #[test]
    fn a_session_is_stuck_by_what_its_like_took() {
        let ten = count([9, 2, 0, 20]);
        assert_eq!(usual(&ten, 3), Some(30));
        assert_eq!(usual(&count([9, 0, 0, 0]), 3), None);
        // Elapsed, usual, limit.
        for (elapsed, usual, limit, stuck) in [
            (91, Some(30), 7200, true),
            (90, Some(30), 7200, false),
            // A frame of two seconds that takes twenty is nobody's business.
            (60, Some(2), 7200, false),
            (61, Some(2), 7200, true),
            (5_760, None, 7200, false),
            (5_761, None, 7200, true),
        ] {
            assert_eq!(
                is_stuck(elapsed, usual, limit),
                stuck,
                "{elapsed} {usual:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn more_slots_never_make_it_later(tasks in 1u64..1000, spent in 0u64..100_000, done in 1u64..1000, lanes in 1u64..100) {
            let counts = [count([tasks + done, done, 0, spent])];
            let outline = outline(&[(tasks + done, &[])]);
            let seconds = |lanes| match forecast(&outline, &counts, &[lanes]) {
                Forecast::In { seconds } => seconds,
                other => panic!("{other}"),
            };
            prop_assert!(seconds(lanes + 1) <= seconds(lanes));
            // Never more than all of it one after the other, and never less than a fair share.
            prop_assert!(seconds(lanes) <= seconds(1));
            prop_assert!(seconds(1) <= seconds(lanes).saturating_mul(lanes));
        }

        #[test]
        fn no_number_is_too_large(tasks: u64, spent: u64, done: u64, lanes: u64) {
            let counts = [count([tasks, done.min(tasks), 0, spent])];
            let _some = forecast(&outline(&[(tasks, &[])]), &counts, &[lanes]);
        }
    }
}
