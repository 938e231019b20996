//! The site's numbers: how long, how many, how often. Plain values with one default; every decision is given them.

use serde::{Deserialize, Serialize};

use crate::pools::Pools;

/// What the operator of a site may set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Seconds of waiting that outweigh one step of priority.
    pub priority_step: u64,
    /// A node counts while its last heartbeat is not older than this, in seconds.
    pub fresh: u64,
    /// How often a task may be tried again after it failed by itself.
    pub task_retries: u32,
    /// How often a task may be lost with its node before it is held to be the reason.
    pub losses_max: u32,
    /// A job with more given-up tasks than this gets no further lease.
    pub dead_max: u64,
    /// For how long a task that a node lost is kept from that node, in seconds. Not for ever: it may be the only one.
    pub elsewhere: u64,
    /// A node with so many faults since its last result is drained; 0 never drains.
    pub node_faults: u32,
    /// A job that failed by its own fault so many times on a node since its last result there, and has results from another node, is kept from
    /// that node; 0 never does.
    pub job_faults: u32,
    /// How many sessions one client may have at once, where no other cap was set for it.
    pub client_cap: Option<u64>,
    /// What there is so much of for all nodes together, by OpenJD capability name: floating licences.
    pub pools: Pools,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            priority_step: 600,
            fresh: 45,
            task_retries: 3,
            losses_max: 5,
            dead_max: 20,
            elsewhere: 300,
            node_faults: 3,
            job_faults: 3,
            client_cap: None,
            pools: Pools::new(),
        }
    }
}
