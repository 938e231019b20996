//! The arrows between our crates, where the danger is kept, and what the documents say of both.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rows of the first table below a heading: the text of their cells.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let text = text(document);
    let (_, below) = text
        .split_once(heading)
        .unwrap_or_else(|| panic!("{document} has no {heading:?}"));
    let lines = below.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    let cells = |line: &str| {
        let inner = line.trim().trim_matches('|');
        inner
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    rows.map(cells).collect()
}

/// Which of our crates each of our crates may use: `(folder, normal dependencies, dependencies of its tests)`.
fn declared() -> BTreeMap<String, (String, BTreeSet<String>, BTreeSet<String>)> {
    let said = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .current_dir(ROOT)
        .output()
        .expect("cargo metadata");
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let packages = said["packages"].as_array().expect("packages");
    let ours = |kind: serde_json::Value, package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        let here = dependencies
            .iter()
            .filter(|one| one["kind"] == kind && !one["path"].is_null());
        here.filter_map(|one| one["name"].as_str().map(str::to_owned))
            .collect()
    };
    let package = |package: &serde_json::Value| {
        let name = package["name"].as_str().expect("name").to_owned();
        let manifest = Path::new(package["manifest_path"].as_str().expect("path"));
        let folder = manifest
            .parent()
            .and_then(|folder| folder.strip_prefix(ROOT).ok());
        let folder = folder
            .expect("a folder of this repository")
            .display()
            .to_string();
        let tests = ours("dev".into(), package);
        (
            name,
            (folder, ours(serde_json::Value::Null, package), tests),
        )
    };
    packages.iter().map(package).collect()
}

#[test]
fn arrows_are_those_of_the_architecture() {
    let declared = declared();
    let all: BTreeSet<String> = declared
        .keys()
        .filter(|name| *name != "safelight")
        .cloned()
        .collect();
    let rows = table("ARCHITECTURE.md", "## Parts, and who may know whom");
    assert_eq!(
        rows.len(),
        declared.len(),
        "each crate has its row, and each row its crate"
    );
    for row in rows {
        let [folder, name, _, may] = row.as_slice() else {
            panic!("not four cells: {row:?}")
        };
        let folder = folder.trim_matches('`');
        let may: BTreeSet<String> = match may.as_str() {
            "all" => all.clone(),
            "nothing of ours" => BTreeSet::new(),
            some => some
                .split(", ")
                .map(|short| format!("safelight-{short}"))
                .collect(),
        };
        let Some((at, uses, tests)) = declared.get(name) else {
            panic!("there is no crate {name}")
        };
        let expected = if name == "safelight" {
            ""
        } else {
            folder.trim_end_matches('/')
        };
        assert_eq!(at, expected, "{name} is where the table says");
        assert_eq!(*uses, may, "{name} uses exactly what the table says");
        assert!(
            tests.is_subset(&may),
            "the tests of {name} use {tests:?}, more than {may:?}"
        );
    }
}

/// What the arrows are for, said once more without the table: who plans the work cannot open it.
#[test]
fn the_scheduler_cannot_reach_a_key() {
    let declared = declared();
    let mut reached = BTreeSet::new();
    let mut next = vec!["safelight-scheduler".to_owned()];
    while let Some(name) = next.pop() {
        next.extend(
            declared[&name]
                .1
                .iter()
                .filter(|used| !reached.contains(*used))
                .cloned(),
        );
        reached.insert(name);
    }
    for opens in ["safelight-seal", "safelight-vfs", "safelight-worker"] {
        assert!(
            !reached.contains(opens),
            "the scheduler reaches {opens}: {reached:?}"
        );
    }
    // The same walk does find it where it is.
    assert!(declared["safelight-vfs"].1.contains("safelight-seal"));
}

/// Every source file of ours, by its path in the repository.
fn sources() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let folders = [
        "src",
        "policies",
        "vfs",
        "worker",
        "scheduler",
        "tests",
        "fuzz/src",
    ];
    let mut next: Vec<PathBuf> = folders.map(|folder| Path::new(ROOT).join(folder)).into();
    while let Some(folder) = next.pop() {
        for entry in fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                next.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(ROOT).expect("inside").to_owned();
                found.insert(inside, fs::read_to_string(&path).expect("source"));
            }
        }
    }
    found
}

/// Source without comments: what a line says after `//` is for people.
fn code(source: &str) -> impl Iterator<Item = &str> {
    source
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
}

fn files_with(word: fn(&str) -> bool) -> BTreeSet<String> {
    let sources = sources();
    let has = sources.iter().filter(|(_, source)| code(source).any(word));
    has.map(|(path, _)| path.display().to_string()).collect()
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

#[test]
fn fuser_is_imported_by_the_adapter_alone() {
    let imports = |line: &str| line.contains("use fuser") || line.contains("fuser::");
    let mut files = files_with(imports);
    files.remove("tests/e2e/architecture.rs");
    assert_eq!(
        files,
        set(&[
            "vfs/src/fuse.rs",
            "vfs/src/fuse/convert.rs",
            "vfs/src/fuse/requests.rs"
        ])
    );
}

#[test]
fn unsafe_code_is_in_one_file() {
    let begins = |line: &str| {
        [
            "unsafe {",
            "unsafe fn",
            "unsafe impl",
            "unsafe extern",
            "allow(unsafe_code",
        ]
        .iter()
        .any(|danger| line.contains(danger))
    };
    let mut files = files_with(begins);
    files.remove("tests/e2e/architecture.rs");
    assert_eq!(files, set(&["worker/src/sys.rs"]));
}

/// `forbid` cannot be undone further down; only the crate with the one file must do with `deny`.
#[test]
fn every_other_crate_forbids_unsafe_code() {
    let sources = sources();
    for (name, (folder, _, _)) in declared() {
        let root = if name == "safelight" {
            "src/main.rs".into()
        } else {
            format!("{folder}/src/lib.rs")
        };
        let source = &sources[Path::new(&root)];
        let forbids = source.contains("#![forbid(unsafe_code)]");
        assert_eq!(forbids, name != "safelight-worker", "{root}");
    }
}

/// All test functions, each as `part::function` for every part of the path of its file.
fn tests_by_name() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (path, source) in sources() {
        let mut lines = source.lines();
        while let Some(line) = lines.next() {
            let function = |line: &str| {
                let line = line.trim_start();
                let line = line.strip_prefix("async ").unwrap_or(line);
                let rest = line.strip_prefix("fn ")?;
                rest.split(['(', '<']).next().map(str::to_owned)
            };
            // In a `proptest!` block the attribute stands with other indentation, but it stands.
            if !matches!(line.trim(), "#[test]" | "#[tokio::test]") {
                continue;
            }
            let Some(function) = lines.by_ref().take(4).find_map(function) else {
                continue;
            };
            for part in path.with_extension("").iter() {
                names.insert(format!("{}::{function}", part.display()));
            }
        }
    }
    names
}

/// The tests that a cell names; panics if one does not exist.
fn named<'a>(cell: &'a str, known: &BTreeSet<String>, whose: &str) -> Vec<&'a str> {
    let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
    assert!(!named.is_empty(), "{whose} names no test");
    for name in &named {
        assert!(
            known.contains(*name),
            "{whose} names {name}, which is no test"
        );
    }
    named
}

#[test]
fn every_claim_is_shown_by_a_test_that_exists() {
    let known = tests_by_name();
    let mut claims = BTreeSet::new();
    for row in table("docs/claims.md", "# Claims") {
        let [numbers, part, how, tests] = row.as_slice() else {
            panic!("not four cells: {row:?}")
        };
        assert!(!part.is_empty() && !how.is_empty(), "{row:?}");
        claims.extend(
            numbers
                .split(", ")
                .map(|number| number.parse::<u32>().expect("a number")),
        );
        named(tests, &known, part);
    }
    assert_eq!(
        claims.into_iter().collect::<Vec<_>>(),
        (1..=20).collect::<Vec<_>>()
    );
}

#[test]
fn every_threat_names_a_test_that_exists() {
    let known = tests_by_name();
    let rows = table("docs/threats.md", "## Rows");
    assert!(
        !rows.is_empty(),
        "a table of threats without a row defends nothing"
    );
    let mut numbers = BTreeSet::new();
    for row in &rows {
        let [number, tries, wall, _, tests] = row.as_slice() else {
            panic!("not five cells: {row:?}")
        };
        assert!(
            numbers.insert(number.clone()),
            "the number {number} is given twice"
        );
        assert!(!tries.is_empty() && !wall.is_empty(), "{row:?}");
        named(tests, &known, &format!("row {number}"));
    }
}

#[test]
fn every_control_names_a_test_that_exists() {
    let known = tests_by_name();
    let rows = table("docs/controls.md", "# Controls");
    assert!(rows.len() > 10, "{rows:?}");
    for row in &rows {
        let [control, asked, enforced, tests, operator] = row.as_slice() else {
            panic!("not five cells: {row:?}")
        };
        assert!(!asked.is_empty() && !enforced.is_empty() && !operator.is_empty());
        named(tests, &known, control);
    }
}

/// A code in the source is in the manual with the same meaning, and the other way round.
#[test]
fn exit_codes_are_documented() {
    let source = text("src/failure.rs");
    let (_, table_of_code) = source
        .split_once("fn exit_code(self) -> u8")
        .expect("the table");
    let (table_of_code, _) = table_of_code.split_once("\n    }\n").expect("its end");
    let row = |line: &str| {
        let (kind, code) = line.trim().strip_prefix("Self::")?.split_once(" => ")?;
        Some((code.trim_end_matches(',').to_owned(), kind.to_owned()))
    };
    let ours: BTreeMap<String, String> = table_of_code.lines().filter_map(row).collect();
    assert!(ours.len() >= 6, "{ours:?}");
    let rows = table("docs/exit-codes.md", "# Exit codes");
    let documented: BTreeMap<String, String> = rows
        .iter()
        .filter(|row| row[1] != "-")
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    assert_eq!(documented, ours);
}
