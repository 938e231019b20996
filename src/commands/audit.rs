//! `safelight audit`: what a job touched, and whether its log is as it was written.
//!
//! A log that is not whole is shown up to where it can be trusted, and the command fails.

mod rows;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use safelight_policies::id::JobId;

use self::rows::{Denial, Filter, sentence};
use super::chosen::ChosenJob;
use crate::{
    failure::{Failure, Kind},
    records::{self, ACTIONS, Line, OpenedRecord, Paths},
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
    /// Follows the log's chain from the beginning, compares it with what the ledger noted of it, and opens every sealed record.
    /// Ends with exit code 4 and names the records if something is wrong.
    Verify(AuditArgs),
    /// Write all records as JSON lines, to standard output or to a file
    Export(ExportArgs),
}

/// Arguments of most questions.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    job: ChosenJob,
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

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    job: ChosenJob,
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

/// How a walk over a log ended.
struct Walked {
    job: JobId,
    wrong: u64,
    end: Result<(), Failure>,
}

/// Shows the records of a job to `each`, as far as the log can be trusted.
fn walk(
    chosen: &ChosenJob,
    mut each: impl FnMut(&OpenedRecord) -> Result<(), Failure>,
) -> Result<Walked, Failure> {
    let (state, opened) = chosen.open()?;
    let mut walked = Walked {
        job: opened.job(),
        wrong: 0,
        end: Ok(()),
    };
    for record in records::records(&state, &opened)? {
        match record {
            Ok(record) => {
                walked.wrong += u64::from(record.what.is_wrong());
                each(&record)?;
            }
            Err(failure) => walked.end = Err(failure),
        }
    }
    Ok(walked)
}

impl Walked {
    /// Says what the answer does not: that it is empty, or that the log is not whole.
    fn conclude(self, found: usize, nothing: &str) -> Result<(), Failure> {
        self.end?;
        if self.wrong > 0 {
            let (job, wrong) = (self.job, self.wrong);
            let message = format!("{wrong} records of {job} are not as they were written");
            let hint = format!("safelight audit verify {job}");
            return Err(Failure::new(Kind::Denied, message).hint(hint));
        }
        if found == 0 {
            say(format!("{}: {nothing}", self.job));
        }
        Ok(())
    }
}

fn show(arguments: &ShowArgs) -> Result<(), Failure> {
    let filter = Filter::new(&arguments.action, arguments.path.as_deref())?;
    let mut shown = 0;
    let walked = walk(&arguments.about.job, |record| {
        if !filter.keeps(&record.what) {
            return Ok(());
        }
        shown += 1;
        if arguments.about.json {
            print_json(&Line::of(record))
        } else {
            print(sentence(record))
        }
    })?;
    walked.conclude(shown, "no such record")
}

fn files(arguments: &AuditArgs) -> Result<(), Failure> {
    let mut paths = Paths::default();
    let walked = walk(&arguments.job, |record| {
        paths.add(record);
        Ok(())
    })?;
    let rows = rows::files(&paths);
    if arguments.json {
        rows.iter().try_for_each(|row| print_json(&row.line()))?;
    } else if !rows.is_empty() {
        let cells: Vec<_> = rows.iter().map(rows::File::cells).collect();
        table(&rows::File::HEAD, &cells)?;
    }
    walked.conclude(rows.len(), "the command touched no file of yours")
}

fn denied(arguments: &AuditArgs) -> Result<(), Failure> {
    let mut denials = Vec::new();
    let walked = walk(&arguments.job, |record| {
        let Some(denial) = Denial::of(record) else {
            return Ok(());
        };
        if arguments.json {
            print_json(&Line::of(record))?;
        }
        denials.push(denial.cells());
        Ok(())
    })?;
    if !arguments.json && !denials.is_empty() {
        table(&Denial::HEAD, &denials)?;
    }
    walked.conclude(denials.len(), "nothing was denied")
}

fn missing(arguments: &AuditArgs) -> Result<(), Failure> {
    let mut paths = Paths::default();
    let walked = walk(&arguments.job, |record| {
        paths.add(record);
        Ok(())
    })?;
    let rows = rows::missing(&paths);
    if arguments.json {
        rows.iter().try_for_each(|row| print_json(&row.line()))?;
    } else if !rows.is_empty() {
        let cells: Vec<_> = rows.iter().map(rows::Missing::cells).collect();
        table(&rows::Missing::HEAD, &cells)?;
    }
    walked.conclude(rows.len(), "nothing was missing")
}

fn export(arguments: &ExportArgs) -> Result<(), Failure> {
    let Some(path) = &arguments.to else {
        let walked = walk(&arguments.job, |record| print_json(&Line::of(record)))?;
        return walked.conclude(1, "");
    };
    let mut all = Vec::new();
    let walked = walk(&arguments.job, |record| {
        all.push(record.clone());
        Ok(())
    })?;
    records::export(&all, path)?;
    say(format!(
        "{}: {} records in {}",
        walked.job,
        all.len(),
        path.display()
    ));
    walked.conclude(1, "")
}
