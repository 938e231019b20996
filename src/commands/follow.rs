//! `__follow`: waits for a job's end, and says what happens to it meanwhile. Knows what the ledger knows.

use std::{process::ExitCode, thread, time::Duration};

use clap::Args;
use safelight_policies::id::JobId;
use safelight_scheduler::{JobState, state::is_final};

use crate::{
    cli::StateArgs,
    failure::{Failure, Kind},
    records::Line,
    run::Books,
    state::State,
    terminal,
};

/// How often the ledger is asked.
const POLL: Duration = Duration::from_millis(200);

/// What is followed.
#[derive(Debug, Args)]
pub(crate) struct FollowArgs {
    #[arg(long)]
    job: JobId,
    #[arg(long)]
    json: bool,
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Says each line of the job's story as it happens. Ends when nothing more happens: well if the results are at home.
pub(crate) fn run(arguments: &FollowArgs) -> Result<ExitCode, Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let books = Books::open(&state)?;
    let job = arguments.job;
    let mut told = 0;
    let end = loop {
        // The state first: what led to it is on the story by then.
        let now = books.wait(books.ledger().job(&job.to_string()))?.state;
        for line in books.wait(books.ledger().story(job))? {
            if line.number > told {
                told = line.number;
                if !arguments.quiet {
                    terminal::say(format!("{job}: {}", line.event));
                }
            }
        }
        if is_final(now) {
            break now;
        }
        thread::sleep(POLL);
    };
    if arguments.json {
        let line = Line::default().with("job", job.to_string());
        terminal::print_json(&line.with("state", end.to_string()))?;
    }
    match end {
        JobState::Delivered => Ok(ExitCode::SUCCESS),
        end => Err(Failure::new(Kind::JobFailed, format!("{job} is {end}"))
            .hint(format!("safelight job show {job}"))),
    }
}
