//! Two sites on one machine that cannot reach each other: each has a mount and a network namespace of its own, and keeps everything in a
//! file system that only that namespace sees. What passes between them is what [`crate::carriage`] carries.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    carriage::Carriage,
    harness::{Ended, Host, Process, Running, SAFELIGHT, Tree, clean, end, requires},
};

/// What every test with two sites needs.
const NEEDS: &[&str] = &["root", "fuse", "userns", "landlock", "setpriv", "ip"];

/// How long anything between the sites may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Makes a namespace with a file system of its own, says so, and stays until it is killed.
const HOLD: &str =
    "ip link set lo up && mount -t tmpfs -o mode=755 none \"$1\" && echo ready && exec sleep 3600";

/// True if the machine has what two sites need, and this besides.
pub(crate) fn farm_requires(more: &[&str]) -> bool {
    requires(&[NEEDS, more].concat())
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "it never came that {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// One site with its nodes, and the namespaces that they live in.
pub(crate) struct Site {
    pub(crate) name: &'static str,
    /// How much the site's servers say.
    pub(crate) log: &'static str,
    root: PathBuf,
    holder: Child,
    served: BTreeMap<String, Running>,
    said: String,
}

impl Site {
    fn new(name: &'static str, host: &Host) -> Self {
        let mut hold = clean(Command::new("setpriv"), &host.state(), host.root());
        hold.args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "--"]);
        hold.args(["sh", "-c", HOLD, "hold"]).arg(host.root());
        let mut holder = hold.stdout(Stdio::piped()).spawn().expect("a namespace");
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n", "{name} has no namespace");
        Self {
            name,
            log: "info",
            root: host.root().to_owned(),
            holder,
            served: BTreeMap::new(),
            said: String::new(),
        }
    }

    /// A path as the site sees it.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// The same place as the test sees it.
    pub(crate) fn seen(&self, name: impl AsRef<Path>) -> PathBuf {
        let inside = self.path(name);
        let inside = inside.strip_prefix("/").expect("an absolute path");
        Path::new("/proc")
            .join(self.holder.id().to_string())
            .join("root")
            .join(inside)
    }

    /// The process that keeps the site's namespaces.
    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// The site's network, for a thread of the test's that wants to be in it.
    pub(crate) fn network(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.holder.id())).expect("the network")
    }

    /// A file of the site's, with the directories above it.
    pub(crate) fn write(&self, name: impl AsRef<Path>, contents: impl AsRef<[u8]>) {
        let path = self.seen(name);
        fs::create_dir_all(path.parent().expect("a name")).expect("directory");
        fs::write(path, contents).expect("file");
    }

    /// What a file of the site's holds; nothing if it is not there.
    pub(crate) fn read(&self, name: impl AsRef<Path>) -> String {
        fs::read_to_string(self.seen(name)).unwrap_or_default()
    }

    /// A command inside the site.
    pub(crate) fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let state = self.path("state");
        let mut command = clean(Command::new("setpriv"), &state, &self.root);
        command
            .args(["--pdeathsig", "KILL", "nsenter", "--mount", "--net"])
            .args(["--target", &self.holder.id().to_string(), "--"])
            .arg(program)
            .env("SAFELIGHT_LOG", self.log);
        command
    }

    /// The program under test, asked something at this site.
    pub(crate) fn ask(&self, words: &[&str]) -> Ended {
        end(self.inside(SAFELIGHT).args(words))
    }

    /// The same, answered with a line of JSON each.
    #[track_caller]
    pub(crate) fn told(&self, words: &[&str]) -> Vec<Value> {
        let said = self.ask(&[words, &["--json"]].concat()).ok();
        let lines = said.out.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// A job as this site's books have it.
    pub(crate) fn job(&self, job: &str) -> Option<Value> {
        let said = self.ask(&["job", "show", job, "--tasks", "--json"]);
        serde_json::from_str(&said.out).ok()
    }

    /// The state of a job at this site; empty if it has none.
    pub(crate) fn state_of(&self, job: &str) -> String {
        let shown = self.job(job).unwrap_or_default();
        shown["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a job is in one of these states here; answers which.
    #[track_caller]
    pub(crate) fn until_job(&self, job: &str, states: &[&str]) -> String {
        until(&format!("{job} is {states:?} at {}", self.name), || {
            Some(self.state_of(job)).filter(|state| states.contains(&state.as_str()))
        })
    }

    /// The attempts of a job that ran at this site.
    pub(crate) fn attempts(&self, job: &str) -> Vec<Value> {
        let shown = self.job(job).unwrap_or_default();
        shown["attempts"].as_array().cloned().unwrap_or_default()
    }

    /// Starts a server of the site's: `serve`, or a node by its name.
    pub(crate) fn start(&mut self, name: &str) {
        let mut command = self.inside(SAFELIGHT);
        if name == "serve" {
            command.arg("serve");
        } else {
            command.args(["node", "serve", "--state"]);
            command.arg(self.path(name));
        }
        let running = Running::start(&mut command);
        assert!(self.served.insert(name.to_owned(), running).is_none());
    }

    /// What a server started, and the server itself.
    pub(crate) fn tree(&self, name: &str) -> Tree {
        self.served[name].tree()
    }

    /// The server that is this process, if one is.
    pub(crate) fn server_with(&self, pid: i32) -> Option<String> {
        let mut served = self.served.iter();
        let found = served.find(|(_, running)| running.pid() == pid);
        found.map(|(name, _)| name.clone())
    }

    /// Every process of the site's servers.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let all = self.served.values().map(Running::tree);
        all.flat_map(|tree| tree.processes).collect()
    }

    /// Kills a server, sees that all that it started goes too, and keeps what it said.
    #[track_caller]
    pub(crate) fn kill(&mut self, name: &str) {
        let running = self.served.remove(name).expect("a server that runs");
        let tree = running.tree();
        running.signal(Signal::SIGKILL);
        self.said.push_str(&running.end().err);
        let left = tree.gone_within(Duration::from_secs(20));
        assert!(left.is_empty(), "{name} was killed and left {left:#?}");
    }

    /// What every server said so far.
    pub(crate) fn said(&self) -> String {
        let said = self.served.values().map(|running| running.so_far().1);
        said.fold(self.said.clone(), |all, said| all + &said)
    }

    fn make(&self, role: &str) {
        let made = ["site", "init", "--name", self.name, "--role", role];
        self.ask(&[&made[..], &["--listen", "127.0.0.1:7411"]].concat())
            .ok();
        let quick = [("poll_ms = 500", "poll_ms = 50"), ("beat = 5", "beat = 1")];
        let mut config = self.read("state/safelight.toml");
        let more = [("lease = 60", "lease = 4"), ("fresh = 45", "fresh = 5")];
        for (slow, quick) in quick.into_iter().chain(more) {
            assert!(config.contains(slow), "{slow}: {config}");
            config = config.replace(slow, quick);
        }
        self.write("state/safelight.toml", config);
    }

    /// Trusts another site, and agrees on the folders.
    pub(crate) fn trust(&self, other: &Self) {
        self.trust_at(other, "hot");
    }

    /// The same, with the folders for it in a directory of their own.
    pub(crate) fn trust_at(&self, other: &Self, folders: &str) {
        self.write("their-card.toml", other.read("state/card.toml"));
        let card = self.path("their-card.toml");
        let [out, r#in] = ["out", "in"].map(|part| self.path(folders).join(part));
        let mut enroll = self.inside(SAFELIGHT);
        enroll.args(["site", "enroll"]).arg(card);
        end(enroll.arg("--out").arg(out).arg("--in").arg(r#in)).ok();
    }

    /// Makes a node of the site's and enrolls it.
    pub(crate) fn join(&self, node: &str, slots: &str) {
        let joined = self.join_only(node, node, slots);
        let (name, key) = joined.trim_end().split_once(' ').expect("name and key");
        self.ask(&["node", "enroll", name, key.trim()]).ok();
    }

    /// Makes a node in a directory, under a name; answers name and key. Nobody enrolls it.
    pub(crate) fn join_only(&self, directory: &str, name: &str, slots: &str) -> String {
        let mut join = self.inside(SAFELIGHT);
        join.args(["node", "join", "--name", name, "--slots", slots]);
        join.args(["--site", "http://127.0.0.1:7411", "--card"]);
        join.arg(self.path("state/card.toml"));
        end(join.arg("--state").arg(self.path(directory))).ok().out
    }
}

impl Drop for Site {
    /// Ends what the test started, and nothing else.
    fn drop(&mut self) {
        if thread::panicking() {
            println!("--- {} said\n{}---", self.name, self.said());
        }
        let trees: Vec<Tree> = self.served.values().map(Running::tree).collect();
        self.served.clear();
        for left in trees
            .iter()
            .flat_map(|tree| tree.gone_within(Duration::from_secs(10)))
        {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(left.pid), Signal::SIGKILL);
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A client's own site `home` with one node, a render site `north` with two, and a carrier.
pub(crate) struct Farm {
    pub(crate) home: Site,
    pub(crate) north: Site,
    pub(crate) carriage: Carriage,
    host: Host,
}

/// The nodes of each site, and how many slots each has.
pub(crate) const HOME_NODES: [&str; 1] = ["h1"];
pub(crate) const NORTH_NODES: [&str; 2] = ["n1", "n2"];

impl Farm {
    /// Two sites that know each other, with nothing running.
    pub(crate) fn at_rest() -> Self {
        let host = Host::new();
        let (home, north) = (Site::new("home", &host), Site::new("north", &host));
        home.make("local");
        north.make("remote");
        home.trust(&north);
        north.trust(&home);
        for (site, nodes) in [(&home, &HOME_NODES[..]), (&north, &NORTH_NODES[..])] {
            nodes.iter().for_each(|node| site.join(node, "2"));
        }
        Self {
            carriage: Carriage::between(&home, &north),
            home,
            north,
            host,
        }
    }

    /// Two sites at work, and the carrier under way.
    pub(crate) fn at_work() -> Self {
        let mut farm = Self::at_rest();
        farm.start();
        farm
    }

    /// One more site, in namespaces of its own, that nobody knows yet.
    pub(crate) fn another(&self, name: &'static str, role: &str) -> Site {
        let site = Site::new(name, &self.host);
        site.make(role);
        site
    }

    /// Starts every server.
    pub(crate) fn start(&mut self) {
        for name in ["serve"].iter().chain(&HOME_NODES) {
            self.home.start(name);
        }
        for name in ["serve"].iter().chain(&NORTH_NODES) {
            self.north.start(name);
        }
    }

    /// A place that neither site sees.
    pub(crate) fn outside(&self) -> &Host {
        &self.host
    }

    /// Hands a bundle of home's in; answers the job.
    #[track_caller]
    pub(crate) fn submit(&self, bundle: &str, place: &str) -> String {
        let bundle = self.home.path(bundle);
        let mut submit = self.home.inside(SAFELIGHT);
        submit.arg("submit").arg(bundle);
        let said = end(submit.args(["--quiet", "--where", place])).ok();
        said.out.trim_end().to_owned()
    }

    /// Waits until a job came to its good end at home.
    #[track_caller]
    pub(crate) fn delivered(&self, job: &str) {
        let ends = ["delivered", "failed", "canceled"];
        assert_eq!(self.home.until_job(job, &ends), "delivered", "{job}");
    }

    /// Each task of the job was committed once, and what it lost is gone: answers how many attempts there were.
    #[track_caller]
    pub(crate) fn committed_once(site: &Site, job: &str, tasks: u64) -> usize {
        let attempts = site.attempts(job);
        let mut committed: Vec<&str> = attempts
            .iter()
            .filter(|attempt| attempt["state"] == "committed")
            .map(|attempt| attempt["task"].as_str().unwrap_or("0/0"))
            .collect();
        committed.sort_unstable();
        let mut all: Vec<_> = (0..tasks).map(|task| format!("0/{task}")).collect();
        all.sort_unstable();
        assert_eq!(committed, all, "{attempts:#?}");
        attempts.len()
    }

    /// No queue of either site holds anything.
    #[track_caller]
    pub(crate) fn queues_are_empty(&self) {
        for site in [&self.home, &self.north] {
            let queues = site.told(&["queue", "list"]);
            assert!(queues.is_empty(), "{}: {queues:#?}", site.name);
        }
    }
}
