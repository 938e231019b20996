//! `safelight audit`: what a job touched, and whether its logs are as they were written.
//!
//! A log that is not whole is shown up to where it can be trusted, the others are shown all the same, and the command fails.

mod rows;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use safelight_policies::id::TaskId;

use self::rows::{Denial, Filter, sentence};
use super::chosen::{ChosenJob, ChosenTask};
use crate::{
    failure::Failure,
    opened::OpenedJob,
    records::{self, ACTIONS, Line, Logs, OpenedRecord, Paths, Walked},
    results,
    state::State,
    terminal::{print, print_json, say, table},
};

/// What is asked of a log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show every record, oldest first
    ///
    /// Records that do not open are always shown, whatever is asked for.
    Show(ShowArgs),
    /// Show what was read and written, one row for each path
    Files(AuditArgs),
    /// Show what the policy refused, and by which rule
    Denied(AuditArgs),
    /// Show what the job looked for, did not find, and did not make itself
    Missing(AuditArgs),
    /// Check that nothing was changed, removed, moved or added
    ///
    /// Follows each log's chain from the beginning, compares the job's own with what the ledger noted of it, and opens every sealed
    /// record. Ends with exit code 4 and names the records if something is wrong.
    Verify(VerifyArgs),
    /// Write all records as JSON lines, to standard output or to a file
    Export(ExportArgs),
}

/// Arguments of most questions.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    job: ChosenJob,
    #[command(flatten)]
    task: ChosenTask,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    about: AuditArgs,
    /// Only this action, like open-write; may be given several times
    #[arg(long, value_name = "ACTION", value_parser = PossibleValuesParser::new(ACTIONS), hide_possible_values = true)]
    action: Vec<String>,
    /// Only paths that fit, as the job spelled them: `*` within a part, `**` across parts
    #[arg(long, value_name = "GLOB")]
    path: Option<String>,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    job: ChosenJob,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    job: ChosenJob,
    #[command(flatten)]
    task: ChosenTask,
    /// The file; it is made readable for you only, and replaced if it is there
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// Answers.
pub(crate) fn run(command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Show(arguments) => show(&arguments),
        AuditCommand::Files(arguments) => files(&arguments),
        AuditCommand::Denied(arguments) => denied(&arguments),
        AuditCommand::Missing(arguments) => missing(&arguments),
        AuditCommand::Verify(arguments) => verify::verify(&arguments.job, arguments.json),
        AuditCommand::Export(arguments) => export(&arguments),
    }
}

/// The job that is asked about, and the task.
struct Asked {
    state: State,
    opened: OpenedJob,
    task: Option<TaskId>,
}

impl Asked {
    fn open(job: &ChosenJob, task: &ChosenTask) -> Result<Self, Failure> {
        let (state, opened) = job.open()?;
        let task = task.of(&opened.envelope.outline)?;
        Ok(Self {
            state,
            opened,
            task,
        })
    }

    fn logs(&self) -> Result<Logs<'_>, Failure> {
        Ok(Logs::of(&self.state, &self.opened)?.only(self.task))
    }

    /// True if a record is about what is asked. One that is wrong could be about anything.
    fn is_about(&self, record: &OpenedRecord) -> bool {
        self.task.is_none() || record.task == self.task || record.what.is_wrong()
    }

    /// True if it helps to say which task it was.
    fn names_tasks(&self) -> bool {
        results::tasks(&self.opened.envelope.outline) > 1
    }

    /// What was done with each path.
    fn paths(&self) -> Result<(Paths, Walked), Failure> {
        let mut paths = Paths::default();
        let walked = records::one_by_one(&self.logs()?, |record| {
            if self.is_about(&record) {
                paths.add(&record);
            }
            Ok(())
        })?;
        Ok((paths, walked))
    }

    /// Says what the answer does not: that it is empty, or that a log is not whole.
    fn conclude(&self, walked: Walked, found: usize, nothing: &str) -> Result<(), Failure> {
        walked.right()?;
        if found == 0 {
            say(format!("{}: {nothing}", self.opened.job()));
        }
        Ok(())
    }
}

fn show(arguments: &ShowArgs) -> Result<(), Failure> {
    let filter = Filter::new(&arguments.action, arguments.path.as_deref())?;
    let about = &arguments.about;
    let asked = Asked::open(&about.job, &about.task)?;
    let keep = |record: &OpenedRecord| filter.keeps(&record.what) && asked.is_about(record);
    let names_tasks = asked.names_tasks();
    let mut shown = 0;
    let walked = records::in_order(&asked.logs()?, keep, |record| {
        shown += 1;
        if about.json {
            print_json(&Line::of(&record))
        } else {
            print(sentence(&record, names_tasks))
        }
    })?;
    asked.conclude(walked, shown, "no such record")
}

fn files(arguments: &AuditArgs) -> Result<(), Failure> {
    let asked = Asked::open(&arguments.job, &arguments.task)?;
    let names_tasks = asked.names_tasks();
    let (paths, walked) = asked.paths()?;
    let rows = rows::files(&paths);
    if arguments.json {
        rows.iter()
            .try_for_each(|row| print_json(&row.line(names_tasks)))?;
    } else if !rows.is_empty() {
        let cells: Vec<_> = rows.iter().map(|row| row.cells(names_tasks)).collect();
        table(&rows::File::head(names_tasks), &cells)?;
    }
    asked.conclude(walked, rows.len(), "the command touched no file of yours")
}

fn denied(arguments: &AuditArgs) -> Result<(), Failure> {
    let asked = Asked::open(&arguments.job, &arguments.task)?;
    let names_tasks = asked.names_tasks();
    let keep = |record: &OpenedRecord| Denial::of(record).is_some() && asked.is_about(record);
    let mut denials = Vec::new();
    let walked = records::in_order(&asked.logs()?, keep, |record| {
        if arguments.json {
            print_json(&Line::of(&record))?;
        }
        denials.extend(Denial::of(&record).map(|denial| denial.cells(names_tasks)));
        Ok(())
    })?;
    if !arguments.json && !denials.is_empty() {
        table(&Denial::head(names_tasks), &denials)?;
    }
    asked.conclude(walked, denials.len(), "nothing was denied")
}

fn missing(arguments: &AuditArgs) -> Result<(), Failure> {
    let asked = Asked::open(&arguments.job, &arguments.task)?;
    let names_tasks = asked.names_tasks();
    let (paths, walked) = asked.paths()?;
    let rows = rows::missing(&paths);
    if arguments.json {
        rows.iter()
            .try_for_each(|row| print_json(&row.line(names_tasks)))?;
    } else if !rows.is_empty() {
        let cells: Vec<_> = rows.iter().map(|row| row.cells(names_tasks)).collect();
        table(&rows::Missing::head(names_tasks), &cells)?;
    }
    asked.conclude(walked, rows.len(), "nothing was missing")
}

fn export(arguments: &ExportArgs) -> Result<(), Failure> {
    let asked = Asked::open(&arguments.job, &arguments.task)?;
    let (logs, keep) = (asked.logs()?, |record: &OpenedRecord| {
        asked.is_about(record)
    });
    let Some(path) = &arguments.to else {
        let walked = records::in_order(&logs, keep, |record| print_json(&Line::of(&record)))?;
        return walked.right();
    };
    let mut all = Vec::new();
    let walked = records::in_order(&logs, keep, |record| {
        all.push(record);
        Ok(())
    })?;
    records::export(&all, path)?;
    say(format!(
        "{}: {} records in {}",
        asked.opened.job(),
        all.len(),
        path.display()
    ));
    walked.right()
}
