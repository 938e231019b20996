//! Which tasks of a step a session is given, and how many. Pure.

use safelight_policies::outline::{BATCH_MAX, StepOutline};

use crate::progress::StepCount;

/// How many tasks are tried before the others.
const TRIAL: u64 = 3;

/// True if a few tasks of the step come first: a session of several takes them as they follow each other.
fn is_tried(trial: bool, step: &StepOutline) -> bool {
    trial && step.batch.is_none() && step.tasks > TRIAL
}

/// How many tasks of a step that nobody was given may be given out now.
pub fn fresh(trial: bool, step: &StepOutline, count: &StepCount) -> u64 {
    let left = count.tasks.saturating_sub(count.fresh);
    if is_tried(trial, step) && count.done < TRIAL {
        return TRIAL.saturating_sub(count.fresh);
    }
    left
}

/// The task that is given out after so many others: they follow each other, or the first, the last and the middle one come first.
pub fn fresh_task(trial: bool, step: &StepOutline, given: u64) -> u64 {
    if !is_tried(trial, step) {
        return given;
    }
    let (last, middle) = (step.tasks - 1, step.tasks / 2);
    match given {
        0 => 0,
        1 => last,
        2 => middle,
        _ if given - 2 < middle => given - 2,
        _ => given - 1,
    }
}

/// How many tasks a session is given: as many as it should have by the time that tasks take, but leaving some for each other slot.
pub fn batch(step: &StepOutline, trial: bool, count: &StepCount, slots: u64) -> u32 {
    let Some(batch) = step.batch else { return 1 };
    let left = fresh(trial, step, count);
    let wanted = if batch.target == 0 || count.spent_tasks == 0 {
        u64::from(batch.size)
    } else {
        let all = batch.target.saturating_mul(count.spent_tasks);
        // What took no second took less than one.
        let paced = all / count.spent.max(1);
        paced.min(left.div_ceil(slots.max(1)))
    };
    let most = wanted.clamp(1, u64::from(BATCH_MAX)).min(left.max(1));
    u32::try_from(most).unwrap_or(BATCH_MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use safelight_policies::outline::Batch;

    use super::*;

    fn step(tasks: u64, batch: Option<(u32, u64)>) -> StepOutline {
        StepOutline {
            tasks,
            depends_on: vec![],
            amounts: Default::default(),
            attributes: Default::default(),
            timeout: 60,
            batch: batch.map(|(size, target)| Batch { size, target }),
        }
    }

    fn count(tasks: u64, fresh: u64, done: u64, spent: (u64, u64)) -> StepCount {
        StepCount {
            tasks,
            fresh,
            done,
            spent: spent.0,
            spent_tasks: spent.1,
            ..StepCount::default()
        }
    }

    #[test]
    fn a_session_is_given_what_its_time_allows() {
        // Size and target; tasks, given out, seconds spent on how many; slots; tasks of the session.
        let table = [
            (None, 100, 0, (0, 0), 1, 1),
            (Some((4, 60)), 100, 0, (0, 0), 1, 4),
            (Some((4, 60)), 3, 0, (0, 0), 1, 3),
            (Some((4, 60)), 100, 98, (0, 0), 1, 2),
            // Twenty seconds each.
            (Some((1, 60)), 100, 4, (80, 4), 1, 3),
            (Some((1, 10)), 100, 4, (80, 4), 1, 1),
            // Too short to be measured: at most as if all had taken a second. And many slots wait.
            (Some((1, 60)), 100_000, 4, (0, 4), 2, 240),
            (Some((1, 60)), 104, 4, (0, 4), 10, 10),
            (Some((7, 0)), 100, 4, (80, 4), 50, 7),
        ];
        for (batch, tasks, fresh, spent, slots, expected) in table {
            let count = count(tasks, fresh, 0, spent);
            let given = super::batch(&step(tasks, batch), false, &count, slots);
            assert_eq!(given, expected, "{batch:?} {count:?} {slots}");
        }
    }

    #[test]
    fn a_few_are_tried_before_all_others() {
        for tasks in [4, 5, 9, 100] {
            let step = step(tasks, None);
            let order: Vec<u64> = (0..tasks).map(|at| fresh_task(true, &step, at)).collect();
            assert_eq!(order[..3], [0, tasks - 1, tasks / 2]);
            assert!(order[3..].is_sorted(), "{order:?}");
            assert_eq!(order.iter().collect::<BTreeSet<_>>().len() as u64, tasks);
            assert!(order.iter().all(|task| *task < tasks));
        }
        let nine = step(9, None);
        for (given, done, left) in [(0, 0, 3), (2, 0, 1), (3, 2, 0), (3, 3, 6), (9, 9, 0)] {
            assert_eq!(fresh(true, &nine, &count(9, given, done, (0, 0))), left);
        }
        let few = step(3, None);
        assert_eq!(fresh_task(true, &few, 1), 1, "nothing comes before so few");
        assert_eq!(fresh_task(false, &nine, 1), 1);
        let sitting = step(9, Some((2, 60)));
        assert_eq!(fresh(true, &sitting, &count(9, 3, 0, (0, 0))), 6);
    }
}
