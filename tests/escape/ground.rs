//! The ground on which the attempts are made: a piece of the host with everything that there is to reach, for root or for an ordinary user.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::{Host, Role, Running, SAFELIGHT, Tree, clean, end, word},
    person::Person,
    table::Said,
};

pub(crate) const ATTEMPTS: &str = include_str!("attempts.py");
const VICTIM: &str = include_str!("victim.py");
pub(crate) const PYTHON: &str = "/usr/bin/python3";
pub(crate) const NEEDS: &[&str] = &[
    "root", "fuse", "userns", "landlock", "python3", "setpriv", "ip",
];

/// Starts a command as one that has a descriptor open and a secret in its environment, as a careless service would.
const CARELESS: &str =
    "exec 7</etc/hostname; ESCAPE_TOKEN=canary; export ESCAPE_TOKEN; exec \"$@\"";

/// Programs with privileges: one is another user's, set-user-id; one has a capability.
const TOOLS: &str = r#"
import os, shutil, struct, sys
to = sys.argv[1]
for name in ("id", "cat"):
    shutil.copy(f"/usr/bin/{name}", f"{to}/{name}")
os.chown(f"{to}/id", 12345, 12345); os.chmod(f"{to}/id", 0o4755)
os.chmod(f"{to}/cat", 0o755)
os.setxattr(f"{to}/cat", "security.capability", struct.pack("<5I", 0x02000001, 1 << 1, 0, 0, 0))
"#;

/// Tells a process numbers, one real-time signal each.
const TELL: &str = r#"
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
for number in sys.argv[2:]:
    if libc.sigqueue(int(sys.argv[1]), 39, ctypes.c_void_p(int(number))): sys.exit(1)
"#;

/// What is tighter than in the shipped policy, so that it is reached soon, and the tools.
fn policy(tools: &Path, rest: &str) -> String {
    let tools = tools.display();
    format!(
        r#"schema = 1
name = "trial"
summary = "for a test"
extends = ["generic"]
[[root]]
at = "{tools}"
rights = "rx"
reason = "programs with privileges, to be tried"
[[tmp]]
at = "/tmp"
size = "8MiB"
inodes = 2000
reason = "small"
[[tmp]]
at = "/dev/shm"
size = "8MiB"
inodes = 2000
reason = "small"
[limits]
pids = 300
files = 256
quota = "8MiB"
{rest}
"#
    )
}

/// Who tries.
pub(crate) enum Who {
    Root(Host),
    Person(Person),
}

pub(crate) struct Ground {
    who: Who,
    /// Not below `/tmp`, which a session has of its own.
    base: TempDir,
    word: String,
}

impl Ground {
    pub(crate) fn of_root() -> Self {
        Self::new(Who::Root(Host::new()))
    }

    pub(crate) fn of_a_person() -> Self {
        Self::new(Who::Person(Person::new()))
    }

    fn new(who: Who) -> Self {
        let base = tempfile::Builder::new()
            .prefix("safelight-escape-")
            .tempdir_in("/var/tmp")
            .expect("a directory below /var/tmp");
        let ground = Self {
            who,
            base,
            word: word(20),
        };
        ground.lay_out();
        ground
    }

    pub(crate) fn host(&self) -> &Host {
        match &self.who {
            Who::Root(host) => host,
            Who::Person(person) => &person.host,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn lay_out(&self) {
        let file = |name: &str, mode: u32| {
            let path = self.path(name);
            fs::write(&path, "not for the job").expect("file");
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("mode");
        };
        for (name, mode) in [
            ("", 0o755),
            ("outside", 0o755),
            ("scratch", 0o1777),
            ("tools", 0o755),
            ("home", 0o1777),
            ("show", 0o777),
            ("assets", 0o777),
        ] {
            fs::create_dir_all(self.path(name)).expect("directory");
            fs::set_permissions(self.path(name), Permissions::from_mode(mode)).expect("mode");
        }
        for (name, _) in attempts() {
            file(&format!("outside/{name}"), 0o600);
        }
        file("show/board.txt", 0o644);
        file("assets/asset", 0o644);
        let out = self.path("outside/follow-a-clients-link-out");
        symlink(out, self.path("show/leads-out")).expect("link");
        let tools = self.path("tools").display().to_string();
        end(
            clean(Command::new(PYTHON), &self.host().state(), self.base.path())
                .args(["-c", TOOLS, &tools]),
        )
        .ok();
        if let Who::Person(Person { uid, .. }) = &self.who {
            let mut own = vec![self.base.path().to_owned()];
            for name in ["outside", "scratch", "home", "show", "assets"] {
                own.push(self.path(name));
                own.extend(
                    fs::read_dir(self.path(name))
                        .expect("directory")
                        .flatten()
                        .map(|it| it.path()),
                );
            }
            for path in own {
                nix::unistd::fchownat(
                    nix::fcntl::AT_FDCWD,
                    &path,
                    Some((*uid).into()),
                    Some((*uid).into()),
                    nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
                )
                .expect("owner");
            }
        }
    }

    /// A command of who tries, in the open.
    fn command(&self, words: &[&str]) -> Command {
        let careless = ["sh", "-c", CARELESS, "careless"];
        let words = [&careless[..], words].concat();
        match &self.who {
            Who::Root(host) => {
                let mut command = clean(Command::new(words[0]), &host.state(), host.root());
                command.args(&words[1..]);
                command
            }
            Who::Person(person) => person.command("666", &words),
        }
    }

    fn program(&self) -> PathBuf {
        match &self.who {
            Who::Root(_) => SAFELIGHT.into(),
            Who::Person(person) => person.host.path("safelight"),
        }
    }

    fn policy(&self, rest: &str) -> String {
        let path = self.host().write(
            format!("{}.toml", word(8)),
            policy(&self.path("tools"), rest),
        );
        path.display().to_string()
    }

    /// `safelight run` of a command over two views, under a policy of the test's with a few more lines.
    fn session(&self, rest: &str, show: &str, words: &[&str]) -> Command {
        let (program, policy) = (self.program().display().to_string(), self.policy(rest));
        let central = [(show, "/mnt/central"), ("assets", "/mnt/assets:ro")]
            .map(|(name, at)| format!("{}:{at}", self.path(name).display()));
        let run = [
            &program,
            "run",
            "--quiet",
            "--policy",
            &policy,
            "--central",
            &central[0],
            "--central",
            &central[1],
            "--",
        ];
        self.command(&[&run[..], words].concat())
    }

    /// A process of the host's with everything laid out, and what it laid out.
    fn victim(&self) -> (Running, Value) {
        let home = self.path("home").display().to_string();
        let mut victim = self.command(&[PYTHON, "-c", VICTIM, "wait", &self.word, &home, "/tmp"]);
        // What it leaves in its directory must not be there for another attempt of the same test.
        let mut victim = Running::start(victim.current_dir(self.host().dir("victim")));
        let facts = victim.line("ready ");
        (victim, serde_json::from_str(&facts).expect("facts"))
    }

    /// Another job that lays out the same in its session.
    fn other_job(&self) -> Running {
        fs::create_dir_all(self.path("other")).expect("directory");
        if let Who::Person(person) = &self.who {
            chown(self.path("other"), Some(person.uid), Some(person.uid)).expect("owner");
        }
        let mut other = self.session(
            "",
            "other",
            &[
                PYTHON,
                "-c",
                VICTIM,
                "wait",
                &self.word,
                "/home/render",
                "/tmp",
            ],
        );
        let mut other = Running::start(&mut other);
        other.line("ready ");
        other
    }

    fn facts(&self, victim: &Value) -> Value {
        let path = |name: &str| self.path(name).display().to_string();
        json!({
            "outside": path("outside"), "scratch": path("scratch"), "tools": path("tools"), "victim": victim,
            "readonly": path("assets"), "state": self.host().dir("state"),
            "pids": [victim["pid"]], "disposable": [], "open": true, "wait": false,
            "agent": [], "warden": [], "audit": [], "view": [], "launcher": [], "command": [],
        })
    }

    /// All attempts in the open, or behind one wall: `before` is what puts it up.
    pub(crate) fn in_the_open(&self, before: &[&str]) -> Said {
        let (victim, laid_out) = self.victim();
        let mut leave = self.command(&[
            PYTHON,
            "-c",
            VICTIM,
            "leave",
            &word(20),
            &self.path("home").display().to_string(),
            &self.path("scratch").display().to_string(),
        ]);
        let mut leave = Running::start(leave.current_dir(self.host().dir("past")));
        let past: Value = serde_json::from_str(&leave.line("left ")).expect("facts");
        let disposable: Vec<Child> = (0..8)
            .map(|_| {
                self.command(&["sleep", "600"])
                    .stdout(Stdio::null())
                    .spawn()
                    .expect("sleep")
            })
            .collect();
        let mut facts = self.facts(&laid_out);
        facts["past"] = past.clone();
        // The numbers are those of the sleeping programs: each becomes one by exec.
        facts["disposable"] = disposable.iter().map(Child::id).collect::<Vec<_>>().into();
        facts["victim"]["central"] = laid_out["central"].clone();
        let facts = facts.to_string();
        let words = [before, &[PYTHON, "-c", ATTEMPTS, &facts]].concat();
        let ended = end(self.command(&words).current_dir(self.path("show"))).ok();
        for mut child in disposable {
            let _ = child.kill();
            let _ = child.wait();
        }
        end_daemon(&past);
        victim.signal(Signal::SIGUSR1);
        victim.end().ok();
        said(&ended.out)
    }

    /// All attempts in a session, with another job of the same client beside it, one of another client, and one that is over.
    pub(crate) fn in_a_session(&self, rest: &str) -> Said {
        let (victim, laid_out) = self.victim();
        let mut left = self.session(
            "",
            "other",
            &[
                PYTHON,
                "-c",
                VICTIM,
                "leave",
                &word(20),
                "/home/render",
                "/tmp",
            ],
        );
        fs::create_dir_all(self.path("other")).expect("directory");
        if let Who::Person(person) = &self.who {
            chown(self.path("other"), Some(person.uid), Some(person.uid)).expect("owner");
        }
        let past = end(&mut left).ok();
        let past = past.out.strip_prefix("left ").expect("facts");
        let other = self.other_job();
        let stranger = matches!(self.who, Who::Root(_)).then(Self::of_root);
        let strangers = stranger.as_ref().map(Self::other_job);
        let trees: Vec<Tree> = [Some(&other), strangers.as_ref()]
            .into_iter()
            .flatten()
            .map(Running::tree)
            .collect();
        let mut facts = self.facts(&laid_out);
        facts["past"] = serde_json::from_str(past).expect("facts");
        for (name, to) in [("scratch", "/tmp"), ("readonly", "/mnt/assets")] {
            facts[name] = to.into();
        }
        facts["victim"]["central"] = format!("/mnt/central/left-{}", self.word).into();
        facts["open"] = false.into();
        facts["wait"] = true.into();
        facts["allowed"] = true.into();
        for tree in &trees {
            for (name, role) in ROLES {
                let pid = tree.one(role).pid;
                push(&mut facts[name], pid);
                push(&mut facts["pids"], pid);
            }
        }
        let mut attacker = Running::start(&mut self.session(
            rest,
            "show",
            &[PYTHON, "-c", ATTEMPTS, &facts.to_string()],
        ));
        attacker.line("ready");
        let own = attacker.tree();
        let numbers: Vec<String> = [
            "agent", "warden", "audit", "view", "launcher", "init", "command",
        ]
        .iter()
        .map(|name| own.one(role(name)).pid.to_string())
        .collect();
        let command = own.one(Role::Command).pid.to_string();
        let mut tell = clean(Command::new(PYTHON), &self.host().state(), self.base.path());
        end(tell.args(["-c", TELL, &command]).args(&numbers)).ok();
        // It filled its view, and one failed write means that the attempt never happened.
        let ended = attacker.end().failed(10);
        assert!(
            ended.err.contains("a write to the view failed"),
            "{ended:?}"
        );
        // Nobody of the others has come to harm: they live, and end as they should.
        for (job, tree) in [Some(other), strangers].into_iter().flatten().zip(&trees) {
            assert_eq!(
                tree.living().len(),
                tree.processes.len(),
                "somebody of another job died: {tree:#?}"
            );
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(tree.one(Role::Command).pid),
                Signal::SIGUSR1,
            )
            .expect("signal");
            job.end().ok();
        }
        assert!(
            own.gone_within(Duration::from_secs(1)).is_empty(),
            "something is left"
        );
        victim.signal(Signal::SIGUSR1);
        victim.end().ok();
        said(&ended.out)
    }
}

/// All attempts in a session of root's, made once for all tests.
pub(crate) fn in_roots_session() -> &'static Said {
    static SAID: OnceLock<Said> = OnceLock::new();
    SAID.get_or_init(|| Ground::of_root().in_a_session(""))
}

const ROLES: [(&str, Role); 7] = [
    ("agent", Role::Agent),
    ("warden", Role::Warden),
    ("audit", Role::Audit),
    ("view", Role::View),
    ("launcher", Role::Launcher),
    ("init", Role::Init),
    ("command", Role::Command),
];

fn role(name: &str) -> Role {
    let found = ROLES.iter().find(|(known, _)| *known == name);
    found.expect("a role").1
}

fn push(list: &mut Value, pid: i32) {
    match list {
        Value::Array(list) => list.push(pid.into()),
        other => *other = json!([pid]),
    }
}

/// The daemon that was left in the open.
fn end_daemon(past: &Value) {
    let mark = past["word"].as_str().expect("word");
    for process in crate::harness::processes() {
        if process.arguments.iter().any(|argument| argument == mark) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.pid), Signal::SIGKILL);
        }
    }
    let clean = "import ctypes, sys; libc = ctypes.CDLL(None); libc.shmctl(libc.shmget(int(sys.argv[1]), 0, 0), 0, None)";
    let _ = Command::new(PYTHON)
        .args(["-c", clean, &past["key"].to_string()])
        .status();
    let _ = fs::remove_file(format!("/dev/shm/{mark}"));
}

#[track_caller]
fn said(out: &str) -> Said {
    let line = out.lines().find_map(|line| line.strip_prefix("said "));
    let line = line.unwrap_or_else(|| panic!("nothing said: {out}"));
    let said: std::collections::BTreeMap<String, Value> = serde_json::from_str(line).expect("JSON");
    let flat = |(name, value): (String, Value)| match value {
        Value::String(text) => vec![(name, text)],
        Value::Object(allowed) => allowed
            .into_iter()
            .map(|(name, value)| {
                (
                    format!("allowed: {name}"),
                    value.as_str().unwrap_or_default().to_owned(),
                )
            })
            .collect(),
        _ => Vec::new(),
    };
    said.into_iter().flat_map(flat).collect()
}

/// The attempts by name with what they ask of a policy; see also [`allowed`].
pub(crate) fn attempts() -> Vec<(String, Value)> {
    listed("attempts")
}

/// What a job may do.
pub(crate) fn allowed() -> Vec<(String, Value)> {
    listed("allowed")
}

fn listed(which: &str) -> Vec<(String, Value)> {
    let said = Command::new(PYTHON)
        .args(["-c", ATTEMPTS, r#"{"list": true}"#])
        .output()
        .expect("python3");
    let lists: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    serde_json::from_value(lists[which].clone()).expect("a list")
}
