//! How a job moves between states and queues: asked of [`state::follow`], written down with a line of its story, and, when it is over,
//! with a notice for its supplier. There is no other way for a job in a queue to move.

use safelight_policies::id::JobId;

use super::statements::{Change, failed, no_such_job, one};
use crate::{
    Error, Event, JobState, Moved, Queue, Terms,
    rows::{Reading, stored, text},
    state::{self, Follows, MoveRefusal, Stand},
};

/// Where a job stands, and what decisions need of it.
pub(super) struct Standing {
    pub(super) job: JobId,
    /// It is or was in a queue.
    pub(super) farm: bool,
    pub(super) state: JobState,
    pub(super) queue: Option<Queue>,
    pub(super) queue_key: i64,
    pub(super) paused: bool,
    pub(super) started: bool,
    pub(super) terms: Terms,
    pub(super) client: String,
    pub(super) round: u32,
    /// Attempts up to this fence no longer count against their tasks.
    pub(super) forgiven: u64,
}

pub(super) async fn standing(change: &mut Change<'_>, job: JobId) -> Result<Standing, Error> {
    let row = sqlx::query(
        "SELECT id, farm, state, queue, queue_key, paused, started_at, terms, client, round, forgiven
         FROM job WHERE id = ?",
    )
    .bind(job.to_string())
    .fetch_optional(&mut **change)
    .await
    .map_err(failed)?
    .ok_or_else(|| no_such_job(job))?;
    let row = Reading::new(&row, "id");
    Ok(Standing {
        job,
        farm: row.flag("farm")?,
        state: row.word("state", JobState::parse)?,
        queue: row.maybe_word("queue", Queue::parse)?,
        queue_key: row.signed("queue_key")?,
        paused: row.flag("paused")?,
        started: row.integer("started_at")?.is_some(),
        terms: row.json("terms")?,
        client: row.parsed("client")?,
        round: row.number("round")?,
        forgiven: row.number("forgiven")?,
    })
}

/// A job's place in its queue, from one; `None` if it is in none.
pub(super) async fn position(change: &mut Change<'_>, job: JobId) -> Result<Option<u64>, Error> {
    let row = sqlx::query(
        "SELECT id, (SELECT count(*) FROM job AS other WHERE other.queue = job.queue
            AND (other.queue_key, other.rowid) <= (job.queue_key, job.rowid)) AS position
         FROM job WHERE id = ? AND queue IS NOT NULL",
    )
    .bind(job.to_string())
    .fetch_optional(&mut **change)
    .await
    .map_err(failed)?;
    row.map(|row| Reading::new(&row, "id").number("position"))
        .transpose()
}

/// Lets an event happen to a job, if the table of states has it so.
pub(super) async fn enact(
    change: &mut Change<'_>,
    from: &Standing,
    event: &Event,
    now: u64,
) -> Result<Moved, Error> {
    if !from.farm {
        let reason = MoveRefusal::NoQueue;
        return Ok(Moved::Refused { reason });
    }
    let to = match state::follow(from.state, from.queue, event) {
        Ok(Follows::Move(to)) => to,
        Ok(Follows::Already) => return Ok(Moved::Already),
        Err(reason) => return Ok(Moved::Refused { reason }),
    };
    stand(change, from, to, event, now).await?;
    tell(change, from.job, Some(from.state), to.state, event, now).await?;
    if state::is_final(to.state) {
        forget_retries(change, from.job).await?;
        notify(change, from, to.state, now).await?;
    }
    Ok(Moved::Done { state: to.state })
}

async fn stand(
    change: &mut Change<'_>,
    from: &Standing,
    to: Stand,
    event: &Event,
    now: u64,
) -> Result<(), Error> {
    let begun = if *event == Event::Started {
        Some(stored("time", now)?)
    } else {
        None
    };
    // The state that the decision was made from is asked for again: a move is made once.
    let query = sqlx::query(
        "UPDATE job SET state = ?, queue = ?, started_at = coalesce(started_at, ?),
            leasable = leasable AND coalesce(? = 'active', 0)
         WHERE id = ? AND state = ?",
    )
    .bind(to.state.as_str())
    .bind(to.queue.map(Queue::as_str))
    .bind(begun)
    .bind(to.queue.map(Queue::as_str))
    .bind(from.job.to_string())
    .bind(from.state.as_str());
    one(change, query).await
}

/// Writes a line of a job's story.
pub(super) async fn tell(
    change: &mut Change<'_>,
    job: JobId,
    from: Option<JobState>,
    to: JobState,
    event: &Event,
    now: u64,
) -> Result<(), Error> {
    let query = sqlx::query(
        "INSERT INTO story (job, from_state, to_state, event, at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(job.to_string())
    .bind(from.map(JobState::as_str))
    .bind(to.as_str())
    .bind(text(event)?)
    .bind(stored("time", now)?);
    one(change, query).await
}

async fn notify(
    change: &mut Change<'_>,
    from: &Standing,
    state: JobState,
    now: u64,
) -> Result<(), Error> {
    let query = sqlx::query(
        "INSERT INTO notice (job, state, round, at) VALUES (?, ?, ?, ?)
         ON CONFLICT (job, state, round) DO NOTHING",
    )
    .bind(from.job.to_string())
    .bind(state.as_str())
    .bind(i64::from(from.round))
    .bind(stored("time", now)?);
    query.execute(&mut **change).await.map(drop).map_err(failed)
}

/// Nothing of a job that is over is tried again, and how it did on which node is forgotten.
async fn forget_retries(change: &mut Change<'_>, job: JobId) -> Result<(), Error> {
    for query in [
        "DELETE FROM again WHERE job = ?",
        "UPDATE step SET again = 0 WHERE job = ? AND again > 0",
        "DELETE FROM strike WHERE job = ?",
        "DELETE FROM worked WHERE job = ?",
    ] {
        let done = sqlx::query(query).bind(job.to_string());
        done.execute(&mut **change).await.map_err(failed)?;
    }
    Ok(())
}
