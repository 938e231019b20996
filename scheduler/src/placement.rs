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

use crate::matching::{self, SlotSpec};

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

/// Sees what fits: `slots` holds each slot here, and whether it is available.
pub fn load<'a>(
    outline: &Outline,
    slots: impl Iterator<Item = (&'a SlotSpec, bool)> + Clone,
    waiting: u64,
    open: Vec<SiteName>,
) -> Load {
    let fits_any = |slot: &SlotSpec| outline.steps.iter().any(|step| matching::fits(slot, step));
    let fits_none = |step: &StepOutline| !slots.clone().any(|(slot, _)| matching::fits(slot, step));
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
mod tests {
    use super::*;
    use safelight_policies::id::{ClientAlias, JobId, PolicyDigest, PolicyName};

    fn outline(tasks: u64) -> Outline {
        let step = |vcpu| StepOutline {
            tasks,
            depends_on: vec![],
            amounts: [("amount.worker.vcpu".to_owned(), vcpu)].into(),
            attributes: Default::default(),
            timeout: 60,
            batch: None,
        };
        Outline {
            job: JobId::from_random([1; 10]),
            client: ClientAlias::new("river").unwrap(),
            priority: 50,
            policy: PolicyName::new("blender").unwrap(),
            policy_digest: PolicyDigest([0; 32]),
            steps: vec![step(1.0), step(4.0)],
            expires: 1_000,
            central: vec![],
            retries: None,
            wishes: Default::default(),
        }
    }

    fn site(name: &str) -> SiteName {
        SiteName::new(name).unwrap()
    }

    fn profile(name: &str) -> ClientProfile {
        let sites = vec![site("north"), site("south")];
        let (sites, ship_from) = match name {
            "home" => (vec![], 1),
            "may" => (sites, 1),
            "large" => (sites, 100),
            other => panic!("{other}"),
        };
        ClientProfile {
            sites,
            ship_from,
            ..ClientProfile::default()
        }
    }

    fn load_of(name: &str) -> Load {
        let (free, waiting, misfit, open) = match name {
            "idle" => (2, 0, None, true),
            "busy" => (0, 16, None, true),
            "full" => (0, 17, None, true),
            "alone" => (0, 17, None, false),
            "misfit" => (2, 0, Some(1), true),
            // Free slots that others wait for are not free.
            "promised" => (2, 40, None, true),
            other => panic!("{other}"),
        };
        Load {
            misfit,
            matching: 4,
            free,
            waiting,
            open: open.then(|| site("south")).into_iter().collect(),
        }
    }

    /// Wanted, client, load here, and what follows. The job has ten tasks.
    const TABLE: &str = "
        auto may idle: here: 2 of 4 fitting slots here are free
        auto may busy: here: only 16 tasks wait here for 4 fitting slots
        auto may full: south: 17 tasks wait here for 4 fitting slots
        auto may alone: here: 17 tasks wait here for 4 fitting slots; no other site takes jobs now
        auto home full: here: 17 tasks wait here for 4 fitting slots; this client's jobs stay at home
        auto large full: here: 17 tasks wait here for 4 fitting slots; 10 tasks are not worth the way (from 100 on)
        auto large misfit: south: no slot here fits step 1
        auto may promised: south: 40 tasks wait here for 4 fitting slots
        auto home misfit: here: no slot here fits step 1; this client's jobs stay at home
        local may full: here: the supplier asked for it to stay here
        local may misfit: here: the supplier asked for it to stay here; no slot here fits step 1
        south may idle: south: the supplier asked for south
        north may idle: nowhere: the supplier asked for north; north takes no jobs now
        east may idle: nowhere: the supplier asked for east; this client's jobs may not go to east
        south home idle: nowhere: the supplier asked for south; this client's jobs stay at home
    ";

    #[test]
    fn here_or_there_and_why() {
        for row in TABLE.trim().lines().map(str::trim) {
            let (given, expected) = row.split_once(": ").unwrap();
            let given: Vec<&str> = given.split(' ').collect();
            let wanted = match given[0] {
                "auto" => Wanted::Auto,
                "local" => Wanted::Local,
                name => Wanted::Site(site(name)),
            };
            let (profile, load) = (profile(given[1]), load_of(given[2]));
            let placement = decide(&outline(5), &wanted, &profile, &load);
            let target = match placement.target {
                Target::Here => "here".to_owned(),
                Target::There(site) => site.to_string(),
                Target::Nowhere => "nowhere".to_owned(),
            };
            let reasons: Vec<String> = placement.reasons.iter().map(Reason::to_string).collect();
            assert_eq!(
                format!("{target}: {}", reasons.join("; ")),
                expected,
                "{row}"
            );
        }
    }

    #[test]
    fn load_counts_what_fits() {
        let slot = |vcpu| SlotSpec {
            vcpu,
            ..SlotSpec::default()
        };
        let (small, large) = (slot(2), slot(8));
        let seen = |slots: &[(&SlotSpec, bool)]| {
            let load = load(&outline(1), slots.iter().copied(), 7, vec![]);
            (load.misfit, load.matching, load.free)
        };
        assert_eq!(seen(&[]), (Some(0), 0, 0));
        assert_eq!(seen(&[(&small, true), (&small, false)]), (Some(1), 2, 1));
        assert_eq!(seen(&[(&small, true), (&large, false)]), (None, 2, 1));
        assert_eq!(seen(&[(&slot(0), true)]), (Some(0), 0, 0));
    }
}
