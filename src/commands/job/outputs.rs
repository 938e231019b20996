//! `safelight job outputs`: what a job wrote, from the manifests of its results.

use clap::Args;
use safelight_policies::id::{JobId, TaskId};
use safelight_seal::manifest::{Entry, EntryKind, Manifest};

use crate::{
    commands::chosen::{self, ChosenJob, ChosenTask},
    failure::Failure,
    records::Line,
    results::{self, Chosen, Wanted, task_name},
    terminal::{print_json, say, shown, table},
};

/// Arguments of `outputs`.
#[derive(Debug, Args)]
pub(crate) struct OutputsArgs {
    #[command(flatten)]
    job: ChosenJob,
    #[command(flatten)]
    task: ChosenTask,
    /// The attempt: a number, or `last` [default: those that were accepted, or the last if none was]
    #[arg(long, value_name = "N")]
    attempt: Option<Wanted>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Lists them.
pub(super) fn run(arguments: &OutputsArgs) -> Result<(), Failure> {
    let (state, opened) = arguments.job.open()?;
    let job = opened.job();
    let outline = &opened.envelope.outline;
    let task = arguments.task.of(outline)?;
    let names_tasks = results::tasks(outline) > 1;
    let results = chosen::results(&state, job)?;
    let wanted = arguments.attempt.unwrap_or_else(|| {
        match results.choose(task, Wanted::Counting).is_empty() {
            true => Wanted::Last,
            false => Wanted::Counting,
        }
    });
    let chosen = chosen::choose(&results, job, task, wanted)?;
    say_apart(job, &chosen);
    let (mut cells, mut found) = (Vec::new(), false);
    for it in chosen {
        let task = Some(it.left.task).filter(|_| names_tasks);
        for row in written(&opened.results(&it.left)?) {
            found = true;
            if arguments.json {
                print_json(&row.line(task))?;
            } else {
                cells.push(row.cells(task));
            }
        }
    }
    if !found {
        say(format!("{job}: the command wrote no file"));
    }
    if cells.is_empty() {
        return Ok(());
    }
    let head = ["KIND", "BYTES", "PATH"];
    let head: Vec<_> = names_tasks
        .then_some("TASK")
        .into_iter()
        .chain(head)
        .collect();
    table(&head, &cells)
}

/// Says what of it does not count.
fn say_apart(job: JobId, chosen: &[&Chosen]) {
    let apart: Vec<_> = chosen.iter().filter(|it| !it.counts).collect();
    match (apart.as_slice(), chosen) {
        ([], _) => {}
        ([it], [_]) => {
            let (attempt, cause) = (it.left.attempt, &it.left.cause);
            say(format!(
                "{job}: attempt {attempt} was not accepted ({cause}); this is set apart"
            ));
        }
        (apart, _) => say(format!(
            "{job}: {} of these {} results were not accepted; they are set apart",
            apart.len(),
            chosen.len()
        )),
    }
}

/// One entry of a result.
struct Output<'a> {
    path: Vec<u8>,
    entry: &'a Entry,
}

/// The entries of a result by their full paths. A tree's root and the directories that only lead to an entry are no result.
fn written(results: &Manifest) -> impl Iterator<Item = Output<'_>> {
    results.trees.iter().flat_map(|tree| {
        let central = tree.path.as_str().as_bytes();
        let is_result =
            |entry: &&Entry| !matches!(entry.kind, EntryKind::Directory { opaque: false });
        tree.entries.iter().filter(is_result).map(move |entry| {
            let path = match entry.path.as_slice() {
                [] => central.to_vec(),
                path => [central, path].join(&b'/'),
            };
            Output { path, entry }
        })
    })
}

impl Output<'_> {
    fn kind(&self) -> &'static str {
        match self.entry.kind {
            EntryKind::Directory { .. } => "directory",
            EntryKind::File { .. } => "file",
            EntryKind::Symlink { .. } => "symlink",
            EntryKind::Link { .. } => "link",
            EntryKind::Whiteout => "removed",
        }
    }

    fn bytes(&self) -> Option<u64> {
        match self.entry.kind {
            EntryKind::File { len, .. } => Some(len),
            _ => None,
        }
    }

    /// The cells, with the task's if that says something.
    fn cells(&self, task: Option<TaskId>) -> Vec<String> {
        let bytes = self
            .bytes()
            .map_or("-".to_owned(), |bytes| bytes.to_string());
        let own = [self.kind().to_owned(), bytes, shown(&self.path)];
        task.map(task_name).into_iter().chain(own).collect()
    }

    fn line(&self, task: Option<TaskId>) -> Line {
        let line = Line::default()
            .with("kind", self.kind())
            .with("bytes", self.bytes())
            .with_path(&self.path);
        match task {
            Some(task) => line.with("task", task_name(task)),
            None => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use safelight_seal::manifest::{Kind as ManifestKind, Tree};

    use super::*;

    #[test]
    fn outputs_are_what_was_written_and_not_what_leads_there() {
        let entry = |path: &[u8], kind| Entry {
            path: path.to_vec(),
            kind,
            mode: 0o644,
            mtime_ns: 0,
            xattrs: Vec::new(),
        };
        let directory = |opaque| EntryKind::Directory { opaque };
        let file = EntryKind::File {
            len: 7,
            segments: Vec::new(),
        };
        let results = Manifest {
            job: JobId::from_random([0; 10]),
            kind: ManifestKind::Inputs,
            trees: vec![Tree {
                path: "/mnt/c".parse().unwrap(),
                entries: vec![
                    entry(b"", directory(false)),
                    entry(b"new", directory(true)),
                    entry(b"new/\xff\x1b", file),
                    entry(b"old", directory(false)),
                    entry(b"old/gone", EntryKind::Whiteout),
                ],
            }],
        };
        let rows: Vec<_> = written(&results).collect();
        let cells: Vec<_> = rows.iter().map(|row| row.cells(None)).collect();
        assert_eq!(
            cells,
            [
                ["directory", "-", "/mnt/c/new"],
                ["file", "7", "/mnt/c/new/\u{fffd}\\u{1b}"],
                ["removed", "-", "/mnt/c/old/gone"],
            ]
        );
        assert_eq!(
            serde_json::to_string(&rows[1].line(None)).unwrap(),
            "{\"kind\":\"file\",\"bytes\":7,\"path\":\"/mnt/c/new/\u{fffd}\\u001b\",\"path_hex\":\"2f6d6e742f632f6e65772fff1b\"}"
        );
        assert!(
            serde_json::to_string(&rows[0].line(None))
                .unwrap()
                .contains("\"bytes\":null")
        );
    }
}
