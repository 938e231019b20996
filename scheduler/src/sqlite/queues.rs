//! Jobs into queues, through them and out of them.

use safelight_policies::{
    id::{ClientAlias, JobId, ObjectId, SiteName},
    outline::Outline,
};

use super::{
    SqliteLedger, add_job,
    counts::restate,
    moves::{self, Standing},
    read,
    statements::{Change, begin, failed, one, outline_of},
};
use crate::{
    Error, Event, JobState, Moved, Queue, QueueEntry, QueueRule, Report, Rules, StoryLine, Terms,
    queue::{self, key},
    rows::{Reading, stored, text},
    state::MoveRefusal,
};

/// A job that enters a queue for the first time.
pub(super) struct Arrival<'a> {
    outline: &'a Outline,
    envelope: ObjectId,
    terms: &'a Terms,
    into: (JobState, Queue, Event),
}

impl<'a> Arrival<'a> {
    /// By hot folder, to be rendered here.
    pub(super) fn received(outline: &'a Outline, envelope: ObjectId, terms: &'a Terms) -> Self {
        Self {
            outline,
            envelope,
            terms,
            into: (JobState::Waiting, Queue::Active, Event::Received),
        }
    }
}

/// Puts a job into its first queue.
pub(super) async fn arrive(
    change: &mut Change<'_>,
    arrival: &Arrival<'_>,
    rules: &Rules,
    now: u64,
) -> Result<(), Error> {
    let Arrival {
        outline,
        envelope,
        terms,
        into: (state, queue, event),
    } = arrival;
    add_job(change, outline, *envelope, *state, now).await?;
    let query = sqlx::query(
        "UPDATE job SET farm = 1, paused = ?, queue = ?, queue_key = ?, terms = ? WHERE id = ?",
    )
    // Where it is submitted it may be let go; where it is sent to, it was.
    .bind(outline.wishes.held && *queue == Queue::New)
    .bind(queue.as_str())
    .bind(key(now, outline.priority, rules.priority_step))
    .bind(text(terms)?)
    .bind(outline.job.to_string());
    one(change, query).await?;
    moves::tell(change, outline.job, None, *state, event, now).await?;
    restate(change, outline, rules, now).await
}

impl SqliteLedger {
    /// Puts a job into the new queue, at home. An id is good for one job, for ever.
    pub async fn submit(
        &self,
        outline: &Outline,
        envelope: ObjectId,
        terms: &Terms,
        now: u64,
    ) -> Result<(), Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let arrival = Arrival {
            outline,
            envelope,
            terms,
            into: (JobState::New, Queue::New, Event::Submitted),
        };
        arrive(&mut change, &arrival, &self.rules, now).await?;
        change.commit().await.map_err(failed)
    }

    /// Puts a job that came by hot folder, and was verified, into the active queue. An id is good for one job, for ever.
    pub async fn receive(
        &self,
        outline: &Outline,
        envelope: ObjectId,
        terms: &Terms,
        now: u64,
    ) -> Result<(), Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let arrival = Arrival::received(outline, envelope, terms);
        arrive(&mut change, &arrival, &self.rules, now).await?;
        change.commit().await.map_err(failed)
    }

    /// Reports what happened to a job. Reporting it again changes nothing.
    pub async fn report(&self, job: JobId, report: Report, now: u64) -> Result<Moved, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let standing = moves::standing(&mut change, job).await?;
        if report == Report::Published && standing.state == JobState::Outsourced {
            let rule = rule_of(&mut change, Queue::Outsourced).await?;
            if let Some(reason) = keeps_home(&mut change, &standing, rule).await? {
                return Ok(Moved::Refused { reason });
            }
        }
        let moved = moves::enact(&mut change, &standing, &report.into(), now).await?;
        change.commit().await.map_err(failed)?;
        Ok(moved)
    }

    /// The job whose bundle may leave next: the first of the outsourced queue that is not passed over, while fewer are under way than may
    /// be. `pass` is told the job and the site that it was placed at.
    pub async fn to_publish(
        &self,
        now: u64,
        pass: impl Fn(JobId, Option<&SiteName>) -> bool,
    ) -> Result<Option<JobId>, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let rows = sqlx::query(
            "SELECT id, site FROM job WHERE queue = 'outsourced' AND state = 'outsourced' AND paused = 0
             AND expires > ? ORDER BY queue_key, rowid",
        )
        .bind(stored("time", now)?)
        .fetch_all(&mut *change)
        .await
        .map_err(failed)?;
        for row in &rows {
            let row = Reading::new(row, "id");
            let (job, site) = (row.parsed("id")?, row.maybe_parsed("site")?);
            if pass(job, site.as_ref()) {
                continue;
            }
            let standing = moves::standing(&mut change, job).await?;
            let rule = rule_of(&mut change, Queue::Outsourced).await?;
            let kept = keeps_home(&mut change, &standing, rule).await?;
            return Ok(kept.is_none().then_some(job));
        }
        Ok(None)
    }

    /// Holds a job, or lets it go on. What runs goes on.
    pub async fn pause(&self, job: JobId, paused: bool, now: u64) -> Result<Moved, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let standing = moves::standing(&mut change, job).await?;
        if standing.farm && standing.paused == paused {
            return Ok(Moved::Already);
        }
        let event = if paused {
            Event::Paused
        } else {
            Event::Resumed
        };
        let moved = moves::enact(&mut change, &standing, &event, now).await?;
        if let Moved::Done { .. } = moved {
            let query = sqlx::query("UPDATE job SET paused = ? WHERE id = ?")
                .bind(paused)
                .bind(job.to_string());
            one(&mut change, query).await?;
            change.commit().await.map_err(failed)?;
        }
        Ok(moved)
    }

    /// Lets a failed job's given-up tasks be tried again, as if they had not been.
    pub async fn retry(&self, job: JobId, now: u64) -> Result<Moved, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let standing = moves::standing(&mut change, job).await?;
        let outline = outline_of(&mut change, job).await?;
        let added = sqlx::query(
            "INSERT INTO again (job, step, task)
             WITH RECURSIVE place (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM place
                WHERE number + 1 < (SELECT max(tasks) FROM attempt WHERE job = ?1))
             SELECT own.job, own.step, own.task + number FROM attempt AS own
             JOIN place ON number < own.tasks
             WHERE own.job = ?1 AND own.state IN ('failed', 'superseded')
                AND NOT EXISTS (SELECT 1 FROM attempt AS later
                    WHERE later.job = own.job AND later.step = own.step
                        AND later.task = own.task + number AND later.fence > own.fence)
             ON CONFLICT DO NOTHING",
        )
        .bind(job.to_string())
        .execute(&mut *change)
        .await
        .map_err(failed)?;
        let event = Event::Retried {
            tasks: added.rows_affected(),
        };
        let moved = moves::enact(&mut change, &standing, &event, now).await?;
        if !matches!(moved, Moved::Done { .. }) {
            return Ok(moved);
        }
        for query in [
            "UPDATE step SET again = failed WHERE job = ?",
            "UPDATE job SET round = round + 1,
                forgiven = (SELECT max(fence) FROM attempt WHERE attempt.job = job.id) WHERE id = ?",
        ] {
            let done = sqlx::query(query).bind(job.to_string());
            done.execute(&mut *change).await.map_err(failed)?;
        }
        restate(&mut change, &outline, &self.rules, now).await?;
        change.commit().await.map_err(failed)?;
        Ok(moved)
    }

    /// Pauses a queue, or sets how many of its jobs may be under way at once.
    pub async fn set_queue(&self, queue: Queue, rule: QueueRule) -> Result<(), Error> {
        let cap = rule.cap.map(|cap| stored("cap", cap)).transpose()?;
        let query = sqlx::query("UPDATE queue SET paused = ?, cap = ? WHERE name = ?")
            .bind(rule.paused)
            .bind(cap)
            .bind(queue.as_str());
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        one(&mut change, query).await?;
        change.commit().await.map_err(failed)
    }

    /// What is set for a queue.
    pub async fn queue_rule(&self, queue: Queue) -> Result<QueueRule, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        rule_of(&mut change, queue).await
    }

    /// Sets how many sessions a client may have at once; `None` as the site has it.
    pub async fn set_client_cap(
        &self,
        client: &ClientAlias,
        cap: Option<u64>,
    ) -> Result<(), Error> {
        let query = match cap {
            Some(cap) => sqlx::query(
                "INSERT INTO client (alias, cap) VALUES (?, ?)
                 ON CONFLICT (alias) DO UPDATE SET cap = excluded.cap",
            )
            .bind(client.to_string())
            .bind(stored("cap", cap)?),
            None => sqlx::query("DELETE FROM client WHERE alias = ?").bind(client.to_string()),
        };
        let mut connection = self.connection.lock().await;
        query.execute(&mut *connection).await.map_err(failed)?;
        Ok(())
    }

    /// A queue's jobs, in its order.
    pub async fn queue(&self, queue: Queue) -> Result<Vec<QueueEntry>, Error> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query(
            "SELECT id, state, priority, paused, submitted_at,
                row_number() OVER (ORDER BY queue_key, rowid) AS position
             FROM job WHERE queue = ? ORDER BY queue_key, rowid",
        )
        .bind(queue.as_str())
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
        read(&rows, "id", |row| {
            Ok(QueueEntry {
                position: row.number("position")?,
                job: row.parsed("id")?,
                state: row.word("state", JobState::parse)?,
                priority: row.number("priority")?,
                paused: row.flag("paused")?,
                submitted_at: row.number("submitted_at")?,
            })
        })
    }

    /// The story of a job, from its beginning.
    pub async fn story(&self, job: JobId) -> Result<Vec<StoryLine>, Error> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query("SELECT * FROM story WHERE job = ? ORDER BY number")
            .bind(job.to_string())
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        read(&rows, "job", story_line)
    }

    /// Lines of all jobs' stories after a number, at most `limit`: for those who watch.
    pub async fn story_after(&self, number: u64, limit: u32) -> Result<Vec<StoryLine>, Error> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query("SELECT * FROM story WHERE number > ? ORDER BY number LIMIT ?")
            .bind(stored("number", number)?)
            .bind(i64::from(limit))
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        read(&rows, "job", story_line)
    }
}

fn story_line(row: &Reading<'_>) -> Result<StoryLine, Error> {
    Ok(StoryLine {
        number: row.number("number")?,
        job: row.parsed("job")?,
        from: row.maybe_word("from_state", JobState::parse)?,
        to: row.word("to_state", JobState::parse)?,
        event: row.json("event")?,
        at: row.number("at")?,
    })
}

pub(super) async fn rule_of(change: &mut Change<'_>, queue: Queue) -> Result<QueueRule, Error> {
    let row = sqlx::query("SELECT name, paused, cap FROM queue WHERE name = ?")
        .bind(queue.as_str())
        .fetch_one(&mut **change)
        .await
        .map_err(failed)?;
    let row = Reading::new(&row, "name");
    Ok(QueueRule {
        paused: row.flag("paused")?,
        cap: row.integer("cap")?,
    })
}

/// What keeps the bundle of an outsourced job at home.
async fn keeps_home(
    change: &mut Change<'_>,
    job: &Standing,
    rule: QueueRule,
) -> Result<Option<MoveRefusal>, Error> {
    let rows = sqlx::query(
        "SELECT id, state, count(*) AS jobs FROM job WHERE queue = 'outsourced' GROUP BY state",
    )
    .fetch_all(&mut **change)
    .await
    .map_err(failed)?;
    let mut flying = 0u64;
    for row in &rows {
        let row = Reading::new(row, "id");
        if queue::in_flight(row.word("state", JobState::parse)?) {
            flying = flying.saturating_add(row.number("jobs")?);
        }
    }
    Ok(queue::may_leave(job.paused, rule, flying).err())
}
