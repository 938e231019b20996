//! `safelight job why|pause|resume|cancel|retry`: what keeps a job, and what a wrangler does about it.

use clap::Args;
use safelight_policies::id::JobId;
use safelight_scheduler::{Moved, Report, StepAnswer, WhyNot};

use super::chosen::ChosenJob;
use crate::{
    failure::{Failure, Kind},
    process,
    run::Books,
    terminal::{print, print_json, say},
};

/// Arguments of `why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    job: ChosenJob,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of the others.
#[derive(Debug, Args)]
pub(crate) struct ActArgs {
    #[command(flatten)]
    job: ChosenJob,
}

/// What is done to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Pause,
    Resume,
    Cancel,
    Retry,
}

/// Why a job does not run, or does not run faster.
pub(crate) fn why(arguments: &WhyArgs) -> Result<(), Failure> {
    let (state, job) = arguments.job.find()?;
    let books = Books::of_site(&state)?;
    let why = books.wait(books.ledger().why(job, process::now_seconds()))?;
    if arguments.json {
        return print_json(&why);
    }
    explain(job, &why)
}

fn explain(job: JobId, why: &WhyNot) -> Result<(), Failure> {
    let place = match (why.queue, why.position) {
        (Some(queue), Some(position)) => format!(", place {position} of the {queue} queue"),
        _ => String::new(),
    };
    print(format!("{job} is {}{place}", why.state))?;
    match &why.placement {
        None => print("not placed yet")?,
        Some(placement) => {
            let target = match &placement.target {
                safelight_scheduler::Target::Here => "rendered here".to_owned(),
                safelight_scheduler::Target::There(site) => format!("rendered at {site}"),
                safelight_scheduler::Target::Nowhere => "not placed".to_owned(),
            };
            print(format!("{target}, because"))?;
            for reason in &placement.reasons {
                print(format!("  {reason}"))?;
            }
        }
    }
    // What is over is held by nothing.
    if why.queue.is_some() {
        for hold in &why.holds {
            print(format!("held: {hold}"))?;
        }
    }
    // Where it is rendered by others, no slot here could take it.
    if why.queue == Some(safelight_scheduler::Queue::Active) {
        why.steps.iter().try_for_each(step)?;
    }
    Ok(())
}

fn step(step: &StepAnswer) -> Result<(), Failure> {
    if let Some(hold) = &step.hold {
        return print(format!("step {}: {hold}", step.step));
    }
    if step.slots.is_empty() {
        return print(format!("step {}: no node has registered", step.step));
    }
    for slot in &step.slots {
        let place = format!("{} slot {}", slot.place.node, slot.place.slot.0);
        let lacks: Vec<_> = slot.lacks.iter().map(ToString::to_string).collect();
        let text = match (&slot.unavailable, lacks.is_empty(), slot.kept_away()) {
            (_, false, _) => lacks.join(", "),
            (_, true, Some(kept)) => kept,
            (Some(why), true, None) => why.to_string(),
            (None, true, None) => "fits and is free".to_owned(),
        };
        print(format!("step {} on {place}: {text}", step.step))?;
    }
    for node in &step.kept_from {
        print(format!(
            "step {}: a task of it is kept from {node} for a while, which lost it",
            step.step
        ))?;
    }
    Ok(())
}

/// Does something to a job.
pub(crate) fn act(arguments: &ActArgs, act: Act) -> Result<(), Failure> {
    let (state, job) = arguments.job.find()?;
    let books = Books::of_site(&state)?;
    let (ledger, now) = (books.ledger(), process::now_seconds());
    let moved = match act {
        Act::Pause => books.wait(ledger.pause(job, true, now))?,
        Act::Resume => books.wait(ledger.pause(job, false, now))?,
        Act::Cancel => books.wait(ledger.report(job, Report::Canceled, now))?,
        Act::Retry => books.wait(ledger.retry(job, now))?,
    };
    match moved {
        Moved::Done { state } => {
            let paused = if act == Act::Pause { ", paused" } else { "" };
            say(format!("{job} is {state}{paused}"));
            Ok(())
        }
        Moved::Already => {
            say(format!("{job}: nothing to do"));
            Ok(())
        }
        Moved::Refused { reason } => {
            let act = format!("{act:?}").to_lowercase();
            let message = format!("cannot {act} {job}: {reason}");
            Err(Failure::new(Kind::User, message).hint(format!("safelight job show {job}")))
        }
    }
}
