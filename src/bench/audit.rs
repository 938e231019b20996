//! `safelight bench audit`: what the log costs, and how long its questions take.
//!
//! The writer is the real one, a process of its own, and what it is given is sealed as a view server seals it. What the log costs a job is
//! measured on two views of the same files that differ in nothing but where their records go: to the writer, or nowhere.

mod cost;

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    time::Instant,
};

use safelight_audit::{Body, Reader, Recorder, Source, tree};
use safelight_policies::{
    event::{Access, Op, Verdict},
    id::{ClientAlias, JobId, SessionId},
};
use safelight_seal::{
    audit_key::AuditKey,
    job_key::JobKey,
    random::{Random, SystemRandom},
};

use super::{Better, Goal, HostFacts, OURS, Report, Row};
use crate::{
    failure::{Failure, Kind, OrFail},
    process,
    records::{Name, OpenedRecord, Paths, Summary, What},
    run::{AuditWriter, draw_session},
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

/// A log of events, and what opens it.
struct Written {
    path: PathBuf,
    key: AuditKey,
    session: SessionId,
    seconds: f64,
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

/// The log itself: written, verified, asked, proved from.
fn log(directory: &Path, asked: &Asked) -> Result<Vec<Row>, Failure> {
    let million = asked.events as f64 / 1e6;
    let mut write = Row::new("write", "events/s", Better::More).goal(Goal::AtLeast(50_000.0));
    let mut lost = Row::new("lost", "events", Better::Less).goal(Goal::AtMost(0.0));
    let mut bytes = Row::new("size", "bytes/event", Better::Less);
    let mut verify = Row::new("verify", "s/1M events", Better::Less).goal(Goal::AtMost(5.0));
    let mut files = Row::new("files", "s/1M events", Better::Less);
    let mut prove = Row::new("prove", "s/1M events", Better::Less);
    let mut check = Row::new("check-proof", "us", Better::Less);
    for round in 0..asked.rounds {
        let written = written(&directory.join(format!("state-{round}")), asked.events)?;
        write.sample(OURS, asked.events as f64 / written.seconds);
        lost.sample(OURS, asked.events.abs_diff(written.records) as f64);
        let len = fs::metadata(&written.path)
            .or_fail(Kind::Environment)?
            .len();
        bytes.sample(OURS, len as f64 / asked.events as f64);
        verify.sample(OURS, timed(|| written.verify())?.0 / million);
        files.sample(OURS, timed(|| written.files())?.0 / million);
        let (seconds, (leaf, path, root)) = timed(|| written.prove(asked.events / 2))?;
        prove.sample(OURS, seconds / million);
        let times: u32 = 10_000;
        let (seconds, held) = timed(|| {
            let held = (0..times).all(|_| {
                let path = std::hint::black_box(&path);
                tree::includes(leaf, asked.events / 2, asked.events, path, &root)
            });
            Ok(held)
        })?;
        if !held {
            return Err(Failure::new(Kind::Internal, "a proof does not hold"));
        }
        check.sample(OURS, seconds * 1e6 / f64::from(times));
        fs::remove_file(&written.path).or_fail(Kind::Environment)?;
    }
    Ok(vec![write, lost, bytes, verify, files, prove, check])
}

fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<(f64, T), Failure> {
    let began = Instant::now();
    let done = work()?;
    Ok((began.elapsed().as_secs_f64(), done))
}

fn access(number: u64) -> Access {
    let frame = number % PATHS;
    Access {
        at: process::now(),
        pid: 4711,
        comm: "blender".to_owned(),
        op: match number % 3 {
            0 => Op::OpenRead,
            1 => Op::CloseRead,
            _ => Op::Lookup,
        },
        path: format!("/mnt/projects/show/assets/textures/wood_oak_{frame:05}.exr").into_bytes(),
        to: None,
        verdict: match number % 3 {
            2 => Verdict::Missing,
            _ => Verdict::Allowed,
        },
        bytes: 65_536 * (number % 3 % 2),
    }
}

/// Has the writer write so many events, and waits until they are on the disk.
fn written(directory: &Path, events: u64) -> Result<Written, Failure> {
    let random = SystemRandom::new();
    let state = State::open(Some(directory))?;
    let mut id = [0; 10];
    random.fill(&mut id).or_fail(Kind::Internal)?;
    let (job, session) = (JobId::from_random(id), draw_session()?);
    let client = ClientAlias::new("bench").or_fail(Kind::Internal)?;
    let which = (&client, job, LogOf::Session(session));
    let (writer, mut others) = AuditWriter::start(&state, which, Source::Agent, &[Source::View])?;
    let channel = others.pop();
    let channel =
        channel.ok_or_else(|| Failure::new(Kind::Internal, "no channel to the writer"))?;
    let recorder = Recorder::new(channel).or_fail(Kind::Environment)?;
    let job_key = JobKey::generate(&random).or_fail(Kind::Internal)?;
    let key = job_key.audit_key(session);
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
    Ok(Written {
        seconds: began.elapsed().as_secs_f64(),
        records: last.records,
        path: state.audit_log(&client, job, LogOf::Session(session))?,
        key,
        session,
    })
}

impl Written {
    fn open(&self) -> Result<BufReader<File>, Failure> {
        let file = File::open(&self.path).or_fail(Kind::Environment)?;
        Ok(BufReader::with_capacity(1 << 20, file))
    }

    /// As `audit verify`: the chain from its beginning, and every sealed record opened.
    fn verify(&self) -> Result<(), Failure> {
        let report = safelight_audit::verify(self.open()?, None).or_fail(Kind::Environment)?;
        let mut opened = 0;
        self.each(|_| opened += 1)?;
        match report.is_whole() && opened == self.records {
            true => Ok(()),
            false => Err(Failure::new(Kind::Internal, "the log does not verify")),
        }
    }

    /// As `audit files`.
    fn files(&self) -> Result<Summary, Failure> {
        let mut paths = Paths::default();
        self.each(|record| paths.add(&record))?;
        Ok(Summary::of(&paths))
    }

    fn each(&self, mut each: impl FnMut(OpenedRecord)) -> Result<(), Failure> {
        for record in Reader::open(self.open()?).or_fail(Kind::Denied)? {
            let record = record.or_fail(Kind::Denied)?;
            let Body::Sealed { index, bytes, .. } = &record.body else {
                continue;
            };
            let plain = self.key.open(*index, bytes).or_fail(Kind::Denied)?;
            let access = postcard::from_bytes(&plain).or_fail(Kind::Internal)?;
            let session = self.session;
            each(OpenedRecord {
                log: Name::Job,
                task: None,
                place: None,
                seq: record.seq,
                at_ns: record.at_ns,
                source: record.source,
                what: What::Access { session, access },
            });
        }
        Ok(())
    }

    /// As `audit prove`: the leaf, its way up, and the root.
    fn prove(&self, index: u64) -> Result<(tree::Hash, Vec<tree::Hash>, tree::Hash), Failure> {
        let (mut forest, mut frontier) = (tree::Forest::default(), tree::Frontier::default());
        let reader = Reader::open(self.open()?).or_fail(Kind::Denied)?;
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
