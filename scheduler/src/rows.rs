//! Rows of the database to values and back. A row that does not read back is an error that names it.

use std::str::FromStr;

use safelight_policies::id::{Fence, ObjectId, SlotIndex, TaskId};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    Error,
    decide::Holder,
    ledger::{Anchor, AttemptEntry, AttemptState, JobEntry, JobState, Place},
};

/// A number as SQLite stores it.
pub(crate) fn stored(what: &'static str, value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(|_| Error::OutOfRange { what, value })
}

/// A deadline as SQLite stores it: one beyond its range is never reached.
pub(crate) fn deadline(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A value as JSON text.
pub(crate) fn text<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|source| Error::Encode { source })
}

/// A row that knows what to call itself when it does not read back.
pub(crate) struct Reading<'a> {
    row: &'a SqliteRow,
    key: &'static str,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(row: &'a SqliteRow, key: &'static str) -> Self {
        Self { row, key }
    }

    pub(crate) fn corrupt(&self, column: &'static str) -> Error {
        let row = self
            .row
            .try_get::<String, _>(self.key)
            .unwrap_or_else(|_| "a row".to_owned());
        Error::Corrupt { column, row }
    }

    pub(crate) fn integer(&self, column: &'static str) -> Result<Option<u64>, Error> {
        self.row
            .try_get::<Option<i64>, _>(column)
            .ok()
            .and_then(|value| value.map(u64::try_from).transpose().ok())
            .ok_or_else(|| self.corrupt(column))
    }

    pub(crate) fn number<T: TryFrom<u64>>(&self, column: &'static str) -> Result<T, Error> {
        self.integer(column)?
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| self.corrupt(column))
    }

    fn maybe_text(&self, column: &'static str) -> Result<Option<String>, Error> {
        self.row
            .try_get::<Option<String>, _>(column)
            .map_err(|_| self.corrupt(column))
    }

    pub(crate) fn maybe_parsed<T: FromStr>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, Error> {
        self.maybe_text(column)?
            .map(|text| text.parse().map_err(|_| self.corrupt(column)))
            .transpose()
    }

    pub(crate) fn parsed<T: FromStr>(&self, column: &'static str) -> Result<T, Error> {
        self.maybe_parsed(column)?
            .ok_or_else(|| self.corrupt(column))
    }

    pub(crate) fn maybe_json<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, Error> {
        self.maybe_text(column)?
            .map(|text| serde_json::from_str(&text).map_err(|_| self.corrupt(column)))
            .transpose()
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, Error> {
        self.maybe_json(column)?.ok_or_else(|| self.corrupt(column))
    }

    pub(crate) fn anchor(&self) -> Result<Option<Anchor>, Error> {
        let Some(records) = self.integer("audit_records")? else {
            return Ok(None);
        };
        let chain = self.bytes("audit_chain")?;
        Ok(Some(Anchor { records, chain }))
    }

    pub(crate) fn signed(&self, column: &'static str) -> Result<i64, Error> {
        self.row.try_get(column).map_err(|_| self.corrupt(column))
    }

    pub(crate) fn flag(&self, column: &'static str) -> Result<bool, Error> {
        self.number::<u8>(column).map(|value| value != 0)
    }

    /// A state by its word.
    pub(crate) fn maybe_word<T>(
        &self,
        column: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.maybe_text(column)?
            .map(|text| parse(&text).ok_or_else(|| self.corrupt(column)))
            .transpose()
    }

    pub(crate) fn word<T>(
        &self,
        column: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Error> {
        self.maybe_word(column, parse)?
            .ok_or_else(|| self.corrupt(column))
    }

    pub(crate) fn bytes<const N: usize>(&self, column: &'static str) -> Result<[u8; N], Error> {
        self.row
            .try_get::<Vec<u8>, _>(column)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| self.corrupt(column))
    }

    pub(crate) fn attempt_state(&self) -> Result<AttemptState, Error> {
        self.word("state", AttemptState::parse)
    }

    pub(crate) fn holder(&self) -> Result<Holder, Error> {
        Ok(Holder {
            session: self.parsed("session")?,
            attempt: self.number("attempt")?,
            fence: Fence(self.number("fence")?),
            state: self.attempt_state()?,
            lease_until: self.number("lease_until")?,
        })
    }

    pub(crate) fn job(&self) -> Result<JobEntry, Error> {
        let entry = JobEntry {
            outline: self.json("outline")?,
            envelope: self.parsed::<ObjectId>("envelope")?,
            state: self.word("state", JobState::parse)?,
            submitted_at: self.number("submitted_at")?,
            anchor: self.anchor()?,
        };
        if self.parsed("id").ok() != Some(entry.id()) {
            return Err(self.corrupt("id"));
        }
        Ok(entry)
    }

    pub(crate) fn task(&self) -> Result<TaskId, Error> {
        Ok(TaskId {
            step: self.number("step")?,
            task: self.number("task")?,
        })
    }

    pub(crate) fn place(&self) -> Result<Place, Error> {
        Ok(Place {
            node: self.parsed("node")?,
            slot: SlotIndex(self.number("slot")?),
        })
    }

    pub(crate) fn attempt(&self) -> Result<AttemptEntry, Error> {
        Ok(AttemptEntry {
            task: self.task()?,
            tasks: self.number("tasks")?,
            attempt: self.number("attempt")?,
            fence: Fence(self.number("fence")?),
            session: self.parsed("session")?,
            place: self.place()?,
            leased_at: self.number("leased_at")?,
            lease_until: self.number("lease_until")?,
            state: self.attempt_state()?,
            ended_at: self.integer("ended_at")?,
            cause: self.maybe_json("cause")?,
            result: self.maybe_parsed("result")?,
            anchor: self.anchor()?,
        })
    }
}
