//! The resource database: nodes come, are heard of, are drained and go; slots are what they registered.

use safelight_policies::{
    cause::Cause,
    id::{JobId, NodeName, SessionId, VerifyKey},
};

use super::{
    SqliteLedger, finish, read, reap,
    statements::{Change, begin, failed, one},
};
use crate::{
    AttemptState, Error, Holding, JobState, NodeEntry, NodeSpec, NodeState, Pulse, Rules,
    SlotEntry,
    node::{self, NodeEvent, SLOTS_MAX},
    rows::{Reading, deadline, stored, text},
};

impl SqliteLedger {
    /// A node begins, holding nothing: what it held by the ledger is lost. A name keeps its first key.
    pub async fn register_node(&self, spec: &NodeSpec, now: u64) -> Result<(), Error> {
        bounded("slots", spec.slots.len())?;
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let known = entry(&mut change, &spec.name).await?;
        if known.as_ref().is_some_and(|known| known.key != spec.key) {
            let node = spec.name.clone();
            return Err(Error::NodeKey { node });
        }
        reap::lose_sessions_of(&mut change, &spec.name, &self.rules, now).await?;
        let (state, drained) = known.map_or((NodeState::Up, false), |known| {
            node::follow(known.state, known.drained, NodeEvent::Registered)
        });
        let query = sqlx::query(
            "INSERT INTO node (name, key, state, drained, heard_at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (name) DO UPDATE SET
                state = excluded.state, drained = excluded.drained, heard_at = excluded.heard_at",
        )
        .bind(spec.name.to_string())
        .bind(spec.key.0.to_vec())
        .bind(state.as_str())
        .bind(drained)
        .bind(stored("time", now)?);
        one(&mut change, query).await?;
        let gone = sqlx::query("DELETE FROM slot WHERE node = ?").bind(spec.name.to_string());
        gone.execute(&mut *change).await.map_err(failed)?;
        for (slot, index) in spec.slots.iter().zip(0i64..) {
            let query = sqlx::query("INSERT INTO slot (node, slot, spec) VALUES (?, ?, ?)")
                .bind(spec.name.to_string())
                .bind(index)
                .bind(text(slot)?);
            one(&mut change, query).await?;
        }
        change.commit().await.map_err(failed)
    }

    /// A node is alive and holds these sessions: their leases are extended to `now + ttl`, but not those of canceled jobs. The answer says
    /// what it must end. A node that is not known, or said goodbye, holds nothing and must register.
    pub async fn heartbeat(
        &self,
        node: &NodeName,
        held: &[Holding],
        now: u64,
        ttl: u64,
    ) -> Result<Pulse, Error> {
        bounded("sessions", held.len())?;
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let known = entry(&mut change, node).await?;
        let Some(known) = known.filter(|known| known.state != NodeState::Down) else {
            let lost = held.iter().map(|holding| holding.session).collect();
            return Ok(Pulse {
                lost,
                ..Pulse::default()
            });
        };
        set(&mut change, &known, NodeEvent::Heard).await?;
        let heard = sqlx::query("UPDATE node SET heard_at = ? WHERE name = ?")
            .bind(stored("time", now)?)
            .bind(node.to_string());
        one(&mut change, heard).await?;
        let mut pulse = Pulse::default();
        for holding in held {
            let until = now.saturating_add(ttl);
            match beat(&mut change, node, *holding, until).await? {
                Beat::Held => {}
                Beat::Lost => pulse.lost.push(holding.session),
                Beat::Canceled => pulse.cancel.push(holding.session),
            }
        }
        change.commit().await.map_err(failed)?;
        Ok(pulse)
    }

    /// Lets a node end what it has and take nothing new, until it is resumed.
    pub async fn drain_node(&self, node: &NodeName) -> Result<NodeState, Error> {
        self.happens(node, NodeEvent::Drained).await
    }

    /// Lets a node take work again, its faults forgotten.
    pub async fn resume_node(&self, node: &NodeName) -> Result<NodeState, Error> {
        self.happens(node, NodeEvent::Resumed).await
    }

    async fn happens(&self, node: &NodeName, event: NodeEvent) -> Result<NodeState, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let known = known(&mut change, node).await?;
        let state = set(&mut change, &known, event).await?;
        if event == NodeEvent::Resumed {
            praise(&mut change, node).await?;
        }
        change.commit().await.map_err(failed)?;
        Ok(state)
    }

    /// A node says goodbye: what it held by the ledger is lost.
    pub async fn leave_node(&self, node: &NodeName, now: u64) -> Result<(), Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let known = known(&mut change, node).await?;
        set(&mut change, &known, NodeEvent::Left).await?;
        reap::lose_sessions_of(&mut change, node, &self.rules, now).await?;
        change.commit().await.map_err(failed)
    }

    /// Forgets a node and its key. What it held by the ledger is lost.
    pub async fn forget_node(&self, node: &NodeName, now: u64) -> Result<(), Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        known(&mut change, node).await?;
        reap::lose_sessions_of(&mut change, node, &self.rules, now).await?;
        for query in [
            "DELETE FROM slot WHERE node = ?",
            "DELETE FROM node WHERE name = ?",
        ] {
            let gone = sqlx::query(query).bind(node.to_string());
            gone.execute(&mut *change).await.map_err(failed)?;
        }
        change.commit().await.map_err(failed)
    }

    /// True if a session of this job runs on this node.
    pub async fn works_for(&self, node: &NodeName, job: JobId) -> Result<bool, Error> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query(
            "SELECT session FROM attempt
             WHERE node = ? AND state = 'running' AND booked = 1 AND job = ? LIMIT 1",
        )
        .bind(node.to_string())
        .bind(job.to_string())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
        Ok(row.is_some())
    }

    /// All nodes, by name.
    pub async fn nodes(&self) -> Result<Vec<NodeEntry>, Error> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query("SELECT * FROM node ORDER BY name")
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        read(&rows, "name", node_entry)
    }

    /// All slots, what they take now and what runs in them, by node and number.
    pub async fn slots(&self, now: u64) -> Result<Vec<SlotEntry>, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        slots(&mut change, &self.rules, now).await
    }
}

fn bounded(what: &'static str, count: usize) -> Result<(), Error> {
    match count {
        0..=SLOTS_MAX => Ok(()),
        _ => Err(Error::OutOfRange {
            what,
            value: count as u64,
        }),
    }
}

fn node_entry(row: &Reading<'_>) -> Result<NodeEntry, Error> {
    Ok(NodeEntry {
        name: row.parsed("name")?,
        key: VerifyKey(row.bytes("key")?),
        state: row.word("state", NodeState::parse)?,
        drained: row.flag("drained")?,
        heard_at: row.number("heard_at")?,
        faults: row.number("faults")?,
    })
}

pub(super) async fn entry(
    change: &mut Change<'_>,
    node: &NodeName,
) -> Result<Option<NodeEntry>, Error> {
    sqlx::query("SELECT * FROM node WHERE name = ?")
        .bind(node.to_string())
        .fetch_optional(&mut **change)
        .await
        .map_err(failed)?
        .map(|row| node_entry(&Reading::new(&row, "name")))
        .transpose()
}

async fn known(change: &mut Change<'_>, node: &NodeName) -> Result<NodeEntry, Error> {
    let entry = entry(change, node).await?;
    entry.ok_or_else(|| Error::NoSuchNode { node: node.clone() })
}

/// Lets an event happen to a node: where it stands then.
pub(super) async fn set(
    change: &mut Change<'_>,
    known: &NodeEntry,
    event: NodeEvent,
) -> Result<NodeState, Error> {
    let (state, drained) = node::follow(known.state, known.drained, event);
    if (state, drained) != (known.state, known.drained) {
        let query = sqlx::query("UPDATE node SET state = ?, drained = ? WHERE name = ?")
            .bind(state.as_str())
            .bind(drained)
            .bind(known.name.to_string());
        one(change, query).await?;
    }
    Ok(state)
}

/// All slots with what runs in them.
pub(super) async fn slots(
    change: &mut Change<'_>,
    rules: &Rules,
    now: u64,
) -> Result<Vec<SlotEntry>, Error> {
    let rows = sqlx::query(
        "SELECT node.*, slot.node, slot.slot, slot.spec, attempt.job, attempt.session
         FROM slot JOIN node ON node.name = slot.node
         LEFT JOIN attempt ON attempt.node = slot.node AND attempt.slot = slot.slot
            AND attempt.state = 'running' AND attempt.booked = 1
         ORDER BY slot.node, slot.slot",
    )
    .fetch_all(&mut **change)
    .await
    .map_err(failed)?;
    read(&rows, "name", |row| {
        let session: Option<SessionId> = row.maybe_parsed("session")?;
        let held = node::availability(&node_entry(row)?, session, now, rules.fresh);
        Ok(SlotEntry {
            place: row.place()?,
            spec: row.json("spec")?,
            unavailable: held.err(),
            holds: row.maybe_parsed("job")?.zip(session),
        })
    })
}

enum Beat {
    Held,
    Lost,
    Canceled,
}

async fn beat(
    change: &mut Change<'_>,
    node: &NodeName,
    holding: Holding,
    until: u64,
) -> Result<Beat, Error> {
    let held = finish::find(change, holding.session).await?;
    let valid = held.filter(|held| {
        held.node == *node
            && held.booked
            && held.holder.fence == holding.fence
            && held.holder.state == AttemptState::Running
    });
    let Some(valid) = valid else {
        return Ok(Beat::Lost);
    };
    let job = super::moves::standing(change, valid.job).await?;
    if job.state == JobState::Canceled {
        return Ok(Beat::Canceled);
    }
    let renew = sqlx::query("UPDATE attempt SET lease_until = max(lease_until, ?) WHERE fence = ?")
        .bind(deadline(until))
        .bind(stored("fence", holding.fence.0)?);
    one(change, renew).await?;
    Ok(Beat::Held)
}

/// A node made a result: its faults are forgotten.
pub(super) async fn praise(change: &mut Change<'_>, node: &NodeName) -> Result<(), Error> {
    let query = sqlx::query("UPDATE node SET faults = 0 WHERE name = ? AND faults > 0")
        .bind(node.to_string());
    query.execute(&mut **change).await.map(drop).map_err(failed)
}

/// A node failed a task: one that only fails is drained before it has burned the queue.
pub(super) async fn blame(
    change: &mut Change<'_>,
    node: &NodeName,
    rules: &Rules,
) -> Result<(), Error> {
    let query =
        sqlx::query("UPDATE node SET faults = faults + 1 WHERE name = ?").bind(node.to_string());
    query.execute(&mut **change).await.map_err(failed)?;
    let Some(known) = entry(change, node).await? else {
        return Ok(());
    };
    if rules.node_faults > 0 && known.faults >= rules.node_faults {
        set(change, &known, NodeEvent::Drained).await?;
    }
    Ok(())
}

/// What a lost session is told.
pub(super) const GONE: Cause = Cause::NodeLost;
