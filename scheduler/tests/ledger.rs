//! What any store of the ledger must do, tried on the one that there is.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use safelight_policies::{
    cause::Cause,
    id::{
        ClientAlias, Fence, JobId, NodeName, ObjectId, PolicyDigest, PolicyName, SessionId,
        SlotIndex, TaskId,
    },
    outline::{Outline, StepOutline},
};
use safelight_scheduler::{
    Anchor, AttemptState, Error, JobState, LeaseRefusal, Leased, Leasing, Place, SettleRefusal,
    Settlement, SqliteLedger,
};
use tempfile::TempDir;

fn outline(job: u8, steps: &[(u64, &[u32])]) -> Outline {
    Outline {
        job: JobId::from_random([job; 10]),
        client: ClientAlias::new("river").unwrap(),
        priority: 50,
        policy: PolicyName::new("blender").unwrap(),
        policy_digest: PolicyDigest([0; 32]),
        steps: steps
            .iter()
            .map(|(tasks, before)| StepOutline {
                tasks: *tasks,
                depends_on: before.to_vec(),
                amounts: [("amount.worker.vcpu".to_owned(), 1.5)].into(),
                attributes: Default::default(),
                timeout: 60,
                batch: None,
            })
            .collect(),
        expires: 100_000,
        central: vec![],
        retries: None,
        wishes: Default::default(),
    }
}

fn place() -> Place {
    Place {
        node: NodeName::new("here").unwrap(),
        slot: SlotIndex(0),
    }
}

fn session(number: u8) -> SessionId {
    SessionId::from_random([number; 10])
}

fn anchor(records: u64) -> Anchor {
    Anchor {
        records,
        chain: [records as u8; 32],
    }
}

const MANIFEST: ObjectId = ObjectId([0xab; 32]);
const TASK: TaskId = TaskId { step: 0, task: 0 };

struct Site {
    ledger: SqliteLedger,
    job: JobId,
    _directory: TempDir,
    path: PathBuf,
}

impl Site {
    async fn new(steps: &[(u64, &[u32])]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let ledger = SqliteLedger::open(&path).await.unwrap();
        let outline = outline(1, steps);
        ledger
            .admit_job(&outline, ObjectId([1; 32]), 10)
            .await
            .unwrap();
        Self {
            ledger,
            job: outline.job,
            _directory: directory,
            path,
        }
    }
    async fn ask(&self, task: TaskId, by: u8, now: u64) -> Leasing {
        self.ledger
            .lease(self.job, task, session(by), &place(), now, 100)
            .await
            .unwrap()
    }
    async fn lease(&self, task: TaskId, by: u8, now: u64) -> Leased {
        match self.ask(task, by, now).await {
            Leasing::Leased(leased) => leased,
            Leasing::Refused { reason } => panic!("{reason}"),
        }
    }
    async fn commit(&self, by: u8, fence: Fence, records: u64) -> Settlement {
        self.ledger
            .commit(session(by), fence, MANIFEST, Some(anchor(records)), 50)
            .await
            .unwrap()
    }
    async fn state(&self) -> JobState {
        self.ledger.job(&self.job.to_string()).await.unwrap().state
    }
}

fn refused(reason: SettleRefusal) -> Settlement {
    Settlement::Refused { reason }
}

#[tokio::test]
async fn a_job_goes_from_waiting_to_succeeded() {
    let site = Site::new(&[(2, &[]), (1, &[0])]).await;
    assert_eq!(site.state().await, JobState::Waiting);
    let last = TaskId { step: 1, task: 0 };
    let mut by = 0;
    for (task, state) in [
        (TASK, JobState::Waiting),
        (TaskId { step: 0, task: 1 }, JobState::Waiting),
        (last, JobState::Succeeded),
    ] {
        by += 1;
        let leased = site.lease(task, by, 20).await;
        assert_eq!((leased.attempt, leased.expires), (1, 120));
        assert_eq!(site.state().await, JobState::Running);
        if task != last {
            assert_eq!(
                site.ask(last, 99, 20).await,
                Leasing::Refused {
                    reason: LeaseRefusal::NotReady { step: 0 }
                }
            );
        }
        let answer = site.commit(by, leased.fence, by.into()).await;
        assert_eq!(answer, Settlement::Accepted);
        assert_eq!(site.state().await, state);
    }
    let attempts = site.ledger.attempts(site.job).await.unwrap();
    assert_eq!(attempts.len(), 3);
    assert!(
        attempts
            .windows(2)
            .all(|pair| pair[0].fence < pair[1].fence)
    );
    let first = &attempts[0];
    assert_eq!(first.session, session(1));
    assert_eq!(first.place, place());
    assert_eq!(first.state, AttemptState::Committed);
    assert_eq!(first.result, Some(MANIFEST));
    assert_eq!(first.cause, Some(Cause::Exited { code: 0 }));
    assert_eq!(first.anchor, Some(anchor(1)));
    assert_eq!((first.leased_at, first.ended_at), (20, Some(50)));
}

#[tokio::test]
async fn a_held_task_is_refused_until_its_lease_ends_and_then_superseded() {
    let site = Site::new(&[(1, &[])]).await;
    let old = site.lease(TASK, 1, 20).await;
    assert_eq!(
        site.ask(TASK, 2, 119).await,
        Leasing::Refused {
            reason: LeaseRefusal::Held {
                session: session(1),
                until: 120
            }
        }
    );
    let new = site.lease(TASK, 2, 120).await;
    assert_eq!(new.attempt, 2);
    assert!(new.fence > old.fence);
    // The old session wakes up: whatever it says changes nothing.
    assert_eq!(
        site.commit(1, old.fence, 1).await,
        refused(SettleRefusal::OldFence)
    );
    assert_eq!(
        site.commit(1, new.fence, 1).await,
        refused(SettleRefusal::WrongFence)
    );
    let end = site
        .ledger
        .end(session(1), &Cause::Canceled, None, 130)
        .await;
    assert_eq!(end.unwrap(), refused(SettleRefusal::OldFence));
    let renew = site.ledger.renew(session(1), old.fence, 130, 100).await;
    assert_eq!(renew.unwrap(), refused(SettleRefusal::OldFence));
    assert_eq!(site.commit(2, new.fence, 1).await, Settlement::Accepted);
    let attempts = site.ledger.attempts(site.job).await.unwrap();
    assert_eq!(
        (
            attempts[0].state,
            attempts[0].cause.clone(),
            attempts[0].result
        ),
        (AttemptState::Superseded, Some(Cause::NodeLost), None)
    );
    assert_eq!(attempts[1].state, AttemptState::Committed);
}

#[tokio::test]
async fn a_result_is_committed_once_and_its_task_never_leased_again() {
    let site = Site::new(&[(1, &[])]).await;
    let leased = site.lease(TASK, 1, 20).await;
    assert_eq!(site.commit(1, leased.fence, 1).await, Settlement::Accepted);
    assert_eq!(
        site.commit(1, leased.fence, 2).await,
        refused(SettleRefusal::Committed)
    );
    let end = site
        .ledger
        .end(session(1), &Cause::OutOfMemory, None, 60)
        .await;
    assert_eq!(end.unwrap(), refused(SettleRefusal::Committed));
    assert_eq!(
        site.ask(TASK, 2, 5_000).await,
        Leasing::Refused {
            reason: LeaseRefusal::Done
        }
    );
    // A refusal leaves no trace: the anchor is that of the commit.
    assert_eq!(site.ledger.anchor(site.job).await.unwrap(), Some(anchor(1)));
}

#[tokio::test]
async fn a_lease_that_ran_out_still_counts_while_nobody_else_has_the_task() {
    let site = Site::new(&[(1, &[])]).await;
    let leased = site.lease(TASK, 1, 20).await;
    let answer = site
        .ledger
        .commit(session(1), leased.fence, MANIFEST, Some(anchor(1)), 9_999)
        .await;
    assert_eq!(answer.unwrap(), Settlement::Accepted);
}

#[tokio::test]
async fn a_renewed_lease_holds_longer_and_never_shorter() {
    let site = Site::new(&[(1, &[])]).await;
    let leased = site.lease(TASK, 1, 20).await;
    for (now, ttl, until) in [(100, 100, 200), (100, 10, 200)] {
        let renew = site.ledger.renew(session(1), leased.fence, now, ttl).await;
        assert_eq!(renew.unwrap(), Settlement::Accepted);
        assert_eq!(
            site.ask(TASK, 2, 199).await,
            Leasing::Refused {
                reason: LeaseRefusal::Held {
                    session: session(1),
                    until
                }
            }
        );
    }
}

#[tokio::test]
async fn a_failed_attempt_says_why_and_may_be_repeated() {
    let site = Site::new(&[(1, &[])]).await;
    let leased = site.lease(TASK, 1, 20).await;
    let cause = Cause::NotStarted {
        step: "mount".into(),
        errno: 1,
    };
    let end = site
        .ledger
        .end(session(1), &cause, Some(anchor(4)), 30)
        .await;
    assert_eq!(end.unwrap(), Settlement::Accepted);
    assert_eq!(site.state().await, JobState::Failed);
    assert_eq!(
        site.commit(1, leased.fence, 5).await,
        refused(SettleRefusal::Ended)
    );
    let again = site.lease(TASK, 2, 31).await;
    assert_eq!(again.attempt, 2);
    assert_eq!(site.state().await, JobState::Running);
    assert_eq!(site.commit(2, again.fence, 6).await, Settlement::Accepted);
    assert_eq!(site.state().await, JobState::Succeeded);
    let attempts = site.ledger.attempts(site.job).await.unwrap();
    assert_eq!(
        (attempts[0].cause.as_ref(), attempts[0].anchor),
        (Some(&cause), Some(anchor(4)))
    );
}

#[tokio::test]
async fn an_anchor_grows_and_a_forked_one_is_an_error() {
    let site = Site::new(&[(1, &[])]).await;
    let ledger = &site.ledger;
    assert_eq!(ledger.anchor(site.job).await.unwrap(), None);
    ledger.set_anchor(site.job, anchor(7)).await.unwrap();
    ledger.set_anchor(site.job, anchor(5)).await.unwrap();
    assert_eq!(ledger.anchor(site.job).await.unwrap(), Some(anchor(7)));
    let forked = Anchor {
        records: 7,
        chain: [0; 32],
    };
    let error = ledger.set_anchor(site.job, forked).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the audit log of {} was rewritten: two anchors for 7 records differ",
            site.job
        )
    );
    // Nor does a commit with it go through, nor leave half of itself behind.
    let leased = site.lease(TASK, 1, 20).await;
    let commit = ledger
        .commit(session(1), leased.fence, MANIFEST, Some(forked), 30)
        .await;
    assert!(matches!(commit, Err(Error::AnchorConflict { .. })));
    let attempts = ledger.attempts(site.job).await.unwrap();
    assert_eq!(
        (attempts[0].state, attempts[0].result),
        (AttemptState::Running, None)
    );
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let site = Site::new(&[(1, &[])]).await;
    let ledger = &site.ledger;
    let stranger = JobId::from_random([77; 10]);
    let lease = ledger
        .lease(stranger, TASK, session(1), &place(), 1, 1)
        .await;
    assert!(matches!(lease, Err(Error::NoSuchJob { .. })));
    for (step, task) in [(0, 1), (1, 0), (u32::MAX, u64::MAX)] {
        let task = TaskId { step, task };
        let lease = ledger
            .lease(site.job, task, session(1), &place(), 1, 1)
            .await;
        assert!(matches!(lease, Err(Error::NoSuchTask { .. })));
    }
    let commit = ledger
        .commit(session(9), Fence(1), MANIFEST, Some(anchor(1)), 1)
        .await;
    assert!(matches!(commit, Err(Error::NoSuchSession { .. })));
    let _leased = site.lease(TASK, 1, 1).await;
    let end = ledger
        .end(session(1), &Cause::Canceled, Some(anchor(u64::MAX)), 1)
        .await;
    assert!(matches!(
        end,
        Err(Error::OutOfRange {
            what: "records",
            ..
        })
    ));
}

#[tokio::test]
async fn a_session_is_good_for_one_lease() {
    let site = Site::new(&[(2, &[])]).await;
    let _leased = site.lease(TASK, 1, 1).await;
    let other = TaskId { step: 0, task: 1 };
    let again = site
        .ledger
        .lease(site.job, other, session(1), &place(), 1, 1)
        .await;
    assert!(matches!(again, Err(Error::Store { .. })));
    assert_eq!(site.ledger.attempts(site.job).await.unwrap().len(), 1);
}

#[tokio::test]
async fn jobs_are_found_by_what_people_type() {
    let site = Site::new(&[(1, &[])]).await;
    let ledger = &site.ledger;
    for (job, at) in [(2, 30), (3, 20)] {
        ledger
            .admit_job(&outline(job, &[(1, &[])]), ObjectId([job; 32]), at)
            .await
            .unwrap();
    }
    let ids: Vec<JobId> = [1, 2, 3].map(|job| JobId::from_random([job; 10])).to_vec();
    let listed: Vec<JobId> = ledger
        .jobs()
        .await
        .unwrap()
        .iter()
        .map(|job| job.id())
        .collect();
    assert_eq!(listed, [ids[1], ids[2], ids[0]]);
    assert_eq!(ledger.job("last").await.unwrap().id(), ids[1]);
    for id in &ids {
        let text = id.to_string();
        for selector in [&text[..], &text[4..], &text[..8], &text[4..8]] {
            let found = ledger.job(selector).await.unwrap();
            assert_eq!((found.id(), found.outline.steps.len()), (*id, 1));
        }
    }
    let error = ledger.job("0").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("\"0\" is not clear: {} and {} begin so", ids[0], ids[1])
    );
    assert_eq!(
        ledger.job("zz").await.unwrap_err().to_string(),
        "no job has an id that begins with \"zz\""
    );
    for selector in ["", "job-", "%", "_", "job-0%", "0' OR 1=1", &"0".repeat(17)] {
        assert!(
            matches!(ledger.job(selector).await, Err(Error::NotASelector { .. })),
            "{selector:?}"
        );
    }
    let again = ledger
        .admit_job(&outline(2, &[(1, &[])]), ObjectId([9; 32]), 99)
        .await;
    assert!(matches!(again, Err(Error::AlreadyAdmitted { .. })));
    assert_eq!(
        ledger.job("last").await.unwrap().envelope,
        ObjectId([2; 32])
    );
}

#[tokio::test]
async fn an_empty_ledger_has_no_last_job() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(&directory.path().join("ledger"))
        .await
        .unwrap();
    assert!(matches!(ledger.job("last").await, Err(Error::NoJob)));
    assert!(ledger.jobs().await.unwrap().is_empty());
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_ledger_is_for_its_owner_only() {
    let site = Site::new(&[(1, &[])]).await;
    for suffix in ["", "-wal", "-shm"] {
        let mut name = site.path.clone().into_os_string();
        name.push(suffix);
        assert_eq!(mode(Path::new(&name)), 0o600, "{suffix}");
    }
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&site.path, open).unwrap();
    assert!(matches!(
        SqliteLedger::open(&site.path).await,
        Err(Error::Exposed { mode: 0o644, .. })
    ));
}

#[tokio::test]
async fn what_is_no_ledger_or_a_newer_one_is_refused() {
    use sqlx::{ConnectOptions, Executor, sqlite::SqliteConnectOptions};
    let directory = tempfile::tempdir().unwrap();
    for (name, sql, newer) in [
        (
            "newer",
            "PRAGMA application_id = 1397509191; PRAGMA user_version = 6",
            true,
        ),
        (
            "other",
            "PRAGMA application_id = 7; PRAGMA user_version = 1",
            false,
        ),
        ("tables", "CREATE TABLE notes (text TEXT)", false),
    ] {
        let path = directory.path().join(name);
        std::fs::write(&path, b"").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut raw = SqliteConnectOptions::new()
            .filename(&path)
            .connect()
            .await
            .unwrap();
        raw.execute(sql).await.unwrap();
        match SqliteLedger::open(&path).await.err().unwrap() {
            Error::Newer {
                found: 6, known: 5, ..
            } => assert!(newer),
            Error::NotALedger { .. } => assert!(!newer),
            other => panic!("{name}: {other}"),
        }
    }
    let path = directory.path().join("text");
    std::fs::write(
        &path,
        "not a database at all, but long enough to be read as one",
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(SqliteLedger::open(&path).await.is_err());
}

#[tokio::test]
async fn many_processes_may_ask_for_one_task_and_one_gets_it() {
    let site = Site::new(&[(1, &[])]).await;
    let mut asking = Vec::new();
    for by in 0..8 {
        let (path, job) = (site.path.clone(), site.job);
        asking.push(tokio::spawn(async move {
            let ledger = SqliteLedger::open(&path).await.unwrap();
            ledger
                .lease(job, TASK, session(by), &place(), 20, 100)
                .await
                .unwrap()
        }));
    }
    let mut leased = 0;
    for answer in asking {
        match answer.await.unwrap() {
            Leasing::Leased(_) => leased += 1,
            Leasing::Refused { reason } => {
                assert!(matches!(reason, LeaseRefusal::Held { .. }));
            }
        }
    }
    assert_eq!(leased, 1);
}

#[tokio::test]
async fn many_processes_may_make_the_ledger() {
    for _ in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let mut opening = Vec::new();
        for job in 0..6 {
            let path = directory.path().join("ledger");
            opening.push(tokio::spawn(async move {
                let ledger = SqliteLedger::open(&path).await.unwrap();
                ledger
                    .admit_job(&outline(job, &[(1, &[])]), ObjectId([job; 32]), 1)
                    .await
                    .unwrap();
            }));
        }
        for opened in opening {
            opened.await.unwrap();
        }
        let ledger = SqliteLedger::open(&directory.path().join("ledger"))
            .await
            .unwrap();
        assert_eq!(ledger.jobs().await.unwrap().len(), 6);
    }
}

#[tokio::test]
async fn a_row_that_was_changed_is_an_error_that_names_it() {
    use sqlx::{ConnectOptions, Executor, sqlite::SqliteConnectOptions};
    let site = Site::new(&[(1, &[])]).await;
    let mut raw = SqliteConnectOptions::new()
        .filename(&site.path)
        .connect()
        .await
        .unwrap();
    raw.execute("UPDATE job SET state = 'excellent'")
        .await
        .unwrap();
    assert_eq!(
        site.ledger.jobs().await.unwrap_err().to_string(),
        format!("the ledger's state of {} does not read back", site.job)
    );
}
