//! A look at a job away from home, by a grant of its client's: the operator's side, the site's door, and the process that shows it.
//!
//! The operator is an ordinary user of the site's host. He mounts with his own rights and hands the descriptor over, with the grant, through
//! a socket of the site's; the site starts a process of another user's that serves it. So he sees the files as long as the site lets him,
//! and never holds what opens them: time, log and key are not in his hands.

mod door;
pub(crate) mod operator;
mod server;

use safelight_policies::id::{GrantId, KemKey, SessionId, TaskId};
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    door::{connect, listen},
    server::{FromServer, Order, ToServer, main},
};
use crate::results::Wanted;

/// The hidden command of the process that shows a job.
pub(crate) const COMMAND: &str = "__look";

/// What of the job is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Seen {
    /// What the client sent in, and nothing that the job wrote.
    Inputs,
    /// Over it what counts.
    Counting,
    /// Over it what the last attempts wrote, failed ones too.
    Last,
    /// Over it what these attempts wrote.
    Attempt(u32),
}

impl Seen {
    /// The same, as results are chosen.
    pub(crate) fn wanted(self) -> Option<Wanted> {
        match self {
            Self::Inputs => None,
            Self::Counting => Some(Wanted::Counting),
            Self::Last => Some(Wanted::Last),
            Self::Attempt(number) => Some(Wanted::Number(number)),
        }
    }
}

/// What the operator's process says to the site. The first brings one descriptor: a mounted `/dev/fuse`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToSite {
    /// Comes first: let me look.
    Look {
        /// The signed grant.
        grant: Vec<u8>,
        /// The job: its id or the beginning of it.
        job: String,
        /// Of what was written only this task's.
        task: Option<TaskId>,
        /// What of it.
        seen: Seen,
    },
    /// The signature that the site asked for.
    Signed(Vec<u8>),
}

/// What the site says to the operator's process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromSite {
    /// Sign for this look, to show that the grant is yours.
    Sign {
        /// The key of the process that will show it.
        view_key: KemKey,
        /// The look's session.
        session: SessionId,
    },
    /// It can be seen.
    Shown {
        /// What, in words.
        what: String,
        /// By which grant.
        grant: GrantId,
        /// For so many seconds.
        seconds: u64,
    },
    /// It cannot.
    Refused {
        /// Why.
        reason: String,
        /// It is not allowed; otherwise something does not work.
        denied: bool,
    },
    /// It was seen, and is over.
    Over {
        /// Why.
        reason: String,
    },
}
