//! The statements that several changes share, each within the transaction that it is given.

use std::{collections::BTreeMap, fmt::Display};

use safelight_policies::{
    cause::Cause,
    id::{Fence, JobId, NodeName, SessionId, TaskId},
    outline::Outline,
};
use serde::{Serialize, Serializer};
use sqlx::{
    Connection, Sqlite, SqliteConnection, Transaction, query::Query, sqlite::SqliteArguments,
};

use crate::{
    Error,
    decide::{self, Holder},
    ledger::{Anchor, AttemptState},
    rows::{Reading, stored, text},
};

pub(super) type Change<'a> = Transaction<'a, Sqlite>;
pub(super) type Sql = Query<'static, Sqlite, SqliteArguments>;

pub(super) fn failed(source: sqlx::Error) -> Error {
    Error::Store { source }
}

pub(super) fn no_such_job(job: JobId) -> Error {
    Error::NoSuchJob {
        selector: job.to_string(),
    }
}

pub(super) fn no_such_session(session: SessionId) -> Error {
    Error::NoSuchSession { session }
}

pub(super) async fn begin(connection: &mut SqliteConnection) -> Result<Change<'_>, Error> {
    connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(failed)
}

/// Runs a statement that must change exactly one row.
pub(super) async fn one(change: &mut Change<'_>, query: Sql) -> Result<(), Error> {
    let done = query.execute(&mut **change).await.map_err(failed)?;
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(failed(sqlx::Error::RowNotFound)),
    }
}

pub(super) async fn outline_of(change: &mut Change<'_>, job: JobId) -> Result<Outline, Error> {
    let row = sqlx::query("SELECT id, outline FROM job WHERE id = ?")
        .bind(job.to_string())
        .fetch_optional(&mut **change)
        .await
        .map_err(failed)?;
    match row {
        Some(row) => Reading::new(&row, "id").json("outline"),
        None => Err(no_such_job(job)),
    }
}

pub(super) async fn newest(
    change: &mut Change<'_>,
    job: JobId,
    task: TaskId,
) -> Result<Option<Holder>, Error> {
    sqlx::query(
        "SELECT session, attempt, fence, state, lease_until FROM attempt
         WHERE job = ? AND step = ? AND task = ? ORDER BY attempt DESC LIMIT 1",
    )
    .bind(job.to_string())
    .bind(i64::from(task.step))
    .bind(stored("task", task.task)?)
    .fetch_optional(&mut **change)
    .await
    .map_err(failed)?
    .map(|row| Reading::new(&row, "session").holder())
    .transpose()
}

/// A new attempt, of a task that nobody holds.
#[derive(Debug, Serialize)]
pub(super) struct NewAttempt {
    #[serde(serialize_with = "shown")]
    pub(super) job: JobId,
    pub(super) step: u32,
    pub(super) task: u64,
    pub(super) tasks: u32,
    pub(super) attempt: u32,
    #[serde(serialize_with = "shown")]
    pub(super) session: SessionId,
    #[serde(serialize_with = "shown")]
    pub(super) node: NodeName,
    pub(super) slot: u16,
    /// It is given by a queue.
    pub(super) booked: bool,
}

/// As people write it, which is how columns have it.
fn shown<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Writes down new attempts whose leases end at `until`: answers their fences, in order, each larger than any before.
///
/// One statement however many they are: each statement is a way to the database's own thread and back.
pub(super) async fn give(
    change: &mut Change<'_>,
    new: &[NewAttempt],
    (now, until): (u64, u64),
) -> Result<Vec<Fence>, Error> {
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "INSERT INTO attempt
            (job, step, task, tasks, attempt, session, node, slot, leased_at, lease_until, booked, state)
         SELECT value ->> 'job', value ->> 'step', value ->> 'task', value ->> 'tasks', value ->> 'attempt',
            value ->> 'session', value ->> 'node', value ->> 'slot', ?2, ?3, value ->> 'booked', 'running'
         FROM json_each(?1) ORDER BY key
         RETURNING fence, session",
    )
    .bind(text(&new)?)
    .bind(stored("time", now)?)
    .bind(stored("time", until)?)
    .fetch_all(&mut **change)
    .await
    .map_err(failed)?;
    let fences = rows.iter().map(|row| {
        let row = Reading::new(row, "session");
        Ok((row.parsed("session")?, Fence(row.number("fence")?)))
    });
    let fences: BTreeMap<SessionId, Fence> = fences.collect::<Result<_, Error>>()?;
    let fence = |it: &NewAttempt| fences.get(&it.session).copied();
    new.iter()
        .map(|it| fence(it).ok_or_else(|| no_such_session(it.session)))
        .collect()
}

/// The same for one.
pub(super) async fn give_one(
    change: &mut Change<'_>,
    new: NewAttempt,
    times: (u64, u64),
) -> Result<Fence, Error> {
    let session = new.session;
    let fence = give(change, &[new], times).await?.pop();
    fence.ok_or_else(|| no_such_session(session))
}

/// Takes an attempt out of the running state.
pub(super) async fn close(
    change: &mut Change<'_>,
    fence: Fence,
    state: AttemptState,
    now: u64,
) -> Result<(), Error> {
    let query = sqlx::query(
        "UPDATE attempt SET state = ?, ended_at = ? WHERE fence = ? AND state = 'running'",
    )
    .bind(state.as_str())
    .bind(stored("time", now)?)
    .bind(stored("fence", fence.0)?);
    one(change, query).await?;
    account(change, fence).await
}

/// Adds an attempt that ended to what its client used that day.
async fn account(change: &mut Change<'_>, fence: Fence) -> Result<(), Error> {
    let query = sqlx::query(
        "INSERT INTO usage
         SELECT job.client, own.ended_at / 86400, 1, iif(own.state = 'committed', own.tasks, 0),
            max(own.ended_at - own.leased_at, 0),
            max(own.ended_at - own.leased_at, 0) * coalesce(json_extract(slot.spec, '$.vcpu'), 0),
            max(own.ended_at - own.leased_at, 0) * coalesce(json_extract(slot.spec, '$.gpu'), 0),
            iif(own.state = 'committed', 0, max(own.ended_at - own.leased_at, 0))
         FROM attempt AS own JOIN job ON job.id = own.job
         LEFT JOIN slot ON slot.node = own.node AND slot.slot = own.slot
         WHERE own.fence = ?
         ON CONFLICT (client, day) DO UPDATE SET sessions = sessions + excluded.sessions,
            tasks = tasks + excluded.tasks, seconds = seconds + excluded.seconds,
            core_seconds = core_seconds + excluded.core_seconds,
            gpu_seconds = gpu_seconds + excluded.gpu_seconds,
            lost_seconds = lost_seconds + excluded.lost_seconds",
    )
    .bind(stored("fence", fence.0)?);
    one(change, query).await
}

pub(super) async fn note_cause(
    change: &mut Change<'_>,
    fence: Fence,
    cause: &Cause,
) -> Result<(), Error> {
    let query = sqlx::query("UPDATE attempt SET cause = ? WHERE fence = ?")
        .bind(text(cause)?)
        .bind(stored("fence", fence.0)?);
    one(change, query).await
}

pub(super) async fn anchor_of(
    change: &mut Change<'_>,
    job: JobId,
) -> Result<Option<Anchor>, Error> {
    let row = sqlx::query("SELECT id, audit_records, audit_chain FROM job WHERE id = ?")
        .bind(job.to_string())
        .fetch_optional(&mut **change)
        .await
        .map_err(failed)?
        .ok_or_else(|| no_such_job(job))?;
    Reading::new(&row, "id").anchor()
}

pub(super) async fn keep_anchor(
    change: &mut Change<'_>,
    job: JobId,
    new: Anchor,
) -> Result<(), Error> {
    let known = anchor_of(change, job).await?;
    let kept = decide::anchor(known, new).map_err(|known| Error::AnchorConflict {
        job,
        records: known.records,
    })?;
    let query = sqlx::query("UPDATE job SET audit_records = ?, audit_chain = ? WHERE id = ?")
        .bind(stored("records", kept.records)?)
        .bind(kept.chain.to_vec())
        .bind(job.to_string());
    one(change, query).await
}
