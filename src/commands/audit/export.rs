//! `safelight audit export`: every record, for other systems.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{
    asked::{Asked, Narrow},
    form::Form,
};
use crate::{
    failure::{Failure, Kind},
    records::{self, Line, ocsf},
    terminal::{print_json, say},
};

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    about: Narrow,
    /// The shape of the records
    #[arg(long, value_enum, default_value_t = Shape::Jsonl)]
    format: Shape,
    /// The file; it is made readable for you only, and replaced if it is there
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// The shape of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// JSON lines, as `audit show --json` has them
    Jsonl,
    /// JSON lines in the Open Cybersecurity Schema Framework, version 1.8.0
    Ocsf,
    /// Comma-separated values
    Csv,
}

pub(super) fn run(arguments: &ExportArgs) -> Result<(), Failure> {
    let asked = Asked::open(&arguments.about)?;
    let Some(path) = &arguments.to else {
        return print_all(arguments, &asked);
    };
    if arguments.format == Shape::Csv {
        let message = "comma-separated values go to standard output";
        return Err(Failure::new(Kind::User, message).hint("use `> FILE`"));
    }
    let (mut file, mut count) = (records::ExportFile::begin(path)?, 0);
    let found = asked.each(
        |record| asked.filter.keeps(record),
        |opened, record| {
            count += 1;
            match arguments.format {
                Shape::Ocsf => file.put(&ocsf(&opened.envelope.outline, &record)),
                _ => file.put(&asked.of(opened, Line::of(&record))),
            }
        },
    )?;
    file.finish()?;
    say(format!("{count} records in {}", path.display()));
    asked.conclude(found, "no such record")
}

fn print_all(arguments: &ExportArgs, asked: &Asked) -> Result<(), Failure> {
    let form = Form {
        json: arguments.format != Shape::Csv,
        csv: arguments.format == Shape::Csv,
    };
    let mut sheet = form.records()?;
    let found = asked.each(
        |record| asked.filter.keeps(record),
        |opened, record| match (&mut sheet, arguments.format) {
            (_, Shape::Ocsf) => print_json(&ocsf(&opened.envelope.outline, &record)),
            (Some(sheet), _) => sheet.put(&asked.of(opened, Line::of(&record))),
            (None, _) => Ok(()),
        },
    )?;
    asked.conclude(found, "no such record")
}
