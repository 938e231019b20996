//! What a job's logs are called: the job's own, and those of its sessions. Pure.

use std::{collections::BTreeMap, fmt};

use safelight_policies::id::{SessionId, TaskId};

use crate::results::task_name;

/// The task and the attempt of each session that anything here knows of.
pub(crate) type Runs = BTreeMap<SessionId, (TaskId, u32)>;

/// A session as a log names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    /// Its task and attempt, if they are known.
    pub(crate) of: Option<(TaskId, u32)>,
    /// The session.
    pub(crate) session: SessionId,
}

/// Which of a job's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// The job's own on this host.
    Job,
    /// Of a session, on the node that ran it.
    Session(Run),
    /// Of the release of the key into a session.
    Release(Run),
    /// Of a look at the job from outside.
    Look(Run),
    /// One that a session left and that nobody has opened yet.
    Left(Run),
}

impl Name {
    /// The session that the log is about; the job's own is about all of them.
    pub(crate) fn run(self) -> Option<Run> {
        match self {
            Self::Job => None,
            Self::Session(run) | Self::Release(run) | Self::Look(run) | Self::Left(run) => {
                Some(run)
            }
        }
    }

    /// True if the log may tell of this task.
    pub(super) fn tells_of(self, task: TaskId) -> bool {
        match self.run() {
            None => true,
            // Whose log it is nobody knows: it could be.
            Some(run) => run.of.is_none_or(|(of, _)| of == task),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            Some((task, attempt)) => {
                let task = task_name(task);
                write!(f, "task {task}, attempt {attempt} ({})", self.session)
            }
            None => write!(f, "{}", self.session),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job => f.write_str("the job's own log"),
            Self::Session(run) => write!(f, "the session log of {run}"),
            Self::Release(run) => write!(f, "the key release log of {run}"),
            Self::Look(run) => write!(f, "the log of a look from outside, {run}"),
            Self::Left(run) => write!(f, "a log of {run}"),
        }
    }
}
