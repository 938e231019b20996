//! A ledger of the first version is opened, and goes on where it was.

use std::{os::unix::fs::PermissionsExt, path::Path};

use safelight_policies::id::{ObjectId, TaskId};
use safelight_scheduler::{JobState, LeaseRefusal, Leasing, SqliteLedger};
use sqlx::{ConnectOptions, Executor, Row, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::site::{START, job, outline, place, recount, session};

/// The schema as version 1 wrote it.
const FIRST: &str = include_str!("version-1.sql");

/// A ledger of the first version with a job under way. Task, attempt, state: one done at the second try, one failed, one lost and running
/// again.
async fn first_ledger(path: &Path) -> SqliteConnection {
    std::fs::write(path, b"").unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let options = SqliteConnectOptions::new().filename(path);
    let mut raw = options.connect().await.unwrap();
    raw.execute(FIRST).await.unwrap();
    let old = outline(1, &[(4, &[]), (1, &[0])]);
    let insert = "INSERT INTO job (id, client, outline, envelope, state, submitted_at) VALUES (?, 'river', ?, ?, 'running', 5)";
    sqlx::query(insert)
        .bind(old.job.to_string())
        .bind(serde_json::to_string(&old).unwrap())
        .bind(ObjectId([1; 32]).to_string())
        .execute(&mut raw)
        .await
        .unwrap();
    for (number, (task, attempt, state)) in (1u64..).zip([
        (0, 1, "failed"),
        (0, 2, "committed"),
        (1, 1, "failed"),
        (2, 1, "superseded"),
        (2, 2, "running"),
    ]) {
        sqlx::query(
            "INSERT INTO attempt (job, step, task, attempt, session, node, slot, leased_at, lease_until, state)
             VALUES (?, 0, ?, ?, ?, 'localhost', 0, 5, 500, ?)",
        )
        .bind(old.job.to_string())
        .bind(task)
        .bind(attempt)
        .bind(session(number).to_string())
        .bind(state)
        .execute(&mut raw)
        .await
        .unwrap();
    }
    raw
}

#[tokio::test]
async fn a_first_ledger_goes_on_with_all_it_held() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let mut raw = first_ledger(&path).await;
    let ledger = SqliteLedger::open(&path).await.unwrap();
    let row = sqlx::query("SELECT tasks, running, done, failed FROM step WHERE step = 0");
    let row = row.fetch_one(&mut raw).await.unwrap();
    assert_eq!(
        [0, 1, 2, 3].map(|column| row.get::<i64, _>(column)),
        [4, 1, 1, 1]
    );
    recount(&mut raw).await;
    // None of the old attempts says when it ended; what ends from now on is counted.
    assert_eq!(ledger.usage(0).await.unwrap(), []);
    assert_eq!(ledger.attempts(job(1)).await.unwrap().len(), 5);
    let lease = async |task, by| {
        let task = TaskId { step: 0, task };
        let here = place("localhost", 0);
        let lease = ledger
            .lease(job(1), task, session(by), &here, 100, 50)
            .await;
        lease.unwrap()
    };
    let refused = |reason| Leasing::Refused { reason };
    assert_eq!(lease(0, 90).await, refused(LeaseRefusal::Done));
    assert_eq!(
        lease(2, 91).await,
        refused(LeaseRefusal::Held {
            session: session(5),
            until: 500
        })
    );
    let Leasing::Leased(again) = lease(1, 92).await else {
        panic!("refused")
    };
    assert_eq!((again.attempt, again.fence.0), (2, 6));
    assert_eq!(ledger.job("last").await.unwrap().state, JobState::Running);
    recount(&mut raw).await;
    drop(ledger);
    // It is upgraded once; and new jobs may use what is new.
    let ledger = SqliteLedger::open(&path).await.unwrap();
    let terms = Default::default();
    let new = outline(2, &[(1, &[])]);
    ledger
        .submit(&new, ObjectId([2; 32]), &terms, START)
        .await
        .unwrap();
    let version = sqlx::query("PRAGMA user_version")
        .fetch_one(&mut raw)
        .await
        .unwrap();
    assert_eq!(version.get::<i64, _>(0), 4);
}

#[tokio::test]
async fn an_upgraded_ledger_has_the_schema_of_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut schemas = Vec::new();
    for (name, first) in [("old", true), ("new", false)] {
        let path = directory.path().join(name);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true);
        if first {
            let mut raw = options.clone().connect().await.unwrap();
            raw.execute(FIRST).await.unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        drop(SqliteLedger::open(&path).await.unwrap());
        let mut raw = options.connect().await.unwrap();
        let schema =
            sqlx::query("SELECT name || coalesce(sql, '') FROM sqlite_schema ORDER BY name");
        let rows = schema.fetch_all(&mut raw).await.unwrap();
        schemas.push(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>());
    }
    assert!(schemas[1].len() > 15);
    assert_eq!(schemas[0], schemas[1]);
}
