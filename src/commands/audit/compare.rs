//! `safelight audit diff`: what one job did with its files that another did not.
//!
//! Two renders of one scene touch the same files. Where they do not, something changed: a texture that is missing, a cache that is used,
//! a path that is refused. How often a file was opened and how many bytes the page cache let through is chance, and no difference.

use std::collections::BTreeSet;

use clap::Args;
use safelight_policies::id::JobId;

use super::{
    asked::{Asked, More},
    form::{Form, Row},
};
use crate::{
    failure::{Failure, Kind},
    records::{Line, Paths, Touched},
    terminal::shown,
};

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// A job: its id, the beginning of it, or `last`
    job_a: String,
    /// The job to compare it with
    job_b: String,
    #[command(flatten)]
    more: More,
    #[command(flatten)]
    form: Form,
}

/// What a job did with a path, as far as it tells two jobs apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Did {
    words: Vec<&'static str>,
    written: u64,
}

impl Did {
    fn of(touched: &Touched) -> Self {
        let all = [
            (touched.reads > 0, "read"),
            (touched.writes > 0, "written"),
            (touched.changes > 0, "changed"),
            (touched.removals > 0, "removed"),
            (touched.denials > 0, "denied"),
            (touched.is_missing(), "missing"),
            (touched.failures > 0, "failed"),
            (touched.forgeries > 0, "not authentic"),
        ];
        Self {
            words: all
                .into_iter()
                .filter_map(|(did, word)| did.then_some(word))
                .collect(),
            written: touched.bytes_written,
        }
    }

    fn said(&self) -> String {
        let words = self.words.join(", ");
        match self.written {
            0 if words.is_empty() => "-".to_owned(),
            0 => words,
            bytes => format!("{words} ({bytes} bytes)"),
        }
    }
}

pub(super) fn run(arguments: &CompareArgs) -> Result<(), Failure> {
    let (one, other) = (
        Asked::of_job(&arguments.job_a, &arguments.more)?,
        Asked::of_job(&arguments.job_b, &arguments.more)?,
    );
    let ([a], [b]) = (one.jobs(), other.jobs()) else {
        return Err(Failure::new(
            Kind::User,
            "two jobs are compared, each by its id",
        ));
    };
    let (paths_a, walked_a) = one.paths_of(a)?;
    let (paths_b, walked_b) = other.paths_of(b)?;
    let mut sheet = arguments.form.sheet(vec!["A", "B", "PATH"]);
    for (path, did_a, did_b) in differences(&paths_a, &paths_b) {
        if one.filter.shows(path) {
            sheet.row(&row((a.job(), b.job()), path, (&did_a, &did_b)))?;
        }
    }
    let shown = sheet.end()?;
    let failures = [walked_a.right(), walked_b.right()];
    let failures = failures.into_iter().filter_map(Result::err).collect();
    let nothing = format!("no difference from {}", b.job());
    one.conclude(super::asked::Found::new(shown, failures), &nothing)
}

fn row((a, b): (JobId, JobId), path: &[u8], (did_a, did_b): (&Did, &Did)) -> Row {
    Row {
        cells: vec![did_a.said(), did_b.said(), shown(path)],
        line: Line::default()
            .with_path(path)
            .with("job_a", a.to_string())
            .with("job_b", b.to_string())
            .with("a", did_a.words.clone())
            .with("b", did_b.words.clone())
            .with("bytes_written_a", did_a.written)
            .with("bytes_written_b", did_b.written),
    }
}

/// The paths with which the jobs did something else, sorted.
fn differences<'a>(a: &'a Paths, b: &'a Paths) -> Vec<(&'a [u8], Did, Did)> {
    let all: BTreeSet<&[u8]> = a.iter().chain(b.iter()).map(|(path, _)| path).collect();
    let of = |paths: &Paths, path| Did::of(paths.get(path).unwrap_or(&Touched::default()));
    all.into_iter()
        .map(|path| (path, of(a, path), of(b, path)))
        .filter(|(_, did_a, did_b)| did_a != did_b)
        .collect()
}

#[cfg(test)]
mod tests {
    use safelight_policies::event::Op;

    use super::*;
    use crate::records::{OpenedRecord, samples::*};

    fn gathered(records: &[OpenedRecord]) -> Paths {
        let mut paths = Paths::default();
        records.iter().for_each(|record| paths.add(record));
        paths
    }

    #[test]
    fn jobs_differ_by_what_they_did_and_not_by_how_often() {
        let a = gathered(&[
            read("/c/same"),
            read("/c/gone"),
            allowed(Op::Create, "/c/out"),
            closed(Op::CloseWrite, "/c/out", 7),
            denied("/c/secret"),
        ]);
        let b = gathered(&[
            read("/c/same"),
            read("/c/same"),
            closed(Op::CloseRead, "/c/same", 9),
            not_found("/c/gone"),
            allowed(Op::Create, "/c/out"),
            closed(Op::CloseWrite, "/c/out", 8),
            read("/c/new"),
        ]);
        let told: Vec<_> = differences(&a, &b)
            .iter()
            .map(|(path, a, b)| format!("{}: {} | {}", shown(path), a.said(), b.said()))
            .collect();
        assert_eq!(
            told,
            [
                "/c/gone: read | missing",
                "/c/new: - | read",
                "/c/out: changed (7 bytes) | changed (8 bytes)",
                "/c/secret: denied | -",
            ]
        );
        assert!(differences(&a, &a).is_empty());
    }
}
