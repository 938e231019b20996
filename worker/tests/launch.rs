//! The sandbox from the inside, through a real launch: what the command sees, and what it is refused.
//!
//! Needs root, as a render server's agent has it; the rootless rows drop it first. A host that cannot do that fails these tests: that a wall
//! could not be tried is no reason to believe in it.
#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

const HARNESS: &str = env!("CARGO_BIN_EXE_launch-harness");

/// What came out of a session.
struct Ran {
    stdout: String,
    stderr: String,
    /// The cause of the end, as the supervisor tells it.
    cause: String,
    /// All that the supervisor tells.
    ended: String,
}

struct Session {
    options: Vec<String>,
    rootless: bool,
    folder: tempfile::TempDir,
}

impl Session {
    fn new(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        Self {
            options: options.iter().map(|&option| option.to_owned()).collect(),
            rootless: false,
            folder,
        }
    }

    fn rootless(options: &[&str]) -> Self {
        let mut session = Self::new(options);
        session.rootless = true;
        session.options.extend([
            "--user".to_owned(),
            "own".to_owned(),
            "--no-groups".to_owned(),
        ]);
        session
    }

    /// With a policy of its own, which extends the generic one.
    fn policy(mut self, rest: &str) -> Self {
        let path = self.folder.path().join("trial.toml");
        let text = format!(
            "schema = 1\nname = \"trial\"\nsummary = \"for a test\"\nextends = [\"generic\"]\n{rest}\n"
        );
        fs::write(&path, text).unwrap();
        self.options
            .extend(["--policy".to_owned(), path.to_str().unwrap().to_owned()]);
        self
    }

    /// The harness at a place that the session's agent can reach, which a build directory need not be for an ordinary user.
    fn harness(&self) -> PathBuf {
        if !self.rootless {
            return PathBuf::from(HARNESS);
        }
        let copy = self.folder.path().join("harness");
        if !copy.exists() {
            // Not by ourselves: a descriptor open for writing, inherited by another test's child, would keep the copy from being started.
            let copied = Command::new("cp").arg(HARNESS).arg(&copy).status();
            assert!(copied.unwrap().success());
        }
        copy
    }

    fn command(&self, command: &[&str]) -> Command {
        let harness = self.harness();
        let report = self.folder.path().join("report");
        let mut outer = if self.rootless {
            let mut outer = Command::new("unshare");
            // A node that everyone may open stands in for the usual mode of /dev/fuse, for this process and its children only.
            outer.args(["--mount", "--propagation", "private", "sh", "-c"]).arg(
                "d=$1; shift; mkdir -p $d/dev && mount -t tmpfs dev $d/dev && mknod -m 666 $d/dev/fuse c 10 229 && mount --bind $d/dev/fuse /dev/fuse \
                 && exec setpriv --reuid 65000 --regid 65000 --clear-groups \"$@\"",
            );
            outer.arg("sh").arg(self.folder.path()).arg(harness);
            outer
        } else {
            Command::new(harness)
        };
        outer
            .arg("agent")
            .args(&self.options)
            .arg("--report")
            .arg(report)
            .arg("--")
            .args(command);
        outer.current_dir("/").stdin(Stdio::null());
        outer
    }

    fn run(&self, command: &[&str]) -> Ran {
        let Output { stdout, stderr, .. } = self.command(command).output().unwrap();
        let ended = fs::read_to_string(self.folder.path().join("report")).unwrap_or_default();
        Ran {
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            cause: ended.lines().next().unwrap_or("no report").to_owned(),
            ended,
        }
    }

    fn sh(&self, script: &str) -> Ran {
        self.run(&["sh", "-c", script])
    }
}

/// Both tiers: an agent that is root, and one that is an ordinary user.
fn both(options: &[&str]) -> [Session; 2] {
    [Session::new(options), Session::rootless(options)]
}

#[test]
fn the_command_is_nobody_and_can_become_nobody_else() {
    for session in both(&[]) {
        let ran = session.sh("id -u; id -g; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; echo $$ $PPID; hostname; umask; pwd");
        let lines: Vec<_> = ran.stdout.lines().collect();
        let none = "0000000000000000";
        assert_eq!(
            lines,
            [
                "1000",
                "1000",
                &format!("CapInh:\t{none}"),
                &format!("CapPrm:\t{none}"),
                &format!("CapEff:\t{none}"),
                &format!("CapBnd:\t{none}"),
                &format!("CapAmb:\t{none}"),
                "NoNewPrivs:\t1",
                "Seccomp:\t2",
                "2 1",
                "safelight",
                "0022",
                "/tmp"
            ],
            "{}{}",
            ran.stderr,
            ran.ended
        );
        assert_eq!(ran.cause, "exited with code 0");
    }
}

#[test]
fn the_environment_and_the_descriptors_are_exactly_those_given() {
    let session = Session::new(&[]);
    let mut command = session.command(&["sh", "-c", "env | sort; ls /proc/$$/fd"]);
    command
        .env("AWS_SECRET_ACCESS_KEY", "canary")
        .env("LD_PRELOAD", "");
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert_eq!(
        text,
        "HOME=/home/render\nLANG=C.UTF-8\nPATH=/usr/local/bin:/usr/bin:/bin\nPWD=/tmp\nTMPDIR=/tmp\nUSER=render\n0\n1\n2\n"
    );
}

/// What a script tries, what it prints when the wall holds, and what the same script prints outside: a wall that nothing pushes proves nothing.
#[test]
fn what_lies_outside_is_not_there() {
    let rows = [
        ("cat /etc/shadow", "No such file"),
        ("ls /root /home/nobody", "No such file"),
        ("ls /", "Permission denied"),
        ("cat /proc/1/environ", "No such file"),
        ("ls /proc/1/root", "No such file"),
        ("kill -9 1", "not permitted"),
        ("unshare --user true", "not permitted"),
        ("unshare --mount true", "not permitted"),
        ("/usr/sbin/chroot /tmp /bin/true", "not permitted"),
        ("mknod /tmp/node b 259 0", "Permission denied"),
        ("echo x > /usr/x", "Read-only"),
        ("echo x > /x", "Read-only"),
        (
            "echo 5 > /proc/sys/user/max_user_namespaces",
            "Permission denied",
        ),
        (
            "echo core > /proc/sys/kernel/core_pattern",
            "Permission denied",
        ),
        ("cp /bin/true /tmp/t && /tmp/t", "Permission denied"),
        ("cat /dev/fuse", "No such file"),
        ("cat /dev/kmsg", "No such file"),
        ("python3 -c 'import os; os.setuid(0)'", "not permitted"),
        ("python3 -c 'import os; os.setgroups([])'", "not permitted"),
    ];
    for session in both(&[]) {
        for (script, answer) in rows {
            let ran = session.sh(&format!("LC_ALL=C; export LC_ALL; {script}"));
            assert!(
                ran.stderr.contains(answer),
                "{script}: {} {} {}",
                ran.stdout,
                ran.stderr,
                ran.ended
            );
            assert_ne!(ran.cause, "exited with code 0", "{script}");
        }
    }
    let outside = Command::new("sh")
        .args([
            "-c",
            "test -r /etc/shadow && cat /proc/$PPID/environ && ls / && unshare --mount true",
        ])
        .output()
        .unwrap();
    assert!(
        outside.status.success(),
        "the same, outside, must work: {}",
        String::from_utf8_lossy(&outside.stderr)
    );
}

#[test]
fn there_is_no_network() {
    for session in both(&[]) {
        let ran = session.sh("tail -n +3 /proc/net/dev | cut -d: -f1; tail -n +2 /proc/net/route");
        assert_eq!(ran.stdout.trim(), "lo", "{}", ran.ended);
    }
    let python = r#"
import socket
for family, address in [(socket.AF_INET, ("127.0.0.1", 9)), (socket.AF_INET6, ("::1", 9)), (socket.AF_INET, ("169.254.169.254", 80))]:
    try:
        socket.socket(family, socket.SOCK_STREAM).connect(address); print("connected")
    except OSError as e: print(e.errno)
for family in (16, 17, 38, 40, 44):
    try:
        socket.socket(family, socket.SOCK_DGRAM); print("made")
    except OSError as e: print(e.errno)
"#;
    let ran = Session::new(&[]).run(&["/usr/bin/python3", "-c", python]);
    // Landlock refuses TCP (EACCES); the filter refuses the other families (EPERM).
    assert_eq!(
        ran.stdout, "13\n13\n13\n1\n1\n1\n1\n1\n",
        "{}{}",
        ran.stderr, ran.ended
    );
}

#[test]
fn each_wall_refuses_on_its_own() {
    // Landlock off: the root directory can be listed, and still holds nothing of the host.
    let ran = Session::new(&[])
        .policy("[features]\nlandlock = \"off\"")
        .sh("ls / | tr '\\n' ' '; cat /etc/shadow");
    assert_eq!(
        ran.stdout, "bin dev etc home lib lib64 proc sbin sys tmp usr ",
        "{}{}",
        ran.stderr, ran.ended
    );
    assert!(ran.stderr.contains("No such file"));
    // seccomp off: the second user namespace and Landlock refuse new namespaces and mounts.
    let ran = Session::new(&[])
        .policy("[features]\nseccomp = \"off\"")
        .sh(&format!(
            "grep ^Seccomp: /proc/self/status; python3 -c '{TRICKS}' 12"
        ));
    assert_eq!(
        ran.stdout,
        format!("Seccomp:\t0\n{REFUSED_BY_NAMESPACES}"),
        "{}{}",
        ran.stderr,
        ran.ended
    );
    // Both off: the second user namespace alone, and the host is still not there.
    let ran = Session::new(&[])
        .policy("[features]\nseccomp = \"off\"\nlandlock = \"off\"")
        .sh(&format!(
            "python3 -c '{TRICKS}' 12; cat /etc/shadow; kill -9 1; cat /proc/1/environ; echo end"
        ));
    assert_eq!(
        ran.stdout,
        format!("{REFUSED_BY_NAMESPACES}end\n"),
        "{}{}",
        ran.stderr,
        ran.ended
    );
    // All on.
    for session in both(&[]) {
        let ran = session.run(&["python3", "-c", TRICKS, "15"]);
        assert_eq!(
            ran.stdout, REFUSED_BY_SECCOMP,
            "{}{}",
            ran.stderr, ran.ended
        );
    }
}

/// System calls that change what is mounted or which namespaces there are, made directly, because the tools ask themselves first. Prints the
/// error number of each. 165 mount, 166 umount2, 442 mount_setattr (clears read-only on /usr), 428 open_tree (clone), 430 fsopen, 155 pivot_root,
/// 272 unshare (user, mount), 308 setns (on a mount namespace), 425 io_uring_setup, 435 clone3, 321 bpf, 101 ptrace (PID 1).
const TRICKS: &str = r#"
import ctypes, os, sys
call = ctypes.CDLL(None, use_errno=True).syscall
clear = (ctypes.c_uint64 * 4)(0, 1, 0, 0)
ns = os.open("/proc/self/ns/mnt", os.O_RDONLY)
for name, arguments in [
    ("mount", (165, b"none", b"/tmp", b"tmpfs", 0, None)),
    ("bind", (165, b"/usr", b"/tmp", None, 4096, None)),
    ("remount", (165, None, b"/usr", None, 32 | 4096, None)),
    ("umount", (166, b"/tmp", 2)),
    ("mount_setattr", (442, -100, b"/usr", 0, clear, 32)),
    ("open_tree", (428, -100, b"/usr", 1)),
    ("fsopen", (430, b"tmpfs", 0)),
    ("pivot_root", (155, b"/tmp", b"/tmp")),
    ("unshare user", (272, 0x10000000)),
    ("unshare mount", (272, 0x20000)),
    ("setns", (308, ns, 0)),
    ("ptrace", (101, 16, 1, 0, 0)),
    ("io_uring", (425, 8, None)),
    ("clone3", (435, None, 0)),
    ("bpf", (321, 0, None, 0)),
][:int(sys.argv[1])]:
    ctypes.set_errno(0)
    result = call(*arguments)
    print(name, "DONE" if result >= 0 else ctypes.get_errno())
"#;

/// 1 EPERM, 28 ENOSPC (no more user namespaces). The last three are the filter's business alone.
const REFUSED_BY_NAMESPACES: &str = "\
mount 1\nbind 1\nremount 1\numount 1\nmount_setattr 1\nopen_tree 1\nfsopen 1\npivot_root 1\nunshare user 28\nunshare mount 1\nsetns 1\nptrace 1\n";

/// 1 EPERM, 38 ENOSYS.
const REFUSED_BY_SECCOMP: &str = "\
mount 1\nbind 1\nremount 1\numount 1\nmount_setattr 1\nopen_tree 1\nfsopen 1\npivot_root 1\nunshare user 1\nunshare mount 1\nsetns 1\nptrace 1\n\
io_uring 38\nclone3 38\nbpf 1\n";

#[test]
fn a_view_is_mounted_at_its_central_path_and_served_from_outside() {
    for session in both(&["--view", "/mnt/central", "--view", "/projects"]) {
        let ran = session.sh("stat -c '%F %u %a %s' /mnt/central /projects; ls -la /mnt/central | head -1; cat /mnt/central/x; grep -c fuse.safelight /proc/mounts; umount /projects");
        // The size is the user that the server was told: the one inside, though the server runs outside.
        assert_eq!(
            ran.stdout, "directory 1000 755 1000\ndirectory 1000 755 1000\ntotal 0\n2\n",
            "{}{}",
            ran.stderr, ran.ended
        );
        assert!(ran.stderr.contains("No such file"), "{}", ran.stderr);
    }
}

#[test]
fn how_it_ended_is_told() {
    for session in both(&[]) {
        for (script, cause) in [
            ("exit 0", "exited with code 0"),
            ("exit 7", "exited with code 7"),
            ("kill -SEGV $$", "killed by signal 11"),
            ("kill -KILL $$", "killed by signal 9"),
        ] {
            assert_eq!(session.sh(script).cause, cause);
        }
        let ran = session.run(&["no-such-program"]);
        assert_eq!(
            ran.cause, "not started: exec failed with error 2",
            "{}",
            ran.ended
        );
        let ran = session.run(&["/etc/passwd"]);
        assert_eq!(
            ran.cause, "not started: exec failed with error 13",
            "{}",
            ran.ended
        );
    }
}

#[test]
fn what_a_command_leaves_behind_dies_with_it() {
    for session in both(&[]) {
        let mark = format!("86{}", std::process::id());
        let ran = session.sh(&format!("setsid sh -c '(trap \"\" TERM; sleep {mark}) & sleep {mark}' >/dev/null 2>&1 & sleep 0.2; exit 3"));
        assert_eq!(ran.cause, "exited with code 3");
        assert!(
            ran.ended.contains("leftover: true, stuck: false"),
            "{}",
            ran.ended
        );
        assert!(!anyone_runs(&mark));
    }
}

#[test]
fn a_session_that_ignores_the_request_to_end_is_killed() {
    let limits = "[limits]\nterm_grace = \"1s\"";
    for session in [
        Session::new(&["--wall", "700"]),
        Session::rootless(&["--wall", "700"]),
    ] {
        let session = session.policy(limits);
        let mark = format!("87{}", std::process::id());
        let begun = Instant::now();
        let ran = session.sh(&format!("trap '' TERM; setsid sh -c \"trap '' TERM; sleep {mark}\" & while :; do sleep {mark}; done"));
        assert!(ran.cause.starts_with("ran longer than"), "{}", ran.ended);
        assert!(ran.ended.contains("stuck: false"), "{}", ran.ended);
        assert!(
            begun.elapsed() < Duration::from_secs(8),
            "{:?}",
            begun.elapsed()
        );
        assert!(!anyone_runs(&mark));
    }
}

#[test]
fn a_session_that_is_asked_to_end_may_tidy_up() {
    for session in both(&["--wall", "700"]) {
        let ran = session.sh("trap 'echo tidy; exit 0' TERM; while :; do sleep 0.05; done");
        assert_eq!(ran.stdout, "tidy\n", "{}", ran.ended);
        assert!(ran.cause.starts_with("ran longer than"), "{}", ran.ended);
    }
}

#[test]
fn an_agent_that_is_killed_takes_its_session_along() {
    for session in both(&[]) {
        let mark = format!("88{}", std::process::id());
        let mut agent = session
            .command(&["sh", "-c", &format!("setsid sleep {mark} & sleep {mark}")])
            .spawn()
            .unwrap();
        wait_until(|| anyone_runs(&mark));
        agent.kill().unwrap();
        agent.wait().unwrap();
        wait_until(|| !anyone_runs(&mark));
        // The group that it could not remove is gone once another agent has looked.
        assert!(session.sh("true").ended.contains("stuck: false"));
        wait_until(|| groups().iter().all(|group| !abandoned(group)));
    }
}

#[test]
fn processes_and_private_directories_are_limited() {
    for session in both(&[]) {
        let session = session.policy("[limits]\npids = 40\nfiles = 64\n[[tmp]]\nat = \"/tmp\"\nsize = \"1MiB\"\ninodes = 100\nreason = \"small\"");
        let ran = session.sh(
            "ulimit -n; ulimit -c; dd if=/dev/zero of=/tmp/big bs=64k count=100 2>&1 | grep -o 'No space left on device'; rm /tmp/big; \
             i=0; while [ $i -lt 200 ] && touch /tmp/f$i; do i=$((i+1)); done 2>/dev/null; [ $i -lt 100 ] && echo inodes; \
             i=0; while [ $i -lt 60 ]; do sleep 1 & i=$((i+1)); done; echo all",
        );
        assert!(
            ran.stdout
                .starts_with("64\n0\nNo space left on device\ninodes\n"),
            "{}{}{}",
            ran.stdout,
            ran.stderr,
            ran.ended
        );
        assert!(
            ran.stderr.to_lowercase().contains("fork"),
            "{}{}",
            ran.stdout,
            ran.stderr
        );
    }
}

/// Where no control group limits memory: what a session keeps in processes, in shared memory and in its directories counts, and ends it.
#[test]
fn a_session_that_takes_too_much_memory_is_ended_and_told_apart() {
    let hoards = [
        "python3 -c 'x = b\"x\" * (400 << 20); import time; time.sleep(30)'",
        "dd if=/dev/zero of=/tmp/big bs=1M count=400 2>/dev/null; sleep 30",
        // Eight processes that share what each of them maps: one time, not eight.
        "python3 -c 'import os, time; x = b\"x\" * (40 << 20); [os.fork() for _ in range(3)]; time.sleep(1)'",
    ];
    let limits = "[limits]\nmemory = \"200MiB\"";
    for session in [Session::new(&["--no-groups"]), Session::rootless(&[])] {
        let session = session.policy(limits);
        let causes = hoards.map(|script| session.sh(script).cause);
        assert_eq!(
            causes,
            ["out of memory", "out of memory", "exited with code 0"]
        );
    }
}

#[test]
fn a_host_path_that_a_policy_adds_is_there_and_cannot_be_changed() {
    let session = Session::new(&[]);
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let data = place.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(data.join("file"), "as it was").unwrap();
    fs::set_permissions(data.join("file"), fs::Permissions::from_mode(0o666)).unwrap();
    let session = session.policy(&format!(
        "[[root]]\nat = \"{}\"\nrights = \"r\"\nreason = \"a test\"",
        data.display()
    ));
    let script = format!(
        "cat {0}/file; echo changed > {0}/file; chmod 600 {0}/file; rm {0}/file; echo x > {0}/new",
        data.display()
    );
    let ran = session.sh(&script);
    assert!(
        ran.stdout.starts_with("as it was"),
        "{} {} {}",
        ran.stdout,
        ran.stderr,
        ran.ended
    );
    assert_eq!(
        ran.stderr.matches("Read-only file system").count()
            + ran.stderr.matches("Permission denied").count(),
        4,
        "{}",
        ran.stderr
    );
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "as it was");
}

/// What a task carries with it is there before its first instruction, private, and run by whoever it names.
#[test]
fn the_files_of_a_task_are_in_its_private_home() {
    let carried = [
        "--file",
        "data",
        "a b\n",
        "--runnable",
        "run.sh",
        "cat data; echo $1",
    ];
    for session in both(&carried) {
        let ran = session.sh(
            "cd && stat -c '%a %u %s %n' * && stat -f -c %T . && sh ./run.sh done; echo more >> data && wc -c < data; ./run.sh",
        );
        assert_eq!(
            ran.stdout, "600 1000 4 data\n700 1000 17 run.sh\ntmpfs\na b\ndone\n9\n",
            "{}{}",
            ran.stderr, ran.ended
        );
        // Memory is never executable: what is run is run by an interpreter.
        assert!(ran.stderr.contains("Permission denied"), "{}", ran.stderr);
    }
}

#[test]
fn files_that_lead_elsewhere_or_do_not_fit_keep_the_command_from_running() {
    let large = "x".repeat(100 * 1024);
    for (carried, errno) in [
        (vec![("../x", "")], libc::EINVAL),
        (vec![("a/b", "")], libc::EINVAL),
        (vec![("/tmp/x", "")], libc::EINVAL),
        (vec![("..", "")], libc::EINVAL),
        (vec![("", "")], libc::EINVAL),
        (vec![("x", "1"), ("x", "2")], libc::EINVAL),
        (vec![("x", large.as_str())], libc::EINVAL),
        (vec![("x", &large[..9000])], libc::ENOSPC),
    ] {
        let options: Vec<&str> = carried
            .iter()
            .flat_map(|(name, text)| ["--file", *name, *text])
            .collect();
        let small =
            "[[tmp]]\nat = \"/home/render\"\nsize = \"8KiB\"\ninodes = 100\nreason = \"small\"";
        let ran = Session::new(&options).policy(small).sh("echo ran");
        assert_eq!(
            ran.cause,
            format!("not started: files failed with error {errno}"),
            "{}",
            ran.ended
        );
        assert_eq!(ran.stdout, "", "the command ran");
    }
}

/// Session groups of cgroup v2 on this host.
fn groups() -> Vec<PathBuf> {
    [
        "/sys/fs/cgroup/safelight",
        "/sys/fs/cgroup/unified/safelight",
    ]
    .iter()
    .flat_map(fs::read_dir)
    .flatten()
    .flatten()
    .map(|entry| entry.path())
    .filter(|path| path.is_dir())
    .collect()
}

/// True if nobody holds the lock of a group that is still there: its agent is gone, and nobody has swept it.
fn abandoned(group: &Path) -> bool {
    let status = Command::new("flock")
        .arg("--nonblock")
        .arg(group)
        .arg("true")
        .status();
    group.exists() && status.unwrap().success()
}

fn anyone_runs(mark: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0);
        words
            .next()
            .is_some_and(|program| program.ends_with(b"sleep"))
            && words.next() == Some(mark.as_bytes())
    })
}

fn wait_until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "it did not happen in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A kernel without a feature must be noticed by the probe, and a session that requires it must not run a single instruction of its command.
#[test]
fn a_missing_feature_is_reported_and_refused() {
    for (feature, said, refusal) in [
        ("landlock", "Landlock", "this host cannot enforce landlock"),
        (
            "seccomp",
            "Seccomp",
            "not started: seccomp failed with error 38",
        ),
        (
            "user-namespace",
            "UserNamespace",
            "not started: user namespace failed with error 1",
        ),
        (
            "namespaces",
            "Namespaces",
            "not started: namespaces failed with error 22",
        ),
        (
            "network-namespace",
            "NetworkNamespace",
            "not started: namespaces failed with error 22",
        ),
    ] {
        let session = Session::new(&[]);
        let lesser = |arguments: &[&std::ffi::OsStr]| {
            let mut command = Command::new(session.harness());
            command.args(["__without", feature, "--"]).args(arguments);
            command.output().unwrap()
        };
        let harness = session.harness();
        let probe = lesser(&[harness.as_os_str(), "probe".as_ref()]);
        let text = String::from_utf8_lossy(&probe.stdout).replace("{\n            ", "{ ");
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{said}: ")));
        assert!(
            line.is_some_and(|line| !line.contains("Active")),
            "{feature}: {text}"
        );

        let full = session.command(&["sh", "-c", "echo ran"]);
        let mut words = vec![full.get_program()];
        words.extend(full.get_args());
        let ran = lesser(&words);
        let report = fs::read_to_string(session.folder.path().join("report")).unwrap_or_default();
        let told = format!("{}{report}", String::from_utf8_lossy(&ran.stderr));
        assert!(told.contains(refusal), "{feature}: {told}");
        assert!(ran.stdout.is_empty(), "{feature}: the command ran");
    }
}

/// Asks for a user namespace until it is told otherwise.
const ASKS: &str = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nanswers = set()\nfor _ in range(TIMES): answers.add((libc.unshare(0x10000000), ctypes.get_errno()))\nprint(answers)";

#[test]
fn what_the_filter_refuses_is_told_by_name_and_number() {
    for session in both(&[]) {
        let ran = session.run(&["python3", "-c", &ASKS.replace("TIMES", "3")]);
        assert_eq!(ran.stdout, "{(-1, 1)}\n", "{}{}", ran.stderr, ran.ended);
        assert!(
            ran.ended.contains("refused: Some([(\"unshare\", 3)])"),
            "{}",
            ran.ended
        );
        // The control: what is allowed is not told of.
        let ran = session.sh("cat /proc/self/status > /tmp/x");
        assert!(ran.ended.contains("refused: Some([])"), "{}", ran.ended);
    }
    // Where the filter kills there is nobody to answer.
    let kills = Session::new(&[]).policy("[seccomp]\non_deny = \"kill\"");
    let ran = kills.run(&["python3", "-c", &ASKS.replace("TIMES", "3")]);
    assert_eq!(ran.cause, "killed by signal 31", "{}", ran.ended);
    assert!(ran.ended.contains("refused: None"), "{}", ran.ended);
}

#[test]
fn who_floods_the_agent_with_refused_calls_is_slowed_and_ends_when_its_time_is_over() {
    let session = Session::new(&["--wall", "2000"]);
    let flood = ASKS.replace("range(TIMES)", "iter(int, 1)");
    let threads = "import threading\nfor _ in range(8): threading.Thread(target=lambda: exec(flood), daemon=False).start()";
    let ran = session.run(&[
        "python3",
        "-c",
        &format!("flood = '''{flood}'''\n{threads}"),
    ]);
    assert!(ran.cause.contains("ran longer"), "{}", ran.ended);
    let times = ran.ended.split("(\"unshare\", ").nth(1).unwrap();
    let times: u64 = times.split(')').next().unwrap().parse().unwrap();
    // At once 10,000, then 2,000 a second: for the time that it had, what it took to begin and its grace with it, not 60,000.
    assert!((1..60_000).contains(&times), "{times}");
}
