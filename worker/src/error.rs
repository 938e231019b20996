//! What can go wrong outside the session. What goes wrong inside it is a [`crate::message::Failed`].

use std::{io, path::PathBuf};

use safelight_policies::grant::Feature;

/// The host cannot enforce what the policy requires.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this host cannot enforce {feature}: {why}")]
pub struct Unenforceable {
    /// What is required.
    pub feature: Feature,
    /// What is missing.
    pub why: String,
    /// How to get it.
    pub remedy: String,
}

/// A plan that cannot be made, or a session that cannot be started or watched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host does not have a path that the policy needs.
    #[error("{path} does not exist on this host, and the policy needs it ({origin})")]
    Missing {
        /// The path.
        path: String,
        /// `file:line` of the entry.
        origin: String,
    },
    /// Two parts of the policy claim the same path.
    #[error("{path} is claimed twice: as {first} and as {second}")]
    Claimed {
        /// The path.
        path: String,
        /// The first claim.
        first: &'static str,
        /// The second.
        second: &'static str,
    },
    /// A path in the policy is not absolute and normal.
    #[error("{path:?} cannot be a path of the session: it is not absolute and normal")]
    NotAPath {
        /// What it says.
        path: String,
    },
    /// A device that no session gets.
    #[error("/dev/{name} is not one of the devices that a session can have")]
    Device {
        /// Its name.
        name: String,
    },
    /// A system call that this architecture does not have.
    #[error("{name:?} is not a system call")]
    UnknownSyscall {
        /// Its name.
        name: String,
    },
    /// A system call that would open a wall from the inside.
    #[error("the system call {name} can never be granted to a session")]
    ForbiddenSyscall {
        /// Its name.
        name: String,
    },
    /// More views than one message can carry.
    #[error("{count} central paths are more than the {most} that a session can have")]
    TooManyViews {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// A user that must not run a session.
    #[error(
        "uid {uid} and gid {gid} cannot run a session: it needs an unprivileged user of its own"
    )]
    Identity {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// A feature that the launch cannot do without was switched off.
    #[error("{feature} cannot be off: every session needs it")]
    AlwaysNeeded {
        /// The feature.
        feature: Feature,
    },
    /// The host cannot enforce what the policy requires.
    #[error(transparent)]
    Unenforceable(#[from] Unenforceable),
    /// A path that the plan needs to know about cannot be looked at.
    #[error("cannot look at {path}")]
    Look {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The launcher could not be started.
    #[error("cannot start {path}")]
    Start {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The launcher cannot be talked to.
    #[error("cannot talk to the launcher")]
    Channel {
        /// Why.
        source: safelight_channel::Error,
    },
    /// A file of a control group could not be used.
    #[error("cannot {act} {path}")]
    Group {
        /// What was tried.
        act: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Waiting for a session failed.
    #[error("cannot wait for the session")]
    Wait {
        /// Why.
        source: io::Error,
    },
    /// The diagnostic of a lesser kernel could not be set up.
    #[error("cannot run without {feature}")]
    Without {
        /// The feature to do without.
        feature: String,
        /// Why.
        source: io::Error,
    },
    /// The diagnostic of a single wall could not be set up.
    #[error("cannot run behind {wall}: {step} failed")]
    Behind {
        /// The wall.
        wall: &'static str,
        /// The step.
        step: String,
        /// Why.
        source: io::Error,
    },
}
