//! What the agent and the launcher say to each other over the launcher's standard input.
//!
//! The command is not part of it: that goes from the view server to the launcher ([`safelight_vfs::session`]).

use std::fmt;

use safelight_policies::cause::Cause;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// From the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSession {
    /// Build this. With it come the view socket, then the `tasks` files of the control groups to join.
    Start {
        /// The plan.
        plan: Box<Plan>,
    },
    /// Ask the job to end: PID 1 sends it `SIGTERM`.
    Terminate,
}

/// From the session: first the launcher, later PID 1, which share the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSession {
    /// The views are mounted, as these devices (major, minor), in order.
    Mounted {
        /// The devices, which name the directories below `/sys/class/bdi`.
        devices: Vec<(u32, u32)>,
    },
    /// With it come the doors: for each address of the plan that can be reached, in order, a listener in the session's network.
    Doors,
    /// PID 1 of the session runs. With it comes its pidfd, because a number could mean another process by the time it is read.
    Init,
    /// A step failed: the command has not run and will not.
    Failed(Failed),
    /// Every wall stands and was tried from the inside; the command runs next.
    Enforced(Report),
    /// What the session's end is to be put down to, if it does not end well: something in it runs actions in turn, and knows more than an exit
    /// code says.
    Failing(Cause),
    /// With it comes what hears of each call that the filter refuses; nothing if nobody can.
    Listen,
    /// The command ended.
    Ended {
        /// How.
        exit: Exit,
        /// True if it left processes behind, which are being killed.
        leftover: bool,
    },
}

/// A step of the launch that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The step, a word or two.
    pub step: String,
    /// At which path; empty if the step has none.
    pub path: String,
    /// The error number.
    pub errno: i32,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, path, errno } = self;
        let why = std::io::Error::from_raw_os_error(*errno);
        if path.is_empty() {
            write!(f, "{step}: {why}")
        } else {
            write!(f, "{step} {path}: {why}")
        }
    }
}

/// What was read back inside the session just before the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The Landlock ABI that is enforced; 0 if none.
    pub landlock_abi: u32,
    /// How many system-call filters are loaded.
    pub filters: u32,
    /// True if the network namespace is its own.
    pub network_namespace: bool,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself.
    Code(u8),
    /// By a signal.
    Signal(i32),
}
