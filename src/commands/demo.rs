//! `safelight demo`: real scenes, real renderers, in the dark, on this machine.
//!
//! The POV-Ray scene is one of POV-Ray's own examples with its includes; the Blender project is built on the spot by Blender itself, the
//! way an artist's machine would. Each frame is one `safelight run` of this very program, so the demo shows nothing that a user has not.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;

use crate::{
    failure::{Failure, Kind, OrFail},
    process, terminal,
};

/// Frames of each scene.
const FRAMES: u32 = 3;

/// Marks a directory as one that the demo made, and may empty.
const MARK: &str = ".safelight-demo";

/// The scene, from POV-Ray's own examples.
const POV_SCENE: &str = "/usr/share/doc/povray/examples/animations/splinefollow/splinefollow.pov";
/// What it includes.
const POV_INCLUDES: &str = "/usr/share/povray-3.7/include";

/// The script that builds the Blender project.
const BLENDER_SCENE: &str = include_str!("../../demo/scene.py");

/// Render real frames in the dark on this machine.
///
/// Every frame is rendered by an untrusted process that sees the project only through its encrypted view. At the end: the images, and
/// what each job read, wrote, was denied and did not find.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where the projects, the images and the demo's own state go
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

/// One frame to be rendered.
struct Frame {
    label: String,
    policy: &'static str,
    project: PathBuf,
    image: PathBuf,
    expect: String,
    /// Where the renderer starts: POV-Ray looks for includes there first, before its own.
    workdir: &'static str,
    command: Vec<String>,
}

/// What `safelight run --json` says at its end.
#[derive(Debug, Deserialize)]
struct Said {
    job: String,
    audit: serde_json::Map<String, serde_json::Value>,
}

pub(crate) fn run(arguments: &DemoArgs) -> Result<(), Failure> {
    let dir = prepare(&arguments.dir)?;
    let mut frames = Vec::new();
    if wants(arguments.renderer, Renderer::Povray, "povray") {
        frames.extend(povray(&dir.join("povray"))?);
    }
    if wants(arguments.renderer, Renderer::Blender, "blender") {
        frames.extend(blender(&dir.join("blender"))?);
    }
    if frames.is_empty() {
        return Err(Failure::new(Kind::Environment, "no renderer is installed")
            .hint("apt-get install povray povray-examples blender"));
    }
    let bar = progress(frames.len() as u64);
    let mut done = Vec::new();
    for frame in &frames {
        bar.set_message(frame.label.clone());
        let started = Instant::now();
        let said = render(frame, &dir.join("state"))?;
        let line = format!(
            "{:<16} {}  {:.1} s",
            frame.label,
            said.job,
            started.elapsed().as_secs_f64()
        );
        if bar.is_hidden() {
            terminal::say(line)
        } else {
            bar.println(line)
        }
        bar.inc(1);
        done.push((frame, said));
    }
    bar.finish_and_clear();
    conclude(&done, &arguments.dir)
}

fn wants(asked: Renderer, renderer: Renderer, program: &str) -> bool {
    asked == renderer || asked == Renderer::Auto && installed(program)
}

fn installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    })
}

/// A directory of the demo's own: new, or made by an earlier demo and emptied.
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
    for part in ["povray", "blender"] {
        match fs::remove_dir_all(dir.join(part)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(dir.join(MARK), "made by safelight demo\n"))
        .map_err(failed)?;
    fs::canonicalize(dir).map_err(failed)
}

fn povray(project: &Path) -> Result<Vec<Frame>, Failure> {
    let failed = |error: io::Error| {
        Failure::new(
            Kind::Environment,
            format!("cannot copy POV-Ray's example: {error}"),
        )
        .hint("apt-get install povray povray-examples povray-includes")
    };
    fs::create_dir_all(project.join("include"))
        .and_then(|()| fs::create_dir_all(project.join("frames")))
        .map_err(failed)?;
    fs::copy(POV_SCENE, project.join("scene.pov")).map_err(failed)?;
    for entry in fs::read_dir(POV_INCLUDES).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "inc")
        {
            fs::copy(
                entry.path(),
                project.join("include").join(entry.file_name()),
            )
            .map_err(failed)?;
        }
    }
    let frame = |number: u32| {
        let clock = f64::from(number - 1) / f64::from(FRAMES);
        let output = format!("/mnt/central/frames/frame{number}.png");
        let mut command: Vec<String> = [
            "povray",
            "+I/mnt/central/scene.pov",
            "+W320",
            "+H240",
            "+A0.3",
            "-D",
            "-V",
            "+WT2",
        ]
        .map(String::from)
        .to_vec();
        command.push(format!("+K{clock:.3}"));
        command.push(format!("+O{output}"));
        Frame {
            label: format!("povray {number}/{FRAMES}"),
            policy: "povray",
            project: project.to_owned(),
            image: project.join(format!("frames/frame{number}.png")),
            expect: output,
            workdir: "/mnt/central/include",
            command,
        }
    };
    Ok((1..=FRAMES).map(frame).collect())
}

fn blender(project: &Path) -> Result<Vec<Frame>, Failure> {
    let failed = |error: io::Error| {
        Failure::new(
            Kind::Environment,
            format!("cannot build the Blender project: {error}"),
        )
        .hint("apt-get install --no-install-recommends blender")
    };
    fs::create_dir_all(project.join("frames")).map_err(failed)?;
    let script = project.join("scene.py");
    fs::write(&script, BLENDER_SCENE).map_err(failed)?;
    let built = Command::new("blender")
        .args([
            "--background",
            "--factory-startup",
            "--python-exit-code",
            "3",
            "--python",
        ])
        .arg(&script)
        .arg("--")
        .arg(project)
        .stdin(Stdio::null())
        .output()
        .map_err(failed)?;
    if !built.status.success() || !project.join("scene.blend").exists() {
        let said = terminal::shown(&built.stderr);
        return Err(failed(io::Error::other(format!(
            "blender: {} {said}",
            built.status
        ))));
    }
    fs::remove_file(&script).map_err(failed)?;
    let frame = |number: u32| {
        let words = [
            "blender",
            "--background",
            "/mnt/central/scene.blend",
            "--threads",
            "2",
            "--render-output",
            "/mnt/central/frames/frame#",
            "--render-frame",
        ];
        let mut command: Vec<String> = words.map(String::from).to_vec();
        command.push(number.to_string());
        Frame {
            label: format!("blender {number}/{FRAMES}"),
            policy: "blender",
            project: project.to_owned(),
            image: project.join(format!("frames/frame{number}.png")),
            expect: format!("/mnt/central/frames/frame{number}.png"),
            workdir: "/mnt/central",
            command,
        }
    };
    Ok((1..=FRAMES).map(frame).collect())
}

/// Renders one frame with `safelight run`.
fn render(frame: &Frame, state: &Path) -> Result<Said, Failure> {
    let central = format!("{}:/mnt/central", frame.project.display());
    let run = Command::new(process::executable()?)
        .args([
            "run",
            "--json",
            "--policy",
            frame.policy,
            "--central",
            &central,
            "--expect",
            &frame.expect,
            "--workdir",
            frame.workdir,
        ])
        .arg("--state")
        .arg(state)
        .arg("--")
        .args(&frame.command)
        .stdin(Stdio::null())
        .output()
        .or_fail(Kind::Environment)?;
    let text = String::from_utf8_lossy(&run.stderr);
    let said = text
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str::<Said>(line).ok());
    match said {
        Some(said) if run.status.success() && frame.image.exists() => Ok(said),
        _ => {
            let tail: Vec<&str> = text.lines().rev().take(12).collect();
            let tail = tail
                .into_iter()
                .rev()
                .map(|line| terminal::shown(line.as_bytes()))
                .collect::<Vec<_>>()
                .join("\n");
            Err(Failure::new(
                Kind::JobFailed,
                format!("{} was not rendered ({}):\n{tail}", frame.label, run.status),
            ))
        }
    }
}

fn progress(count: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// The images, and what each job touched.
fn conclude(done: &[(&Frame, Said)], dir: &Path) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = done
        .iter()
        .map(|(frame, said)| {
            let count = |name: &str| {
                said.audit
                    .get(name)
                    .map_or_else(|| "?".to_owned(), ToString::to_string)
            };
            vec![
                frame.label.clone(),
                count("read"),
                count("written"),
                count("denied"),
                count("missing"),
                frame.image.display().to_string(),
            ]
        })
        .collect();
    terminal::table(
        &["FRAME", "READ", "WRITTEN", "DENIED", "MISSING", "IMAGE"],
        &rows,
    )?;
    terminal::say(format!(
        "what a job touched: safelight audit files last --state {}",
        dir.join("state").display()
    ));
    Ok(())
}
