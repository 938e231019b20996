//! The next task for a slot: the first job in the active queue's order that may have a lease, and of it the step that fits the slot best.
//!
//! One transaction from the look to the lease, so that nothing is given twice, whoever else asks.

use std::collections::BTreeMap;

use safelight_policies::{
    id::{Fence, JobId, NodeName, ObjectId, SessionId, TaskId, VerifyKey},
    outline::Outline,
};
use sqlx::Row;

use super::{
    SqliteLedger,
    counts::{Shift, counts, restate, shift},
    moves,
    nodes::entry,
    queues::rule_of,
    statements::{Change, NewAttempt, begin, failed, give, newest, outline_of},
};
use crate::{
    Error, Leased, NodeEntry, Place, Queue, Rules, Unavailable,
    matching::SlotSpec,
    node,
    pick::{self, Candidate, Held},
    progress::StepCount,
    rows::{Reading, stored},
};

/// How many jobs are looked at at once.
const PAGE: i64 = 16;

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
    /// The task.
    pub task: TaskId,
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
        let mut answers = Vec::with_capacity(asks.len());
        for ask in asks {
            let (node, spec) = slot(&mut change, &ask.place).await?;
            let holder = holder(&mut change, &ask.place).await?;
            answers.push(
                match node::availability(&node, holder, now, self.rules.fresh) {
                    Ok(()) => choose(&mut change, ask, &node, &spec, &self.rules, (now, until))
                        .await?
                        .map_or(Next::Nothing, |given| Next::Leased(Box::new(given))),
                    Err(reason) => Next::Refused { reason },
                },
            );
        }
        change.commit().await.map_err(failed)?;
        Ok(answers)
    }
}

async fn slot(change: &mut Change<'_>, place: &Place) -> Result<(NodeEntry, SlotSpec), Error> {
    let row = sqlx::query("SELECT node, spec FROM slot WHERE node = ? AND slot = ?")
        .bind(place.node.to_string())
        .bind(i64::from(place.slot.0))
        .fetch_optional(&mut **change)
        .await
        .map_err(failed)?;
    match (entry(change, &place.node).await?, row) {
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

/// Sessions that each client has, and jobs of the active queue that have one.
pub(super) struct Others {
    clients: BTreeMap<String, u64>,
    caps: BTreeMap<String, u64>,
    held: Held,
}

impl Others {
    pub(super) async fn look(change: &mut Change<'_>) -> Result<Self, Error> {
        let clients = sqlx::query(
            "SELECT client, sum(step.running) AS number FROM step JOIN job ON job.id = step.job
             WHERE step.running > 0 GROUP BY client",
        );
        let clients = clients.fetch_all(&mut **change).await.map_err(failed)?;
        let caps = sqlx::query("SELECT alias AS client, cap AS number FROM client");
        let caps = caps.fetch_all(&mut **change).await.map_err(failed)?;
        let under_way: i64 = sqlx::query(
            "SELECT count(DISTINCT step.job) FROM step JOIN job ON job.id = step.job
             WHERE step.running > 0 AND job.queue = 'active'",
        )
        .fetch_one(&mut **change)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
        Ok(Self {
            clients: numbers(&clients)?,
            caps: numbers(&caps)?,
            held: Held {
                queue: rule_of(change, Queue::Active).await?,
                under_way: u64::try_from(under_way).unwrap_or(0),
                ..Held::default()
            },
        })
    }

    /// As they stand to one client.
    pub(super) fn to(&self, client: &str, rules: &Rules) -> Held {
        Held {
            client: self.clients.get(client).copied().unwrap_or(0),
            client_cap: self.caps.get(client).copied().or(rules.client_cap),
            ..self.held
        }
    }
}

fn numbers(rows: &[sqlx::sqlite::SqliteRow]) -> Result<BTreeMap<String, u64>, Error> {
    rows.iter()
        .map(|row| {
            let row = Reading::new(row, "client");
            Ok((row.parsed("client")?, row.number("number")?))
        })
        .collect()
}

async fn choose(
    change: &mut Change<'_>,
    ask: &Ask,
    node: &NodeEntry,
    spec: &SlotSpec,
    rules: &Rules,
    (now, until): (u64, u64),
) -> Result<Option<Given>, Error> {
    let others = Others::look(change).await?;
    let mut after = (i64::MIN, 0i64);
    loop {
        let page = sqlx::query(
            "SELECT id, queue_key, rowid AS place FROM job
             WHERE queue = 'active' AND leasable = 1 AND (queue_key, rowid) > (?, ?)
             ORDER BY queue_key, rowid LIMIT ?",
        )
        .bind(after.0)
        .bind(after.1)
        .bind(PAGE)
        .fetch_all(&mut **change)
        .await
        .map_err(failed)?;
        for row in &page {
            let row = Reading::new(row, "id");
            after = (row.signed("queue_key")?, row.signed("place")?);
            let job = row.parsed("id")?;
            let Some((outline, counts)) = eligible(change, job, &others, rules, now).await? else {
                continue;
            };
            for step in pick::steps_for(spec, &outline, &counts) {
                let count = counts.get(step as usize).copied().unwrap_or_default();
                if let Some(task) = take(change, job, (step, count), &node.name, now).await? {
                    let to = (ask, node);
                    return hand_out(change, outline, task, to, rules, (now, until))
                        .await
                        .map(Some);
                }
            }
        }
        if page.is_empty() {
            return Ok(None);
        }
    }
}

/// A job's outline and counts, if nothing holds it.
async fn eligible(
    change: &mut Change<'_>,
    job: JobId,
    others: &Others,
    rules: &Rules,
    now: u64,
) -> Result<Option<(Outline, Vec<StepCount>)>, Error> {
    let standing = moves::standing(change, job).await?;
    let outline = outline_of(change, job).await?;
    let counts = counts(change, &outline).await?;
    let candidate = Candidate {
        outline: &outline,
        state: standing.state,
        queue: standing.queue,
        paused: standing.paused,
        counts: &counts,
        dead_max: standing.terms.dead_max(rules),
    };
    let held = others.to(&standing.client, rules);
    let free = pick::holds(&candidate, &held, now).is_empty();
    Ok(free.then_some((outline, counts)))
}

/// Takes a task out of a step: one that is tried again, or else the next that nobody was given. `None` if all that is left is kept from
/// this node. Nothing is kept from a node that is the only one.
async fn take(
    change: &mut Change<'_>,
    job: JobId,
    (step, count): (u32, StepCount),
    node: &NodeName,
    now: u64,
) -> Result<Option<TaskId>, Error> {
    let mut by = Shift {
        running: 1,
        ..Shift::default()
    };
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
    let task = match again {
        Some(row) => {
            (by.failed, by.again) = (-1, -1);
            Reading::new(&row, "job").task()?
        }
        None if count.fresh < count.tasks => {
            by.fresh = 1;
            let task = count.fresh;
            TaskId { step, task }
        }
        None => return Ok(None),
    };
    shift(change, job, task, by).await?;
    Ok(Some(task))
}

async fn hand_out(
    change: &mut Change<'_>,
    outline: Outline,
    task: TaskId,
    (ask, node): (&Ask, &NodeEntry),
    rules: &Rules,
    (now, until): (u64, u64),
) -> Result<Given, Error> {
    let before = newest(change, outline.job, task).await?;
    let new = NewAttempt {
        job: outline.job,
        task,
        attempt: before.map_or(1, |before| before.attempt.saturating_add(1)),
        session: ask.session,
        place: &ask.place,
        until,
        booked: true,
    };
    let fence: Fence = give(change, &new, now).await?;
    let attempt = new.attempt;
    restate(change, &outline, rules, now).await?;
    let row = sqlx::query("SELECT id, envelope FROM job WHERE id = ?")
        .bind(outline.job.to_string())
        .fetch_one(&mut **change)
        .await
        .map_err(failed)?;
    Ok(Given {
        envelope: Reading::new(&row, "id").parsed("envelope")?,
        outline,
        task,
        ask: ask.clone(),
        node_key: node.key,
        leased: Leased {
            attempt,
            fence,
            expires: until,
        },
    })
}
