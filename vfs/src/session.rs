//! What the view server and the launcher of a session say to each other over the view socket.
//!
//! The view server is the only process outside the session that knows the command, so the command goes from it straight to the
//! launcher and never through the agent. Each side speaks once: the launcher hands over the mounts, the server answers with the command.

use std::fmt;

use serde::{Deserialize, Serialize};

/// From the launcher to the view server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromLauncher {
    /// The views are mounted. With it comes one `/dev/fuse` descriptor for each central path, in the order of the grant's central paths.
    /// The kernel's `FUSE_INIT` waits in each of them.
    Mounts,
}

/// From the view server to the launcher.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToLauncher {
    /// The views are served: run this. With it come exactly two descriptors, the session's standard output and standard error.
    Run {
        /// The program and its arguments; the program is looked up in the `PATH` of `env` if it has no slash.
        command: Vec<Vec<u8>>,
        /// The working directory, absolute.
        directory: Vec<u8>,
        /// The exact environment.
        env: Vec<(Vec<u8>, Vec<u8>)>,
    },
}

impl fmt::Debug for ToLauncher {
    /// Counts only: a command is a client's secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Run { command, env, .. } = self;
        write!(f, "Run({} words, {} variables)", command.len(), env.len())
    }
}

/// One task as the view server needs it: what to run, and what must be there afterwards. Expanded from the recipe by code that knows
/// recipes; this crate does not.
#[derive(Clone, PartialEq, Eq)]
pub struct Task {
    /// The program and its arguments.
    pub command: Vec<Vec<u8>>,
    /// The working directory, absolute.
    pub directory: Vec<u8>,
    /// Variables that the job sets, besides the policy's.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Absolute paths below central paths that a success must have written.
    pub expect: Vec<Vec<u8>>,
}

/// Expands an opened recipe into the task; `None` if it is not one.
pub type Expand = fn(&[u8]) -> Option<Task>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_never_printed() {
        let run = ToLauncher::Run {
            command: vec![b"secret-title".to_vec()],
            directory: b"/mnt/secret".to_vec(),
            env: vec![(b"SECRET".to_vec(), b"x".to_vec())],
        };
        assert_eq!(format!("{run:?}"), "Run(1 words, 1 variables)");
    }
}
