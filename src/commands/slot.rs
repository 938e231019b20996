//! `safelight slot`: the resource database, slot by slot.

use clap::{Args, Subcommand};
use safelight_scheduler::SlotEntry;

use crate::{
    cli::StateArgs,
    failure::{Failure, Kind, OrFail},
    process,
    records::Line,
    run::Books,
    state::State,
    terminal::{print_json, say, table},
};

/// What is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum SlotCommand {
    /// List the slots of this site's nodes: what each offers, and what is in it
    List(ListArgs),
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Answers.
pub(crate) fn run(command: SlotCommand) -> Result<(), Failure> {
    let SlotCommand::List(arguments) = command;
    let books = Books::open(&State::open(arguments.state.state.as_deref())?)?;
    let slots = books.wait(books.ledger().slots(process::now_seconds()))?;
    if arguments.json {
        return slots.iter().try_for_each(|slot| print_json(&line(slot)?));
    }
    if slots.is_empty() {
        say("no node has registered yet: safelight node join");
        return Ok(());
    }
    let rows: Vec<_> = slots.iter().map(cells).collect();
    let head = ["NODE", "SLOT", "VCPU", "MEMORY", "GPU", "SOFTWARE", "STATE"];
    table(&head, &rows)
}

fn cells(slot: &SlotEntry) -> Vec<String> {
    let software = slot.spec.software.iter().map(|(name, versions)| {
        let versions: Vec<_> = versions.iter().map(String::as_str).collect();
        format!("{name} {}", versions.join(" "))
    });
    let stands = match (&slot.unavailable, &slot.holds) {
        (Some(why), Some((job, _))) => format!("{why}: {job}"),
        (Some(why), None) => why.to_string(),
        (None, _) => "free".to_owned(),
    };
    vec![
        slot.place.node.to_string(),
        slot.place.slot.0.to_string(),
        slot.spec.vcpu.to_string(),
        format!("{} MiB", slot.spec.memory_mib),
        slot.spec.gpu.to_string(),
        software.collect::<Vec<_>>().join(", "),
        stands,
    ]
}

fn line(slot: &SlotEntry) -> Result<Line, Failure> {
    let spec = serde_json::to_value(&slot.spec).or_fail(Kind::Internal)?;
    let holds = slot.holds.as_ref();
    Ok(Line::default()
        .with("node", slot.place.node.to_string())
        .with("slot", u64::from(slot.place.slot.0))
        .with("available", slot.unavailable.is_none())
        .with("why_not", slot.unavailable.map(|why| why.to_string()))
        .with("job", holds.map(|(job, _)| job.to_string()))
        .with("session", holds.map(|(_, session)| session.to_string()))
        .with("spec", spec))
}
