//! What a job leaves in its result cannot hurt its client: every row of the table of results, looked at where it comes home.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use crate::{
    ground::{NEEDS, PYTHON},
    harness::{Host, clean, end, requires},
    table::results,
};

const RESULTS: &str = include_str!("results.py");

/// What the rows call names that no table can hold.
fn real(row: &str) -> String {
    match row {
        "moves the cursor" => "moves\x1b]0;the-cursor\x07".to_owned(),
        "two lines" => "two\nlines".to_owned(),
        "255 letters" => "n".repeat(255),
        row => row.to_owned(),
    }
}

fn found(directory: &Path) -> BTreeMap<String, String> {
    let look = |name: String| {
        let path = directory.join(real(&name));
        let found =
            fs::symlink_metadata(path).map_or_else(|_| "nothing".to_owned(), |it| kind(&it));
        (name, found)
    };
    results().into_keys().map(look).collect()
}

fn kind(it: &Metadata) -> String {
    let kind = it.file_type();
    if kind.is_symlink() {
        return "a link".to_owned();
    }
    if kind.is_dir() {
        return "a directory".to_owned();
    }
    if kind.is_fifo() {
        return "a pipe".to_owned();
    }
    if kind.is_socket() {
        return "a socket".to_owned();
    }
    let special = if it.permissions().mode() & 0o7000 == 0 {
        ""
    } else {
        ", special mode"
    };
    let shared = if it.nlink() > 1 { ", shared" } else { "" };
    let hole = if it.len() > 1 << 30 && it.blocks() == 0 {
        ", a hole"
    } else {
        ""
    };
    format!("a file{special}{shared}{hole}")
}

#[test]
fn what_a_job_leaves_cannot_hurt_its_client() {
    if !requires(NEEDS) {
        return;
    }
    let host = Host::new();
    let outside = host.dir("outside").display().to_string();
    let show = host.path("show");
    for directory in ["show", "open"] {
        host.write(format!("{directory}/board.txt"), "a storyboard");
    }
    // In the open all of it is there, what comes late too.
    let mut open = clean(Command::new(PYTHON), &host.state(), host.root());
    end(open
        .current_dir(host.path("open"))
        .args(["-c", RESULTS, &outside]))
    .ok();
    thread::sleep(Duration::from_millis(1500));
    let control = found(&host.path("open"));
    let missing: Vec<_> = control
        .iter()
        .filter(|(_, found)| *found == "nothing")
        .collect();
    assert!(missing.is_empty(), "never made: {missing:?}");

    let ended = end(&mut host.run(
        &[(&show, "/mnt/central")],
        &["--quiet"],
        &[PYTHON, "-c", RESULTS, &outside],
    ));
    thread::sleep(Duration::from_millis(1500));
    if let Ok(directory) = std::env::var("SAFELIGHT_ESCAPES") {
        let text = serde_json::to_string(&found(&show)).expect("JSON");
        fs::write(Path::new(&directory).join("Results.json"), text).expect("answers");
    }
    assert_eq!(found(&show), results(), "{ended:?}");
    assert!(!ended.err.contains('\x1b'), "{ended:?}");
    assert_eq!(
        fs::read_to_string(show.join("board.txt")).expect("input"),
        "a storyboard"
    );
    assert_eq!(
        fs::metadata(show.join("board.txt")).expect("input").nlink(),
        1
    );
    assert_eq!(fs::read_dir(outside).expect("outside").count(), 0);
}
