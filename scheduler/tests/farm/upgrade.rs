//! A ledger of each earlier version is opened, and goes on where it was.

use std::{os::unix::fs::PermissionsExt, path::Path};

use safelight_policies::id::{Fence, ObjectId, TaskId, VerifyKey};
use safelight_scheduler::{Ask, JobState, LeaseRefusal, Leasing, Next, Settlement, SqliteLedger};
use sqlx::{ConnectOptions, Executor, Row, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::site::{START, TTL, job, outline, place, recount, session};

/// The schema as version 1 wrote it.
const FIRST: &str = include_str!("version-1.sql");

/// Ledgers that versions 2 and 3 wrote themselves, and the latter as version 4 took it up, dumped: the same jobs, letters, prekeys and errands
/// in each.
const LATER: [&str; 3] = [
    include_str!("version-2.sql"),
    include_str!("version-3.sql"),
    include_str!("version-4.sql"),
];

/// A file with a ledger of an earlier version in it.
async fn restored(path: &Path, dump: &'static str) -> SqliteConnection {
    std::fs::write(path, b"").unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let options = SqliteConnectOptions::new().filename(path);
    let mut raw = options.connect().await.unwrap();
    raw.execute(dump).await.unwrap();
    raw
}

/// A ledger of the first version with a job under way. Task, attempt, state: one done at the second try, one failed, one lost and running
/// again.
async fn first_ledger(path: &Path) -> SqliteConnection {
    let mut raw = restored(path, FIRST).await;
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
    assert_eq!(version.get::<i64, _>(0), 5);
}

/// What a ledger of version 2, 3 or 4 held of jobs, by today's questions.
async fn jobs_are_kept(ledger: &SqliteLedger, raw: &mut SqliteConnection) {
    use JobState::{Canceled, New, Running, Waiting};
    for (number, state) in (1..).zip([Running, Waiting, Waiting, Canceled, New]) {
        let entry = ledger.job(&job(number).to_string()).await.unwrap();
        assert_eq!(entry.state, state, "job {number}");
        let told = ledger.story(job(number)).await.unwrap().len();
        assert_eq!(told, [2, 1, 2, 2, 1][usize::from(number) - 1], "{number}");
    }
    assert_eq!(ledger.attempts(job(1)).await.unwrap().len(), 5);
    assert_eq!(ledger.notices(9).await.unwrap().len(), 1);
    // Of four sessions that ended, on 8 cores, one was for nothing.
    let query = "SELECT client, sessions, tasks, seconds, core_seconds, lost_seconds FROM usage";
    let rows = sqlx::query(query).fetch_all(&mut *raw).await.unwrap();
    let [row] = rows.as_slice() else {
        panic!("{} rows", rows.len())
    };
    assert_eq!(row.get::<String, _>(0), "river");
    let amounts = [1, 2, 3, 4, 5].map(|column| row.get::<i64, _>(column));
    assert_eq!(amounts, [4, 3, 24, 192, 9]);
    // Where a job that is not over has results from.
    let query = "SELECT job || ' ' || node FROM worked";
    let rows = sqlx::query(query).fetch_all(&mut *raw).await.unwrap();
    let [row] = rows.as_slice() else {
        panic!("{} rows", rows.len())
    };
    assert_eq!(row.get::<String, _>(0), format!("{} north", job(1)));
}

/// And of mail.
async fn mail_is_kept(ledger: &SqliteLedger) {
    let them = VerifyKey([7; 32]);
    assert_eq!(ledger.letters_seen(&them).await.unwrap().len(), 1);
    let (numbers, items) = ledger.letters_out(&them).await.unwrap();
    assert_eq!((numbers.unwrap().last.number, items.len()), (2, 1));
    assert!(items[0].held.is_none());
    assert_eq!(ledger.prekeys_left(&them).await.unwrap(), 1);
    let taken = ledger.take_prekey(&them, job(5)).await.unwrap();
    assert_eq!(taken, Some(vec![1, 2]), "the one that the job had");
    let open = ledger.errands("result", None, 9).await.unwrap();
    assert_eq!((open.len(), open[0].job), (1, job(1)));
    assert_eq!(ledger.errands_of(job(2), "result").await.unwrap(), (0, 1));
}

#[tokio::test]
async fn a_later_ledger_goes_on_with_all_it_held() {
    let directory = tempfile::tempdir().unwrap();
    for (version, dump) in (2i64..).zip(LATER) {
        let path = directory.path().join(format!("ledger-{version}"));
        let mut raw = restored(&path, dump).await;
        let found = async |raw: &mut SqliteConnection| {
            let row = sqlx::query("PRAGMA user_version").fetch_one(raw).await;
            row.unwrap().get::<i64, _>(0)
        };
        assert_eq!(found(&mut raw).await, version);
        let ledger = SqliteLedger::open(&path).await.unwrap();
        assert_eq!(found(&mut raw).await, 5);
        recount(&mut raw).await;
        jobs_are_kept(&ledger, &mut raw).await;
        mail_is_kept(&ledger).await;
        // The session that went on commits; then there is more to do.
        let (manifest, now) = (ObjectId([9; 32]), START + 40);
        let commit = ledger.commit(session(3), Fence(3), manifest, None, now);
        assert_eq!(commit.await.unwrap(), Settlement::Accepted);
        let ask = Ask {
            place: place("north", 0),
            session: session(50),
        };
        let Next::Leased(given) = ledger.next(&ask, now, TTL).await.unwrap() else {
            panic!("version {version}: nothing is leased")
        };
        let after = TaskId { step: 1, task: 0 };
        assert_eq!((given.outline.job, given.task), (job(1), after));
        assert_eq!(given.leased.fence, Fence(6));
        recount(&mut raw).await;
    }
}

#[tokio::test]
async fn an_upgraded_ledger_has_the_schema_of_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut schemas = Vec::new();
    let [second, third, fourth] = LATER.map(Some);
    let old = [Some(FIRST), second, third, fourth, None];
    for (name, old) in ["1", "2", "3", "4", "new"].into_iter().zip(old) {
        let path = directory.path().join(name);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true);
        if let Some(dump) = old {
            drop(restored(&path, dump).await);
        }
        drop(SqliteLedger::open(&path).await.unwrap());
        let mut raw = options.connect().await.unwrap();
        let schema =
            sqlx::query("SELECT name || coalesce(sql, '') FROM sqlite_schema ORDER BY name");
        let rows = schema.fetch_all(&mut raw).await.unwrap();
        schemas.push(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>());
    }
    assert!(schemas[4].len() > 15);
    for old in &schemas[..4] {
        assert_eq!(*old, schemas[4]);
    }
}
