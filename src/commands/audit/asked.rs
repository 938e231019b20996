//! Which jobs and which of their records a question is about.

use clap::{Args, builder::PossibleValuesParser};
use safelight_policies::id::{ClientAlias, JobId, NodeName, TaskId};

use super::{
    filter::Filter,
    form::{Row, ToRow},
};
use crate::{
    cli::StateArgs,
    commands::chosen::ChosenTask,
    failure::{Failure, Kind},
    opened::OpenedJob,
    process,
    records::{self, ACTIONS, Group, Line, Logs, Moment, OpenedRecord, Paths, Walked, Wanted},
    results,
    run::Books,
    state::State,
    terminal::{complain, say},
};

/// The selector that means every job.
const ALL: &str = "all";

/// Which records.
#[derive(Debug, Clone, Args)]
pub(super) struct Narrow {
    /// The job: its id, the beginning of it, `last`, or `all`
    #[arg(default_value = "last")]
    pub(super) job: String,
    #[command(flatten)]
    pub(super) more: More,
}

/// Which records of a job.
#[derive(Debug, Clone, Args)]
pub(super) struct More {
    #[command(flatten)]
    pub(super) task: ChosenTask,
    /// Only from this time on: a date, a time as 2026-01-31T12:00:00Z, or how long ago, like 2h
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<Moment>,
    /// Only before this time
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<Moment>,
    /// Only paths that fit, as the job spelled them: `*` within a part, `**` across parts
    #[arg(long, value_name = "GLOB")]
    pub(super) path: Option<String>,
    /// Only this action, like open-write; may be given several times
    #[arg(long, value_name = "ACTION", value_parser = PossibleValuesParser::new(ACTIONS), hide_possible_values = true)]
    pub(super) action: Vec<String>,
    /// Only jobs of this client, by alias
    #[arg(long, value_name = "ALIAS")]
    pub(super) client: Option<ClientAlias>,
    /// Only what happened on this node
    #[arg(long, value_name = "NODE")]
    pub(super) node: Option<NodeName>,
    #[command(flatten)]
    pub(super) state: StateArgs,
}

/// The jobs that are asked about, opened, and which of their records.
pub(super) struct Asked {
    pub(super) state: State,
    jobs: Vec<OpenedJob>,
    pub(super) filter: Filter,
    task: Option<TaskId>,
    unopened: u64,
}

/// What was found, and what was wrong on the way.
pub(super) struct Found {
    shown: u64,
    failures: Vec<Failure>,
}

impl Found {
    /// So much was shown, and this was wrong.
    pub(super) fn new(shown: u64, failures: Vec<Failure>) -> Self {
        Self { shown, failures }
    }

    /// The same, with another count of what was shown.
    pub(super) fn shown(mut self, shown: u64) -> Self {
        self.shown = shown;
        self
    }
}

/// Which columns help: with one job or one task the same word would stand in every row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    pub(super) jobs: bool,
    pub(super) tasks: bool,
}

impl Names {
    /// A table's head.
    pub(super) fn head(self, mut head: Vec<&'static str>) -> Vec<&'static str> {
        if self.jobs {
            head.insert(0, "JOB");
        }
        head
    }

    /// A row of a job's.
    pub(super) fn of(self, job: JobId, row: &impl ToRow) -> Row {
        let mut row = row.to_row(self.tasks);
        if self.jobs {
            row.cells.insert(0, job.to_string());
            row.line = row.line.first("job", job.to_string());
        }
        row
    }
}

impl Asked {
    /// Opens what is asked about.
    pub(super) fn open(narrow: &Narrow) -> Result<Self, Failure> {
        Self::of_job(&narrow.job, &narrow.more)
    }

    /// The same, with the job named apart.
    pub(super) fn of_job(job: &str, more: &More) -> Result<Self, Failure> {
        let state = State::open(more.state.state.as_deref())?;
        let books = Books::open(&state)?;
        let (mut jobs, mut unopened, mut task) = (Vec::new(), 0, None);
        if job == ALL {
            for entry in books.jobs()?.into_iter().rev() {
                if more
                    .client
                    .as_ref()
                    .is_some_and(|client| *client != entry.outline.client)
                {
                    continue;
                }
                match OpenedJob::open(&state, entry.id()) {
                    Ok(opened) => jobs.push(opened),
                    // A job whose key was erased is no reason not to tell of the others.
                    Err(failure) => {
                        complain(&failure);
                        unopened += 1;
                    }
                }
            }
            task = more.task.any();
        } else {
            let opened = OpenedJob::open(&state, books.find(job)?)?;
            let outline = &opened.envelope.outline;
            if more
                .client
                .as_ref()
                .is_none_or(|client| *client == outline.client)
            {
                task = more.task.of(outline)?;
                jobs.push(opened);
            }
        }
        let filter = Filter::new(more, task, process::now())?;
        Ok(Self {
            state,
            jobs,
            filter,
            task,
            unopened,
        })
    }

    /// Which columns help.
    pub(super) fn names(&self) -> Names {
        let many = |opened: &OpenedJob| results::tasks(&opened.envelope.outline) > 1;
        Names {
            jobs: self.jobs.len() > 1,
            tasks: self.jobs.iter().any(many),
        }
    }

    /// The jobs.
    pub(super) fn jobs(&self) -> &[OpenedJob] {
        &self.jobs
    }

    /// A line, with its job if there are several.
    pub(super) fn of(&self, opened: &OpenedJob, line: Line) -> Line {
        match self.jobs.len() {
            1 => line,
            _ => line.first("job", opened.job().to_string()),
        }
    }

    /// The logs of a job that may tell of what is asked.
    pub(super) fn logs<'a>(&self, opened: &'a OpenedJob) -> Result<Logs<'a>, Failure> {
        Ok(Logs::of(&self.state, opened)?.only(self.task))
    }

    /// Shows every record of the time that is asked about that is kept, by time within each job. `keep` is asked of kinds of records.
    pub(super) fn each(
        &self,
        keep: impl Fn(&OpenedRecord) -> bool,
        mut each: impl FnMut(&OpenedJob, OpenedRecord) -> Result<(), Failure>,
    ) -> Result<Found, Failure> {
        let mut found = Found {
            shown: 0,
            failures: Vec::new(),
        };
        for opened in &self.jobs {
            let logs = self.logs(opened)?;
            let wanted = Wanted {
                span: self.filter.span(),
                keep: &keep,
                ..Wanted::ALL
            };
            let walked = records::in_order(&logs, wanted, |record| {
                found.shown += 1;
                each(opened, record)
            })?;
            found.failures.extend(walked.right().err());
        }
        Ok(found)
    }

    /// Shows what each job did and how often, in the time that is asked about.
    pub(super) fn groups(
        &self,
        mut each: impl FnMut(&OpenedJob, &Group) -> Result<(), Failure>,
    ) -> Result<Found, Failure> {
        let mut found = Found::new(0, Vec::new());
        for opened in &self.jobs {
            let logs = self.logs(opened)?;
            let walked = records::grouped(&logs, self.filter.span(), |group| each(opened, group))?;
            found.failures.extend(walked.right().err());
        }
        Ok(found)
    }

    /// Shows what each job did with each path.
    pub(super) fn paths(
        &self,
        mut each: impl FnMut(&OpenedJob, &Paths) -> Result<(), Failure>,
    ) -> Result<Found, Failure> {
        let mut found = Found {
            shown: 0,
            failures: Vec::new(),
        };
        for opened in &self.jobs {
            let (paths, walked) = self.paths_of(opened)?;
            each(opened, &paths)?;
            found.failures.extend(walked.right().err());
        }
        Ok(found)
    }

    /// What one job did with each path.
    pub(super) fn paths_of(&self, opened: &OpenedJob) -> Result<(Paths, Walked), Failure> {
        let mut paths = Paths::default();
        let walked = records::grouped(&self.logs(opened)?, self.filter.span(), |group| {
            if self.filter.keeps_by_all_but_path(&group.record) {
                paths.add_group(group);
            }
            Ok(())
        })?;
        Ok((paths, walked))
    }

    /// Says what the answer does not: that it is empty, that a log is not whole, that a job could not be opened.
    pub(super) fn conclude(&self, found: Found, nothing: &str) -> Result<(), Failure> {
        let mut failures = found.failures.into_iter();
        if let Some(first) = failures.next() {
            failures.for_each(|failure| complain(&failure));
            return Err(first);
        }
        if found.shown == 0 {
            match self.jobs.as_slice() {
                [only] => say(format!("{}: {nothing}", only.job())),
                jobs => say(format!("{} jobs: {nothing}", jobs.len())),
            }
        }
        match self.unopened {
            0 => Ok(()),
            count => Err(Failure::new(
                Kind::Denied,
                format!("{count} jobs could not be opened, and nothing is said of them"),
            )),
        }
    }
}
