//! The statements that several changes share, each within the transaction that it is given.

use safelight_policies::{
    cause::Cause,
    id::{Fence, JobId, SessionId, TaskId},
    outline::Outline,
};
use sqlx::{
    Connection, Sqlite, SqliteConnection, Transaction, query::Query, sqlite::SqliteArguments,
};

use crate::{
    Error,
    decide::{self, Holder},
    ledger::{Anchor, AttemptState, Place},
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
pub(super) struct NewAttempt<'a> {
    pub(super) job: JobId,
    pub(super) task: TaskId,
    pub(super) tasks: u32,
    pub(super) attempt: u32,
    pub(super) session: SessionId,
    pub(super) place: &'a Place,
    pub(super) until: u64,
    /// It is given by a queue.
    pub(super) booked: bool,
}

/// Writes down a new attempt: its fence, which is larger than any before.
pub(super) async fn give(
    change: &mut Change<'_>,
    new: &NewAttempt<'_>,
    now: u64,
) -> Result<Fence, Error> {
    let row = sqlx::query(
        "INSERT INTO attempt
            (job, step, task, tasks, attempt, session, node, slot, leased_at, lease_until, booked, state)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'running') RETURNING fence, session",
    )
    .bind(new.job.to_string())
    .bind(i64::from(new.task.step))
    .bind(stored("task", new.task.task)?)
    .bind(i64::from(new.tasks))
    .bind(i64::from(new.attempt))
    .bind(new.session.to_string())
    .bind(new.place.node.to_string())
    .bind(i64::from(new.place.slot.0))
    .bind(stored("time", now)?)
    .bind(stored("time", new.until)?)
    .bind(new.booked)
    .fetch_one(&mut **change)
    .await
    .map_err(failed)?;
    Ok(Fence(Reading::new(&row, "session").number("fence")?))
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
