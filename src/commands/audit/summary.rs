//! `safelight audit summary`: jobs in numbers.

use std::collections::BTreeSet;

use safelight_policies::{event::Control, id::SessionId};

use super::{
    AuditArgs,
    asked::Asked,
    form::{Row, ToRow},
};
use crate::{
    failure::Failure,
    opened::OpenedJob,
    records::{self, Group, Line, Paths, Summary, What, utc_of_ns},
    terminal::{bytes, print, shown},
};

/// What is counted of a job besides its paths.
#[derive(Debug, Default)]
struct Counts {
    records: u64,
    sessions: BTreeSet<SessionId>,
    programs: BTreeSet<String>,
    nodes: BTreeSet<String>,
    releases: u64,
    looks: u64,
    /// Numbers of sealed records that never arrived.
    lost: u64,
    times: Option<(u64, u64)>,
}

impl Counts {
    fn add(&mut self, group: &Group) {
        let record = &group.record;
        // A notice stands beside the record that it is about.
        if !matches!(record.what, What::OutOfTurn { .. }) {
            self.records += group.count;
        }
        let (first, last) = self.times.unwrap_or((record.at_ns, group.last_ns));
        self.times = Some((first.min(record.at_ns), last.max(group.last_ns)));
        if let Some(place) = &record.place {
            self.nodes.insert(place.node.to_string());
        }
        match &record.what {
            What::Control(Control::Started { session, .. }) => _ = self.sessions.insert(*session),
            What::Control(Control::KeyReleased { .. }) => self.releases += 1,
            What::Control(Control::DebugAccess { .. }) => self.looks += 1,
            What::Control(_) | What::Unreadable { .. } => {}
            What::Access { access, .. } => {
                if !access.comm.is_empty() && !self.programs.contains(&access.comm) {
                    self.programs.insert(access.comm.clone());
                }
            }
            What::OutOfTurn {
                index, expected, ..
            } => self.lost += index.saturating_sub(*expected),
        }
    }
}

/// A job summed up.
struct Summed {
    counts: Counts,
    paths: Summary,
}

pub(super) fn run(arguments: &AuditArgs) -> Result<(), Failure> {
    let asked = Asked::open(&arguments.about)?;
    let names = asked.names();
    let form = arguments.form;
    let mut sheet = form.sheet(Vec::new());
    let (mut failures, mut shown) = (Vec::new(), 0);
    for opened in asked.jobs() {
        let (mut counts, mut paths) = (Counts::default(), Paths::default());
        let walked = records::grouped(&asked.logs(opened)?, asked.filter.span(), |group| {
            if asked.filter.keeps_kind(&group.record) {
                counts.add(group);
                paths.add_group(group);
            }
            Ok(())
        })?;
        let summed = Summed {
            counts,
            paths: Summary::of(&paths),
        };
        shown += 1;
        if form.json || form.csv {
            sheet.row(&names.of(opened.job(), &summed))?;
        } else {
            summed.print(opened)?;
        }
        failures.extend(walked.right().err());
    }
    sheet.end()?;
    asked.conclude(super::asked::Found::new(shown, failures), "no job")
}

impl Summed {
    fn print(&self, opened: &OpenedJob) -> Result<(), Failure> {
        let (counts, paths) = (&self.counts, &self.paths);
        let (first, last) = counts.times.unwrap_or_default();
        print(opened.job())?;
        let row = |name: &str, value: String| print(format!("  {name:<12}{value}"));
        row("client", opened.envelope.outline.client.to_string())?;
        row(
            "when",
            format!("{} to {}", utc_of_ns(first), utc_of_ns(last)),
        )?;
        row(
            "sessions",
            format!("{} on {}", counts.sessions.len(), words(&counts.nodes)),
        )?;
        row("programs", words(&counts.programs))?;
        row("paths", paths.to_string())?;
        row("served", bytes(paths.bytes_read))?;
        row("taken", bytes(paths.bytes_written))?;
        row("keys", format!("released {} times", counts.releases))?;
        row("looks", format!("{} from outside", counts.looks))?;
        row(
            "events",
            format!("{}, {} lost", counts.records, counts.lost),
        )
    }
}

/// At most a few of them.
fn words(all: &BTreeSet<String>) -> String {
    let some: Vec<_> = all
        .iter()
        .take(8)
        .map(|word| shown(word.as_bytes()))
        .collect();
    match (some.len(), all.len() - some.len()) {
        (0, _) => "-".to_owned(),
        (_, 0) => some.join(", "),
        (_, more) => format!("{} and {more} more", some.join(", ")),
    }
}

impl ToRow for Summed {
    fn to_row(&self, _: bool) -> Row {
        let (counts, paths) = (&self.counts, &self.paths);
        let (first, last) = counts.times.unwrap_or_default();
        let line = Line::default()
            .with("first", utc_of_ns(first))
            .with("last", utc_of_ns(last))
            .with("sessions", counts.sessions.len())
            .with("nodes", Vec::from_iter(counts.nodes.iter().cloned()))
            .with("programs", Vec::from_iter(counts.programs.iter().cloned()))
            .with("read", paths.read)
            .with("written", paths.written)
            .with("removed", paths.removed)
            .with("denied", paths.denied)
            .with("missing", paths.missing)
            .with("failed", paths.failed)
            .with("not_authentic", paths.not_authentic)
            .with("bytes_read", paths.bytes_read)
            .with("bytes_written", paths.bytes_written)
            .with("key_releases", counts.releases)
            .with("debug_accesses", counts.looks)
            .with("events", counts.records)
            .with("events_lost", counts.lost)
            .with("wrong_records", paths.wrong_records);
        Row {
            cells: Vec::new(),
            line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::samples::*;

    #[test]
    fn a_gap_is_counted_as_lost_and_a_notice_is_no_event() {
        let mut counts = Counts::default();
        for record in [read("/c/a"), read("/c/b"), out_of_turn(), unreadable()] {
            counts.add(&record.into());
        }
        // Number 4 stands where number 2 belongs.
        assert_eq!((counts.records, counts.lost), (3, 2));
        assert_eq!(words(&counts.programs), "povray");
        let mut whole = Counts::default();
        controls()
            .into_iter()
            .for_each(|it| whole.add(&control(it).into()));
        assert_eq!((whole.releases, whole.looks, whole.lost), (1, 1, 0));
        assert_eq!(whole.sessions.len(), 1);
    }
}
