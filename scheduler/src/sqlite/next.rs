//! The next task for a slot: the first job in the active queue's order that may have a lease, and of it the step that fits the slot best.
//!
//! One transaction from the look to the lease, so that nothing is given twice, whoever else asks.

use safelight_policies::{
    id::{Fence, JobId, NodeName, ObjectId, SessionId, TaskId, VerifyKey},
    outline::Outline,
};

use super::{
    SqliteLedger,
    booking::{Booking, Eligible, Job},
    counts::Shift,
    statements::{Change, NewAttempt, begin, failed, give, newest},
};
use crate::{
    Error, Leased, NodeEntry, Place, Unavailable,
    matching::SlotSpec,
    node, pick, portion,
    rows::{Reading, stored, text},
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
        let expires = now.saturating_add(ttl);
        let mut booking = Booking::begin(&mut change, &self.rules, now).await?;
        let slots = slots(&mut change, asks).await?;
        let mut answers = Vec::with_capacity(asks.len());
        let (mut chosen, mut new) = (Vec::new(), Vec::new());
        for (ask, slot) in asks.iter().zip(slots) {
            let found = booking.node(&mut change, &ask.place.node).await?.zip(slot);
            let (node, Slot { spec, holder }) = found.ok_or_else(|| Error::NoSuchSlot {
                node: ask.place.node.clone(),
                slot: ask.place.slot,
            })?;
            // Who asked before in this very call may have it.
            let mut before = chosen.iter();
            let holder = before
                .find(|it: &&Chosen| it.ask.place == ask.place)
                .map_or(holder, |it| Some(it.ask.session));
            if let Err(reason) = node::availability(&node, holder, now, self.rules.fresh) {
                answers.push(Some(Next::Refused { reason }));
                continue;
            }
            let Some(it) = choose(&mut change, &mut booking, ask, (&node, &spec), now).await?
            else {
                answers.push(Some(Next::Nothing));
                continue;
            };
            new.push(it.attempt());
            chosen.push(it);
            answers.push(None);
        }
        let fences = give(&mut change, &new, (now, expires)).await?;
        booking.end(&mut change).await?;
        change.commit().await.map_err(failed)?;
        let mut given = chosen.into_iter().zip(fences);
        let mut next = || given.next().map(|(it, fence)| it.given(fence, expires));
        let answer = |answer: Option<Next>| answer.or_else(&mut next).unwrap_or(Next::Nothing);
        Ok(answers.into_iter().map(answer).collect())
    }
}

/// A slot, as it is before anybody asks.
struct Slot {
    spec: SlotSpec,
    holder: Option<SessionId>,
}

/// The slots of those who ask, in their order; `None` for one that there is not. One statement, however many they are.
async fn slots(change: &mut Change<'_>, asks: &[Ask]) -> Result<Vec<Option<Slot>>, Error> {
    let places: Vec<_> = asks
        .iter()
        .map(|it| (it.place.node.to_string(), it.place.slot.0))
        .collect();
    let rows = sqlx::query(
        "SELECT ask.key AS number, slot.node, slot.spec, attempt.session FROM json_each(?) AS ask
         JOIN slot ON slot.node = ask.value ->> 0 AND slot.slot = ask.value ->> 1
         LEFT JOIN attempt ON attempt.node = slot.node AND attempt.slot = slot.slot
            AND attempt.state = 'running' AND attempt.booked = 1",
    )
    .bind(text(&places)?)
    .fetch_all(&mut **change)
    .await
    .map_err(failed)?;
    let mut slots: Vec<_> = asks.iter().map(|_| None).collect();
    for row in &rows {
        let row = Reading::new(row, "node");
        let slot = Slot {
            spec: row.json("spec")?,
            holder: row.maybe_parsed("session")?,
        };
        let number: usize = row.number("number")?;
        *slots.get_mut(number).ok_or_else(|| row.corrupt("number"))? = Some(slot);
    }
    Ok(slots)
}

/// Work for a slot that asked, before it is written down.
struct Chosen {
    outline: Outline,
    envelope: ObjectId,
    task: TaskId,
    tasks: u32,
    attempt: u32,
    ask: Ask,
    node_key: VerifyKey,
}

impl Chosen {
    fn attempt(&self) -> NewAttempt {
        NewAttempt {
            job: self.outline.job,
            step: self.task.step,
            task: self.task.task,
            tasks: self.tasks,
            attempt: self.attempt,
            session: self.ask.session,
            node: self.ask.place.node.clone(),
            slot: self.ask.place.slot.0,
            booked: true,
        }
    }

    fn given(self, fence: Fence, expires: u64) -> Next {
        let leased = Leased {
            attempt: self.attempt,
            fence,
            expires,
        };
        Next::Leased(Box::new(Given {
            outline: self.outline,
            envelope: self.envelope,
            task: self.task,
            tasks: self.tasks,
            ask: self.ask,
            node_key: self.node_key,
            leased,
        }))
    }
}

async fn choose(
    change: &mut Change<'_>,
    booking: &mut Booking<'_>,
    ask: &Ask,
    (node, spec): (&NodeEntry, &SlotSpec),
    now: u64,
) -> Result<Option<Chosen>, Error> {
    let slots = booking.slots;
    let mut place = 0;
    while let Some(id) = booking.at(change, place).await? {
        place += 1;
        let Some(found) = booking.eligible(change, id, &node.name).await? else {
            continue;
        };
        let Eligible { job, pools, shun } = found;
        for step in pick::steps_for(spec, pools, &job.outline, &job.counts) {
            let needs = job.outline.steps.get(step as usize);
            let kept = needs.and_then(|it| shun.keeps(id, &node.name, (it, pools.sizes())));
            if kept.is_some() {
                continue;
            }
            let Some(taken) = take(change, job, (step, slots), &node.name, now).await? else {
                continue;
            };
            let chosen = Chosen {
                outline: job.outline.clone(),
                envelope: job.envelope,
                task: taken.task,
                tasks: taken.tasks,
                attempt: attempt(change, id, &taken).await?,
                ask: ask.clone(),
                node_key: node.key,
            };
            booking.given(id, taken.task, taken.by);
            return Ok(Some(chosen));
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
