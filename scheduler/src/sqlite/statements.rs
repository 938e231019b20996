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
    decide::{self, Holder, Tally},
    ledger::{Anchor, AttemptState},
    rows::{Reading, stored, text},
};

pub(super) type Change<'a> = Transaction<'a, Sqlite>;
pub(super) type Sql = Query<'static, Sqlite, SqliteArguments>;

pub(super) fn failed(source: sqlx::Error) -> Error {
    Error::Store { source }
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
        None => Err(Error::NoSuchJob {
            selector: job.to_string(),
        }),
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

/// The tasks of each step that have a result.
pub(super) async fn done(change: &mut Change<'_>, outline: &Outline) -> Result<Vec<u64>, Error> {
    let rows = sqlx::query(
        "SELECT job, step, count(*) AS done FROM attempt
         WHERE job = ? AND state = 'committed' GROUP BY step",
    )
    .bind(outline.job.to_string())
    .fetch_all(&mut **change)
    .await
    .map_err(failed)?;
    let mut done = vec![0; outline.steps.len()];
    for row in &rows {
        let row = Reading::new(row, "job");
        if let Some(count) = done.get_mut(row.number::<usize>("step")?) {
            *count = row.number("done")?;
        }
    }
    Ok(done)
}

/// A session's attempt, and the newest fence of its task.
pub(super) struct Held {
    pub(super) job: JobId,
    pub(super) holder: Holder,
    pub(super) newest: Fence,
}

pub(super) async fn held(change: &mut Change<'_>, session: SessionId) -> Result<Held, Error> {
    let row = sqlx::query(
        "SELECT job, session, attempt, fence, state, lease_until,
            (SELECT max(later.fence) FROM attempt AS later
             WHERE later.job = own.job AND later.step = own.step AND later.task = own.task) AS newest
         FROM attempt AS own WHERE session = ?",
    )
    .bind(session.to_string())
    .fetch_optional(&mut **change)
    .await
    .map_err(failed)?
    .ok_or(Error::NoSuchSession { session })?;
    let row = Reading::new(&row, "session");
    Ok(Held {
        job: row.parsed("job")?,
        holder: row.holder()?,
        newest: Fence(row.number("newest")?),
    })
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

/// Brings the job's state in line with its attempts.
pub(super) async fn restate(change: &mut Change<'_>, outline: &Outline) -> Result<(), Error> {
    let job = outline.job.to_string();
    let row = sqlx::query(
        "SELECT ? AS job,
            (SELECT count(*) FROM attempt WHERE job = ?1 AND state = 'running') AS running,
            (SELECT count(*) FROM attempt WHERE job = ?1 AND state = 'committed') AS committed,
            (SELECT count(*) FROM attempt AS own WHERE job = ?1 AND state IN ('failed', 'superseded')
                AND attempt = (SELECT max(attempt) FROM attempt AS later
                    WHERE later.job = own.job AND later.step = own.step AND later.task = own.task)) AS failed",
    )
    .bind(job.clone())
    .fetch_one(&mut **change)
    .await
    .map_err(failed)?;
    let row = Reading::new(&row, "job");
    let tally = Tally {
        running: row.number("running")?,
        committed: row.number("committed")?,
        failed: row.number("failed")?,
    };
    let state = decide::job_state(outline, tally);
    let query = sqlx::query("UPDATE job SET state = ? WHERE id = ?")
        .bind(state.as_str())
        .bind(job);
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
        .ok_or_else(|| Error::NoSuchJob {
            selector: job.to_string(),
        })?;
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
