//! How far a job in the active queue is, from the counts of its steps. Pure; tasks are counted, never listed.

use safelight_policies::outline::Outline;

use crate::ledger::JobState;

/// How many tasks of a step stand where. A task that nobody was ever given is in none of the counts but `tasks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepCount {
    /// All of them.
    pub tasks: u64,
    /// Tasks below this were given out at least once; none from it on was.
    pub fresh: u64,
    /// Their newest attempt holds a lease.
    pub running: u64,
    /// They have a result.
    pub done: u64,
    /// Their newest attempt ended without a result.
    pub failed: u64,
    /// Of the failed, those that are tried again.
    pub again: u64,
    /// Seconds that tasks with a result took, all together.
    pub spent: u64,
    /// How many tasks that were.
    pub spent_tasks: u64,
}

impl StepCount {
    /// Tasks that may be given out.
    pub fn open(&self) -> u64 {
        self.tasks
            .saturating_sub(self.fresh)
            .saturating_add(self.again)
    }

    /// Tasks that were given up.
    pub fn dead(&self) -> u64 {
        self.failed.saturating_sub(self.again)
    }
}

/// The first step that must be done before this one and is not. A step that does not exist is never done.
pub fn waits_for(outline: &Outline, counts: &[StepCount], step: usize) -> Option<u32> {
    let done = |before: &u32| {
        counts
            .get(*before as usize)
            .is_some_and(|count| count.done >= count.tasks)
    };
    let before = outline.steps.get(step).map(|step| &step.depends_on[..]);
    before
        .unwrap_or_default()
        .iter()
        .find(|before| !done(before))
        .copied()
}

/// Given-up tasks of a job.
pub fn dead(counts: &[StepCount]) -> u64 {
    counts
        .iter()
        .fold(0, |sum, count| sum.saturating_add(count.dead()))
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Where it stands: waiting, running, succeeded or failed.
    pub state: JobState,
    /// There is a task that may be given out.
    pub leasable: bool,
}

/// Sums up. A job goes on beside its given-up tasks until there are more than `dead_max`, and fails when nothing is left to try.
pub fn progress(outline: &Outline, counts: &[StepCount], dead_max: u64) -> Progress {
    let ready = |(step, count): (usize, &StepCount)| {
        count.open() > 0 && waits_for(outline, counts, step).is_none()
    };
    let leasable = dead(counts) <= dead_max && counts.iter().enumerate().any(ready);
    let state = if counts.iter().all(|count| count.done >= count.tasks) {
        JobState::Succeeded
    } else if counts.iter().any(|count| count.running > 0) {
        JobState::Running
    } else if leasable {
        JobState::Waiting
    } else {
        JobState::Failed
    };
    Progress { state, leasable }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use safelight_policies::{
        id::{ClientAlias, JobId, PolicyDigest, PolicyName},
        outline::StepOutline,
    };

    pub(crate) fn outline(steps: &[(u64, &[u32])]) -> Outline {
        let step = |(tasks, before): &(u64, &[u32])| StepOutline {
            tasks: *tasks,
            depends_on: before.to_vec(),
            amounts: Default::default(),
            attributes: Default::default(),
            timeout: 60,
            batch: None,
        };
        Outline {
            job: JobId::from_random([1; 10]),
            client: ClientAlias::new("river").unwrap(),
            priority: 50,
            policy: PolicyName::new("blender").unwrap(),
            policy_digest: PolicyDigest([0; 32]),
            steps: steps.iter().map(step).collect(),
            expires: 1_000,
            central: vec![],
            retries: None,
            wishes: Default::default(),
        }
    }

    pub(crate) fn count([tasks, fresh, running, done, failed, again]: [u64; 6]) -> StepCount {
        StepCount {
            tasks,
            fresh,
            running,
            done,
            failed,
            again,
            ..StepCount::default()
        }
    }

    #[test]
    fn a_job_goes_on_beside_given_up_tasks_until_nothing_is_left() {
        use JobState::{Failed, Running, Succeeded, Waiting};
        // Two steps, the second after the first; at most one given-up task.
        let untouched = [1, 0, 0, 0, 0, 0];
        let table = [
            ([4, 0, 0, 0, 0, 0], untouched, Waiting, true),
            ([4, 1, 1, 0, 0, 0], untouched, Running, true),
            ([4, 4, 4, 0, 0, 0], untouched, Running, false),
            ([4, 2, 0, 1, 1, 1], untouched, Waiting, true),
            ([4, 4, 0, 3, 1, 1], untouched, Waiting, true),
            // One given up: the rest of its step goes on, the step after it never begins.
            ([4, 2, 0, 1, 1, 0], untouched, Waiting, true),
            ([4, 4, 1, 2, 1, 0], untouched, Running, false),
            ([4, 4, 0, 3, 1, 0], untouched, Failed, false),
            // Two are one too many, and what runs may end.
            ([4, 3, 1, 0, 2, 0], untouched, Running, false),
            ([4, 3, 0, 1, 2, 0], untouched, Failed, false),
            ([4, 4, 0, 4, 0, 0], untouched, Waiting, true),
            ([4, 4, 0, 4, 0, 0], [1, 1, 0, 1, 0, 0], Succeeded, false),
        ];
        for (first, second, state, leasable) in table {
            let counts = [count(first), count(second)];
            let outline = outline(&[(4, &[]), (1, &[0])]);
            assert_eq!(
                progress(&outline, &counts, 1),
                Progress { state, leasable },
                "{first:?} {second:?}"
            );
        }
    }

    #[test]
    fn a_step_after_one_that_does_not_exist_never_begins() {
        let outline = outline(&[(1, &[7])]);
        assert_eq!(
            waits_for(&outline, &[count([1, 0, 0, 0, 0, 0])], 0),
            Some(7)
        );
    }
}
