//! How a job does on each node: what it failed there by its own fault, and where it has results from.
//!
//! Counted when a session ends, and looked up once in a transaction of leases. Both are forgotten when the job is over, so that it begins
//! anew when it is let go on.

use std::collections::BTreeMap;

use safelight_policies::{cause::Cause, id::JobId, id::NodeName, outline::StepOutline};

use super::{
    finish::Held,
    moves::Standing,
    nodes,
    statements::{Change, failed},
};
use crate::{
    Error, Rules, SlotEntry, Unavailable,
    pools::Pools,
    retry::{self, Fault},
    rows::{Reading, stored},
    shun::{self, Failing},
};

/// True if an end by this fault may be due to how the job and the node go together.
pub(super) fn counts(fault: Fault) -> bool {
    matches!(fault, Fault::Task | Fault::Apart)
}

/// Notes that a session failed by its job's fault. A task that failed on two nodes is itself the reason: no node is held to be it.
pub(super) async fn add(
    change: &mut Change<'_>,
    held: &Held,
    standing: &Standing,
) -> Result<(), Error> {
    let query = if failed_elsewhere(change, held, standing).await? {
        sqlx::query("DELETE FROM strike WHERE job = ? AND step = ? AND task = ? AND node <> ?")
    } else {
        sqlx::query(
            "INSERT INTO strike (job, step, task, node, failures) VALUES (?, ?, ?, ?, 1)
             ON CONFLICT DO UPDATE SET failures = failures + 1",
        )
    };
    let query = query
        .bind(held.job.to_string())
        .bind(i64::from(held.task.step))
        .bind(stored("task", held.task.task)?)
        .bind(held.node.to_string());
    query.execute(&mut **change).await.map(drop).map_err(failed)
}

async fn failed_elsewhere(
    change: &mut Change<'_>,
    held: &Held,
    standing: &Standing,
) -> Result<bool, Error> {
    let rows = sqlx::query(
        "SELECT session, cause FROM attempt
         WHERE job = ? AND step = ? AND task = ? AND tasks = 1 AND state = 'failed'
            AND cause IS NOT NULL AND node <> ? AND fence > ?",
    )
    .bind(held.job.to_string())
    .bind(i64::from(held.task.step))
    .bind(stored("task", held.task.task)?)
    .bind(held.node.to_string())
    .bind(stored("fence", standing.forgiven)?)
    .fetch_all(&mut **change)
    .await
    .map_err(failed)?;
    for row in &rows {
        let cause: Cause = Reading::new(row, "session").json("cause")?;
        if counts(retry::fault(&cause)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Notes a result: the job works on this node, whatever it failed there before.
pub(super) async fn clear(change: &mut Change<'_>, held: &Held) -> Result<(), Error> {
    for query in [
        "DELETE FROM strike WHERE job = ? AND node = ?",
        "INSERT INTO worked (job, node) VALUES (?, ?) ON CONFLICT DO NOTHING",
    ] {
        let done = sqlx::query(query)
            .bind(held.job.to_string())
            .bind(held.node.to_string());
        done.execute(&mut **change).await.map_err(failed)?;
    }
    Ok(())
}

/// The nodes that jobs are kept from, as one transaction knows them.
pub(super) struct Shun {
    failing: BTreeMap<JobId, Failing>,
    /// Slots of nodes that are up: looked up when a job meets a node that it failed on, and not before.
    up: Option<Vec<SlotEntry>>,
}

impl Shun {
    /// Looks up what all jobs failed, in one statement; the table is empty while nothing fails.
    pub(super) async fn look(change: &mut Change<'_>, rules: &Rules) -> Result<Self, Error> {
        let mut failing: BTreeMap<JobId, Failing> = BTreeMap::new();
        if rules.job_faults > 0 {
            let rows = sqlx::query(
                "SELECT job, node, sum(failures) AS failures FROM strike GROUP BY job, node
                 HAVING sum(failures) >= ? AND EXISTS (SELECT 1 FROM worked
                    WHERE worked.job = strike.job AND worked.node <> strike.node)",
            )
            .bind(i64::from(rules.job_faults));
            for row in &rows.fetch_all(&mut **change).await.map_err(failed)? {
                let row = Reading::new(row, "job");
                let of = failing.entry(row.parsed("job")?).or_default();
                of.insert(row.parsed("node")?, row.number("failures")?);
            }
        }
        Ok(Self { failing, up: None })
    }

    /// Makes ready to be asked of a job and a node.
    pub(super) async fn prepare(
        &mut self,
        change: &mut Change<'_>,
        (job, node): (JobId, &NodeName),
        (rules, now): (&Rules, u64),
    ) -> Result<(), Error> {
        let of = self.failing.get(&job);
        if self.up.is_none() && of.is_some_and(|of| of.contains_key(node)) {
            self.up = Some(nodes::slots(change, rules, now).await?);
        }
        Ok(())
    }

    /// As [`shun::keeps_from`], with the slots that were looked up.
    pub(super) fn keeps(
        &self,
        job: JobId,
        node: &NodeName,
        needs: (&StepOutline, &Pools),
    ) -> Option<u64> {
        self.among(job, node, needs, self.up.as_deref()?)
    }

    /// As [`shun::keeps_from`], with slots that the caller has.
    pub(super) fn among(
        &self,
        job: JobId,
        node: &NodeName,
        needs: (&StepOutline, &Pools),
        slots: &[SlotEntry],
    ) -> Option<u64> {
        let up = |it: &&SlotEntry| matches!(it.unavailable, None | Some(Unavailable::Busy { .. }));
        let up = slots.iter().filter(up).map(|it| (&it.place.node, &it.spec));
        shun::keeps_from(self.failing.get(&job)?, node, needs, up)
    }
}
