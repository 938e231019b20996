//! How many tasks that do nothing a farm gets done in a second: what everything around a task costs.
//!
//! Ours is a site with two nodes of one slot each, every part a process of its own as an operator starts it, and the time is from handing
//! the job in until the site has every result in its books. `tasks`: each task in a sandbox with a view of its own, its result sealed and
//! committed durably. `session-tasks`: tasks that share a session, as OpenJD's environments make them. The peers do nothing durable and
//! seal nothing: HyperQueue starts `bwrap` for each task, `openjd run` starts the task as it is.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use safelight_scheduler::{JobState, state::is_final};

use crate::{
    bench::{Better, Goal, OURS, Row},
    failure::{Failure, Kind, OrFail},
    farm::Farm,
    run::Books,
};

const HYPERQUEUE: &str = "hq+bwrap";
const OPENJD: &str = "openjd";

/// The rows: name, how many tasks, and whom it is compared with.
const ROWS: [(&str, usize, &[&str; 1]); 2] = [
    ("tasks", 200, &[HYPERQUEUE]),
    ("session-tasks", 2000, &[OPENJD]),
];

/// How often it is looked whether the job is done.
const LOOK: Duration = Duration::from_millis(5);
/// How long a job may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// The rows' names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|(name, ..)| *name)
}

/// What the peers say of their versions, if they are installed.
pub(super) fn versions() -> impl Iterator<Item = (&'static str, String)> {
    let peers = [HYPERQUEUE, OPENJD].into_iter();
    peers.filter_map(|peer| Some((peer, version(peer)?)))
}

fn version(peer: &str) -> Option<String> {
    let package = match peer {
        OPENJD => "openjd-cli",
        _ => "hyperqueue",
    };
    let ask =
        format!("from importlib.metadata import version; print('{package}', version('{package}'))");
    let mut command = Command::new("python3");
    let said = succeed(command.args(["-c", &ask])).ok()?;
    Some(said.trim().to_owned())
}

/// Measures those that are wanted; who begins changes from round to round.
pub(super) fn measure(
    directory: &Path,
    rounds: usize,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (name, tasks, peers) in ROWS.into_iter().filter(|(name, ..)| wanted(name)) {
        let [peer] = *peers;
        let mut row = Row::new(name, "tasks/s", Better::More).goal(Goal::Times(1.0, peers));
        let there = version(peer).is_some();
        if !there {
            row.absent(peer, "not installed");
        }
        for round in 0..rounds {
            let mut turns = [OURS, peer];
            turns.rotate_left(round % 2);
            for who in turns {
                if who == OURS {
                    row.sample(OURS, ours(directory, name, tasks)?);
                } else if there {
                    row.sample(peer, theirs(peer, directory, tasks)?);
                }
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The template: an environment is what lets OpenJD's tasks share a session.
fn template(row: &str, tasks: usize) -> String {
    let around = match row {
        "session-tasks" => {
            "  stepEnvironments:\n  - { name: Around, variables: { AROUND: \"1\" } }\n"
        }
        _ => "",
    };
    format!(
        "specificationVersion: jobtemplate-2023-09\nname: nothing\nsteps:\n- name: nothing\n{around}  parameterSpace:\n    \
         taskParameterDefinitions:\n    - {{ name: N, type: INT, range: \"1-{tasks}\" }}\n  script:\n    actions:\n      \
         onRun: {{ command: /bin/true }}\n"
    )
}

/// An empty directory of this run's own.
fn fresh(directory: &Path) -> Result<tempfile::TempDir, Failure> {
    let directory = tempfile::Builder::new()
        .prefix("safelight-bench-")
        .tempdir_in(directory)
        .or_fail(Kind::User)?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    fs::set_permissions(directory.path(), open).or_fail(Kind::Environment)?;
    Ok(directory)
}

/// Tasks a second on a farm of ours.
fn ours(directory: &Path, row: &str, tasks: usize) -> Result<f64, Failure> {
    let place = fresh(directory)?;
    let bundle = place.path().join("bundle");
    let project = place.path().join("project");
    fs::create_dir(&bundle).or_fail(Kind::Environment)?;
    fs::create_dir(&project).or_fail(Kind::Environment)?;
    let settings = format!(
        "[[central]]\nhost = \"{}\"\npath = \"/mnt/project\"\n",
        project.display()
    );
    fs::write(bundle.join("template.yaml"), template(row, tasks)).or_fail(Kind::Environment)?;
    fs::write(bundle.join("safelight-job.toml"), settings).or_fail(Kind::Environment)?;
    let mut farm = Farm::start(place.path().join("farm"), &[&["h1", "h2"], &[]])?;
    let books = Books::open(&farm.state("home")?)?;
    let bundle = bundle.display().to_string();
    let began = Instant::now();
    let said = farm.command(&["submit", &bundle, "--where", "local", "--quiet"], "home")?;
    let until = began + PATIENCE;
    loop {
        let job = books.wait(books.ledger().job(said.trim()))?;
        if matches!(job.state, JobState::Succeeded | JobState::Delivered) {
            return Ok(tasks as f64 / began.elapsed().as_secs_f64());
        }
        farm.all_live()?;
        if is_final(job.state) || Instant::now() > until {
            let message = format!(
                "the job of {tasks} tasks is {:?} after {:?}",
                job.state,
                began.elapsed()
            );
            return Err(Failure::new(Kind::Environment, message));
        }
        std::thread::sleep(LOOK);
    }
}

/// Tasks a second of a peer.
fn theirs(peer: &str, directory: &Path, tasks: usize) -> Result<f64, Failure> {
    let place = fresh(directory)?;
    let seconds = match peer {
        OPENJD => openjd(place.path(), tasks)?,
        _ => hyperqueue(place.path(), tasks)?,
    };
    Ok(tasks as f64 / seconds)
}

fn openjd(place: &Path, tasks: usize) -> Result<f64, Failure> {
    let path = place.join("template.yaml");
    fs::write(&path, template("session-tasks", tasks)).or_fail(Kind::Environment)?;
    let began = Instant::now();
    let mut command = Command::new("openjd");
    command.arg("run").arg(&path).args(["--step", "nothing"]);
    succeed(&mut command)?;
    Ok(began.elapsed().as_secs_f64())
}

/// A server and a worker with two processors in one process, and what it says of the time that the tasks took.
const HYPERQUEUE_RUN: &str = "import sys, time
from hyperqueue import Job
from hyperqueue.cluster import LocalCluster, WorkerConfig
task = 'bwrap --unshare-all --ro-bind / / --dev /dev --proc /proc true'.split()
with LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores=2))
    client = cluster.client()
    def run(tasks):
        job = Job()
        for _ in range(tasks):
            job.program(task, stdout=None, stderr=None)
        began = time.monotonic()
        client.wait_for_jobs([client.submit(job)])
        return time.monotonic() - began
    run(2)
    print('took', run(int(sys.argv[1])))
";

fn hyperqueue(place: &Path, tasks: usize) -> Result<f64, Failure> {
    let mut command = Command::new("python3");
    command.args(["-c", HYPERQUEUE_RUN, &tasks.to_string()]);
    let said = succeed(command.current_dir(place))?;
    let took = said.lines().find_map(|line| line.strip_prefix("took "));
    took.unwrap_or_default().parse().or_fail(Kind::Environment)
}

/// Runs a program to its end, and answers what it printed.
fn succeed(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .or_fail(Kind::Environment)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = crate::terminal::shown(output.stderr.trim_ascii_end());
    let program = command.get_program().display();
    Err(Failure::new(
        Kind::Environment,
        format!("{program} ended ({}): {said}", output.status),
    ))
}
