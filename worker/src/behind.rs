//! `safelight __behind WALL -- CMD…`: see what one wall of a session refuses on its own.
//!
//! A diagnostic, the counterpart of [`crate::without`]: the command runs on the host as it is, behind one wall and no other. What gets through
//! is what the other walls are for. Each wall is put up by the very function that a launch uses, from the plan that a launch would use.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::process::CommandExt,
    process::Command,
};

use rustix::thread::set_no_new_privs;

use crate::{
    error::Error,
    message::Failed,
    plan::{Access, Plan, Rule},
    sandbox::{At, capabilities, failed, ids, landlock, seccomp},
};

/// The hidden command.
pub const COMMAND: &str = "__behind";

/// A wall that can stand alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wall {
    /// Landlock, over the host's own paths.
    Landlock,
    /// The system-call filters.
    Seccomp,
    /// The session's own user on the host, and nothing else.
    User,
    /// No capability and none to gain, whoever the user is.
    Capabilities,
}

impl Wall {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Landlock,
        Self::Seccomp,
        Self::User,
        Self::Capabilities,
    ];

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::User => "user",
            Self::Capabilities => "capabilities",
        }
    }

    /// The wall of this name.
    pub fn parse(name: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|wall| wall.as_str() == name)
    }
}

/// Becomes the command behind one wall of the plan. `scratch` is where it may write, in place of the private directories that it has not got.
/// Returns only if that fails.
pub fn main(wall: Wall, plan: &Plan, scratch: &str, command: &[OsString]) -> Error {
    let refused = |failed: &Failed| Error::Behind {
        wall: wall.as_str(),
        step: failed.step.clone(),
        source: io::Error::from_raw_os_error(failed.errno),
    };
    let Some((program, arguments)) = command.split_first() else {
        return refused(&failed("command", "", libc::EINVAL));
    };
    if let Err(failed) = put_up(wall, plan, scratch) {
        return refused(&failed);
    }
    let source = Command::new(program).args(arguments).exec();
    Error::Behind {
        wall: wall.as_str(),
        step: "exec".to_owned(),
        source,
    }
}

fn put_up(wall: Wall, plan: &Plan, scratch: &str) -> Result<(), Failed> {
    let not_planned = || failed(wall.as_str(), "", libc::ENOTSUP);
    match wall {
        Wall::Landlock => {
            let mut rules = plan.landlock.clone().ok_or_else(not_planned)?;
            // What a session has of its own does not exist here.
            rules.rules.retain(|rule| {
                rule.access != Access::View && fs::symlink_metadata(&rule.at).is_ok()
            });
            rules.rules.push(Rule {
                at: scratch.to_owned(),
                access: Access::Scratch,
            });
            landlock::apply(&rules)
        }
        Wall::Seccomp => {
            set_no_new_privs(true).at("no new privileges")?;
            seccomp::apply(plan.filters.as_ref().ok_or_else(not_planned)?)
        }
        Wall::User => ids::become_session(plan.identity),
        Wall::Capabilities => {
            set_no_new_privs(true).at("no new privileges")?;
            capabilities::drop_for_good()
        }
    }
}
