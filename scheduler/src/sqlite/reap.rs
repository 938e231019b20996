//! What time ends: leases, nodes that fell silent, jobs whose time is over. Every chore is idempotent; whoever runs them may.

use std::collections::BTreeSet;

use safelight_policies::id::{JobId, NodeName, SessionId};
use sqlx::sqlite::SqliteRow;

use super::{
    SqliteLedger,
    counts::restate,
    finish::{Ending, finish, held},
    moves,
    nodes::{self, GONE},
    statements::{Change, begin, failed, outline_of},
};
use crate::{
    Error, Event, Moved, Rules,
    node::NodeEvent,
    rows::{Reading, stored},
};

/// What a look at the clock ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reaped {
    /// Sessions whose lease ran out.
    pub sessions: Vec<SessionId>,
    /// Nodes that fell silent.
    pub nodes: Vec<NodeName>,
    /// Jobs whose time was over.
    pub jobs: Vec<JobId>,
}

impl SqliteLedger {
    /// Ends what is over by the clock: leases that ran out (their tasks are tried elsewhere), nodes not heard of, jobs that expired.
    pub async fn expire(&self, now: u64) -> Result<Reaped, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let over = sqlx::query(
            "SELECT session FROM attempt WHERE state = 'running' AND booked = 1 AND lease_until <= ?
             ORDER BY fence",
        )
        .bind(stored("time", now)?)
        .fetch_all(&mut *change)
        .await
        .map_err(failed)?;
        let sessions = lose(&mut change, &over, &self.rules, now).await?;
        let nodes = silence(&mut change, &self.rules, now).await?;
        let jobs = expire_jobs(&mut change, now).await?;
        change.commit().await.map_err(failed)?;
        Ok(Reaped {
            sessions,
            nodes,
            jobs,
        })
    }
}

/// Ends every session that a node holds by the ledger.
pub(super) async fn lose_sessions_of(
    change: &mut Change<'_>,
    node: &NodeName,
    rules: &Rules,
    now: u64,
) -> Result<(), Error> {
    let held = sqlx::query(
        "SELECT session FROM attempt WHERE node = ? AND state = 'running' AND booked = 1
         ORDER BY fence",
    )
    .bind(node.to_string())
    .fetch_all(&mut **change)
    .await
    .map_err(failed)?;
    lose(change, &held, rules, now).await.map(drop)
}

async fn lose(
    change: &mut Change<'_>,
    rows: &[SqliteRow],
    rules: &Rules,
    now: u64,
) -> Result<Vec<SessionId>, Error> {
    let mut lost = Vec::with_capacity(rows.len());
    let mut jobs = BTreeSet::new();
    for row in rows {
        let session = Reading::new(row, "session").parsed("session")?;
        let held = held(change, session).await?;
        finish(change, &held, Ending::Cause(&GONE), rules, now).await?;
        jobs.insert(held.job);
        lost.push(session);
    }
    for job in jobs {
        let outline = outline_of(change, job).await?;
        restate(change, &outline, rules, now).await?;
    }
    Ok(lost)
}

async fn silence(change: &mut Change<'_>, rules: &Rules, now: u64) -> Result<Vec<NodeName>, Error> {
    let rows = sqlx::query(
        "SELECT name FROM node WHERE state IN ('up', 'draining') AND heard_at < ? ORDER BY name",
    )
    .bind(stored("time", now.saturating_sub(rules.fresh))?)
    .fetch_all(&mut **change)
    .await
    .map_err(failed)?;
    let mut silent = Vec::with_capacity(rows.len());
    for row in &rows {
        let name: NodeName = Reading::new(row, "name").parsed("name")?;
        if let Some(known) = nodes::entry(change, &name).await? {
            nodes::set(change, &known, NodeEvent::Silent).await?;
        }
        silent.push(name);
    }
    Ok(silent)
}

async fn expire_jobs(change: &mut Change<'_>, now: u64) -> Result<Vec<JobId>, Error> {
    let rows =
        sqlx::query("SELECT id FROM job WHERE queue IS NOT NULL AND expires <= ? ORDER BY id")
            .bind(stored("time", now)?)
            .fetch_all(&mut **change)
            .await
            .map_err(failed)?;
    let mut over = Vec::new();
    for row in &rows {
        let job = Reading::new(row, "id").parsed("id")?;
        let standing = moves::standing(change, job).await?;
        // What runs may end; what left is the other site's to end. The table of states says so.
        if let Moved::Done { .. } = moves::enact(change, &standing, &Event::Expired, now).await? {
            over.push(job);
        }
    }
    Ok(over)
}
