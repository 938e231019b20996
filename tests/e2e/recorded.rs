//! No record, no answer, when the disk is slow or stands still and when another job floods its log: what the program saw is on the log,
//! or the session fails and says so, and nobody waits for ever.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use nix::mount::{MntFlags, umount2};
use serde_json::Value;

use crate::harness::{Ended, Host, Role, Running, and_wait, end, requires};

const NEEDS: &[&str] = &["root", "fuse", "userns", "landlock"];
const WITH_DISK: &[&str] = &["root", "fuse", "userns", "landlock", "loop"];
const JOB_FAILED: i32 = 10;

/// A disk of its own, with a file system that can be made to stand still: whoever writes waits in the kernel until it goes on.
struct Disk(PathBuf);

impl Disk {
    fn new(host: &Host, at: PathBuf) -> Self {
        let image = host.path("disk.image");
        let file = File::create(&image).expect("image");
        file.set_len(32 << 20).expect("image");
        let tool = |program: &str| Command::new(program);
        end(tool("mkfs.ext4").args(["-q", "-F"]).arg(&image)).ok();
        fs::create_dir_all(&at).expect("directory");
        end(tool("mount").args(["-o", "loop"]).args([&image, &at])).ok();
        let disk = Self(at);
        end(tool("chmod").arg("0711").arg(&disk.0)).ok();
        disk
    }

    fn stand_still(&self) {
        end(Command::new("fsfreeze").arg("-f").arg(&self.0)).ok();
    }

    fn go_on(&self) {
        end(Command::new("fsfreeze").arg("-u").arg(&self.0)).ok();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nothing of a test that failed may wait for ever.
        let _ = end(Command::new("fsfreeze").arg("-u").arg(&self.0));
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn host() -> Host {
    let host = Host::new();
    host.write("show/board.txt", "a storyboard\n");
    host
}

fn run(host: &Host, options: &[&str], script: &str) -> Command {
    let options = [options, &["--json"]].concat();
    let show = host.path("show");
    host.run(&[(&show, "/mnt/c")], &options, &["sh", "-c", script])
}

/// Looks for names that are not there, each of which is a record, and says each when it was answered.
fn look(prefix: &str, count: u32) -> String {
    format!(
        "i=0; while [ $i -lt {count} ]; do test -e {prefix}-$i; echo {prefix}-$i; i=$((i+1)); done"
    )
}

fn ask(host: &Host, words: &[&str]) -> Vec<Value> {
    let said = end(host.safelight().args(words).arg("--json"));
    let lines = said.out.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {said:?}")))
        .collect()
}

/// Every name that the program said is on the log as missing, and the log has no gap.
#[track_caller]
fn assert_recorded(host: &Host, job: &str, ended: &Ended, prefix: &str) -> usize {
    let missing = ask(host, &["audit", "missing", job]);
    let missing: Vec<_> = missing
        .iter()
        .filter_map(|row| row["path"].as_str())
        .collect();
    let said = ended.out.lines().filter(|line| line.starts_with(prefix));
    let mut count = 0;
    for name in said {
        count += 1;
        let path = format!("/mnt/c/{name}");
        assert!(
            missing.contains(&path.as_str()),
            "{path} was answered and not recorded"
        );
    }
    let summary = ask(host, &["audit", "summary", job]);
    assert_eq!(summary[0]["events_lost"], 0, "{summary:?}");
    assert_eq!(summary[0]["wrong_records"], 0, "{summary:?}");
    count
}

#[test]
fn a_disk_that_stands_still_for_a_while_costs_time_and_no_record() {
    if !requires(WITH_DISK) {
        return;
    }
    let host = host();
    let disk = Disk::new(&host, host.path("state/audit"));
    let script = and_wait(&look("before", 100), &look("after", 300));
    let mut job = Running::start(&mut run(&host, &[], &script));
    job.line("ready");
    disk.stand_still();
    job.go_on();
    // All is looked for, and the job's command ends: it cannot be committed, since its records are not on the disk.
    job.line("after-299");
    thread::sleep(Duration::from_millis(500));
    let id = ask_running(&host);
    disk.go_on();
    let ended = job.end().ok();
    assert_eq!(id.1, "running", "the control: the disk did hold it up");
    let count = assert_recorded(&host, &id.0, &ended, "before");
    assert_eq!(count + assert_recorded(&host, &id.0, &ended, "after"), 400);
    end(host.safelight().args(["audit", "verify", &id.0])).ok();
}

/// The newest job and its state.
fn ask_running(host: &Host) -> (String, String) {
    let jobs = ask(host, &["job", "list"]);
    let text = |name: &str| jobs[0][name].as_str().unwrap_or_default().to_owned();
    (text("job"), text("state"))
}

#[test]
#[ignore = "long: what cannot be recorded waits for its bound; run by make test-all"]
fn a_disk_that_stands_still_for_good_ends_the_job() {
    if !requires(WITH_DISK) {
        return;
    }
    let host = host();
    let disk = Disk::new(&host, host.path("state/audit"));
    let endless = "i=0; while :; do test -e after-$i; i=$((i+1)); done";
    let mut job = Running::start(&mut run(
        &host,
        &[],
        &and_wait(&look("before", 10), endless),
    ));
    job.line("ready");
    let mut tree = job.tree();
    tree.processes
        .retain(|process| process.role.is_session() || process.role == Role::View);
    assert!(tree.processes.len() >= 4, "{tree:#?}");
    disk.stand_still();
    job.go_on();
    let living = tree.gone_within(Duration::from_secs(120));
    assert!(living.is_empty(), "still alive: {living:#?}");
    // What is left to be written about it is written when the disk goes on.
    disk.go_on();
    let ended = job.end().failed(JOB_FAILED);
    assert!(
        ended.err.contains("the audit log could not be written"),
        "{ended:?}"
    );
    assert_eq!(
        names(&host.path("show")),
        ["board.txt"],
        "nothing came home"
    );
    let id = ask_running(&host).0;
    assert_eq!(assert_recorded(&host, &id, &ended, "before"), 10);
    end(&mut run(&host, &[], "cat board.txt > copy.txt")).ok();
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("directory");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("entry").file_name();
        name.to_string_lossy().into_owned()
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

/// The policy of the flooding job has room for some thousands of records, that of the other as much as usual.
#[test]
fn a_job_that_floods_its_log_is_ended_and_the_one_beside_it_has_its_own() {
    if !requires(NEEDS) {
        return;
    }
    let host = host();
    let text = "schema = 1\nname = \"own\"\nsummary = \"x\"\nextends = [\"generic\"]\n[limits]\nrecords = \"256KiB\"\n";
    let own = host.write("own.toml", text).display().to_string();
    let flood = "i=0; while :; do test -e flood-$i; i=$((i+1)); done";
    let options = ["--policy", &own];
    let mut flooding = Running::start(&mut run(&host, &options, &and_wait("", flood)));
    flooding.line("ready");
    let work = format!("{}; cat board.txt > out.txt", look("work", 300));
    let mut beside = Running::start(&mut run(&host, &[], &and_wait("", &work)));
    beside.line("ready");
    flooding.go_on();
    beside.go_on();
    let (beside, flooding) = (beside.end().ok(), flooding.end().failed(JOB_FAILED));
    let of = |ended: &Ended| ended.said()["job"].as_str().expect("job").to_owned();
    let wording = "made more records than the audit log takes of a session";
    assert!(flooding.err.contains(wording), "{flooding:?}");
    assert_eq!(assert_recorded(&host, &of(&beside), &beside, "work"), 300);
    // What the flood made is on its log to the last record, and no more than there was room for.
    let flood = of(&flooding);
    let made = ask(&host, &["audit", "missing", &flood]).len();
    assert!((1_000..20_000).contains(&made), "{made}");
    assert_recorded(&host, &flood, &flooding, "nothing");
    for job in [of(&beside), flood] {
        end(host.safelight().args(["audit", "verify", &job])).ok();
    }
    assert_eq!(names(&host.path("show")), ["board.txt", "out.txt"]);
}
