//! The next task for a slot: the first job in the active queue's order that may have a lease, and of it the step that fits the slot best.
//!
//! One transaction from the look to the lease, so that nothing is given twice, whoever else asks.

use safelight_policies::{
    id::{Fence, JobId, NodeName, ObjectId, SessionId, TaskId, VerifyKey},
    outline::Outline,
};

use super::{
    SqliteLedger,
    booking::{Booking, Job},
    counts::Shift,
    statements::{Change, NewAttempt, begin, failed, give, newest},
};
use crate::{
    Error, Leased, NodeEntry, Place, Unavailable,
    matching::SlotSpec,
    node, pick, portion,
    rows::{Reading, stored},
};

/// A slot that asks for work, and the session that would do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The slot.
    pub place: Place,
    /// The session, drawn by who asks; good for one lease.
    pub session: SessionId,
}

/// The answer to a slot that asks.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Next {
    /// Work.
    Leased(Box<Given>),
    /// Nothing that fits it now.
    Nothing,
    /// It takes nothing now.
    Refused {
        /// Why.
        reason: Unavailable,
    },
}

/// A lease from the queue, and what the signed lease is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// The job.
    pub outline: Outline,
    /// The envelope that announced it.
    pub envelope: ObjectId,
    /// The task; of several, the first.
    pub task: TaskId,
    /// How many, from that one on.
    pub tasks: u32,
    /// Where.
    pub ask: Ask,
    /// The node's key.
    pub node_key: VerifyKey,
    /// The lease.
    pub leased: Leased,
}

impl SqliteLedger {
    /// Leases the best task for a slot for `ttl` seconds.
    pub async fn next(&self, ask: &Ask, now: u64, ttl: u64) -> Result<Next, Error> {
        let mut answers = self.next_for(std::slice::from_ref(ask), now, ttl).await?;
        Ok(answers.pop().unwrap_or(Next::Nothing))
    }

    /// Leases to several slots at once, durably in one go: an answer for each, in their order.
    pub async fn next_for(&self, asks: &[Ask], now: u64, ttl: u64) -> Result<Vec<Next>, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let until = now.saturating_add(ttl);
        let mut booking = Booking::begin(&mut change, &self.rules, now).await?;
        let mut answers = Vec::with_capacity(asks.len());
        for ask in asks {
            let (node, spec) = slot(&mut change, &mut booking, &ask.place).await?;
            let holder = holder(&mut change, &ask.place).await?;
            answers.push(
                match node::availability(&node, holder, now, self.rules.fresh) {
                    Ok(()) => choose(&mut change, &mut booking, ask, (&node, &spec), (now, until))
                        .await?
                        .map_or(Next::Nothing, |given| Next::Leased(Box::new(given))),
                    Err(reason) => Next::Refused { reason },
                },
            );
        }
        booking.end(&mut change).await?;
        change.commit().await.map_err(failed)?;
        Ok(answers)
    }
}

async fn slot(
    change: &mut Change<'_>,
    booking: &mut Booking<'_>,
    place: &Place,
) -> Result<(NodeEntry, SlotSpec), Error> {
    let row = sqlx::query("SELECT node, spec FROM slot WHERE node = ? AND slot = ?")
        .bind(place.node.to_string())
        .bind(i64::from(place.slot.0))
        .fetch_optional(&mut **change)
        .await
        .map_err(failed)?;
    match (booking.node(change, &place.node).await?, row) {
        (Some(node), Some(row)) => Ok((node, Reading::new(&row, "node").json("spec")?)),
        _ => Err(Error::NoSuchSlot {
            node: place.node.clone(),
            slot: place.slot,
        }),
    }
}

async fn holder(change: &mut Change<'_>, place: &Place) -> Result<Option<SessionId>, Error> {
    let row = sqlx::query(
        "SELECT session FROM attempt
         WHERE node = ? AND slot = ? AND state = 'running' AND booked = 1",
    )
    .bind(place.node.to_string())
    .bind(i64::from(place.slot.0))
    .fetch_optional(&mut **change)
    .await
    .map_err(failed)?;
    row.map(|row| Reading::new(&row, "session").parsed("session"))
        .transpose()
}

async fn choose(
    change: &mut Change<'_>,
    booking: &mut Booking<'_>,
    ask: &Ask,
    (node, spec): (&NodeEntry, &SlotSpec),
    (now, until): (u64, u64),
) -> Result<Option<Given>, Error> {
    let slots = booking.slots;
    let mut place = 0;
    while let Some(id) = booking.at(change, place).await? {
        place += 1;
        let Some((job, pools)) = booking.eligible(change, id).await? else {
            continue;
        };
        for step in pick::steps_for(spec, pools, &job.outline, &job.counts) {
            let Some(taken) = take(change, job, (step, slots), &node.name, now).await? else {
                continue;
            };
            let (outline, envelope) = (job.outline.clone(), job.envelope);
            let (task, tasks) = (taken.task, taken.tasks);
            let attempt = attempt(change, id, &taken).await?;
            let new = NewAttempt {
                job: id,
                task,
                tasks,
                attempt,
                session: ask.session,
                place: &ask.place,
                until,
                booked: true,
            };
            let fence: Fence = give(change, &new, now).await?;
            booking.given(id, task, taken.by);
            return Ok(Some(Given {
                envelope,
                outline,
                task,
                tasks,
                ask: ask.clone(),
                node_key: node.key,
                leased: Leased {
                    attempt,
                    fence,
                    expires: until,
                },
            }));
        }
    }
    Ok(None)
}

/// Tasks that were taken out of a step.
struct Taken {
    task: TaskId,
    tasks: u32,
    by: Shift,
}

/// Takes a task out of a step: one that is tried again, or else the next that nobody was given, with as many more as a session may have.
/// `None` if all that is left is kept from this node. Nothing is kept from a node that is the only one.
async fn take(
    change: &mut Change<'_>,
    job: &Job,
    (step, slots): (u32, u64),
    node: &NodeName,
    now: u64,
) -> Result<Option<Taken>, Error> {
    let count = job.counts.get(step as usize).copied().unwrap_or_default();
    let mut by = Shift {
        running: 1,
        sessions: 1,
        ..Shift::default()
    };
    if count.again > 0
        && let Some(task) = again(change, job.outline.job, step, node, now).await?
    {
        (by.failed, by.again) = (-1, -1);
        return Ok(Some(Taken { task, tasks: 1, by }));
    }
    let Some(outline) = job.outline.steps.get(step as usize) else {
        return Ok(None);
    };
    let trial = job.outline.wishes.trial;
    if portion::fresh(trial, outline, &count) == 0 {
        return Ok(None);
    }
    let tasks = portion::batch(outline, trial, &count, slots);
    by.fresh = i64::from(tasks);
    by.running = i64::from(tasks);
    let task = portion::fresh_task(trial, outline, count.fresh);
    Ok(Some(Taken {
        task: TaskId { step, task },
        tasks,
        by,
    }))
}

/// A task that is tried again, if one is not kept from this node.
async fn again(
    change: &mut Change<'_>,
    job: JobId,
    step: u32,
    node: &NodeName,
    now: u64,
) -> Result<Option<TaskId>, Error> {
    let again = sqlx::query(
        "DELETE FROM again WHERE (job, step, task) IN (
            SELECT job, step, task FROM again
            WHERE job = ?1 AND step = ?2 AND (avoid IS NULL OR avoid <> ?3 OR avoid_until <= ?4
                OR NOT EXISTS (SELECT 1 FROM node WHERE state = 'up' AND name <> ?3))
            ORDER BY task LIMIT 1)
         RETURNING job, step, task",
    )
    .bind(job.to_string())
    .bind(i64::from(step))
    .bind(node.to_string())
    .bind(stored("time", now)?);
    let again = again.fetch_optional(&mut **change).await.map_err(failed)?;
    again
        .map(|row| Reading::new(&row, "job").task())
        .transpose()
}

/// The number of the new attempt: what was never given out has had none.
async fn attempt(change: &mut Change<'_>, job: JobId, taken: &Taken) -> Result<u32, Error> {
    if taken.by.fresh > 0 {
        return Ok(1);
    }
    let before = newest(change, job, taken.task).await?;
    Ok(before.map_or(1, |before| before.attempt.saturating_add(1)))
}
