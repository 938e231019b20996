//! What the README shows is what happens.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::harness::{Host, SAFELIGHT, clean, end, requires};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn readme() -> String {
    fs::read_to_string(Path::new(ROOT).join("README.md")).expect("README.md")
}

/// A command and the lines that it is said to print.
type Step = (String, Vec<String>);

/// The first console block below a heading.
fn session(heading: &str) -> Vec<Step> {
    let text = readme();
    let (_, below) = text.split_once(heading).expect("the heading");
    let (_, block) = below.split_once("```console\n").expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((command.to_owned(), Vec::new())),
            (None, Some((_, printed))) => printed.push(line.to_owned()),
            (None, None) => panic!("the block begins with output: {line:?}"),
        }
    }
    steps
}

/// A line without what differs from day to day: a time is `TIME`, whatever it is.
fn timeless(line: &str) -> String {
    let time = |word: &str| {
        let shape: String = word
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        shape == "0000-00-00T00:00:00Z"
    };
    let words = line
        .split(' ')
        .map(|word| if time(word) { "TIME" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_time_is_a_time_and_nothing_else_is() {
    assert_eq!(timeless("1  2026-01-02T03:04:05Z  a"), "1  TIME  a");
    assert_eq!(timeless("2026-01-02T03:04:05  x"), "2026-01-02T03:04:05  x");
}

#[test]
fn the_session_prints_what_the_readme_shows() {
    if !requires(&["fuse", "userns", "landlock"]) {
        return;
    }
    let steps = session("## A session");
    assert!(
        (2..=5).contains(&steps.len()),
        "a session that nobody tires of: {steps:?}"
    );
    let shown = steps
        .iter()
        .filter(|(_, printed)| !printed.is_empty())
        .count();
    assert!(shown >= 3, "the block shows what comes out");
    let host = Host::new();
    let programs = Path::new(SAFELIGHT)
        .parent()
        .expect("directory")
        .display()
        .to_string();
    for (command, printed) in steps {
        let mut shell = clean(Command::new("sh"), &host.state(), host.root());
        shell.env("PATH", format!("{programs}:/usr/local/bin:/usr/bin:/bin"));
        shell.current_dir(host.root()).stdin(Stdio::null());
        let ended = end(shell.arg("-c").arg(format!("{{ {command}\n}} 2>&1"))).ok();
        let ours: Vec<String> = ended.out.lines().map(timeless).collect();
        let theirs: Vec<String> = printed.iter().map(|line| timeless(line)).collect();
        assert_eq!(ours, theirs, "$ {command}");
    }
}

#[test]
fn the_two_commands_of_a_newcomer_exist() {
    let makefile = fs::read_to_string(Path::new(ROOT).join("Makefile")).expect("Makefile");
    let commands = session("## Two commands");
    assert_eq!(commands.len(), 2, "{commands:?}");
    for (command, _) in commands {
        let target = command.strip_prefix("make ").expect("a make target");
        let begins = |line: &str| line.starts_with(&format!("{target}:"));
        assert!(
            makefile.lines().any(begins),
            "the Makefile has no target {target}"
        );
    }
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut seen = 0;
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "docs/threats.md",
        "docs/format.md",
    ] {
        let path = Path::new(ROOT).join(document);
        let text = fs::read_to_string(&path).expect("document");
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            let file = link.split('#').next().unwrap_or(link);
            let target = path.parent().expect("directory").join(file);
            assert!(
                target.exists(),
                "{document} links to {link}, which is not there"
            );
            seen += 1;
        }
    }
    assert!(seen >= 3, "the README links to the other documents");
}
