//! The ledger in one SQLite file; SQL is in this folder and nowhere else.
//!
//! Write-ahead log, `synchronous=FULL`: what was answered is on the disk. Each change is one `BEGIN IMMEDIATE` transaction, so that what
//! a decision has read is still so when its answer is written, whichever process asks. Two unique indexes say the two things that
//! must never be otherwise, whatever the code does: one running attempt and one result per task. A third says it of a slot: one
//! session.

mod backup;
mod booking;
mod counts;
mod finish;
mod mail;
mod moves;
mod next;
mod nodes;
mod notices;
mod order;
mod overview;
mod places;
mod queues;
mod reap;
mod schema;
mod statements;
mod strikes;
mod upgrade;
mod why;
mod wrangle;

pub use mail::{Errand, Received};
pub use next::{Ask, Given, Next};
pub use order::Turn;
pub use overview::Overview;
pub use reap::Reaped;
pub use why::WhyNot;
pub use wrangle::{Failures, LeftOf, Running, Usage};

use std::path::Path;

use safelight_policies::{
    cause::Cause,
    id::{Fence, JobId, ObjectId, SessionId, TaskId},
    outline::Outline,
};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteRow};
use tokio::sync::Mutex;

use crate::{
    Error,
    decide::{self, Tally},
    ledger::{
        Anchor, AttemptEntry, AttemptState, JobEntry, JobState, LeaseRefusal, Leased, Leasing,
        Place, Settlement,
    },
    rows::{Reading, deadline, stored, text},
    rules::Rules,
};
use counts::{Shift, counts, restate, shift};
use finish::{Ending, finish, held};
use statements::{
    Change, NewAttempt, anchor_of, begin, close, failed, give_one, keep_anchor, newest, note_cause,
    one, outline_of,
};

/// The ledger of one site, on one host. May be open in several processes at once.
pub struct SqliteLedger {
    connection: Mutex<SqliteConnection>,
    rules: Rules,
}

impl SqliteLedger {
    /// Opens the ledger, or makes it, for its owner only.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, Rules::default()).await
    }

    /// Opens the ledger with the site's own numbers.
    pub async fn open_with(path: &Path, rules: Rules) -> Result<Self, Error> {
        let connection = schema::open(path).await?;
        Ok(Self {
            connection: Mutex::new(connection),
            rules,
        })
    }

    /// The site's numbers.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Writes down a job whose envelope was verified, in no queue: its tasks are leased by name. An id is good for one job, for ever.
    pub async fn admit_job(
        &self,
        outline: &Outline,
        envelope: ObjectId,
        now: u64,
    ) -> Result<(), Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let state = decide::job_state(outline, Tally::default());
        add_job(&mut change, outline, envelope, state, now).await?;
        change.commit().await.map_err(failed)
    }

    /// Leases a task of a job that is in no queue to a session for `ttl` seconds. An earlier lease that ran out is superseded; one that did not refuses.
    pub async fn lease(
        &self,
        job: JobId,
        task: TaskId,
        session: SessionId,
        place: &Place,
        now: u64,
        ttl: u64,
    ) -> Result<Leasing, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let outline = outline_of(&mut change, job).await?;
        if !decide::has_task(&outline, task) {
            return Err(Error::NoSuchTask { job, task });
        }
        if moves::standing(&mut change, job).await?.farm {
            let reason = LeaseRefusal::Queued;
            return Ok(Leasing::Refused { reason });
        }
        let steps = counts(&mut change, &outline).await?;
        let done: Vec<u64> = steps.iter().map(|step| step.done).collect();
        let newest = newest(&mut change, job, task).await?;
        let grant = match decide::lease(&outline, task, &done, newest, now) {
            Ok(grant) => grant,
            Err(reason) => return Ok(Leasing::Refused { reason }),
        };
        if let Some(fence) = grant.supersedes {
            close(&mut change, fence, AttemptState::Superseded, now).await?;
            note_cause(&mut change, fence, &Cause::NodeLost).await?;
        }
        let repeats = newest.is_some() && grant.supersedes.is_none();
        let by = Shift {
            running: i64::from(grant.supersedes.is_none()),
            sessions: i64::from(grant.supersedes.is_none()),
            failed: -i64::from(repeats),
            ..Shift::default()
        };
        shift(&mut change, job, task, by).await?;
        let expires = now.saturating_add(ttl);
        let new = NewAttempt {
            job,
            step: task.step,
            task: task.task,
            tasks: 1,
            attempt: grant.attempt,
            session,
            node: place.node.clone(),
            slot: place.slot.0,
            booked: false,
        };
        let fence = give_one(&mut change, new, (now, expires)).await?;
        restate(&mut change, &outline, &self.rules, now).await?;
        change.commit().await.map_err(failed)?;
        Ok(Leasing::Leased(Leased {
            attempt: grant.attempt,
            fence,
            expires,
        }))
    }

    /// Extends a lease to `now + ttl`, if it is still the newest of its task.
    pub async fn renew(
        &self,
        session: SessionId,
        fence: Fence,
        now: u64,
        ttl: u64,
    ) -> Result<Settlement, Error> {
        let until = stored("time", now.saturating_add(ttl))?;
        let renew =
            sqlx::query("UPDATE attempt SET lease_until = max(lease_until, ?) WHERE fence = ?")
                .bind(until)
                .bind(stored("fence", fence.0)?);
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let held = held(&mut change, session).await?;
        if let Err(reason) = decide::settle(held.holder, fence, held.newest) {
            return Ok(Settlement::Refused { reason });
        }
        one(&mut change, renew).await?;
        change.commit().await.map_err(failed)?;
        Ok(Settlement::Accepted)
    }

    /// Makes an attempt's results those of its task: only for the newest fence, only while it runs, once. `anchor` is the state of the
    /// audit log, which must be on the disk before this is asked.
    pub async fn commit(
        &self,
        session: SessionId,
        fence: Fence,
        manifest: ObjectId,
        anchor: Option<Anchor>,
        now: u64,
    ) -> Result<Settlement, Error> {
        let ending = Ending::Result(manifest);
        self.settle(session, Some(fence), ending, anchor, now).await
    }

    /// Ends an attempt without a result. `anchor` is `None` only if the audit log itself was lost.
    pub async fn end(
        &self,
        session: SessionId,
        cause: &Cause,
        anchor: Option<Anchor>,
        now: u64,
    ) -> Result<Settlement, Error> {
        self.settle(session, None, Ending::Cause(cause), anchor, now)
            .await
    }

    async fn settle(
        &self,
        session: SessionId,
        shown: Option<Fence>,
        ending: Ending<'_>,
        anchor: Option<Anchor>,
        now: u64,
    ) -> Result<Settlement, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let held = held(&mut change, session).await?;
        let fence = shown.unwrap_or(held.holder.fence);
        let decided = match ending {
            Ending::Result(_) => {
                let job = moves::standing(&mut change, held.job).await?.state;
                decide::commit(held.holder, fence, held.newest, job)
            }
            Ending::Cause(_) => decide::settle(held.holder, fence, held.newest),
        };
        if let Err(reason) = decided {
            return Ok(Settlement::Refused { reason });
        }
        finish(&mut change, &held, ending, &self.rules, now).await?;
        if let Some(anchor) = anchor {
            let own = sqlx::query(
                "UPDATE attempt SET audit_records = ?, audit_chain = ? WHERE fence = ?",
            )
            .bind(stored("records", anchor.records)?)
            .bind(anchor.chain.to_vec())
            .bind(stored("fence", fence.0)?);
            one(&mut change, own).await?;
            keep_anchor(&mut change, held.job, anchor).await?;
        }
        let outline = outline_of(&mut change, held.job).await?;
        restate(&mut change, &outline, &self.rules, now).await?;
        change.commit().await.map_err(failed)?;
        Ok(Settlement::Accepted)
    }

    /// The attempt of a session, and its job.
    pub async fn attempt_of(
        &self,
        session: SessionId,
    ) -> Result<Option<(JobId, AttemptEntry)>, Error> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query("SELECT * FROM attempt WHERE session = ?")
            .bind(session.to_string())
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?;
        row.map(|row| {
            let reading = Reading::new(&row, "session");
            Ok((reading.parsed("job")?, reading.attempt()?))
        })
        .transpose()
    }

    /// The newest known state of a job's audit log.
    pub async fn anchor(&self, job: JobId) -> Result<Option<Anchor>, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = connection.begin().await.map_err(failed)?;
        anchor_of(&mut change, job).await
    }

    /// Notes a later state of a job's audit log. An earlier one than is known changes nothing.
    pub async fn set_anchor(&self, job: JobId, anchor: Anchor) -> Result<(), Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        keep_anchor(&mut change, job, anchor).await?;
        change.commit().await.map_err(failed)
    }

    /// The one job that `selector` means: `last`, an id, or the beginning of one with or without `job-`.
    pub async fn job(&self, selector: &str) -> Result<JobEntry, Error> {
        let given = || selector.to_owned();
        let rest = selector.strip_prefix("job-").unwrap_or(selector);
        if rest.is_empty()
            || rest.len() > 16
            || !rest
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        {
            return Err(Error::NotASelector { selector: given() });
        }
        let last = selector == "last";
        let query = if last {
            sqlx::query("SELECT * FROM job ORDER BY submitted_at DESC, rowid DESC LIMIT 1")
        } else {
            let prefix = format!("job-{rest}");
            // Half-open range: '~' sorts after every letter and digit of an id.
            sqlx::query("SELECT * FROM job WHERE id >= ? AND id < ? ORDER BY id LIMIT 2")
                .bind(prefix.clone())
                .bind(format!("{prefix}~"))
        };
        let mut connection = self.connection.lock().await;
        let rows = query.fetch_all(&mut *connection).await.map_err(failed)?;
        let mut jobs = read(&rows, "id", Reading::job)?.into_iter();
        match (jobs.next(), jobs.next()) {
            (Some(job), None) => Ok(job),
            (Some(first), Some(second)) => Err(Error::Ambiguous {
                selector: given(),
                first: first.id(),
                second: second.id(),
            }),
            (None, _) if last => Err(Error::NoJob),
            (None, _) => Err(Error::NoSuchJob { selector: given() }),
        }
    }

    /// All jobs, the newest first.
    pub async fn jobs(&self) -> Result<Vec<JobEntry>, Error> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query("SELECT * FROM job ORDER BY submitted_at DESC, rowid DESC")
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        read(&rows, "id", Reading::job)
    }

    /// Every session that holds a lease or let it run out, and where.
    pub async fn running(&self) -> Result<Vec<(SessionId, Place)>, Error> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query("SELECT * FROM attempt WHERE state = ?")
            .bind(AttemptState::Running.as_str())
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        let attempts = read(&rows, "session", Reading::attempt)?;
        Ok(attempts
            .into_iter()
            .map(|attempt| (attempt.session, attempt.place))
            .collect())
    }

    /// All attempts of a job, in the order in which they were leased.
    pub async fn attempts(&self, job: JobId) -> Result<Vec<AttemptEntry>, Error> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query("SELECT * FROM attempt WHERE job = ? ORDER BY fence")
            .bind(job.to_string())
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        read(&rows, "session", Reading::attempt)
    }
}

/// Writes down a job in no queue, none of whose tasks was given out.
async fn add_job(
    change: &mut Change<'_>,
    outline: &Outline,
    envelope: ObjectId,
    state: JobState,
    now: u64,
) -> Result<(), Error> {
    let done = sqlx::query(
        "INSERT INTO job (id, client, outline, envelope, state, submitted_at, priority, expires)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    )
    .bind(outline.job.to_string())
    .bind(outline.client.to_string())
    .bind(text(outline)?)
    .bind(envelope.to_string())
    .bind(state.as_str())
    .bind(stored("time", now)?)
    .bind(i64::from(outline.priority))
    .bind(deadline(outline.expires))
    .execute(&mut **change)
    .await
    .map_err(failed)?;
    if done.rows_affected() == 0 {
        return Err(Error::AlreadyAdmitted { job: outline.job });
    }
    counts::count_from_zero(change, outline).await
}

fn read<'a, T>(
    rows: &'a [SqliteRow],
    key: &'static str,
    one: impl Fn(&Reading<'a>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    rows.iter()
        .map(|row| one(&Reading::new(row, key)))
        .collect()
}
