//! What walls refuse is on the session's log: system calls by name, and what Landlock refuses by path where the kernel tells.

use std::process::Command;

use serde_json::Value;

use crate::{
    ground::{NEEDS, PYTHON},
    harness::{Host, end, requires},
};

/// Two calls that the filter refuses, one of them twice; and three acts that Landlock refuses, two of them alike.
const REFUSED: &str = r#"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for call in (lambda: libc.unshare(0x10000000), lambda: libc.unshare(0x10000000), lambda: libc.swapoff(b"/x")):
    assert call() == -1 and ctypes.get_errno() == 1, ctypes.get_errno()
def refused(act):
    try: act()
    except PermissionError: return
    raise SystemExit("not refused")
os.mkdir("/tmp/client name")
refused(lambda: os.listdir("/"))
refused(lambda: os.listdir("/"))
refused(lambda: os.mknod("/tmp/client name/x", 0o20600, os.makedev(1, 3)))
"#;

fn session(host: &Host, script: &str) -> (Value, Vec<Value>) {
    let log = host.path("records").display().to_string();
    let _ = std::fs::remove_file(&log);
    let options = ["--json", "--audit", &log];
    let show = host.dir("show");
    let words = [PYTHON, "-c", script];
    let ended = end(&mut host.run(&[(&show, "/mnt/central")], &options, &words)).ok();
    let records = std::fs::read_to_string(log).expect("records");
    let records = records
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    (ended.said()["denials"].clone(), records.collect())
}

fn doctor(host: &Host) -> Value {
    let said = end(host.safelight().args(["doctor", "--json"])).ok();
    let said: Value = serde_json::from_str(&said.out).expect("JSON");
    said["denials"].clone()
}

#[test]
fn calls_that_the_filter_refuses_are_on_the_log_by_name() {
    if !requires(NEEDS) {
        return;
    }
    let host = Host::new();
    assert_eq!(doctor(&host)["seccomp"]["status"], "active");
    let (said, records) = session(&host, REFUSED);
    assert_eq!(said["seccomp"]["not_recorded"], Value::Null);
    let refused = serde_json::json!({"unshare": 2, "swapoff": 1});
    assert_eq!(said["seccomp"]["refused"], refused);
    // Each is there before it is answered, and its number at the end.
    let calls = records.iter().filter(|it| it["event"] == "call-refused");
    let calls: Vec<_> = calls
        .map(|it| (it["call"].as_str().expect("a name"), it["times"].as_u64()))
        .collect();
    let expected = [
        ("unshare", Some(1)),
        ("swapoff", Some(1)),
        ("unshare", Some(2)),
    ];
    assert_eq!(calls, expected);
    // The control: who asks for nothing that is refused is not on it.
    let (said, records) = session(&host, "import os; os.getpid()");
    assert_eq!(said["seccomp"]["refused"], serde_json::json!({}));
    assert!(records.iter().all(|it| it["event"] != "call-refused"));
}

#[test]
fn what_landlock_refuses_is_on_the_log_or_it_says_why_not() {
    if !requires(NEEDS) {
        return;
    }
    let host = Host::new();
    let heard = doctor(&host)["landlock"].clone();
    let (said, records) = session(&host, REFUSED);
    let said = &said["landlock"];
    if heard["status"] != "active" {
        // By name, and the same as on the log.
        let why = said["not_recorded"].as_str().expect("why not");
        assert!(
            heard["why"].as_str().expect("why").contains(why),
            "{heard} {why}"
        );
        assert_eq!(said["refused"], serde_json::json!([]));
        let last = records.iter().find(|it| it["event"] == "heard");
        assert_eq!(last.expect("a record")["paths_unheard"], why);
        return;
    }
    assert_eq!(said["not_recorded"], Value::Null, "{said}");
    // The name in its private directory is the client's, and is not shown.
    let expected = serde_json::json!([
        {"what": "fs.make_char", "path": "", "times": 1},
        {"what": "fs.read_dir", "path": "/", "times": 2},
    ]);
    assert_eq!(said["refused"], expected);
    // The operator reads these records.
    let mut told = records.iter().filter(|it| it["event"] == "path-refused");
    assert!(told.all(|it| !it.to_string().contains("client name")));
}

/// Whoever listens before us, as a container's manager may, hears alone; then nobody can say that it was recorded.
#[test]
fn a_host_that_listens_itself_is_said_to() {
    if !requires(NEEDS) {
        return;
    }
    let host = Host::new();
    let safelight = crate::harness::SAFELIGHT;
    let listens = Command::new(PYTHON)
        .args(["-c", LISTENS, safelight, "doctor", "--json"])
        .env("HOME", host.root())
        .output()
        .expect("python3");
    let said: Value = serde_json::from_slice(&listens.stdout).expect("JSON");
    let found = &said["denials"]["seccomp"];
    assert_eq!(found["status"], "unavailable", "{said}");
    assert!(found["why"].as_str().expect("why").contains("not recorded"));
    assert_eq!(said["features"]["seccomp"]["status"], "active");
}

/// Loads a filter that allows everything and has a listener, and becomes a program. (seccomp(2): struct sock_fprog, one instruction.)
const LISTENS: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(allow))
fd = libc.syscall(317, 1, 8, program)
assert fd >= 0, ctypes.get_errno()
os.set_inheritable(fd, True)
os.execv(sys.argv[1], sys.argv[1:])
"#;
