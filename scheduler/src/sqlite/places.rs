//! Placing the jobs of the new queue: here or there.

use safelight_policies::id::{JobId, SiteName};

use super::{
    SqliteLedger,
    counts::restate,
    moves, nodes,
    queues::rule_of,
    statements::{Change, begin, failed, one, outline_of},
};
use crate::{
    ClientProfile, Error, Event, JobState, Moved, Placement, Queue,
    placement::{self, Target},
    rows::{Reading, text},
    state::MoveRefusal,
};

impl SqliteLedger {
    /// Places a job of the new queue, by what it and its client want and by what stands here. `open` are the sites that take jobs now.
    ///
    /// The decision is kept, also if it is none, so that `why` can tell it.
    pub async fn place(
        &self,
        job: JobId,
        profile: &ClientProfile,
        open: Vec<SiteName>,
        now: u64,
    ) -> Result<(Placement, Moved), Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let standing = moves::standing(&mut change, job).await?;
        let outline = outline_of(&mut change, job).await?;
        let slots = nodes::slots(&mut change, &self.rules, now).await?;
        let offers = slots
            .iter()
            .map(|slot| (&slot.spec, slot.unavailable.is_none()));
        let waiting = waiting_before(&mut change, standing.queue_key).await?;
        let load = placement::load((&outline, &self.rules.pools), offers, waiting, open);
        let placement = placement::decide(&outline, &standing.terms.wanted, profile, &load);
        let rule = rule_of(&mut change, Queue::New).await?;
        if standing.state == JobState::New && (standing.paused || rule.paused) {
            let reason = MoveRefusal::Paused;
            return Ok((placement, Moved::Refused { reason }));
        }
        let reasons = placement.reasons.clone();
        let (event, site) = match &placement.target {
            Target::Here => (Event::PlacedHere { reasons }, None),
            Target::There(site) => {
                let to = site.clone();
                (
                    Event::PlacedThere { site: to, reasons },
                    Some(site.to_string()),
                )
            }
            Target::Nowhere => {
                keep(&mut change, job, &placement, None).await?;
                change.commit().await.map_err(failed)?;
                return Ok((placement, Moved::Already));
            }
        };
        let moved = moves::enact(&mut change, &standing, &event, now).await?;
        if let Moved::Done { .. } = moved {
            keep(&mut change, job, &placement, site).await?;
            restate(&mut change, &outline, &self.rules, now).await?;
            change.commit().await.map_err(failed)?;
        }
        Ok((placement, moved))
    }

    /// Where a job was placed, and why; `None` before.
    pub async fn placement(&self, job: JobId) -> Result<Option<Placement>, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        placement_of(&mut change, job).await
    }
}

pub(super) async fn placement_of(
    change: &mut Change<'_>,
    job: JobId,
) -> Result<Option<Placement>, Error> {
    let row = sqlx::query("SELECT id, placement FROM job WHERE id = ?")
        .bind(job.to_string())
        .fetch_optional(&mut **change)
        .await
        .map_err(failed)?;
    let row = row.ok_or_else(|| super::statements::no_such_job(job))?;
    Reading::new(&row, "id").maybe_json("placement")
}

async fn keep(
    change: &mut Change<'_>,
    job: JobId,
    placement: &Placement,
    site: Option<String>,
) -> Result<(), Error> {
    let query = sqlx::query("UPDATE job SET placement = ?, site = ? WHERE id = ?")
        .bind(text(placement)?)
        .bind(site)
        .bind(job.to_string());
    one(change, query).await
}

/// Tasks of the active queue that wait before a job with this key.
async fn waiting_before(change: &mut Change<'_>, key: i64) -> Result<u64, Error> {
    let row = sqlx::query(
        "SELECT 'active' AS queue, coalesce(sum(step.tasks - step.fresh + step.again), 0) AS waiting
         FROM job JOIN step ON step.job = job.id WHERE job.queue = 'active' AND job.queue_key <= ?",
    )
    .bind(key)
    .fetch_one(&mut **change)
    .await
    .map_err(failed)?;
    Reading::new(&row, "queue").number("waiting")
}
