//! Where the kernel itself holds a session: limits by control groups with their controllers, on whatever kernel this is.
//!
//! `make test-kernels` runs this inside kernels of other ages. What holds a session there is not what holds it on a host without
//! controllers, and each kind of excess is told apart.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    ground::{NEEDS, PYTHON},
    harness::{Ended, Host, Running, SAFELIGHT, end, requires, word},
};

/// Where the sessions' groups are.
const GROUPS: &str = "/sys/fs/cgroup/safelight";

/// Keeps so many processors busy until it is killed.
const BUSY: &str = "import os, sys\nfor _ in range(int(sys.argv[1]) - 1):\n  if os.fork() == 0: break\nprint('busy', flush=True)\nwhile True: pass";

/// Forks until it may not, and says how often it could and what refused.
const FORKS: &str = "import os, signal, time\ndone = []\ntry:\n  while len(done) < 2000:\n    child = os.fork()\n    if child == 0: time.sleep(600)\n    done.append(child)\nexcept OSError as error: print('after', len(done), error.errno, flush=True)\nfor child in done: os.kill(child, signal.SIGKILL)";

fn diagnosis() -> &'static Value {
    static SAID: OnceLock<Value> = OnceLock::new();
    SAID.get_or_init(|| {
        let said = Command::new(SAFELIGHT).args(["doctor", "--json"]).output();
        serde_json::from_slice(&said.expect("doctor").stdout).expect("JSON")
    })
}

/// The Landlock ABI of this kernel, as far as it is used.
pub(crate) fn landlock_abi() -> u64 {
    diagnosis()["landlock_abi"].as_u64().expect("an ABI")
}

/// Acts that need a call of the kernel's which an older one does not have: since when, and which.
const NEWER: [(&str, (u32, u32), &str); 2] = [
    ("pages-that-others-read", (6, 5), "cachestat(2)"),
    ("list-mounts", (6, 8), "listmount(2)"),
];

/// The acts that this kernel is too old for, and why.
pub(crate) fn lacking() -> impl Iterator<Item = (&'static str, String)> {
    let release = diagnosis()["kernel"].as_str().expect("a release");
    let mut numbers = release
        .split(['.', '-'])
        .map(|number| number.parse().unwrap_or(0));
    let own = (numbers.next(), numbers.next());
    let newer = NEWER
        .into_iter()
        .filter(move |(_, (major, minor), _)| own < (Some(*major), Some(*minor)));
    newer.map(|(act, (major, minor), call)| {
        (act, format!("{call} is in Linux since {major}.{minor}"))
    })
}

/// True if this kernel is too old for an act.
pub(crate) fn is_lacking(act: &str) -> bool {
    lacking().any(|(lacking, _)| lacking == act)
}

/// Says what was left out, and why, where the run of the kernels looks for it: not on standard output, which is not shown of a test that passes.
pub(crate) fn left_out(act: &str, why: &str) {
    let _ = writeln!(io::stderr(), "left out: {act} ({why})");
}

fn needs() -> Vec<&'static str> {
    [NEEDS, &["controllers"]].concat()
}

fn policy(host: &Host, limits: &str) -> String {
    let text = format!(
        "schema = 1\nname = \"trial\"\nsummary = \"for a test\"\nextends = [\"generic\"]\n[limits]\n{limits}\n"
    );
    let path: PathBuf = host.write(format!("{}.toml", word(8)), text);
    path.display().to_string()
}

fn session(host: &Host, policy: &str, options: &[&str], words: &[&str]) -> Command {
    let show = host.dir("show");
    let options = [&["--json", "--policy", policy], options].concat();
    host.run(&[(&show, "/mnt/central")], &options, words)
}

/// What a session says of one limit that held it: by what, how much it took, and how often the limit stood in its way.
fn held(ended: &Ended, what: &str) -> (String, Option<u64>, u64) {
    let said = ended.said();
    let held = &said["held"][what];
    (
        held["by"].as_str().unwrap_or_default().to_owned(),
        held["most"].as_u64(),
        held["refused"].as_u64().unwrap_or_default(),
    )
}

/// Shows what held a session, for the run of the kernels.
fn show(what: &str, (by, most, refused): &(String, Option<u64>, u64)) {
    let _ = writeln!(
        io::stderr(),
        "held: {what} by {by}, most {most:?}, refused {refused}"
    );
}

#[test]
fn everything_is_active_on_this_kernel() {
    if !requires(&needs()) {
        return;
    }
    if let Ok(expected) = std::env::var("SAFELIGHT_KERNEL_ABI") {
        assert_eq!(landlock_abi().to_string(), expected);
    }
    let features = diagnosis()["features"].as_object().expect("features");
    assert!(features.len() >= 8, "{features:?}");
    // An older Landlock is said to be one; what stands in for it is what the other tests are about.
    let newest = landlock_abi() >= crate::table::ABI;
    for (feature, found) in features {
        let expected = match feature.as_str() {
            "landlock" if !newest => "degraded",
            _ => "active",
        };
        assert_eq!(found["status"], expected, "{feature}: {found}");
    }
}

#[test]
fn a_memory_bomb_is_held_by_the_kernel_and_told_apart() {
    if !requires(&needs()) {
        return;
    }
    let host = Host::new();
    let policy = policy(&host, "memory = \"200MiB\"");
    // Faster than anybody who looks ten times a second.
    let bomb = "x = []\nwhile True: x.append(bytearray(b'x' * (16 << 20)))";
    let ended = end(&mut session(&host, &policy, &[], &[PYTHON, "-c", bomb])).failed(10);
    assert!(ended.err.contains("out of memory"), "{ended:?}");
    let held = held(&ended, "memory");
    show("a memory bomb", &held);
    let (by, most, refused) = held;
    assert!(by == "control-group" && refused > 0, "{by} {refused}");
    // At no time did it have more than it may.
    assert!(most.is_some_and(|most| most <= 200 << 20), "{most:?}");
}

#[test]
fn a_fork_bomb_is_held_and_hurts_nobody_else() {
    if !requires(&needs()) {
        return;
    }
    let host = Host::new();
    let tight = policy(&host, "pids = 64");
    let ended = end(&mut session(&host, &tight, &[], &[PYTHON, "-c", FORKS])).ok();
    let after: Vec<i32> = ended
        .out
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [forks, errno] = after[..] else {
        panic!("{ended:?}");
    };
    assert!(
        forks < 64 && errno == nix::errno::Errno::EAGAIN as i32,
        "{ended:?}"
    );
    let held_to = held(&ended, "processes");
    show("a fork bomb", &held_to);
    // Linux since 6.1 keeps the most that there were.
    let (by, most, refused) = held_to;
    assert!(by == "control-group" && refused > 0, "{by} {refused}");
    assert!(most.is_none_or(|most| most <= 64), "{most:?}");
    // The control: the same where there is room for it.
    let roomy = policy(&host, "pids = 4096");
    let ended = end(&mut session(&host, &roomy, &[], &[PYTHON, "-c", FORKS])).ok();
    assert_eq!(ended.out, "", "2000 are no bomb there");
    assert_eq!(held(&ended, "processes").2, 0, "and nothing refused one");
}

/// Microseconds of processor that a group has had.
fn used(group: &Path) -> u64 {
    let stat = fs::read_to_string(group.join("cpu.stat")).expect("cpu.stat");
    let line = stat.lines().find_map(|it| it.strip_prefix("usage_usec "));
    line.and_then(|it| it.parse().ok()).expect("usage")
}

/// Ticks of processor that processes have had.
fn ticks(pids: &[u32]) -> u64 {
    let one = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .expect("name")
            .1
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks")
    };
    pids.iter().map(one).sum()
}

#[test]
fn a_session_that_takes_all_processors_leaves_others_their_share() {
    if !requires(&needs()) {
        return;
    }
    let host = Host::new();
    let policy = policy(&host, "pids = 64");
    // Many more than there are processors: without groups that weigh, a share is one by number of threads.
    let many = (thread::available_parallelism().expect("processors").get() * 8).to_string();
    let mut hog = session(
        &host,
        &policy,
        &["--timeout", "20s"],
        &[PYTHON, "-c", BUSY, &many],
    );
    let mut hog = Running::start(&mut hog);
    hog.line("busy");
    let command = hog.tree().one(crate::harness::Role::Command).pid;
    let group = fs::read_to_string(format!("/proc/{command}/cgroup")).expect("cgroup");
    let group = group.trim().rsplit_once("::/").expect("group").1;
    let group = Path::new("/sys/fs/cgroup").join(group);
    assert!(group.starts_with(GROUPS), "{}", group.display());
    // As many of the host's own as there are processors, outside of every group.
    let mut others: Vec<_> = (0..thread::available_parallelism().expect("processors").get())
        .map(|_| {
            let mut one = Command::new(PYTHON);
            let one = one.args(["-c", BUSY, "1"]).stdout(Stdio::null());
            one.spawn().expect("python3")
        })
        .collect();
    let pids: Vec<u32> = others.iter().map(std::process::Child::id).collect();
    let before = (used(&group), ticks(&pids));
    thread::sleep(Duration::from_secs(4));
    let (session, outside) = (used(&group) - before.0, ticks(&pids) - before.1);
    for other in &mut others {
        let _ = other.kill();
        let _ = other.wait();
    }
    // A tick is a hundredth of a second. What counts is who had how much of what was to be had, however fast this machine is.
    let outside = outside * 10_000;
    let share = outside * 100 / (outside + session).max(1);
    // By number of threads it would be a ninth; two thirds by weight.
    assert!(
        share >= 40,
        "{share} % for the others: {outside}, {session}"
    );
    assert!(session > 0, "and the session had some too");
    hog.signal(nix::sys::signal::Signal::SIGTERM);
    let held = held(&hog.end(), "processors");
    show("a hog of processors", &held);
    assert_eq!(held.0, "control-group");
    assert!(held.1.is_some_and(|used| used >= session), "{held:?}");
}

#[test]
fn a_session_that_writes_too_much_is_held_by_its_quota_and_told_apart() {
    if !requires(&needs()) {
        return;
    }
    let host = Host::new();
    let policy = policy(&host, "quota = \"32MiB\"");
    // Written into the kernel's cache it succeeds; that it cannot be kept is said when it is to be.
    let much = "yes | dd of=much bs=1M count=128 iflag=fullblock conv=fsync 2>&1; echo then $?";
    let ended = end(&mut session(&host, &policy, &[], &["sh", "-c", much])).failed(10);
    assert!(ended.out.contains("No space left on device"), "{ended:?}");
    assert!(
        ended.err.contains("a write to the view failed"),
        "{ended:?}"
    );
    let kept: u64 = crate::harness::below_directory(&host.state())
        .expect("state")
        .iter()
        .filter_map(|path| fs::symlink_metadata(path).ok())
        .filter(fs::Metadata::is_file)
        .map(|found| found.len())
        .sum();
    assert!(kept < 64 << 20, "{kept} bytes are left of it");
}

/// Reads a file of the host's from its disk, past every cache, so many MiB in all, and says how many milliseconds that took.
const READS: &str = r#"
import os, mmap, time
fd = os.open("/usr/local/lib/safelight-trial", os.O_RDONLY | os.O_DIRECT)
page, read, begun = mmap.mmap(-1, 1 << 20), 0, time.monotonic()
while read < 16 << 20: read += os.preadv(fd, [page], read % (8 << 20))
print("took", int((time.monotonic() - begun) * 1000), flush=True)
"#;

/// How many milliseconds a session says that it took.
fn took(ended: &Ended) -> u64 {
    let said = ended.out.strip_prefix("took ");
    said.and_then(|said| said.trim().parse().ok())
        .unwrap_or_else(|| panic!("{ended:?}"))
}

#[test]
fn a_session_that_keeps_a_disk_busy_is_held_to_its_rate() {
    // In a guest the disk is its own, and what is stored is on it.
    if !requires(&[&needs()[..], &["io"]].concat()) {
        return;
    }
    let host = Host::new();
    let trial = "/usr/local/lib/safelight-trial";
    fs::write(trial, vec![b'x'; 8 << 20]).expect("a file of the host's");
    nix::unistd::sync();
    let free = policy(&host, "pids = 64");
    let ended = end(&mut session(&host, &free, &[], &[PYTHON, "-c", READS])).ok();
    assert_eq!(held(&ended, "disk").0, "nothing", "no limit was set");
    let freely = took(&ended);
    let slow = policy(&host, "io = \"1MiB\"");
    let ended = end(&mut session(&host, &slow, &[], &[PYTHON, "-c", READS])).ok();
    let held_to = held(&ended, "disk");
    show("a hog of disks", &held_to);
    assert_eq!(held_to.0, "control-group");
    assert!(
        held_to.1.is_some_and(|bytes| bytes >= 16 << 20),
        "{held_to:?}"
    );
    // 16 MiB at one a second: what it took is the kernel's doing and not this machine's, however slow that is.
    let slowly = took(&ended);
    assert!(
        slowly >= 12_000,
        "{slowly} ms with a limit, {freely} without"
    );
    // What it does through its view, the view server does: held alike, in a group of its own.
    let mut run = session(&host, &slow, &[], &["sh", "-c", "echo there; sleep 600"]);
    let mut run = Running::start(&mut run);
    run.line("there");
    let view = run.tree().one(crate::harness::Role::View).pid;
    let group = fs::read_to_string(format!("/proc/{view}/cgroup")).expect("cgroup");
    let group = group.trim().rsplit_once("::").expect("group").1.to_owned();
    assert!(group.ends_with("-view"), "{group}");
    let limits = fs::read_to_string(format!("/sys/fs/cgroup{group}/io.max")).expect("io.max");
    assert!(limits.contains("rbps=1048576 wbps=1048576"), "{limits}");
    run.signal(nix::sys::signal::Signal::SIGTERM);
    run.end();
    assert!(
        !Path::new(&format!("/sys/fs/cgroup{group}")).exists(),
        "it is removed"
    );
    let _ = fs::remove_file(trial);
}
