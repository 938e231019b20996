//! `safelight job logs`: what a job's command printed.

use std::io::{self, IsTerminal, Write};

use clap::Args;
use safelight_policies::id::TaskId;
use safelight_vfs::console;

use crate::{
    commands::chosen::{self, ChosenJob, ChosenTask},
    failure::{Failure, Kind},
    opened::{OpenedJob, OpenedRecipe},
    results::{self, Chosen, Wanted},
    terminal::{say, shown},
};

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    job: ChosenJob,
    #[command(flatten)]
    task: ChosenTask,
    /// The attempt: a number, or `last`
    #[arg(long, value_name = "N", default_value = "last")]
    attempt: Wanted,
}

/// Prints them.
pub(super) fn run(arguments: &LogsArgs) -> Result<(), Failure> {
    let (state, opened) = arguments.job.open()?;
    let outline = &opened.envelope.outline;
    let task = arguments.task.of(outline)?;
    let results = chosen::results(&state, opened.job())?;
    let chosen = chosen::choose(&results, opened.job(), task, arguments.attempt)?;
    if let ([only], true) = (
        chosen.as_slice(),
        task.is_some() || results::tasks(outline) == 1,
    ) {
        let text = opened.log(&only.left)?;
        if text.is_empty() {
            say(format!("{}: the command printed nothing", opened.job()));
        }
        return put(&text);
    }
    each(&opened, &chosen)
}

/// Each task's log after a line that names it. One that does not open keeps no other from being printed.
fn each(opened: &OpenedJob, chosen: &[&Chosen]) -> Result<(), Failure> {
    let recipe = opened.recipe().ok();
    let mut failed = Ok(());
    for it in chosen {
        put(heading(it.left.task, recipe.as_ref()).as_bytes())?;
        match opened.log(&it.left) {
            Ok(text) => {
                put(&text)?;
                if !text.is_empty() && !text.ends_with(b"\n") {
                    put(b"\n")?;
                }
            }
            Err(failure) => {
                say(&failure);
                failed = Err(failure);
            }
        }
    }
    failed
}

fn heading(task: TaskId, recipe: Option<&OpenedRecipe>) -> String {
    let parameters = recipe.map(|recipe| recipe.parameters(task));
    let parameters = match parameters.filter(|text| !text.is_empty()) {
        Some(text) => format!(" ({})", shown(text.as_bytes())),
        None => String::new(),
    };
    let TaskId { step, task } = task;
    format!("==> step {step} task {task}{parameters} <==\n")
}

fn put(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = if out.is_terminal() {
        out.write_all(console::harmless(text).as_bytes())
    } else {
        out.write_all(text)
    };
    match written.and_then(|()| out.flush()) {
        // A reader that went away (`| head`) has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(
            Kind::Environment,
            format!("cannot write to standard output: {error}"),
        )),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_names_the_task() {
        let task = TaskId { step: 0, task: 3 };
        assert_eq!(heading(task, None), "==> step 0 task 3 <==\n");
    }
}
