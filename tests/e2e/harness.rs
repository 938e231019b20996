//! What every end-to-end test uses: a host of its own, what the machine must have, and a look at what a run started.

#![allow(
    dead_code,
    reason = "each module of the suite uses the part that it needs"
)]

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// The program under test.
pub(crate) const SAFELIGHT: &str = env!("CARGO_BIN_EXE_safelight");

/// How long anything may take before the test gives up on it; `SAFELIGHT_PATIENCE` is for processors that are emulated.
fn patience() -> Duration {
    let said = std::env::var("SAFELIGHT_PATIENCE").ok();
    Duration::from_secs(said.and_then(|said| said.parse().ok()).unwrap_or(180))
}

// --- What the machine must have ---------------------------------------------------------------------------------------------------

/// True if the machine has what the test needs. What is absent is said and the test skipped, unless `SAFELIGHT_REQUIRE` lists it.
pub(crate) fn requires(needs: &[&str]) -> bool {
    let required = std::env::var("SAFELIGHT_REQUIRE").unwrap_or_default();
    let required: BTreeSet<&str> = required.split(',').map(str::trim).collect();
    let test = thread::current().name().unwrap_or("test").to_owned();
    for need in needs {
        if has(need) {
            continue;
        }
        assert!(
            !required.contains(need),
            "{test} needs {need}, and SAFELIGHT_REQUIRE says that this machine has it"
        );
        println!("skipped: {test} needs {need}");
        return false;
    }
    true
}

fn has(need: &str) -> bool {
    match need {
        "root" => nix::unistd::geteuid().is_root(),
        "fuse" => File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .is_ok(),
        "userns" => succeeds("unshare", &["--user", "true"]),
        // The kernel's answer is behind a system call; the program's own diagnosis asks it.
        "landlock" => doctor_says("landlock"),
        // Control groups of version 2 that can limit: not the ones that a container or a hybrid host has.
        "controllers" => fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|has| {
            let has: Vec<&str> = has.split_whitespace().collect();
            ["cpu", "memory", "pids"]
                .iter()
                .all(|one| has.contains(one))
        }),
        // A disk of a file that can be made to stand still.
        "loop" => {
            let control = File::options()
                .read(true)
                .write(true)
                .open("/dev/loop-control");
            let tools = ["mkfs.ext4", "fsfreeze", "mount"];
            control.is_ok() && tools.iter().all(|tool| installed(tool).is_some())
        }
        // And how fast disks are read and written.
        "io" => fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .is_ok_and(|has| has.split_whitespace().any(|one| one == "io")),
        // Debian's own Python is what a session sees.
        "numpy" => succeeds("/usr/bin/python3", &["-c", "import numpy"]),
        "povray" | "blender" | "strace" | "fusermount3" | "setpriv" | "python3" | "ip"
        | "ffmpeg" | "convert" | "git" | "gcc" => installed(need).is_some(),
        "pjdfstest" | "fsx" => suite(need).is_some(),
        "python-packages" => succeeds(
            &python().to_string_lossy(),
            &["-c", "import cryptography, blake3"],
        ),
        "moto" => succeeds(&python().to_string_lossy(), &["-c", "import moto.server"]),
        other => panic!("unknown need {other:?}"),
    }
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn doctor_says(feature: &str) -> bool {
    static REPORT: OnceLock<serde_json::Value> = OnceLock::new();
    let report = REPORT.get_or_init(|| {
        let said = Command::new(SAFELIGHT).args(["doctor", "--json"]).output();
        said.ok()
            .and_then(|said| serde_json::from_slice(&said.stdout).ok())
            .unwrap_or_default()
    });
    let status = report["features"][feature]["status"].as_str();
    // Of an older kind is there too; what it lacks, other walls make up for.
    matches!(status, Some("active" | "degraded"))
}

/// The interpreter for our own tools: the one that `make setup` prepares, or the system's.
pub(crate) fn python() -> PathBuf {
    let target = Path::new(SAFELIGHT).parent().and_then(Path::parent);
    let prepared = target.map(|target| target.join("python/bin/python3"));
    let prepared = prepared.filter(|python| python.exists());
    prepared.unwrap_or_else(|| PathBuf::from("python3"))
}

/// Where a suite is that is built from its crate: where `make setup` puts it, or where it was installed.
pub(crate) fn suite(name: &str) -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools/bin");
    let built = built.join(name);
    if built.is_file() {
        Some(built)
    } else {
        installed(name)
    }
}

/// Where a program is, as the session would find it.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.is_file())
}

// --- Chance -----------------------------------------------------------------------------------------------------------------------

/// Random lower-case letters: a word that stands nowhere else on this machine.
pub(crate) fn word(letters: usize) -> String {
    let mut bytes = vec![0; letters];
    File::open("/dev/urandom")
        .and_then(|mut urandom| urandom.read_exact(&mut bytes))
        .expect("random bytes");
    bytes
        .iter()
        .map(|byte| char::from(b'a' + byte % 26))
        .collect()
}

// --- A host of a test's own -------------------------------------------------------------------------------------------------------

/// A temporary directory with a state in it.
pub(crate) struct Host {
    temp: TempDir,
    born: i64,
}

impl Host {
    pub(crate) fn new() -> Self {
        let temp = tempfile::Builder::new()
            .prefix("safelight-test-")
            .tempdir()
            .expect("temporary directory");
        let born = fs::metadata(temp.path()).expect("metadata").ctime();
        Self { temp, born }
    }

    /// When it was made: seconds since 1970, by the clock of its file system.
    pub(crate) fn born(&self) -> i64 {
        self.born
    }

    /// Where everything of this test is.
    pub(crate) fn root(&self) -> &Path {
        self.temp.path()
    }

    /// A path of this test's.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.temp.path().join(name)
    }

    /// The state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// A directory of this test's, made if need be.
    pub(crate) fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("directory");
        path
    }

    /// A file of this test's, with the directories above it.
    pub(crate) fn write(&self, name: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        if let Some(above) = path.parent() {
            fs::create_dir_all(above).expect("directory");
        }
        fs::write(&path, contents).expect("file");
        path
    }

    /// The program under test, with this host's state and nothing of the tester's environment.
    pub(crate) fn safelight(&self) -> Command {
        clean(Command::new(SAFELIGHT), &self.state(), self.root())
    }

    /// `safelight run` with the given central directories, options and command.
    pub(crate) fn run(
        &self,
        central: &[(&Path, &str)],
        options: &[&str],
        command: &[&str],
    ) -> Command {
        let mut run = self.safelight();
        run.arg("run");
        for (host, path) in central {
            run.arg("--central")
                .arg(format!("{}:{path}", host.display()));
        }
        run.args(options).arg("--").args(command);
        run
    }
}

/// A command that sees a state and a home, and none of the tester's environment.
pub(crate) fn clean(mut command: Command, state: &Path, home: &Path) -> Command {
    command
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", home)
        .env("SAFELIGHT_STATE", state)
        .stdin(Stdio::null());
    command
}

// --- Something that ran -----------------------------------------------------------------------------------------------------------

/// How a command ended and what it said.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            signal,
            out,
            err,
        } = self;
        write!(
            f,
            "code {code:?}, signal {signal:?}\n--- standard output\n{out}\n--- standard error\n{err}\n---"
        )
    }
}

impl Ended {
    /// The same, once it is clear that it was a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The same, once it is clear that it failed with this exit code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// The last line of JSON on standard error, as `run --json` says it.
    #[track_caller]
    pub(crate) fn said(&self) -> serde_json::Value {
        self.err
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str(line).ok())
            .unwrap_or_else(|| panic!("no JSON in {self:?}"))
    }

    /// The job's id, from the last line of JSON or from any line that begins with it.
    #[track_caller]
    pub(crate) fn job(&self) -> String {
        let word = self
            .err
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .find(|word| word.starts_with("job-"));
        word.unwrap_or_else(|| panic!("no job in {self:?}"))
            .to_owned()
    }
}

/// Runs a command to its end.
pub(crate) fn end(command: &mut Command) -> Ended {
    Running::start(command).end()
}

/// A command that runs, its output as it comes.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
    readers: Vec<thread::JoinHandle<()>>,
    done: bool,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (say, lines) = mpsc::channel();
        let (out, err) = (Arc::default(), Arc::default());
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(collect(stdout, Arc::clone(&out), Some(say)));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(collect(stderr, Arc::clone(&err), None));
        }
        Self {
            child,
            lines,
            out,
            err,
            readers,
            done: false,
        }
    }

    /// The process: first the client, then the agent, at the end the client again.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// What it said until now: standard output, standard error.
    pub(crate) fn so_far(&self) -> (String, String) {
        (text(&self.out), text(&self.err))
    }

    /// Waits for a line of standard output that begins so, and answers the rest of it.
    #[track_caller]
    pub(crate) fn line(&mut self, begin: &str) -> String {
        let until = Instant::now() + patience();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(begin) {
                        return rest.to_owned();
                    }
                }
                Err(_) => {
                    let said = self.abort();
                    panic!("no line begins with {begin:?}: {said:?}");
                }
            }
        }
    }

    /// Sends a signal to the process itself.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid()), signal);
    }

    /// What it started, as of now.
    pub(crate) fn tree(&self) -> Tree {
        Tree::of(self.pid())
    }

    /// Tells the job's own command, which traps `USR1`, to go on.
    pub(crate) fn go_on(&self) {
        let tree = self.tree();
        let command = tree.one(Role::Command);
        kill(Pid::from_raw(command.pid), Signal::SIGUSR1).expect("signal to the command");
    }

    /// Waits until it ends.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let until = Instant::now() + patience();
        loop {
            match self.child.try_wait().expect("wait") {
                Some(status) => return self.ended(status),
                None if Instant::now() > until => {
                    let said = self.abort();
                    panic!("it did not end: {said:?}");
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn abort(&mut self) -> Ended {
        let _ = self.child.kill();
        let status = self.child.wait().expect("wait");
        self.ended(status)
    }

    fn ended(&mut self, status: std::process::ExitStatus) -> Ended {
        self.done = true;
        // A process that escaped may hold the pipes open: what came until then is what was said.
        let until = Instant::now() + Duration::from_secs(5);
        while self.readers.iter().any(|reader| !reader.is_finished()) && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        Ended {
            code: status.code(),
            signal: status.signal(),
            out: text(&self.out),
            err: text(&self.err),
        }
    }
}

fn text(from: &Mutex<String>) -> String {
    from.lock().map(|text| text.clone()).unwrap_or_default()
}

impl Drop for Running {
    /// A test that failed leaves nothing running: the agent takes everything along.
    fn drop(&mut self) {
        if !self.done {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn collect(
    from: impl Read + Send + 'static,
    text: Arc<Mutex<String>>,
    say: Option<mpsc::Sender<String>>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count > 0)
        {
            let said = String::from_utf8_lossy(&line).into_owned();
            if let Ok(mut text) = text.lock() {
                text.push_str(&said);
            }
            if let Some(say) = &say {
                let _ = say.send(said.trim_end_matches('\n').to_owned());
            }
            line.clear();
        }
    })
}

/// A shell script for a session that says `ready`, and then waits until [`Running::go_on`].
pub(crate) fn and_wait(before: &str, after: &str) -> String {
    format!(
        "trap 'go=1' USR1; go=\n{before}\necho ready\nwhile [ -z \"$go\" ]; do sleep 0.05; done\n{after}\n"
    )
}

// --- What a run started -----------------------------------------------------------------------------------------------------------

/// What a process of a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The process that was started: client, agent, client.
    Agent,
    Warden,
    Audit,
    View,
    /// The client's process at its own site.
    Client,
    /// The outer launcher.
    Launcher,
    /// The session's PID 1.
    Init,
    /// The job's own command: PID 1's first child.
    Command,
    /// Anything else of the session.
    Session,
    Other,
}

impl Role {
    /// True for what runs inside the session or became it.
    pub(crate) fn is_session(self) -> bool {
        matches!(
            self,
            Self::Launcher | Self::Init | Self::Command | Self::Session
        )
    }
}

/// One process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    /// When it was started, in ticks since boot: with the number it names one process for ever.
    pub(crate) started: u64,
    pub(crate) arguments: Vec<String>,
    pub(crate) role: Role,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may hold anything, parentheses too.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if fields.first() == Some(&"Z") {
            return None;
        }
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let arguments = arguments
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
            arguments,
            role: Role::Other,
        })
    }

    /// True while this very process lives.
    pub(crate) fn lives(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started)
    }
}

/// Every process of the machine that can be seen.
pub(crate) fn processes() -> Vec<Process> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Process::read)
        .collect()
}

/// What one run started.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) processes: Vec<Process>,
}

impl Tree {
    /// The process and everything below it.
    pub(crate) fn of(root: i32) -> Self {
        let all = processes();
        let mut tree: Vec<Process> = Vec::new();
        let mut next = vec![(root, Role::Agent)];
        while let Some((pid, role)) = next.pop() {
            let Some(process) = all.iter().find(|process| process.pid == pid) else {
                continue;
            };
            for child in all.iter().filter(|process| process.parent == pid) {
                next.push((child.pid, below(role, child)));
            }
            tree.push(Process {
                role,
                ..process.clone()
            });
        }
        Self { processes: tree }
    }

    /// The one process with this role.
    #[track_caller]
    pub(crate) fn one(&self, role: Role) -> &Process {
        let mut found = self.processes.iter().filter(|process| process.role == role);
        match (found.next(), found.next()) {
            (Some(process), None) => process,
            _ => panic!("not exactly one {role:?} in {self:#?}"),
        }
    }

    /// What of it still lives.
    pub(crate) fn living(&self) -> Vec<&Process> {
        self.processes
            .iter()
            .filter(|process| process.lives())
            .collect()
    }

    /// Waits until all of it is gone; answers what is not.
    pub(crate) fn gone_within(&self, limit: Duration) -> Vec<&Process> {
        let until = Instant::now() + limit;
        while !self.living().is_empty() && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        self.living()
    }

    /// The devices of the session's views, `major:minor`, by which mounts are found again.
    pub(crate) fn view_devices(&self) -> BTreeSet<String> {
        let session = self
            .processes
            .iter()
            .filter(|process| matches!(process.role, Role::Launcher | Role::Init | Role::Command));
        session
            .flat_map(|process| mounts_of(process.pid))
            .filter(|mount| mount.kind.starts_with("fuse"))
            .map(|mount| mount.device)
            .collect()
    }
}

fn below(parent: Role, child: &Process) -> Role {
    match parent {
        Role::Agent => match child.arguments.get(1).map(String::as_str) {
            Some("keyd") => Role::Warden,
            Some("__audit") => Role::Audit,
            Some("__view") => Role::View,
            Some("__client") => Role::Client,
            Some("__launch") => Role::Launcher,
            _ => Role::Other,
        },
        Role::Launcher => Role::Init,
        Role::Init => Role::Command,
        Role::Command | Role::Session => Role::Session,
        Role::Warden | Role::Audit | Role::View | Role::Client | Role::Other => Role::Other,
    }
}

/// A line of a mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) device: String,
    pub(crate) at: String,
    pub(crate) kind: String,
}

/// The mounts that a process sees.
pub(crate) fn mounts_of(pid: i32) -> Vec<Mount> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        Some(Mount {
            device: (*before.get(2)?).to_owned(),
            at: (*before.get(4)?).to_owned(),
            kind: after.split(' ').next()?.to_owned(),
        })
    };
    table.lines().filter_map(mount).collect()
}

/// True if a process, or one that it comes from, was started on another state. What nobody owns any more is not.
fn works_for_another(process: &Process, all: &[Process], state: &Path) -> bool {
    let mut next = Some(process);
    while let Some(process) = next {
        let words = &process.arguments;
        let mut named = words.iter().zip(words.iter().skip(1));
        if named.any(|(flag, value)| flag == "--state" && Path::new(value) != state) {
            return true;
        }
        next = all.iter().find(|other| other.pid == process.parent);
    }
    false
}

/// Every mount of these devices that any process of the machine still sees, but for processes of another state's: the kernel gives a freed
/// device number to the next mount, which may be that of a test that runs at the same time.
pub(crate) fn mounts_anywhere(devices: &BTreeSet<String>, state: &Path) -> Vec<(i32, Mount)> {
    let see = |process: &Process| {
        let (pid, mounts) = (process.pid, mounts_of(process.pid).into_iter());
        mounts.map(move |mount| (pid, mount)).collect::<Vec<_>>()
    };
    let all = processes();
    all.iter()
        .filter(|process| !works_for_another(process, &all, state))
        .flat_map(see)
        .filter(|(_, mount)| mount.kind.starts_with("fuse") && devices.contains(&mount.device))
        .collect()
}

/// Everything below a directory, the directory itself not. Nothing is followed.
pub(crate) fn below_directory(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut next = vec![root.to_owned()];
    while let Some(directory) = next.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            // Something of another test's may go while we look.
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory != root => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                next.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Control groups of this machine whose name is this session's.
pub(crate) fn groups_named(name: &str) -> Vec<PathBuf> {
    let all = below_directory(Path::new("/sys/fs/cgroup")).unwrap_or_default();
    all.into_iter()
        .filter(|path| path.is_dir() && path.file_name().is_some_and(|last| last == name))
        .collect()
}
