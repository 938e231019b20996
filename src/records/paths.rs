//! What a job did, path by path. Pure.
//!
//! A path is *read* or *written* when it was opened to, *changed* when it got a name or other attributes, *removed* when it lost its
//! name. It is *missing* when the job looked for it in vain and did not make it itself. Where a record names two paths, each gets its part.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use safelight_audit::Source;
use safelight_policies::{
    event::{Access, Op, Verdict},
    id::TaskId,
};
use serde::Serialize;

use super::{Group, OpenedRecord, What};

/// What was done with one path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// How often it was opened to read, or listed.
    pub(crate) reads: u64,
    /// Bytes that the view served.
    pub(crate) bytes_read: u64,
    /// How often it was opened to write.
    pub(crate) writes: u64,
    /// Bytes that the view took.
    pub(crate) bytes_written: u64,
    /// How often it was made, got this name, or got other attributes.
    pub(crate) changes: u64,
    /// How often it lost this name.
    pub(crate) removals: u64,
    /// How often something was refused.
    pub(crate) denials: u64,
    /// How often it was not found.
    pub(crate) misses: u64,
    /// How often something could not be done.
    pub(crate) failures: u64,
    /// How often its stored bytes did not verify.
    pub(crate) forgeries: u64,
    /// True if the job made it.
    pub(crate) made: bool,
    /// When it was first and last named, in nanoseconds since 1970.
    pub(crate) times: Option<(u64, u64)>,
    /// The programs that named it, by the names they give themselves.
    pub(crate) programs: BTreeSet<String>,
    /// The tasks that named it.
    pub(crate) tasks: BTreeSet<TaskId>,
}

impl Touched {
    /// True if anything was done with it.
    pub(crate) fn is_touched(&self) -> bool {
        self.is_read() || self.is_written() || self.removals > 0
    }

    /// True if the job looked for it in vain and did not make it.
    pub(crate) fn is_missing(&self) -> bool {
        self.misses > 0 && !self.made
    }

    fn is_read(&self) -> bool {
        self.reads > 0
    }

    fn is_written(&self) -> bool {
        self.writes > 0 || self.changes > 0
    }

    fn name(
        &mut self,
        Seen {
            times: (begin, end),
            task,
            access,
            ..
        }: Seen<'_>,
    ) -> &mut Self {
        self.tasks.extend(task);
        let (first, last) = self.times.unwrap_or((begin, end));
        self.times = Some((first.min(begin), last.max(end)));
        if !access.comm.is_empty() && !self.programs.contains(&access.comm) {
            self.programs.insert(access.comm.clone());
        }
        self
    }

    fn make(&mut self, count: u64) {
        self.changes += count;
        self.made = true;
    }
}

/// An access as one record tells it, or as many do.
#[derive(Clone, Copy)]
struct Seen<'a> {
    times: (u64, u64),
    count: u64,
    task: Option<TaskId>,
    access: &'a Access,
}

/// Every path that a job named, sorted.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    paths: BTreeMap<Vec<u8>, Touched>,
    /// Records that are not as the view server wrote them.
    pub(crate) wrong: u64,
}

impl Paths {
    /// Adds what a record tells of the job. Someone who looked in from outside is not the job.
    pub(crate) fn add(&mut self, record: &OpenedRecord) {
        self.add_all(record, (1, record.at_ns));
    }

    /// Adds what records of one kind tell: the first of them, how many there are, and when the last was written.
    pub(crate) fn add_group(&mut self, group: &Group) {
        self.add_all(&group.record, (group.count, group.last_ns));
    }

    fn add_all(&mut self, record: &OpenedRecord, (count, last_ns): (u64, u64)) {
        match &record.what {
            What::Access { .. } if record.source == Source::Debug => {}
            What::Access { access, .. } => self.access(Seen {
                times: (record.at_ns, last_ns),
                count,
                task: record.task,
                access,
            }),
            What::Control(_) => {}
            What::Unreadable { .. } | What::OutOfTurn { .. } => self.wrong += count,
        }
    }

    /// The paths and what was done with each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Touched)> {
        self.paths
            .iter()
            .map(|(path, touched)| (path.as_slice(), touched))
    }

    /// What was done with a path.
    pub(crate) fn get(&self, path: &[u8]) -> Option<&Touched> {
        self.paths.get(path)
    }

    fn access(&mut self, seen: Seen<'_>) {
        let access = seen.access;
        // The session's own command is the system's, not a file of the client's; and so is what it starts.
        if matches!(access.op, Op::Exec | Op::Program) {
            return;
        }
        if access.verdict == Verdict::Allowed {
            self.allowed(seen);
            return;
        }
        let path = self.at(&access.path, seen);
        match access.verdict {
            Verdict::Allowed => {}
            Verdict::Denied { .. } => path.denials += seen.count,
            Verdict::Missing => path.misses += seen.count,
            Verdict::NotAuthentic => path.forgeries += seen.count,
            Verdict::Failed { .. } => path.failures += seen.count,
        }
    }

    fn allowed(&mut self, seen: Seen<'_>) {
        let access = seen.access;
        let path = self.at(&access.path, seen);
        match access.op {
            Op::OpenRead | Op::List => path.reads += seen.count,
            Op::OpenWrite => path.writes += seen.count,
            Op::CloseRead => path.bytes_read = path.bytes_read.saturating_add(access.bytes),
            Op::CloseWrite => path.bytes_written = path.bytes_written.saturating_add(access.bytes),
            Op::Create | Op::Mkdir | Op::Symlink | Op::Mknod => path.make(seen.count),
            Op::Setattr | Op::Xattr => path.changes += seen.count,
            Op::Unlink | Op::Rmdir => path.removals += seen.count,
            Op::Rename => {
                path.removals += seen.count;
                self.second(seen);
            }
            Op::Link => self.second(seen),
            Op::Lookup | Op::Exec | Op::Program => {}
        }
    }

    /// The second path of a rename or a link is one that the job made.
    fn second(&mut self, seen: Seen<'_>) {
        if let Some(to) = &seen.access.to {
            self.at(to, seen).make(seen.count);
        }
    }

    fn at(&mut self, path: &[u8], seen: Seen<'_>) -> &mut Touched {
        self.paths.entry(path.to_vec()).or_default().name(seen)
    }
}

/// A job in numbers: distinct paths, and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    /// Paths that were read or listed.
    pub(crate) read: u64,
    /// Paths that were written, made or changed.
    pub(crate) written: u64,
    /// Paths that lost their name.
    pub(crate) removed: u64,
    /// Paths of which something was refused.
    pub(crate) denied: u64,
    /// Paths that were not found and not made.
    pub(crate) missing: u64,
    /// Paths with which something could not be done.
    pub(crate) failed: u64,
    /// Paths whose stored bytes did not verify.
    pub(crate) not_authentic: u64,
    /// Bytes that the view served.
    pub(crate) bytes_read: u64,
    /// Bytes that the view took.
    pub(crate) bytes_written: u64,
    /// Records that are not as the view server wrote them.
    pub(crate) wrong_records: u64,
}

/// Sums a job up.
pub(crate) fn summary(records: &[OpenedRecord]) -> Summary {
    let mut paths = Paths::default();
    records.iter().for_each(|record| paths.add(record));
    Summary::of(&paths)
}

impl Summary {
    /// Sums up what was done with each path.
    pub(crate) fn of(paths: &Paths) -> Self {
        let mut sum = Self {
            wrong_records: paths.wrong,
            ..Self::default()
        };
        for (_, touched) in paths.iter() {
            sum.read += u64::from(touched.is_read());
            sum.written += u64::from(touched.is_written());
            sum.removed += u64::from(touched.removals > 0);
            sum.denied += u64::from(touched.denials > 0);
            sum.missing += u64::from(touched.is_missing());
            sum.failed += u64::from(touched.failures > 0);
            sum.not_authentic += u64::from(touched.forgeries > 0);
            sum.bytes_read = sum.bytes_read.saturating_add(touched.bytes_read);
            sum.bytes_written = sum.bytes_written.saturating_add(touched.bytes_written);
        }
        sum
    }
}

/// `12 read, 1 written, 0 denied, 3 missing`, and whatever else there is.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            read,
            written,
            denied,
            missing,
            ..
        } = self;
        write!(
            f,
            "{read} read, {written} written, {denied} denied, {missing} missing"
        )?;
        for (count, what) in [
            (self.removed, "removed"),
            (self.not_authentic, "not authentic"),
            (self.wrong_records, "wrong records"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::*, *};

    fn of(records: &[OpenedRecord], path: &str) -> Touched {
        let mut paths = Paths::default();
        records.iter().for_each(|record| paths.add(record));
        let found = paths.iter().find(|(known, _)| *known == path.as_bytes());
        found
            .map(|(_, touched)| touched.clone())
            .unwrap_or_default()
    }

    #[test]
    fn a_job_is_summed_up_by_distinct_paths() {
        let records = [
            read("/c/a"),
            read("/c/a"),
            closed(Op::CloseRead, "/c/a", 10),
            closed(Op::CloseRead, "/c/a", 5),
            read("/c/b"),
            not_found("/c/x"),
            not_found("/c/x"),
            not_found("/c/out"),
            allowed(Op::Create, "/c/out"),
            allowed(Op::OpenWrite, "/c/out"),
            closed(Op::CloseWrite, "/c/out", 7),
            denied("/c/secret"),
        ];
        let sum = summary(&records);
        let expected = Summary {
            read: 2,
            written: 1,
            denied: 1,
            missing: 1,
            bytes_read: 15,
            bytes_written: 7,
            ..Summary::default()
        };
        assert_eq!(sum, expected);
        assert_eq!(sum.to_string(), "2 read, 1 written, 1 denied, 1 missing");
        assert_eq!(
            summary(&[]).to_string(),
            "0 read, 0 written, 0 denied, 0 missing"
        );
    }

    #[test]
    fn what_is_seldom_is_said_only_if_it_is_there() {
        let records = [
            allowed(Op::Unlink, "/c/a"),
            with(Op::OpenRead, "/c/b", Verdict::NotAuthentic),
            with(Op::OpenWrite, "/c/c", Verdict::Failed { errno: 28 }),
            unreadable(),
            out_of_turn(),
        ];
        let sum = summary(&records);
        assert_eq!(
            sum.to_string(),
            "0 read, 0 written, 0 denied, 0 missing, 1 removed, 1 not authentic, 2 wrong records"
        );
        assert_eq!(sum.failed, 1);
    }

    #[test]
    fn a_rename_takes_one_name_and_makes_another() {
        let records = [
            not_found("/c/final"),
            allowed(Op::Create, "/c/tmp"),
            renamed("/c/tmp", "/c/final"),
        ];
        let (old, new) = (of(&records, "/c/tmp"), of(&records, "/c/final"));
        assert_eq!((old.removals, old.changes), (1, 1));
        assert_eq!((new.removals, new.changes), (0, 1));
        assert!(!new.is_missing(), "the job made it");
        assert_eq!(summary(&records).missing, 0);
    }

    #[test]
    fn a_refused_rename_makes_nothing() {
        let refused = Verdict::Denied {
            rule: "x".to_owned(),
        };
        let mut record = renamed("/c/tmp", "/c/final");
        access_of(&mut record).verdict = refused;
        let records = [not_found("/c/final"), record];
        assert!(of(&records, "/c/final").is_missing());
        assert_eq!(of(&records, "/c/tmp").denials, 1);
        assert!(!of(&records, "/c/tmp").is_touched());
    }

    #[test]
    fn times_and_programs_are_gathered() {
        let mut later = read("/c/a");
        later.at_ns = 900;
        access_of(&mut later).comm = "oiiotool".to_owned();
        let mut kernel = read("/c/a");
        kernel.at_ns = 400;
        access_of(&mut kernel).comm = String::new();
        let touched = of(&[later, kernel], "/c/a");
        assert_eq!(touched.times, Some((400, 900)));
        assert_eq!(Vec::from_iter(touched.programs), ["oiiotool"]);
        assert_eq!(touched.reads, 2);
    }

    #[test]
    fn the_sessions_command_is_no_file() {
        assert_eq!(
            of(&[allowed(Op::Exec, "/usr/bin/x")], "/usr/bin/x"),
            Touched::default()
        );
    }
}
