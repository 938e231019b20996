//! The plan: everything that a session may do, as data, decided before anything is started.
//!
//! Making a plan spends a [`Grant`]. A plan is pure (what the host is like comes in as [`HostFacts`]), holds no secret, and can be printed,
//! compared and sent. Invariants: it never maps host user 0; every bind is read-only, nosuid and nodev; what the policy requires is in
//! it or there is no plan.

mod filter;
mod mounts;
mod print;
mod rules;

use std::{collections::BTreeSet, net::SocketAddr};

use safelight_policies::{
    Grant,
    grant::{Feature, Limits, Requirement, Terms},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Unenforceable},
    facts::HostFacts,
};

pub use filter::{Filters, Instruction};
pub(crate) use filter::{init as init_filter, program, that_asks};
pub use mounts::Mount;
pub use rules::{Access, Landlock, Rule};

/// The user and the group inside the session.
pub const INSIDE: u32 = 1000;

/// The most central paths: one descriptor of each travels in one message.
pub const VIEWS_MAX: usize = safelight_channel::DESCRIPTORS_MAX;

/// As whom the session runs on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// The agent is root and gives the session a user of its own.
    Root {
        /// The session's user on the host.
        uid: u32,
        /// The session's group on the host.
        gid: u32,
    },
    /// The agent is an ordinary user, and so is the session: the same one.
    Rootless {
        /// The agent's user.
        uid: u32,
        /// The agent's group.
        gid: u32,
    },
}

impl Identity {
    /// The user and the group on the host.
    pub fn host(self) -> (u32, u32) {
        match self {
            Self::Root { uid, gid } | Self::Rootless { uid, gid } => (uid, gid),
        }
    }
}

/// What a session may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub(crate) policy: String,
    pub(crate) identity: Identity,
    pub(crate) hostname: String,
    pub(crate) network_namespace: bool,
    /// Addresses that can be reached from inside, each through a door of its own; only with a network of the session's own.
    pub(crate) reach: Vec<SocketAddr>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) landlock: Option<Landlock>,
    pub(crate) filters: Option<Filters>,
    /// What PID 1 may still call once the job runs.
    pub(crate) init_filter: Vec<Instruction>,
    pub(crate) limits: Limits,
    pub(crate) features: BTreeSet<Feature>,
    pub(crate) notes: Vec<String>,
}

impl Plan {
    /// Spends a grant on a plan for a host.
    pub fn new(grant: Grant, facts: &HostFacts, identity: Identity) -> Result<Self, Error> {
        Self::from_terms(grant.terms(), facts, identity)
    }

    fn from_terms(terms: &Terms, facts: &HostFacts, identity: Identity) -> Result<Self, Error> {
        let (uid, gid) = identity.host();
        // 65535 and 4294967295 mean "no user" to some system calls.
        if [uid, gid]
            .iter()
            .any(|id| [0, 0xffff, u32::MAX].contains(id))
        {
            return Err(Error::Identity { uid, gid });
        }
        if terms.central.len() > VIEWS_MAX {
            return Err(Error::TooManyViews {
                count: terms.central.len(),
                most: VIEWS_MAX,
            });
        }
        let mut notes = Vec::new();
        let features = wanted(terms)?;
        let mounts = mounts::mounts(terms, facts, &mut notes)?;
        let landlock = landlock_abi(terms, facts, &mut notes)?
            .map(|abi| rules::landlock(abi, &mounts, &terms.reach));
        let filters = features
            .contains(&Feature::Seccomp)
            .then(|| filter::filters(&terms.seccomp))
            .transpose()?;
        Ok(Self {
            policy: format!("{} {}", terms.policy, terms.digest),
            identity,
            hostname: "safelight".to_owned(),
            network_namespace: features.contains(&Feature::NetworkNamespace),
            reach: terms.reach.clone(),
            mounts,
            landlock,
            filters,
            init_filter: filter::init()?,
            limits: terms.limits,
            features,
            notes,
        })
    }

    /// The central paths in the order in which their descriptors reach the view server.
    pub fn views(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().filter_map(|mount| match mount {
            Mount::View { at } => Some(at.as_str()),
            _ => None,
        })
    }

    /// The private directories in memory.
    pub(crate) fn tmp(&self) -> Vec<String> {
        let at = |mount: &Mount| match mount {
            Mount::Tmp { at, .. } => Some(at.clone()),
            _ => None,
        };
        self.mounts.iter().filter_map(at).collect()
    }

    /// The amounts that the supervisor and the control group hold the session to.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// True if the session is meant to have this wall.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// The same plan, with what Landlock refuses in the host's audit log, where somebody listens. There it stands with names of the job's.
    #[must_use]
    pub fn with_kernel_log(mut self) -> Self {
        if let Some(landlock) = &mut self.landlock {
            landlock.log = true;
        }
        self
    }

    /// Wanted but not had: what was given up because the policy calls it best effort.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// As whom it runs on the host.
    pub fn identity(&self) -> Identity {
        self.identity
    }
}

/// The features that the policy wants. A view cannot be mounted without the first three, so they cannot be off.
fn wanted(terms: &Terms) -> Result<BTreeSet<Feature>, Error> {
    const ALWAYS: [Feature; 3] = [Feature::UserNamespace, Feature::Namespaces, Feature::Fuse];
    // What a policy does not mention is required.
    let on = |feature: &Feature| terms.features.get(feature) != Some(&Requirement::Off);
    if let Some(feature) = ALWAYS.into_iter().find(|feature| !on(feature)) {
        return Err(Error::AlwaysNeeded { feature });
    }
    Ok(Feature::ALL.into_iter().filter(on).collect())
}

/// The Landlock ABI to use, or none if the policy can do without.
fn landlock_abi(
    terms: &Terms,
    facts: &HostFacts,
    notes: &mut Vec<String>,
) -> Result<Option<u32>, Error> {
    let wanted = terms.features.get(&Feature::Landlock).copied();
    if wanted == Some(Requirement::Off) {
        return Ok(None);
    }
    let (found, least) = (facts.landlock_abi, terms.landlock_min_abi.max(1));
    if found >= least {
        return Ok(Some(found));
    }
    let why = if found == 0 {
        "the kernel has no Landlock, or it is not enabled".to_owned()
    } else {
        format!("the kernel's Landlock ABI is {found}, the policy asks for {least}")
    };
    if wanted != Some(Requirement::BestEffort) {
        return Err(Unenforceable {
            feature: Feature::Landlock,
            why,
            remedy: "start a newer kernel, with landlock in its list of security modules (lsm=)"
                .to_owned(),
        }
        .into());
    }
    notes.push(why);
    Ok((found > 0).then_some(found))
}

#[cfg(test)]
mod tests;
