//! A site to try things on, and the recount that every test of counts ends with.

use std::path::{Path, PathBuf};

use safelight_policies::{
    cause::Cause,
    id::{
        ClientAlias, Fence, JobId, NodeName, ObjectId, PolicyDigest, PolicyName, SessionId,
        SlotIndex, TaskId, VerifyKey,
    },
    outline::{Outline, StepOutline},
};
use safelight_scheduler::{
    Anchor, Ask, Given, Holding, JobState, Moved, Next, NodeSpec, Place, Rules, Settlement,
    SlotSpec, SqliteLedger, StoryLine, Terms,
};
use sqlx::{ConnectOptions, Row, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

pub(crate) const START: u64 = 1_000_000;
pub(crate) const TTL: u64 = 60;

/// A job by number: of client `river`, with steps of so many tasks after others.
pub(crate) fn outline(number: u8, steps: &[(u64, &[u32])]) -> Outline {
    let step = |(tasks, before): &(u64, &[u32])| StepOutline {
        tasks: *tasks,
        depends_on: before.to_vec(),
        amounts: Default::default(),
        attributes: Default::default(),
        timeout: 60,
        batch: None,
    };
    Outline {
        job: job(number),
        client: ClientAlias::new("river").unwrap(),
        priority: 50,
        policy: PolicyName::new("blender").unwrap(),
        policy_digest: PolicyDigest([0; 32]),
        steps: steps.iter().map(step).collect(),
        expires: START + 1_000_000,
        central: vec![],
        retries: None,
        wishes: Default::default(),
    }
}

pub(crate) fn of(client: &str, outline: Outline) -> Outline {
    let client = ClientAlias::new(client).unwrap();
    Outline { client, ..outline }
}

pub(crate) fn needs(vcpu: f64, mut outline: Outline) -> Outline {
    for step in &mut outline.steps {
        step.amounts.insert("amount.worker.vcpu".into(), vcpu);
    }
    outline
}

pub(crate) fn job(number: u8) -> JobId {
    JobId::from_random([number; 10])
}

pub(crate) fn session(number: u64) -> SessionId {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    SessionId::from_random(bytes)
}

pub(crate) fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

pub(crate) fn place(name: &str, slot: u16) -> Place {
    Place {
        node: node(name),
        slot: SlotIndex(slot),
    }
}

pub(crate) fn slot(vcpu: u32) -> SlotSpec {
    SlotSpec {
        vcpu,
        memory_mib: 4_096,
        ..SlotSpec::default()
    }
}

/// What a result is named and when its log stood where.
fn result(session: SessionId) -> (ObjectId, Anchor) {
    let mut manifest = [7; 32];
    manifest[..10].copy_from_slice(session.as_bytes());
    let anchor = Anchor {
        records: 1,
        chain: [1; 32],
    };
    (ObjectId(manifest), anchor)
}

pub(crate) struct Site {
    pub(crate) ledger: SqliteLedger,
    pub(crate) path: PathBuf,
    _directory: TempDir,
    sessions: std::sync::atomic::AtomicU64,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with(Rules::default()).await
    }

    pub(crate) async fn with(rules: Rules) -> Self {
        // In memory where there is such a place: what is tried here is not the disk.
        let memory = Path::new("/dev/shm");
        let directory = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir());
        let directory = directory.unwrap();
        let path = directory.path().join("ledger");
        Self {
            ledger: SqliteLedger::open_with(&path, rules).await.unwrap(),
            path,
            _directory: directory,
            sessions: 1.into(),
        }
    }

    /// A job that came by hot folder.
    pub(crate) async fn receive(&self, outline: &Outline, now: u64) {
        let envelope = ObjectId([outline.job.as_bytes()[0]; 32]);
        // As whoever receives an envelope does.
        let terms = Terms {
            task_retries: outline.retries,
            dead_max: outline.wishes.failures,
            ..Terms::default()
        };
        self.ledger
            .receive(outline, envelope, &terms, now)
            .await
            .unwrap();
    }

    /// A job of the supplier.
    pub(crate) async fn submit(&self, outline: &Outline, now: u64) {
        let envelope = ObjectId([outline.job.as_bytes()[0]; 32]);
        let terms = Terms::default();
        self.ledger
            .submit(outline, envelope, &terms, now)
            .await
            .unwrap();
    }

    pub(crate) async fn node(&self, name: &str, slots: &[SlotSpec], now: u64) {
        let spec = NodeSpec {
            name: node(name),
            key: VerifyKey([name.len() as u8; 32]),
            slots: slots.to_vec(),
        };
        self.ledger.register_node(&spec, now).await.unwrap();
    }

    pub(crate) fn ask(&self, place: Place) -> Ask {
        let number = self
            .sessions
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let session = session(number);
        Ask { place, session }
    }

    pub(crate) async fn next(&self, place: Place, now: u64) -> Next {
        self.ledger.next(&self.ask(place), now, TTL).await.unwrap()
    }

    /// A lease that must be given.
    pub(crate) async fn given(&self, place: Place, now: u64) -> Given {
        match self.next(place, now).await {
            Next::Leased(given) => *given,
            other => panic!("not leased: {other:?}"),
        }
    }

    /// The job and task that a slot is given, in short; `-` for nothing. Its session stays.
    pub(crate) async fn takes(&self, place: Place, now: u64) -> String {
        match self.next(place, now).await {
            Next::Leased(given) => short(given.outline.job, given.task),
            Next::Nothing => "-".to_owned(),
            Next::Refused { reason } => reason.to_string(),
        }
    }

    pub(crate) async fn commit(&self, given: &Given, now: u64) -> Settlement {
        self.commit_as(given.ask.session, given.leased.fence, now)
            .await
    }

    pub(crate) async fn commit_as(&self, session: SessionId, fence: Fence, now: u64) -> Settlement {
        let (manifest, anchor) = result(session);
        let commit = self
            .ledger
            .commit(session, fence, manifest, Some(anchor), now);
        commit.await.unwrap()
    }

    pub(crate) async fn end(&self, given: &Given, cause: &Cause, now: u64) -> Settlement {
        let end = self.ledger.end(given.ask.session, cause, None, now);
        end.await.unwrap()
    }

    pub(crate) async fn beat(&self, name: &str, held: &[&Given], now: u64) -> [Vec<SessionId>; 2] {
        let held: Vec<Holding> = held.iter().map(|given| holding(given)).collect();
        let name = node(name);
        let pulse = self.ledger.heartbeat(&name, &held, now, TTL).await.unwrap();
        [pulse.lost, pulse.cancel]
    }

    pub(crate) async fn state(&self, number: u8) -> JobState {
        self.ledger
            .job(&job(number).to_string())
            .await
            .unwrap()
            .state
    }

    /// The story of a job, a line each: where it went, and why.
    pub(crate) async fn story(&self, number: u8) -> Vec<String> {
        let line = |line: &StoryLine| format!("{}: {}", line.to, line.event);
        let story = self.ledger.story(job(number)).await.unwrap();
        story.iter().map(line).collect()
    }

    pub(crate) async fn raw(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(&self.path);
        options.connect().await.unwrap()
    }

    /// Counts everything again from the attempts, and checks what must always be so.
    pub(crate) async fn recount(&self) {
        recount(&mut self.raw().await).await;
    }
}

pub(crate) fn holding(given: &Given) -> Holding {
    Holding {
        session: given.ask.session,
        fence: given.leased.fence,
    }
}

pub(crate) fn short(job: JobId, task: TaskId) -> String {
    format!("{}:{task}", job.as_bytes()[0])
}

pub(crate) fn done(state: JobState) -> Moved {
    Moved::Done { state }
}

/// Every task that an attempt is of, and the newest attempt of each.
const NOW: &str = "
    WITH RECURSIVE place (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM place
        WHERE number < (SELECT coalesce(max(tasks), 1) FROM attempt)),
    one AS (SELECT job, step, task + number AS task, fence, state FROM attempt
        JOIN place ON number < tasks),
    newest AS (SELECT job, step, task, max(fence) AS fence FROM one GROUP BY job, step, task),
    now AS (SELECT one.* FROM one JOIN newest USING (job, step, task, fence)) ";

/// Queries that must find nothing: each row would be a thing that must never be.
const NEVER: [(&str, &str); 10] = [
    (
        "more of a pool is held than there is",
        "SELECT pool FROM (SELECT 'amount.licence.sim' AS pool, total(json_extract(outline,
            '$.steps[' || step || '].amounts.\"amount.licence.sim\"')) AS held
            FROM attempt JOIN job ON job.id = attempt.job WHERE attempt.state = 'running')
         WHERE held > 2",
    ),
    (
        "a client is charged for other sessions than ended",
        "SELECT client FROM (SELECT client, sum(sessions) AS sessions, sum(seconds) AS seconds
            FROM usage GROUP BY client) AS used
         WHERE (sessions, seconds) IS NOT (SELECT count(*), sum(max(ended_at - leased_at, 0))
            FROM attempt JOIN job ON job.id = attempt.job
            WHERE job.client = used.client AND ended_at IS NOT NULL)",
    ),
    (
        "a step's counts are not those of its attempts",
        "SELECT step.job || ' ' || step.step FROM step WHERE (running, done, failed) IS NOT (
            SELECT count(*) FILTER (WHERE state = 'running'),
                count(*) FILTER (WHERE state = 'committed'),
                count(*) FILTER (WHERE state IN ('failed', 'superseded'))
            FROM now WHERE now.job = step.job AND now.step = step.step)",
    ),
    (
        "a step counts other sessions than there are",
        "SELECT job || ' ' || step FROM step WHERE sessions <> (SELECT count(*) FROM attempt AS own
            WHERE own.job = step.job AND own.step = step.step AND state = 'running')",
    ),
    (
        "a step counts other retries than there are",
        "SELECT step.job || ' ' || step.step FROM step WHERE again <> (
            SELECT count(*) FROM again WHERE again.job = step.job AND again.step = step.step)",
    ),
    (
        "a step's first untouched task is not that",
        "SELECT step.job || ' ' || step.step FROM step JOIN job ON job.id = step.job AND farm = 1
         WHERE fresh <> (SELECT count(*) FROM newest
            WHERE newest.job = step.job AND newest.step = step.step)
         OR fresh < (SELECT coalesce(max(task) + 1, 0) FROM newest
            WHERE newest.job = step.job AND newest.step = step.step)",
    ),
    (
        "two sessions are in one slot",
        "SELECT node || ' ' || slot FROM attempt WHERE state = 'running' AND booked = 1
         GROUP BY node, slot HAVING count(*) > 1",
    ),
    (
        "a task has two results",
        "SELECT job || ' ' || step || ' ' || task FROM one WHERE state = 'committed'
         GROUP BY job, step, task HAVING count(*) > 1",
    ),
    (
        "a task is tried again though its newest attempt did not fail",
        "SELECT again.job FROM again WHERE NOT EXISTS (SELECT 1 FROM now
            WHERE now.job = again.job AND now.step = again.step AND now.task = again.task
            AND state IN ('failed', 'superseded'))",
    ),
    (
        "a job is in the wrong queue for its state",
        "SELECT id || ' ' || state FROM job WHERE farm = 1 AND (
            (state = 'new') <> (queue IS 'new')
            OR (state IN ('outsourced', 'published', 'accepted')) > (queue IS 'outsourced')
            OR (state IN ('waiting', 'running')) <> (queue IS 'active')
            OR state IN ('succeeded', 'delivered', 'failed', 'canceled') AND queue IS NOT NULL
            OR leasable = 1 AND queue IS NOT 'active')",
    ),
];

pub(crate) async fn recount(raw: &mut SqliteConnection) {
    for (what, query) in NEVER {
        let query = sqlx::AssertSqlSafe(format!("{NOW}{query}"));
        let found = sqlx::query(query).fetch_all(&mut *raw).await.unwrap();
        let found: Vec<String> = found.iter().map(|row| row.get(0)).collect();
        assert!(found.is_empty(), "{what}: {found:?}");
    }
}
