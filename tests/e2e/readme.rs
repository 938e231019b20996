//! What the README and the operator's manual show is what happens.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;

use crate::harness::{Ended, Host, Running, SAFELIGHT, clean, end, requires};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn text(document: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(document))
        .unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// A command and the lines that it is said to print.
type Step = (String, Vec<String>);

/// The steps of a console block. A line that begins with `> ` goes on with the command before it.
fn steps(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        match (
            line.strip_prefix("$ "),
            line.strip_prefix("> "),
            steps.last_mut(),
        ) {
            (Some(command), _, _) => steps.push((command.to_owned(), Vec::new())),
            (_, Some(more), Some((command, _))) => *command = format!("{command}\n{more}"),
            (_, _, Some((_, printed))) => printed.push(line.to_owned()),
            (_, _, None) => panic!("the block begins with output: {line:?}"),
        }
    }
    steps
}

/// All console blocks of a document below a heading, in order.
fn sessions(document: &str, heading: &str) -> Vec<Vec<Step>> {
    let text = text(document);
    let (_, below) = text.split_once(heading).expect("the heading");
    let blocks = below.split("```console\n").skip(1);
    blocks
        .map(|block| steps(block.split_once("```").expect("its end").0))
        .collect()
}

/// The first one in the README.
fn session(heading: &str) -> Vec<Step> {
    sessions("README.md", heading).swap_remove(0)
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
    for (command, printed) in steps {
        let ended = end(&mut shell(&host, &format!("{{ {command}\n}} 2>&1"))).ok();
        let ours: Vec<String> = ended.out.lines().map(timeless).collect();
        let theirs: Vec<String> = printed.iter().map(|line| timeless(line)).collect();
        assert_eq!(ours, theirs, "$ {command}");
    }
}

/// A shell that finds the program under test by its name.
fn shell(host: &Host, script: &str) -> Command {
    let programs = Path::new(SAFELIGHT).parent().expect("directory");
    let mut shell = clean(Command::new("sh"), &host.state(), host.root());
    shell.env(
        "PATH",
        format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display()),
    );
    shell.current_dir(host.root()).stdin(Stdio::null());
    shell.args(["-c", script]);
    shell
}

/// What is other on each host: addresses, and where everything is.
struct Place {
    host: Host,
    ports: Vec<(&'static str, String)>,
}

impl Place {
    fn new(shown: [&'static str; 2]) -> Self {
        // Both are held until both are known, so that they differ.
        let listen = |_| TcpListener::bind("127.0.0.1:0").expect("port");
        let held = shown.map(listen);
        let port = |it: &TcpListener| it.local_addr().expect("address").port().to_string();
        Self {
            host: Host::new(),
            ports: shown.into_iter().zip(held.iter().map(port)).collect(),
        }
    }

    /// A command of the manual as it works here.
    fn here(&self, command: &str) -> String {
        let change = |text: String, (shown, ours): &(&str, String)| text.replace(shown, ours);
        self.ports.iter().fold(command.to_owned(), change)
    }

    /// What was printed here as the manual shows it, with ids and fingerprints that say nothing.
    fn shown(&self, line: &str) -> String {
        let root = self.host.root().display().to_string();
        let line = line.replace(&root, "/srv/farm");
        let change = |text: String, (shown, ours): &(&str, String)| text.replace(ours, shown);
        let line = self.ports.iter().fold(line, change);
        let lengths = |word: &str| word.split('-').map(str::len).collect::<Vec<_>>();
        let quiet = |word: &str| match lengths(word)[..] {
            [3, 16] if word.starts_with("job-") => "JOB".to_owned(),
            [4, 4, 4, 4, 4, 4, 4, 4] => "FINGERPRINT".to_owned(),
            _ => word.to_owned(),
        };
        let words = line.split(' ').map(|word| match word.strip_suffix(':') {
            Some(bare) => quiet(bare) + ":",
            None => quiet(word),
        });
        timeless(&words.collect::<Vec<_>>().join(" "))
    }
}

/// Two sites, from nothing to a result that came home, by the commands of the manual and nothing else.
#[test]
fn two_sites_are_brought_up_as_the_manual_shows() {
    if !requires(&["root", "fuse", "userns", "landlock"]) {
        return;
    }
    let place = Place::new(["7300", "7301"]);
    let mut served: Vec<Running> = Vec::new();
    for (command, printed) in sessions("docs/sites.md", "# Sites").into_iter().flatten() {
        let here = place.here(&command);
        if let Some(daemon) = here.strip_suffix(" &") {
            served.push(Running::start(&mut shell(
                &place.host,
                &format!("exec {daemon}"),
            )));
            continue;
        }
        let said = |ended: Ended| ended.out.lines().map(|line| place.shown(line)).collect();
        let ours: Vec<String> =
            said(end(&mut shell(&place.host, &format!("{{ {here}\n}} 2>&1"))).ok());
        let theirs: Vec<String> = printed.iter().map(|line| place.shown(line)).collect();
        assert_eq!(ours, theirs, "$ {command}");
    }
    assert_eq!(served.len(), 3, "two sites and a node are served");
    for daemon in served.into_iter().rev() {
        daemon.signal(Signal::SIGTERM);
        daemon.end();
    }
}

/// The words that the manual explains are said somewhere.
#[test]
fn what_the_manual_explains_is_said_by_the_program() {
    let mut source = String::new();
    let mut next = vec![
        Path::new(ROOT).join("src"),
        Path::new(ROOT).join("vfs/bundle/src"),
    ];
    while let Some(folder) = next.pop() {
        for entry in fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                next.push(path);
            } else {
                source += &fs::read_to_string(&path).expect("source");
            }
        }
    }
    let text = text("docs/sites.md");
    let (_, below) = text.split_once("## What it says").expect("the heading");
    let rows = below.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let mut explained = 0;
    for row in rows {
        let cell = row.split('|').nth(1).expect("a cell");
        let said: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!said.is_empty(), "{row}");
        for part in said.iter().flat_map(|it| it.split('…')) {
            assert!(source.contains(part), "{row:?}: nobody says {part:?}");
        }
        explained += 1;
    }
    assert!(explained >= 10, "the manual explains what the program says");
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
        "docs/claims.md",
        "docs/format.md",
        "docs/sites.md",
        "docs/threats.md",
    ] {
        let path = Path::new(ROOT).join(document);
        for link in text(document)
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
