//! `safelight job watch`: a job's story as it happens, down to each frame, from submission to storage.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Args;
use safelight_policies::id::{JobId, SessionId, TaskId};
use safelight_scheduler::{AttemptState, JobState, state::is_final};

use super::chosen::ChosenJob;
use crate::{
    client::DeliveredReport,
    failure::Failure,
    jobs, process,
    records::{Line, utc},
    run::Books,
    state::State,
    terminal::{self, print, print_json},
};

/// How often the books are looked at.
const POLL: Duration = Duration::from_millis(200);

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    job: ChosenJob,
    /// Only what happens to this task, and to the job as a whole
    #[arg(long, value_name = "STEP/TASK", value_parser = task)]
    task: Option<TaskId>,
    /// What happened so far, without waiting for more
    #[arg(long)]
    so_far: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

fn task(text: &str) -> Result<TaskId, &'static str> {
    let parts = text.split_once('/');
    let parsed = parts.and_then(|(step, task)| {
        Some(TaskId {
            step: step.parse().ok()?,
            task: task.parse().ok()?,
        })
    });
    parsed.ok_or("expected STEP/TASK, for example 0/12")
}

/// What was told already.
#[derive(Default)]
struct Told {
    story: u64,
    attempts: BTreeMap<SessionId, AttemptState>,
    arrived: BTreeSet<SessionId>,
    stored: BTreeSet<SessionId>,
}

/// Tells apart what was told of a job from what is new.
pub(super) struct Watcher {
    state: State,
    job: JobId,
    told: Told,
}

/// Tells what happens to a job until it is over.
pub(crate) fn run(arguments: &WatchArgs) -> Result<ExitCode, Failure> {
    let (state, job) = arguments.job.find()?;
    let books = Books::open(&state)?;
    let mut watcher = Watcher::new(state, job);
    loop {
        // The state first: what led to it is in the books by then.
        let now = books.wait(books.ledger().job(&job.to_string()))?.state;
        let wanted = |task: &Option<TaskId>| match (task, arguments.task) {
            (Some(task), Some(wanted)) => *task == wanted,
            _ => true,
        };
        for (at, task, what) in watcher.look(&books)? {
            if wanted(&task) {
                tell(job, arguments.json, at, task, &what)?;
            }
        }
        if arguments.so_far || is_final(now) {
            return Ok(ExitCode::SUCCESS);
        }
        thread::sleep(POLL);
    }
}

impl Watcher {
    /// Nothing was told yet.
    pub(super) fn new(state: State, job: JobId) -> Self {
        Self {
            state,
            job,
            told: Told::default(),
        }
    }

    /// What is new, in the order in which it happened.
    pub(super) fn look(&mut self, books: &Books) -> Result<Vec<News>, Failure> {
        let mut news = Vec::new();
        self.story(books, &mut news)?;
        self.attempts(books, &mut news)?;
        self.results(&mut news)?;
        news.sort_by_key(|(turn, (at, _, _))| (*at, *turn));
        Ok(news.into_iter().map(|(_, news)| news).collect())
    }

    fn story(&mut self, books: &Books, news: &mut Vec<(Turn, News)>) -> Result<(), Failure> {
        let mut turn = Turn::JobBegins;
        for line in books.wait(books.ledger().story(self.job))? {
            if line.number > self.told.story {
                self.told.story = line.number;
                // The story keeps its own order: after an end nothing counts as a beginning.
                turn = turn.max(Turn::of(line.to));
                let what = format!("{}: {}", line.to, line.event);
                news.push((turn, (line.at, None, what)));
            }
        }
        Ok(())
    }

    /// Attempts of this site's own nodes.
    fn attempts(&mut self, books: &Books, news: &mut Vec<(Turn, News)>) -> Result<(), Failure> {
        for attempt in books.wait(books.ledger().attempts(self.job))? {
            let known = self.told.attempts.insert(attempt.session, attempt.state);
            if known == Some(attempt.state) {
                continue;
            }
            let place = format!("{} slot {}", attempt.place.node, attempt.place.slot.0);
            if known.is_none() {
                let text = format!("attempt {} began on {place}", attempt.attempt);
                news.push((Turn::Began, (attempt.leased_at, Some(attempt.task), text)));
            }
            let cause = attempt.cause.as_ref().map(|cause| format!(": {cause}"));
            let cause = cause.unwrap_or_default();
            let text = match attempt.state {
                AttemptState::Running => continue,
                AttemptState::Committed => format!("attempt {} is committed", attempt.attempt),
                state => format!("attempt {} {state}{cause}", attempt.attempt),
            };
            let at = attempt.ended_at.unwrap_or(attempt.leased_at);
            news.push((Turn::Ended, (at, Some(attempt.task), text)));
        }
        Ok(())
    }

    /// What came from another site, and what is stored at home.
    fn results(&mut self, news: &mut Vec<(Turn, News)>) -> Result<(), Failure> {
        for left in jobs::all_left(&self.state, self.job)? {
            if let Some(site) = &left.site
                && self.told.arrived.insert(left.session)
            {
                let text = format!("attempt {} came from {site}: {}", left.attempt, left.cause);
                news.push((Turn::Arrived, (left.at, Some(left.task), text)));
            }
            if !self.told.stored.contains(&left.session)
                && let Some((at, report)) = delivered(&self.state, self.job, left.session)?
            {
                self.told.stored.insert(left.session);
                let aside = match report.aside {
                    0 => String::new(),
                    count => format!(", {count} beside what stood there"),
                };
                let count = report.stored + report.aside;
                let are = if count == 1 { "is" } else { "are" };
                let text = format!("{} {are} at home{aside}", terminal::files(count));
                news.push((Turn::Stored, (at, Some(left.task), text)));
            }
        }
        Ok(())
    }
}

fn tell(job: JobId, json: bool, at: u64, task: Option<TaskId>, what: &str) -> Result<(), Failure> {
    if json {
        let line = Line::default()
            .with("at", utc(at))
            .with("job", job.to_string())
            .with("step", task.map(|task| u64::from(task.step)))
            .with("task", task.map(|task| task.task))
            .with("what", what);
        return print_json(&line);
    }
    let subject = task.map_or_else(
        || "job".to_owned(),
        |task| format!("step {} task {}", task.step, task.task),
    );
    print(format!("{}  {subject:<16}  {what}", utc(at)))
}

/// What comes first of what happened in the same second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    JobBegins,
    Began,
    Ended,
    Arrived,
    Stored,
    JobEnds,
}

impl Turn {
    /// The turn of a job's move into a state.
    fn of(state: JobState) -> Self {
        use JobState::{Canceled, Delivered, Failed, Returning, Succeeded};
        match state {
            Succeeded | Returning | Delivered | Failed | Canceled => Self::JobEnds,
            _ => Self::JobBegins,
        }
    }
}

/// Something that happened: when, to which task, what.
pub(super) type News = (u64, Option<TaskId>, String);

/// What the client's process did with the results of a session, and when.
fn delivered(
    state: &State,
    job: JobId,
    session: SessionId,
) -> Result<Option<(u64, DeliveredReport)>, Failure> {
    let path = state
        .job(job)?
        .join("left")
        .join(format!("{session}.delivered"));
    let Ok(metadata) = std::fs::metadata(&path) else {
        return Ok(None);
    };
    let at = metadata.modified().ok().and_then(|at| {
        let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(since.as_secs())
    });
    let report = serde_json::from_slice(&jobs::read(&path)?).ok();
    Ok(report.map(|report| (at.unwrap_or_else(process::now_seconds), report)))
}
