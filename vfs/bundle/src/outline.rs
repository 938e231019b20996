//! Checks an outline that came from elsewhere. Its types already bound ids, aliases and names.

use std::collections::BTreeSet;

use safelight_policies::{
    judge::CENTRAL_MAX,
    outline::{BATCH_MAX, Outline, StepOutline},
    path::CentralPath,
};

/// The most steps of a job.
const STEPS_MAX: usize = 1_000;
/// The most tasks of a step.
const TASKS_MAX: u64 = 100_000_000;
/// The most amounts, attributes, or values of an attribute, of a step.
const NEEDS_MAX: usize = 64;
/// The longest name of an amount or attribute, and the longest value: as OpenJD 2023-09 has it.
const NAME_MAX: usize = 100;
/// The most retries of a task.
const RETRIES_MAX: u32 = 100;
/// The longest wall-clock limit of a task: 30 days in seconds.
const TIMEOUT_MAX: u64 = 30 * 86_400;

/// What is wrong with the outline, if anything is.
pub(crate) fn check(outline: &Outline) -> Result<(), &'static str> {
    if outline.priority > 100 {
        return Err("its priority is above 100");
    }
    if outline.steps.is_empty() || outline.steps.len() > STEPS_MAX {
        return Err("it has no step or more than 1,000");
    }
    if outline.retries.is_some_and(|retries| retries > RETRIES_MAX) {
        return Err("it wants more than 100 retries of a task");
    }
    if outline.central.len() > CENTRAL_MAX {
        return Err("it has more than 16 central paths");
    }
    let apart = |(index, (path, _)): (usize, &(CentralPath, bool))| {
        outline.central[..index]
            .iter()
            .all(|(other, _)| !other.overlaps(path))
    };
    if !outline.central.iter().enumerate().all(apart) {
        return Err("two of its central paths overlap");
    }
    outline
        .steps
        .iter()
        .enumerate()
        .try_for_each(|(index, step)| check_step(index, step))
}

fn check_step(index: usize, step: &StepOutline) -> Result<(), &'static str> {
    if step.tasks == 0 || step.tasks > TASKS_MAX {
        return Err("a step has no task or more than 100,000,000");
    }
    if step.timeout == 0 || step.timeout > TIMEOUT_MAX {
        return Err("a step has no time or more than 30 days");
    }
    let batch = step.batch.as_ref();
    if batch.is_some_and(|batch| batch.size == 0 || batch.size > BATCH_MAX) {
        return Err("a session has no task or more than 1,024");
    }
    let before: BTreeSet<u32> = step.depends_on.iter().copied().collect();
    if before.len() != step.depends_on.len() {
        return Err("a step depends on another twice");
    }
    if before.last().is_some_and(|last| *last as usize >= index) {
        return Err("a step depends on one that does not come before it");
    }
    if step.amounts.len() > NEEDS_MAX || step.attributes.len() > NEEDS_MAX {
        return Err("a step has more than 64 amounts or attributes");
    }
    if step
        .amounts
        .values()
        .any(|amount| !amount.is_finite() || *amount < 0.0)
    {
        return Err("an amount is negative or no number");
    }
    if step
        .attributes
        .values()
        .any(|values| values.is_empty() || values.len() > NEEDS_MAX)
    {
        return Err("an attribute has no value or more than 64");
    }
    let names = step.amounts.keys().chain(step.attributes.keys());
    let mut words = names.chain(step.attributes.values().flatten());
    if words.any(|word| !is_word(word)) {
        return Err("a capability is not 1 to 100 visible ASCII characters");
    }
    Ok(())
}

fn is_word(word: &str) -> bool {
    (1..=NAME_MAX).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic())
}
