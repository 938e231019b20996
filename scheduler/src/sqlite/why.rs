//! Why a job does not run: everything that the same functions say by which leases are given.

use safelight_policies::{id::JobId, outline::Outline};

use super::{
    SqliteLedger,
    booking::Others,
    counts::counts,
    moves, nodes,
    places::placement_of,
    statements::{Change, begin, failed, outline_of},
    strikes::Shun,
};
use crate::{
    Error, Hold, JobState, Placement, Queue, SlotEntry, StepAnswer,
    matching::mismatches,
    pick::{self, Candidate, SlotAnswer},
    pools::PoolUse,
    progress::StepCount,
    rows::stored,
};

/// What stands between a job and a slot.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct WhyNot {
    /// Where the job stands.
    pub state: JobState,
    /// Its queue.
    pub queue: Option<Queue>,
    /// Its place in it, from one.
    pub position: Option<u64>,
    /// Where it was placed, and why.
    pub placement: Option<Placement>,
    /// What keeps it from a lease, whatever the slot. Empty with a fitting free slot: it is next, once those before it are served.
    pub holds: Vec<Hold>,
    /// Its steps that are not done.
    pub steps: Vec<StepAnswer>,
}

impl SqliteLedger {
    /// Why a job does not run, or does not run faster.
    pub async fn why(&self, job: JobId, now: u64) -> Result<WhyNot, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let standing = moves::standing(&mut change, job).await?;
        let outline = outline_of(&mut change, job).await?;
        let counts = counts(&mut change, &outline).await?;
        let others = Others::look(&mut change, &self.rules).await?;
        let held = others.to(&standing.client, &self.rules);
        let candidate = Candidate {
            outline: &outline,
            state: standing.state,
            queue: standing.queue,
            paused: standing.paused,
            counts: &counts,
            dead_max: standing.terms.dead_max(&self.rules),
        };
        let slots = nodes::slots(&mut change, &self.rules, now).await?;
        let shun = Shun::look(&mut change, &self.rules).await?;
        let mut steps = Vec::new();
        for (step, count) in (0u32..).zip(&counts) {
            if count.done < count.tasks {
                let kept_from = kept_from(&mut change, job, step, now).await?;
                steps.push(StepAnswer {
                    kept_from,
                    ..answer(&outline, &counts, step, (&slots, &others.pools, &shun))
                });
            }
        }
        Ok(WhyNot {
            state: standing.state,
            queue: standing.queue,
            position: moves::position(&mut change, job).await?,
            placement: placement_of(&mut change, job).await?,
            holds: pick::holds(&candidate, &held, now),
            steps,
        })
    }
}

fn answer(
    outline: &Outline,
    counts: &[StepCount],
    step: u32,
    (slots, pools, shun): (&[SlotEntry], &PoolUse, &Shun),
) -> StepAnswer {
    let hold = pick::step_hold(outline, counts, step as usize, pools);
    let needs = outline.steps.get(step as usize);
    let slots = slots.iter().filter_map(|slot| {
        let needs = (needs?, pools.sizes());
        Some(SlotAnswer {
            place: slot.place.clone(),
            unavailable: slot.unavailable,
            lacks: mismatches(&slot.spec, needs.1, needs.0),
            failed_here: shun.among(outline.job, &slot.place.node, needs, slots),
        })
    });
    StepAnswer {
        step,
        hold,
        slots: slots.collect(),
        kept_from: Vec::new(),
    }
}

/// Nodes from which a task of a step is kept.
async fn kept_from(
    change: &mut Change<'_>,
    job: JobId,
    step: u32,
    now: u64,
) -> Result<Vec<safelight_policies::id::NodeName>, Error> {
    let rows = sqlx::query(
        "SELECT DISTINCT avoid FROM again
         WHERE job = ? AND step = ? AND avoid IS NOT NULL AND avoid_until > ?
            AND EXISTS (SELECT 1 FROM node WHERE state = 'up' AND name <> avoid)
         ORDER BY avoid",
    )
    .bind(job.to_string())
    .bind(i64::from(step))
    .bind(stored("time", now)?)
    .fetch_all(&mut **change)
    .await
    .map_err(failed)?;
    super::read(&rows, "avoid", |row| row.parsed("avoid"))
}
