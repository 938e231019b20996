//! What a slot is given: which job may have a lease now, and which of its steps fits the slot best. Pure; `why` answers from the same
//! functions.

use std::fmt;

use safelight_policies::{id::NodeName, outline::Outline};
use serde::{Deserialize, Serialize};

use crate::{
    ledger::{JobState, Place},
    matching::{self, Mismatch, SlotSpec},
    node::Unavailable,
    pools::PoolUse,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
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
    /// What there is of something for the whole site is in use.
    #[error("needs {needs} of {name}, and {used} of {size} are in use")]
    Pool {
        /// The pool.
        name: String,
        /// What the step needs.
        needs: f64,
        /// What others hold.
        used: f64,
        /// How much there is.
        size: u32,
    },
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
pub fn step_hold(
    outline: &Outline,
    counts: &[StepCount],
    step: usize,
    pools: &PoolUse,
) -> Option<StepHold> {
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
    if count.open() == 0 {
        return Some(StepHold::NothingLeft {
            running: count.running,
            done: count.done,
            dead: count.dead(),
        });
    }
    let short = pools.short(outline.steps.get(step)?)?;
    Some(StepHold::Pool {
        name: short.name,
        needs: short.needs,
        used: short.used,
        size: short.size,
    })
}

/// The steps of a job that may give a task to a slot, the best fitting first; of equals the earlier.
pub fn steps_for(
    slot: &SlotSpec,
    pools: &PoolUse,
    outline: &Outline,
    counts: &[StepCount],
) -> Vec<u32> {
    let mut found: Vec<(f64, u32)> = outline
        .steps
        .iter()
        .zip(0u32..)
        .filter(|(step, index)| {
            step_hold(outline, counts, *index as usize, pools).is_none()
                && matching::fits(slot, pools.sizes(), step)
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
    /// How often the job failed on its node, if it is kept from there.
    pub failed_here: Option<u64>,
}

impl SlotAnswer {
    /// What is said of a job that is kept from the slot's node.
    pub fn kept_away(&self) -> Option<String> {
        self.failed_here.map(|failures| {
            format!(
                "kept from this node: its sessions failed here {failures} times, and others work"
            )
        })
    }
}

impl fmt::Display for SlotAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}: ", self.place.node, self.place.slot.0)?;
        let lacks = self.lacks.iter().map(Mismatch::to_string);
        let kept = self.kept_away();
        let away = self.unavailable.iter().map(Unavailable::to_string);
        let said: Vec<String> = lacks.chain(kept).chain(away).collect();
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
mod tests;
