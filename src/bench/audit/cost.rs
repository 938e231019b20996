//! What the log costs a job: two views of the same files, one with the log and one without.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    time::Instant,
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use safelight_audit::{Recorder, Source};
use safelight_policies::{
    central::Judge,
    event::Access,
    grant::{CentralGrant, CentralRule, CentralRules},
    id::{ClientAlias, JobId, ObjectId},
};
use safelight_seal::{
    job_key::JobKey,
    manifest::{Entries, Entry},
    random::SystemRandom,
    segment::DedupKey,
};
use safelight_vfs::{
    area::Area,
    content::Store,
    log::{Log, Lost},
    lower::Segments,
    pack,
    server::sealed_log::SealedLog,
    view::{Setup, View},
};

use super::Asked;
use crate::{
    bench::{Better, Goal, OURS, Row, rounds},
    failure::{Failure, Kind, OrFail},
    mounting, process,
    run::{AuditWriter, draw_session},
    state::{LogOf, State},
};

/// The other contender: the same view, whose records go nowhere.
const NO_LOG: &str = "no log";

/// Files that are opened and closed.
const FILES: usize = 1000;

/// Times that each of them is opened in a turn.
const TIMES: usize = 20;

/// Programs that are started in a turn.
const PROGRAMS: usize = 200;

/// Pairs of frames in a round: one frame's chance is larger than the goal, which only many pairs can tell from it.
const PAIRS: usize = 4;

/// A scene that keeps a processor busy for some seconds and reads its parts from the view.
const SCENE: &str = r#"#version 3.7;
global_settings { assumed_gamma 1 radiosity { count 60 } }
#include "parts.inc"
camera { location <0, 3, -8> look_at <0, 0.6, 0> }
light_source { <6, 9, -6> color rgb 1 area_light <2,0,0>, <0,0,2>, 6, 6 adaptive 1 jitter }
plane { y, 0 pigment { checker color rgb 0.9 color rgb 0.4 } }
#for (I, 0, 40) object { Part rotate y * I * 37 translate <sin(I) * 4, 0, cos(I * 1.7) * 4> } #end
"#;
const PARTS: &str = "#declare Part = union { sphere { <0, 0.5, 0>, 0.5 } cone { <0, 0.8, 0>, 0.35, <0, 1.6, 0>, 0 } \
                     pigment { color rgb <0.7, 0.3, 0.2> } finish { reflection 0.15 specular 0.5 } }\n";

/// Records that go nowhere.
#[derive(Debug)]
struct Nowhere;

impl Log for Nowhere {
    fn record(&self, _: Access) -> Result<(), Lost> {
        Ok(())
    }

    fn not_authentic(&self, _: ObjectId) {}
}

/// A view that stands.
struct Standing {
    name: &'static str,
    at: PathBuf,
    _audit: Option<AuditWriter>,
}

impl Drop for Standing {
    fn drop(&mut self) {
        mounting::unmount(&self.at);
    }
}

/// Keeps this thread, and what it starts, on the last of its processors.
struct Pinned(CpuSet);

impl Pinned {
    fn new() -> Result<Self, Failure> {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).or_fail(Kind::Environment)?;
        let mut of = (0..CpuSet::count()).rev();
        let last = of.find(|number| before.is_set(*number) == Ok(true));
        let mut only = CpuSet::new();
        only.set(last.unwrap_or(0)).or_fail(Kind::Environment)?;
        sched_setaffinity(this, &only).or_fail(Kind::Environment)?;
        Ok(Self(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

/// The rows.
pub(super) fn measure(directory: &Path, asked: &Asked) -> Result<Vec<Row>, Failure> {
    let mut opens = Row::new("open-close", "opens/s", Better::More);
    let mut programs = Row::new("programs", "starts/s", Better::More);
    let mut frame = Row::new("frame", "s", Better::Less)
        .paired()
        .goal(Goal::Times(0.99, &[NO_LOG]));
    let mut views = stand(directory)?;
    rounds(asked.rounds, &mut views, |_, view| {
        opens.sample(view.name, view.open_and_close()?);
        Ok(())
    })?;
    rounds(asked.rounds, &mut views, |_, view| {
        programs.sample(view.name, view.programs()?);
        Ok(())
    })?;
    let povray = Command::new("povray")
        .arg("--version")
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status();
    if povray.is_err() {
        for who in [OURS, NO_LOG] {
            frame.absent(who, "povray is not installed");
        }
        return Ok(vec![opens, programs, frame]);
    }
    let pairs = match asked.rounds {
        // A look whether it works.
        1 => 1,
        rounds => rounds * PAIRS,
    };
    rounds(pairs, &mut views, |_, view| {
        frame.sample(view.name, view.frame()?);
        Ok(())
    })?;
    Ok(vec![opens, programs, frame])
}

/// Seals the files once, and mounts both views.
fn stand(directory: &Path) -> Result<Vec<Standing>, Failure> {
    let failed = |error: std::io::Error| Failure::from_error(Kind::Environment, &error);
    let random = SystemRandom::new();
    let files = directory.join("files");
    fs::create_dir(&files).map_err(failed)?;
    for number in 0..FILES {
        fs::write(files.join(format!("texture_{number:04}")), b"x").map_err(failed)?;
    }
    fs::write(files.join("scene.pov"), SCENE).map_err(failed)?;
    fs::write(files.join("parts.inc"), PARTS).map_err(failed)?;
    let state = State::open(Some(&directory.join("state-cost")))?;
    let client = ClientAlias::new("bench").or_fail(Kind::Internal)?;
    let area = Area::open(state.area(&client)?).or_fail(Kind::Environment)?;
    let dedup = DedupKey::generate(&random).or_fail(Kind::Internal)?;
    let entries = pack::pack(&files, &area, &dedup, &mut |_| {}).or_fail(Kind::Environment)?;
    let job = JobId::from_random([7; 10]);
    let session = draw_session()?;
    let which = (&client, job, LogOf::Session(session));
    let (audit, mut others) = AuditWriter::start(&state, which, Source::Agent, &[Source::View])?;
    let channel = others.pop();
    let channel =
        channel.ok_or_else(|| Failure::new(Kind::Internal, "no channel to the writer"))?;
    let (trouble, _) = mpsc::channel();
    let key = JobKey::generate(&random).or_fail(Kind::Internal)?;
    let recorder = Recorder::new(channel).or_fail(Kind::Environment)?;
    let sealed = SealedLog::new(
        recorder,
        key.audit_key(session),
        (session, u64::MAX),
        trouble,
        process::now,
    );
    let with = (
        OURS,
        directory.join("with"),
        Arc::new(sealed) as Arc<dyn Log>,
    );
    let without = (
        NO_LOG,
        directory.join("without"),
        Arc::new(Nowhere) as Arc<dyn Log>,
    );
    let mut standing = Vec::new();
    for ((name, at, log), audit) in [with, without].into_iter().zip([Some(audit), None]) {
        fs::create_dir(&at).map_err(failed)?;
        let area = Area::open(state.area(&client)?).or_fail(Kind::Environment)?;
        mount(&at, &entries, area, log)?;
        standing.push(Standing {
            name,
            at,
            _audit: audit,
        });
    }
    Ok(standing)
}

fn mount(at: &Path, entries: &[Entry], area: Area, log: Arc<dyn Log>) -> Result<(), Failure> {
    let rule = CentralRule {
        glob: "**".to_owned(),
        origin: "bench".to_owned(),
    };
    let central = CentralGrant {
        path: "/mnt/bench".parse().or_fail(Kind::Internal)?,
        write: false,
        rules: CentralRules {
            read: vec![rule],
            write: Vec::new(),
            deny: Vec::new(),
        },
    };
    let setup = Setup {
        central: central.path.clone(),
        judge: Judge::for_grant(&central).or_fail(Kind::Internal)?,
        writable: false,
        owner: (
            nix::unistd::getuid().as_raw(),
            nix::unistd::getgid().as_raw(),
        ),
        clock: process::now,
    };
    let store = Arc::new(Store::new(Segments::new(area), None));
    let entries = Entries::of(entries).or_fail(Kind::Internal)?;
    let view = View::of_layers(setup, vec![entries], store, log).or_fail(Kind::Internal)?;
    let device = mounting::mount_at(at)?;
    let serve = move || {
        if let Err(error) = safelight_vfs::serve(Arc::new(view), device, 2) {
            tracing::warn!(%error, "a view of the bench ended early");
        }
    };
    let thread = std::thread::Builder::new().name("view".to_owned());
    thread.spawn(serve).or_fail(Kind::Environment).map(drop)
}

impl Standing {
    /// Opens and closes every file as fast as it goes; answers how many a second.
    fn open_and_close(&self) -> Result<f64, Failure> {
        let paths: Vec<_> = (0..FILES)
            .map(|number| self.at.join(format!("texture_{number:04}")))
            .collect();
        let began = Instant::now();
        for _ in 0..TIMES {
            for path in &paths {
                File::open(path).or_fail(Kind::Environment)?;
            }
        }
        Ok((FILES * TIMES) as f64 / began.elapsed().as_secs_f64())
    }

    /// Starts programs that each open one file; answers how many a second. Each is a program that the log has not met.
    fn programs(&self) -> Result<f64, Failure> {
        let began = Instant::now();
        for number in 0..PROGRAMS {
            let ended = Command::new("cat")
                .arg(self.at.join(format!("texture_{number:04}")))
                .stdout(Stdio::null())
                .status();
            if !ended.or_fail(Kind::Environment)?.success() {
                return Err(Failure::new(Kind::Environment, "cat failed"));
            }
        }
        Ok(PROGRAMS as f64 / began.elapsed().as_secs_f64())
    }

    /// Renders the scene on one thread of one processor, on which it stays; answers how long it took.
    fn frame(&self) -> Result<f64, Failure> {
        let _pinned = Pinned::new()?;
        let began = Instant::now();
        let mut output = std::ffi::OsString::from("+O");
        output.push(self.at.with_extension("png"));
        let ended = Command::new("povray")
            .args([
                "+Iscene.pov",
                "+FN",
                "+W240",
                "+H180",
                "-D",
                "+A0.1",
                "+WT1",
            ])
            .arg(output)
            .current_dir(&self.at)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .or_fail(Kind::Environment)?;
        match ended.success() {
            true => Ok(began.elapsed().as_secs_f64()),
            false => Err(Failure::new(Kind::Environment, "povray failed")),
        }
    }
}
