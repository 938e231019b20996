//! What the commands say after a real job: data on standard output, talk on standard error, `--json` for scripts.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Ended, Host, below_directory, end, mounts_of, requires};

const NEEDS: &[&str] = &["fuse", "userns", "landlock"];

const CONFIG: i32 = 3;
const DENIED: i32 = 4;

/// Reads one file, writes another into a new directory, does not find a third, is denied a fourth, and prints on both streams.
const SCRIPT: &str = "tr a-z A-Z < board.txt > loud.txt; mkdir out; echo frame > out/frame.png; \
                      cat missing.txt; cat private/key.pem; echo done; echo oops >&2; exit 0";

/// A policy that keeps `private` from the job.
pub(crate) const POLICY: &str = "schema = 1\nname = \"own\"\nsummary = \"no private files\"\nextends = [\"generic\"]\n\
                      [[central.deny]]\nglob = \"private/**\"\nreason = \"not for renderers\"\n";

/// A host on which one job has run, with its id.
struct After {
    host: Host,
    job: String,
}

impl After {
    fn new() -> Option<Self> {
        if !requires(NEEDS) {
            return None;
        }
        let host = Host::new();
        let show = host.dir("show");
        host.write("show/board.txt", "a secret storyboard\n");
        host.write("show/private/key.pem", "no\n");
        let policy = host.write("own.toml", POLICY).display().to_string();
        let options = ["--policy", policy.as_str(), "--json"];
        let ended = end(&mut host.run(&[(&show, "/mnt/c")], &options, &["sh", "-c", SCRIPT])).ok();
        let said = ended.said();
        let job = said["job"].as_str().expect("job").to_owned();
        assert_eq!(said["cause"], serde_json::json!({"exited": {"code": 0}}));
        assert_eq!(said["stored"].as_array().map(Vec::len), Some(2), "{said}");
        Some(Self { host, job })
    }

    fn ask(&self, words: &[&str]) -> Ended {
        end(self.host.safelight().args(words))
    }

    /// The rows of a `--json` answer.
    #[track_caller]
    fn rows(&self, words: &[&str]) -> Vec<Value> {
        let said = self.ask(words).ok();
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        said.out.lines().map(parse).collect()
    }

    fn log(&self) -> PathBuf {
        let all = below_directory(&self.host.path("state/audit")).expect("audit");
        let is_log = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "log");
        all.into_iter().find(is_log).expect("log")
    }
}

fn by_path(rows: &[Value]) -> BTreeMap<&str, &Value> {
    rows.iter()
        .filter_map(|row| Some((row["path"].as_str()?, row)))
        .collect()
}

#[test]
fn a_job_is_listed_and_shown() {
    let Some(after) = After::new() else { return };
    let list = after.rows(&["job", "list", "--json"]);
    assert_eq!(list.len(), 1);
    assert_eq!(
        (&list[0]["job"], &list[0]["state"]),
        (&after.job.as_str().into(), &"succeeded".into())
    );
    assert_eq!(list[0]["policy"], "own");
    let shown = &after.rows(&["job", "show", "last", "--json"])[0];
    assert_eq!((&shown["files"], &shown["bytes"]), (&2.into(), &23.into()));
    let attempt = &shown["attempts"][0];
    assert_eq!(
        (&attempt["state"], &attempt["cause"]),
        (&"committed".into(), &"exited with code 0".into())
    );
    assert_eq!(
        (&attempt["files"], &attempt["bytes"]),
        (&2.into(), &26.into())
    );
    // The beginning of an id is as good as the whole, and a person reads the same.
    let text = after.ask(&["job", "show", &after.job[..9]]).ok();
    assert!(
        text.out.contains(&after.job)
            && text
                .out
                .contains("attempt 1      committed: exited with code 0; wrote 2 files, 26 B"),
        "{text:?}"
    );
    let table = after.ask(&["job", "list"]).ok();
    assert!(
        table.out.starts_with("JOB ") && table.out.contains(&after.job),
        "{table:?}"
    );
}

#[test]
fn what_a_job_printed_and_wrote_is_told() {
    let Some(after) = After::new() else { return };
    let logs = after.ask(&["job", "logs"]).ok();
    for line in [
        "done",
        "oops",
        "cat: missing.txt: No such file or directory",
        "cat: private/key.pem: Permission denied",
    ] {
        assert!(
            logs.out.lines().any(|said| said == line),
            "{line:?} in {logs:?}"
        );
    }
    let outputs = after.rows(&["job", "outputs", "--json"]);
    let outputs = by_path(&outputs);
    let kinds: Vec<_> = outputs
        .iter()
        .map(|(path, row)| {
            (
                *path,
                row["kind"].as_str().unwrap_or_default(),
                row["bytes"].as_u64(),
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            ("/mnt/c/loud.txt", "file", Some(20)),
            ("/mnt/c/out", "directory", None),
            ("/mnt/c/out/frame.png", "file", Some(6))
        ]
    );
}

#[test]
fn what_a_job_touched_is_told() {
    let Some(after) = After::new() else { return };
    let files = after.rows(&["audit", "files", "--json"]);
    let files = by_path(&files);
    let board = files["/mnt/c/board.txt"];
    assert_eq!(
        (&board["reads"], &board["bytes_read"], &board["writes"]),
        (&1.into(), &20.into(), &0.into())
    );
    assert_eq!(board["programs"], serde_json::json!(["sh"]));
    assert_eq!(files["/mnt/c/loud.txt"]["bytes_written"], 20);
    assert!(
        !files.contains_key("/mnt/c/private/key.pem"),
        "denied is not touched"
    );
    let missing = after.rows(&["audit", "missing", "--json"]);
    assert_eq!(
        by_path(&missing).into_keys().collect::<Vec<_>>(),
        ["/mnt/c/missing.txt"]
    );
    let denied = after.rows(&["audit", "denied", "--json"]);
    assert!(!denied.is_empty());
    for row in &denied {
        assert!(
            row["path"]
                .as_str()
                .is_some_and(|path| path.starts_with("/mnt/c/private")),
            "{row}"
        );
        assert!(
            row["rule"]
                .as_str()
                .is_some_and(|rule| rule.contains("own.toml:")),
            "the rule is named: {row}"
        );
    }
    let table = after.ask(&["audit", "denied"]).ok();
    assert!(
        table.out.starts_with("TIME ") && table.out.contains("private"),
        "{table:?}"
    );
    let only = after.rows(&[
        "audit",
        "show",
        "--action",
        "open-read",
        "--path",
        "/mnt/c/*.txt",
        "--json",
    ]);
    assert_eq!(only.len(), 1, "{only:?}");
    assert_eq!(only[0]["path"], "/mnt/c/board.txt");
}

#[test]
fn every_act_of_ours_is_on_the_log_in_order() {
    let Some(after) = After::new() else { return };
    let rows = after.rows(&["audit", "show", "--json"]);
    let acts: Vec<&str> = rows
        .iter()
        .filter(|row| row["source"] != "view")
        .filter_map(|row| row["event"].as_str())
        .collect();
    assert_eq!(
        acts,
        [
            "packed",
            "leased",
            "key-released",
            "started",
            "heard",
            "held",
            "committed",
            "ended",
            "delivered"
        ]
    );
    let numbers: Vec<u64> = rows.iter().filter_map(|row| row["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=rows.len() as u64).collect::<Vec<_>>());
    let position = |event: &str| {
        rows.iter()
            .position(|row| row["event"] == event)
            .expect("event")
    };
    assert!(
        position("key-released") < position("exec"),
        "no key, no command"
    );
    let to = after.host.path("records.jsonl");
    after
        .ask(&["audit", "export", "--to", to.to_str().expect("path")])
        .ok();
    let exported = fs::read_to_string(&to).expect("export");
    assert_eq!(exported, after.ask(&["audit", "show", "--json"]).ok().out);
}

#[test]
fn a_log_is_verified_and_a_flipped_byte_is_named_by_its_record() {
    let Some(after) = After::new() else { return };
    let whole = &after.rows(&["audit", "verify", "--json"])[0];
    assert_eq!(
        (&whole["whole"], &whole["findings"]),
        (&true.into(), &serde_json::json!([]))
    );
    assert_eq!(
        whole["records"], whole["anchored"],
        "the ledger has noted all of it"
    );
    let log = after.log();
    let bytes = fs::read(&log).expect("log");
    let mut changed = bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 0x20;
    fs::write(&log, &changed).expect("log");
    let ended = after.ask(&["audit", "verify", "--json"]).failed(DENIED);
    let said: Value = serde_json::from_str(&ended.out).expect("JSON");
    assert_eq!(said["whole"], false);
    let finding = said["findings"][0].as_str().expect("finding");
    let number: u64 = finding
        .split_once("record ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
        .expect("a record's number");
    assert!(
        number > 1 && number < whole["records"].as_u64().expect("records"),
        "{finding}"
    );
    assert!(
        ended
            .err
            .contains(&format!("the log of {} was changed", after.job)),
        "{ended:?}"
    );
    // Nothing of it is believed by the other questions either.
    after.ask(&["audit", "files"]).failed(DENIED);
    fs::write(&log, &bytes).expect("log");
    after.ask(&["audit", "verify"]).ok();
    fs::remove_file(&log).expect("log");
    let gone = after.ask(&["audit", "verify"]).failed(DENIED);
    assert!(gone.err.contains("its file is gone"), "{gone:?}");
}

/// A view stands until it is unmounted, read-only, and who looks is on the job's log before what they see.
#[test]
fn a_view_is_mounted_looked_at_and_unmounted() {
    let Some(after) = After::new() else { return };
    let at = after.host.dir("look");
    let path = at.to_str().expect("path");
    let mounted = after.ask(&["view", "mount", "last", path]).ok();
    assert!(mounted.err.contains("read-only at"), "{mounted:?}");
    let stands = || {
        mounts_of(i32::try_from(std::process::id()).expect("pid"))
            .into_iter()
            .any(|mount| Path::new(&mount.at) == at)
    };
    assert!(stands(), "the positive control");
    assert_eq!(
        fs::read_to_string(at.join("board.txt")).expect("input"),
        "a secret storyboard\n"
    );
    assert_eq!(
        fs::read_to_string(at.join("loud.txt")).expect("output"),
        "A SECRET STORYBOARD\n"
    );
    assert_eq!(
        fs::read_to_string(at.join("out/frame.png")).expect("output"),
        "frame\n"
    );
    let refused = fs::write(at.join("new.txt"), "x").expect_err("read-only");
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    assert!(end(Command::new("umount").arg(&at)).ok().err.is_empty());
    assert!(!stands());
    let until = Instant::now() + Duration::from_secs(10);
    let looked = loop {
        let rows = after.rows(&["audit", "show", "--json"]);
        // The serving process notes the log's end when the mount is gone.
        if after.ask(&["audit", "verify"]).code == Some(0)
            && rows
                .iter()
                .any(|row| row["source"] == "debug" && row["event"] == "close-read")
        {
            break rows;
        }
        assert!(Instant::now() < until, "{rows:#?}");
        thread::sleep(Duration::from_millis(50));
    };
    let debug: Vec<&Value> = looked
        .iter()
        .filter(|row| row["source"] == "debug")
        .collect();
    assert_eq!(debug[0]["event"], "debug-access");
    assert_eq!(debug[0]["uid"], nix::unistd::getuid().as_raw());
    assert!(
        debug
            .iter()
            .any(|row| row["path"] == "/mnt/c/loud.txt" && row["event"] == "open-read"),
        "{debug:#?}"
    );
    // A person who looks in is not the job.
    let files = after.rows(&["audit", "files", "--json"]);
    assert_eq!(by_path(&files)["/mnt/c/board.txt"]["reads"], 1);
}

#[test]
fn a_view_is_listed_with_what_was_sent_and_what_was_written() {
    let Some(after) = After::new() else { return };
    let rows = after.rows(&["view", "ls", "last", "--json"]);
    let rows = by_path(&rows);
    assert_eq!(
        (
            &rows["/mnt/c/board.txt"]["from"],
            &rows["/mnt/c/board.txt"]["bytes"]
        ),
        (&"sent".into(), &20.into())
    );
    assert_eq!(rows["/mnt/c/out/frame.png"]["from"], "written");
    let some = after.rows(&["view", "ls", "last", "/mnt/c/out", "--json"]);
    assert_eq!(
        by_path(&some).into_keys().collect::<Vec<_>>(),
        ["/mnt/c/out", "/mnt/c/out/frame.png"]
    );
    let inputs = after.rows(&["view", "ls", "last", "--inputs", "--json"]);
    assert!(!by_path(&inputs).contains_key("/mnt/c/loud.txt"));
    let acts = after.rows(&["audit", "show", "--action", "debug-access", "--json"]);
    assert_eq!(acts.len(), 3, "each look is on the log");
}

#[test]
fn a_key_is_made_once_and_shown_without_its_secret() {
    let host = Host::new();
    end(host.safelight().args(["key", "new"])).ok();
    let shown = end(host.safelight().args(["key", "show", "--json"])).ok();
    let key: Value = serde_json::from_str(&shown.out).expect("JSON");
    for field in ["alias", "fingerprint", "verify_key", "kem_key", "file"] {
        assert!(
            key[field].as_str().is_some_and(|text| !text.is_empty()),
            "{field} in {key}"
        );
    }
    let secret = fs::read(host.path("state/client/identity.key")).expect("key file");
    for part in secret[16..112].chunks(32) {
        let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!shown.out.contains(&hex), "a secret is shown");
    }
    let again = end(host.safelight().args(["key", "new"])).failed(2);
    assert!(again.err.contains("has keys already"), "{again:?}");
    assert_eq!(
        fs::read(host.path("state/client/identity.key")).expect("key file"),
        secret
    );
}

#[test]
fn policies_are_listed_shown_checked_and_explained() {
    let host = Host::new();
    let ask = |words: &[&str]| end(host.safelight().args(words));
    let json =
        |words: &[&str]| -> Value { serde_json::from_str(&ask(words).ok().out).expect("JSON") };
    let listed = json(&["policy", "list", "--json"]);
    let names: Vec<_> = listed
        .as_array()
        .expect("list")
        .iter()
        .filter_map(|policy| policy["name"].as_str())
        .collect();
    let shipped = [
        "base", "blender", "ffmpeg", "generic", "povray", "python", "strict",
    ];
    assert_eq!(names, shipped);
    let shown = json(&["policy", "show", "generic", "--json"]);
    assert_eq!(shown["made_of"], serde_json::json!(["base", "generic"]));
    let listed_digest = listed
        .as_array()
        .and_then(|all| all.iter().find(|policy| policy["name"] == "generic"));
    assert_eq!(
        Some(&shown["digest"]),
        listed_digest.map(|policy| &policy["digest"])
    );
    let own = host.write("own.toml", POLICY).display().to_string();
    ask(&["policy", "check", &own]).ok();
    let broken = host
        .write("broken.toml", "schema = 1\nname = ")
        .display()
        .to_string();
    let ended = ask(&["policy", "check", &broken]).failed(CONFIG);
    assert!(ended.err.contains("broken.toml:2: "), "{ended:?}");
    for (what, verdict) in [
        (["syscall", "mount"], "denied"),
        (["path", "/etc/shadow"], "absent"),
        (["path", "private/key.pem"], "denied"),
        (["path", "board.txt"], "read-write"),
    ] {
        let words = [
            &["policy", "explain", own.as_str()][..],
            &what[..],
            &["--json"],
        ]
        .concat();
        assert_eq!(json(&words)["verdict"], verdict, "{what:?}");
    }
}

#[test]
fn a_host_is_examined() {
    if !requires(NEEDS) {
        return;
    }
    let host = Host::new();
    let said = end(host.safelight().args(["doctor", "--json"])).ok();
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(report["ready"], true);
    for feature in [
        "landlock",
        "seccomp",
        "user-namespace",
        "namespaces",
        "network-namespace",
        "fuse",
        "cgroup-kill",
        "cgroup-limits",
    ] {
        assert!(
            report["features"][feature]["status"].is_string(),
            "{feature} in {report}"
        );
    }
    assert!(report["landlock_abi"].as_u64() >= Some(2));
}

#[test]
fn a_dry_run_prints_every_step_and_does_none() {
    if !requires(NEEDS) {
        return;
    }
    let host = Host::new();
    let show = host.dir("show");
    host.write("show/board.txt", "x");
    let ended = end(&mut host.run(
        &[(&show, "/mnt/c")],
        &["--dry-run"],
        &["sh", "-c", "echo ran"],
    ))
    .ok();
    for step in [
        "policy     generic ",
        "namespaces user (two of them)",
        "/mnt/c",
        "/tmp",
    ] {
        assert!(ended.out.contains(step), "{step:?} in {ended:?}");
    }
    assert!(!ended.out.lines().any(|line| line == "ran"));
    assert!(!host.state().exists(), "a dry run leaves no state");
}
