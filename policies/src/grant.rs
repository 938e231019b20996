//! The grant: what a policy answers to a job.
//!
//! Holding a [`Grant`] *is* the permission: only the judge makes one, it cannot be read from a file or a socket, and the worker spends
//! it on a plan. Its [`Terms`] can be printed, which is what `--dry-run` does.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    id::{PolicyDigest, PolicyName},
    path::CentralPath,
};

/// Permission to run one command under these terms.
#[must_use = "a grant that is not spent permits nothing"]
#[derive(Debug)]
pub struct Grant(Terms);

impl Grant {
    /// Only the judge calls this.
    pub(crate) fn new(terms: Terms) -> Self {
        Self(terms)
    }
    /// What is granted.
    pub fn terms(&self) -> &Terms {
        &self.0
    }
}

/// What is granted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Terms {
    /// The policy that granted it.
    pub policy: PolicyName,
    /// The digest of its resolved text.
    pub digest: PolicyDigest,
    /// Host paths that are bound into the session read-only.
    pub root: Vec<RootPath>,
    /// Private directories in memory.
    pub tmp: Vec<TmpDir>,
    /// Device nodes by name below `/dev`.
    pub devices: Vec<String>,
    /// The session's environment.
    pub env: BTreeMap<String, String>,
    /// Names of variables that a job may set for itself.
    pub env_pass: Vec<String>,
    /// Addresses outside that may be reached, through a proxy.
    pub reach: Vec<SocketAddr>,
    /// The system calls that may be made, sorted, and the answer to the others.
    pub seccomp: Seccomp,
    /// Amounts.
    pub limits: Limits,
    /// What the kernel must enforce, by feature.
    pub features: BTreeMap<Feature, Requirement>,
    /// The least Landlock ABI that is good enough.
    pub landlock_min_abi: u32,
    /// The views, one for each central path.
    pub central: Vec<CentralGrant>,
}

/// A host path that is bound into the session, always read-only, nosuid, nodev.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootPath {
    /// The path, the same on the host and inside.
    pub at: String,
    /// What may be done with it.
    pub rights: Rights,
    /// What to do if the host does not have it.
    pub missing: Missing,
    /// Why the policy allows it.
    pub reason: String,
    /// `file:line` of the entry.
    pub origin: String,
}

/// What may be done with a host path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rights {
    /// Read files, list directories.
    #[serde(rename = "r")]
    Read,
    /// And execute.
    #[serde(rename = "rx")]
    ReadExecute,
}

/// What to do if the host does not have a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// Refuse to start.
    Error,
    /// Go on without it.
    Skip,
}

/// A private directory in memory, gone with the session. Never executable unless the policy says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpDir {
    /// Where.
    pub at: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its number of files.
    pub inodes: u64,
    /// True if files in it may be executed.
    pub exec: bool,
}

/// The system-call filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seccomp {
    /// Names of allowed calls, sorted.
    pub allow: Vec<String>,
    /// The answer to any other.
    pub on_deny: OnDeny,
}

/// The answer to a system call that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDeny {
    /// `EPERM`.
    Errno,
    /// The whole session dies.
    Kill,
}

/// Amounts. Bytes and seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of the session in bytes.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Wall-clock seconds.
    pub wall: u64,
    /// Seconds between the request to end and the kill.
    pub term_grace: u64,
    /// Bytes of standard output and error that are kept.
    pub output: u64,
    /// Open files of one process.
    pub files: u64,
    /// Bytes that a session may write to all its views together.
    pub quota: u64,
    /// Names that a session may add to all its views together.
    pub entries: u64,
    /// Bytes of records that a session may put on the audit log.
    pub records: u64,
    /// Bytes a second that a session, and its view server for it, may read from disks, and as many write; `None` is as many as there are.
    pub io: Option<u64>,
}

/// Something the kernel enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Landlock.
    Landlock,
    /// seccomp.
    Seccomp,
    /// User namespaces, two of them.
    UserNamespace,
    /// Mount, PID, IPC, UTS and cgroup namespaces.
    Namespaces,
    /// An empty network namespace.
    NetworkNamespace,
    /// FUSE inside a user namespace.
    Fuse,
    /// A cgroup whose kill reaches every process.
    CgroupKill,
    /// Memory and process limits by cgroup.
    CgroupLimits,
}

impl Feature {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Landlock,
        Self::Seccomp,
        Self::UserNamespace,
        Self::Namespaces,
        Self::NetworkNamespace,
        Self::Fuse,
        Self::CgroupKill,
        Self::CgroupLimits,
    ];

    /// Its key in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::UserNamespace => "user-namespace",
            Self::Namespaces => "namespaces",
            Self::NetworkNamespace => "network-namespace",
            Self::Fuse => "fuse",
            Self::CgroupKill => "cgroup-kill",
            Self::CgroupLimits => "cgroup-limits",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much a feature is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    /// Without it the job does not start.
    Require,
    /// Without it the job starts and the report says so.
    BestEffort,
    /// Not used. Only an operator's policy can say this of a security feature.
    Off,
}

/// One central path and what may be done below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CentralGrant {
    /// Where the view is mounted.
    pub path: CentralPath,
    /// False if every write is refused, whatever the rules say.
    pub write: bool,
    /// The rules that the view server decides by.
    pub rules: CentralRules,
}

/// Rules over paths below a central path. Denial beats allowance; order never matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CentralRules {
    /// What may be read.
    pub read: Vec<CentralRule>,
    /// What may be written.
    pub write: Vec<CentralRule>,
    /// What is refused whatever the others say.
    pub deny: Vec<CentralRule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CentralRule {
    /// A glob over the path relative to the central path: `*` within a part, `**` across parts.
    pub glob: String,
    /// `file:line` of the rule.
    pub origin: String,
}
