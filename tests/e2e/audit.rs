//! The questions of the audit log, its proofs, and every way to change it, asked of the program.

use std::{
    fs::{self, File},
    io::{BufReader, Cursor},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use safelight_audit::{
    Header, Log, Reader, Register, Statement,
    note::{Role, Signer},
    open_file, tree,
};
use serde_json::Value;

use crate::{
    commands::POLICY,
    harness::{Ended, Host, end, mounts_of, python, requires},
};

const NEEDS: &[&str] = &["fuse", "userns", "landlock"];
const DENIED: i32 = 4;

/// A job that reads, writes, is refused and does not find.
const SCRIPT: &str = "cat board.txt >/dev/null; tr a-z A-Z <board.txt >loud.txt; cat private/key.pem; cat missing.txt; mv loud.txt out.txt; exit 0";

struct Jobs {
    host: Host,
    first: String,
    second: String,
}

impl Jobs {
    fn new() -> Option<Self> {
        if !requires(NEEDS) {
            return None;
        }
        let host = Host::new();
        let show = host.dir("show");
        host.write("show/board.txt", "a secret storyboard\n");
        host.write("show/private/key.pem", "no\n");
        let policy = host.write("own.toml", POLICY).display().to_string();
        let run = |script: &str| {
            let options = ["--policy", policy.as_str(), "--json"];
            let ended =
                end(&mut host.run(&[(&show, "/mnt/c")], &options, &["sh", "-c", script])).ok();
            ended.said()["job"].as_str().expect("job").to_owned()
        };
        let first = run(SCRIPT);
        let second = run("cat board.txt >/dev/null; echo other >extra.txt");
        Some(Self {
            host,
            first,
            second,
        })
    }

    fn ask(&self, words: &[&str]) -> Ended {
        end(self.host.safelight().args(words))
    }

    #[track_caller]
    fn rows(&self, words: &[&str]) -> Vec<Value> {
        let said = self.ask(words).ok();
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        said.out.lines().map(parse).collect()
    }

    fn audit(&self) -> PathBuf {
        let audit = self.host.path("state/audit");
        let mut clients = fs::read_dir(audit).expect("audit");
        clients.next().expect("a client").expect("entry").path()
    }

    fn log(&self, job: &str) -> PathBuf {
        self.audit().join(format!("{job}.log"))
    }
}

#[test]
fn questions_are_asked_of_one_job_and_of_all() {
    let Some(jobs) = Jobs::new() else { return };
    let (first, second) = (jobs.first.as_str(), jobs.second.as_str());
    let readers = jobs.rows(&["audit", "who-read", "/mnt/c/board.txt", "--json"]);
    let of: Vec<_> = readers
        .iter()
        .filter_map(|row| row["job"].as_str())
        .collect();
    assert!(of.contains(&first) && of.contains(&second), "{readers:#?}");
    assert!(
        readers
            .iter()
            .all(|row| row["node"] == "localhost" && row["who"] == "job"),
        "{readers:#?}"
    );
    let one = jobs.rows(&["audit", "who-read", "/mnt/c/*", second, "--json"]);
    assert!(!one.is_empty() && one.iter().all(|row| row["job"].is_null()));
    assert!(
        jobs.rows(&["audit", "who-read", "/mnt/c/nothing", "--json"])
            .is_empty()
    );

    let sums = jobs.rows(&["audit", "summary", "all", "--json"]);
    assert_eq!(sums.len(), 2);
    for sum in &sums {
        assert_eq!(
            (&sum["events_lost"], &sum["wrong_records"]),
            (&0.into(), &0.into()),
            "{sum}"
        );
        assert_eq!(sum["sessions"], 1);
    }
    assert_eq!(
        (&sums[0]["denied"], &sums[0]["missing"]),
        (&1.into(), &1.into()),
        "{}",
        sums[0]
    );
    let told = jobs.ask(&["audit", "summary", first]).ok();
    assert!(told.out.contains(", 0 lost"), "{told:?}");

    let tail = jobs.rows(&["audit", "tail", first, "-n", "3", "--json"]);
    let all = jobs.rows(&["audit", "show", first, "--json"]);
    assert_eq!(tail, all[all.len() - 3..]);

    let apart = jobs.rows(&["audit", "diff", first, second, "--json"]);
    let by_path = |path: &str| apart.iter().find(|row| row["path"] == path);
    assert_eq!(
        by_path("/mnt/c/missing.txt").expect("row")["b"],
        serde_json::json!([])
    );
    assert!(
        by_path("/mnt/c/extra.txt").is_some() && by_path("/mnt/c/board.txt").is_none(),
        "{apart:#?}"
    );
    assert!(
        jobs.rows(&["audit", "diff", first, first, "--json"])
            .is_empty()
    );
}

#[test]
fn answers_are_narrowed_by_time_path_action_client_and_node() {
    let Some(jobs) = Jobs::new() else { return };
    let first = jobs.first.as_str();
    let count = |more: &[&str]| {
        let words = [&["audit", "show", first, "--json"], more].concat();
        jobs.rows(&words).len()
    };
    let all = count(&[]);
    assert!(all > 10);
    assert_eq!(count(&["--since", "1h"]), all);
    assert_eq!(count(&["--until", "1h"]), 0);
    assert_eq!(count(&["--since", "2099-01-01"]), 0);
    assert_eq!(count(&["--until", "2099-01-01T00:00:00Z"]), all);
    assert_eq!(
        count(&["--path", "/mnt/c/loud.txt", "--action", "rename"]),
        1
    );
    assert_eq!(count(&["--node", "nowhere"]), 0);
    let here = count(&["--node", "localhost"]);
    assert!(
        here > 5 && here < all,
        "{here} of {all}: packing is on no node"
    );
    let client = jobs
        .audit()
        .file_name()
        .expect("alias")
        .to_string_lossy()
        .into_owned();
    assert_eq!(count(&["--client", &client]), all);
    assert_eq!(count(&["--client", "another"]), 0);
    jobs.ask(&["audit", "show", "--since", "yesterday"])
        .failed(2);

    let csv = jobs.ask(&["audit", "denied", first, "--csv"]).ok();
    let mut lines = csv.out.lines();
    let head: Vec<_> = lines.next().expect("head").split(',').collect();
    assert!(head.contains(&"rule") && head.contains(&"path"), "{head:?}");
    let at = head.iter().position(|name| *name == "path").expect("path");
    assert!(
        lines.all(|line| line
            .split(',')
            .nth(at)
            .is_some_and(|cell| cell.starts_with("/mnt/c/private"))),
        "{csv:?}"
    );

    let ocsf = jobs.rows(&["audit", "export", first, "--format", "ocsf"]);
    assert_eq!(ocsf.len(), all);
    let refused: Vec<_> = ocsf
        .iter()
        .filter(|event| event["action_id"] == 2)
        .collect();
    assert!(
        !refused.is_empty() && refused.iter().all(|event| event["class_uid"] == 1001),
        "{refused:#?}"
    );
}

/// Whatever asks for the client's files is named, with what it comes from.
#[test]
fn programs_inside_are_named_with_what_started_them() {
    let Some(jobs) = Jobs::new() else { return };
    let rows = jobs.rows(&[
        "audit",
        "show",
        &jobs.first,
        "--action",
        "program",
        "--json",
    ]);
    // What a shell redirects, the shell has opened: the program that reads it asks for nothing.
    for name in ["cat", "mv"] {
        let of = rows.iter().filter(|row| row["path"] == name);
        let of: Vec<_> = of.collect();
        assert!(!of.is_empty(), "{name}: {rows:#?}");
        for row in of {
            assert_eq!(row["comm"], name, "{row}");
            let parents = row["parents"].as_array().expect("parents");
            let first = parents.first().and_then(Value::as_str).unwrap_or_default();
            assert!(first.ends_with(" sh"), "{row}");
        }
    }
    // Each is before the first record of what it did, and no path of the client's.
    let all = jobs.rows(&["audit", "show", &jobs.first, "--json"]);
    let pid = |row: &Value| row["pid"].as_u64().filter(|pid| *pid > 0);
    let mut met = Vec::new();
    for row in all.iter().filter(|row| row["source"] == "view") {
        let Some(pid) = pid(row) else { continue };
        if !met.contains(&pid) {
            assert_eq!(row["event"], "program", "{row}");
            met.push(pid);
        }
    }
    assert!(met.len() >= 4, "{met:?}");
    let files = jobs.rows(&["audit", "files", &jobs.first, "--json"]);
    assert!(files.iter().all(|row| row["path"] != "cat"), "{files:#?}");
}

/// The log of a job, as it would travel if an object were no longer than this.
fn in_parts(jobs: &Jobs) -> Vec<PathBuf> {
    let log = File::open(jobs.log(&jobs.first)).expect("log");
    let pieces = safelight_audit::parts::cut(&log, 900).expect("parts");
    assert!(pieces.len() > 2, "the log is cut");
    let keep = |(number, piece): (usize, &safelight_audit::parts::Piece)| {
        let path = jobs.host.path(format!("part-{number}"));
        let mut file = File::create(&path).expect("part");
        let mut bytes = piece.read(&log).expect("part");
        std::io::copy(&mut bytes, &mut file).expect("part");
        path
    };
    pieces.iter().enumerate().map(keep).collect()
}

/// A record is proved to somebody who has neither the log nor a key, by our own program and by one that shares no code with it.
#[test]
fn a_record_is_proved_and_an_independent_program_agrees() {
    let Some(jobs) = Jobs::new() else { return };
    if !requires(&["python-packages"]) {
        return;
    }
    let proof = jobs.host.path("proof.json");
    let proof_text = proof.to_str().expect("path");
    jobs.ask(&[
        "audit",
        "prove",
        &jobs.first,
        "--seq",
        "3",
        "--to",
        proof_text,
    ])
    .ok();
    jobs.ask(&["audit", "verify", "--proof", proof_text]).ok();
    let verifier = Path::new(env!("CARGO_MANIFEST_DIR")).join("vfs/audit/verifier/verify.py");
    let python = |words: &[&str]| end(Command::new(python()).arg(&verifier).args(words));
    let said = python(&["proof", proof_text]).ok();
    assert!(
        said.out.contains("record 3 of") && said.out.contains("seen by the client at"),
        "{said:?}"
    );
    let register = jobs.audit().join("register");
    let keys: Value = serde_json::from_slice(&fs::read(&proof).expect("proof")).expect("JSON");
    let (site, client) = (
        keys["site_key"].as_str().expect("key"),
        keys["client_key"].as_str().expect("key"),
    );
    let seen = jobs.host.path("state/client/witness").join(format!(
        "{}.note",
        jobs.audit().file_name().expect("alias").to_string_lossy()
    ));
    let path = |path: &Path| path.to_str().expect("path").to_owned();
    let whole = [
        "register",
        &path(&register),
        "--site-key",
        site,
        "--seen",
        &path(&seen),
        "--client-key",
        client,
    ];
    python(&whole).ok();
    python(&["log", &path(&jobs.log(&jobs.first)), &path(&register)]).ok();
    let parts = in_parts(&jobs);
    let log = |order: &[usize]| {
        let words = order.iter().map(|at| path(&parts[*at]));
        let words: Vec<_> = words.chain([path(&register)]).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        python(&[&["log"], words.as_slice()].concat())
    };
    let all: Vec<_> = (0..parts.len()).collect();
    assert!(log(&all).ok().out.contains("as"), "the parts are the log");
    log(&[0, 2, 1]).failed(1);
    log(&all[..all.len() - 1]).failed(1);
    // Each part of the proof counts.
    let text = fs::read_to_string(&proof).expect("proof");
    for (field, other) in [
        ("seq", "4"),
        ("entry", "1000"),
        ("record", "\"AAAA\""),
        ("record_path", "[]"),
    ] {
        let mut changed: Value = serde_json::from_str(&text).expect("JSON");
        changed[field] = serde_json::from_str(other).expect("JSON");
        fs::write(&proof, changed.to_string()).expect("proof");
        jobs.ask(&["audit", "verify", "--proof", proof_text])
            .failed(DENIED);
        python(&["proof", proof_text]).failed(1);
    }
    fs::remove_file(jobs.audit().join("register/checkpoint")).expect("checkpoint");
    python(&whole).failed(1);
}

/// What somebody did to the log on the disk, and what is said of it.
#[test]
fn every_kind_of_edit_is_found_and_named() {
    let Some(jobs) = Jobs::new() else { return };
    let log = jobs.log(&jobs.second);
    let before = fs::read(&log).expect("log");
    let frames = frames(&before);
    let header = &before[..frames[0].0];
    let frame = |at: usize| &before[frames[at].0..frames[at].1];
    let all = || (0..frames.len()).map(frame).collect::<Vec<_>>();
    let of = |frames: Vec<&[u8]>| [header, &frames.concat()].concat();
    let mut changed = before.clone();
    changed[frames[4].0 + 12] ^= 1;
    let mut swapped = all();
    swapped.swap(3, 4);
    let mut twice = all();
    twice.insert(5, frame(4));
    let mut removed = all();
    removed.remove(4);
    let last = frames.len();
    for (edit, bytes, expected) in [
        ("changed", changed, "record 5 was changed".to_owned()),
        ("removed", of(removed), "record 5 is missing".to_owned()),
        ("moved", of(swapped), "record 4 is out of order".to_owned()),
        ("repeated", of(twice), "record 5 is there twice".to_owned()),
        (
            "cut off",
            of(all()[..last - 1].to_vec()),
            format!("the log was cut off after record {}", last - 1),
        ),
        ("emptied", Vec::new(), "its file is empty".to_owned()),
    ] {
        fs::write(&log, bytes).expect("log");
        let said = jobs.ask(&["audit", "verify", &jobs.second]).failed(DENIED);
        assert!(
            said.out.contains(&expected),
            "{edit}: {expected:?} in {said:?}"
        );
    }
    fs::write(&log, &before).expect("log");
    jobs.ask(&["audit", "verify", &jobs.second]).ok();
}

/// Where each record begins and ends.
fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut reader = Reader::open(Cursor::new(bytes)).expect("log");
    let (mut all, mut from) = (Vec::new(), reader.offset() as usize);
    while let Some(record) = reader.next() {
        record.expect("record");
        let to = reader.offset() as usize;
        all.push((from, to));
        from = to;
    }
    all
}

/// Whoever holds the site's keys and may write its disk rewrites everything so that it fits together: the log, what the ledger noted of
/// it, the register, its signature. The client saw another register. The control: without what the client saw, nothing is found.
#[test]
fn a_consistent_rewrite_by_the_holder_of_the_sites_key_is_found() {
    let Some(jobs) = Jobs::new() else { return };
    if !requires(&["python3"]) {
        return;
    }
    jobs.ask(&["audit", "verify", &jobs.first]).ok();
    let (path, register) = (jobs.log(&jobs.first), jobs.audit().join("register"));
    let statement = rewrite(&path, &jobs.host.path("rewritten.log"));
    let update = format!(
        "import sqlite3,sys\nd=sqlite3.connect({:?})\nd.execute('UPDATE job SET audit_records=?, audit_chain=? WHERE id=?', ({}, bytes.fromhex('{}'), '{}'))\nd.commit()\n",
        jobs.host.path("state/ledger.sqlite").display().to_string(),
        statement.records,
        hex(&statement.chain),
        jobs.first,
    );
    end(Command::new("python3").args(["-c", &update])).ok();
    resign(
        &jobs.host.path("state/site/audit.key"),
        &register,
        &statement,
    );
    let said = jobs.ask(&["audit", "verify", &jobs.first]).failed(DENIED);
    assert!(
        said.out
            .contains("the register was rewritten at or before entry"),
        "{said:?}"
    );
    assert!(
        said.out.contains("which the client saw and signed"),
        "{said:?}"
    );
    fs::remove_dir_all(jobs.host.path("state/client/witness")).expect("witness");
    jobs.ask(&["audit", "verify", &jobs.first]).ok();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Leaves a refusal out of a log, and makes it whole again.
fn rewrite(path: &Path, beside: &Path) -> Statement {
    let reader = Reader::open(BufReader::new(fs::File::open(path).expect("log"))).expect("log");
    let found = reader.header().clone();
    let header = Header {
        job: found.job,
        client: found.client,
        log: found.log,
    };
    let records: Vec<_> = reader.map(|record| record.expect("record")).collect();
    let mut log = Log::open(open_file(beside).expect("file"), &header, 1).expect("log");
    let last = records.len() - 1;
    for (at, record) in records.into_iter().enumerate() {
        // The last record tells of the delivery: nothing that is sealed and counted is missing.
        if at != last {
            log.append(record.source, record.at_ns, record.body)
                .expect("append");
        }
    }
    let checkpoint = log.sync().expect("sync");
    drop(log);
    fs::copy(beside, path).expect("copy");
    let mut reader = Reader::open(BufReader::new(fs::File::open(path).expect("log")))
        .expect("log")
        .with_tree();
    (&mut reader).for_each(|record| drop(record.expect("record")));
    Statement {
        job: header.job,
        log: header.log,
        records: checkpoint.records,
        root: reader.root().expect("root"),
        chain: checkpoint.chain,
    }
}

/// Signs another register with the site's own key, with this in place of what it said of the log.
fn resign(key: &Path, register: &Path, statement: &Statement) {
    let seed: [u8; 32] = fs::read(key).expect("key").try_into().expect("32 bytes");
    let signer = Signer::new("safelight-site", Role::Log, &seed).expect("key");
    let old = Register::open(register).expect("register");
    let (head, _) = signer.verifier().open(old.note()).expect("signed");
    let mut entries = old.entries(0, old.size()).expect("entries");
    for entry in &mut entries {
        let said = Statement::read(entry).expect("statement");
        if said.log == statement.log {
            *entry = statement.text().into_bytes();
        }
    }
    fs::remove_dir_all(register).expect("register");
    let new = Register::append_signed(register, &head.origin, &entries, &signer).expect("register");
    assert_ne!(
        new.root_of_entries(new.size()).expect("root"),
        Some(head.root)
    );
    assert_ne!(tree::leaf(b""), head.root);
}

/// Somebody stands where the task stood: its files, its directory, its denials. Nothing of it is kept, everything is on the log.
#[test]
fn a_shell_stands_where_the_task_stood() {
    let Some(jobs) = Jobs::new() else { return };
    let script = "pwd; cat board.txt; cat out.txt; cat private/key.pem; echo scratch >new.txt && cat new.txt; exit 7";
    let words = ["view", "shell", &jobs.first, "--", "/bin/sh", "-c", script];
    let said = jobs.ask(&words);
    assert_eq!(said.code, Some(7), "{said:?}");
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(
        lines,
        [
            "/mnt/c",
            "a secret storyboard",
            "A SECRET STORYBOARD",
            "scratch"
        ],
        "{said:?}"
    );
    assert!(
        said.err.contains("private/key.pem: Permission denied"),
        "{said:?}"
    );
    // As the task found it, without what it wrote.
    let bare = jobs.ask(&[
        "view",
        "shell",
        &jobs.first,
        "--without-outputs",
        "--",
        "/bin/cat",
        "out.txt",
    ]);
    assert_eq!(bare.code, Some(1), "{bare:?}");
    // What was written is gone.
    let again = jobs.ask(&["view", "shell", &jobs.first, "--", "/bin/cat", "new.txt"]);
    assert_eq!(again.code, Some(1), "{again:?}");
    let looks = jobs.rows(&[
        "audit",
        "show",
        &jobs.first,
        "--action",
        "debug-access",
        "--json",
    ]);
    assert_eq!(looks.len(), 3, "{looks:#?}");
    assert!(
        looks[0]["how"]
            .as_str()
            .is_some_and(|how| how.starts_with("shell of task 0/0")),
        "{looks:#?}"
    );
    let rows = jobs.rows(&[
        "audit",
        "show",
        &jobs.first,
        "--path",
        "/mnt/c/new.txt",
        "--json",
    ]);
    assert!(
        rows.iter()
            .any(|row| row["event"] == "create" && row["source"] == "debug"),
        "{rows:#?}"
    );
    // A person who looks in is not the job.
    assert!(
        jobs.rows(&[
            "audit",
            "files",
            &jobs.first,
            "--path",
            "/mnt/c/new.txt",
            "--json"
        ])
        .is_empty()
    );
    jobs.ask(&["audit", "verify", &jobs.first]).ok();
    let left = fs::read_dir(
        jobs.host
            .path("state/jobs")
            .join(&jobs.first)
            .join("sessions"),
    );
    assert_eq!(
        left.map_or(0, Iterator::count),
        0,
        "nothing of the looks is left"
    );
}

#[test]
fn what_is_typed_goes_in_and_its_end_is_an_end() {
    let Some(jobs) = Jobs::new() else { return };
    let mut shell = jobs.host.safelight();
    let input = jobs
        .host
        .write("typed", "echo one\ncat board.txt\nexit 3\necho never\n");
    shell
        .args(["view", "shell", &jobs.second])
        .stdin(fs::File::open(input).expect("input"));
    let said = end(&mut shell);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert_eq!(
        said.out.lines().collect::<Vec<_>>(),
        ["one", "a secret storyboard"],
        "{said:?}"
    );
}

#[test]
fn jobs_are_compared_by_their_files() {
    let Some(jobs) = Jobs::new() else { return };
    let rows = jobs.rows(&["view", "diff", &jobs.first, &jobs.second, "--json"]);
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["path"].as_str().unwrap_or(""),
                row["change"].as_str().unwrap_or(""),
            )
        })
        .collect();
    // What the first job wrote was at home when the second was packed.
    assert_eq!(told, [("/mnt/c/extra.txt", "only in B")], "{rows:#?}");
    assert!(
        jobs.rows(&["view", "diff", &jobs.first, &jobs.first, "--json"])
            .is_empty()
    );
    let inputs = jobs.rows(&[
        "view",
        "diff",
        &jobs.first,
        &jobs.second,
        "--without-outputs",
        "--json",
    ]);
    assert_eq!(inputs.len(), 1, "{inputs:#?}");
    assert_eq!(inputs[0]["path"], "/mnt/c/out.txt");
}

/// A view in which files may be changed: what is written is seen, is on the log, and is not kept.
#[test]
fn what_is_written_into_a_view_is_thrown_away() {
    let Some(jobs) = Jobs::new() else { return };
    let at = jobs.host.dir("look");
    let path = at.to_str().expect("path");
    let words = ["view", "mount", &jobs.first, path, "--writable"];
    let said = jobs.ask(&words).ok();
    assert!(said.err.contains("to be thrown away"), "{said:?}");
    assert!(stands(&at), "the positive control");
    fs::write(at.join("board.txt"), "changed\n").expect("writable");
    fs::write(at.join("new.txt"), "new\n").expect("writable");
    let read = fs::read_to_string(at.join("board.txt")).expect("read");
    assert_eq!(read, "changed\n");
    end(Command::new("umount").arg(&at)).ok();
    assert_eq!(fs::read_dir(&at).expect("directory").count(), 0);
    let home = fs::read_to_string(jobs.host.path("show/board.txt")).expect("home");
    assert_eq!(home, "a secret storyboard\n");
    let words = [
        "audit",
        "show",
        &jobs.first,
        "--path",
        "/mnt/c/new.txt",
        "--json",
    ];
    eventually(|| {
        let rows = jobs.rows(&words);
        rows.iter()
            .any(|row| row["event"] == "create" && row["source"] == "debug")
    });
}

/// A view goes by itself when its time is over, also if somebody stands in it.
#[test]
fn a_view_goes_when_its_time_is_over() {
    let Some(jobs) = Jobs::new() else { return };
    let at = jobs.host.dir("look");
    let path = at.to_str().expect("path");
    let words = ["view", "mount", &jobs.first, path, "--for", "1s"];
    jobs.ask(&words).ok();
    eventually(|| !stands(&at));
    let open = jobs.ask(&["view", "mount", &jobs.first, path, "--for", "1h"]);
    open.ok();
    assert!(stands(&at), "the positive control");
    end(Command::new("umount").arg(&at)).ok();
}

fn stands(at: &Path) -> bool {
    let own = i32::try_from(std::process::id()).expect("pid");
    let mut mounts = mounts_of(own).into_iter();
    mounts.any(|mount| Path::new(&mount.at) == at)
}

/// The page holds what the log holds, as text, and says that the logs are whole; and that they are not if they are not.
#[test]
fn a_report_is_one_page_that_stands_alone() {
    let Some(jobs) = Jobs::new() else { return };
    let page = jobs.host.path("report.html");
    let words = [
        "audit",
        "report",
        &jobs.first,
        "--html",
        page.to_str().expect("path"),
    ];
    jobs.ask(&words).ok();
    let text = fs::read_to_string(&page).expect("page");
    for part in [
        jobs.first.as_str(),
        "The logs are whole.",
        "/mnt/c/board.txt",
        "/mnt/c/missing.txt",
        "/mnt/c/private",
        "localhost, slot",
        "safelight-site",
    ] {
        assert!(text.contains(part), "{part:?}");
    }
    for part in ["<script", "http://", "https://", "src="] {
        assert!(!text.contains(part), "{part:?}");
    }
    let log = jobs.log(&jobs.first);
    let mut bytes = fs::read(&log).expect("log");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).expect("log");
    jobs.ask(&words).failed(DENIED);
    assert!(
        fs::read_to_string(&page)
            .expect("page")
            .contains("The logs were changed.")
    );
}

/// Waits for what comes in a moment.
#[track_caller]
fn eventually(holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "it did not come");
        thread::sleep(Duration::from_millis(50));
    }
}
