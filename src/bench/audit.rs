//! `safelight bench audit`: what the log costs, and how long its questions take.
//!
//! The writer is the real one, a process of its own, and what it is given is sealed as a view server seals it, onto the log of a job that has
//! run. It is asked by the commands that people use, from start to end. What the log costs a job is
//! measured on two views of the same files that differ in nothing but where their records go: to the writer, or nowhere.

mod cost;

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use safelight_audit::{Body, Reader, Recorder, Source, tree};
use safelight_policies::{
    event::{Access, Op, Verdict},
    id::JobId,
};

use super::{Better, Goal, HostFacts, OURS, Report, Row};
use crate::{
    failure::{Failure, Kind, OrFail},
    opened::OpenedJob,
    process, registers,
    run::{AuditWriter, Books, draw_session},
    state::{LogOf, State},
};

/// Paths that the events are about: as many as a heavy scene has.
const PATHS: u64 = 5000;

/// What is asked for.
pub(crate) struct Asked {
    pub(crate) directory: PathBuf,
    pub(crate) events: u64,
    pub(crate) rounds: usize,
}

/// How long a log rests before it is indexed, and a little more.
const SETTLED: Duration = Duration::from_millis(2500);

/// A job with a log of events.
struct Written {
    directory: PathBuf,
    state: PathBuf,
    path: PathBuf,
    job: JobId,
    seconds: f64,
    /// The events that are on the log.
    events: u64,
    /// All of its records.
    records: u64,
}

/// Runs the bench.
pub(crate) fn run(asked: &Asked) -> Result<Report, Failure> {
    let directory = fs::canonicalize(&asked.directory)
        .and_then(|at| {
            tempfile::Builder::new()
                .prefix("safelight-bench-")
                .tempdir_in(at)
        })
        .map_err(|error| {
            let at = asked.directory.display();
            Failure::new(Kind::User, format!("cannot work in {at}: {error}"))
        })?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    fs::set_permissions(directory.path(), open).or_fail(Kind::Environment)?;
    let mut rows = log(directory.path(), asked)?;
    rows.extend(cost::measure(directory.path(), asked)?);
    Ok(Report {
        bench: "audit",
        host: HostFacts::read(directory.path()),
        versions: Default::default(),
        rows,
    })
}

/// What is asked of the log, as people ask it: a row, and the words of the command.
const QUESTIONS: [(&str, &[&str]); 7] = [
    ("files", &["files"]),
    ("denied", &["denied"]),
    ("missing", &["missing"]),
    ("summary", &["summary"]),
    ("show-path", &["show", "--path", "**/wood_oak_00042.exr"]),
    (
        "show-action",
        &[
            "show",
            "--path",
            "**/wood_oak_0004?.exr",
            "--action",
            "open-read",
        ],
    ),
    ("tail", &["tail"]),
];

/// The rows of the log itself.
struct Rows {
    write: Row,
    lost: Row,
    bytes: Row,
    index_bytes: Row,
    verify: Row,
    index: Row,
    questions: [Row; QUESTIONS.len()],
    who_read: Row,
    prove: Row,
    check: Row,
}

impl Rows {
    fn new() -> Self {
        let asked = |name| Row::new(name, "s", Better::Less).goal(Goal::AtMost(1.0));
        Self {
            write: Row::new("write", "events/s", Better::More).goal(Goal::AtLeast(50_000.0)),
            lost: Row::new("lost", "events", Better::Less).goal(Goal::AtMost(0.0)),
            bytes: Row::new("size", "bytes/event", Better::Less),
            index_bytes: Row::new("index-size", "bytes/event", Better::Less),
            verify: Row::new("verify", "s/1M events", Better::Less).goal(Goal::AtMost(5.0)),
            index: Row::new("index", "s/1M events", Better::Less),
            questions: QUESTIONS.map(|(name, _)| asked(name)),
            who_read: asked("who-read"),
            prove: Row::new("prove", "s/1M events", Better::Less),
            check: Row::new("check-proof", "us", Better::Less),
        }
    }

    fn all(self) -> Vec<Row> {
        let mut rows = vec![
            self.write,
            self.lost,
            self.bytes,
            self.index_bytes,
            self.verify,
            self.index,
        ];
        rows.extend(self.questions);
        rows.extend([self.who_read, self.prove, self.check]);
        rows
    }

    /// Writes a log, and asks everything of it.
    fn round(&mut self, directory: &Path, events: u64) -> Result<(), Failure> {
        let (count, million) = (events as f64, events as f64 / 1e6);
        let written = written(directory, events)?;
        self.write.sample(OURS, count / written.seconds);
        self.lost
            .sample(OURS, events.abs_diff(written.events) as f64);
        self.bytes.sample(OURS, len(&written.path)? / count);
        self.verify
            .sample(OURS, written.ask("verify", &[])? / million);
        // A log is indexed when nobody has written it for a while; the first who asks has it made.
        std::thread::sleep(SETTLED);
        self.index
            .sample(OURS, written.ask("files", &[])? / million);
        if let Some(path) = written.index() {
            self.index_bytes.sample(OURS, len(&path)? / count);
        }
        for ((_, words), row) in QUESTIONS.iter().zip(&mut self.questions) {
            row.sample(OURS, written.ask(words[0], &words[1..])?);
        }
        let job = written.job.to_string();
        let who = ["who-read", "**/wood_oak_00042.exr", &job];
        self.who_read.sample(OURS, written.time(&who)?);
        self.proofs(&written, million)?;
        fs::remove_dir_all(&written.directory).or_fail(Kind::Environment)
    }

    fn proofs(&mut self, written: &Written, million: f64) -> Result<(), Failure> {
        let middle = written.records / 2;
        let (seconds, (leaf, path, root)) = timed(|| written.prove(middle))?;
        self.prove.sample(OURS, seconds / million);
        let times: u32 = 10_000;
        let (seconds, held) = timed(|| {
            let held = (0..times).all(|_| {
                let path = std::hint::black_box(&path);
                tree::includes(leaf, middle, written.records, path, &root)
            });
            Ok(held)
        })?;
        if !held {
            return Err(Failure::new(Kind::Internal, "a proof does not hold"));
        }
        self.check.sample(OURS, seconds * 1e6 / f64::from(times));
        Ok(())
    }
}

/// The log itself: written, verified, asked, proved from.
fn log(directory: &Path, asked: &Asked) -> Result<Vec<Row>, Failure> {
    let mut rows = Rows::new();
    for round in 0..asked.rounds {
        rows.round(&directory.join(format!("bench-{round}")), asked.events)?;
    }
    Ok(rows.all())
}

fn len(path: &Path) -> Result<f64, Failure> {
    let metadata = fs::metadata(path).or_fail(Kind::Environment)?;
    Ok(metadata.len() as f64)
}

fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<(f64, T), Failure> {
    let began = Instant::now();
    let done = work()?;
    Ok((began.elapsed().as_secs_f64(), done))
}

fn access(number: u64) -> Access {
    // No order that an index could profit from.
    let frame = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let frame = frame % PATHS;
    Access {
        at: process::now(),
        pid: 4711 + (number / 20_000) as u32,
        comm: "blender".to_owned(),
        op: match number % 3 {
            0 => Op::OpenRead,
            1 => Op::CloseRead,
            _ => Op::Lookup,
        },
        path: format!("/mnt/projects/show/assets/textures/wood_oak_{frame:05}.exr").into_bytes(),
        to: None,
        verdict: match number % 3 {
            _ if number % 1000 == 999 => Verdict::Denied {
                rule: "generic.toml:12".to_owned(),
            },
            2 => Verdict::Missing,
            _ => Verdict::Allowed,
        },
        bytes: 65_536 * (number % 3 % 2),
    }
}

/// A job that has run, so that there is a key, an envelope, a ledger and a log.
fn job(directory: &Path) -> Result<(State, OpenedJob), Failure> {
    let show = directory.join("show");
    fs::create_dir_all(&show).or_fail(Kind::Environment)?;
    let state = directory.join("state");
    let ended = Command::new(process::executable()?)
        .args(["run", "--quiet", "--policy", "generic", "--state"])
        .arg(&state)
        .arg("--central")
        .arg(format!("{}:/mnt/projects", show.display()))
        .args(["--", "true"])
        .stdin(Stdio::null())
        .output()
        .or_fail(Kind::Environment)?;
    if !ended.status.success() {
        let words = String::from_utf8_lossy(&ended.stderr);
        let message = format!("no job could be run on this host: {words}");
        return Err(Failure::new(Kind::Environment, message).hint("safelight doctor"));
    }
    let state = State::open(Some(&state))?;
    let id = Books::open(&state)?.find("last")?;
    let opened = OpenedJob::open(&state, id)?;
    Ok((state, opened))
}

/// Has the writer write so many events to the log of a job, and waits until they are on the disk and registered.
fn written(directory: &Path, events: u64) -> Result<Written, Failure> {
    fs::create_dir_all(directory).or_fail(Kind::Environment)?;
    let (state, opened) = job(directory)?;
    let (client, job) = (&opened.envelope.outline.client, opened.job());
    let session = draw_session()?;
    let log = (client, job, LogOf::Job);
    let (writer, mut others) = AuditWriter::start(&state, log, Source::Agent, &[Source::View])?;
    let channel = others.pop();
    let channel =
        channel.ok_or_else(|| Failure::new(Kind::Internal, "no channel to the writer"))?;
    let recorder = Recorder::new(channel).or_fail(Kind::Environment)?;
    let before = writer.sync()?.records;
    let key = opened.key.audit_key(session);
    let began = Instant::now();
    for index in 0..events {
        let plain = postcard::to_stdvec(&access(index)).or_fail(Kind::Internal)?;
        let bytes = key.seal(index, &plain).or_fail(Kind::Internal)?;
        let body = Body::Sealed {
            session,
            index,
            bytes,
        };
        recorder.append(body).or_fail(Kind::Environment)?;
    }
    drop(recorder);
    let last = writer.finish()?;
    let seconds = began.elapsed().as_secs_f64();
    Books::open(&state)?.anchor(job, last)?;
    registers::note(&state, client, job, LogOf::Job)?;
    Ok(Written {
        directory: directory.to_owned(),
        path: state.audit_log(client, job, LogOf::Job)?,
        state: state.root().to_owned(),
        job,
        seconds,
        events: last.records - before,
        records: last.records,
    })
}

impl Written {
    /// How long an `audit` command takes, from its start to its end.
    fn time(&self, words: &[&str]) -> Result<f64, Failure> {
        let exe = process::executable()?;
        let (seconds, ended) = timed(|| {
            Command::new(exe)
                .arg("audit")
                .args(words)
                .arg("--state")
                .arg(&self.state)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .output()
                .or_fail(Kind::Environment)
        })?;
        match ended.status.success() {
            true => Ok(seconds),
            false => {
                let said = String::from_utf8_lossy(&ended.stderr);
                let message = format!("audit {} failed: {said}", words.join(" "));
                Err(Failure::new(Kind::Internal, message))
            }
        }
    }

    /// The same, of a command that takes a job first.
    fn ask(&self, command: &str, more: &[&str]) -> Result<f64, Failure> {
        let job = self.job.to_string();
        self.time(&[&[command, job.as_str()], more].concat())
    }

    /// The index beside the log, if one was made: a log of few events has none.
    fn index(&self) -> Option<PathBuf> {
        let name = format!("index/{}.log.index", self.job);
        Some(self.path.parent()?.join(name)).filter(|path| path.exists())
    }

    /// As `audit prove`: the leaf, its way up, and the root.
    fn prove(&self, index: u64) -> Result<(tree::Hash, Vec<tree::Hash>, tree::Hash), Failure> {
        let (mut forest, mut frontier) = (tree::Forest::default(), tree::Frontier::default());
        let file = File::open(&self.path).or_fail(Kind::Environment)?;
        let reader = Reader::open(BufReader::with_capacity(1 << 20, file)).or_fail(Kind::Denied)?;
        let read = reader.leaves(|_, leaf| {
            forest.push(leaf);
            frontier.push(leaf);
        });
        read.or_fail(Kind::Denied)?;
        let nodes = |level, index| forest.node(level, index).ok_or(());
        let gone = |()| Failure::new(Kind::Internal, "a leaf is not there");
        let path = tree::inclusion(index, forest.size(), &nodes).map_err(gone)?;
        let leaf = nodes(0, index).map_err(gone)?;
        Ok((leaf, path, frontier.root()))
    }
}
