//! Walking over all logs of a job: one after another where the order says nothing, by time where people read.
//!
//! A log that cannot be trusted is walked up to where it can, and the others are walked all the same. Of a large log that is whole, only
//! what is asked about is read.

use std::collections::BTreeMap;

use safelight_policies::id::JobId;

use super::{Group, Log, Logs, Name, OpenedRecord, Span};
use crate::failure::{Failure, Kind};

/// Which records are wanted. What is wrong with a record is always wanted.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Those of this time.
    pub(crate) span: Span,
    /// And of these kinds: asked of what records of one kind have in common, which is no time, no number, and of a verdict not its reason.
    pub(crate) keep: &'a dyn Fn(&OpenedRecord) -> bool,
    /// And of each log those after the record with this number.
    pub(crate) after: &'a dyn Fn(Name) -> u64,
}

impl Wanted<'static> {
    /// Every record.
    pub(crate) const ALL: Self = Self {
        span: Span {
            since: None,
            until: None,
        },
        keep: &|_| true,
        after: &|_| 0,
    };
}

impl Wanted<'_> {
    fn wants(&self, record: &OpenedRecord) -> bool {
        record.seq > (self.after)(record.log)
            && (record.what.is_wrong() || (self.span.holds(record.at_ns) && (self.keep)(record)))
    }
}

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

    /// Shows the records of a log that are wanted. What `each` says ends the walk, and is told apart from what the log says.
    fn wanted(
        &mut self,
        logs: &Logs<'_>,
        log: &Log,
        wanted: Wanted<'_>,
        each: &mut impl FnMut(OpenedRecord) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Some(index) = logs.index(log) else {
            return self.log(logs, log, &mut |record| match wanted.wants(&record) {
                true => each(record),
                false => Ok(()),
            });
        };
        let mut ended = None;
        let shown = |record| each(record).map_err(|failure| stop(&mut ended, failure));
        let found = index.select(wanted, || logs.bytes(log), shown);
        self.found(found, ended)
    }

    /// What the walk over a log by its index came to: who was shown the records may have ended it.
    fn found(&mut self, found: Result<(), Failure>, ended: Option<Failure>) -> Result<(), Failure> {
        match ended {
            Some(failure) => Err(failure),
            None => {
                self.broken.extend(found.err());
                Ok(())
            }
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

/// How many records each of the large logs has.
pub(crate) fn ends(logs: &Logs<'_>) -> BTreeMap<Name, u64> {
    let indexes = logs.iter().filter_map(|log| logs.index(log));
    indexes.map(|index| index.end()).collect()
}

/// Notes why a walk is ended; answers what ends it.
fn stop(ended: &mut Option<Failure>, failure: Failure) -> Failure {
    *ended = Some(failure);
    Failure::new(Kind::Internal, "a walk was ended")
}

/// Shows all records of some time to `each`, those of one kind together where the log is large: what happened how often.
pub(crate) fn grouped(
    logs: &Logs<'_>,
    span: Span,
    mut each: impl FnMut(&Group) -> Result<(), Failure>,
) -> Result<Walked, Failure> {
    let mut walked = Walked::new(logs);
    for log in logs.iter() {
        match logs.index(log) {
            Some(index) => {
                let mut ended = None;
                let shown =
                    |group: &Group| each(group).map_err(|failure| stop(&mut ended, failure));
                let found = index.groups(span, || logs.bytes(log), shown);
                walked.found(found, ended)?;
            }
            None => walked.log(logs, log, &mut |record| {
                let shown = record.what.is_wrong() || span.holds(record.at_ns);
                if shown { each(&record.into()) } else { Ok(()) }
            })?,
        }
    }
    Ok(walked)
}

/// Shows the records that are wanted to `each`, by time, then by log. A log's own order holds, whatever its clock did. With several logs
/// everything that is wanted is in memory.
pub(crate) fn in_order(
    logs: &Logs<'_>,
    wanted: Wanted<'_>,
    mut each: impl FnMut(OpenedRecord) -> Result<(), Failure>,
) -> Result<Walked, Failure> {
    let mut walked = Walked::new(logs);
    if let (Some(only), 1) = (logs.iter().next(), logs.len()) {
        walked.wanted(logs, only, wanted, &mut each)?;
        return Ok(walked);
    }
    let mut kept = Vec::new();
    for log in logs.iter() {
        let mut latest = 0;
        walked.wanted(logs, log, wanted, &mut |record| {
            latest = record.at_ns.max(latest);
            kept.push((latest, record));
            Ok(())
        })?;
    }
    // Stable, and the logs came in their order.
    kept.sort_by_key(|(at, _)| *at);
    kept.into_iter().try_for_each(|(_, record)| each(record))?;
    Ok(walked)
}
