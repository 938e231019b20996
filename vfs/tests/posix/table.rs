//! docs/semantics.md: every row of its tables is tried, and nothing is tried that is not in them.

use std::{collections::BTreeSet, fs, path::Path};

use crate::mounting::{Bench, can_mount, command, finish, noise, run};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/posix.py");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/semantics.md");

/// The rows of the table below a heading; code marks taken away.
pub(crate) fn rows(heading: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(DOCUMENT).unwrap();
    let below = text.split_once(heading).unwrap().1;
    let lines = below.lines().skip_while(|line| !line.starts_with('|'));
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split(" | ");
        cells
            .map(|cell| cell.trim().trim_matches('`').to_owned())
            .collect()
    };
    lines
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(cells)
        .collect()
}

/// The rows that the script has, each with whether a view differs in it.
fn scripted() -> BTreeSet<(String, bool)> {
    let said = run(&mut command("python3", &[&SCRIPT, &"--rows"]));
    let row = |line: &str| {
        line.split_once(' ')
            .map(|(name, how)| (name.to_owned(), how == "differs"))
    };
    said.lines().filter_map(row).collect()
}

fn try_rows(at: &Path, rows: &BTreeSet<(String, bool)>) {
    for (name, _) in rows {
        let place = at.join(name);
        fs::create_dir(&place).unwrap();
        assert_eq!(
            run(&mut command("python3", &[&SCRIPT, &place, name])),
            format!("ok {name}\n")
        );
    }
}

#[test]
fn what_the_document_says_of_operations_is_so() {
    if !can_mount("what_the_document_says") {
        return;
    }
    let scripted = scripted();
    let documented: BTreeSet<(String, bool)> = rows("## Operations")
        .into_iter()
        .map(|row| (row[0].clone(), row[3] != "no"))
        .collect();
    assert_eq!(documented, scripted);

    let mut bench = Bench::new();
    bench.quota.bytes = 1 << 30;
    fs::write(bench.at("in/sealed"), noise(100_000)).unwrap();
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    try_rows(&mounted.at, &scripted);
    mounted.end();
}

/// The control: what is said to be as on ext4 is what ext4 does.
#[test]
fn what_the_document_says_of_ext4_is_so() {
    let bench = Bench::new();
    let at = bench.at("copy");
    let kind = finish(&mut command("stat", &[&"-f", &"-c", &"%T", &at]));
    let kind = String::from_utf8_lossy(&kind.stdout).trim().to_owned();
    if kind != "ext2/ext3" {
        println!(
            "skipped: what_the_document_says_of_ext4 needs a temporary directory on ext4, and this is {kind}"
        );
        return;
    }
    let same = scripted()
        .into_iter()
        .filter(|(_, differs)| !differs)
        .collect();
    try_rows(&at, &same);
}
