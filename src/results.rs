//! Which of a job's results are meant. Pure.
//!
//! At most one result of a task counts. Where the ledger knows the session, its word is the last: what was committed counts. A session
//! that it does not know ran at another site, which sent home what it had accepted: there a success counts.

use std::{collections::BTreeMap, str::FromStr};

use safelight_policies::{
    id::{SessionId, TaskId},
    outline::Outline,
};
use safelight_scheduler::{AttemptEntry, AttemptState};

use crate::jobs::Left;

/// Which attempt of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The one whose result counts.
    Counting,
    /// The last that left something.
    Last,
    /// This one.
    Number(u32),
}

impl FromStr for Wanted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("last", _) => Ok(Self::Last),
            (_, Ok(number)) if number > 0 => Ok(Self::Number(number)),
            _ => Err("expected a number from 1, or last"),
        }
    }
}

/// What an attempt left, and whether it counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chosen {
    pub(crate) left: Left,
    pub(crate) counts: bool,
}

/// What all attempts of a job left: by step, by task, by attempt.
pub(crate) struct Results(Vec<Chosen>);

impl Results {
    /// Judges what was left by what the ledger says.
    pub(crate) fn new(mut lefts: Vec<Left>, attempts: &[AttemptEntry]) -> Self {
        lefts.sort_by_key(|left| (left.task, left.attempt, left.fence));
        let told: BTreeMap<SessionId, AttemptState> = attempts
            .iter()
            .map(|attempt| (attempt.session, attempt.state))
            .collect();
        let counts = |left: &Left| match told.get(&left.session) {
            Some(state) => *state == AttemptState::Committed,
            None => left.cause.is_success(),
        };
        let mut last: BTreeMap<TaskId, SessionId> = BTreeMap::new();
        for left in lefts.iter().filter(|left| counts(left)) {
            last.insert(left.task, left.session);
        }
        let judged = lefts.into_iter().map(|left| Chosen {
            counts: last.get(&left.task) == Some(&left.session),
            left,
        });
        Self(judged.collect())
    }

    /// What is meant, one attempt of a task at most. What sealed nothing holds nothing to look at.
    pub(crate) fn choose(&self, task: Option<TaskId>, wanted: Wanted) -> Vec<&Chosen> {
        let fits = |it: &&Chosen| {
            let meant = match wanted {
                Wanted::Counting => it.counts,
                Wanted::Last => true,
                Wanted::Number(number) => it.left.attempt == number,
            };
            meant && it.left.manifest.is_some() && task.is_none_or(|task| it.left.task == task)
        };
        let mut by_task: BTreeMap<TaskId, &Chosen> = BTreeMap::new();
        for it in self.0.iter().filter(fits) {
            by_task.insert(it.left.task, it);
        }
        by_task.into_values().collect()
    }

    /// What all attempts left.
    pub(crate) fn all(&self) -> &[Chosen] {
        &self.0
    }
}

/// A task as people write it: `STEP/TASK`.
pub(crate) fn task_name(task: TaskId) -> String {
    format!("{}/{}", task.step, task.task)
}

/// Reads [`task_name`].
pub(crate) fn parse_task(text: &str) -> Result<TaskId, &'static str> {
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('/')
        .filter(|(step, task)| number(step) && number(task))
        .and_then(|(step, task)| {
            let (step, task) = (step.parse().ok()?, task.parse().ok()?);
            Some(TaskId { step, task })
        })
        .ok_or("expected a step and a task, like 0/12")
}

/// The number of a job's tasks.
pub(crate) fn tasks(outline: &Outline) -> u64 {
    outline
        .steps
        .iter()
        .fold(0, |sum, step| sum.saturating_add(step.tasks))
}

/// True if a job has such a task.
pub(crate) fn has(outline: &Outline, task: TaskId) -> bool {
    outline
        .steps
        .get(task.step as usize)
        .is_some_and(|step| task.task < step.tasks)
}

#[cfg(test)]
pub(crate) mod tests {
    use safelight_policies::{
        cause::Cause,
        id::{Fence, ObjectId, SlotIndex},
    };
    use safelight_scheduler::Place;

    use super::*;

    const DONE: Cause = Cause::Exited { code: 0 };
    const BAD: Cause = Cause::Exited { code: 1 };

    /// What the attempt with this number of a task left; its session is named by its fence.
    pub(crate) fn left(task: (u32, u64), attempt: u32, fence: u8, cause: Cause) -> Left {
        Left {
            task: TaskId {
                step: task.0,
                task: task.1,
            },
            manifest: Some(ObjectId([fence; 32])),
            log: Some(ObjectId([fence; 32])),
            session: SessionId::from_random([fence; 10]),
            attempt,
            fence: Fence(u64::from(fence)),
            cause,
            files: 2,
            bytes: 2048,
            audit: vec![],
            list: None,
            site: None,
            at: 2,
        }
    }

    /// What the ledger has of it.
    pub(crate) fn told(left: &Left, state: AttemptState) -> AttemptEntry {
        AttemptEntry {
            task: left.task,
            tasks: 1,
            attempt: left.attempt,
            fence: left.fence,
            session: left.session,
            place: Place {
                node: "localhost".parse().unwrap(),
                slot: SlotIndex(3),
            },
            leased_at: 1,
            lease_until: 90,
            state,
            ended_at: Some(2),
            cause: Some(left.cause.clone()),
            result: None,
            anchor: None,
        }
    }

    fn fences(chosen: &[&Chosen]) -> Vec<u64> {
        chosen.iter().map(|it| it.left.fence.0).collect()
    }

    #[test]
    fn an_attempt_is_a_number_or_the_last() {
        assert_eq!("last".parse(), Ok(Wanted::Last));
        assert_eq!("3".parse(), Ok(Wanted::Number(3)));
        for text in ["0", "-1", "", "first", "4294967296"] {
            assert!(text.parse::<Wanted>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_task_is_a_step_and_a_number() {
        let task = |step, task| TaskId { step, task };
        for (text, expected) in [
            ("0/12", Some(task(0, 12))),
            ("3/0", Some(task(3, 0))),
            (
                "4294967295/18446744073709551615",
                Some(task(u32::MAX, u64::MAX)),
            ),
            ("4294967296/0", None),
            ("12", None),
            ("/", None),
            ("0/", None),
            ("0/-1", None),
            ("+0/1", None),
            ("0/1/2", None),
            ("0.12", None),
        ] {
            assert_eq!(parse_task(text).ok(), expected, "{text:?}");
            if let Some(task) = expected {
                assert_eq!(task_name(task), text);
            }
        }
    }

    #[test]
    fn the_ledger_says_what_counts_and_elsewhere_a_success_does() {
        let lefts = vec![
            left((1, 0), 1, 7, DONE),
            left((0, 2), 2, 4, DONE),
            left((0, 2), 1, 3, BAD),
            left((0, 10), 1, 5, DONE),
            left((0, 11), 1, 6, BAD),
        ];
        // Here the ledger has no word of any of them.
        let results = Results::new(lefts.clone(), &[]);
        assert_eq!(fences(&results.choose(None, Wanted::Counting)), [4, 5, 7]);
        assert_eq!(fences(&results.choose(None, Wanted::Last)), [4, 5, 6, 7]);
        assert_eq!(
            fences(&results.choose(None, Wanted::Number(1))),
            [3, 5, 6, 7]
        );
        let second = Some(TaskId { step: 0, task: 2 });
        assert_eq!(fences(&results.choose(second, Wanted::Counting)), [4]);
        assert_eq!(fences(&results.choose(second, Wanted::Number(1))), [3]);
        assert_eq!(fences(&results.choose(second, Wanted::Number(3))), [0; 0]);
        // Here it has one of each of three, and its word goes before the cause.
        let attempts = [
            told(&lefts[1], AttemptState::Superseded),
            told(&lefts[3], AttemptState::Committed),
            told(&lefts[0], AttemptState::Running),
        ];
        let results = Results::new(lefts, &attempts);
        assert_eq!(fences(&results.choose(None, Wanted::Counting)), [5]);
    }

    #[test]
    fn one_result_of_a_task_counts_and_it_sealed_something() {
        let mut nothing = left((0, 1), 1, 3, DONE);
        nothing.manifest = None;
        let lefts = vec![left((0, 0), 1, 1, DONE), left((0, 0), 2, 2, DONE), nothing];
        let results = Results::new(lefts, &[]);
        assert_eq!(fences(&results.choose(None, Wanted::Counting)), [2]);
        assert_eq!(fences(&results.choose(None, Wanted::Last)), [2]);
        let counting = results.all().iter().filter(|it| it.counts);
        assert_eq!(counting.count(), 2);
    }
}
