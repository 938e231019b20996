//! The table of escapes in `docs/threats.md`.

use std::{collections::BTreeMap, fs, path::Path};

use crate::kernel::{is_lacking, landlock_abi};

/// Where an act is tried: a column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Session,
    Namespaces,
    Landlock,
    Seccomp,
    User,
    Capabilities,
}

impl Place {
    pub(crate) const ALL: [Self; 6] = [
        Self::Session,
        Self::Namespaces,
        Self::Landlock,
        Self::Seccomp,
        Self::User,
        Self::Capabilities,
    ];
}

/// What came of each attempt.
pub(crate) type Said = BTreeMap<String, String>;

/// The cell of an act that this wall alone does not refuse.
pub(crate) const THROUGH: &str = "–";

/// Rows of the escapes by name, each with its cells.
pub(crate) fn rows() -> BTreeMap<String, Vec<String>> {
    let rows = section("## Escapes");
    for (name, cells) in &rows {
        assert_eq!(cells.len(), Place::ALL.len(), "{name}");
    }
    rows
}

/// What a job leaves, by name, and what is there of it at home.
pub(crate) fn results() -> BTreeMap<String, String> {
    let only = |(name, mut cells): (String, Vec<String>)| (name, cells.remove(0));
    section("## Results").into_iter().map(only).collect()
}

fn section(heading: &str) -> BTreeMap<String, Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/threats.md");
    let text = fs::read_to_string(path).expect("docs/threats.md");
    let (_, section) = text.split_once(heading).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut rows = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let name = cells.next().unwrap_or_default().trim_matches('`');
        let cells: Vec<String> = cells.map(str::to_owned).collect();
        assert!(
            rows.insert(name.to_owned(), cells).is_none(),
            "{name} twice"
        );
    }
    rows
}

/// The Landlock ABI of the kernel whose answers the table has. An older one refuses with other numbers, since another wall does it; that it refuses is
/// what counts there.
pub(crate) const ABI: u64 = 7;

/// The Landlock ABI with which an act began to be refused, for those that the first did not.
pub(crate) fn landlock_since() -> BTreeMap<String, u64> {
    let since = |(name, cells): (String, Vec<String>)| {
        let abi = cells[0].parse().expect("an ABI");
        (name, abi)
    };
    section("## Older Landlock")
        .into_iter()
        .map(since)
        .collect()
}

fn refused(said: &str) -> bool {
    said != THROUGH && said != "not tried"
}

/// True if both are a refusal, on a kernel that is older than the table's.
fn refused_otherwise(cell: &str, found: &str) -> bool {
    landlock_abi() < ABI && refused(cell) && refused(found)
}

/// Compares what Landlock alone refused, as a kernel with this ABI has it, with its column.
#[track_caller]
pub(crate) fn compare_landlock(abi: u64, said: &Said) {
    let since = landlock_since();
    let rows = rows();
    let unknown: Vec<_> = since
        .keys()
        .filter(|name| !rows.contains_key(*name))
        .collect();
    assert!(unknown.is_empty(), "no such act: {unknown:?}");
    let mut wrong = Vec::new();
    for (name, cells) in rows {
        let cell = cells[Place::Landlock as usize].trim_matches('`');
        let found = match said.get(&name).map_or("not tried", String::as_str) {
            "done" => THROUGH,
            found => found,
        };
        let right = match since.get(&name) {
            Some(since) if *since > abi => found == THROUGH,
            // Another kernel may refuse it in other words, or more than the table's.
            _ if landlock_abi() < ABI => cell == THROUGH || refused(found),
            _ => cell == found,
        };
        if !right && !is_lacking(&name) {
            wrong.push(format!("{name}: {found}, the table says {cell}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "Landlock ABI {abi}:\n{}",
        wrong.join("\n")
    );
}

/// Compares a column with what came of the attempts there. `SAFELIGHT_ESCAPES` names a directory into which the answers are written.
#[track_caller]
pub(crate) fn compare(place: Place, said: &Said) {
    if let Ok(directory) = std::env::var("SAFELIGHT_ESCAPES") {
        let test = std::thread::current()
            .name()
            .unwrap_or("test")
            .replace(':', "_");
        fs::write(
            Path::new(&directory).join(format!("{place:?}-{test}.json")),
            serde_json::to_string(said).expect("JSON"),
        )
        .expect("answers");
    }
    let mut wrong = Vec::new();
    for (name, cells) in rows() {
        let cell = &cells[place as usize];
        let found = match said.get(&name).map(String::as_str) {
            Some("done") => THROUGH,
            Some(found) => found,
            None => "not tried",
        };
        let cell = cell.trim_matches('`');
        if cell != found && !refused_otherwise(cell, found) && !is_lacking(&name) {
            wrong.push(format!("{name}: {found}, the table says {cell}"));
        }
    }
    assert!(wrong.is_empty(), "{place:?}:\n{}", wrong.join("\n"));
}
