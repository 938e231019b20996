//! What suppliers are to be told: written in the same change as the final state, and kept until it was sent.

use super::{SqliteLedger, read, statements::failed};
use crate::{Error, JobState, Notice, rows::stored};

impl SqliteLedger {
    /// Notices that were not sent yet, the oldest first, at most `limit`.
    pub async fn notices(&self, limit: u32) -> Result<Vec<Notice>, Error> {
        self.notices_after(0, limit).await
    }

    /// The same, after a number.
    pub async fn notices_after(&self, number: u64, limit: u32) -> Result<Vec<Notice>, Error> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query(
            "SELECT * FROM notice WHERE sent_at IS NULL AND number > ? ORDER BY number LIMIT ?",
        )
        .bind(stored("number", number)?)
        .bind(i64::from(limit))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
        read(&rows, "job", |row| {
            Ok(Notice {
                number: row.number("number")?,
                job: row.parsed("job")?,
                state: row.word("state", JobState::parse)?,
                at: row.number("at")?,
            })
        })
    }

    /// Notes that a notice was sent. False if it was before: whoever is told so sends nothing.
    pub async fn notice_sent(&self, number: u64, now: u64) -> Result<bool, Error> {
        let query =
            sqlx::query("UPDATE notice SET sent_at = ? WHERE number = ? AND sent_at IS NULL")
                .bind(stored("time", now)?)
                .bind(stored("number", number)?);
        let mut connection = self.connection.lock().await;
        let done = query.execute(&mut *connection).await.map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }
}
