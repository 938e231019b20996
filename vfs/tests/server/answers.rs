//! A view server that is killed between a record and its answer: whatever the program saw succeed is on the log that is left.
//!
//! The audit writer is the real one, on a file. The program is this test, on the mount.

use std::{
    collections::BTreeSet,
    io::BufReader,
    process::{Command, Stdio},
    sync::Mutex,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use safelight_audit::{Checkpoint, Reader, Source, open_file, verify, writer};
use safelight_policies::{
    event::{Access, Op, Verdict},
    id::ClientAlias,
};

use super::{fences::begin_on, *};

/// Programs that work at the same time.
const PROGRAMS: usize = 3;

/// What a killed server left behind.
struct Left {
    /// What the programs saw succeed, by path.
    seen: BTreeSet<String>,
    /// What is on the log.
    told: BTreeSet<String>,
}

impl Left {
    /// Records whose answer nobody saw.
    fn unanswered(&self) -> usize {
        self.told.difference(&self.seen).count()
    }

    #[track_caller]
    fn assert_told(&self, when: &str) {
        let untold: Vec<_> = self.seen.difference(&self.told).collect();
        assert!(untold.is_empty(), "{when}: no record of {untold:?}");
    }
}

/// Makes, looks for and removes names one after the other until the view is gone; notes each act that was answered.
fn work(at: &Path, program: usize, seen: &Mutex<BTreeSet<String>>) {
    let note = |act: &str, name: &str| {
        seen.lock().unwrap().insert(format!("{act} {name}"));
    };
    for number in 0.. {
        let name = format!("p{program}-{number}");
        let file = at.join(&name);
        if File::create_new(&file).is_err() {
            return;
        }
        note("create", &name);
        let moved = format!("{name}-moved");
        if fs::rename(&file, at.join(&moved)).is_err() {
            return;
        }
        note("rename", &name);
        if fs::remove_file(at.join(&moved)).is_err() {
            return;
        }
        note("unlink", &moved);
        let missing = format!("{name}-missing");
        match fs::symlink_metadata(at.join(&missing)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => note("missing", &missing),
            _ => return,
        }
    }
}

/// What the log says, which must be whole but for a last record that was cut short.
fn told(log: &Path, key: &JobKey, session: SessionId) -> BTreeSet<String> {
    let report = verify(File::open(log).unwrap(), None::<Checkpoint>).unwrap();
    assert!(report.is_whole(), "{report:?}");
    let key = key.audit_key(session);
    let reader = Reader::open(BufReader::new(File::open(log).unwrap())).unwrap();
    reader
        .map(Result::unwrap)
        .filter_map(|record| match record.body {
            Body::Sealed { index, bytes, .. } => {
                let plain = key.open(index, &bytes).ok().unwrap();
                let access: Access = postcard::from_bytes(&plain).unwrap();
                let act = match (access.op, &access.verdict) {
                    (Op::Create, Verdict::Allowed) => "create",
                    (Op::Rename, Verdict::Allowed) => "rename",
                    (Op::Unlink, Verdict::Allowed) => "unlink",
                    (_, Verdict::Missing) => "missing",
                    _ => return None,
                };
                let name = String::from_utf8(access.path).unwrap();
                let name = name.rsplit('/').next().unwrap_or_default();
                Some(format!("{act} {name}"))
            }
            Body::Control(_) => None,
        })
        .collect()
}

/// Serves a view with a real audit writer, lets programs work, has `harm` end the server, and answers what is left.
fn killed(number: u8, harm: impl FnOnce(&Job, u32)) -> Left {
    let job = Job::new("/mnt/show/picture");
    let log = job.at("audit").join("log");
    let order = job.order(number, vec![]);
    let session = order.session;
    let (ours, theirs) = Channel::pair().unwrap();
    let writer = real_writer(&job, &log, &theirs);
    drop(theirs);
    let server = job.start_recording(order, ours).unwrap();
    let (server, mut mounted) = begin_on(&job, server);
    // Whoever holds the device holds the view: that is to be the server alone.
    mounted.device = File::open("/dev/null").unwrap();
    let seen = Mutex::default();
    thread::scope(|scope| {
        // Gone before the programs are waited for, whatever happens.
        let server = server;
        for program in 0..PROGRAMS {
            let (at, seen) = (&mounted.at, &seen);
            scope.spawn(move || work(at, program, seen));
        }
        harm(&job, server.child.id());
        drop(server);
    });
    drop(mounted);
    writer.join().unwrap().unwrap();
    Left {
        seen: seen.into_inner().unwrap(),
        told: told(&log, &job.key, session),
    }
}

/// The audit writer's own loop, on a file.
fn real_writer(
    job: &Job,
    log: &Path,
    source: &Channel,
) -> thread::JoinHandle<Result<Checkpoint, safelight_audit::Error>> {
    let (parent, child) = Channel::pair().unwrap();
    let thread = thread::spawn(move || writer::serve(&child, clock));
    let order = safelight_audit::Order {
        job: job.id,
        client: ClientAlias::new("river").unwrap(),
        log: [1; 16],
        sources: vec![Source::View],
    };
    let file = open_file(log).unwrap();
    parent
        .send_with(&order, &[file.as_fd(), source.as_fd()])
        .unwrap();
    assert!(matches!(
        parent.expect().unwrap().message,
        FromWriter::Synced(_)
    ));
    thread
}

/// Numbers that are the same in every run of the test: xorshift64* (Vigna 2016).
fn draw(state: &mut u64, limit: u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit
}

fn at_moments(seed: u64, count: u32) {
    let mut state = seed;
    let mut answered = 0;
    for number in 0..count {
        let moment = Duration::from_micros(draw(&mut state, 60_000));
        let left = killed(1, |_, pid| {
            thread::sleep(moment);
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
        });
        left.assert_told(&format!("seed {seed:x}, number {number}, {moment:?}"));
        answered += left.seen.len();
    }
    assert!(answered > 100, "the programs did something: {answered}");
}

#[test]
fn what_was_answered_before_a_kill_at_any_moment_is_on_the_log() {
    if can_mount("what_was_answered_before_a_kill") {
        at_moments(0x5afe_1198, 8);
    }
}

#[test]
#[ignore = "long: two hundred kills; run by make test-all"]
fn what_was_answered_before_two_hundred_kills_is_on_the_log() {
    if can_mount("what_was_answered_before_two_hundred") {
        at_moments(0xda12_c202, 200);
    }
}

/// Killed in the very call that gives the answer to the kernel: the record is there, the answer is not.
#[test]
fn a_server_that_is_killed_when_it_answers_has_recorded_what_it_did_not_answer() {
    if !can_mount("a_server_that_is_killed_when_it_answers") || !has_strace() {
        return;
    }
    let mut unanswered = 0;
    for answer in [12, 25, 51] {
        let left = killed(1, |_, pid| {
            let inject = format!("inject=writev:signal=SIGKILL:when={answer}");
            let mut strace = Command::new("strace")
                .args(["-qq", "-f", "-e", "trace=writev", "-e", &inject, "-p"])
                .arg(pid.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            strace.wait().unwrap();
        });
        left.assert_told(&format!("answer {answer}"));
        unanswered += left.unanswered();
    }
    // The positive control: the kill did fall between record and answer.
    assert!(unanswered >= 3, "{unanswered}");
}

fn has_strace() -> bool {
    if Path::new("/usr/bin/strace").exists() {
        return true;
    }
    let required = std::env::var("SAFELIGHT_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|need| need.trim() == "strace"),
        "SAFELIGHT_REQUIRE lists strace"
    );
    println!("skipped: a_server_that_is_killed_when_it_answers needs strace");
    false
}
