//! Does a step fit a slot, and if not, why not. Pure; the one predicate that leases are given by and that `why` answers from.
//!
//! Fail closed: a capability that the slot does not name is one that it does not have. Names are those of OpenJD 2023-09, "host
//! requirements"; memory is in MiB and scratch in GiB there.

use std::{collections::BTreeMap, collections::BTreeSet, fmt};

use safelight_policies::outline::StepOutline;
use serde::{Deserialize, Serialize};

use crate::pools::Pools;

/// An attribute whose last part names software; its values are versions. `4.2` fits `4.2` and `4.2.1`.
const SOFTWARE: &str = "attr.software.";
/// An attribute whose values are walls that the node must enforce.
const WALLS: &str = "attr.safelight.wall";
/// MiB in a GiB.
const MIB: f64 = 1024.0;

/// What a slot offers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotSpec {
    /// Processors.
    pub vcpu: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Graphics processors.
    pub gpu: u32,
    /// The memory of the smallest of them in MiB.
    pub gpu_memory_mib: u64,
    /// Scratch space in MiB.
    pub scratch_mib: u64,
    /// Attributes by OpenJD capability name, for example `attr.worker.os.family`.
    pub attributes: BTreeMap<String, BTreeSet<String>>,
    /// Walls that the host enforces, by their names in `safelight doctor`.
    pub walls: BTreeSet<String>,
    /// Installed software: name to versions.
    pub software: BTreeMap<String, BTreeSet<String>>,
}

/// One thing that a slot lacks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mismatch {
    /// Too little of an amount.
    Amount {
        /// The capability.
        name: String,
        /// What the step needs.
        needs: f64,
        /// What the slot has; `None` if it does not know the capability.
        has: Option<f64>,
    },
    /// None of the values that would do.
    Attribute {
        /// The capability.
        name: String,
        /// Any of these would do; of walls, all are needed.
        needs: Vec<String>,
        /// What the slot has.
        has: Vec<String>,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount { name, needs, has } => match has {
                Some(has) => write!(f, "needs {needs} {}, has {has}", short(name)),
                None => write!(f, "needs {needs} {}, which it does not offer", short(name)),
            },
            Self::Attribute { name, needs, has } => {
                let all = if name == WALLS { " and " } else { " or " };
                write!(f, "needs {} {}", short(name), needs.join(all))?;
                match has[..] {
                    [] => f.write_str(", has none"),
                    _ => write!(f, ", has {}", has.join(" and ")),
                }
            }
        }
    }
}

/// The name without the prefixes that say only what kind of name it is.
fn short(name: &str) -> &str {
    [
        "amount.worker.",
        "attr.worker.",
        SOFTWARE,
        "attr.safelight.",
        "amount.",
        "attr.",
    ]
    .iter()
    .find_map(|prefix| name.strip_prefix(prefix))
    .unwrap_or(name)
}

/// What keeps a step from a slot: nothing if it fits. Of a pool, the slot has as much as there is; how much is left of it now is no slot's
/// business.
pub fn mismatches(slot: &SlotSpec, pools: &Pools, step: &StepOutline) -> Vec<Mismatch> {
    let amounts = step.amounts.iter().filter_map(|(name, needs)| {
        let has = amount(slot, name).or_else(|| pools.get(name).copied().map(f64::from));
        // Written so that a number that is none never fits.
        let fits = has.is_some_and(|has| *needs <= has);
        (!fits).then(|| Mismatch::Amount {
            name: name.clone(),
            needs: *needs,
            has,
        })
    });
    let attributes = step.attributes.iter().filter_map(|(name, needs)| {
        let has = values(slot, name);
        (!attribute_fits(name, needs, &has)).then(|| Mismatch::Attribute {
            name: name.clone(),
            needs: needs.clone(),
            has: has.into_iter().map(str::to_owned).collect(),
        })
    });
    amounts.chain(attributes).collect()
}

/// True if nothing keeps a step from a slot.
pub fn fits(slot: &SlotSpec, pools: &Pools, step: &StepOutline) -> bool {
    mismatches(slot, pools, step).is_empty()
}

/// How much of a slot a step would leave unused: the sum of the unused shares of what the slot has. Smaller is the better fit.
///
/// A graphics processor left unused counts four times: there are few.
pub fn waste(slot: &SlotSpec, step: &StepOutline) -> f64 {
    const WEIGHTS: [(&str, f64); 4] = [
        ("amount.worker.vcpu", 1.0),
        ("amount.worker.memory", 1.0),
        ("amount.worker.gpu", 4.0),
        ("amount.worker.disk.scratch", 0.5),
    ];
    let unused = |(name, weight): (&str, f64)| {
        let has = amount(slot, name).filter(|has| *has > 0.0)?;
        let used = step.amounts.get(name).copied().unwrap_or(0.0);
        Some(weight * (1.0 - (used / has).clamp(0.0, 1.0)))
    };
    WEIGHTS.into_iter().filter_map(unused).sum()
}

/// The slot that a step fits best, by its index; the first of equals.
pub fn best_fit<'a>(
    slots: impl IntoIterator<Item = &'a SlotSpec>,
    pools: &Pools,
    step: &StepOutline,
) -> Option<usize> {
    slots
        .into_iter()
        .enumerate()
        .filter(|(_, slot)| fits(slot, pools, step))
        .map(|(index, slot)| (index, waste(slot, step)))
        .min_by(|(_, one), (_, other)| one.total_cmp(other))
        .map(|(index, _)| index)
}

fn amount(slot: &SlotSpec, name: &str) -> Option<f64> {
    // Amounts of this size are exact in a double; more than 2^53 MiB is no slot.
    let number = |value: u64| value as f64;
    Some(match name {
        "amount.worker.vcpu" => f64::from(slot.vcpu),
        "amount.worker.memory" => number(slot.memory_mib),
        "amount.worker.gpu" => f64::from(slot.gpu),
        "amount.worker.gpu.memory" => number(slot.gpu_memory_mib),
        "amount.worker.disk.scratch" => number(slot.scratch_mib) / MIB,
        _ => return None,
    })
}

fn values<'a>(slot: &'a SlotSpec, name: &str) -> Vec<&'a str> {
    let found = match name.strip_prefix(SOFTWARE) {
        Some(software) => slot.software.get(software),
        None if name == WALLS => Some(&slot.walls),
        None => slot.attributes.get(name),
    };
    found.into_iter().flatten().map(String::as_str).collect()
}

fn attribute_fits(name: &str, needs: &[String], has: &[&str]) -> bool {
    // One wall does not stand in for another.
    if name == WALLS {
        return needs.iter().all(|wall| has.contains(&wall.as_str()));
    }
    let version = name.starts_with(SOFTWARE);
    needs.iter().any(|need| {
        has.iter().any(|has| {
            let rest = has.strip_prefix(need.as_str());
            rest.is_some_and(|rest| rest.is_empty() || version && rest.starts_with('.'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn pools() -> Pools {
        [("amount.licence.c".to_owned(), 2)].into()
    }

    fn slot() -> SlotSpec {
        SlotSpec {
            vcpu: 8,
            memory_mib: 16_384,
            gpu: 0,
            gpu_memory_mib: 0,
            scratch_mib: 10_240,
            attributes: [("attr.worker.os.family".to_owned(), set(&["linux"]))].into(),
            walls: set(&["landlock", "seccomp"]),
            software: [("blender".to_owned(), set(&["4.2.1", "5.0"]))].into(),
        }
    }

    fn step(amounts: &[(&str, f64)], attributes: &[(&str, &[&str])]) -> StepOutline {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        StepOutline {
            tasks: 1,
            depends_on: vec![],
            amounts: amounts
                .iter()
                .map(|(name, n)| ((*name).to_owned(), *n))
                .collect(),
            attributes: attributes
                .iter()
                .map(|(name, values)| ((*name).to_owned(), words(values)))
                .collect(),
            timeout: 60,
            batch: None,
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let table: [(StepOutline, &[&str]); 17] = [
            (step(&[("amount.licence.c", 2.0)], &[]), &[]),
            (
                step(&[("amount.licence.c", 2.5)], &[]),
                &["needs 2.5 licence.c, has 2"],
            ),
            (step(&[], &[]), &[]),
            (step(&[("amount.worker.vcpu", 8.0)], &[]), &[]),
            (
                step(&[("amount.worker.vcpu", 8.5)], &[]),
                &["needs 8.5 vcpu, has 8"],
            ),
            (step(&[("amount.worker.disk.scratch", 10.0)], &[]), &[]),
            (
                step(&[("amount.worker.disk.scratch", 10.5)], &[]),
                &["needs 10.5 disk.scratch, has 10"],
            ),
            (
                step(&[("amount.worker.gpu", 1.0)], &[]),
                &["needs 1 gpu, has 0"],
            ),
            (
                step(&[("amount.licences", 1.0)], &[]),
                &["needs 1 licences, which it does not offer"],
            ),
            (
                step(&[("amount.worker.vcpu", f64::NAN)], &[]),
                &["needs NaN vcpu, has 8"],
            ),
            (
                step(&[], &[("attr.worker.os.family", &["windows", "linux"])]),
                &[],
            ),
            (
                step(&[], &[("attr.worker.os.family", &["windows", "macos"])]),
                &["needs os.family windows or macos, has linux"],
            ),
            (step(&[], &[("attr.software.blender", &["4.2"])]), &[]),
            (step(&[], &[("attr.software.blender", &["4.20", "4"])]), &[]),
            (
                step(&[], &[("attr.software.blender", &["4.21", "5.0.1"])]),
                &["needs blender 4.21 or 5.0.1, has 4.2.1 and 5.0"],
            ),
            (
                step(&[], &[("attr.software.povray", &["3.7"])]),
                &["needs povray 3.7, has none"],
            ),
            (
                step(&[], &[("attr.safelight.wall", &["landlock", "cgroup"])]),
                &["needs wall landlock and cgroup, has landlock and seccomp"],
            ),
        ];
        for (step, expected) in table {
            let said: Vec<String> = mismatches(&slot(), &pools(), &step)
                .iter()
                .map(Mismatch::to_string)
                .collect();
            assert_eq!(said, expected, "{step:?}");
            assert_eq!(fits(&slot(), &pools(), &step), expected.is_empty());
        }
    }

    #[test]
    fn the_best_fit_leaves_the_large_slot_free() {
        let large = SlotSpec { vcpu: 64, ..slot() };
        let gpu = SlotSpec {
            gpu: 1,
            gpu_memory_mib: 8_192,
            ..slot()
        };
        let small = slot();
        let slots = [&large, &gpu, &small];
        let choose = |needs: &[(&str, f64)]| best_fit(slots, &pools(), &step(needs, &[]));
        assert_eq!(choose(&[("amount.worker.vcpu", 4.0)]), Some(2));
        assert_eq!(choose(&[("amount.worker.vcpu", 32.0)]), Some(0));
        assert_eq!(choose(&[("amount.worker.gpu", 1.0)]), Some(1));
        assert_eq!(choose(&[("amount.worker.vcpu", 65.0)]), None);
    }

    proptest! {
        #[test]
        fn more_of_everything_fits_whatever_fitted(vcpu in 0u32..64, memory in 0u64..1 << 20, needs in 0.0f64..64.0, wants in 0.0f64..1e6) {
            let step = step(&[("amount.worker.vcpu", needs), ("amount.worker.memory", wants)], &[]);
            let small = SlotSpec { vcpu, memory_mib: memory, ..slot() };
            let large = SlotSpec { vcpu: vcpu + 1, memory_mib: memory + 1, ..slot() };
            prop_assert!(!fits(&small, &pools(), &step) || fits(&large, &pools(), &step));
        }
    }
}
