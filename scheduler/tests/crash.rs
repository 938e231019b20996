//! Killing the process at any moment loses no commit that it had acknowledged, and none is there twice.
//!
//! The test runs itself again as the process to be killed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use sqlx::{ConnectOptions, Row, sqlite::SqliteConnectOptions};

use safelight_policies::{
    id::{
        ClientAlias, JobId, NodeName, ObjectId, PolicyDigest, PolicyName, SessionId, SlotIndex,
        TaskId, VerifyKey,
    },
    outline::{Outline, StepOutline},
};
use safelight_scheduler::{
    Anchor, Ask, AttemptState, LeaseRefusal, Leasing, Next, NodeSpec, Place, Settlement, SlotSpec,
    SqliteLedger, Terms,
};

const LEDGER: &str = "SAFELIGHT_TEST_CRASH_LEDGER";
const ROUND: &str = "SAFELIGHT_TEST_CRASH_ROUND";
const ROUNDS: u64 = 12;
const TTL: u64 = 10;

fn outline() -> Outline {
    Outline {
        job: JobId::from_random([1; 10]),
        client: ClientAlias::new("river").unwrap(),
        priority: 50,
        policy: PolicyName::new("blender").unwrap(),
        policy_digest: PolicyDigest([0; 32]),
        steps: vec![StepOutline {
            tasks: 1_000_000,
            depends_on: vec![],
            amounts: Default::default(),
            attributes: Default::default(),
            timeout: 60,
            batch: None,
        }],
        expires: u64::MAX,
        central: vec![],
        retries: None,
        wishes: Default::default(),
    }
}

fn session(round: u64, task: u64) -> SessionId {
    let mut bytes = [round as u8; 10];
    bytes[..8].copy_from_slice(&task.to_be_bytes());
    SessionId::from_random(bytes)
}

fn manifest(round: u64, task: u64) -> ObjectId {
    let mut bytes = [round as u8; 32];
    bytes[..8].copy_from_slice(&task.to_be_bytes());
    ObjectId(bytes)
}

#[tokio::test]
#[ignore = "the process that the other test kills; alone it would never end"]
async fn the_process_that_is_killed() {
    let path = std::env::var_os(LEDGER).unwrap();
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let ledger = SqliteLedger::open(Path::new(&path)).await.unwrap();
    let place = Place {
        node: NodeName::new("here").unwrap(),
        slot: SlotIndex(0),
    };
    // A clock on which every lease of the round before has run out.
    let now = round * 2 * TTL;
    let mut out = std::io::stdout();
    for task in 0.. {
        let id = TaskId { step: 0, task };
        let session = session(round, task);
        let leased = match ledger
            .lease(outline().job, id, session, &place, now, TTL)
            .await
            .unwrap()
        {
            Leasing::Leased(leased) => leased,
            Leasing::Refused { reason } => {
                assert_eq!(reason, LeaseRefusal::Done);
                continue;
            }
        };
        let anchor = Anchor {
            records: leased.fence.0,
            chain: [round as u8; 32],
        };
        let answer = ledger
            .commit(
                session,
                leased.fence,
                manifest(round, task),
                Some(anchor),
                now,
            )
            .await
            .unwrap();
        assert_eq!(answer, Settlement::Accepted);
        // The end of the line is what makes it an acknowledgement.
        out.write_all(format!("\nack {task}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
#[ignore = "the process that the other test kills; alone it would never end"]
async fn the_farm_that_is_killed() {
    let path = std::env::var_os(LEDGER).unwrap();
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let ledger = SqliteLedger::open(Path::new(&path)).await.unwrap();
    let now = round * 1_000;
    let spec = NodeSpec {
        name: NodeName::new("here").unwrap(),
        key: VerifyKey([1; 32]),
        slots: vec![SlotSpec::default(); 2],
    };
    // What the killed round held is lost with this.
    ledger.register_node(&spec, now).await.unwrap();
    let mut out = std::io::stdout();
    for number in (0..).step_by(2) {
        let ask = |slot| Ask {
            place: Place {
                node: spec.name.clone(),
                slot: SlotIndex(slot),
            },
            session: session(round, number + u64::from(slot)),
        };
        let asks = [ask(0), ask(1)];
        for next in ledger.next_for(&asks, now, TTL).await.unwrap() {
            let Next::Leased(given) = next else {
                panic!("nothing is left: {next:?}")
            };
            let (fence, task) = (given.leased.fence, given.task.task);
            let anchor = Anchor {
                records: fence.0,
                chain: [round as u8; 32],
            };
            let result = manifest(round, task);
            let answer = ledger.commit(given.ask.session, fence, result, Some(anchor), now);
            assert_eq!(answer.await.unwrap(), Settlement::Accepted);
            out.write_all(format!("\nack {task}\n").as_bytes()).unwrap();
            out.flush().unwrap();
        }
    }
}

/// Runs a round and kills it at a moment after its first acknowledgement: the tasks that were acknowledged.
fn run_and_kill(path: &Path, test: &str, round: u64, moment: Duration) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored"])
        .args(["--nocapture", "--test-threads=1"])
        .env(LEDGER, path)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let (first, begun) = mpsc::channel();
    let reading = thread::spawn(move || {
        let mut acknowledged = Vec::new();
        for line in lines.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            if let Some(task) = line.strip_prefix("ack ") {
                acknowledged.push(task.parse::<u64>().unwrap());
                let _only_the_first_counts = first.send(());
            }
        }
        acknowledged
    });
    begun.recv_timeout(Duration::from_secs(60)).unwrap();
    thread::sleep(moment);
    child.kill().unwrap();
    child.wait().unwrap();
    reading.join().unwrap()
}

#[tokio::test]
async fn no_acknowledged_commit_is_lost_or_doubled() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let ledger = SqliteLedger::open(&path).await.unwrap();
    ledger
        .admit_job(&outline(), ObjectId([1; 32]), 1)
        .await
        .unwrap();
    drop(ledger);
    let mut promised = BTreeMap::new();
    let mut seed = 0x5afe_1195_u64;
    for round in 1..=ROUNDS {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let moment = Duration::from_micros((seed >> 33) % 60_000);
        for task in run_and_kill(&path, "the_process_that_is_killed", round, moment) {
            let before = promised.insert(task, round);
            assert_eq!(before, None, "task {task} was acknowledged twice");
        }
        let ledger = SqliteLedger::open(&path).await.unwrap();
        let attempts = ledger.attempts(outline().job).await.unwrap();
        let committed: Vec<_> = attempts
            .iter()
            .filter(|attempt| attempt.state == AttemptState::Committed)
            .collect();
        let tasks: BTreeSet<u64> = committed.iter().map(|attempt| attempt.task.task).collect();
        assert_eq!(tasks.len(), committed.len(), "a task was committed twice");
        for (task, round) in &promised {
            let found = committed
                .iter()
                .find(|attempt| attempt.task.task == *task)
                .unwrap_or_else(|| panic!("the commit of task {task} was lost"));
            assert_eq!(found.session, session(*round, *task));
            assert_eq!(found.result, Some(manifest(*round, *task)));
        }
        // At most one commit had happened without having been acknowledged, per kill.
        assert!(committed.len() as u64 <= promised.len() as u64 + round);
        assert!(
            attempts
                .windows(2)
                .all(|pair| pair[0].fence < pair[1].fence)
        );
    }
    assert!(promised.len() as u64 >= ROUNDS);
}

#[tokio::test]
async fn no_commit_of_the_queue_is_lost_or_doubled_and_its_counts_hold() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let ledger = SqliteLedger::open(&path).await.unwrap();
    let terms = Terms::default();
    let job = outline();
    let receive = ledger.receive(&job, ObjectId([1; 32]), &terms, 1);
    receive.await.unwrap();
    drop(ledger);
    let mut promised = BTreeMap::new();
    let mut seed = 0x11a5_7e12_u64;
    for round in 1..=ROUNDS {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let moment = Duration::from_micros((seed >> 33) % 60_000);
        for task in run_and_kill(&path, "the_farm_that_is_killed", round, moment) {
            let before = promised.insert(task, round);
            assert_eq!(before, None, "task {task} was acknowledged twice");
        }
        let ledger = SqliteLedger::open(&path).await.unwrap();
        let attempts = ledger.attempts(outline().job).await.unwrap();
        let of = |state| {
            attempts
                .iter()
                .filter(move |attempt| attempt.state == state)
        };
        let committed: BTreeMap<u64, Option<ObjectId>> = of(AttemptState::Committed)
            .map(|attempt| (attempt.task.task, attempt.result))
            .collect();
        assert_eq!(of(AttemptState::Committed).count(), committed.len());
        for (task, round) in &promised {
            assert_eq!(committed.get(task), Some(&Some(manifest(*round, *task))));
        }
        assert!(committed.len() as u64 <= promised.len() as u64 + round);
        // Counts were moved in the same change as the attempts.
        assert!(of(AttemptState::Running).count() <= 2);
        let options = SqliteConnectOptions::new().filename(&path);
        let mut raw = options.connect().await.unwrap();
        let counts = sqlx::query("SELECT running, done, fresh FROM step");
        let counts = counts.fetch_one(&mut raw).await.unwrap();
        let touched: BTreeSet<u64> = attempts.iter().map(|attempt| attempt.task.task).collect();
        assert_eq!(
            [0, 1, 2].map(|column| counts.get::<i64, _>(column) as usize),
            [
                of(AttemptState::Running).count(),
                committed.len(),
                touched.len()
            ]
        );
    }
    assert!(promised.len() as u64 >= ROUNDS);
}
