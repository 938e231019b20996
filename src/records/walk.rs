//! Walking over all logs of a job: one after another where the order says nothing, by time where people read.
//!
//! A log that cannot be trusted is walked up to where it can, and the others are walked all the same.

use super::{Log, Logs, OpenedRecord};
use crate::failure::{Failure, Kind};
use safelight_policies::id::JobId;

/// What was wrong on the way.
pub(crate) struct Walked {
    job: JobId,
    wrong: u64,
    broken: Vec<Failure>,
}

impl Walked {
    fn new(logs: &Logs<'_>) -> Self {
        Self {
            job: logs.job(),
            wrong: 0,
            broken: Vec::new(),
        }
    }

    /// A failure if a log itself is not as it was written.
    pub(crate) fn whole(self) -> Result<(), Failure> {
        self.sound(false)
    }

    /// The same, and if a record is not.
    pub(crate) fn right(self) -> Result<(), Failure> {
        self.sound(true)
    }

    fn sound(mut self, records: bool) -> Result<(), Failure> {
        let job = self.job;
        let others = self.broken.len().saturating_sub(1);
        if let Some(first) = self.broken.drain(..).next() {
            return Err(match others {
                0 => first,
                others => first.hint(format!(
                    "{others} more logs are not whole either: safelight audit verify {job}"
                )),
            });
        }
        match self.wrong {
            wrong if records && wrong > 0 => {
                let message = format!("{wrong} records of {job} are not as they were written");
                let hint = format!("safelight audit verify {job}");
                Err(Failure::new(Kind::Denied, message).hint(hint))
            }
            _ => Ok(()),
        }
    }

    fn log(
        &mut self,
        logs: &Logs<'_>,
        log: &Log,
        each: &mut impl FnMut(OpenedRecord) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let records = match logs.records(log) {
            Ok(records) => records,
            Err(failure) => {
                self.broken.push(failure);
                return Ok(());
            }
        };
        for record in records {
            match record {
                Ok(record) => {
                    self.wrong += u64::from(record.what.is_wrong());
                    each(record)?;
                }
                Err(failure) => self.broken.push(failure),
            }
        }
        Ok(())
    }
}

/// Shows every record to `each`, one log after another: of one log at a time is anything in memory.
pub(crate) fn one_by_one(
    logs: &Logs<'_>,
    mut each: impl FnMut(OpenedRecord) -> Result<(), Failure>,
) -> Result<Walked, Failure> {
    let mut walked = Walked::new(logs);
    for log in logs.iter() {
        walked.log(logs, log, &mut each)?;
    }
    Ok(walked)
}

/// Shows the records that are kept to `each`, by time, then by log. A log's own order holds, whatever its clock did. With several logs
/// everything that is kept is in memory.
pub(crate) fn in_order(
    logs: &Logs<'_>,
    keep: impl Fn(&OpenedRecord) -> bool,
    mut each: impl FnMut(OpenedRecord) -> Result<(), Failure>,
) -> Result<Walked, Failure> {
    if logs.len() == 1 {
        return one_by_one(
            logs,
            |record| if keep(&record) { each(record) } else { Ok(()) },
        );
    }
    let mut kept = Vec::new();
    let mut walked = Walked::new(logs);
    for log in logs.iter() {
        let mut latest = 0;
        walked.log(logs, log, &mut |record| {
            latest = record.at_ns.max(latest);
            if keep(&record) {
                kept.push((latest, record));
            }
            Ok(())
        })?;
    }
    // Stable, and the logs came in their order.
    kept.sort_by_key(|(at, _)| *at);
    kept.into_iter().try_for_each(|(_, record)| each(record))?;
    Ok(walked)
}
