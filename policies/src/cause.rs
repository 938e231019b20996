//! Why an attempt ended: everything the render site may learn about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The end of an attempt, without a word of the job's own text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The command ended by itself. Zero is success.
    Exited {
        /// Its exit code.
        code: u8,
    },
    /// A signal ended the command.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// The session ran longer than its limit.
    TimedOut {
        /// The limit in seconds.
        seconds: u64,
    },
    /// The memory limit ended the session.
    OutOfMemory,
    /// Someone asked for the end.
    Canceled,
    /// The view server went away, so the job's files did too.
    ViewLost,
    /// The audit log could not be written, so nothing may be answered.
    AuditLost,
    /// A write to the view failed (quota, disk), so what was written cannot be trusted.
    Poisoned,
    /// An input did not verify: wrong key, or someone changed the object.
    NotAuthentic,
    /// The command ended well but an expected output is missing.
    NoOutput,
    /// The node that held the lease went away.
    NodeLost,
    /// The sandbox could not be built; the command never ran.
    NotStarted {
        /// The step of the launch that failed.
        step: String,
        /// The error number of the step; 0 if it has none.
        errno: i32,
    },
    /// The key warden did not release the job's key, so nothing could be opened.
    NoKey,
    /// The session made more records than the audit log takes of one session, and was ended.
    Flooded,
    /// The command failed and had said what it lacked.
    Lacked {
        /// What.
        what: Lack,
        /// Its exit code.
        code: u8,
    },
}

/// What a program that failed said it lacked. A node's operator says by which words such a line is known; of the line itself nothing
/// leaves the view server but which of these it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lack {
    /// A licence for a renderer or a plug-in.
    Licence,
    /// A graphics processor, or one that the renderer can use.
    Graphics,
    /// Memory of a graphics processor.
    GraphicsMemory,
    /// Memory.
    Memory,
    /// Room on a disk.
    Disk,
    /// A file of the job's.
    File,
    /// A plug-in, or the right version of one.
    PlugIn,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Licence => "a licence",
            Self::Graphics => "a graphics processor",
            Self::GraphicsMemory => "memory of a graphics processor",
            Self::Memory => "memory",
            Self::Disk => "room on a disk",
            Self::File => "a file",
            Self::PlugIn => "a plug-in",
        })
    }
}

impl Cause {
    /// True if the command did what was asked and its outputs may be committed.
    pub fn is_success(&self) -> bool {
        *self == Self::Exited { code: 0 }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exited with code {code}"),
            Self::Killed { signal } => write!(f, "killed by signal {signal}"),
            Self::TimedOut { seconds } => write!(f, "ran longer than {seconds} s"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::Canceled => f.write_str("canceled"),
            Self::ViewLost => f.write_str("the view server went away"),
            Self::AuditLost => f.write_str("the audit log could not be written"),
            Self::Poisoned => f.write_str("a write to the view failed"),
            Self::NotAuthentic => f.write_str("an input is not authentic"),
            Self::NoOutput => f.write_str("an expected output is missing"),
            Self::NodeLost => f.write_str("the node went away"),
            Self::NotStarted { step, errno: 0 } => write!(f, "not started: {step} failed"),
            Self::NotStarted { step, errno } => {
                write!(f, "not started: {step} failed with error {errno}")
            }
            Self::NoKey => f.write_str("the key warden did not release the job's key"),
            Self::Flooded => f.write_str("made more records than the audit log takes of a session"),
            Self::Lacked { what, code } => write!(f, "lacked {what} (exited with code {code})"),
        }
    }
}
