//! What the hot folders need remembered: letters that came and that go, prekeys of other sites, and errands of the site loop.
//!
//! A letter's row is kept with the job that it brought, both or neither. An errand is something that must be done once, and is done again
//! if nobody noted that it was done: whoever runs one makes that harmless.

use data_encoding::HEXLOWER;
use safelight_bundle::{Item, Numbers, window::Row as Seen};
use safelight_policies::{
    id::{JobId, ObjectId, VerifyKey},
    outline::Outline,
};
use sqlx::Row;

use super::{
    SqliteLedger,
    queues::{Arrival, arrive},
    read,
    statements::{Change, begin, failed, one},
};
use crate::{
    Error, Terms,
    rows::{Reading, stored, text},
};

/// An errand that is not done yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// When it was noted, in seconds since 1970.
    pub at: u64,
    /// What it is about: a session, a letter, a job.
    pub subject: String,
    /// The job.
    pub job: JobId,
}

/// A job that came with a letter.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Its outline.
    pub outline: &'a Outline,
    /// The envelope that announced it.
    pub envelope: ObjectId,
    /// Its terms.
    pub terms: &'a Terms,
}

fn hex(key: &VerifyKey) -> String {
    HEXLOWER.encode(&key.0)
}

async fn number(change: &mut Change<'_>, numbers: &Numbers) -> Result<(), Error> {
    let query = sqlx::query(
        "INSERT INTO letter_numbers (recipient, numbers) VALUES (?, ?)
         ON CONFLICT (recipient) DO UPDATE SET numbers = excluded.numbers",
    )
    .bind(hex(&numbers.to))
    .bind(text(numbers)?);
    one(change, query).await
}

async fn put(change: &mut Change<'_>, item: &Item) -> Result<(), Error> {
    let query = sqlx::query(
        "INSERT INTO letter_out (letter, item) VALUES (?, ?)
         ON CONFLICT (letter) DO UPDATE SET item = excluded.item",
    )
    .bind(item.of().to_string())
    .bind(text(item)?);
    one(change, query).await
}

impl SqliteLedger {
    /// Remembers a letter, and puts the job that it brought, if it brought one, into the active queue: both or neither.
    pub async fn keep_letter(
        &self,
        row: &Seen,
        received: Option<Received<'_>>,
        now: u64,
    ) -> Result<(), Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        if let Some(job) = received {
            let arrival = Arrival::received(job.outline, job.envelope, job.terms);
            arrive(&mut change, &arrival, &self.rules, now).await?;
        }
        let query = sqlx::query(
            "INSERT INTO letter_seen (sender, epoch, number, row) VALUES (?, ?, ?, ?)
             ON CONFLICT (sender, epoch, number) DO UPDATE SET row = excluded.row",
        )
        .bind(hex(&row.from))
        .bind(row.seq.epoch.to_string())
        .bind(stored("number", row.seq.number)?)
        .bind(text(row)?);
        one(&mut change, query).await?;
        change.commit().await.map_err(failed)
    }

    /// The letters that came from this sender, as they were kept.
    pub async fn letters_seen(&self, from: &VerifyKey) -> Result<Vec<Seen>, Error> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query("SELECT * FROM letter_seen WHERE sender = ? ORDER BY epoch, number")
            .bind(hex(from))
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        read(&rows, "sender", |row| row.json("row"))
    }

    /// Keeps a letter that goes, and the numbers of its recipient: both or neither.
    pub async fn store_letter(&self, numbers: &Numbers, item: &Item) -> Result<(), Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        number(&mut change, numbers).await?;
        put(&mut change, item).await?;
        change.commit().await.map_err(failed)
    }

    /// A letter is done.
    pub async fn remove_letter(&self, letter: ObjectId) -> Result<(), Error> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query("DELETE FROM letter_out WHERE letter = ?").bind(letter.to_string());
        query
            .execute(&mut *connection)
            .await
            .map(drop)
            .map_err(failed)
    }

    /// Keeps a letter in place of another, which goes, and the numbers of its recipient. Errands about the other are about the new one.
    pub async fn replace_letter(
        &self,
        old: ObjectId,
        numbers: &Numbers,
        item: &Item,
    ) -> Result<(), Error> {
        let (old, new) = (old.to_string(), item.of().to_string());
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        number(&mut change, numbers).await?;
        sqlx::query("DELETE FROM letter_out WHERE letter = ?")
            .bind(old.clone())
            .execute(&mut *change)
            .await
            .map_err(failed)?;
        put(&mut change, item).await?;
        sqlx::query("UPDATE errand SET subject = ? WHERE subject = ?")
            .bind(new)
            .bind(old)
            .execute(&mut *change)
            .await
            .map_err(failed)?;
        change.commit().await.map_err(failed)
    }

    /// Keeps what a letter is that is on its way, unless it is done by now.
    pub async fn change_letter(&self, item: &Item) -> Result<bool, Error> {
        let mut connection = self.connection.lock().await;
        sqlx::query("UPDATE letter_out SET item = ? WHERE letter = ?")
            .bind(text(item)?)
            .bind(item.of().to_string())
            .execute(&mut *connection)
            .await
            .map(|done| done.rows_affected() == 1)
            .map_err(failed)
    }

    /// Keeps the numbers of a recipient alone: a new run of them begins.
    pub async fn store_numbers(&self, numbers: &Numbers) -> Result<(), Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        number(&mut change, numbers).await?;
        change.commit().await.map_err(failed)
    }

    /// The letters on their way to this recipient, and its numbers.
    pub async fn letters_out(&self, to: &VerifyKey) -> Result<(Option<Numbers>, Vec<Item>), Error> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query("SELECT letter, item FROM letter_out")
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        let items: Vec<Item> = read(&rows, "letter", |row| row.json("item"))?;
        let row = sqlx::query("SELECT recipient, numbers FROM letter_numbers WHERE recipient = ?")
            .bind(hex(to))
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?;
        let numbers = row
            .map(|row| Reading::new(&row, "recipient").json("numbers"))
            .transpose()?;
        Ok((
            numbers,
            items.into_iter().filter(|item| item.to == *to).collect(),
        ))
    }

    /// Keeps prekeys of a site, by id. Those that are known stay as they are.
    pub async fn add_prekeys(
        &self,
        site: &VerifyKey,
        prekeys: &[([u8; 16], Vec<u8>)],
    ) -> Result<(), Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        for (id, signed) in prekeys {
            sqlx::query(
                "INSERT INTO prekey (site, id, signed) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            )
            .bind(hex(site))
            .bind(HEXLOWER.encode(id))
            .bind(signed.clone())
            .execute(&mut *change)
            .await
            .map_err(failed)?;
        }
        change.commit().await.map_err(failed)
    }

    /// A prekey of a site for a job: the one that it has, or an unused one, which is then its own for good. `None` if there is none left.
    pub async fn take_prekey(
        &self,
        site: &VerifyKey,
        job: JobId,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut connection = self.connection.lock().await;
        let mut change = begin(&mut connection).await?;
        let of = |filter: &'static str| sqlx::query(filter).bind(hex(site)).bind(job.to_string());
        let known = of("SELECT signed FROM prekey WHERE site = ? AND job = ?")
            .fetch_optional(&mut *change)
            .await
            .map_err(failed)?;
        let row = match known {
            Some(row) => Some(row),
            None => {
                of("UPDATE prekey SET job = ?2 WHERE number =
                 (SELECT min(number) FROM prekey WHERE site = ?1 AND job IS NULL) RETURNING signed")
                .fetch_optional(&mut *change)
                .await
                .map_err(failed)?
            }
        };
        let signed = row.map(|row| row.try_get("signed").map_err(failed));
        change.commit().await.map_err(failed)?;
        signed.transpose()
    }

    /// Forgets the unused prekeys of a site: in a copy from before, some of them were used since.
    pub async fn forget_prekeys(&self, site: &VerifyKey) -> Result<(), Error> {
        let mut connection = self.connection.lock().await;
        sqlx::query("DELETE FROM prekey WHERE site = ? AND job IS NULL")
            .bind(hex(site))
            .execute(&mut *connection)
            .await
            .map(drop)
            .map_err(failed)
    }

    /// How many prekeys of a site are unused.
    pub async fn prekeys_left(&self, site: &VerifyKey) -> Result<u64, Error> {
        let mut connection = self.connection.lock().await;
        let row =
            sqlx::query("SELECT count(*) AS count FROM prekey WHERE site = ? AND job IS NULL")
                .bind(hex(site))
                .fetch_one(&mut *connection)
                .await
                .map_err(failed)?;
        Reading::new(&row, "count").number("count")
    }

    /// Notes that something is to be done. Noting it again changes nothing, also if it was done.
    pub async fn add_errand(
        &self,
        kind: &str,
        subject: &str,
        job: JobId,
        now: u64,
    ) -> Result<(), Error> {
        let mut connection = self.connection.lock().await;
        sqlx::query(
            "INSERT INTO errand (kind, subject, job, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(kind.to_owned())
        .bind(subject.to_owned())
        .bind(job.to_string())
        .bind(stored("time", now)?)
        .execute(&mut *connection)
        .await
        .map(drop)
        .map_err(failed)
    }

    /// What is to be done of a kind, the oldest first, at most `limit`: after an errand, or from the beginning. Who goes on where it was
    /// comes to each of them, however many there are that cannot be done.
    pub async fn errands(
        &self,
        kind: &str,
        after: Option<&Errand>,
        limit: u32,
    ) -> Result<Vec<Errand>, Error> {
        let (at, subject) = match after {
            Some(errand) => (stored("time", errand.at)?, errand.subject.clone()),
            None => (i64::MIN, String::new()),
        };
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query(
            "SELECT subject, job, at FROM errand
             WHERE kind = ? AND done_at IS NULL AND (at, subject) > (?, ?)
             ORDER BY at, subject LIMIT ?",
        )
        .bind(kind.to_owned())
        .bind(at)
        .bind(subject)
        .bind(i64::from(limit))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
        read(&rows, "subject", |row| {
            Ok(Errand {
                at: row.number("at")?,
                subject: row.parsed("subject")?,
                job: row.parsed("job")?,
            })
        })
    }

    /// Notes that an errand was done; answers its job, or nothing if there is no such errand.
    pub async fn finish_errand(
        &self,
        kind: &str,
        subject: &str,
        now: u64,
    ) -> Result<Option<JobId>, Error> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query(
            "UPDATE errand SET done_at = coalesce(done_at, ?) WHERE kind = ? AND subject = ? RETURNING subject, job",
        )
        .bind(stored("time", now)?)
        .bind(kind.to_owned())
        .bind(subject.to_owned())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
        row.map(|row| Reading::new(&row, "subject").parsed("job"))
            .transpose()
    }

    /// How many errands of a kind a job has that are to be done, and how many it had in all.
    pub async fn errands_of(&self, job: JobId, kind: &str) -> Result<(u64, u64), Error> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query(
            "SELECT count(*) FILTER (WHERE done_at IS NULL) AS open, count(*) AS total FROM errand
             WHERE job = ? AND kind = ?",
        )
        .bind(job.to_string())
        .bind(kind.to_owned())
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
        let row = Reading::new(&row, "open");
        Ok((row.number("open")?, row.number("total")?))
    }
}
