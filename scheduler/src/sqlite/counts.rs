//! The counts of a job's steps: moved along with each attempt, never found by listing attempts.

use safelight_policies::{
    id::{JobId, TaskId},
    outline::Outline,
};
use sqlx::sqlite::SqliteRow;

use super::{
    moves::{self, Standing},
    statements::{Change, failed, one},
};
use crate::{
    Error, Event, JobState, Rules,
    decide::{self, Tally},
    progress::{self, StepCount},
    rows::{Reading, stored},
};

/// What an attempt's change adds to its step's counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shift {
    pub(super) fresh: i64,
    pub(super) running: i64,
    pub(super) done: i64,
    pub(super) failed: i64,
    pub(super) again: i64,
    /// Sessions that run tasks.
    pub(super) sessions: i64,
    /// Seconds that tasks with a result took, and how many tasks that were.
    pub(super) spent: i64,
    pub(super) spent_tasks: i64,
}

impl Shift {
    pub(super) fn add(&mut self, by: Self) {
        self.fresh += by.fresh;
        self.running += by.running;
        self.done += by.done;
        self.failed += by.failed;
        self.again += by.again;
        self.sessions += by.sessions;
        self.spent += by.spent;
        self.spent_tasks += by.spent_tasks;
    }
}

/// What a lease changes of counts that were read.
pub(super) fn apply(count: &mut StepCount, by: Shift) {
    let add = |count: &mut u64, by: i64| *count = count.saturating_add_signed(by);
    add(&mut count.fresh, by.fresh);
    add(&mut count.running, by.running);
    add(&mut count.done, by.done);
    add(&mut count.failed, by.failed);
    add(&mut count.again, by.again);
}

pub(super) async fn shift(
    change: &mut Change<'_>,
    job: JobId,
    task: TaskId,
    by: Shift,
) -> Result<(), Error> {
    let query = sqlx::query(
        "UPDATE step SET fresh = fresh + ?, running = running + ?, done = done + ?,
            failed = failed + ?, again = again + ?, sessions = sessions + ?, spent = spent + ?,
            spent_tasks = spent_tasks + ? WHERE job = ? AND step = ?",
    )
    .bind(by.fresh)
    .bind(by.running)
    .bind(by.done)
    .bind(by.failed)
    .bind(by.again)
    .bind(by.sessions)
    .bind(by.spent)
    .bind(by.spent_tasks)
    .bind(job.to_string())
    .bind(i64::from(task.step));
    one(change, query).await
}

/// Begins to count a job's steps.
pub(super) async fn count_from_zero(
    change: &mut Change<'_>,
    outline: &Outline,
) -> Result<(), Error> {
    for (step, index) in outline.steps.iter().zip(0i64..) {
        let query = sqlx::query("INSERT INTO step (job, step, tasks) VALUES (?, ?, ?)")
            .bind(outline.job.to_string())
            .bind(index)
            .bind(stored("tasks", step.tasks)?);
        one(change, query).await?;
    }
    Ok(())
}

pub(super) async fn counts(
    change: &mut Change<'_>,
    outline: &Outline,
) -> Result<Vec<StepCount>, Error> {
    let rows = sqlx::query("SELECT * FROM step WHERE job = ? ORDER BY step")
        .bind(outline.job.to_string())
        .fetch_all(&mut **change)
        .await
        .map_err(failed)?;
    of_rows(rows.iter(), outline.steps.len())
}

/// The counts of a job's steps, of which there are so many, from its rows.
pub(super) fn of_rows<'a>(
    rows: impl Iterator<Item = &'a SqliteRow>,
    steps: usize,
) -> Result<Vec<StepCount>, Error> {
    let mut counts = vec![StepCount::default(); steps];
    for row in rows {
        let row = Reading::new(row, "job");
        let slot = counts
            .get_mut(row.number::<usize>("step")?)
            .ok_or_else(|| row.corrupt("step"))?;
        *slot = StepCount {
            tasks: row.number("tasks")?,
            fresh: row.number("fresh")?,
            running: row.number("running")?,
            done: row.number("done")?,
            failed: row.number("failed")?,
            again: row.number("again")?,
            spent: row.number("spent")?,
            spent_tasks: row.number("spent_tasks")?,
        };
    }
    Ok(counts)
}

/// Brings the job's state in line with its counts.
pub(super) async fn restate(
    change: &mut Change<'_>,
    outline: &Outline,
    rules: &Rules,
    now: u64,
) -> Result<(), Error> {
    let standing = moves::standing(change, outline.job).await?;
    let counts = counts(change, outline).await?;
    if !standing.farm {
        let state = decide::job_state(outline, tally(&counts));
        return set_state(change, outline.job, state, false).await;
    }
    if !matches!(standing.state, JobState::Waiting | JobState::Running) {
        return Ok(());
    }
    let dead_max = standing.terms.dead_max(rules);
    let progress = progress::progress(outline, &counts, dead_max);
    match told(&standing, &counts, progress.state) {
        Some(event) => {
            let _moved = moves::enact(change, &standing, &event, now).await?;
        }
        None if progress.state != standing.state => {
            set_state(change, outline.job, progress.state, true).await?;
        }
        None => {}
    }
    let query = sqlx::query("UPDATE job SET leasable = ? WHERE id = ?")
        .bind(progress.leasable)
        .bind(outline.job.to_string());
    one(change, query).await
}

/// What is told of a new state. That a job has no lease for a moment is not: it would be a line for every task.
fn told(standing: &Standing, counts: &[StepCount], state: JobState) -> Option<Event> {
    match state {
        JobState::Succeeded => Some(Event::Succeeded),
        JobState::Failed => Some(Event::Failed {
            tasks: progress::dead(counts),
        }),
        JobState::Running if !standing.started => Some(Event::Started),
        _ => None,
    }
}

fn tally(counts: &[StepCount]) -> Tally {
    let sum = |of: fn(&StepCount) -> u64| counts.iter().map(of).fold(0, u64::saturating_add);
    Tally {
        running: sum(|count| count.running),
        committed: sum(|count| count.done),
        failed: sum(|count| count.failed),
    }
}

async fn set_state(
    change: &mut Change<'_>,
    job: JobId,
    state: JobState,
    farm: bool,
) -> Result<(), Error> {
    let query = sqlx::query("UPDATE job SET state = ? WHERE id = ? AND farm = ?")
        .bind(state.as_str())
        .bind(job.to_string())
        .bind(farm);
    one(change, query).await
}
