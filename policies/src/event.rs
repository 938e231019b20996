//! Audit events: who touched what, and what the answer was.
//!
//! An event has two halves. The *head* is clear: it says that something happened, to the operator too. The *body* names paths and
//! processes; it is sealed to the client and its auditor before it leaves the view server. Variants and fields are append-only: an old
//! reader must be able to refuse a new record by its version, and a new reader must read every old one.

use serde::{Deserialize, Serialize};

use crate::{
    cause::Cause,
    id::{NodeName, SessionId, SlotIndex, TaskId},
};

/// What happened, as clear text that the operator may read: a kind, never a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// The job's files were packed and signed.
    Packed {
        /// Number of files.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A session was leased.
    Leased {
        /// The session.
        session: SessionId,
        /// The task that it runs.
        task: TaskId,
        /// The attempt's number.
        attempt: u32,
        /// The fence.
        fence: u64,
        /// On which node.
        node: NodeName,
        /// In which slot.
        slot: SlotIndex,
    },
    /// The warden released the job's key into a view server.
    KeyReleased {
        /// The session.
        session: SessionId,
        /// The view server's ephemeral public key.
        to: [u8; 32],
    },
    /// The warden refused to release the key.
    KeyRefused {
        /// The session.
        session: SessionId,
        /// The rule that refused, in our words.
        reason: String,
    },
    /// The sandbox stands and the command was started.
    Started {
        /// The session.
        session: SessionId,
        /// The digest of the policy in force.
        policy: [u8; 32],
        /// The Landlock ABI in force.
        landlock_abi: u32,
    },
    /// The session ended and nothing of it is left.
    Ended {
        /// The session.
        session: SessionId,
        /// Why.
        cause: Cause,
    },
    /// The attempt's outputs were sealed and accepted.
    Committed {
        /// The session.
        session: SessionId,
        /// The object that holds the result manifest.
        manifest: [u8; 32],
        /// Number of output files.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// The attempt's outputs were set apart: it failed, or its fence was old.
    SetApart {
        /// The session.
        session: SessionId,
        /// Why.
        reason: String,
    },
    /// Someone mounted or listed the job's view outside a session.
    DebugAccess {
        /// The user id that asked.
        uid: u32,
        /// `mount`, `ls`, `home`.
        how: String,
    },
    /// The results were stored at home.
    Delivered {
        /// Number of files stored.
        files: u64,
        /// Number of files set aside because something else stood in their place.
        kept_aside: u64,
    },
    /// The audit writer found an incomplete record at the end of the log, left by a crash, and cut it off.
    Recovered {
        /// The bytes that were cut off.
        bytes: u64,
    },
    /// The audit writer hung up on a process because it sent something that is not a message.
    HungUp {
        /// Which kind of process it was.
        source: String,
    },
    /// The client has what opens the job erased: the last that its log tells.
    KeyErased {
        /// The user id that asked.
        uid: u32,
        /// The hash of the certificate's text, as a leaf of a log's tree.
        certificate: [u8; 32],
    },
    /// What held a session to its limits, and how near it came to them.
    Held {
        /// The session.
        session: SessionId,
        /// Its memory: the most bytes at a time, and how many processes that ended.
        memory: Hold,
        /// Its processes: the most at a time, and how often one more was refused.
        processes: Hold,
        /// Its share of the processors: the microseconds that it had.
        processors: Hold,
        /// What it read from and wrote to disks itself, in bytes; what its view server does for it is not in it.
        disk: Hold,
    },
    /// A process of the session is about to be connected to an address that its policy names.
    Connecting {
        /// The session.
        session: SessionId,
        /// Counts the session's connections, from one.
        number: u32,
        /// Address and port.
        to: String,
    },
    /// A connection is over, or never was.
    Disconnected {
        /// The session.
        session: SessionId,
        /// Which.
        number: u32,
        /// Bytes that the session sent.
        sent: u64,
        /// Bytes that it received.
        received: u64,
        /// The error number that it ended with; 0 if it ended well.
        errno: i32,
    },
    /// The session made as many connections as it may: there will be no more.
    DoorsShut {
        /// The session.
        session: SessionId,
        /// How many there were.
        after: u32,
    },
    /// The filter refused a system call to a process of the session: said before the first refusal of each call, and at the end again of each
    /// that was refused more than once.
    CallRefused {
        /// The session.
        session: SessionId,
        /// The call's name; `unknown` for numbers that are no call.
        call: String,
        /// How often so far.
        times: u64,
    },
    /// The session is over, and this is what was heard of what its walls refused, besides what its view says.
    Heard {
        /// The session.
        session: SessionId,
        /// Why calls that the filter refused were not recorded; empty if they were.
        calls: String,
        /// Why what Landlock refused was not recorded; empty if it was.
        paths: String,
    },
    /// Landlock refused something to a process of the session.
    PathRefused {
        /// The session.
        session: SessionId,
        /// What, in the kernel's words, like `fs.write_file`.
        what: String,
        /// Where; empty for what has no path.
        path: String,
        /// How often so far.
        times: u64,
    },
}

/// How a session was held to one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// By what.
    pub by: By,
    /// How much it took, if that is known.
    pub most: Option<u64>,
    /// How often the limit stood in its way, as far as it is counted.
    pub refused: u64,
}

/// What holds a session to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// The kernel, by a control group.
    ControlGroup,
    /// The kernel, by a limit of its processes.
    ProcessLimit,
    /// The agent, by looking at it: what is quick has more for a moment.
    Watchdog,
    /// Nothing: the policy sets no limit, or the host cannot hold to it.
    Nothing,
}

impl By {
    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ControlGroup => "control-group",
            Self::ProcessLimit => "process-limit",
            Self::Watchdog => "watchdog",
            Self::Nothing => "nothing",
        }
    }
}

/// What a process inside the session did to the client's files. Sealed before it leaves the view server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// When, in nanoseconds since 1970, by the view server's clock.
    pub at: u64,
    /// The process id on the host; 0 if the kernel's own write-back.
    pub pid: u32,
    /// The program's own name for itself (`comm`), lossy.
    pub comm: String,
    /// What was done.
    pub op: Op,
    /// The full path inside the session. Bytes, since names are.
    pub path: Vec<u8>,
    /// The second path of a rename or a link.
    pub to: Option<Vec<u8>>,
    /// What was answered.
    pub verdict: Verdict,
    /// Bytes served or taken, for the summaries at close.
    pub bytes: u64,
}

/// An [`Access`] where it stands in a buffer: for whoever reads millions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AccessRef<'a> {
    /// See [`Access::at`].
    pub at: u64,
    /// See [`Access::pid`].
    pub pid: u32,
    /// See [`Access::comm`].
    pub comm: &'a str,
    /// See [`Access::op`].
    pub op: Op,
    /// See [`Access::path`].
    pub path: &'a [u8],
    /// See [`Access::to`].
    #[serde(borrow)]
    pub to: Option<&'a [u8]>,
    /// See [`Access::verdict`].
    pub verdict: Verdict,
    /// See [`Access::bytes`].
    pub bytes: u64,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Looked up (recorded when it was denied or missing).
    Lookup,
    /// Opened to read.
    OpenRead,
    /// Opened to write.
    OpenWrite,
    /// Created a file.
    Create,
    /// Created a directory.
    Mkdir,
    /// Created a symbolic link.
    Symlink,
    /// Created a hard link.
    Link,
    /// Renamed.
    Rename,
    /// Removed a file.
    Unlink,
    /// Removed a directory.
    Rmdir,
    /// Changed mode, owner, times or size.
    Setattr,
    /// Changed or removed an extended attribute.
    Xattr,
    /// Listed a directory.
    List,
    /// Closed after reading; `bytes` were served by the view.
    CloseRead,
    /// Closed after writing; `bytes` were taken.
    CloseWrite,
    /// Created a special file (always refused).
    Mknod,
    /// Started the session's command. `path` is the program, `to` the arguments joined by NUL.
    Exec,
    /// A program began to ask. `path` is its name, `to` what it comes from, nearest first: number and name, joined by NUL.
    Program,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was done.
    Allowed,
    /// The policy refused it, by this rule.
    Denied {
        /// The rule as `file:line` and its text.
        rule: String,
    },
    /// There is no such file.
    Missing,
    /// The stored bytes did not verify: nothing was shown.
    NotAuthentic,
    /// It could not be done, with this error number.
    Failed {
        /// The error number.
        errno: i32,
    },
}
