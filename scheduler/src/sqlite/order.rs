//! The order of a queue, when a person wants another than priority and waiting make.
//!
//! Only keys change, so a job that was moved goes on ageing as the others do. What is handed in later with a higher priority may still come
//! before it.

use safelight_policies::id::JobId;

use super::{
    SqliteLedger, moves,
    statements::{Change, begin, failed, one},
};
use crate::{Error, Event, Moved, Queue, rows::Reading, state::MoveRefusal};

/// Where a job of a queue is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Before all others.
    First,
    /// Behind all others.
    Last,
    /// Right before this one, of the same queue.
    Before(JobId),
}

impl SqliteLedger {
    /// Puts a job elsewhere in its queue. What runs of it goes on.
    pub async fn reorder(&self, job: JobId, turn: Turn, now: u64) -> Result<Moved, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let standing = moves::standing(&mut change, job).await?;
        let Some(queue) = standing.queue else {
            let reason = MoveRefusal::NoQueue;
            return Ok(Moved::Refused { reason });
        };
        let key = match turn {
            Turn::First => {
                let ends = ends(&mut change, queue, job).await?;
                ends.map(|(first, _)| first.saturating_sub(1))
            }
            Turn::Last => {
                let ends = ends(&mut change, queue, job).await?;
                ends.map(|(_, last)| last.saturating_add(1))
            }
            Turn::Before(other) if other == job => None,
            Turn::Before(other) => Some(room_before(&mut change, queue, other).await?),
        };
        let Some(key) = key else {
            return Ok(Moved::Already);
        };
        let put = sqlx::query("UPDATE job SET queue_key = ? WHERE id = ?")
            .bind(key)
            .bind(job.to_string());
        one(&mut change, put).await?;
        let position = moves::position(&mut change, job).await?.unwrap_or(0);
        let event = Event::Reordered { position };
        let moved = moves::enact(&mut change, &standing, &event, now).await?;
        if let Moved::Done { .. } = moved {
            change.commit().await.map_err(failed)?;
        }
        Ok(moved)
    }
}

/// The first and the last key of the others in a queue; `None` if the job is alone in it.
async fn ends(
    change: &mut Change<'_>,
    queue: Queue,
    job: JobId,
) -> Result<Option<(i64, i64)>, Error> {
    let row = sqlx::query(
        "SELECT queue, min(queue_key) AS first, max(queue_key) AS last FROM job
         WHERE queue = ? AND id <> ? GROUP BY queue",
    )
    .bind(queue.as_str())
    .bind(job.to_string())
    .fetch_optional(&mut **change)
    .await
    .map_err(failed)?;
    let Some(row) = row else { return Ok(None) };
    let row = Reading::new(&row, "queue");
    Ok(Some((row.signed("first")?, row.signed("last")?)))
}

/// Makes room before a job: those before it go two further, which leaves one key free.
async fn room_before(change: &mut Change<'_>, queue: Queue, other: JobId) -> Result<i64, Error> {
    let other = moves::standing(change, other).await?;
    if other.queue != Some(queue) {
        let job = other.job;
        return Err(Error::OtherQueue { job, queue });
    }
    let query = sqlx::query(
        "UPDATE job SET queue_key = queue_key - 2 WHERE queue = ?1 AND (queue_key, rowid) <
            (SELECT queue_key, rowid FROM job WHERE id = ?2)",
    )
    .bind(queue.as_str())
    .bind(other.job.to_string());
    query.execute(&mut **change).await.map_err(failed)?;
    Ok(other.queue_key.saturating_sub(1))
}
