//! A render server at work: a site and a node as two programs on one host, a real job, and what happens when one of them goes away.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{Host, SAFELIGHT, clean, end, requires, word};

pub(crate) const NEEDS: [&str; 4] = ["root", "fuse", "userns", "landlock"];

/// How long a node may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program in the background, its standard error in a file.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn start(mut command: Command, log: PathBuf) -> Self {
        let err = File::options().create(true).append(true).open(&log);
        let child = command
            .stdout(Stdio::null())
            .stderr(err.expect("log"))
            .spawn()
            .expect("daemon");
        Self { child, log }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("signal");
    }

    /// Waits until it has said this so many times.
    #[track_caller]
    pub(crate) fn says(&self, what: &str, times: usize) {
        let said = || fs::read_to_string(&self.log).expect("log");
        wait(&format!("{what:?} in:\n{}", said()), || {
            said().matches(what).count() >= times
        });
    }

    /// Waits for its end; answers its exit code.
    fn end(&mut self) -> Option<i32> {
        let mut code = None;
        wait("the end of a daemon", || {
            code = self.child.try_wait().expect("wait");
            code.is_some()
        });
        code.and_then(|status| status.code())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !until() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A site, and a node that has joined it and is enrolled there; neither runs yet.
pub(crate) struct Farm {
    pub(crate) host: Host,
    /// A word that stands in everything of the client's.
    pub(crate) canary: String,
}

impl Farm {
    /// Its job has so many tasks, each of which runs `script` with the task's number in `$N`, and a step after them that joins what they wrote.
    pub(crate) fn new(tasks: u32, script: &str) -> Self {
        let host = Host::new();
        let canary = word(16);
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("port");
        let farm = Self { host, canary };
        let address = port.to_string();
        farm.site(&[
            "site", "init", "--name", "film", "--role", "local", "--listen", &address,
        ]);
        let toml = farm.host.path("site/safelight.toml");
        let text = fs::read_to_string(&toml).expect("safelight.toml");
        let kept = text
            .lines()
            .filter(|line| !line.starts_with("beat") && !line.starts_with("lease"));
        let kept: Vec<&str> = kept.collect();
        fs::write(&toml, format!("beat = 1\nlease = 4\n{}\n", kept.join("\n"))).expect("toml");
        let (url, card) = (
            format!("http://{address}"),
            farm.host.path("site/card.toml"),
        );
        let mut join = farm.at("node");
        join.args([
            "node", "join", "--name", "n1", "--slots", "2", "--site", &url, "--card",
        ]);
        let joined = end(join.arg(card)).ok();
        let words: Vec<&str> = joined.out.split_whitespace().collect();
        farm.site(&["node", "enroll", words[0], words[1]]);
        farm.write_job(tasks, script);
        farm
    }

    fn write_job(&self, tasks: u32, script: &str) {
        let canary = &self.canary;
        let script = script.replace('\n', "\n            ");
        let template = format!(
            r#"specificationVersion: jobtemplate-2023-09
name: job {canary}
parameterDefinitions:
  - {{ name: In, type: PATH, objectType: DIRECTORY, dataFlow: IN, default: in }}
  - {{ name: Out, type: PATH, objectType: DIRECTORY, dataFlow: OUT, default: out }}
steps:
  - name: Each
    parameterSpace:
      taskParameterDefinitions:
        - {{ name: N, type: INT, range: "1-{tasks}" }}
    script:
      embeddedFiles:
        - name: Run
          type: TEXT
          runnable: true
          data: |
            #!/bin/sh
            set -e
            N={{{{Task.Param.N}}}}
            echo {canary}
            cat '{{{{Param.In}}}}/{canary}.txt' > "{{{{Param.Out}}}}/$N.txt"
            {script}
      actions:
        onRun: {{ command: "{{{{Task.File.Run}}}}", timeout: 120 }}
  - name: All
    dependencies: [ {{ dependsOn: Each }} ]
    script:
      actions:
        onRun: {{ command: /bin/sh, args: ["-c", "cat {{{{Param.Out}}}}/*.txt > {{{{Param.Out}}}}/all"], timeout: 60 }}
"#
        );
        self.host.write("job/template.yaml", template);
        let input = format!("job/in/{canary}.txt");
        self.host.write(input, format!("{canary}\n"));
        self.host.dir("job/out");
    }

    fn at(&self, state: &str) -> Command {
        clean(
            Command::new(SAFELIGHT),
            &self.host.path(state),
            self.host.root(),
        )
    }

    #[track_caller]
    pub(crate) fn site(&self, arguments: &[&str]) -> String {
        end(self.at("site").args(arguments)).ok().out
    }

    pub(crate) fn serve_site(&self) -> Daemon {
        let mut serve = self.at("site");
        serve.args(["site", "serve"]);
        let daemon = Daemon::start(serve, self.host.path("site.log"));
        daemon.says("is open", 1);
        daemon
    }

    pub(crate) fn serve_node(&self) -> Daemon {
        let mut serve = self.at("node");
        serve.args(["node", "serve"]);
        Daemon::start(serve, self.host.path("node.log"))
    }

    /// Puts the job into the site's queue; answers its id.
    pub(crate) fn submit(&self) -> String {
        let job = self.host.path("job").display().to_string();
        let said = self.site(&["submit", &job, "--policy", "generic", "--quiet"]);
        said.trim().to_owned()
    }

    /// Waits until what the last step wrote is at home.
    #[track_caller]
    fn arrives(&self, tasks: usize) {
        self.arrives_with(&format!("{}\n", self.canary).repeat(tasks));
    }

    /// Waits until a job is in this state.
    #[track_caller]
    pub(crate) fn comes_to(&self, job: &str, state: &str) {
        wait(state, || self.site(&["job", "show", job]).contains(state));
    }

    /// Waits until the last step brought this home.
    #[track_caller]
    pub(crate) fn arrives_with(&self, expected: &str) {
        let all = self.host.path("job/out/all");
        let said = |log| fs::read_to_string(self.host.path(log)).unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        while !all.exists() {
            let (node, site) = (said("node.log"), said("site.log"));
            let listed = || self.site(&["job", "list"]);
            assert!(
                Instant::now() < deadline,
                "no result\n--- node\n{node}\n--- site\n{site}\n--- jobs\n{}",
                listed()
            );
            thread::sleep(Duration::from_millis(20));
        }
        wait("the whole result", || {
            fs::read_to_string(&all).is_ok_and(|text| text == expected)
        });
    }

    /// Files of the node's that are neither sealed objects nor its own keys, locks and configuration.
    fn left_on_node(&self) -> Vec<PathBuf> {
        let root = self.host.path("node");
        let mut left = Vec::new();
        for part in ["jobs", "audit"] {
            files(&root.join(part), &mut left);
        }
        left
    }
}

fn files(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Every file below a directory that has these bytes.
fn holders(below: &Path, bytes: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    files(below, &mut all);
    let has = |path: &PathBuf| {
        let text = fs::read(path).unwrap_or_default();
        let name = path.to_string_lossy().contains(bytes);
        name || text
            .windows(bytes.len())
            .any(|part| part == bytes.as_bytes())
    };
    all.into_iter().filter(has).collect()
}

#[test]
fn a_node_renders_what_it_cannot_read() {
    if !requires(&NEEDS) {
        return;
    }
    let farm = Farm::new(3, "");
    let (_site, mut node) = (farm.serve_site(), farm.serve_node());
    node.says("serves http", 1);
    farm.submit();
    farm.arrives(3);
    node.says("exited with code 0", 4);
    // The log line comes after everything else of a session.
    assert_eq!(farm.left_on_node(), Vec::<PathBuf>::new());
    assert_eq!(
        holders(&farm.host.path("node"), &farm.canary),
        Vec::<PathBuf>::new()
    );
    let log = fs::read_to_string(farm.host.path("node.log")).expect("log");
    assert!(!log.contains(&farm.canary), "{log}");
    // The search finds what is there.
    assert!(!holders(&farm.host.path("job"), &farm.canary).is_empty());
    node.signal(Signal::SIGTERM);
    assert_eq!(node.end(), Some(0));
    node.says("n1 left", 1);
    assert!(farm.site(&["slot", "list"]).contains("its node is down"));
}

/// What a job says when it fails is known by expressions: those that ship, and the node's own before them. Its words stay the client's.
#[test]
fn a_task_that_fails_is_put_down_to_what_it_said_it_lacked() {
    if !requires(&NEEDS) {
        return;
    }
    let ours = "echo \"texture $CANARY.exr is not there\" >&2; exit 3";
    let theirs = "echo 'No licenses could be found'; exit 4";
    let script = format!(
        "CANARY=WORD; case $N in 1) {ours};; 2) {theirs};; *) echo 'No licenses could be found'; exit 0;; esac"
    );
    let farm = Farm::new(3, "");
    farm.write_job(3, &script.replace("WORD", &farm.canary));
    farm.host.write("job/safelight-job.toml", "retries = 0\n");
    let toml = farm.host.path("node/node.toml");
    let own = "[[lacks]]\nwhat = \"file\"\nsays = \"^texture .* is not there$\"\n";
    let text = fs::read_to_string(&toml).expect("node.toml");
    fs::write(&toml, format!("{text}{own}")).expect("node.toml");
    let (_site, node) = (farm.serve_site(), farm.serve_node());
    let job = farm.submit();
    node.says("ended: lacked a file (exited with code 3)", 1);
    // Nobody's fault alone: it is tried again, as often as what nodes lose is.
    node.says("ended: lacked a licence (exited with code 4)", 1);
    node.says("ended: exited with code 0", 1);
    wait("the failures", || {
        let said = farm.site(&["job", "failures", &job]);
        said.contains("lacked a file (exited with code 3)")
    });
    for said in [
        fs::read_to_string(farm.host.path("node.log")).expect("log"),
        farm.site(&["job", "failures", &job, "--json"]),
    ] {
        assert!(
            !said.contains(&farm.canary) && !said.contains("could be found"),
            "{said}"
        );
    }
    drop(node);
    // Expressions that are none are refused before anything is served.
    fs::write(&toml, format!("{text}{}", own.replace(".*", "("))).expect("node.toml");
    let ended = end(farm.at("node").args(["node", "serve"])).failed(3);
    assert!(ended.err.contains("expression"), "{ended:?}");
}

#[test]
fn a_node_that_is_told_to_end_ends_its_sessions_and_the_tasks_run_again() {
    if !requires(&NEEDS) {
        return;
    }
    let farm = Farm::new(2, "sleep 3");
    let (_site, mut node) = (farm.serve_site(), farm.serve_node());
    farm.submit();
    node.says("begins", 2);
    let began = Instant::now();
    node.signal(Signal::SIGTERM);
    assert_eq!(node.end(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(20));
    node.says("ended: canceled", 2);
    assert_eq!(farm.left_on_node(), Vec::<PathBuf>::new());
    let again = farm.serve_node();
    farm.arrives(2);
    again.says("ended: exited with code 0", 3);
}

#[test]
fn a_node_without_its_site_ends_its_sessions_when_their_leases_end() {
    if !requires(&NEEDS) {
        return;
    }
    let farm = Farm::new(1, "sleep 60");
    let (site, node) = (farm.serve_site(), farm.serve_node());
    farm.submit();
    node.says("begins", 1);
    wait("the command", || sleeps(&node) == 1);
    site.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    node.says("every session ends", 1);
    let fenced = stopped.elapsed();
    // Four seconds from the last beat that got through, which was at most a beat ago.
    assert!((2..=6).contains(&fenced.as_secs()), "{fenced:?}");
    wait("the end of the command", || sleeps(&node) == 0);
    site.signal(Signal::SIGCONT);
    node.says("the site is back", 1);
    node.says("ended: the node went away", 1);
}

#[test]
fn a_node_that_is_killed_takes_everything_along_and_begins_anew() {
    if !requires(&NEEDS) {
        return;
    }
    let farm = Farm::new(2, "sleep 2");
    let (_site, mut node) = (farm.serve_site(), farm.serve_node());
    farm.submit();
    wait("the commands", || sleeps(&node) == 2);
    let root = farm.host.path("node/jobs");
    let sessions = || count(&root, "ses-");
    assert_eq!(sessions(), 2);
    let tree = descendants(node.child.id());
    node.signal(Signal::SIGKILL);
    assert_eq!(node.end(), None);
    wait("the end of what it started", || {
        tree.iter()
            .all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    });
    let again = farm.serve_node();
    again.says("serves http", 2);
    farm.arrives(2);
    wait("sweeping", || sessions() == 0);
    assert_eq!(
        holders(&farm.host.path("node"), &farm.canary),
        Vec::<PathBuf>::new()
    );
}

#[test]
fn a_node_believes_no_schedule_server_but_the_one_it_joined() {
    if !requires(&NEEDS) {
        return;
    }
    let farm = Farm::new(1, "");
    let toml = farm.host.path("node/node.toml");
    let text = fs::read_to_string(&toml).expect("node.toml");
    let other = format!("schedule = {:?}", "ab".repeat(32));
    let lines = text.lines().map(|line| {
        if line.starts_with("schedule") {
            &other
        } else {
            line
        }
    });
    let lines: Vec<&str> = lines.collect();
    fs::write(&toml, lines.join("\n")).expect("node.toml");
    let (_site, node) = (farm.serve_site(), farm.serve_node());
    farm.submit();
    node.says(
        "is turned away: the lease is not signed by the schedule server that this node joined",
        1,
    );
    let log = fs::read_to_string(farm.host.path("node.log")).expect("log");
    assert!(!log.contains("begins"), "{log}");
    assert!(
        !farm
            .host
            .path("node/area")
            .read_dir()
            .is_ok_and(|mut area| area.next().is_some())
    );
}

fn descendants(of: u32) -> Vec<u32> {
    let mut found = vec![of];
    let mut at = 0;
    while at < found.len() {
        let tasks = fs::read_dir(format!("/proc/{}/task", found[at]))
            .into_iter()
            .flatten();
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        at += 1;
    }
    found.remove(0);
    found
}

/// How many commands of the job sleep below a node.
fn sleeps(node: &Daemon) -> usize {
    let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let all = descendants(node.child.id());
    all.iter().filter(|pid| name(pid).trim() == "sleep").count()
}

fn count(below: &Path, prefix: &str) -> usize {
    let mut found = 0;
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        let named = entry.file_name().to_string_lossy().starts_with(prefix);
        found += usize::from(named);
        found += if entry.path().is_dir() {
            count(&entry.path(), prefix)
        } else {
            0
        };
    }
    found
}
