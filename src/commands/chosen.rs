//! The job that a command is about.

use clap::Args;
use safelight_policies::id::JobId;

use crate::{cli::StateArgs, failure::Failure, opened::OpenedJob, run::Books, state::State};

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
