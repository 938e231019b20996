//! Here or there: where a job is rendered, and why. Pure.
//!
//! What the supplier asked for goes first, then what the client allows, then what fits here, then the load. A contradiction (asked to
//! leave, may not) is no decision at all: the job stays in the new queue and says so.

use std::fmt;

use safelight_policies::{
    id::SiteName,
    outline::{Outline, StepOutline},
};
use serde::{Deserialize, Serialize};

use crate::{
    matching::{self, SlotSpec},
    pools::Pools,
};

/// Where the supplier wants a job rendered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// Wherever it is best.
    #[default]
    Auto,
    /// Here.
    Local,
    /// At this site.
    Site(SiteName),
}

/// What is agreed with a client about its jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientProfile {
    /// Its jobs may be rendered at other sites: at these, the first that is open. Empty: they stay at home.
    pub sites: Vec<SiteName>,
    /// A job stays here while no more tasks than this wait here for each slot that fits.
    pub wait_here: u64,
    /// A job with fewer tasks than this is not worth the way.
    pub ship_from: u64,
}

impl Default for ClientProfile {
    /// Nothing leaves home unless the client said so.
    fn default() -> Self {
        Self {
            sites: Vec::new(),
            wait_here: 4,
            ship_from: 1,
        }
    }
}

/// What stands here, as far as it matters to one job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Load {
    /// The first step that no slot here fits, whether it is available or not.
    pub misfit: Option<u32>,
    /// Slots here that fit a step of the job.
    pub matching: u64,
    /// And are available now.
    pub free: u64,
    /// Tasks that wait here in jobs before it.
    pub waiting: u64,
    /// Sites that take jobs now.
    pub open: Vec<SiteName>,
}

/// Sees what fits: `slots` holds each slot here, and whether it is available; `pools` what there is for all of them.
pub fn load<'a>(
    (outline, pools): (&Outline, &Pools),
    slots: impl Iterator<Item = (&'a SlotSpec, bool)> + Clone,
    waiting: u64,
    open: Vec<SiteName>,
) -> Load {
    let fits = |slot: &SlotSpec, step: &StepOutline| matching::fits(slot, pools, step);
    let fits_any = |slot: &SlotSpec| outline.steps.iter().any(|step| fits(slot, step));
    let fits_none = |step: &StepOutline| !slots.clone().any(|(slot, _)| fits(slot, step));
    let matching = slots.clone().filter(|(slot, _)| fits_any(slot));
    Load {
        misfit: outline
            .steps
            .iter()
            .position(fits_none)
            .and_then(|step| u32::try_from(step).ok()),
        matching: matching.clone().count() as u64,
        free: matching.filter(|(_, available)| *available).count() as u64,
        waiting,
        open,
    }
}

/// Where a job is rendered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Here.
    Here,
    /// At this site.
    There(SiteName),
    /// Undecided: it stays in the new queue.
    Nowhere,
}

/// A decision and all that it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Where.
    pub target: Target,
    /// Why, the weightiest first.
    pub reasons: Vec<Reason>,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The supplier asked for it.
    AskedHere,
    /// The supplier asked for it.
    AskedThere {
        /// The site.
        site: SiteName,
    },
    /// The client's jobs stay at home.
    MayNotLeave,
    /// The client's jobs may not go to this site.
    NotAllowedAt {
        /// The site.
        site: SiteName,
    },
    /// The site takes no jobs now, or is not known.
    NotOpen {
        /// The site.
        site: SiteName,
    },
    /// No site that the client allows takes jobs now.
    NoSiteOpen,
    /// No slot here fits a step.
    NothingFits {
        /// The step.
        step: u32,
    },
    /// Slots that fit are free.
    Free {
        /// How many.
        free: u64,
        /// Of how many.
        matching: u64,
    },
    /// The queue here is short.
    ShortQueue {
        /// Tasks that wait.
        waiting: u64,
        /// Slots that fit.
        matching: u64,
    },
    /// The queue here is long.
    LongQueue {
        /// Tasks that wait.
        waiting: u64,
        /// Slots that fit.
        matching: u64,
    },
    /// It is not worth the way.
    TooSmall {
        /// Its tasks.
        tasks: u64,
        /// The client's least.
        least: u64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AskedHere => f.write_str("the supplier asked for it to stay here"),
            Self::AskedThere { site } => write!(f, "the supplier asked for {site}"),
            Self::MayNotLeave => f.write_str("this client's jobs stay at home"),
            Self::NotAllowedAt { site } => {
                write!(f, "this client's jobs may not go to {site}")
            }
            Self::NotOpen { site } => write!(f, "{site} takes no jobs now"),
            Self::NoSiteOpen => f.write_str("no other site takes jobs now"),
            Self::NothingFits { step } => write!(f, "no slot here fits step {step}"),
            Self::Free { free, matching } => {
                write!(f, "{free} of {matching} fitting slots here are free")
            }
            Self::ShortQueue { waiting, matching } => {
                write!(
                    f,
                    "only {waiting} tasks wait here for {matching} fitting slots"
                )
            }
            Self::LongQueue { waiting, matching } => {
                write!(f, "{waiting} tasks wait here for {matching} fitting slots")
            }
            Self::TooSmall { tasks, least } => {
                write!(f, "{tasks} tasks are not worth the way (from {least} on)")
            }
        }
    }
}

/// Decides.
pub fn decide(
    outline: &Outline,
    wanted: &Wanted,
    profile: &ClientProfile,
    load: &Load,
) -> Placement {
    match wanted {
        Wanted::Local => {
            let misfit = load.misfit.map(|step| Reason::NothingFits { step });
            let reasons = [Reason::AskedHere].into_iter().chain(misfit).collect();
            placed(Target::Here, reasons)
        }
        Wanted::Site(site) => asked(site, profile, load),
        Wanted::Auto => weigh(outline, profile, load),
    }
}

fn asked(site: &SiteName, profile: &ClientProfile, load: &Load) -> Placement {
    let named = || site.clone();
    let mut reasons = vec![Reason::AskedThere { site: named() }];
    if profile.sites.is_empty() {
        reasons.push(Reason::MayNotLeave);
    } else if !profile.sites.contains(site) {
        reasons.push(Reason::NotAllowedAt { site: named() });
    } else if !load.open.contains(site) {
        reasons.push(Reason::NotOpen { site: named() });
    } else {
        return placed(Target::There(named()), reasons);
    }
    placed(Target::Nowhere, reasons)
}

fn weigh(outline: &Outline, profile: &ClientProfile, load: &Load) -> Placement {
    let (matching, waiting, free) = (load.matching, load.waiting, load.free);
    let tasks = outline
        .steps
        .iter()
        .fold(0u64, |sum, step| sum.saturating_add(step.tasks));
    let (stays, mut reasons) = if let Some(step) = load.misfit {
        (false, vec![Reason::NothingFits { step }])
    } else if free > 0 && waiting < free {
        (true, vec![Reason::Free { free, matching }])
    } else if waiting <= profile.wait_here.saturating_mul(matching) {
        (true, vec![Reason::ShortQueue { waiting, matching }])
    } else {
        (false, vec![Reason::LongQueue { waiting, matching }])
    };
    if stays {
        return placed(Target::Here, reasons);
    }
    if profile.sites.is_empty() {
        reasons.push(Reason::MayNotLeave);
        return placed(Target::Here, reasons);
    }
    // What fits nowhere here goes, however small it is.
    if load.misfit.is_none() && tasks < profile.ship_from {
        let least = profile.ship_from;
        reasons.push(Reason::TooSmall { tasks, least });
        return placed(Target::Here, reasons);
    }
    let open = profile.sites.iter().find(|site| load.open.contains(site));
    match open {
        Some(site) => placed(Target::There(site.clone()), reasons),
        None => {
            reasons.push(Reason::NoSiteOpen);
            placed(Target::Here, reasons)
        }
    }
}

fn placed(target: Target, reasons: Vec<Reason>) -> Placement {
    Placement { target, reasons }
}

#[cfg(test)]
mod tests;
