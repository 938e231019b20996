//! How an attempt ends: its row, its step's counts, whether its task is tried again, and what its node did.

use safelight_policies::{
    cause::Cause,
    id::{Fence, JobId, NodeName, ObjectId, SessionId, TaskId},
};

use super::{
    counts::{Shift, shift},
    moves::{self, Standing},
    nodes,
    statements::{Change, close, failed, no_such_session, one},
    strikes,
};
use crate::{
    AttemptState, Error, JobState, Rules,
    decide::Holder,
    retry::{self, Fault, History, Verdict},
    rows::{Reading, deadline, stored, text},
};

/// How an attempt ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending<'a> {
    /// With a result.
    Result(ObjectId),
    /// Without.
    Cause(&'a Cause),
}

/// A session's attempt, and the newest fence of its task.
pub(super) struct Held {
    pub(super) job: JobId,
    pub(super) task: TaskId,
    /// How many, from that one on.
    pub(super) tasks: u32,
    pub(super) leased_at: u64,
    pub(super) node: NodeName,
    /// It was given by a queue.
    pub(super) booked: bool,
    pub(super) holder: Holder,
    pub(super) newest: Fence,
}

pub(super) async fn held(change: &mut Change<'_>, session: SessionId) -> Result<Held, Error> {
    find(change, session)
        .await?
        .ok_or_else(|| no_such_session(session))
}

pub(super) async fn find(
    change: &mut Change<'_>,
    session: SessionId,
) -> Result<Option<Held>, Error> {
    let row = sqlx::query(
        "SELECT job, step, task, tasks, leased_at, node, booked, session, attempt, fence, state, lease_until,
            (SELECT max(later.fence) FROM attempt AS later
             WHERE later.job = own.job AND later.step = own.step AND later.task = own.task) AS newest
         FROM attempt AS own WHERE session = ?",
    )
    .bind(session.to_string())
    .fetch_optional(&mut **change)
    .await
    .map_err(failed)?;
    let Some(row) = row else { return Ok(None) };
    let row = Reading::new(&row, "session");
    Ok(Some(Held {
        job: row.parsed("job")?,
        task: row.task()?,
        tasks: row.number("tasks")?,
        leased_at: row.number("leased_at")?,
        node: row.parsed("node")?,
        booked: row.flag("booked")?,
        holder: row.holder()?,
        newest: Fence(row.number("newest")?),
    }))
}

/// Ends a running attempt that is the newest of its task.
pub(super) async fn finish(
    change: &mut Change<'_>,
    held: &Held,
    ending: Ending<'_>,
    rules: &Rules,
    now: u64,
) -> Result<(), Error> {
    let fence = held.holder.fence;
    let (state, cause, result) = match ending {
        Ending::Result(manifest) => (
            AttemptState::Committed,
            &Cause::Exited { code: 0 },
            Some(manifest.to_string()),
        ),
        Ending::Cause(cause) => (AttemptState::Failed, cause, None),
    };
    close(change, fence, state, now).await?;
    let note = sqlx::query("UPDATE attempt SET result = ?, cause = ? WHERE fence = ?")
        .bind(result)
        .bind(text(cause)?)
        .bind(stored("fence", fence.0)?);
    one(change, note).await?;
    let tasks = i64::from(held.tasks);
    let mut by = Shift {
        running: -tasks,
        sessions: -1,
        ..Shift::default()
    };
    if state == AttemptState::Committed {
        by.done = tasks;
        by.spent = i64::try_from(now.saturating_sub(held.leased_at)).unwrap_or(0);
        by.spent_tasks = tasks;
        if held.booked {
            nodes::praise(change, &held.node).await?;
            strikes::clear(change, held).await?;
        }
    } else {
        by.failed = tasks;
        if held.booked && try_again(change, held, cause, rules, now).await? {
            by.again = tasks;
        }
    }
    shift(change, held.job, held.task, by).await
}

/// Decides whether a task is tried again, and notes it if so.
async fn try_again(
    change: &mut Change<'_>,
    held: &Held,
    cause: &Cause,
    rules: &Rules,
    now: u64,
) -> Result<bool, Error> {
    let fault = retry::fault(cause);
    // That a node is gone is not told by the node: it may as well have been switched off.
    if fault == Fault::Node && *cause != Cause::NodeLost {
        nodes::blame(change, &held.node, rules).await?;
    }
    let standing = moves::standing(change, held.job).await?;
    if !matches!(standing.state, JobState::Waiting | JobState::Running) {
        return Ok(false);
    }
    if strikes::counts(fault) {
        strikes::add(change, held, &standing).await?;
    }
    let verdict = if held.tasks > 1 {
        retry::of_several(fault)
    } else {
        let history = history(change, held, &standing).await?;
        retry::verdict(fault, history, standing.terms.retries(rules), rules)
    };
    let Verdict::Again { elsewhere } = verdict else {
        return Ok(false);
    };
    let avoid = elsewhere.then(|| held.node.to_string());
    for offset in 0..u64::from(held.tasks) {
        let query = sqlx::query(
            "INSERT INTO again (job, step, task, avoid, avoid_until) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(held.job.to_string())
        .bind(i64::from(held.task.step))
        .bind(stored("task", held.task.task.saturating_add(offset))?)
        .bind(avoid.clone())
        .bind(deadline(now.saturating_add(rules.elsewhere)));
        one(change, query).await?;
    }
    Ok(true)
}

/// How the task's attempts ended, this one included. Those with other tasks in one session do not count: any of them may have been the reason.
async fn history(
    change: &mut Change<'_>,
    held: &Held,
    standing: &Standing,
) -> Result<History, Error> {
    let rows = sqlx::query(
        "SELECT session, cause FROM attempt
         WHERE job = ? AND step = ? AND task = ? AND tasks = 1 AND cause IS NOT NULL
            AND fence > ?",
    )
    .bind(held.job.to_string())
    .bind(i64::from(held.task.step))
    .bind(stored("task", held.task.task)?)
    .bind(stored("fence", standing.forgiven)?)
    .fetch_all(&mut **change)
    .await
    .map_err(failed)?;
    let mut history = History::default();
    for row in &rows {
        let cause: Cause = Reading::new(row, "session").json("cause")?;
        history = history.with(retry::fault(&cause));
    }
    Ok(history)
}
