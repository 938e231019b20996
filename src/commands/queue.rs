//! `safelight queue`: which jobs wait where, in which order, and another order.

use clap::{Args, Subcommand, ValueEnum};
use safelight_scheduler::{Moved, Queue, QueueRule, Turn};

use super::chosen::ChosenJob;
use crate::{
    cli::StateArgs,
    failure::{Failure, Kind},
    process,
    records::{Line, utc},
    run::Books,
    state::State,
    terminal::{print_json, say, table},
};

/// What is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List the jobs of a queue, or of all, in the order in which they are served
    List(ListArgs),
    /// Put a job elsewhere in its queue
    ///
    /// It goes on ageing as the others do: what is handed in later with a higher priority may still come before it.
    Move(MoveArgs),
    /// Begin nothing of a queue until it is resumed; what runs goes on
    Pause(RuleArgs),
    /// Let a queue go on
    Resume(RuleArgs),
}

/// A queue's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Named {
    /// Submitted, not yet placed here or there
    New,
    /// To be rendered at another site, until the results are here
    Outsourced,
    /// Rendered here
    Active,
}

impl From<Named> for Queue {
    fn from(named: Named) -> Self {
        match named {
            Named::New => Self::New,
            Named::Outsourced => Self::Outsourced,
            Named::Active => Self::Active,
        }
    }
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The queue
    #[arg(value_enum)]
    queue: Option<Named>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `pause` and `resume`.
#[derive(Debug, Args)]
pub(crate) struct RuleArgs {
    /// The queue
    #[arg(value_enum)]
    queue: Named,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `move`.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    job: ChosenJob,
    #[command(flatten)]
    turn: TurnArgs,
}

/// Where to.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct TurnArgs {
    /// Before all others
    #[arg(long)]
    first: bool,
    /// Behind all others
    #[arg(long)]
    last: bool,
    /// Right before this job
    #[arg(long, value_name = "JOB")]
    before: Option<String>,
}

/// Answers.
pub(crate) fn run(command: QueueCommand) -> Result<(), Failure> {
    match command {
        QueueCommand::List(arguments) => list(&arguments),
        QueueCommand::Move(arguments) => place(&arguments),
        QueueCommand::Pause(arguments) => pause(&arguments, true),
        QueueCommand::Resume(arguments) => pause(&arguments, false),
    }
}

fn list(arguments: &ListArgs) -> Result<(), Failure> {
    let books = Books::open(&State::open(arguments.state.state.as_deref())?)?;
    let wanted: Vec<Queue> = match arguments.queue {
        Some(named) => vec![named.into()],
        None => vec![Queue::New, Queue::Outsourced, Queue::Active],
    };
    let mut rows = Vec::new();
    for queue in wanted {
        for entry in books.wait(books.ledger().queue(queue))? {
            if arguments.json {
                let line = Line::default()
                    .with("queue", queue.as_str())
                    .with("position", entry.position)
                    .with("job", entry.job.to_string())
                    .with("state", entry.state.to_string())
                    .with("priority", u64::from(entry.priority))
                    .with("paused", entry.paused)
                    .with("submitted", utc(entry.submitted_at));
                print_json(&line)?;
                continue;
            }
            let paused = if entry.paused { ", paused" } else { "" };
            rows.push(vec![
                queue.to_string(),
                entry.position.to_string(),
                entry.job.to_string(),
                format!("{}{paused}", entry.state),
                entry.priority.to_string(),
                utc(entry.submitted_at),
            ]);
        }
    }
    if arguments.json {
        return Ok(());
    }
    if rows.is_empty() {
        say("no job waits");
        return Ok(());
    }
    table(
        &["QUEUE", "PLACE", "JOB", "STATE", "PRIORITY", "SUBMITTED"],
        &rows,
    )
}

fn place(arguments: &MoveArgs) -> Result<(), Failure> {
    let (state, job) = arguments.job.find()?;
    let books = Books::of_site(&state)?;
    let turn = match &arguments.turn {
        TurnArgs { first: true, .. } => Turn::First,
        TurnArgs {
            before: Some(other),
            ..
        } => Turn::Before(books.find(other)?),
        _ => Turn::Last,
    };
    let ledger = books.ledger();
    match books.wait(ledger.reorder(job, turn, process::now_seconds()))? {
        Moved::Done { .. } => {
            let why = books.wait(ledger.why(job, process::now_seconds()))?;
            let place = why.position.unwrap_or(0);
            let queue = why.queue.map_or("a", Queue::as_str);
            say(format!("{job} is at place {place} of the {queue} queue"));
        }
        Moved::Already => say(format!("{job}: nothing to do")),
        Moved::Refused { reason } => {
            let message = format!("cannot move {job}: {reason}");
            return Err(Failure::new(Kind::User, message).hint("safelight queue list"));
        }
    }
    Ok(())
}

fn pause(arguments: &RuleArgs, paused: bool) -> Result<(), Failure> {
    let books = Books::open(&State::open(arguments.state.state.as_deref())?)?;
    let queue = Queue::from(arguments.queue);
    let rule = books.wait(books.ledger().queue_rule(queue))?;
    books.wait(
        books
            .ledger()
            .set_queue(queue, QueueRule { paused, ..rule }),
    )?;
    let how = if paused { "paused" } else { "not paused" };
    say(format!("the {queue} queue is {how}"));
    Ok(())
}
