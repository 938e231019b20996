//! `safelight demo`: the whole road on this machine, with real scenes and real renderers.
//!
//! Two sites with hot folders in between: one job is rendered at home, one is sealed, sent away, rendered by two nodes of the other site,
//! and comes home. Every part is this very program, started as an operator would start it, so the demo shows nothing that a user has not.

mod projects;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use safelight_policies::id::{JobId, TaskId};
use safelight_scheduler::{JobState, state::is_final};

use super::watch::Watcher;
use crate::{
    failure::{Failure, Kind, OrFail},
    farm::Farm,
    opened::OpenedJob,
    records,
    run::Books,
    state::State,
    terminal,
};
use projects::Project;

/// Frames of each scene.
const FRAMES: u64 = 3;
/// How long both jobs may take together.
const PATIENCE: Duration = Duration::from_secs(900);
/// Marks a directory as one that the demo made, and may empty.
const MARK: &str = ".safelight-demo";

/// Render real frames on two sites of this machine: one job at home, one away and back by hot folder.
///
/// Every frame is rendered by an untrusted process that sees the project only through its encrypted view. At the end: the images, who was
/// told, and what each job read, wrote, was denied and did not find.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where the projects, the images and the demo's own sites go
    #[arg(long, value_name = "DIR", default_value = "safelight-demo")]
    dir: PathBuf,
    /// Which renderer to use; auto is every one that is installed
    #[arg(long, value_enum, default_value_t = Renderer::Auto)]
    renderer: Renderer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Renderer {
    Auto,
    Povray,
    Blender,
}

impl Renderer {
    fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Povray => "povray",
            Self::Blender => "blender",
        }
    }
}

/// A project's job.
struct Sent {
    project: Project,
    site: &'static str,
    job: JobId,
}

pub(crate) fn run(arguments: &DemoArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let [at_home, away] = renderers(arguments.renderer)?;
    let dir = prepare(&arguments.dir)?;
    let told = dir.join("told");
    terminal::say("making two projects");
    let projects = [
        ("local", Project::make(dir.join("at-home"), at_home, &told)?),
        ("north", Project::make(dir.join("away"), away, &told)?),
    ];
    terminal::say("starting two sites: home with the node h1, north with the nodes n1 and n2");
    let mut farm = Farm::start(dir.join("farm"), &[&["h1"], &["n1", "n2"]])?;
    let mut sent = Vec::new();
    for (place, project) in projects {
        let bundle = project.bundle.display().to_string();
        let words = ["submit", &bundle, "--where", place, "--quiet"];
        let job = farm.command(&words, "home")?;
        let job = job.trim().parse().or_fail(Kind::Internal)?;
        let site = if place == "local" { "home" } else { place };
        sent.push(Sent { project, site, job });
    }
    follow(&mut farm, &sent, started)?;
    await_notices(&told, &sent)?;
    let home = farm.state("home")?;
    drop(farm);
    conclude(&home, &sent, &told)
}

/// The renderers of the two jobs: both if both are here.
fn renderers(asked: Renderer) -> Result<[Renderer; 2], Failure> {
    let all = [Renderer::Povray, Renderer::Blender];
    let wanted = |renderer: &Renderer| {
        asked == *renderer || asked == Renderer::Auto && installed(renderer.word())
    };
    let found: Vec<Renderer> = all.into_iter().filter(wanted).collect();
    match found[..] {
        [one] => Ok([one, one]),
        [one, other] => Ok([one, other]),
        _ => Err(
            Failure::new(Kind::Environment, "no renderer is installed").hint(
                "apt-get install --no-install-recommends povray povray-examples povray-includes blender",
            ),
        ),
    }
}

fn installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    })
}

/// A directory of the demo's own: new, or made by an earlier demo and emptied but for its sites.
fn prepare(dir: &Path) -> Result<PathBuf, Failure> {
    let failed = |error: io::Error| {
        Failure::new(
            Kind::Environment,
            format!("cannot prepare {}: {error}", dir.display()),
        )
    };
    let occupied = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied && !dir.join(MARK).exists() {
        return Err(Failure::new(
            Kind::User,
            format!(
                "{} holds something that the demo did not make",
                dir.display()
            ),
        )
        .hint("name another directory with --dir DIR"));
    }
    let gone = |done: io::Result<()>| match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    };
    gone(fs::remove_dir_all(dir.join("at-home")))?;
    gone(fs::remove_dir_all(dir.join("away")))?;
    gone(fs::remove_file(dir.join("told")))?;
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(dir.join(MARK), "made by safelight demo\n"))
        .map_err(failed)?;
    fs::canonicalize(dir).map_err(failed)
}

/// Tells what happens at both sites until both jobs are over.
fn follow(farm: &mut Farm, sent: &[Sent], started: Instant) -> Result<(), Failure> {
    let places = [
        ("home", farm.state("home")?),
        ("north", farm.state("north")?),
    ];
    let mut watched = Vec::new();
    for (place, state) in &places {
        let books = Books::open(state)?;
        let watchers = sent
            .iter()
            .map(|it| (it, Watcher::new(state.clone(), it.job)));
        watched.push((*place, books, watchers.collect::<Vec<_>>()));
    }
    let until = Instant::now() + PATIENCE;
    loop {
        farm.all_live()?;
        let mut over = true;
        for (place, books, watchers) in &mut watched {
            for (sent, watcher) in watchers {
                let entry = books.wait(books.ledger().job(&sent.job.to_string()));
                // The other site knows of a job when it came there.
                let Ok(entry) = entry else { continue };
                over &= *place != "home" || is_final(entry.state);
                for (_, task, what) in watcher.look(books)? {
                    say(started, place, sent, task, &what);
                }
            }
        }
        if over {
            return Ok(());
        }
        if Instant::now() > until {
            let message = format!("the jobs took longer than {} s", PATIENCE.as_secs());
            return Err(Failure::new(Kind::JobFailed, message));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn say(started: Instant, place: &str, sent: &Sent, task: Option<TaskId>, what: &str) {
    let frame = task.map_or_else(String::new, |task| format!("{}/{FRAMES}", task.task + 1));
    terminal::say(format!(
        "{:>6.1} s  {place:<5}  {:<7}  {frame:<4}  {what}",
        started.elapsed().as_secs_f64(),
        sent.project.renderer.word()
    ));
}

/// Suppliers are told after the last result is stored.
fn await_notices(told: &Path, sent: &[Sent]) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let text = fs::read_to_string(told).unwrap_or_default();
        if sent.iter().all(|it| text.contains(&it.job.to_string())) {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(Failure::new(Kind::JobFailed, "the supplier was not told"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The images, who was told, and what each job touched.
fn conclude(home: &State, sent: &[Sent], told: &Path) -> Result<(), Failure> {
    let books = Books::open(home)?;
    let mut rows = Vec::new();
    let mut missing = Vec::new();
    for Sent { project, site, job } in sent {
        let entry = books.wait(books.ledger().job(&job.to_string()))?;
        if entry.state != JobState::Delivered {
            missing.push(format!("{job} is {}", entry.state));
        }
        let opened = OpenedJob::open(home, *job)?;
        let touched = records::summary(&records::read(home, &opened)?);
        rows.push(vec![
            job.to_string(),
            project.renderer.word().to_owned(),
            (*site).to_owned(),
            touched.read.to_string(),
            touched.written.to_string(),
            touched.denied.to_string(),
            touched.missing.to_string(),
        ]);
    }
    terminal::table(
        &[
            "JOB", "RENDERER", "SITE", "READ", "WRITTEN", "DENIED", "MISSING",
        ],
        &rows,
    )?;
    for frame in sent
        .iter()
        .flat_map(|it| (1..=FRAMES).map(|frame| it.project.image(frame)))
    {
        if !frame.exists() {
            missing.push(format!("{} is not there", frame.display()));
        }
        terminal::print(frame.display())?;
    }
    let text = fs::read_to_string(told).or_fail(Kind::Environment)?;
    for line in text.lines() {
        terminal::say(format!(
            "the supplier was told: {}",
            terminal::shown(line.as_bytes())
        ));
    }
    let root = home.root().display();
    terminal::say(format!(
        "what a job touched: safelight audit files JOB --state {root}"
    ));
    terminal::say(format!(
        "its story: safelight job watch JOB --so-far --state {root}"
    ));
    match missing.first() {
        None => Ok(()),
        Some(what) => Err(Failure::new(Kind::JobFailed, what)),
    }
}
