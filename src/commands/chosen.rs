//! The job that a command is about, and which of its tasks and results.

use clap::Args;
use safelight_policies::{
    id::{JobId, TaskId},
    outline::Outline,
};

use crate::{
    cli::StateArgs,
    failure::{Failure, Kind},
    jobs,
    opened::OpenedJob,
    results::{self, Chosen, Results, Wanted, parse_task, task_name},
    run::Books,
    state::State,
};

/// Which job.
#[derive(Debug, Args)]
pub(super) struct ChosenJob {
    /// The job: its id, the beginning of it, or `last`
    #[arg(default_value = "last")]
    job: String,
    #[command(flatten)]
    state: StateArgs,
}

impl ChosenJob {
    /// The state that it is looked for in.
    pub(super) fn state(&self) -> Result<State, Failure> {
        State::open(self.state.state.as_deref())
    }

    /// Finds it in the books.
    pub(super) fn find(&self) -> Result<(State, JobId), Failure> {
        let state = State::open(self.state.state.as_deref())?;
        let job = Books::open(&state)?.find(&self.job)?;
        Ok((state, job))
    }

    /// Finds it and opens it with the client's key.
    pub(super) fn open(&self) -> Result<(State, OpenedJob), Failure> {
        let (state, job) = self.find()?;
        let opened = OpenedJob::open(&state, job)?;
        Ok((state, opened))
    }
}

/// Which of a job's tasks.
#[derive(Debug, Clone, Args)]
pub(super) struct ChosenTask {
    /// Only this task: its step and its number in the step, like 0/12
    #[arg(long, value_name = "STEP/TASK", value_parser = parse_task)]
    task: Option<TaskId>,
}

impl ChosenTask {
    /// Names the task.
    pub(super) fn set(&mut self, task: TaskId) {
        self.task = Some(task);
    }

    /// The task as it was named, of whichever job.
    pub(super) fn any(&self) -> Option<TaskId> {
        self.task
    }

    /// The task, which must be one of the job's; `None` for all of them.
    pub(super) fn of(&self, outline: &Outline) -> Result<Option<TaskId>, Failure> {
        match self.task {
            Some(task) if !results::has(outline, task) => {
                let message = format!("{} has no task {}", outline.job, task_name(task));
                Err(Failure::new(Kind::User, message)
                    .hint(format!("safelight job show {}", outline.job)))
            }
            task => Ok(task),
        }
    }
}

/// Everything that was left of a job, as the ledger judges it.
pub(super) fn results(state: &State, job: JobId) -> Result<Results, Failure> {
    let attempts = Books::open(state)?.attempts(job)?;
    Ok(Results::new(jobs::all_left(state, job)?, &attempts))
}

/// What is meant; a failure if it is nothing.
pub(super) fn choose(
    results: &Results,
    job: JobId,
    task: Option<TaskId>,
    wanted: Wanted,
) -> Result<Vec<&Chosen>, Failure> {
    let chosen = results.choose(task, wanted);
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let of = match task {
        Some(task) => format!("task {} of {job}", task_name(task)),
        None => job.to_string(),
    };
    let message = match wanted {
        Wanted::Counting => format!("no result of {of} was accepted"),
        Wanted::Last => format!("no attempt of {of} left anything"),
        Wanted::Number(number) => format!("attempt {number} of {of} left nothing"),
    };
    Err(Failure::new(Kind::User, message).hint(format!("safelight job show {job}")))
}
