//! What one transaction of leases knows: looked up once, kept right in memory while slots are given work, and written down at its end.
//!
//! Looking everything up again for each slot is right too, and costs twenty statements a lease. Nothing of this outlives its transaction,
//! which lets nobody else change anything.

use std::collections::{BTreeMap, btree_map::Entry};

use safelight_policies::{
    id::{JobId, NodeName, ObjectId, TaskId},
    outline::Outline,
};
use sqlx::Row;

use super::{
    counts::{self, Shift, counts},
    moves::{self, Standing},
    nodes::entry,
    queues::rule_of,
    statements::{Change, failed, outline_of},
    strikes::Shun,
};
use crate::{
    Error, NodeEntry, Queue, Rules,
    pick::{self, Candidate, Held},
    pools::{PoolUse, Pools},
    progress::StepCount,
    rows::Reading,
};

/// How many jobs are looked up at once.
const PAGE: i64 = 16;

pub(super) struct Booking<'a> {
    rules: &'a Rules,
    now: u64,
    others: Others,
    shun: Shun,
    /// Jobs that may have a lease, in the queue's order, as far as they were looked up; then where the next begins, until there is none.
    order: Vec<JobId>,
    next: Option<(i64, i64)>,
    jobs: BTreeMap<JobId, Job>,
    nodes: BTreeMap<NodeName, Option<NodeEntry>>,
    /// Slots of nodes that are up.
    pub(super) slots: u64,
}

/// A job that nothing holds, and what a lease of it depends on beside it.
pub(super) struct Eligible<'a> {
    pub(super) job: &'a mut Job,
    /// What others hold of the pools.
    pub(super) pools: &'a PoolUse,
    /// Which jobs are kept from which nodes.
    pub(super) shun: &'a Shun,
}

/// A job that was looked at.
pub(super) struct Job {
    pub(super) outline: Outline,
    pub(super) envelope: ObjectId,
    pub(super) counts: Vec<StepCount>,
    standing: Standing,
    /// What the leases that were given change of each step.
    shifts: BTreeMap<u32, Shift>,
}

impl<'a> Booking<'a> {
    pub(super) async fn begin(
        change: &mut Change<'_>,
        rules: &'a Rules,
        now: u64,
    ) -> Result<Self, Error> {
        let slots: i64 = sqlx::query(
            "SELECT count(*) FROM slot JOIN node ON node.name = slot.node WHERE node.state = 'up'",
        )
        .fetch_one(&mut **change)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
        Ok(Self {
            rules,
            now,
            others: Others::look(change, rules).await?,
            shun: Shun::look(change, rules).await?,
            order: Vec::new(),
            next: Some((i64::MIN, 0)),
            jobs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            slots: u64::try_from(slots).unwrap_or(1),
        })
    }

    /// A node, as it was when the transaction began: leases change nothing of it.
    pub(super) async fn node(
        &mut self,
        change: &mut Change<'_>,
        name: &NodeName,
    ) -> Result<Option<NodeEntry>, Error> {
        if !self.nodes.contains_key(name) {
            let found = entry(change, name).await?;
            self.nodes.insert(name.clone(), found);
        }
        Ok(self.nodes.get(name).cloned().flatten())
    }

    /// The job at this place of the queue, of those that may have a lease; `None` behind the last.
    pub(super) async fn at(
        &mut self,
        change: &mut Change<'_>,
        place: usize,
    ) -> Result<Option<JobId>, Error> {
        while self.order.len() <= place {
            let Some(after) = self.next else {
                return Ok(None);
            };
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
            self.next = None;
            for row in &page {
                let row = Reading::new(row, "id");
                self.next = Some((row.signed("queue_key")?, row.signed("place")?));
                self.order.push(row.parsed("id")?);
            }
        }
        Ok(self.order.get(place).copied())
    }

    /// A job that this node asks for, if nothing holds it.
    pub(super) async fn eligible(
        &mut self,
        change: &mut Change<'_>,
        id: JobId,
        node: &NodeName,
    ) -> Result<Option<Eligible<'_>>, Error> {
        let clock = (self.rules, self.now);
        self.shun.prepare(change, (id, node), clock).await?;
        let job = match self.jobs.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Job::look(change, id).await?),
        };
        let candidate = Candidate {
            outline: &job.outline,
            state: job.standing.state,
            queue: job.standing.queue,
            paused: job.standing.paused,
            counts: &job.counts,
            dead_max: job.standing.terms.dead_max(self.rules),
        };
        let held = self.others.to(&job.standing.client, self.rules);
        let free = pick::holds(&candidate, &held, self.now).is_empty();
        Ok(free.then_some(Eligible {
            job,
            pools: &self.others.pools,
            shun: &self.shun,
        }))
    }

    /// Notes a lease of so many tasks.
    pub(super) fn given(&mut self, id: JobId, task: TaskId, by: Shift) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.counts.iter().all(|count| count.running == 0) {
            self.others.held.under_way += 1;
        }
        let client = self.others.clients.entry(job.standing.client.clone());
        *client.or_default() += 1;
        if let Some(step) = job.outline.steps.get(task.step as usize) {
            self.others.pools.take(&step.amounts, 1);
        }
        if let Some(count) = job.counts.get_mut(task.step as usize) {
            counts::apply(count, by);
        }
        job.shifts.entry(task.step).or_default().add(by);
    }

    /// Writes down what the leases changed.
    pub(super) async fn end(self, change: &mut Change<'_>) -> Result<(), Error> {
        for (id, job) in self.jobs {
            if job.shifts.is_empty() {
                continue;
            }
            for (step, by) in job.shifts {
                counts::shift(change, id, TaskId { step, task: 0 }, by).await?;
            }
            counts::restate(change, &job.outline, self.rules, self.now).await?;
        }
        Ok(())
    }
}

impl Job {
    async fn look(change: &mut Change<'_>, id: JobId) -> Result<Self, Error> {
        let standing = moves::standing(change, id).await?;
        let outline = outline_of(change, id).await?;
        let counts = counts(change, &outline).await?;
        let row = sqlx::query("SELECT id, envelope FROM job WHERE id = ?")
            .bind(id.to_string())
            .fetch_one(&mut **change)
            .await
            .map_err(failed)?;
        Ok(Self {
            envelope: Reading::new(&row, "id").parsed("envelope")?,
            outline,
            counts,
            standing,
            shifts: BTreeMap::new(),
        })
    }
}

/// Sessions that each client has, and jobs of the active queue that have one.
pub(super) struct Others {
    clients: BTreeMap<String, u64>,
    caps: BTreeMap<String, u64>,
    held: Held,
    pub(super) pools: PoolUse,
}

impl Others {
    pub(super) async fn look(change: &mut Change<'_>, rules: &Rules) -> Result<Self, Error> {
        let clients = sqlx::query(
            "SELECT client, sum(step.sessions) AS number FROM step JOIN job ON job.id = step.job
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
            pools: pools(change, &rules.pools).await?,
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

/// What running sessions hold of the pools. Where a site has none, nothing is looked up.
pub(super) async fn pools(change: &mut Change<'_>, sizes: &Pools) -> Result<PoolUse, Error> {
    let mut pools = PoolUse::new(sizes);
    if pools.is_empty() {
        return Ok(pools);
    }
    let rows = sqlx::query(
        "SELECT job.id, step.sessions,
            json_extract(job.outline, '$.steps[' || step.step || '].amounts') AS amounts
         FROM step JOIN job ON job.id = step.job WHERE step.running > 0",
    );
    for row in &rows.fetch_all(&mut **change).await.map_err(failed)? {
        let row = Reading::new(row, "id");
        pools.take(&row.json("amounts")?, row.number("sessions")?);
    }
    Ok(pools)
}

fn numbers(rows: &[sqlx::sqlite::SqliteRow]) -> Result<BTreeMap<String, u64>, Error> {
    rows.iter()
        .map(|row| {
            let row = Reading::new(row, "client");
            Ok((row.parsed("client")?, row.number("number")?))
        })
        .collect()
}
