//! Starting a program in the full sandbox with its view, against `bwrap`; and what the sandbox costs a program that runs.
//!
//! Ours is the real thing: `safelight run`, whose agent says how long it was from its decision to launch until nothing of the session was left,
//! with the view server already there. The whole command, with keys, sealing, ledger and log, is a row of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use tempfile::TempDir;

use super::{Better, Goal, HostFacts, OURS, Report, Row, rounds, version_of};
use crate::{
    failure::{Failure, Kind, OrFail},
    process,
};

const BWRAP: &str = "bwrap";
const BARE: &str = "bare";

/// What the agent's line of timing is called, and its field.
pub(crate) const TARGET: &str = "safelight::launch";
pub(crate) const FIELD: &str = "session_us=";

/// A processor-bound program that says itself how long it took, in seconds.
const BUSY: &str = "import time; t = time.perf_counter(); x = 0\nfor i in range(20_000_000): x = (x * 31 + i) & 0xffff\nprint(time.perf_counter() - t)";

const POVRAY_SCENE: &str = "/usr/share/doc/povray/examples/advanced/woodbox.pov";

const BLENDER_SCRIPT: &str = "import bpy\ns = bpy.context.scene\ns.render.engine = 'CYCLES'\ns.cycles.device = 'CPU'\ns.cycles.samples = 96; s.cycles.use_denoising = False\n\
s.render.resolution_x = 480\ns.render.resolution_y = 270\nimport os\n\
s.render.filepath = os.path.join(os.getcwd(), 'frame.png')\nbpy.ops.render.render(write_still=True)\n";

/// What to measure.
pub(crate) struct Asked {
    pub(crate) rounds: usize,
    /// Rounds of the rows that take long: busy, povray, blender.
    pub(crate) long_rounds: usize,
    /// Names of rows; all if it is empty.
    pub(crate) only: Vec<String>,
}

/// The names of all rows.
pub(crate) const NAMES: [&str; 5] = ["launch", "run", "busy", "povray", "blender"];

/// Runs the bench.
pub(crate) fn run(asked: &Asked) -> Result<Report, Failure> {
    let bench = Bench::new()?;
    let wanted = |name: &str| asked.only.is_empty() || asked.only.iter().any(|one| one == name);
    let mut rows = Vec::new();
    if wanted("launch") || wanted("run") {
        rows.extend(bench.launches(asked.rounds)?);
    }
    if wanted("busy") {
        rows.push(bench.busy(asked.long_rounds)?);
    }
    if wanted("povray") {
        rows.push(bench.frame("povray", asked.long_rounds)?);
    }
    if wanted("blender") {
        rows.push(bench.frame("blender", asked.long_rounds)?);
    }
    let version = |program| version_of(program, "--version");
    Ok(Report {
        bench: "launch",
        host: HostFacts::read(bench.directory.path()),
        versions: [
            (BWRAP, version("bwrap")),
            ("povray", version("povray")),
            ("blender", version("blender")),
        ]
        .into_iter()
        .map(|(who, version)| (who, version.unwrap_or_else(|| "not installed".to_owned())))
        .collect(),
        rows: rows.into_iter().filter(|row| wanted(row.name())).collect(),
    })
}

struct Bench {
    directory: TempDir,
    exe: PathBuf,
}

/// One `safelight run`.
struct Ran {
    /// Launch to end, in seconds.
    session: f64,
    /// The whole command, in seconds.
    whole: f64,
    printed: String,
}

impl Bench {
    fn new() -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("safelight-bench-")
            .tempdir_in("/var/tmp")
            .or_fail(Kind::Environment)?;
        for name in ["show", "bare"] {
            let place = directory.path().join(name);
            fs::create_dir(&place).or_fail(Kind::Environment)?;
            fs::write(place.join("render.py"), BLENDER_SCRIPT).or_fail(Kind::Environment)?;
        }
        Ok(Self {
            directory,
            exe: process::executable()?,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a command in the full sandbox, with a view at its central path.
    fn inside(&self, policy: &str, command: &[&str]) -> Result<Ran, Failure> {
        let begun = Instant::now();
        let said = Command::new(&self.exe)
            .args([
                "run",
                "--quiet",
                "--overwrite",
                "--policy",
                policy,
                "--central",
            ])
            .arg(format!("{}:/mnt/central", self.path("show").display()))
            .arg("--state")
            .arg(self.path("state"))
            .arg("--")
            .args(command)
            .env("SAFELIGHT_LOG", format!("warn,{TARGET}=debug"))
            .stdin(Stdio::null())
            .output()
            .or_fail(Kind::Environment)?;
        let whole = begun.elapsed().as_secs_f64();
        let words = String::from_utf8_lossy(&said.stderr).into_owned();
        let microseconds = words
            .split_whitespace()
            .find_map(|word| word.strip_prefix(FIELD)?.parse::<f64>().ok());
        match (said.status.success(), microseconds) {
            (true, Some(microseconds)) => Ok(Ran {
                session: microseconds / 1e6,
                whole,
                printed: String::from_utf8_lossy(&said.stdout).into_owned(),
            }),
            _ => Err(Failure::new(
                Kind::Environment,
                format!("{command:?} did not run in a session: {words}"),
            )),
        }
    }

    /// Runs a command as it is; seconds and what it printed.
    fn bare(&self, command: &[&str]) -> Result<(f64, String), Failure> {
        let begun = Instant::now();
        let said = Command::new(command[0])
            .args(&command[1..])
            .current_dir(self.path("bare"))
            // Blender believes this rather than the kernel.
            .env("PWD", self.path("bare"))
            .stdin(Stdio::null())
            .output()
            .or_fail(Kind::Environment)?;
        if !said.status.success() {
            let message = format!("{command:?} failed: {}", said.status);
            return Err(Failure::new(Kind::Environment, message));
        }
        let printed = String::from_utf8_lossy(&said.stdout).into_owned();
        Ok((begun.elapsed().as_secs_f64(), printed))
    }

    fn launches(&self, count: usize) -> Result<[Row; 2], Failure> {
        // At most one and a half times as long is at least two thirds as fast.
        let goal = Goal::Times(2.0 / 3.0, &[BWRAP]);
        let mut launch = Row::new("launch", "ms", Better::Less).goal(goal);
        let mut run = Row::new("run", "ms", Better::Less);
        let there = version_of("bwrap", "--version").is_some();
        let mut contenders = vec![OURS];
        if there {
            contenders.push(BWRAP);
        } else {
            launch.absent(BWRAP, "not installed");
        }
        self.inside("generic", &["true"])?;
        rounds(count, &mut contenders, |_, who| {
            if *who == OURS {
                let ran = self.inside("generic", &["true"])?;
                launch.sample(OURS, ran.session * 1e3);
                run.sample(OURS, ran.whole * 1e3);
            } else {
                let words = "bwrap --unshare-all --ro-bind / / --dev /dev --proc /proc true";
                let words: Vec<&str> = words.split(' ').collect();
                launch.sample(BWRAP, self.bare(&words)?.0 * 1e3);
            }
            Ok(())
        })?;
        Ok([launch, run])
    }

    fn busy(&self, count: usize) -> Result<Row, Failure> {
        let mut row = Row::new("busy", "s", Better::Less).goal(Goal::Times(1.0 / 1.01, &[BARE]));
        let command = ["/usr/bin/python3", "-c", BUSY];
        let seconds = |printed: &str| printed.trim().parse::<f64>().or_fail(Kind::Environment);
        rounds(count, &mut [OURS, BARE], |_, who| {
            if *who == OURS {
                row.sample(OURS, seconds(&self.inside("python", &command)?.printed)?);
            } else {
                row.sample(BARE, seconds(&self.bare(&command)?.1)?);
            }
            Ok(())
        })?;
        Ok(row)
    }

    /// A real frame: from the start of the renderer, or of the session around it, until the image is there.
    fn frame(&self, renderer: &'static str, count: usize) -> Result<Row, Failure> {
        let mut row = Row::new(renderer, "s", Better::Less).goal(Goal::Times(1.0 / 1.02, &[BARE]));
        let scene = format!("+I{POVRAY_SCENE}");
        let command = match renderer {
            "povray" => vec![
                "povray",
                &scene,
                "+W320",
                "+H240",
                "+A0.3",
                "-D",
                "+Oframe.png",
            ],
            _ => vec![
                "blender",
                "--background",
                "--factory-startup",
                "--python",
                "render.py",
            ],
        };
        let there = version_of(command[0], "--version").is_some();
        if !there || (renderer == "povray" && !Path::new(POVRAY_SCENE).exists()) {
            row.absent(OURS, format!("{renderer} or its scene is not installed"));
            return Ok(row);
        }
        rounds(count, &mut [OURS, BARE], |_, who| {
            if *who == OURS {
                row.sample(OURS, self.inside(renderer, &command)?.session);
            } else {
                row.sample(BARE, self.bare(&command)?.0);
            }
            let place = if *who == OURS { "show" } else { "bare" };
            let image = self.path(place).join("frame.png");
            let length = fs::metadata(&image).or_fail(Kind::Environment)?.len();
            if length < 1000 {
                return Err(Failure::new(Kind::Environment, "the frame is no image"));
            }
            fs::remove_file(image).or_fail(Kind::Environment)
        })?;
        Ok(row)
    }
}
