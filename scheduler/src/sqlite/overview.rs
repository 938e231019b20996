//! Where jobs stand, for those who look: one row and the counts of its steps for each.

use std::collections::BTreeMap;

use safelight_policies::id::{JobId, SiteName};
use sqlx::sqlite::SqliteRow;

use super::{
    SqliteLedger, counts,
    statements::{begin, failed, no_such_job},
};
use crate::{Error, JobEntry, Placement, Queue, progress::StepCount, rows::Reading};

/// Where a job stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// The job.
    pub job: JobEntry,
    /// It is or was in a queue.
    pub farm: bool,
    /// Its queue, until it is over.
    pub queue: Option<Queue>,
    /// Nothing of it begins until it is resumed.
    pub paused: bool,
    /// The other site that it was placed at.
    pub site: Option<SiteName>,
    /// Where it was placed, and why.
    pub placement: Option<Placement>,
    /// The counts of its steps. What another site renders is not counted here.
    pub steps: Vec<StepCount>,
}

impl SqliteLedger {
    /// Where a job stands.
    pub async fn overview(&self, job: JobId) -> Result<Overview, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let row = sqlx::query("SELECT * FROM job WHERE id = ?")
            .bind(job.to_string())
            .fetch_optional(&mut *change)
            .await
            .map_err(failed)?
            .ok_or_else(|| no_such_job(job))?;
        let steps = sqlx::query("SELECT * FROM step WHERE job = ? ORDER BY step")
            .bind(job.to_string())
            .fetch_all(&mut *change)
            .await
            .map_err(failed)?;
        overview(&row, &mut by_job(&steps)?)
    }

    /// Where all jobs stand, the newest first.
    pub async fn overviews(&self) -> Result<Vec<Overview>, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let rows = sqlx::query("SELECT * FROM job ORDER BY submitted_at DESC, rowid DESC")
            .fetch_all(&mut *change)
            .await
            .map_err(failed)?;
        let steps = sqlx::query("SELECT * FROM step ORDER BY job, step")
            .fetch_all(&mut *change)
            .await
            .map_err(failed)?;
        let mut steps = by_job(&steps)?;
        rows.iter().map(|row| overview(row, &mut steps)).collect()
    }
}

type Steps<'a> = BTreeMap<String, Vec<&'a SqliteRow>>;

fn by_job(rows: &[SqliteRow]) -> Result<Steps<'_>, Error> {
    let mut jobs = Steps::new();
    for row in rows {
        let job = Reading::new(row, "job").parsed("job")?;
        jobs.entry(job).or_default().push(row);
    }
    Ok(jobs)
}

fn overview(row: &SqliteRow, steps: &mut Steps<'_>) -> Result<Overview, Error> {
    let reading = Reading::new(row, "id");
    let job = reading.job()?;
    let rows = steps.remove(&job.id().to_string()).unwrap_or_default();
    Ok(Overview {
        farm: reading.flag("farm")?,
        queue: reading.maybe_word("queue", Queue::parse)?,
        paused: reading.flag("paused")?,
        site: reading.maybe_parsed("site")?,
        placement: reading.maybe_json("placement")?,
        steps: counts::of_rows(rows.into_iter(), job.outline.steps.len())?,
        job,
    })
}
