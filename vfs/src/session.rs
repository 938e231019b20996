//! What the view server and the launcher of a session say to each other over the view socket.
//!
//! The view server is the only process outside the session that knows the command, so the command goes from it straight to the
//! launcher and never through the agent. Where a session is one command each side speaks once: the launcher hands over the mounts, the
//! server answers with the command. Where it runs actions in turn, something stays in it that asks for one task after the other.

use std::{collections::BTreeSet, fmt};

use safelight_policies::id::TaskId;
use serde::{Deserialize, Serialize};

/// The most files that a task carries with it.
pub const FILES_MAX: usize = 1025;

/// The most bytes of them all, names included. They travel in one message.
pub const FILES_BYTES_MAX: usize = 100 * 1024;

/// The longest name of one (NAME_MAX of Linux).
const NAME_MAX: usize = 255;

/// From the launcher to the view server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromLauncher {
    /// The views are mounted. With it comes one `/dev/fuse` descriptor for each central path, in the order of the grant's central paths.
    /// The kernel's `FUSE_INIT` waits in each of them.
    Mounts,
    /// What has been run ended well: what is next?
    Next,
}

/// From the view server to the launcher.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToLauncher {
    /// The views are served: run this. With it come exactly two descriptors, the session's standard output and standard error.
    Run {
        /// True if somebody types: the first descriptor is standard input too, and the controlling terminal if it is one.
        interactive: bool,
        /// The program and its arguments; the program is looked up in the `PATH` of `env` if it has no slash.
        command: Vec<Vec<u8>>,
        /// The working directory, absolute.
        directory: Vec<u8>,
        /// The exact environment.
        env: Vec<(Vec<u8>, Vec<u8>)>,
        /// What to write into the session's private home first.
        files: Vec<SessionFile>,
    },
    /// The views are served: enter what stands around the tasks, then ask for them. With it come the same two descriptors.
    Sit {
        /// The working directory, absolute.
        directory: Vec<u8>,
        /// The environment that everything begins with.
        env: Vec<(Vec<u8>, Vec<u8>)>,
        /// What stands around the tasks, the outermost first.
        around: Vec<Environment>,
    },
    /// A task.
    Act(Action),
    /// There is no other: leave what was entered, and end.
    Leave,
}

impl fmt::Debug for ToLauncher {
    /// Counts only: a command is a client's secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run {
                command,
                env,
                files,
                ..
            } => {
                let (words, variables, files) = (command.len(), env.len(), files.len());
                write!(
                    f,
                    "Run({words} words, {variables} variables, {files} files)"
                )
            }
            Self::Sit { env, around, .. } => {
                let (variables, environments) = (env.len(), around.len());
                write!(f, "Sit({variables} variables, {environments} environments)")
            }
            Self::Act(action) => write!(f, "Act({action:?})"),
            Self::Leave => f.write_str("Leave"),
        }
    }
}

/// Something that is run in a session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The program and its arguments.
    pub command: Vec<Vec<u8>>,
    /// What to write into the session's private home first. It replaces what has the same name.
    pub files: Vec<SessionFile>,
    /// Its limit in seconds.
    pub timeout: Option<u64>,
    /// How many seconds' notice it has before it is killed; `None` for none.
    pub notice: Option<u64>,
}

impl fmt::Debug for Action {
    /// Counts only: a command is a client's secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, files) = (self.command.len(), self.files.len());
        write!(f, "{words} words, {files} files")
    }
}

/// What stands around the tasks of a session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Variables of all that is inside.
    pub variables: Vec<(Vec<u8>, Vec<u8>)>,
    /// Run before.
    pub enter: Option<Action>,
    /// Run after, whatever happened.
    pub exit: Option<Action>,
}

impl fmt::Debug for Environment {
    /// Counts only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.variables.len())
    }
}

/// A file that a task carries with it. The launcher writes it into the session's private home, which is in memory, before the command runs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFile {
    /// Its name: one part of a path.
    pub name: Vec<u8>,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// True for mode 0700 instead of 0600.
    pub runnable: bool,
}

impl SessionFile {
    /// True if these files can be written as they are: few and small enough, each with a name of its own that leads nowhere else.
    pub fn are_fit(files: &[Self]) -> bool {
        let mut names = BTreeSet::new();
        let mut left = FILES_BYTES_MAX;
        files.len() <= FILES_MAX
            && files.iter().all(|file| {
                let taken = file.name.len().saturating_add(file.bytes.len());
                let fits = left.checked_sub(taken).map(|rest| left = rest).is_some();
                fits && is_one_part(&file.name) && names.insert(&file.name)
            })
    }
}

fn is_one_part(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && name.len() <= NAME_MAX
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

impl fmt::Debug for SessionFile {
    /// Counts only: its name and its text are a client's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionFile({} bytes)", self.bytes.len())
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
    /// What must be in the session's private home before the command runs.
    pub files: Vec<SessionFile>,
    /// Its limit in seconds, where it is run in turn.
    pub timeout: Option<u64>,
    /// How many seconds' notice it has before it is killed; `None` for none.
    pub notice: Option<u64>,
    /// How many of the tasks that were asked for it is: a chunk of frames is several.
    pub tasks: u32,
}

/// What stands around the tasks of a session, from the outside in; `None` if a session is one command.
pub type Around = Option<Vec<Environment>>;

/// Makes tasks of an opened recipe.
#[derive(Debug, Clone, Copy)]
pub struct Expand {
    /// One of its tasks, or as many from it on as belong together, up to a number; `None` if it is no recipe, or has no such task.
    pub task: fn(&[u8], TaskId, u32) -> Option<Task>,
    /// What stands around the tasks of a step; `None` if it cannot be known, and `None` inside if a session of it is one command.
    pub around: fn(&[u8], u32) -> Option<Around>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_never_printed() {
        let run = ToLauncher::Run {
            interactive: false,
            command: vec![b"secret-title".to_vec()],
            directory: b"/mnt/secret".to_vec(),
            env: vec![(b"SECRET".to_vec(), b"x".to_vec())],
            files: vec![file(b"secret.py", 5)],
        };
        assert_eq!(format!("{run:?}"), "Run(1 words, 1 variables, 1 files)");
        let shown = format!("{:?}", file(b"secret.py", 5));
        assert_eq!(shown, "SessionFile(5 bytes)");
    }

    fn file(name: &[u8], len: usize) -> SessionFile {
        SessionFile {
            name: name.to_vec(),
            bytes: vec![b'x'; len],
            runnable: false,
        }
    }

    #[test]
    fn files_are_bounded_and_their_names_lead_nowhere() {
        let many = |count: usize| (0..count).map(|at| file(at.to_string().as_bytes(), 1));
        let fit: [Vec<SessionFile>; 5] = [
            vec![],
            vec![file(b"a b\n", 0), file(b"...", 1)],
            vec![file(&[b'n'; NAME_MAX], 0)],
            vec![file(b"a", FILES_BYTES_MAX - 1)],
            many(FILES_MAX).collect(),
        ];
        for files in fit {
            assert!(SessionFile::are_fit(&files), "{files:?}");
        }
        let unfit: [Vec<SessionFile>; 11] = [
            vec![file(b"", 0)],
            vec![file(b".", 0)],
            vec![file(b"..", 0)],
            vec![file(b"a/b", 0)],
            vec![file(b"/a", 0)],
            vec![file(b"a\0", 0)],
            vec![file(&[b'n'; NAME_MAX + 1], 0)],
            vec![file(b"a", 0), file(b"a", 0)],
            vec![file(b"a", FILES_BYTES_MAX)],
            vec![file(b"a", FILES_BYTES_MAX - 2), file(b"b", 1)],
            many(FILES_MAX + 1).collect(),
        ];
        for files in unfit {
            assert!(!SessionFile::are_fit(&files), "{files:?}");
        }
    }
}
