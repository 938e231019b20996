//! What a wrangler asks of the whole farm, one question a call: what runs where, what failed and why, what is left and until when, who used
//! how much. Nothing here changes anything.

use std::collections::BTreeMap;

use safelight_policies::{
    cause::Cause,
    id::{ClientAlias, JobId, NodeName, SessionId, TaskId},
    outline::Outline,
};
use serde::Serialize;

use super::{
    SqliteLedger, booking, counts, nodes, read,
    statements::{Change, begin, failed},
};
use crate::{
    Error, Forecast, JobState, Place, Queue, SlotEntry, forecast, matching,
    progress::{self, StepCount},
    rows::{Reading, stored},
};

/// The most rows of one answer.
const ROWS: i64 = 10_000;

/// A session that runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Running {
    /// Where.
    pub place: Place,
    /// The job.
    pub job: JobId,
    /// Whose.
    pub client: ClientAlias,
    /// The task; of several, the first.
    pub task: TaskId,
    /// How many.
    pub tasks: u32,
    /// Which attempt.
    pub attempt: u32,
    /// The session.
    pub session: SessionId,
    /// For how long, in seconds.
    pub elapsed: u64,
    /// How long others of its step took; `None` before one was done.
    pub usual: Option<u64>,
    /// It takes too long: see [`forecast::is_stuck`].
    pub stuck: bool,
}

/// Attempts of one step that failed for one reason on one node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failures {
    /// The job.
    pub job: JobId,
    /// The step.
    pub step: u32,
    /// Why.
    pub cause: Option<Cause>,
    /// Where.
    pub node: NodeName,
    /// How many attempts.
    pub attempts: u64,
    /// One of their tasks.
    pub task: u64,
    /// When the last of them failed, in seconds since 1970.
    pub last: u64,
}

/// What is left of a job that is rendered here.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeftOf {
    /// The job.
    pub job: JobId,
    /// Whose.
    pub client: ClientAlias,
    /// Where it stands.
    pub state: JobState,
    /// It was paused.
    pub paused: bool,
    /// All its tasks.
    pub tasks: u64,
    /// Those that are done.
    pub done: u64,
    /// Those that run.
    pub running: u64,
    /// Those that were given up.
    pub dead: u64,
    /// Until when.
    pub forecast: Forecast,
}

/// What a client used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Who.
    pub client: ClientAlias,
    /// Sessions that ended.
    pub sessions: u64,
    /// Tasks with a result.
    pub tasks: u64,
    /// Time in slots, in seconds.
    pub seconds: u64,
    /// That times the slots' processors.
    pub core_seconds: u64,
    /// That times the slots' graphics processors.
    pub gpu_seconds: u64,
    /// Time in slots without a result.
    pub lost_seconds: u64,
}

impl SqliteLedger {
    /// What runs where, by node and slot.
    pub async fn sessions(&self, now: u64) -> Result<Vec<Running>, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let rows = sqlx::query(
            "SELECT own.*, job.client, step.spent, step.spent_tasks,
                json_extract(job.outline, '$.steps[' || own.step || '].timeout') AS time_limit
             FROM attempt AS own JOIN job ON job.id = own.job
             JOIN step ON step.job = own.job AND step.step = own.step
             WHERE own.state = 'running' AND own.booked = 1 ORDER BY own.node, own.slot",
        );
        let rows = rows.fetch_all(&mut *change).await.map_err(failed)?;
        read(&rows, "session", |row| {
            let entry = row.attempt()?;
            let count = StepCount {
                spent: row.number("spent")?,
                spent_tasks: row.number("spent_tasks")?,
                ..StepCount::default()
            };
            let usual = forecast::usual(&count, entry.tasks);
            let elapsed = now.saturating_sub(entry.leased_at);
            Ok(Running {
                job: row.parsed("job")?,
                client: row.parsed("client")?,
                stuck: forecast::is_stuck(elapsed, usual, row.number("time_limit")?),
                place: entry.place,
                task: entry.task,
                tasks: entry.tasks,
                attempt: entry.attempt,
                session: entry.session,
                elapsed,
                usual,
            })
        })
    }

    /// What failed and why, of one job or of all, since a moment; what failed last comes first.
    pub async fn failures(&self, job: Option<JobId>, since: u64) -> Result<Vec<Failures>, Error> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query(
            "SELECT job, step, cause, node, count(*) AS attempts, min(task) AS task, max(ended_at) AS last
             FROM attempt WHERE state IN ('failed', 'superseded') AND ended_at >= ?1
                AND (?2 IS NULL OR job = ?2)
             GROUP BY job, step, cause, node ORDER BY last DESC, job, step, node LIMIT ?3",
        )
        .bind(stored("time", since)?)
        .bind(job.map(|job| job.to_string()))
        .bind(ROWS)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
        read(&rows, "job", |row| {
            Ok(Failures {
                job: row.parsed("job")?,
                step: row.number("step")?,
                cause: row.maybe_json("cause")?,
                node: row.parsed("node")?,
                attempts: row.number("attempts")?,
                task: row.number("task")?,
                last: row.number("last")?,
            })
        })
    }

    /// What is left of each job of the active queue, in its order, and until when if everything goes on as it is.
    pub async fn left(&self, now: u64) -> Result<Vec<LeftOf>, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let slots = nodes::slots(&mut change, &self.rules, now).await?;
        let pools = booking::pools(&mut change, &self.rules.pools).await?;
        let rows = sqlx::query(
            "SELECT id, client, outline, state, paused FROM job WHERE queue = ?
             ORDER BY queue_key, rowid LIMIT ?",
        )
        .bind(Queue::Active.as_str())
        .bind(ROWS)
        .fetch_all(&mut *change)
        .await
        .map_err(failed)?;
        let mut left = Vec::with_capacity(rows.len());
        for row in &rows {
            let row = Reading::new(row, "id");
            let outline: Outline = row.json("outline")?;
            let counts = counts::counts(&mut change, &outline).await?;
            let lanes = lanes(&outline, &slots, pools.sizes());
            let sum =
                |of: fn(&StepCount) -> u64| counts.iter().map(of).fold(0, u64::saturating_add);
            left.push(LeftOf {
                job: outline.job,
                client: row.parsed("client")?,
                state: row.word("state", JobState::parse)?,
                paused: row.flag("paused")?,
                tasks: sum(|count| count.tasks),
                done: sum(|count| count.done),
                running: sum(|count| count.running),
                dead: progress::dead(&counts),
                forecast: forecast::forecast(&outline, &counts, &lanes),
            });
        }
        Ok(left)
    }

    /// What each client used since the day of this moment, by name.
    pub async fn usage(&self, since: u64) -> Result<Vec<Usage>, Error> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query(
            "SELECT client, sum(sessions) AS sessions, sum(tasks) AS tasks, sum(seconds) AS seconds,
                sum(core_seconds) AS core_seconds, sum(gpu_seconds) AS gpu_seconds,
                sum(lost_seconds) AS lost_seconds
             FROM usage WHERE day >= ? / 86400 GROUP BY client ORDER BY client",
        )
        .bind(stored("time", since)?)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
        read(&rows, "client", |row| {
            Ok(Usage {
                client: row.parsed("client")?,
                sessions: row.number("sessions")?,
                tasks: row.number("tasks")?,
                seconds: row.number("seconds")?,
                core_seconds: row.number("core_seconds")?,
                gpu_seconds: row.number("gpu_seconds")?,
                lost_seconds: row.number("lost_seconds")?,
            })
        })
    }

    /// The pools, and what is in use of each: name, in use, how much there is.
    pub async fn pools(&self) -> Result<BTreeMap<String, (f64, u32)>, Error> {
        let mut connection = self.connection.lock().await;
        let mut change: Change<'_> = begin(&mut connection).await?;
        let pools = booking::pools(&mut change, &self.rules.pools).await?;
        let own = |(name, used, size): (&str, f64, u32)| (name.to_owned(), (used, size));
        Ok(pools.all().map(own).collect())
    }
}

/// For each step, how many slots run the job or are free and fit it; never more than the pools have licences for.
fn lanes(outline: &Outline, slots: &[SlotEntry], pools: &crate::Pools) -> Vec<u64> {
    let lane = |step| {
        let of_it = |slot: &&SlotEntry| {
            let own = slot.holds.is_some_and(|(job, _)| job == outline.job);
            (own || slot.unavailable.is_none()) && matching::fits(&slot.spec, pools, step)
        };
        slots.iter().filter(of_it).count() as u64
    };
    let licences = |step: &safelight_policies::outline::StepOutline| {
        let whole = |(name, needs): (&String, &f64)| {
            let size = pools.get(name).filter(|_| *needs > 0.0)?;
            Some((f64::from(*size) / needs) as u64)
        };
        step.amounts
            .iter()
            .filter_map(whole)
            .min()
            .unwrap_or(u64::MAX)
    };
    let steps = outline.steps.iter();
    steps.map(|step| lane(step).min(licences(step))).collect()
}
