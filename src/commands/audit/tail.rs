//! `safelight audit tail`: the last records, and those that come.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use clap::Args;

use super::{
    asked::{Asked, Narrow},
    form::{Form, Records},
    sentence::sentence,
};
use crate::{
    failure::{Failure, Kind},
    opened::OpenedJob,
    records::{self, Line, Name, OpenedRecord, Wanted},
    terminal::print,
};

/// How often it is looked whether something came.
const LOOK: Duration = Duration::from_millis(500);

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    about: Narrow,
    /// How many of the last records of each job
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    lines: usize,
    /// Go on and show what comes, until interrupted; the records of a node's session come when it ends
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    form: Form,
}

pub(super) fn run(arguments: &TailArgs) -> Result<(), Failure> {
    let asked = Asked::open(&arguments.about)?;
    let mut sheet = arguments.form.records()?;
    let (mut failures, mut shown) = (Vec::new(), 0);
    let mut seen = BTreeMap::new();
    for (number, opened) in asked.jobs().iter().enumerate() {
        let mut last = VecDeque::new();
        let logs = asked.logs(opened)?;
        let ends = records::ends(&logs);
        seen.extend(ends.iter().map(|(name, end)| ((number, *name), *end)));
        let few = arguments.lines as u64;
        let wanted = Wanted {
            span: asked.filter.span(),
            keep: &|record| asked.filter.keeps_kind(record),
            // Where every record is shown, the last of each log are enough.
            after: &|name| match ends.get(&name) {
                Some(end) if asked.filter.is_none() => end.saturating_sub(few),
                _ => 0,
            },
        };
        let walked = records::in_order(&logs, wanted, |record| {
            note(&mut seen, number, &record);
            if arguments.lines > 0 {
                if last.len() == arguments.lines {
                    last.pop_front();
                }
                last.push_back(record);
            }
            Ok(())
        })?;
        shown += last.len() as u64;
        for record in last {
            show(&asked, opened, &record, &mut sheet)?;
        }
        failures.extend(walked.right().err());
    }
    asked.conclude(super::asked::Found::new(shown, failures), "no such record")?;
    if arguments.follow {
        follow(&asked, seen, &mut sheet)?;
    }
    Ok(())
}

/// The number of the last record of each log, by job.
type Seen = BTreeMap<(usize, Name), u64>;

/// Notes that a record was seen; answers whether it is new.
fn note(seen: &mut Seen, job: usize, record: &OpenedRecord) -> bool {
    let last = seen.entry((job, record.log)).or_insert(0);
    // A notice has the number of the record that it is about.
    let is_new = record.seq > *last || (record.seq == *last && record.what.is_wrong());
    *last = record.seq.max(*last);
    is_new
}

fn follow(asked: &Asked, mut seen: Seen, sheet: &mut Option<Records>) -> Result<(), Failure> {
    loop {
        std::thread::sleep(LOOK);
        for (number, opened) in asked.jobs().iter().enumerate() {
            let before = seen.clone();
            let new = Wanted {
                after: &|log| before.get(&(number, log)).copied().unwrap_or(0),
                ..Wanted::ALL
            };
            let walked = records::in_order(&asked.logs(opened)?, new, |record| {
                note(&mut seen, number, &record);
                match asked.filter.keeps(&record) {
                    true => show(asked, opened, &record, sheet),
                    false => Ok(()),
                }
            })?;
            // A record that is being written right now is whole at the next look.
            walked.whole().or_else(|failure| match failure.kind() {
                Kind::Denied => Err(failure),
                _ => Ok(()),
            })?;
        }
    }
}

fn show(
    asked: &Asked,
    opened: &OpenedJob,
    record: &OpenedRecord,
    sheet: &mut Option<Records>,
) -> Result<(), Failure> {
    match sheet {
        Some(sheet) => sheet.put(&asked.of(opened, Line::of(record))),
        None => print(sentence(record, asked.names().tasks)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::samples::*;

    #[test]
    fn a_record_is_new_once() {
        let mut seen = Seen::new();
        let mut record = read("/c/a");
        record.seq = 3;
        assert!(note(&mut seen, 0, &record));
        assert!(!note(&mut seen, 0, &record));
        assert!(note(&mut seen, 1, &record), "another job's");
        record.seq = 2;
        assert!(!note(&mut seen, 0, &record));
        record.seq = 4;
        assert!(note(&mut seen, 0, &record));
    }
}
