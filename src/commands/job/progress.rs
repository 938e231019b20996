//! How far a job is, step by step. Pure.
//!
//! Of what is rendered here the ledger counts the tasks. Of what another site renders this one knows what came home.

use std::collections::{BTreeMap, BTreeSet};

use safelight_policies::{
    id::{SessionId, TaskId},
    outline::Outline,
};
use safelight_scheduler::progress::StepCount;
use serde::Serialize;

use crate::results::Results;

/// How far a step is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    pub(super) tasks: u64,
    pub(super) done: u64,
    pub(super) running: u64,
    pub(super) failed: u64,
}

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress(Vec<Step>);

impl Progress {
    /// Of a job that is rendered here.
    pub(super) fn here(counts: &[StepCount]) -> Self {
        let step = |count: &StepCount| Step {
            tasks: count.tasks,
            done: count.done,
            running: count.running,
            failed: count.failed,
        };
        Self(counts.iter().map(step).collect())
    }

    /// Of a job that another site renders. What has failed there and was not tried again yet, it may still try again.
    pub(super) fn elsewhere(outline: &Outline, results: &Results) -> Self {
        let step = |tasks| Step {
            tasks,
            ..Step::default()
        };
        let mut steps: Vec<Step> = outline.steps.iter().map(|it| step(it.tasks)).collect();
        let mut counts: BTreeMap<TaskId, bool> = BTreeMap::new();
        for it in results.all() {
            *counts.entry(it.left.task).or_default() |= it.counts;
        }
        for (task, counts) in counts {
            match steps.get_mut(task.step as usize) {
                Some(step) if counts => step.done += 1,
                Some(step) => step.failed += 1,
                None => {}
            }
        }
        Self(steps)
    }

    /// The steps.
    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Tasks that are done.
    pub(super) fn done(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, step| sum.saturating_add(step.done))
    }
}

impl Step {
    /// In words.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{} of {} done", self.done, self.tasks);
        for (count, what) in [(self.running, "running"), (self.failed, "failed")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text
    }
}

/// Of the results that count, how many there are, and how many are where the client wants them.
pub(super) fn delivered(results: &Results, delivered: &BTreeSet<SessionId>) -> (u64, u64) {
    let counting = results.all().iter().filter(|it| it.counts);
    counting.fold((0, 0), |(all, home), it| {
        (
            all + 1,
            home + u64::from(delivered.contains(&it.left.session)),
        )
    })
}

#[cfg(test)]
pub(super) mod tests {
    use safelight_policies::{
        cause::Cause,
        id::{ClientAlias, JobId, ObjectId, PolicyDigest},
        outline::StepOutline,
    };
    use safelight_scheduler::{JobEntry, JobState, Overview, Queue};

    use super::*;
    use crate::results::tests::left;

    /// A job of steps with so many tasks, in the active queue.
    pub(in crate::commands::job) fn overview(steps: &[u64]) -> Overview {
        let step = |tasks: &u64| StepOutline {
            tasks: *tasks,
            depends_on: vec![],
            amounts: Default::default(),
            attributes: Default::default(),
            timeout: 60,
            batch: None,
        };
        let outline = Outline {
            job: JobId::from_random([1; 10]),
            client: ClientAlias::new("river").unwrap(),
            priority: 50,
            policy: "generic".parse().unwrap(),
            policy_digest: PolicyDigest([0; 32]),
            steps: steps.iter().map(step).collect(),
            expires: 1_000,
            central: vec![],
            retries: None,
            wishes: Default::default(),
        };
        let count = |tasks: &u64| StepCount {
            tasks: *tasks,
            ..StepCount::default()
        };
        Overview {
            job: JobEntry {
                outline,
                envelope: ObjectId([0; 32]),
                state: JobState::Waiting,
                submitted_at: 9,
                anchor: None,
            },
            farm: true,
            queue: Some(Queue::Active),
            paused: false,
            site: None,
            placement: None,
            steps: steps.iter().map(count).collect(),
        }
    }

    #[test]
    fn the_ledger_counts_what_is_here() {
        let mut counts = overview(&[3, 1]).steps;
        counts[0].done = 1;
        counts[0].running = 1;
        counts[0].failed = 1;
        let progress = Progress::here(&counts);
        let texts: Vec<_> = progress.steps().iter().map(Step::text).collect();
        assert_eq!(texts, ["1 of 3 done, 1 running, 1 failed", "0 of 1 done"]);
        assert_eq!(progress.done(), 1);
    }

    #[test]
    fn what_came_home_counts_what_is_elsewhere() {
        let (good, bad) = (Cause::Exited { code: 0 }, Cause::OutOfMemory);
        let lefts = vec![
            left((0, 0), 1, 1, bad.clone()),
            left((0, 0), 2, 2, good.clone()),
            left((0, 2), 1, 3, bad.clone()),
            left((0, 2), 2, 4, bad),
            left((1, 0), 1, 5, good.clone()),
            // No such step.
            left((7, 0), 1, 6, good),
        ];
        let home = BTreeSet::from([lefts[1].session, lefts[2].session]);
        let results = Results::new(lefts, &[]);
        let outline = overview(&[3, 1]).job.outline;
        let progress = Progress::elsewhere(&outline, &results);
        let texts: Vec<_> = progress.steps().iter().map(Step::text).collect();
        assert_eq!(texts, ["1 of 3 done, 1 failed", "1 of 1 done"]);
        assert_eq!(delivered(&results, &home), (3, 1));
    }
}
