//! A job of many tasks as it is at home: its ledger, its area, what its sessions left.

use std::fs::{self, OpenOptions};

use safelight_audit::{Body, Checkpoint, Header, Log, Source};
use safelight_bundle::Envelope;
use safelight_policies::{
    cause::Cause,
    event::{Access, Control, Op, Verdict},
    id::{ClientAlias, Fence, JobId, ObjectId, PolicyDigest, SessionId, TaskId, VerifyKey},
    outline::{Outline, StepOutline},
};
use safelight_scheduler::Terms;
use safelight_seal::{job_key::JobKey, random::SystemRandom};
use safelight_vfs::area::Area;

use crate::{
    jobs::{self, Left},
    opened::OpenedJob,
    run::Books,
    state::{LogOf, State},
};

pub(crate) const JOB: JobId = JobId::from_random([1; 10]);

fn client() -> ClientAlias {
    ClientAlias::new("c-x").unwrap()
}

pub(crate) fn session(number: u8) -> SessionId {
    SessionId::from_random([number; 10])
}

pub(crate) fn key() -> JobKey {
    JobKey::generate(&SystemRandom::new()).unwrap()
}

pub(crate) fn access(path: &str) -> Access {
    Access {
        at: 5,
        pid: 7,
        comm: "povray".to_owned(),
        op: Op::OpenRead,
        path: path.as_bytes().to_vec(),
        to: None,
        verdict: Verdict::Allowed,
        bytes: 0,
    }
}

/// A record of a session's, sealed.
pub(crate) fn sealed(key: &JobKey, session: SessionId, index: u64, path: &str) -> Body {
    let plain = postcard::to_stdvec(&access(path)).unwrap();
    let bytes = key.audit_key(session).seal(index, &plain).unwrap();
    Body::Sealed {
        session,
        index,
        bytes,
    }
}

/// A log of these bodies, each at its time: its bytes, and where it stands.
pub(crate) fn log_of(
    which: LogOf,
    bodies: impl IntoIterator<Item = (u64, Body)>,
) -> (Vec<u8>, Checkpoint) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let header = Header {
        job: JOB,
        client: client(),
        log: which.id(JOB),
    };
    let append = OpenOptions::new()
        .read(true)
        .append(true)
        .open(file.path())
        .unwrap();
    let mut log = Log::open(append, &header, 1).unwrap();
    for (at, body) in bodies {
        log.append(Source::View, at, body).unwrap();
    }
    let checkpoint = log.sync().unwrap();
    (fs::read(file.path()).unwrap(), checkpoint)
}

/// A job of one step with four tasks.
pub(crate) struct Farm {
    pub(crate) state: State,
    pub(crate) opened: OpenedJob,
    _directory: tempfile::TempDir,
}

impl Farm {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(Some(directory.path())).unwrap();
        let envelope = envelope();
        let (books, terms) = (Books::open(&state).unwrap(), Terms::default());
        let submitted = books
            .ledger()
            .submit(&envelope.outline, ObjectId([0; 32]), &terms, 1);
        books.wait(submitted).unwrap();
        let opened = OpenedJob {
            area: Area::open(state.area(&client()).unwrap()).unwrap(),
            key: key(),
            envelope,
        };
        Self {
            state,
            opened,
            _directory: directory,
        }
    }

    /// Stores an object.
    pub(crate) fn put(&self, bytes: &[u8]) -> ObjectId {
        let id = safelight_bundle::object_id(bytes);
        self.opened.area.put(id, bytes).unwrap();
        id
    }

    /// Takes an object away.
    pub(crate) fn remove(&self, object: ObjectId) {
        let hex = data_encoding::HEXLOWER.encode(&object.0);
        let mut next = vec![self.opened.area.root().to_owned()];
        while let Some(directory) = next.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    next.push(path);
                } else if hex.ends_with(path.file_name().unwrap().to_str().unwrap()) {
                    return fs::remove_file(path).unwrap();
                }
            }
        }
        panic!("{object} is not there");
    }

    /// The records of a session that read these files, at these times.
    pub(crate) fn session_log(&self, number: u8, reads: &[(u64, &str)]) -> Vec<u8> {
        let session = session(number);
        let read = |(index, (at, path)): (u64, &(u64, &str))| {
            (*at, sealed(&self.opened.key, session, index, path))
        };
        let bodies = (0u64..).zip(reads).map(read);
        log_of(LogOf::Session(session), bodies).0
    }

    /// The log of the release of the key into a session.
    pub(crate) fn release_log(&self, number: u8, at: u64) -> Vec<u8> {
        let session = session(number);
        let to = [1; 32];
        let released = Body::Control(Control::KeyReleased { session, to });
        log_of(LogOf::Release(session), [(at, released)]).0
    }

    /// Writes one of the job's logs into a file of this host.
    pub(crate) fn write(&self, which: LogOf, bytes: &[u8]) {
        let path = self.state.audit_log(&client(), JOB, which).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A session of a task left these logs, at its first attempt.
    pub(crate) fn left(&self, number: u8, task: u64, audit: &[ObjectId]) -> Left {
        let left = Left {
            task: TaskId { step: 0, task },
            manifest: Some(ObjectId([number; 32])),
            log: Some(ObjectId([number; 32])),
            session: session(number),
            attempt: 1,
            fence: Fence(u64::from(number)),
            cause: Cause::Exited { code: 0 },
            files: 1,
            bytes: 1,
            audit: audit.to_vec(),
            list: Some(ObjectId([number; 32])),
            site: None,
            at: 2,
        };
        jobs::write_left(&self.state, JOB, &left).unwrap();
        left
    }
}

fn envelope() -> Envelope {
    let step = StepOutline {
        tasks: 4,
        depends_on: vec![],
        amounts: Default::default(),
        attributes: Default::default(),
        timeout: 60,
        batch: None,
    };
    Envelope {
        version: 1,
        outline: Outline {
            job: JOB,
            client: client(),
            priority: 50,
            policy: "generic".parse().unwrap(),
            policy_digest: PolicyDigest([0; 32]),
            steps: vec![step],
            expires: 1_000,
            central: vec![],
            retries: None,
            wishes: Default::default(),
        },
        client_verify: VerifyKey([0; 32]),
        attest: VerifyKey([0; 32]),
        inputs: ObjectId([0; 32]),
        recipe: ObjectId([0; 32]),
        prekey: [0; 16],
        site: VerifyKey([0; 32]),
        stanza_for_site: Vec::new(),
        issued: 0,
        expires: 1_000,
    }
}
