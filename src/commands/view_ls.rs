//! `safelight view ls`: what a job had and what it wrote, from its manifests alone.

use std::collections::BTreeMap;

use clap::Args;
use safelight_seal::manifest::{Entry, EntryKind, Manifest};
use serde::Serialize;

use super::view::Which;
use crate::{failure::Failure, opened::OpenedJob, records, terminal};

/// List what the job had and what it wrote
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    which: Which,
    /// Only below this path, as the job spelled it
    path: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// One path of a job.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Row {
    path: String,
    kind: &'static str,
    bytes: u64,
    from: &'static str,
}

pub(super) fn run(arguments: &LsArgs) -> Result<(), Failure> {
    let shown = arguments.which.find()?;
    let state = &shown.state;
    let opened = OpenedJob::open(state, shown.job)?;
    records::note_look(state, &opened, "ls")?;
    let mut rows = BTreeMap::new();
    add(&mut rows, "sent", &opened.inputs()?);
    for left in &shown.written {
        add(&mut rows, "written", &opened.results(left)?);
    }
    let wanted = arguments
        .path
        .as_deref()
        .map(|path| path.trim_end_matches('/'));
    let inside = |row: &&Row| wanted.is_none_or(|wanted| is_at_or_below(&row.path, wanted));
    let rows: Vec<&Row> = rows.values().filter(inside).collect();
    if arguments.json {
        return rows.iter().try_for_each(terminal::print_json);
    }
    let cells = |row: &&Row| {
        vec![
            row.kind.to_owned(),
            row.bytes.to_string(),
            row.from.to_owned(),
            row.path.clone(),
        ]
    };
    terminal::table(
        &["KIND", "BYTES", "FROM", "PATH"],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    )
}

fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Puts a manifest's entries over what is there.
fn add(rows: &mut BTreeMap<String, Row>, from: &'static str, manifest: &Manifest) {
    for (tree, entry) in manifest
        .trees
        .iter()
        .flat_map(|tree| tree.entries.iter().map(move |entry| (tree, entry)))
    {
        let slash = if entry.path.is_empty() { "" } else { "/" };
        let path = format!("{}{slash}{}", tree.path, terminal::shown(&entry.path));
        let (kind, bytes) = describe(entry);
        // A directory stands in a result because of what lies below it.
        if kind != "directory" || !rows.contains_key(&path) {
            rows.insert(
                path.clone(),
                Row {
                    path,
                    kind,
                    bytes,
                    from,
                },
            );
        }
    }
}

fn describe(entry: &Entry) -> (&'static str, u64) {
    match &entry.kind {
        EntryKind::Directory { .. } => ("directory", 0),
        EntryKind::File { len, .. } => ("file", *len),
        EntryKind::Symlink { target } => ("link", target.len() as u64),
        EntryKind::Link { .. } => ("hard link", 0),
        EntryKind::Whiteout => ("removed", 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_by_component() {
        assert!(is_at_or_below("/mnt/a", "/mnt/a"));
        assert!(is_at_or_below("/mnt/a/b", "/mnt/a"));
        assert!(!is_at_or_below("/mnt/ab", "/mnt/a"));
    }
}
