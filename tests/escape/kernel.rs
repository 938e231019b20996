//! Where the kernel itself holds a session: limits by control groups with their controllers, on whatever kernel this is.
//!
//! `make test-kernels` runs this inside kernels of other ages. What holds a session there is not what holds it on a host without
//! controllers, and each kind of excess is told apart.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    ground::{NEEDS, PYTHON},
    harness::{Host, Running, SAFELIGHT, end, requires, word},
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
    let options = [&["--quiet", "--policy", policy], options].concat();
    let mut run = host.run(&[(&show, "/mnt/central")], &options, words);
    run.env("SAFELIGHT_LOG", "info");
    run
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
    assert!(ended.err.contains("memory=ControlGroup"), "{ended:?}");
    // At no time did it have more than it may.
    let peak = ended.err.split("peak=").nth(1).expect("peak");
    let peak: u64 = peak
        .chars()
        .filter(|c| !"Some(".contains(*c))
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .expect("bytes");
    assert!(peak <= 200 << 20, "{peak}");
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
    // The control: the same where there is room for it.
    let roomy = policy(&host, "pids = 4096");
    let ended = end(&mut session(&host, &roomy, &[], &[PYTHON, "-c", FORKS])).ok();
    assert_eq!(ended.out, "", "2000 are no bomb there");
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
    hog.end();
}

#[test]
fn a_session_that_writes_without_end_is_held_by_its_quota_and_told_apart() {
    if !requires(&needs()) {
        return;
    }
    let host = Host::new();
    let policy = policy(&host, "quota = \"32MiB\"");
    let endless = "dd if=/dev/zero of=endless bs=1M 2>&1; echo then $?";
    let ended = end(&mut session(&host, &policy, &[], &["sh", "-c", endless])).failed(10);
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
