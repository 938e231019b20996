//! `safelight view diff`: which files two jobs had or wrote otherwise.
//!
//! Two files are the same if their bytes are. Where both manifests name the same sealed objects that is known without opening one; else
//! both are opened and compared, here, with the client's key.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use safelight_seal::manifest::{Entry, EntryKind};
use safelight_vfs::whole::Whole;
use serde::Serialize;

use crate::{
    cli::StateArgs,
    commands::chosen,
    failure::{Failure, Kind, OrFail},
    opened::OpenedJob,
    records,
    results::Wanted,
    run::Books,
    state::State,
    terminal,
};

/// Show which files two jobs had or wrote otherwise
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// A job: its id, the beginning of it, or `last`
    job_a: String,
    /// The job to compare it with
    job_b: String,
    /// Only what the client sent in
    #[arg(long = "without-outputs")]
    inputs: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// How much is compared at a time: a multiple of a block.
const AT_ONCE: usize = 1 << 20;

/// A job's files by path, lowest layers first.
type Files = BTreeMap<Vec<u8>, Entry>;

/// A path that is not the same in both.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Row {
    change: &'static str,
    path: String,
    bytes_a: Option<u64>,
    bytes_b: Option<u64>,
}

pub(super) fn run(arguments: &DiffArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let (a, b) = (
        open(&state, &arguments.job_a, arguments.inputs)?,
        open(&state, &arguments.job_b, arguments.inputs)?,
    );
    let paths: BTreeSet<&Vec<u8>> = a.1.keys().chain(b.1.keys()).collect();
    let mut rows = Vec::new();
    for path in paths {
        let change = match (a.1.get(path), b.1.get(path)) {
            (Some(_), None) => "only in A",
            (None, Some(_)) => "only in B",
            (Some(one), Some(other)) => match change((&a.0, one), (&b.0, other))? {
                Some(change) => change,
                None => continue,
            },
            (None, None) => continue,
        };
        rows.push(Row {
            change,
            path: terminal::shown(path),
            bytes_a: a.1.get(path).and_then(len),
            bytes_b: b.1.get(path).and_then(len),
        });
    }
    if arguments.json {
        return rows.iter().try_for_each(terminal::print_json);
    }
    if rows.is_empty() {
        terminal::say(format!(
            "{} and {} have the same files",
            a.0.job(),
            b.0.job()
        ));
        return Ok(());
    }
    let bytes = |bytes: Option<u64>| bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
    let cells = |row: &Row| {
        let change = row.change.to_owned();
        vec![
            change,
            bytes(row.bytes_a),
            bytes(row.bytes_b),
            row.path.clone(),
        ]
    };
    let cells: Vec<_> = rows.iter().map(cells).collect();
    terminal::table(&["CHANGE", "BYTES A", "BYTES B", "PATH"], &cells)
}

/// A job's files: what was sent, and over it what was accepted. The look is on the log first.
fn open(state: &State, job: &str, inputs: bool) -> Result<(OpenedJob, Files), Failure> {
    let job = Books::open(state)?.find(job)?;
    let opened = OpenedJob::open(state, job)?;
    records::note_look(state, &opened, "diff")?;
    let mut files = Files::new();
    let mut manifests = vec![opened.inputs()?];
    if !inputs {
        for chosen in chosen::results(state, job)?.choose(None, Wanted::Counting) {
            manifests.push(opened.results(&chosen.left)?);
        }
    }
    for tree in manifests.into_iter().flat_map(|manifest| manifest.trees) {
        for entry in tree.entries {
            let central = tree.path.as_str().as_bytes();
            let path = match entry.path.as_slice() {
                [] => central.to_vec(),
                below => [central, below].join(&b'/'),
            };
            match entry.kind {
                EntryKind::Whiteout => _ = files.remove(&path),
                // A directory is what lies in it.
                EntryKind::Directory { .. } => {}
                _ => _ = files.insert(path, entry),
            }
        }
    }
    Ok((opened, files))
}

fn len(entry: &Entry) -> Option<u64> {
    match &entry.kind {
        EntryKind::File { len, .. } => Some(*len),
        _ => None,
    }
}

/// What is another, in a word; nothing if nothing is.
fn change(
    (job_a, a): (&OpenedJob, &Entry),
    (job_b, b): (&OpenedJob, &Entry),
) -> Result<Option<&'static str>, Failure> {
    let kind = match (&a.kind, &b.kind) {
        (EntryKind::File { len: one, .. }, EntryKind::File { len: other, .. }) => {
            one != other || !same((job_a, a), (job_b, b))?
        }
        (EntryKind::Symlink { target: one }, EntryKind::Symlink { target: other })
        | (EntryKind::Link { to: one }, EntryKind::Link { to: other }) => one != other,
        _ => return Ok(Some("kind")),
    };
    Ok(match (kind, a.mode == b.mode) {
        (true, _) => Some("content"),
        (false, false) => Some("mode"),
        (false, true) => None,
    })
}

/// True if the bytes are the same.
fn same(
    (job_a, a): (&OpenedJob, &Entry),
    (job_b, b): (&OpenedJob, &Entry),
) -> Result<bool, Failure> {
    let named = |entry: &Entry| match &entry.kind {
        EntryKind::File { segments, .. } => segments
            .iter()
            .map(|it| (it.object, it.len))
            .collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    if named(a) == named(b) {
        return Ok(true);
    }
    let whole = |job: &OpenedJob, entry| Whole::new(&job.area, entry);
    let (Some(a), Some(b)) = (whole(job_a, a), whole(job_b, b)) else {
        return Ok(false);
    };
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for offset in (0..a.len()).step_by(AT_ONCE) {
        a.read(offset, AT_ONCE, &mut one).or_fail(Kind::Denied)?;
        b.read(offset, AT_ONCE, &mut other).or_fail(Kind::Denied)?;
        if one != other {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use safelight_seal::manifest::SegmentRef;

    use super::*;
    use crate::records::samples::farm::Farm;

    fn entry(kind: EntryKind) -> Entry {
        Entry {
            path: b"a".to_vec(),
            kind,
            mode: 0o644,
            mtime_ns: 0,
            xattrs: Vec::new(),
        }
    }

    #[test]
    fn what_is_another_is_named_and_times_are_no_difference() {
        let job = &Farm::new().opened;
        let link = |target: &str| {
            let target = target.as_bytes().to_vec();
            entry(EntryKind::Symlink { target })
        };
        let file = |len: u32| {
            let segments = match len {
                0 => Vec::new(),
                len => vec![SegmentRef::zero(len)],
            };
            let len = u64::from(len);
            entry(EntryKind::File { len, segments })
        };
        let mut later = file(5);
        later.mtime_ns = 9;
        let mut runnable = file(5);
        runnable.mode = 0o755;
        for (a, b, expected) in [
            (link("x"), link("x"), None),
            (link("x"), link("y"), Some("content")),
            (link("x"), file(0), Some("kind")),
            (file(5), later, None),
            (file(5), file(6), Some("content")),
            (file(5), runnable, Some("mode")),
        ] {
            assert_eq!(change((job, &a), (job, &b)).unwrap(), expected);
        }
    }
}
