//! `safelight audit who-read`: which job, task, node and program read a file, or who looked at it from outside.

use std::collections::BTreeMap;

use clap::Args;
use globset::GlobMatcher;
use safelight_audit::Source;
use safelight_policies::{
    event::{Access, Op, Verdict},
    id::{JobId, ObjectId, SessionId, TaskId},
};
use safelight_seal::manifest::{EntryKind, Manifest};

use super::{
    asked::{Asked, More},
    filter::{fits, glob},
    form::{Form, Row, ToRow},
    rows::task_cell,
};
use crate::{
    failure::Failure,
    jobs,
    opened::OpenedJob,
    records::{Group, Line, OpenedRecord, What, utc_of_ns},
    results::task_name,
    terminal::shown,
};

/// Arguments of `who-read`.
#[derive(Debug, Args)]
pub(crate) struct ReadersArgs {
    /// The file: a path as jobs spell it, with `*` within a part and `**` across parts; or the name of a sealed object
    #[arg(value_name = "PATH|OBJECT")]
    what: String,
    /// The job: its id, the beginning of it, `last`, or `all`
    #[arg(default_value = "all")]
    job: String,
    #[command(flatten)]
    more: More,
    #[command(flatten)]
    form: Form,
}

/// What is looked for.
enum Wanted {
    Path(GlobMatcher),
    Object(ObjectId),
}

/// Who reads: one process of one session, and one path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Reader {
    job: JobId,
    path: Vec<u8>,
    task: Option<TaskId>,
    session: SessionId,
    source: &'static str,
    pid: u32,
    comm: String,
}

/// What a reader read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Reading {
    opens: u64,
    bytes: u64,
    times: Option<(u64, u64)>,
    node: Option<String>,
}

pub(super) fn run(arguments: &ReadersArgs) -> Result<(), Failure> {
    let asked = Asked::of_job(&arguments.job, &arguments.more)?;
    let wanted = match arguments.what.parse() {
        Ok(object) => Wanted::Object(object),
        Err(_) => Wanted::Path(glob(&arguments.what)?),
    };
    let mut paths: BTreeMap<JobId, Vec<Vec<u8>>> = BTreeMap::new();
    if let Wanted::Object(object) = wanted {
        for opened in asked.jobs() {
            paths.insert(opened.job(), holders(&asked, opened, object)?);
        }
    }
    let meant = |job: JobId, path: &[u8]| match &wanted {
        Wanted::Path(glob) => fits(glob, path),
        Wanted::Object(_) => paths[&job].iter().any(|known| known == path),
    };
    let mut readers: BTreeMap<Reader, Reading> = BTreeMap::new();
    let walked = asked.groups(|opened, group| {
        let record = &group.record;
        if let What::Access { session, access } = &record.what
            && is_read(record)
            && asked.filter.keeps_kind(record)
            && meant(opened.job(), &access.path)
        {
            add(&mut readers, opened.job(), *session, access, group);
        }
        Ok(())
    })?;
    let names = asked.names();
    let mut sheet = arguments.form.sheet(names.head(head(names.tasks)));
    for (reader, reading) in &readers {
        sheet.row(&names.of(reader.job, &(reader, reading)))?;
    }
    asked.conclude(walked.shown(sheet.end()?), "nobody read it")
}

fn is_read(record: &OpenedRecord) -> bool {
    match &record.what {
        What::Access { access, .. } => {
            access.verdict == Verdict::Allowed && matches!(access.op, Op::OpenRead | Op::CloseRead)
        }
        _ => false,
    }
}

fn add(
    readers: &mut BTreeMap<Reader, Reading>,
    job: JobId,
    session: SessionId,
    access: &Access,
    group: &Group,
) {
    let record = &group.record;
    let reader = Reader {
        job,
        path: access.path.clone(),
        task: record.task,
        session,
        source: match record.source {
            Source::Debug => "debug",
            _ => "job",
        },
        pid: access.pid,
        comm: access.comm.clone(),
    };
    let reading = readers.entry(reader).or_default();
    if access.op == Op::OpenRead {
        reading.opens += group.count;
    }
    if access.op == Op::CloseRead {
        reading.bytes = reading.bytes.saturating_add(access.bytes);
    }
    let (first, last) = reading.times.unwrap_or((record.at_ns, group.last_ns));
    reading.times = Some((first.min(record.at_ns), last.max(group.last_ns)));
    reading.node = record.place.as_ref().map(|place| place.node.to_string());
}

/// The paths of a job whose file holds this object, as it was sent or as some attempt left it.
fn holders(asked: &Asked, opened: &OpenedJob, object: ObjectId) -> Result<Vec<Vec<u8>>, Failure> {
    let mut found = Vec::new();
    let mut look = |manifest: &Manifest| {
        for tree in &manifest.trees {
            for entry in &tree.entries {
                let EntryKind::File { segments, .. } = &entry.kind else {
                    continue;
                };
                if segments
                    .iter()
                    .any(|segment| segment.object == Some(object))
                {
                    let central = tree.path.as_str().as_bytes();
                    found.push([central, &entry.path].join(&b'/'));
                }
            }
        }
    };
    look(&opened.inputs()?);
    for left in jobs::all_left(&asked.state, opened.job())? {
        if left.manifest.is_some() {
            look(&opened.results(&left)?);
        }
    }
    Ok(found)
}

fn head(names_tasks: bool) -> Vec<&'static str> {
    let mut head = vec![
        "OPENS", "BYTES", "FIRST", "LAST", "NODE", "WHO", "PROGRAM", "PATH",
    ];
    if names_tasks {
        head.insert(4, "TASK");
    }
    head
}

impl ToRow for (&Reader, &Reading) {
    fn to_row(&self, names_tasks: bool) -> Row {
        let (reader, reading) = self;
        let (first, last) = reading.times.unwrap_or_default();
        let program = match reader.pid {
            0 => "kernel".to_owned(),
            pid => format!("{} {pid}", shown(reader.comm.as_bytes())),
        };
        let mut cells = vec![
            reading.opens.to_string(),
            reading.bytes.to_string(),
            utc_of_ns(first),
            utc_of_ns(last),
            reading.node.clone().unwrap_or_else(|| "-".to_owned()),
            reader.source.to_owned(),
            program,
            shown(&reader.path),
        ];
        if names_tasks {
            cells.insert(4, task_cell(reader.task));
        }
        let line = Line::default()
            .with_path(&reader.path)
            .with("who", reader.source)
            .with("task", reader.task.map(task_name))
            .with("session", reader.session.to_string())
            .with("node", reading.node.clone())
            .with("pid", reader.pid)
            .with("comm", reader.comm.as_str())
            .with("opens", reading.opens)
            .with("bytes", reading.bytes)
            .with("first", utc_of_ns(first))
            .with("last", utc_of_ns(last));
        Row { cells, line }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::samples::*;

    #[test]
    fn a_reader_is_a_process_of_a_session() {
        let job = JobId::from_random([0; 10]);
        let mut other = read("/c/a");
        access_of(&mut other).pid = 8;
        let mut person = read("/c/a");
        person.source = Source::Debug;
        let records = [
            read("/c/a"),
            read("/c/a"),
            closed(Op::CloseRead, "/c/a", 5),
            closed(Op::CloseRead, "/c/a", 6),
            other,
            person,
        ];
        let mut readers = BTreeMap::new();
        for record in records.iter().filter(|record| is_read(record)) {
            if let What::Access { session, access } = &record.what {
                add(&mut readers, job, *session, access, &record.clone().into());
            }
        }
        let rows: Vec<_> = readers
            .iter()
            .map(|pair| pair.to_row(false).cells.join(" "))
            .collect();
        let time = "1970-01-01T00:00:01Z";
        assert_eq!(
            rows,
            [
                format!("1 0 {time} {time} - debug povray 7 /c/a"),
                format!("2 11 {time} {time} - job povray 7 /c/a"),
                format!("1 0 {time} {time} - job povray 8 /c/a"),
            ]
        );
        for not_a_read in [
            denied("/c/a"),
            not_found("/c/a"),
            allowed(Op::OpenWrite, "/c/a"),
            unreadable(),
        ] {
            assert!(!is_read(&not_a_read));
        }
    }
}
