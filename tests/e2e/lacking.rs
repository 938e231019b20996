//! A wall that this kernel cannot build is an error that names it: a job never runs with less than its policy requires.

use std::process::Command;

use crate::harness::{Ended, Host, SAFELIGHT, clean, end, requires};

/// Runs the program on a kernel without a feature.
fn without(host: &Host, feature: &str, arguments: &[&str]) -> Ended {
    let mut command = clean(Command::new(SAFELIGHT), &host.state(), host.root());
    command.args(["__without", feature, "--", SAFELIGHT]);
    end(command.args(arguments))
}

/// A feature that can be taken away, and the feature that is then named.
const FEATURES: [(&str, &str); 5] = [
    ("landlock", "landlock"),
    ("seccomp", "seccomp"),
    ("user-namespace", "user-namespace"),
    ("namespaces", "namespaces"),
    ("network-namespace", "network-namespace"),
];

#[test]
fn a_missing_wall_is_named_and_nothing_runs() {
    if !requires(&["fuse", "userns", "landlock"]) {
        return;
    }
    let host = Host::new();
    host.write("show/board.txt", "a storyboard");
    let central = format!("{}:/mnt/central", host.path("show").display());
    let run = [
        "run",
        "--central",
        &central,
        "--",
        "sh",
        "-c",
        "echo ran; cp board.txt copy.txt",
    ];
    for (taken, named) in FEATURES {
        let ended = without(&host, taken, &run).failed(78);
        let begin = format!("error: this host cannot enforce {named}: ");
        assert!(ended.err.starts_with(&begin), "without {taken}: {ended:?}");
        assert!(
            ended.err.lines().any(|line| line.starts_with("hint: ")),
            "{ended:?}"
        );
        assert_eq!(ended.out, "", "without {taken}");
    }
    // Nothing was sealed, submitted or run on the way.
    assert!(!host.path("show/copy.txt").exists());
    assert!(!host.path("state/jobs").exists(), "a job was submitted");
    // The same with everything there runs.
    let ended = end(host.safelight().args(run)).ok();
    assert_eq!(ended.out, "ran\n");
    assert!(host.path("show/copy.txt").exists());
}

#[test]
fn the_doctor_names_what_is_missing() {
    if !requires(&["fuse", "userns", "landlock"]) {
        return;
    }
    let host = Host::new();
    for (taken, named) in FEATURES {
        let ended = without(&host, taken, &["doctor", "--json"]).failed(78);
        let report: serde_json::Value = serde_json::from_str(&ended.out).expect("JSON");
        assert_eq!(report["ready"], false, "without {taken}");
        let status = &report["features"][named];
        assert_ne!(status["status"], "active", "without {taken}: {status}");
        for advice in ["why", "remedy"] {
            assert!(
                status[advice].as_str().is_some_and(|text| !text.is_empty()),
                "{status}"
            );
        }
    }
    let report = end(host.safelight().args(["doctor", "--json"])).ok();
    let report: serde_json::Value = serde_json::from_str(&report.out).expect("JSON");
    assert_eq!(report["ready"], true);
}

#[test]
fn a_policy_that_can_do_without_says_so_and_one_that_cannot_does_not_run() {
    if !requires(&["fuse", "userns", "landlock"]) {
        return;
    }
    let host = Host::new();
    let policy = |wanted: &str| {
        format!(
            "schema = 1\nname = \"lesser\"\nsummary = \"for a test\"\nextends = [\"generic\"]\n[features]\nlandlock = \"{wanted}\"\n"
        )
    };
    let path = host.write("lesser.toml", policy("best-effort"));
    let run = [
        "run",
        "--quiet",
        "--policy",
        path.to_str().expect("UTF-8"),
        "--",
        "echo",
        "ran",
    ];
    let ended = without(&host, "landlock", &run).ok();
    assert_eq!(ended.out, "ran\n");
    host.write("lesser.toml", policy("require"));
    without(&host, "landlock", &run).failed(78);
}
