//! One policy's statements, checked one by one, each with its line: what is merged when a policy extends others.
//!
//! Merging is by key. The nearer policy's statement about a thing replaces the farther one's; statements about different things unite.
//! Denials therefore always unite, as a denial is never replaced by anything but the same denial.

use std::{collections::BTreeMap, net::SocketAddr};

use crate::{
    grant::{Feature, Missing, OnDeny, Requirement, Rights},
    origin::{At, Entry},
};

/// Statements by what they are about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) root: BTreeMap<String, Entry<Bind>>,
    pub(crate) tmp: BTreeMap<String, Entry<Tmp>>,
    pub(crate) devices: BTreeMap<String, Entry<()>>,
    pub(crate) env: BTreeMap<String, Entry<String>>,
    pub(crate) env_pass: BTreeMap<String, Entry<()>>,
    pub(crate) reach: BTreeMap<String, Entry<SocketAddr>>,
    pub(crate) call_list: Option<At<String>>,
    pub(crate) on_deny: Option<At<OnDeny>>,
    pub(crate) calls: BTreeMap<String, Entry<()>>,
    pub(crate) denied_calls: BTreeMap<String, Entry<()>>,
    pub(crate) limits: BTreeMap<Limit, At<u64>>,
    pub(crate) features: BTreeMap<Feature, At<Requirement>>,
    pub(crate) landlock_min_abi: Option<At<u32>>,
    /// `central.inherit = false`: the allowances of the policies that this one extends do not hold; their denials do.
    pub(crate) drops_central: bool,
    pub(crate) read: BTreeMap<String, Entry<()>>,
    pub(crate) write: BTreeMap<String, Entry<()>>,
    pub(crate) deny: BTreeMap<String, Entry<()>>,
}

/// What is said of a host path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) rights: Rights,
    pub(crate) missing: Missing,
}

/// What is said of a private directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tmp {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    pub(crate) exec: bool,
}

/// An amount that is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Limit {
    Memory,
    Pids,
    Wall,
    TermGrace,
    Output,
    Files,
    Quota,
    Entries,
    Records,
    Io,
}

impl Limit {
    /// The key and the least and most that make sense: less cannot run anything, more is no limit.
    pub(crate) fn shape(self) -> (&'static str, u64, u64) {
        match self {
            Self::Memory => ("limits.memory", 16 << 20, 64 << 40),
            Self::Pids => ("limits.pids", 4, 1 << 20),
            Self::Wall => ("limits.wall", 1, 60 * 86_400),
            Self::TermGrace => ("limits.term_grace", 0, 600),
            Self::Output => ("limits.output", 4 << 10, 4 << 30),
            Self::Files => ("limits.files", 16, 1 << 20),
            Self::Quota => ("limits.quota", 0, 1 << 50),
            Self::Entries => ("limits.entries", 0, 1 << 22),
            Self::Records => ("limits.records", 64 << 10, 1 << 40),
            Self::Io => ("limits.io", 64 << 10, 1 << 40),
        }
    }
}

impl Layer {
    /// Puts a nearer policy's statements over these.
    pub(crate) fn put(&mut self, nearer: Self) {
        if nearer.drops_central {
            self.read.clear();
            self.write.clear();
            self.drops_central = true;
        }
        self.root.extend(nearer.root);
        self.tmp.extend(nearer.tmp);
        self.devices.extend(nearer.devices);
        self.env.extend(nearer.env);
        self.env_pass.extend(nearer.env_pass);
        self.reach.extend(nearer.reach);
        self.calls.extend(nearer.calls);
        self.denied_calls.extend(nearer.denied_calls);
        self.limits.extend(nearer.limits);
        self.features.extend(nearer.features);
        self.read.extend(nearer.read);
        self.write.extend(nearer.write);
        self.deny.extend(nearer.deny);
        self.call_list = nearer.call_list.or(self.call_list.take());
        self.on_deny = nearer.on_deny.or(self.on_deny.take());
        self.landlock_min_abi = nearer.landlock_min_abi.or(self.landlock_min_abi.take());
    }
}
