//! `safelight audit`: what jobs touched, who touched it, and whether the logs are as they were written.
//!
//! A log that is not whole is shown up to where it can be trusted, the others are shown all the same, and the command fails.

mod asked;
mod certificate;
mod compare;
mod export;
mod filter;
mod form;
mod prove;
mod readers;
mod report;
mod rows;
mod sentence;
mod summary;
mod tail;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::{
    asked::{Asked, Narrow},
    form::{Form, Row},
    rows::Denial,
    sentence::sentence,
};
use super::chosen::ChosenJob;
use crate::{
    failure::Failure,
    opened::OpenedRecipe,
    records::{Line, OpenedRecord},
    terminal::{print, say},
};

/// What is asked of the logs.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show every record, oldest first
    ///
    /// Records that do not open are always shown, whatever is asked for.
    Show(AuditArgs),
    /// Show the last records, and with --follow those that come
    Tail(tail::TailArgs),
    /// Show what was read and written, one row for each path
    Files(AuditArgs),
    /// Show what the policy refused, and by which rule
    Denied(AuditArgs),
    /// Show what the job looked for, did not find, and did not make itself
    Missing(AuditArgs),
    /// Show who read a file: which job, task, node and program, and how much of it
    WhoRead(readers::ReadersArgs),
    /// Sum jobs up: paths, bytes, programs, refusals, sessions, and events that were lost
    Summary(AuditArgs),
    /// Show what one job did with its files that another did not
    Diff(compare::CompareArgs),
    /// Check that nothing was changed, removed, moved or added
    ///
    /// Follows each log's chain from the beginning, compares the job's own with what the ledger noted of it, every log with what its
    /// client's register says of it, the register with what the client saw of it, and opens every sealed record. Ends with exit code 4
    /// and names the records if something is wrong.
    Verify(VerifyArgs),
    /// Write what happened to a job as one page of HTML, to send to its client
    Report(report::ReportArgs),
    /// Prove that a record is on a log, to somebody who has neither the log nor a key to open it
    ///
    /// The proof is a file of JSON that `audit verify --proof` checks, and a small program that is not ours could.
    Prove(prove::ProveArgs),
    /// Write the certificate of destruction of a job whose keys were erased
    ///
    /// It says what was erased, when and by whom, and what is left, and is signed by this site and this client. `audit verify --proof`
    /// checks it, and a small program that is not ours could.
    Certificate(certificate::CertificateArgs),
    /// Write all records as JSON lines, to standard output or to a file
    Export(export::ExportArgs),
}

/// Arguments of most questions.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    about: Narrow,
    #[command(flatten)]
    form: Form,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    job: ChosenJob,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Check this proof of `audit prove`, or this certificate of `key erase`, instead
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
}

/// Answers.
pub(crate) fn run(command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Show(arguments) => show(&arguments),
        AuditCommand::Tail(arguments) => tail::run(&arguments),
        AuditCommand::Files(arguments) => files(&arguments),
        AuditCommand::Denied(arguments) => denied(&arguments),
        AuditCommand::Missing(arguments) => missing(&arguments),
        AuditCommand::WhoRead(arguments) => readers::run(&arguments),
        AuditCommand::Summary(arguments) => summary::run(&arguments),
        AuditCommand::Diff(arguments) => compare::run(&arguments),
        AuditCommand::Verify(arguments) => match &arguments.proof {
            Some(path) => prove::verify(&arguments.job.state()?, path),
            None => verify::verify(&arguments.job, arguments.json),
        },
        AuditCommand::Report(arguments) => report::run(&arguments),
        AuditCommand::Prove(arguments) => prove::run(&arguments),
        AuditCommand::Certificate(arguments) => certificate::run(&arguments),
        AuditCommand::Export(arguments) => export::run(&arguments),
    }
}

fn show(arguments: &AuditArgs) -> Result<(), Failure> {
    let asked = Asked::open(&arguments.about)?;
    let names = asked.names();
    let mut sheet = arguments.form.records()?;
    let found = asked.each(
        |record| asked.filter.keeps_kind(record),
        |opened, record| match &mut sheet {
            Some(sheet) => sheet.put(&asked.of(opened, Line::of(&record))),
            None => print(sentence(&record, names.tasks)),
        },
    )?;
    asked.conclude(found, "no such record")
}

fn files(arguments: &AuditArgs) -> Result<(), Failure> {
    let asked = Asked::open(&arguments.about)?;
    let names = asked.names();
    let mut sheet = arguments
        .form
        .sheet(names.head(rows::File::head(names.tasks)));
    let walked = asked.paths(|opened, paths| {
        rows::files(paths, &asked.filter)
            .iter()
            .try_for_each(|row| sheet.row(&names.of(opened.job(), row)))
    })?;
    asked.conclude(walked.shown(sheet.end()?), "no file of yours was touched")
}

fn missing(arguments: &AuditArgs) -> Result<(), Failure> {
    let asked = Asked::open(&arguments.about)?;
    let names = asked.names();
    let mut sheet = arguments
        .form
        .sheet(names.head(rows::Missing::head(names.tasks)));
    let walked = asked.paths(|opened, paths| {
        rows::missing(paths, &asked.filter)
            .iter()
            .try_for_each(|row| sheet.row(&names.of(opened.job(), row)))
    })?;
    let shown = sheet.end()?;
    // A single command is no bundle that could be handed in again.
    if let ([only], true) = (asked.jobs(), shown > 0)
        && matches!(only.recipe(), Ok(OpenedRecipe::Job(_)))
    {
        let job = only.job();
        say(format!(
            "hint: what is there by now goes with the next: safelight submit DIR --from-audit {job}"
        ));
    }
    asked.conclude(walked.shown(shown), "nothing was missing")
}

fn denied(arguments: &AuditArgs) -> Result<(), Failure> {
    let asked = Asked::open(&arguments.about)?;
    let names = asked.names();
    let mut sheet = arguments.form.sheet(names.head(Denial::head(names.tasks)));
    let keep =
        |record: &OpenedRecord| Denial::of(record).is_some() && asked.filter.keeps_kind(record);
    let walked = asked.each(keep, |opened, record| {
        let row = |denial: &Denial<'_>| Row {
            cells: denial.cells(names.tasks),
            line: Line::of(&record),
        };
        Denial::of(&record).map_or(Ok(()), |denial| {
            sheet.row(&names.of(opened.job(), &row(&denial)))
        })
    })?;
    asked.conclude(walked.shown(sheet.end()?), "nothing was denied")
}
