//! What a job brings along besides its outline: where it is wanted, and how patient the site is to be with it.

use serde::{Deserialize, Serialize};

use crate::{placement::Wanted, rules::Rules};

/// The terms of one job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// Where the supplier wants it.
    pub wanted: Wanted,
    /// Retries of each task; `None` as the site has it.
    pub task_retries: Option<u32>,
    /// Given-up tasks it may have; `None` as the site has it.
    pub dead_max: Option<u64>,
}

impl Terms {
    /// Retries of each task.
    pub fn retries(&self, rules: &Rules) -> u32 {
        self.task_retries.unwrap_or(rules.task_retries)
    }

    /// Given-up tasks it may have.
    pub fn dead_max(&self, rules: &Rules) -> u64 {
        self.dead_max.unwrap_or(rules.dead_max)
    }
}
