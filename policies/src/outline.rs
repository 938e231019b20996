//! The outline: the clear half of a job, which the render site may read.
//!
//! It holds opaque ids, counts, amounts, and the places where views are mounted. No name, parameter or command of a client's, and no path
//! of its files, ever enters it: those are in the recipe and the manifest, which are sealed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    id::{ClientAlias, JobId, PolicyDigest, PolicyName},
    path::CentralPath,
};

/// What the scheduler may know of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outline {
    /// The job.
    pub job: JobId,
    /// Whose job, by alias.
    pub client: ClientAlias,
    /// 0 (last) to 100 (first).
    pub priority: u8,
    /// The policy that every session of the job runs under.
    pub policy: PolicyName,
    /// And its digest, so that both sites mean the same text.
    pub policy_digest: PolicyDigest,
    /// The steps, in an order in which each comes after those it depends on.
    pub steps: Vec<StepOutline>,
    /// When the job may no longer start, in seconds since 1970.
    pub expires: u64,
    /// Where the job believes that shared storage is mounted, and whether it may write there. Clear, because the sandbox has to leave a
    /// place for each view before anything of the job can be read.
    #[serde(default)]
    pub central: Vec<(CentralPath, bool)>,
    /// How often a task that fails by itself is tried again; `None` as the site has it.
    #[serde(default)]
    pub retries: Option<u32>,
    /// What else its author wants of whoever schedules it.
    #[serde(default)]
    pub wishes: Wishes,
}

/// How a job wants to be scheduled. The site may be stricter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wishes {
    /// How many tasks may be given up before nothing of it begins any more; `None` as the site has it.
    pub failures: Option<u64>,
    /// When it may begin, in seconds since 1970.
    pub not_before: Option<u64>,
    /// It begins paused.
    pub held: bool,
    /// The first, the middle and the last task of each step come first, and the others when those are done.
    pub trial: bool,
}

impl Outline {
    /// The steps that must be done before a step, and those before them.
    pub fn steps_before(&self, step: u32) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut open = vec![step];
        while let Some(step) = open.pop() {
            let before = self.steps.get(step as usize);
            for before in before.into_iter().flat_map(|step| &step.depends_on) {
                if found.insert(*before) {
                    open.push(*before);
                }
            }
        }
        found
    }
}

/// One step: how many tasks, and what each needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepOutline {
    /// The number of tasks.
    pub tasks: u64,
    /// Indices of the steps that must be done before.
    pub depends_on: Vec<u32>,
    /// Minimum amounts by OpenJD capability name, for example `amount.worker.vcpu`.
    pub amounts: BTreeMap<String, f64>,
    /// Required attributes by OpenJD capability name: any of the values.
    pub attributes: BTreeMap<String, Vec<String>>,
    /// The wall-clock limit of one session in seconds.
    pub timeout: u64,
    /// How many tasks one session may run in turn; `None` for one.
    #[serde(default)]
    pub batch: Option<Batch>,
}

/// The most tasks of one session.
pub const BATCH_MAX: u32 = 1024;

/// Several tasks in one session: because what stands around them is dear to begin, or because the job wants its frames in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// How many, as long as nobody knows how long one takes: 1 to [`BATCH_MAX`].
    pub size: u32,
    /// How many seconds a session should take: the number follows from what tasks were seen to take. Zero: always `size`.
    pub target: u64,
}
