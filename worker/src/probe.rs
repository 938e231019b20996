//! What this host can enforce: every feature is really tried, in a child that does what a launch would do.
//!
//! A child is this program again (`safelight __probe NAME`), because a namespace can only be entered by a process with one thread, and a filter or
//! a Landlock domain never comes off again. Invariant: [`check`] never lets a required feature pass that is not in force.

mod denials;
mod diagnose;
mod trial;

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use safelight_policies::{
    grant::{Feature, Requirement, Terms},
    id::SessionId,
};
use serde::{Deserialize, Serialize};

use crate::{
    cgroup::Groups,
    error::Unenforceable,
    facts::{LANDLOCK_TRIED, landlock_abi},
    message::Failed,
};

pub use denials::denials;
pub use trial::child_main;

/// The hidden command of a probe's child.
pub const COMMAND: &str = "__probe";

/// How far a feature is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Status {
    /// It is, in full.
    Active,
    /// It is, but not in full.
    Degraded {
        /// What is missing.
        why: String,
        /// How to get it.
        remedy: String,
    },
    /// It is there, but switched off.
    Disabled {
        /// By what.
        why: String,
        /// How to switch it on.
        remedy: String,
    },
    /// It is not there.
    Unavailable {
        /// What is missing.
        why: String,
        /// How to get it.
        remedy: String,
    },
}

impl Status {
    /// Why, and how to get the rest; `None` if there is nothing to get.
    pub fn advice(&self) -> Option<(&str, &str)> {
        match self {
            Self::Active => None,
            Self::Degraded { why, remedy }
            | Self::Disabled { why, remedy }
            | Self::Unavailable { why, remedy } => Some((why, remedy)),
        }
    }

    /// In a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Degraded { .. } => "degraded",
            Self::Disabled { .. } => "disabled",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

/// Something about the host that weakens what we promise without being a feature of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concern {
    /// What.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
}

/// What a host can enforce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// The kernel's release.
    pub kernel: String,
    /// True if we are root, who can give every session a user of its own.
    pub root: bool,
    /// The Landlock ABI as far as we use it; 0 if there is none.
    pub landlock_abi: u32,
    /// Every feature.
    pub features: BTreeMap<Feature, Status>,
    /// And what else there is to say.
    pub concerns: Vec<Concern>,
}

/// A wanted feature that is not in force, and that the policy can do without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The feature.
    pub feature: Feature,
    /// What is missing.
    pub why: String,
    /// How to get it.
    pub remedy: String,
}

/// Tries everything, with this program as the child.
pub fn probe() -> HostReport {
    let exe = Path::new("/proc/self/exe");
    let root = rustix::process::geteuid().is_root();
    let mut features = BTreeMap::new();
    // All at once: each child is a program to start and a namespace to make.
    let attempts = [
        Feature::Landlock,
        Feature::Seccomp,
        Feature::UserNamespace,
        Feature::Namespaces,
        Feature::NetworkNamespace,
        Feature::Fuse,
    ]
    .map(|feature| (feature, attempt(exe, feature.as_str())));
    for (feature, child) in attempts {
        let status = match child.and_then(outcome) {
            Ok(()) => Status::Active,
            Err(failed) => diagnose::refused(feature, &failed, root),
        };
        features.insert(feature, status);
    }
    let abi = landlock_abi();
    if features.get(&Feature::Landlock) == Some(&Status::Active) && abi < LANDLOCK_TRIED {
        features.insert(Feature::Landlock, diagnose::old_landlock(abi));
    }
    let (kill, limits) = groups(&Groups::find());
    features.insert(Feature::CgroupKill, kill);
    features.insert(Feature::CgroupLimits, limits);
    HostReport {
        kernel: read("/proc/sys/kernel/osrelease"),
        root,
        landlock_abi: abi,
        features,
        concerns: diagnose::concerns(
            &read("/proc/swaps"),
            &read("/sys/kernel/mm/ksm/run"),
            &read("/sys/devices/system/cpu/smt/active"),
            root,
        ),
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "without {}: {} ({})",
            self.feature, self.why, self.remedy
        )
    }
}

/// Whether this host can enforce these terms: what it lacks that they can do without, or the first thing that they cannot.
pub fn check(terms: &Terms, report: &HostReport) -> Result<Vec<Warning>, Unenforceable> {
    let mut warnings = Vec::new();
    for feature in Feature::ALL {
        let wanted = terms
            .features
            .get(&feature)
            .copied()
            .unwrap_or(Requirement::Require);
        if wanted == Requirement::Off {
            continue;
        }
        let missing = Status::Unavailable {
            why: "it was not tried".to_owned(),
            remedy: "run safelight doctor".to_owned(),
        };
        let status = report.features.get(&feature).unwrap_or(&missing);
        let Some((why, remedy)) = status.advice() else {
            continue;
        };
        // An old Landlock is good enough if the policy says so.
        let enough = feature == Feature::Landlock
            && matches!(status, Status::Degraded { .. })
            && report.landlock_abi >= terms.landlock_min_abi.max(1);
        let (why, remedy) = (why.to_owned(), remedy.to_owned());
        if wanted == Requirement::Require && !enough {
            return Err(Unenforceable {
                feature,
                why,
                remedy,
            });
        }
        warnings.push(Warning {
            feature,
            why,
            remedy,
        });
    }
    Ok(warnings)
}

/// Lets a child try a feature.
fn attempt(exe: &Path, name: &str) -> Result<Child, Failed> {
    Command::new(exe)
        .args([COMMAND, name])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| not_tried(error.raw_os_error()))
}

/// What a child found out.
fn outcome(child: Child) -> Result<(), Failed> {
    let output = child
        .wait_with_output()
        .map_err(|error| not_tried(error.raw_os_error()))?;
    if output.status.success() {
        return Ok(());
    }
    // "errno step path", as `trial` prints it.
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.trim_end().splitn(3, '\t');
    let errno = words.next().and_then(|word| word.parse().ok());
    let mut failed = not_tried(errno);
    failed.step = words.next().unwrap_or("probe").to_owned();
    failed.path = words.next().unwrap_or_default().to_owned();
    Err(failed)
}

fn not_tried(errno: Option<i32>) -> Failed {
    Failed {
        step: "start a probe".to_owned(),
        path: String::new(),
        errno: errno.unwrap_or(libc::EIO),
    }
}

/// Really makes a leaf, and looks at what it has.
fn groups(groups: &Groups) -> (Status, Status) {
    let limits = diagnose::probe_limits();
    let mut name = [0; 10];
    name[..4].copy_from_slice(&std::process::id().to_le_bytes());
    let leaf = groups.leaf(&SessionId::from_random(name), &limits);
    match leaf {
        Ok(Some(leaf)) => (
            diagnose::group_kill(leaf.kills(), groups.why()),
            diagnose::group_limits(leaf.limits_memory(), leaf.limits_pids(), groups.why()),
        ),
        Ok(None) => diagnose::no_groups(groups.why()),
        Err(error) => diagnose::no_groups(&[error.to_string()]),
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests;
