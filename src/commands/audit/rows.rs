//! What `safelight audit` shows of a path and of a refusal. Pure. Everything of a job's is made harmless here.

use std::collections::BTreeSet;

use safelight_audit::Source;
use safelight_policies::{
    event::{Access, Verdict},
    id::TaskId,
};

use super::{
    filter::Filter,
    form::{Row, ToRow},
};
use crate::{
    records::{Line, OpenedRecord, Paths, Touched, What, action, utc_of_ns},
    results::task_name,
    terminal::shown,
};

/// Programs that are named in a cell; a job can call itself anything as often as it likes.
const PROGRAMS_SHOWN: usize = 4;

pub(super) fn task_cell(task: Option<TaskId>) -> String {
    task.map_or("-".to_owned(), task_name)
}

/// The tasks that named a path: the one, or how many.
fn tasks_cell(touched: &Touched) -> String {
    match touched.tasks.len() {
        0 | 1 => task_cell(touched.tasks.first().copied()),
        count => format!("{count} tasks"),
    }
}

fn with_tasks(line: Line, touched: &Touched, names_tasks: bool) -> Line {
    if !names_tasks {
        return line;
    }
    let only = touched.tasks.first().copied();
    let only = only.filter(|_| touched.tasks.len() == 1);
    line.with("tasks", touched.tasks.len())
        .with("task", only.map(task_name))
}

/// Columns with the one for tasks at its place, if that says something.
fn columns<T>(mut others: Vec<T>, at: usize, task: T, names_tasks: bool) -> Vec<T> {
    if names_tasks {
        others.insert(at, task);
    }
    others
}

pub(super) fn program(access: &Access) -> String {
    match access.pid {
        0 => "kernel".to_owned(),
        pid => format!("{} {pid}", shown(access.comm.as_bytes())),
    }
}

pub(super) fn programs(names: &BTreeSet<String>) -> String {
    let some: Vec<_> = names
        .iter()
        .take(PROGRAMS_SHOWN)
        .map(|name| shown(name.as_bytes()))
        .collect();
    match names.len() {
        0 => "-".to_owned(),
        count if count > PROGRAMS_SHOWN => {
            format!("{} and {} more", some.join(", "), count - PROGRAMS_SHOWN)
        }
        _ => some.join(", "),
    }
}

/// A path that was read, written, changed or removed.
pub(super) struct File<'a> {
    path: &'a [u8],
    touched: &'a Touched,
}

/// The rows of `audit files`, sorted by path.
pub(super) fn files<'a>(paths: &'a Paths, filter: &Filter) -> Vec<File<'a>> {
    paths
        .iter()
        .filter(|(path, touched)| touched.is_touched() && filter.shows(path))
        .map(|(path, touched)| File { path, touched })
        .collect()
}

impl ToRow for File<'_> {
    fn to_row(&self, names_tasks: bool) -> Row {
        Row {
            cells: self.cells(names_tasks),
            line: self.line(names_tasks),
        }
    }
}

impl ToRow for Missing<'_> {
    fn to_row(&self, names_tasks: bool) -> Row {
        Row {
            cells: self.cells(names_tasks),
            line: self.line(names_tasks),
        }
    }
}

impl File<'_> {
    pub(super) fn head(names_tasks: bool) -> Vec<&'static str> {
        let others = vec![
            "READS", "BYTES", "WRITES", "BYTES", "CHANGES", "FIRST", "LAST", "PROGRAMS", "PATH",
        ];
        columns(others, 7, "TASKS", names_tasks)
    }

    pub(super) fn cells(&self, names_tasks: bool) -> Vec<String> {
        let touched = self.touched;
        let (first, last) = self.times();
        let others = vec![
            touched.reads.to_string(),
            touched.bytes_read.to_string(),
            touched.writes.to_string(),
            touched.bytes_written.to_string(),
            touched.changes.saturating_add(touched.removals).to_string(),
            first,
            last,
            programs(&touched.programs),
            shown(self.path),
        ];
        columns(others, 7, tasks_cell(touched), names_tasks)
    }

    pub(super) fn line(&self, names_tasks: bool) -> Line {
        let touched = self.touched;
        let (first, last) = self.times();
        let line = Line::default()
            .with_path(self.path)
            .with("reads", touched.reads)
            .with("bytes_read", touched.bytes_read)
            .with("writes", touched.writes)
            .with("bytes_written", touched.bytes_written)
            .with("changes", touched.changes)
            .with("removals", touched.removals)
            .with("first", first)
            .with("last", last)
            .with("programs", Vec::from_iter(touched.programs.iter().cloned()));
        with_tasks(line, touched, names_tasks)
    }

    fn times(&self) -> (String, String) {
        let (first, last) = self.touched.times.unwrap_or_default();
        (utc_of_ns(first), utc_of_ns(last))
    }
}

/// A path that was not found.
pub(super) struct Missing<'a> {
    path: &'a [u8],
    touched: &'a Touched,
}

/// The rows of `audit missing`, sorted by path.
pub(super) fn missing<'a>(paths: &'a Paths, filter: &Filter) -> Vec<Missing<'a>> {
    paths
        .iter()
        .filter(|(path, touched)| touched.is_missing() && filter.shows(path))
        .map(|(path, touched)| Missing { path, touched })
        .collect()
}

impl Missing<'_> {
    pub(super) fn head(names_tasks: bool) -> Vec<&'static str> {
        columns(vec!["COUNT", "PROGRAMS", "PATH"], 1, "TASKS", names_tasks)
    }

    pub(super) fn cells(&self, names_tasks: bool) -> Vec<String> {
        let programs = programs(&self.touched.programs);
        let others = vec![self.touched.misses.to_string(), programs, shown(self.path)];
        columns(others, 1, tasks_cell(self.touched), names_tasks)
    }

    pub(super) fn line(&self, names_tasks: bool) -> Line {
        let programs = Vec::from_iter(self.touched.programs.iter().cloned());
        let line = Line::default()
            .with_path(self.path)
            .with("count", self.touched.misses)
            .with("programs", programs);
        with_tasks(line, self.touched, names_tasks)
    }
}

/// A refusal.
pub(super) struct Denial<'a> {
    at_ns: u64,
    task: Option<TaskId>,
    action: &'static str,
    access: &'a Access,
    rule: &'a str,
}

impl<'a> Denial<'a> {
    pub(super) fn head(names_tasks: bool) -> Vec<&'static str> {
        let others = vec!["TIME", "PROGRAM", "OPERATION", "RULE", "PATH"];
        columns(others, 1, "TASK", names_tasks)
    }

    /// What the policy refused the job; nobody else is refused anything.
    pub(super) fn of(record: &'a OpenedRecord) -> Option<Self> {
        let What::Access { access, .. } = &record.what else {
            return None;
        };
        let Verdict::Denied { rule } = &access.verdict else {
            return None;
        };
        (record.source != Source::Debug).then_some(Self {
            at_ns: record.at_ns,
            task: record.task,
            action: action(&record.what),
            access,
            rule,
        })
    }

    pub(super) fn cells(&self, names_tasks: bool) -> Vec<String> {
        let path = shown(&self.access.path);
        let others = vec![
            utc_of_ns(self.at_ns),
            program(self.access),
            self.action.to_owned(),
            shown(self.rule.as_bytes()),
            match &self.access.to {
                Some(to) => format!("{path} -> {}", shown(to)),
                None => path,
            },
        ];
        columns(others, 1, task_cell(self.task), names_tasks)
    }
}

#[cfg(test)]
mod tests {
    use safelight_policies::event::Op;

    use super::*;
    use crate::records::samples::*;

    #[test]
    fn files_are_the_paths_that_were_touched() {
        let paths = gathered(&[
            read("/c/a\x1b"),
            closed(Op::CloseRead, "/c/a\x1b", 5),
            not_found("/c/m"),
            denied("/c/d"),
            allowed(Op::Unlink, "/c/u"),
        ]);
        let rows = files(&paths, &Filter::default());
        let cells: Vec<_> = rows.iter().map(|row| row.cells(false)).collect();
        let time = "1970-01-01T00:00:01Z";
        assert_eq!(
            cells,
            [
                ["1", "5", "0", "0", "0", time, time, "povray", "/c/a\\u{1b}"],
                ["0", "0", "0", "0", "1", time, time, "povray", "/c/u"],
            ]
        );
        assert_eq!(
            serde_json::to_string(&rows[0].line(false)).unwrap(),
            r#"{"path":"/c/a\u001b","reads":1,"bytes_read":5,"writes":0,"bytes_written":0,"changes":0,"removals":0,"first":"1970-01-01T00:00:01Z","last":"1970-01-01T00:00:01Z","programs":["povray"]}"#
        );
    }

    #[test]
    fn missing_is_what_was_not_found_and_not_made() {
        let paths = gathered(&[
            not_found("/c/x"),
            not_found("/c/x"),
            not_found("/c/out"),
            allowed(Op::Create, "/c/out"),
        ]);
        let rows = missing(&paths, &Filter::default());
        let cells: Vec<_> = rows.iter().map(|row| row.cells(false)).collect();
        assert_eq!(cells, [["2", "povray", "/c/x"]]);
        let line = serde_json::to_string(&rows[0].line(false)).unwrap();
        assert_eq!(line, r#"{"path":"/c/x","count":2,"programs":["povray"]}"#);
    }

    #[test]
    fn a_person_who_looks_in_is_not_the_job() {
        let mut looked = [read("/c/a"), not_found("/c/b"), denied("/c/c")];
        for record in &mut looked {
            record.source = Source::Debug;
        }
        let paths = gathered(&looked);
        assert!(
            files(&paths, &Filter::default()).is_empty()
                && missing(&paths, &Filter::default()).is_empty()
        );
        assert!(looked.iter().all(|record| Denial::of(record).is_none()));
    }

    #[test]
    fn a_refusal_names_its_rule() {
        let record = denied("/c/a");
        assert_eq!(
            Denial::of(&record).unwrap().cells(false),
            [
                "1970-01-01T00:00:01Z",
                "povray 7",
                "open-read",
                "p.toml:3 deny **",
                "/c/a"
            ]
        );
        assert!(Denial::of(&read("/c/a")).is_none());
    }

    #[test]
    fn a_job_cannot_flood_a_cell_with_names() {
        let names = (0..9).map(|number| format!("p{number}\n")).collect();
        assert_eq!(programs(&names), "p0\\n, p1\\n, p2\\n, p3\\n and 5 more");
        assert_eq!(programs(&BTreeSet::new()), "-");
    }

    #[test]
    fn a_job_of_many_tasks_says_which() {
        let of = |mut record: OpenedRecord, task| {
            record.task = Some(TaskId { step: 0, task });
            record
        };
        let all = [
            of(read("/c/a"), 11),
            of(denied("/c/d"), 11),
            of(not_found("/c/m"), 11),
            of(read("/c/a"), 12),
            of(read("/c/b"), 12),
        ];
        let paths = gathered(&all);
        let tasks: Vec<_> = files(&paths, &Filter::default())
            .iter()
            .map(|row| row.cells(true)[7].clone())
            .collect();
        assert_eq!(tasks, ["2 tasks", "0/12"]);
        assert_eq!(File::head(true)[7], "TASKS");
        let rows = missing(&paths, &Filter::default());
        assert_eq!(rows[0].cells(true), ["1", "0/11", "povray", "/c/m"]);
        let line = serde_json::to_string(&rows[0].line(true)).unwrap();
        assert!(line.ends_with(r#""tasks":1,"task":"0/11"}"#), "{line}");
        assert_eq!(Denial::of(&all[1]).unwrap().cells(true)[1], "0/11");
        assert_eq!(Denial::head(true)[1], "TASK");
    }
}
