//! A session reaches its own view and nothing else; when it is over, nothing of it is left.
//!
//! Two programs play this: one lays out everything that a process can be reached by, the other tries each of it. In the open the second
//! reaches every single thing, so the attempts are good; between two sessions it reaches none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    time::Duration,
};

use crate::harness::{
    Host, Role, Running, Tree, clean, end, groups_named, mounts_anywhere, processes, requires, word,
};

/// Lays out, named by a word: a file in the current directory, abstract, TCP and path sockets, shared memory of both kinds, a file below
/// /tmp, and itself with the word in its arguments. Says what is needed to find it, and waits.
const VICTIM: &str = r#"
import ctypes, json, os, signal, socket, sys, time
word = sys.argv[1]
gone = []
signal.signal(signal.SIGUSR1, lambda *_: gone.append(1))
open("secret-" + word, "w").write(word)
abstract = socket.socket(socket.AF_UNIX); abstract.bind("\0" + word); abstract.listen()
named = socket.socket(socket.AF_UNIX); named.bind("/tmp/" + word + ".socket"); named.listen()
port = 0
try:
    tcp = socket.socket(); tcp.bind(("127.0.0.1", 0)); tcp.listen(); port = tcp.getsockname()[1]
except OSError: pass
open("/dev/shm/" + word, "w").write(word)
open("/tmp/" + word, "w").write(word)
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
key = int.from_bytes(word.encode()[:4], "little") & 0x7fffffff
segment = libc.shmget(key, 4096, 0o1666)
secret = ctypes.create_string_buffer(word.encode() * 4)
print("ready " + json.dumps({"pid": os.getpid(), "port": port, "key": key, "segment": segment, "at": ctypes.addressof(secret),
    "central": os.getcwd(), "word": word}), flush=True)
while not gone: time.sleep(0.05)
for path in ("/dev/shm/" + word, "/tmp/" + word, "/tmp/" + word + ".socket"): os.unlink(path)
if segment >= 0: libc.shmctl(segment, 0, None)
"#;

/// Tries to reach everything that the victim laid out; prints what it reached and what refused the rest.
const ATTACKER: &str = r#"
import ctypes, json, os, socket, sys
facts = json.loads(sys.argv[1])
word, pids, central = facts["word"], facts["pids"], facts["central"]
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    ctypes.set_errno(0)
    if getattr(libc, name)(*arguments) < 0: raise OSError(ctypes.get_errno(), name)
def connect(family, address):
    s = socket.socket(family); s.settimeout(2); s.connect(address)
def listed():
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid():
            try: arguments = open(f"/proc/{pid}/cmdline").read()
            except OSError: continue
            if word in arguments and "secret-" in arguments: return
    raise OSError(2, "nobody with that word")
def each(what):
    # Reached if any of the processes is.
    worst = None
    for pid in pids:
        try: what(pid); return
        except OSError as error: worst = error
    raise worst
def peek(pid):
    class iovec(ctypes.Structure): _fields_ = [("at", ctypes.c_void_p), ("len", ctypes.c_size_t)]
    mine = ctypes.create_string_buffer(8)
    local, remote = iovec(ctypes.addressof(mine), 8), iovec(facts["at"], 8)
    call("process_vm_readv", pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
attempts = {
    "list the directory": lambda: os.listdir(central),
    "stat the file": lambda: os.stat(f"{central}/secret-{word}"),
    "open the file": lambda: open(f"{central}/secret-{word}").read(),
    "write a file": lambda: open(f"{central}/planted", "w").write("x"),
    "find the process": listed,
    "signal the process": lambda: each(lambda pid: os.kill(pid, 0)),
    "enter by its root": lambda: each(lambda pid: os.listdir(f"/proc/{pid}/root/")),
    "enter by its directory": lambda: each(lambda pid: os.listdir(f"/proc/{pid}/cwd/")),
    "read its environment": lambda: each(lambda pid: open(f"/proc/{pid}/environ").read()),
    "read its memory": lambda: each(lambda pid: open(f"/proc/{pid}/mem", "rb").close()),
    "read its memory by call": lambda: each(peek),
    "list its descriptors": lambda: each(lambda pid: os.listdir(f"/proc/{pid}/fd")),
    "connect by abstract name": lambda: connect(socket.AF_UNIX, "\0" + word),
    "connect by path": lambda: connect(socket.AF_UNIX, "/tmp/" + word + ".socket"),
    "connect by port": lambda: connect(socket.AF_INET, ("127.0.0.1", facts["port"] or 1)),
    "open shared memory": lambda: open("/dev/shm/" + word).read(),
    "open scratch": lambda: open("/tmp/" + word).read(),
    "find System V memory": lambda: call("shmget", facts["key"], 0, 0),
    "find its state": lambda: os.listdir(facts["state"]),
    "find its groups": lambda: os.listdir("/sys/fs/cgroup"),
}
said = {}
for name, attempt in attempts.items():
    try: attempt(); said[name] = "reached"
    except OSError as error: said[name] = os.strerror(error.errno or 0)
    except Exception as error: said[name] = repr(error)
print(json.dumps(said))
"#;

type Reached = BTreeMap<String, String>;

const PYTHON: &str = "/usr/bin/python3";

/// What the attacker is told: everything that the victim said, and what can be known of it on the host.
fn facts(ready: &str, pids: &[i32], state: &Path) -> String {
    let mut facts: serde_json::Value = serde_json::from_str(ready).expect("facts");
    facts["pids"] = pids.into();
    facts["state"] = state.display().to_string().into();
    facts.to_string()
}

#[track_caller]
fn reached(out: &str) -> Reached {
    serde_json::from_str(out.trim()).unwrap_or_else(|error| panic!("{error}: {out}"))
}

/// The same in the open: an attempt that would fail anyway proves nothing.
fn control(host: &Host, word: &str) -> Reached {
    let directory = host.dir("control");
    let mut victim = clean(Command::new(PYTHON), &host.state(), host.root());
    victim.args(["-c", VICTIM, word]).current_dir(&directory);
    let mut victim = Running::start(&mut victim);
    let ready = victim.line("ready ");
    let facts = facts(&ready, &[victim.pid()], &host.dir("state"));
    let mut attacker = clean(Command::new(PYTHON), &host.state(), host.root());
    let ended = end(attacker.args(["-c", ATTACKER, &facts])).ok();
    victim.signal(nix::sys::signal::Signal::SIGUSR1);
    victim.end().ok();
    reached(&ended.out)
}

/// Sets an attacker on a victim: two sessions at the same time.
fn between(victims: &Host, attackers: &Host) {
    let word = word(20);
    let controlled = control(victims, &word);
    let failed: Reached = controlled
        .clone()
        .into_iter()
        .filter(|(_, said)| said != "reached")
        .collect();
    assert_eq!(failed, Reached::new(), "in the open everything is reached");

    let central = format!("/mnt/central-{word}");
    let mut victim = Running::start(&mut victims.run(
        &[(&victims.dir("victim"), &central)],
        &["--quiet"],
        &[PYTHON, "-c", VICTIM, &word],
    ));
    let ready = victim.line("ready ");
    let tree = victim.tree();
    // The number inside, and every number that the host knows it and its keepers by.
    let pids: Vec<i32> = [
        Role::Command,
        Role::Init,
        Role::Launcher,
        Role::View,
        Role::Agent,
    ]
    .map(|role| tree.one(role).pid)
    .to_vec();
    let facts = facts(&ready, &pids, &victims.state());
    let ended = end(&mut attackers.run(
        &[(&attackers.dir("attacker"), "/mnt/central")],
        &["--quiet"],
        &[PYTHON, "-c", ATTACKER, &facts],
    ))
    .ok();
    let all_lived = tree.living().len() == tree.processes.len();
    victim.go_on();
    victim.end().ok();

    assert!(all_lived, "somebody of the victim's died");
    let said = reached(&ended.out);
    assert_eq!(
        said.keys().collect::<Vec<_>>(),
        controlled.keys().collect::<Vec<_>>()
    );
    let got: Reached = said
        .into_iter()
        .filter(|(_, said)| said == "reached" || said.contains("Error"))
        .collect();
    assert_eq!(got, Reached::new(), "reached from another session");
    let planted = victims.path("victim/planted");
    assert!(!planted.exists(), "a file of the attacker's came home");
}

const NEEDS: &[&str] = &["root", "fuse", "userns", "landlock", "python3"];

#[test]
fn another_job_of_the_same_client_is_out_of_reach() {
    if requires(NEEDS) {
        let host = Host::new();
        between(&host, &host);
    }
}

#[test]
fn a_job_of_another_client_is_out_of_reach() {
    if requires(NEEDS) {
        between(&Host::new(), &Host::new());
    }
}

#[test]
fn two_jobs_at_the_same_central_path_each_see_their_own() {
    if !requires(&["root", "fuse", "userns", "landlock"]) {
        return;
    }
    let host = Host::new();
    let words = [word(16), word(16)];
    let mut running = Vec::new();
    for (number, word) in words.iter().enumerate() {
        host.write(format!("{number}/own.txt"), word);
        let script = crate::harness::and_wait("", "cat own.txt; cp own.txt copy.txt; ls");
        running.push(Running::start(&mut host.run(
            &[(&host.path(number.to_string()), "/mnt/central")],
            &["--quiet"],
            &["sh", "-c", &script],
        )));
    }
    for run in &mut running {
        run.line("ready");
    }
    for run in &running {
        run.go_on();
    }
    for ((number, word), run) in words.iter().enumerate().zip(running) {
        let ended = run.end().ok();
        assert_eq!(
            ended.out,
            format!("ready\n{word}copy.txt\nown.txt\n"),
            "{ended:?}"
        );
        let copy = fs::read_to_string(host.path(format!("{number}/copy.txt")));
        assert_eq!(copy.ok().as_ref(), Some(word));
    }
}

/// Keys are made at first use: of several first uses one makes them, and all go by those.
#[test]
fn several_jobs_may_be_the_first_of_a_host_at_the_same_time() {
    if !requires(&["fuse", "userns", "landlock"]) {
        return;
    }
    let host = Host::new();
    let show = host.dir("show");
    let first = |number: usize| {
        let script = format!("echo {number} > result-{number}");
        Running::start(&mut host.run(
            &[(&show, "/mnt/central")],
            &["--quiet"],
            &["sh", "-c", &script],
        ))
    };
    let running: Vec<Running> = (0..6).map(first).collect();
    for (number, run) in running.into_iter().enumerate() {
        let ended = run.end().ok();
        assert_eq!(ended.err, "", "{ended:?}");
        let result = fs::read_to_string(show.join(format!("result-{number}")));
        assert_eq!(result.ok(), Some(format!("{number}\n")));
    }
    let areas = fs::read_dir(host.path("state/area"))
        .expect("areas")
        .count();
    assert_eq!(areas, 1, "all of them are one client's");
}

/// The names of the control groups that a run's session is in.
fn groups(tree: &Tree) -> BTreeSet<String> {
    let command = tree.one(Role::Command).pid;
    let table = fs::read_to_string(format!("/proc/{command}/cgroup")).expect("cgroup");
    table
        .lines()
        .filter_map(|line| line.rsplit_once("/safelight/"))
        .map(|(_, name)| name.to_owned())
        .collect()
}

#[test]
fn when_a_job_is_over_nothing_of_it_is_left() {
    if !requires(&["root", "fuse", "userns", "landlock"]) {
        return;
    }
    let host = Host::new();
    host.write("show/board.txt", "a storyboard");
    // A daemon that left the session of its terminal and its parent, and holds a file open for writing.
    let before = "setsid sh -c 'exec 9>held; sleep 1000' & setsid sleep 1001 </dev/null & \
                  cat board.txt > copy.txt; while [ ! -e held ]; do sleep 0.01; done";
    let script = crate::harness::and_wait(before, "");
    let command = ["sh", "-c", &script];
    let show = host.path("show");
    let mut run = host.run(
        &[(&show, "/mnt/central"), (&host.dir("more"), "/srv/more")],
        &["--quiet"],
        &command,
    );
    let mut run = Running::start(&mut run);
    run.line("ready");
    let tree = run.tree();
    let (devices, groups) = (tree.view_devices(), groups(&tree));
    assert_eq!(devices.len(), 2, "two views are mounted: {devices:?}");
    assert!(!mounts_anywhere(&devices, &host.state()).is_empty());
    for name in &groups {
        assert!(
            !groups_named(name).is_empty(),
            "{name} is there while it runs"
        );
    }
    let ours = |role: Role| tree.processes.iter().filter(|it| it.role == role).count();
    assert!(ours(Role::Session) + ours(Role::Command) >= 3, "{tree:#?}");

    run.go_on();
    run.end().ok();
    let left = tree.gone_within(Duration::from_millis(500));
    assert!(left.is_empty(), "processes: {left:#?}");
    let state = host.state().display().to_string();
    let left: Vec<_> = processes()
        .into_iter()
        .filter(|process| process.arguments.iter().any(|word| word.contains(&state)))
        .collect();
    assert!(left.is_empty(), "processes: {left:#?}");
    assert_eq!(mounts_anywhere(&devices, &host.state()), []);
    for name in &groups {
        assert_eq!(groups_named(name), Vec::<std::path::PathBuf>::new());
    }
    for job in fs::read_dir(host.path("state/jobs"))
        .expect("jobs")
        .flatten()
    {
        let attempts = fs::read_dir(job.path().join("sessions"));
        assert_eq!(
            attempts.map_or(0, Iterator::count),
            0,
            "an attempt's directory"
        );
    }
    assert_eq!(
        fs::read(host.path("show/copy.txt")).ok(),
        Some(b"a storyboard".to_vec())
    );
}

#[test]
fn inside_one_is_nobody_and_has_nothing() {
    if !requires(&["root", "fuse", "userns", "landlock"]) {
        return;
    }
    let host = Host::new();
    let show = host.dir("show");
    let other = host.dir("other");
    let run = |command: &[&str]| {
        let centrals: &[(&Path, &str)] =
            &[(&show, "/mnt/central/show"), (&other, "/srv/textures:ro")];
        let mut run = host.run(centrals, &["--quiet"], command);
        // Neither the tester's variables nor descriptors reach the session.
        run.env("LD_PRELOAD", "")
            .env("AWS_SECRET_ACCESS_KEY", "canary");
        end(&mut run)
    };
    let ended = run(&[
        "sh",
        "-c",
        "id -u; id -g; id -G; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; ls /proc/$$/fd; \
         tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; hostname; pwd",
    ])
    .ok();
    let none = "0000000000000000";
    let expected = format!(
        "1000\n1000\n1000\nCapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nCapAmb:\t{none}\n\
         NoNewPrivs:\t1\nSeccomp:\t2\n0\n1\n2\nlo\nsafelight\n/mnt/central/show\n"
    );
    assert_eq!(ended.out, expected);
    let ended = run(&["env"]).ok();
    let mut lines: Vec<&str> = ended.out.lines().collect();
    lines.sort_unstable();
    let expected = [
        "HOME=/home/render",
        "LANG=C.UTF-8",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "TMPDIR=/tmp",
        "USER=render",
    ];
    assert_eq!(lines, expected);
    for (script, answer) in [
        ("cat /etc/shadow", "No such file"),
        ("cat /etc/passwd.bak /root/.bashrc", "No such file"),
        ("ls /var /run", "No such file"),
        ("cat /dev/fuse", "No such file"),
        ("ls /mnt", "Permission denied"),
        ("ls /mnt/other-central", "No such file"),
        ("echo x > /srv/textures/x", "Read-only file system"),
        ("kill -9 1", "not permitted"),
        ("unshare --user true", "not permitted"),
    ] {
        let ended = run(&["sh", "-c", script]).failed(10);
        assert!(ended.err.contains(answer), "{script}: {ended:?}");
    }
}
