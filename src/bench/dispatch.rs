//! What the queue costs: how fast a site books frames durably, and how that grows with slots and jobs.
//!
//! The ledger is the real one, in a file on the disk that is asked for, with every lease synced before it is answered. Only the slots are made
//! up. They ask in batches, as the slots of nodes do; how many ask at once is in the row's name. Ending sessions is not part of booking, so
//! it is measured apart. How fast whole tasks get done on real nodes is in `rates`.

mod rates;

use std::{path::Path, time::Instant};

use safelight_policies::{
    id::{
        ClientAlias, JobId, NodeName, ObjectId, PolicyDigest, PolicyName, SessionId, SlotIndex,
        TaskId, VerifyKey,
    },
    outline::{Outline, StepOutline, Wishes},
};
use safelight_scheduler::{
    Ask, Given, Leasing, Next, NodeSpec, Place, Settlement, SlotSpec, SqliteLedger, Terms,
};
use tokio::runtime::Runtime;

use super::{Better, Goal, HostFacts, OURS, Report, Row};
use crate::failure::{Failure, Kind, OrFail};

/// Slots of one node: a node's slots ask together.
const NODE: usize = 100;

/// How long a lease is, in seconds.
const LEASE: u64 = 3600;

/// Some moment in seconds since 1970: nothing of this is about the time of day.
const NOW: u64 = 1_700_000_000;

/// The rows: name, and unit.
const ROWS: [(&str, &str, Better); 9] = [
    (
        "book",
        "frames/s, 1,000 slots, 100 ask at once",
        Better::More,
    ),
    ("end", "results/s, one at a time", Better::More),
    (
        "first",
        "ms from submission to the first lease",
        Better::Less,
    ),
    (
        "million",
        "s to submit 1,000,000 frames and lease the last",
        Better::Less,
    ),
    ("million-memory", "MiB more than before", Better::Less),
    ("slots-100", "µs a lease, 100 slots", Better::Less),
    ("slots-10000", "µs a lease, 10,000 slots", Better::Less),
    ("jobs-1", "µs a lease, 1 job", Better::Less),
    ("jobs-10000", "µs a lease, 10,000 jobs", Better::Less),
];

/// What is measured, and how often.
pub(crate) struct Asked {
    /// Where the ledger is.
    pub(crate) directory: std::path::PathBuf,
    pub(crate) rounds: usize,
    /// Only these rows; all if there is none.
    pub(crate) only: Vec<String>,
}

/// The rows' names.
pub(crate) fn names() -> Vec<&'static str> {
    let booking = ROWS.iter().map(|(name, _, _)| *name);
    booking.chain(rates::names()).collect()
}

/// Runs the bench.
pub(crate) fn run(asked: &Asked) -> Result<Report, Failure> {
    let wanted = |name: &str| asked.only.is_empty() || asked.only.iter().any(|one| one == name);
    let mut rows = Vec::new();
    for (name, unit, better) in ROWS.into_iter().filter(|(name, _, _)| wanted(name)) {
        let mut row = Row::new(name, unit, better);
        row = match name {
            "book" => row.goal(Goal::AtLeast(10_000.0)),
            "million" => row.goal(Goal::AtMost(2.0)),
            _ => row,
        };
        for _ in 0..asked.rounds {
            row.sample(OURS, sample(name, &asked.directory)?);
        }
        rows.push(row);
    }
    rows.extend(rates::measure(&asked.directory, asked.rounds, &wanted)?);
    Ok(Report {
        bench: "dispatch",
        host: HostFacts::read(&asked.directory),
        versions: rates::versions().collect(),
        rows,
    })
}

fn sample(name: &str, directory: &Path) -> Result<f64, Failure> {
    let micros = |(seconds, leases): (f64, usize)| seconds * 1e6 / leases as f64;
    match name {
        "book" => {
            let (seconds, leases) = Farm::new(directory, 1000, 1)?.book(3)?;
            Ok(leases as f64 / seconds)
        }
        "end" => Farm::new(directory, 1000, 1)?.end(),
        "first" => Farm::new(directory, 100, 0)?.first(),
        "million" => Ok(Farm::new(directory, 100, 0)?.million()?.0),
        "million-memory" => Ok(Farm::new(directory, 100, 0)?.million()?.1),
        "slots-100" => Farm::new(directory, 100, 1)?.book(10).map(micros),
        "slots-10000" => Farm::new(directory, 10_000, 1)?.book(1).map(micros),
        "jobs-1" => Farm::new(directory, 1000, 1)?.book(3).map(micros),
        _ => Farm::new(directory, 1000, 10_000)?.book(3).map(micros),
    }
}

/// A site with nodes and jobs, whose ledger is gone with it.
struct Farm {
    runtime: Runtime,
    ledger: SqliteLedger,
    slots: usize,
    sessions: u64,
    _directory: tempfile::TempDir,
}

impl Farm {
    fn new(directory: &Path, slots: usize, jobs: usize) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("safelight-bench-")
            .tempdir_in(directory)
            .or_fail(Kind::User)?;
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }
            .enable_all()
            .build()
            .or_fail(Kind::Environment)?;
        let ledger = runtime
            .block_on(SqliteLedger::open(&directory.path().join("ledger")))
            .or_fail(Kind::Environment)?;
        let farm = Self {
            runtime,
            ledger,
            slots,
            sessions: 0,
            _directory: directory,
        };
        for first in (0..slots).step_by(NODE) {
            farm.register(first / NODE, NODE.min(slots - first))?;
        }
        for job in 0..jobs {
            farm.receive(&outline(job, 1_000_000)?)?;
        }
        Ok(farm)
    }

    fn register(&self, node: usize, slots: usize) -> Result<(), Failure> {
        let spec = NodeSpec {
            name: name(node)?,
            key: VerifyKey([1; 32]),
            slots: vec![
                SlotSpec {
                    vcpu: 4,
                    memory_mib: 8192,
                    ..SlotSpec::default()
                };
                slots
            ],
        };
        let registered = self.ledger.register_node(&spec, NOW);
        self.runtime.block_on(registered).or_fail(Kind::Internal)
    }

    fn receive(&self, outline: &Outline) -> Result<(), Failure> {
        let (envelope, terms) = (ObjectId([2; 32]), Terms::default());
        let received = self.ledger.receive(outline, envelope, &terms, NOW);
        self.runtime.block_on(received).or_fail(Kind::Internal)
    }

    /// All slots ask, a node's at once. Answers what they were given.
    fn all_ask(&mut self) -> Result<(f64, Vec<Given>), Failure> {
        let mut given = Vec::with_capacity(self.slots);
        let mut seconds = 0.0;
        for first in (0..self.slots).step_by(NODE) {
            let mut asks = Vec::with_capacity(NODE);
            for slot in 0..NODE.min(self.slots - first) {
                asks.push(self.ask(first / NODE, slot)?);
            }
            let began = Instant::now();
            let next = self.ledger.next_for(&asks, NOW, LEASE);
            let answers = self.runtime.block_on(next).or_fail(Kind::Internal)?;
            seconds += began.elapsed().as_secs_f64();
            for answer in answers {
                match answer {
                    Next::Leased(one) => given.push(*one),
                    other => return Err(unexpected(&other)),
                }
            }
        }
        Ok((seconds, given))
    }

    fn ask(&mut self, node: usize, slot: usize) -> Result<Ask, Failure> {
        self.sessions += 1;
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.sessions.to_be_bytes());
        Ok(Ask {
            place: Place {
                node: name(node)?,
                slot: SlotIndex(u16::try_from(slot).or_fail(Kind::Internal)?),
            },
            session: SessionId::from_random(bytes),
        })
    }

    /// Seconds of booking, and how many leases: all slots so many times.
    fn book(&mut self, times: usize) -> Result<(f64, usize), Failure> {
        let (mut seconds, mut leases) = (0.0, 0);
        for left in (0..times).rev() {
            let (took, given) = self.all_ask()?;
            (seconds, leases) = (seconds + took, leases + given.len());
            if left > 0 {
                self.commit(&given)?;
            }
        }
        Ok((seconds, leases))
    }

    /// Ends sessions with a result each, one transaction after the other.
    fn commit(&self, given: &[Given]) -> Result<(), Failure> {
        for one in given {
            let (session, fence) = (one.ask.session, one.leased.fence);
            let result = ObjectId([3; 32]);
            let commit = self.ledger.commit(session, fence, result, None, NOW);
            let settled = self.runtime.block_on(commit).or_fail(Kind::Internal)?;
            if settled != Settlement::Accepted {
                return Err(unexpected(&settled));
            }
        }
        Ok(())
    }

    /// Results a second, each a transaction of its own.
    fn end(&mut self) -> Result<f64, Failure> {
        let (_, given) = self.all_ask()?;
        let began = Instant::now();
        self.commit(&given)?;
        Ok(given.len() as f64 / began.elapsed().as_secs_f64())
    }

    /// Milliseconds from a job's arrival to its first lease.
    fn first(&mut self) -> Result<f64, Failure> {
        let (outline, ask) = (outline(0, 100)?, self.ask(0, 0)?);
        let began = Instant::now();
        self.receive(&outline)?;
        let next = self.ledger.next(&ask, NOW, LEASE);
        match self.runtime.block_on(next).or_fail(Kind::Internal)? {
            Next::Leased(_) => Ok(began.elapsed().as_secs_f64() * 1e3),
            other => Err(unexpected(&other)),
        }
    }

    /// Seconds from handing in a million frames to a lease of the last, and the memory that it took in MiB.
    fn million(&mut self) -> Result<(f64, f64), Failure> {
        let outline = outline(0, 1_000_000)?;
        let last = TaskId {
            step: 0,
            task: 999_999,
        };
        let ask = self.ask(0, 0)?;
        let before = resident()?;
        let began = Instant::now();
        let leased = self.runtime.block_on(async {
            let envelope = ObjectId([2; 32]);
            self.ledger.admit_job(&outline, envelope, NOW).await?;
            let (job, session) = (outline.job, ask.session);
            let lease = self
                .ledger
                .lease(job, last, session, &ask.place, NOW, LEASE);
            lease.await
        });
        let seconds = began.elapsed().as_secs_f64();
        match leased.or_fail(Kind::Internal)? {
            Leasing::Leased(_) => Ok((seconds, resident()?.saturating_sub(before) as f64 / 1024.0)),
            Leasing::Refused { reason } => Err(unexpected(&reason)),
        }
    }
}

fn outline(number: usize, tasks: u64) -> Result<Outline, Failure> {
    let mut id = [7; 10];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let step = StepOutline {
        tasks,
        depends_on: Vec::new(),
        amounts: [("amount.worker.vcpu".to_owned(), 4.0)].into(),
        attributes: std::collections::BTreeMap::new(),
        timeout: 600,
        batch: None,
    };
    Ok(Outline {
        job: JobId::from_random(id),
        client: ClientAlias::new("bench").or_fail(Kind::Internal)?,
        priority: 50,
        policy: PolicyName::new("generic").or_fail(Kind::Internal)?,
        policy_digest: PolicyDigest([4; 32]),
        steps: vec![step],
        expires: NOW + 86_400,
        central: Vec::new(),
        retries: None,
        wishes: Wishes::default(),
    })
}

fn name(node: usize) -> Result<NodeName, Failure> {
    NodeName::new(format!("n{node}")).or_fail(Kind::Internal)
}

fn unexpected(answer: &dyn std::fmt::Debug) -> Failure {
    Failure::new(Kind::Internal, format!("the ledger answered {answer:?}"))
}

/// The memory that this process has in KiB (proc(5), `VmRSS`).
fn resident() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status").or_fail(Kind::Environment)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| Failure::new(Kind::Environment, "/proc/self/status has no VmRSS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_booked_and_ended() {
        let directory = tempfile::tempdir().unwrap();
        let mut farm = Farm::new(directory.path(), 120, 2).unwrap();
        let (seconds, leases) = farm.book(2).unwrap();
        assert!(seconds > 0.0);
        assert_eq!(leases, 240);
        // Every slot is taken now, so that nothing can be booked that is not there.
        assert!(farm.all_ask().is_err());
        let mut other = Farm::new(directory.path(), 3, 0).unwrap();
        assert!(other.first().unwrap() > 0.0);
        assert!(other.million().is_err(), "its slot and its job are taken");
        assert!(Farm::new(directory.path(), 3, 1).unwrap().end().unwrap() > 0.0);
        assert!(
            Farm::new(directory.path(), 3, 0)
                .unwrap()
                .million()
                .unwrap()
                .0
                > 0.0
        );
    }
}
