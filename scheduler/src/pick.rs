//! What a slot is given: which job may have a lease now, and which of its steps fits the slot best. Pure; `why` answers from the same
//! functions.

use std::fmt;

use safelight_policies::{id::NodeName, outline::Outline};
use serde::{Deserialize, Serialize};

use crate::{
    ledger::{JobState, Place},
    matching::{self, Mismatch, SlotSpec},
    node::Unavailable,
    portion,
    progress::{self, StepCount},
    queue::{Queue, QueueRule},
};

/// What is asked of a job before any slot is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its outline.
    pub outline: &'a Outline,
    /// Where it stands.
    pub state: JobState,
    /// Its queue.
    pub queue: Option<Queue>,
    /// It was paused.
    pub paused: bool,
    /// Its steps' counts.
    pub counts: &'a [StepCount],
    /// How many given-up tasks it may have.
    pub dead_max: u64,
}

/// What others hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// The active queue's rule.
    pub queue: QueueRule,
    /// Jobs of the active queue that hold a lease.
    pub under_way: u64,
    /// Sessions of the job's client.
    pub client: u64,
    /// How many it may have.
    pub client_cap: Option<u64>,
}

/// Why a job gets no lease now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// It is not in the active queue.
    #[error("the job is {state}, not in the active queue")]
    NotActive {
        /// Where it stands.
        state: JobState,
    },
    /// It was paused.
    #[error("the job is paused")]
    Paused,
    /// The queue was paused.
    #[error("the {queue} queue is paused")]
    QueuePaused {
        /// The queue.
        queue: Queue,
    },
    /// It may no longer start anything.
    #[error("the job expired")]
    Expired,
    /// Its time has not come.
    #[error("the job may not begin before {at} (seconds since 1970)")]
    NotYet {
        /// When it may.
        at: u64,
    },
    /// The queue has enough jobs under way.
    #[error("{under_way} jobs are under way and the limit is {cap}")]
    QueueFull {
        /// How many are.
        under_way: u64,
        /// How many may be.
        cap: u64,
    },
    /// The client has enough sessions.
    #[error("its client has {running} sessions and the limit is {cap}")]
    ClientFull {
        /// How many it has.
        running: u64,
        /// How many it may have.
        cap: u64,
    },
    /// Too many tasks were given up.
    #[error("{dead} tasks were given up and the limit is {limit}")]
    TooManyDead {
        /// How many.
        dead: u64,
        /// How many may be.
        limit: u64,
    },
}

/// Everything that keeps a job from a lease, whatever the slot; nothing if it may have one.
pub fn holds(job: &Candidate<'_>, held: &Held, now: u64) -> Vec<Hold> {
    let state = job.state;
    let dead = progress::dead(job.counts);
    let running = job.counts.iter().any(|count| count.running > 0);
    let full = |cap: &u64| !running && held.under_way >= *cap;
    let too_many = |cap: &u64| held.client >= *cap;
    [
        (job.queue != Some(Queue::Active)).then_some(Hold::NotActive { state }),
        job.paused.then_some(Hold::Paused),
        held.queue.paused.then_some(Hold::QueuePaused {
            queue: Queue::Active,
        }),
        (now >= job.outline.expires).then_some(Hold::Expired),
        job.outline
            .wishes
            .not_before
            .filter(|at| now < *at)
            .map(|at| Hold::NotYet { at }),
        held.queue.cap.filter(full).map(|cap| Hold::QueueFull {
            under_way: held.under_way,
            cap,
        }),
        held.client_cap
            .filter(too_many)
            .map(|cap| Hold::ClientFull {
                running: held.client,
                cap,
            }),
        (dead > job.dead_max).then_some(Hold::TooManyDead {
            dead,
            limit: job.dead_max,
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Why a step gives out no task now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum StepHold {
    /// Another step must be done before.
    #[error("step {step} is not done")]
    NotReady {
        /// Which.
        step: u32,
    },
    /// Its first, its middle and its last task are tried first.
    #[error("the first, the middle and the last task are not done yet")]
    Trial,
    /// Every task runs, is done or was given up.
    #[error("no task is left: {running} run, {done} are done, {dead} were given up")]
    NothingLeft {
        /// How many run.
        running: u64,
        /// How many are done.
        done: u64,
        /// How many were given up.
        dead: u64,
    },
}

/// What keeps a step from giving out a task, whatever the slot.
pub fn step_hold(outline: &Outline, counts: &[StepCount], step: usize) -> Option<StepHold> {
    if let Some(step) = progress::waits_for(outline, counts, step) {
        return Some(StepHold::NotReady { step });
    }
    let count = counts.get(step).copied().unwrap_or_default();
    let trial = outline.wishes.trial;
    let fresh = outline
        .steps
        .get(step)
        .map(|it| portion::fresh(trial, it, &count));
    if fresh == Some(0) && count.again == 0 && count.fresh < count.tasks {
        return Some(StepHold::Trial);
    }
    (count.open() == 0).then(|| StepHold::NothingLeft {
        running: count.running,
        done: count.done,
        dead: count.dead(),
    })
}

/// The steps of a job that may give a task to a slot, the best fitting first; of equals the earlier.
pub fn steps_for(slot: &SlotSpec, outline: &Outline, counts: &[StepCount]) -> Vec<u32> {
    let mut found: Vec<(f64, u32)> = outline
        .steps
        .iter()
        .zip(0u32..)
        .filter(|(step, index)| {
            step_hold(outline, counts, *index as usize).is_none() && matching::fits(slot, step)
        })
        .map(|(step, index)| (matching::waste(slot, step), index))
        .collect();
    found.sort_by(|one, other| one.0.total_cmp(&other.0));
    found.into_iter().map(|(_, index)| index).collect()
}

/// What keeps one step from one slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotAnswer {
    /// The slot.
    pub place: Place,
    /// It takes nothing now.
    pub unavailable: Option<Unavailable>,
    /// What it lacks; empty if the step fits.
    pub lacks: Vec<Mismatch>,
}

impl fmt::Display for SlotAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}: ", self.place.node, self.place.slot.0)?;
        let lacks = self.lacks.iter().map(Mismatch::to_string);
        let away = self.unavailable.iter().map(Unavailable::to_string);
        let said: Vec<String> = lacks.chain(away).collect();
        match said[..] {
            [] => f.write_str("fits"),
            _ => f.write_str(&said.join("; ")),
        }
    }
}

/// Why a step does not run, or that it could.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepAnswer {
    /// The step.
    pub step: u32,
    /// What keeps it, whatever the slot.
    pub hold: Option<StepHold>,
    /// Every slot's answer.
    pub slots: Vec<SlotAnswer>,
    /// Tasks that are kept from a node that lost them, for a while.
    pub kept_from: Vec<NodeName>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::tests::{count, outline};

    const IDLE: [u64; 6] = [9, 0, 0, 0, 0, 0];
    const BUSY: [u64; 6] = [9, 2, 2, 0, 0, 0];
    const DEAD: [u64; 6] = [9, 5, 0, 0, 5, 1];

    /// What holds a job of nine tasks that may have three given up, after `but` was done to it.
    fn said(
        count_of: [u64; 6],
        held: Held,
        now: u64,
        but: impl Fn(&mut Candidate<'_>),
    ) -> Vec<String> {
        let outline = outline(&[(9, &[])]);
        let counts = [count(count_of)];
        let mut job = Candidate {
            outline: &outline,
            state: JobState::Waiting,
            queue: Some(Queue::Active),
            paused: false,
            counts: &counts,
            dead_max: 3,
        };
        but(&mut job);
        holds(&job, &held, now)
            .iter()
            .map(Hold::to_string)
            .collect()
    }

    #[test]
    fn what_people_and_time_hold_is_said() {
        let free = Held::default();
        let nothing: [&str; 0] = [];
        assert_eq!(said(IDLE, free, 999, |_| {}), nothing);
        assert_eq!(said(IDLE, free, 1_000, |_| {}), ["the job expired"]);
        let mut stopped = free;
        stopped.queue.paused = true;
        assert_eq!(
            said(IDLE, stopped, 0, |job| job.paused = true),
            ["the job is paused", "the active queue is paused"]
        );
        let outsourced = |job: &mut Candidate<'_>| {
            (job.state, job.queue) = (JobState::Outsourced, Some(Queue::Outsourced));
        };
        assert_eq!(
            said(IDLE, free, 0, outsourced),
            ["the job is outsourced, not in the active queue"]
        );
        assert_eq!(
            said(DEAD, free, 0, |_| {}),
            ["4 tasks were given up and the limit is 3"]
        );
        assert_eq!(said(DEAD, free, 0, |job| job.dead_max = 4), nothing);
    }

    #[test]
    fn caps_hold_and_say_so() {
        let under_way = |under_way| Held {
            queue: QueueRule {
                paused: false,
                cap: Some(2),
            },
            under_way,
            ..Held::default()
        };
        let client = |client| Held {
            client,
            client_cap: Some(5),
            ..Held::default()
        };
        let full = "2 jobs are under way and the limit is 2";
        let many = "its client has 5 sessions and the limit is 5";
        let table: [([u64; 6], Held, &[&str]); 5] = [
            (IDLE, under_way(1), &[]),
            (IDLE, under_way(2), &[full]),
            // A job that is under way is one of them and goes on.
            (BUSY, under_way(2), &[]),
            (IDLE, client(4), &[]),
            (BUSY, client(5), &[many]),
        ];
        for (count, held, expected) in table {
            assert_eq!(said(count, held, 0, |_| {}), expected, "{count:?} {held:?}");
        }
    }

    #[test]
    fn a_slot_is_given_the_most_demanding_step_that_fits_and_is_ready() {
        let mut outline = outline(&[(4, &[]), (4, &[]), (4, &[]), (4, &[0])]);
        for (step, vcpu) in [(0, 1.0), (1, 4.0), (2, 16.0), (3, 8.0)] {
            let amounts = &mut outline.steps[step].amounts;
            amounts.insert("amount.worker.vcpu".into(), vcpu);
        }
        let slot = SlotSpec {
            vcpu: 8,
            ..SlotSpec::default()
        };
        let fresh = count([4, 0, 0, 0, 0, 0]);
        let done = count([4, 4, 0, 4, 0, 0]);
        assert_eq!(steps_for(&slot, &outline, &[fresh; 4]), [1, 0]);
        assert_eq!(
            steps_for(&slot, &outline, &[done, fresh, fresh, fresh]),
            [3, 1]
        );
        let given_out = count([4, 4, 4, 0, 0, 0]);
        assert_eq!(
            steps_for(&slot, &outline, &[fresh, given_out, fresh, fresh]),
            [0]
        );
        let again = count([4, 4, 3, 0, 1, 1]);
        assert_eq!(
            steps_for(&slot, &outline, &[fresh, again, fresh, fresh]),
            [1, 0]
        );
    }
}
