//! What happens to a job, and what is told of it: every move of a job is written down as the event that caused it.
//!
//! Stored as JSON in the ledger. An event may gain variants and optional fields; what is written must read back for ever.

use std::fmt;

use safelight_policies::id::{JobId, SiteName};
use serde::{Deserialize, Serialize};

use crate::{ledger::JobState, placement::Reason};

/// Why a job moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The supplier handed it in, at home.
    Submitted,
    /// It came by hot folder, to be rendered here.
    Received,
    /// It is rendered here.
    PlacedHere {
        /// Why.
        reasons: Vec<Reason>,
    },
    /// It is rendered at another site.
    PlacedThere {
        /// Which.
        site: SiteName,
        /// Why.
        reasons: Vec<Reason>,
    },
    /// Its bundle is in the hot folder.
    Published,
    /// The other site sent its receipt.
    Accepted,
    /// Its results are on their way: leaving here, or arriving at home.
    Returning,
    /// What arrived is not its result: it does not verify.
    Rejected,
    /// Its results are at home.
    Delivered,
    /// The other site gave up.
    FailedThere,
    /// Its first task was leased.
    Started,
    /// Every task has a result.
    Succeeded,
    /// Nothing of it may be tried again.
    Failed {
        /// Tasks that were given up.
        tasks: u64,
    },
    /// Its time was over before all of it had started.
    Expired,
    /// Someone asked for its end.
    Canceled,
    /// It was called back before it left.
    Recalled,
    /// Its given-up tasks may be tried again.
    Retried {
        /// How many.
        tasks: u64,
    },
    /// Someone put it elsewhere in its queue.
    Reordered {
        /// Its place then, from one.
        position: u64,
    },
    /// Someone held it.
    Paused,
    /// Someone let it go on.
    Resumed,
}

/// What the site loop and people report of a job. Everything else follows from its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// Its bundle is in the hot folder, durably.
    Published,
    /// The other site's receipt verifies.
    Accepted,
    /// Its results left for home, or begin to arrive there.
    Returning,
    /// What arrived does not verify.
    Rejected,
    /// Its results are at home, durably; at the render site: home said so.
    Delivered,
    /// The other site gave up.
    FailedThere,
    /// It is to come back before it left.
    Recalled,
    /// It is to end.
    Canceled,
}

impl From<Report> for Event {
    fn from(report: Report) -> Self {
        match report {
            Report::Published => Self::Published,
            Report::Accepted => Self::Accepted,
            Report::Returning => Self::Returning,
            Report::Rejected => Self::Rejected,
            Report::Delivered => Self::Delivered,
            Report::FailedThere => Self::FailedThere,
            Report::Recalled => Self::Recalled,
            Report::Canceled => Self::Canceled,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submitted => f.write_str("submitted"),
            Self::Received => f.write_str("received from its home site"),
            Self::PlacedHere { reasons } => write!(f, "rendered here: {}", Listed(reasons)),
            Self::PlacedThere { site, reasons } => {
                write!(f, "rendered at {site}: {}", Listed(reasons))
            }
            Self::Published => f.write_str("put into the hot folder"),
            Self::Accepted => f.write_str("accepted by the other site"),
            Self::Returning => f.write_str("results on their way home"),
            Self::Rejected => f.write_str("what came back does not verify"),
            Self::Delivered => f.write_str("results at home"),
            Self::FailedThere => f.write_str("failed at the other site"),
            Self::Started => f.write_str("first task started"),
            Self::Succeeded => f.write_str("every task has a result"),
            Self::Failed { tasks } => write!(f, "given up, with {tasks} failed tasks"),
            Self::Expired => f.write_str("its time was over before all of it had started"),
            Self::Canceled => f.write_str("canceled"),
            Self::Recalled => f.write_str("called back before it left"),
            Self::Retried { tasks } => write!(f, "{tasks} failed tasks to be tried again"),
            Self::Reordered { position } => write!(f, "put at place {position} of its queue"),
            Self::Paused => f.write_str("paused"),
            Self::Resumed => f.write_str("resumed"),
        }
    }
}

struct Listed<'a>(&'a [Reason]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, reason) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{reason}")?;
        }
        Ok(())
    }
}

/// A line of a job's story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryLine {
    /// Grows with every line of the ledger.
    pub number: u64,
    /// The job.
    pub job: JobId,
    /// Where it stood; `None` before its first line.
    pub from: Option<JobState>,
    /// Where it stands.
    pub to: JobState,
    /// Why.
    pub event: Event,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// A final state that the supplier is to be told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Names the notice when it was sent.
    pub number: u64,
    /// The job.
    pub job: JobId,
    /// The final state.
    pub state: JobState,
    /// When the job came there, in seconds since 1970.
    pub at: u64,
}
