//! What one policy allows that another does not, in words.
//!
//! Both are compared resolved, by what they come to and not by how they are written: a path that lies below one that the other allows is no
//! difference. A glob is taken as it is written, but for `**`, which holds every other.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{
    amount::{show_bytes, show_seconds},
    grant::{OnDeny, Requirement, Rights},
    layer::Limit,
    origin::{Entry, Origin},
    place::within,
    policy::Policy,
};

/// What an allowance is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// A path of the host.
    Path,
    /// A private directory.
    Tmp,
    /// A device node.
    Device,
    /// A variable that a job may set.
    Variable,
    /// An address outside.
    Address,
    /// System calls.
    Calls,
    /// What lies below a central path.
    Central,
    /// An amount.
    Limit,
    /// A wall that need not stand.
    Wall,
}

/// Something that one policy allows and another does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allowance {
    /// What it is about.
    pub about: About,
    /// In words: what a job may do.
    pub text: String,
    /// Where it is said; `None` if it is the lack of a line that allows it.
    pub origin: Option<Origin>,
    /// Why, as the policy gives it.
    pub reason: Option<String>,
}

/// How two policies differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// What the second allows that the first does not.
    pub more: Vec<Allowance>,
    /// What the first allows that the second does not.
    pub less: Vec<Allowance>,
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        match &self.origin {
            Some(origin) => write!(f, "  # {origin}"),
            None => Ok(()),
        }
    }
}

impl Policy {
    /// How `other` differs from this policy.
    pub fn diff(&self, other: &Self) -> Diff {
        Diff {
            more: other.beyond(self),
            less: self.beyond(other),
        }
    }

    /// What this policy allows that `base` does not.
    fn beyond(&self, base: &Self) -> Vec<Allowance> {
        let mut all = self.paths_beyond(base);
        all.extend(self.tmp_beyond(base));
        all.extend(self.names_beyond(base));
        all.extend(self.reach_beyond(base));
        all.extend(self.calls_beyond(base));
        all.extend(self.central_beyond(base));
        all.extend(self.limits_beyond(base));
        all.extend(self.walls_beyond(base));
        all
    }

    fn paths_beyond(&self, base: &Self) -> Vec<Allowance> {
        let granted = |at: &str| {
            let holding = base
                .layer
                .root
                .iter()
                .filter(|(outer, _)| within(at, outer));
            holding
                .map(|(_, entry)| entry.value.rights == Rights::ReadExecute)
                .max()
        };
        let mut all = Vec::new();
        for (at, entry) in &self.layer.root {
            let runs = entry.value.rights == Rights::ReadExecute;
            let text = match (granted(at), runs) {
                (None, true) => format!("read and run what is in {at}"),
                (None, false) => format!("read {at}"),
                (Some(false), true) => format!("run what is in {at}"),
                _ => continue,
            };
            all.push(said(About::Path, text, entry));
        }
        all
    }

    fn tmp_beyond(&self, base: &Self) -> Vec<Allowance> {
        let mut all = Vec::new();
        for (at, entry) in &self.layer.tmp {
            let (bytes, inodes) = (show_bytes(entry.value.bytes), entry.value.inodes);
            let Some(there) = base.layer.tmp.get(at).map(|entry| entry.value) else {
                let text = format!("keep {bytes} in {inodes} files at {at}, in memory");
                all.push(said(About::Tmp, text, entry));
                continue;
            };
            if entry.value.bytes > there.bytes {
                let text = format!("keep {bytes} at {at}, not only {}", show_bytes(there.bytes));
                all.push(said(About::Tmp, text, entry));
            }
            if entry.value.inodes > there.inodes {
                let text = format!("keep {inodes} files at {at}, not only {}", there.inodes);
                all.push(said(About::Tmp, text, entry));
            }
            if entry.value.exec && !there.exec {
                let text = format!("run programs of its own from {at}");
                all.push(said(About::Tmp, text, entry));
            }
        }
        all
    }

    fn names_beyond(&self, base: &Self) -> Vec<Allowance> {
        let devices = only(&self.layer.devices, &base.layer.devices)
            .map(|(name, entry)| said(About::Device, format!("use /dev/{name}"), entry));
        let variables = only(&self.layer.env_pass, &base.layer.env_pass)
            .map(|(name, entry)| said(About::Variable, format!("set the variable {name}"), entry));
        devices.chain(variables).collect()
    }

    /// System calls, those with one reason together.
    fn calls_beyond(&self, base: &Self) -> Vec<Allowance> {
        let (own, there) = (self.allowed_calls(), base.allowed_calls());
        let mut groups: BTreeMap<(&str, &Origin), Vec<&str>> = BTreeMap::new();
        for (call, entry) in only(&own, &there) {
            let group = groups.entry((&entry.reason, &entry.origin)).or_default();
            group.push(call);
        }
        let group = |((reason, origin), calls): ((&str, &Origin), Vec<&str>)| Allowance {
            about: About::Calls,
            text: format!("call {}", calls.join(", ")),
            origin: Some(origin.clone()),
            reason: Some(reason.to_owned()),
        };
        groups.into_iter().map(group).collect()
    }

    fn central_beyond(&self, base: &Self) -> Vec<Allowance> {
        let mut all = Vec::new();
        for (verb, own, there) in [
            ("read", &self.layer.read, &base.layer.read),
            ("write", &self.layer.write, &base.layer.write),
        ] {
            if there.contains_key("**") {
                continue;
            }
            for (glob, entry) in only(own, there) {
                all.push(said(
                    About::Central,
                    format!("{verb} {glob} below a central path"),
                    entry,
                ));
            }
        }
        let reaches_nothing = self.layer.read.is_empty() && self.layer.write.is_empty();
        if reaches_nothing || self.layer.deny.contains_key("**") {
            return all;
        }
        for (glob, _) in only(&base.layer.deny, &self.layer.deny) {
            all.push(Allowance {
                about: About::Central,
                text: format!("reach {glob} below a central path, which the other denies"),
                origin: None,
                reason: None,
            });
        }
        all
    }

    fn reach_beyond(&self, base: &Self) -> impl Iterator<Item = Allowance> {
        let more = |(at, _): &(&String, _)| !base.layer.reach.contains_key(*at);
        let reach = self.layer.reach.iter().filter(more);
        reach.map(|(at, entry)| Allowance {
            about: About::Address,
            text: format!("reach {at} by TCP"),
            origin: Some(entry.origin.clone()),
            reason: Some(entry.reason.clone()),
        })
    }

    fn limits_beyond(&self, base: &Self) -> Vec<Allowance> {
        let mut all = Vec::new();
        if let (None, Some(there)) = (self.limits.io, base.limits.io) {
            all.push(Allowance {
                about: About::Limit,
                text: format!(
                    "read and write disks as fast as they are, not only {} a second",
                    show_bytes(there)
                ),
                origin: None,
                reason: None,
            });
        }
        for (limit, at) in &self.layer.limits {
            // Where none is set, any is less.
            let unset = if *limit == Limit::Io { u64::MAX } else { 0 };
            let there = base.layer.limits.get(limit).map_or(unset, |at| at.value);
            if at.value <= there {
                continue;
            }
            let show = |amount: u64| match limit {
                Limit::Wall | Limit::TermGrace => show_seconds(amount),
                Limit::Pids | Limit::Files | Limit::Entries => amount.to_string(),
                Limit::Memory | Limit::Output | Limit::Quota | Limit::Records | Limit::Io => {
                    show_bytes(amount)
                }
            };
            let what = match limit {
                Limit::Memory => "of memory",
                Limit::Pids => "processes and threads",
                Limit::Wall => "of time",
                Limit::TermGrace => "to end when it is asked to",
                Limit::Output => "of what it prints",
                Limit::Files => "open files of one process",
                Limit::Quota => "written to its views",
                Limit::Entries => "names added to its views",
                Limit::Records => "of records on the audit log",
                Limit::Io => "read from disks a second, and as much written",
            };
            all.push(Allowance {
                about: About::Limit,
                text: format!("have {} {what}, not only {}", show(at.value), show(there)),
                origin: Some(at.origin.clone()),
                reason: None,
            });
        }
        all
    }

    fn walls_beyond(&self, base: &Self) -> Vec<Allowance> {
        let weight = |wanted: Requirement| match wanted {
            Requirement::Require => 2,
            Requirement::BestEffort => 1,
            Requirement::Off => 0,
        };
        let wall = |text: String, origin: &Origin| Allowance {
            about: About::Wall,
            text,
            origin: Some(origin.clone()),
            reason: None,
        };
        let mut all = Vec::new();
        for (feature, at) in &self.layer.features {
            let there = base
                .layer
                .features
                .get(feature)
                .map_or(2, |at| weight(at.value));
            if weight(at.value) < there {
                let how = match at.value {
                    Requirement::Off => "without",
                    _ => "on a host that lacks",
                };
                all.push(wall(format!("run {how} {feature}"), &at.origin));
            }
        }
        let abi = &self.landlock_min_abi;
        if abi.value < base.landlock_min_abi.value {
            let text = format!(
                "run with Landlock ABI {}, not only from {}",
                abi.value, base.landlock_min_abi.value
            );
            all.push(wall(text, &abi.origin));
        }
        if (self.on_deny.value, base.on_deny.value) == (OnDeny::Errno, OnDeny::Kill) {
            let text = "go on after a system call that was refused".to_owned();
            all.push(wall(text, &self.on_deny.origin));
        }
        all
    }
}

/// Entries whose key the other has not.
fn only<'a, T, U>(
    own: &'a BTreeMap<String, Entry<T>>,
    there: &'a BTreeMap<String, Entry<U>>,
) -> impl Iterator<Item = (&'a String, &'a Entry<T>)> {
    own.iter().filter(|(key, _)| !there.contains_key(*key))
}

fn said<T>(about: About, text: String, entry: &Entry<T>) -> Allowance {
    Allowance {
        about,
        text,
        origin: Some(entry.origin.clone()),
        reason: Some(entry.reason.clone()),
    }
}
