//! What there is so much of for the whole site, whichever node it is used on: floating licences, for the most part. Pure.
//!
//! A pool is an amount by its OpenJD capability name that is no slot's own. What running sessions hold of it is counted from the ledger inside
//! the transaction that gives the next lease, so that a pool is never given out twice; a session that was lost holds its part until its lease
//! ends, because its program may still be there.

use std::collections::BTreeMap;

use safelight_policies::outline::StepOutline;

/// Pools by capability name, for example `amount.licence.c`.
pub type Pools = BTreeMap<String, u32>;

/// Amounts with this prefix are a slot's own, and never a pool's.
const OWN: &str = "amount.worker.";

/// True for a name that a pool may have.
pub fn is_name(name: &str) -> bool {
    name.starts_with("amount.") && !name.starts_with(OWN) && name.len() <= 100
}

/// Pools, and what is in use of each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoolUse {
    sizes: Pools,
    used: BTreeMap<String, f64>,
}

/// A pool of which too little is left.
#[derive(Debug, Clone, PartialEq)]
pub struct Short {
    /// Its name.
    pub name: String,
    /// What the step needs.
    pub needs: f64,
    /// What is in use.
    pub used: f64,
    /// How much there is.
    pub size: u32,
}

impl PoolUse {
    /// Nothing of these is in use.
    pub fn new(sizes: &Pools) -> Self {
        Self {
            sizes: sizes.clone(),
            used: BTreeMap::new(),
        }
    }

    /// True if there is nothing to count.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// The pools.
    pub fn sizes(&self) -> &Pools {
        &self.sizes
    }

    /// Each pool with what is in use of it.
    pub fn all(&self) -> impl Iterator<Item = (&str, f64, u32)> {
        let used = |name: &String| self.used.get(name).copied().unwrap_or_default();
        let all = self.sizes.iter();
        all.map(move |(name, size)| (name.as_str(), used(name), *size))
    }

    /// So many sessions hold these amounts.
    pub fn take(&mut self, amounts: &BTreeMap<String, f64>, sessions: u64) {
        for (name, needs) in amounts {
            if self.sizes.contains_key(name) {
                // Sessions are few: exact in a double.
                *self.used.entry(name.clone()).or_default() += needs * sessions as f64;
            }
        }
    }

    /// The first pool of which a step needs more than is left.
    pub fn short(&self, step: &StepOutline) -> Option<Short> {
        step.amounts.iter().find_map(|(name, needs)| {
            let size = *self.sizes.get(name)?;
            let used = self.used.get(name).copied().unwrap_or_default();
            // Written so that a number that is none never fits.
            let fits = used + needs <= f64::from(size);
            (!fits).then(|| Short {
                name: name.clone(),
                needs: *needs,
                used,
                size,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::tests::outline;

    const C: &str = "amount.licence.c";

    fn step(needs: f64) -> StepOutline {
        let mut step = outline(&[(1, &[])]).steps.remove(0);
        step.amounts = [
            (C.to_owned(), needs),
            ("amount.worker.vcpu".to_owned(), 4.0),
        ]
        .into();
        step
    }

    #[test]
    fn what_is_in_use_is_not_there_for_another() {
        let mut pools = PoolUse::new(&[(C.to_owned(), 3)].into());
        for (needs, sessions, left) in [(1.0, 1, true), (0.5, 2, true), (1.0, 1, false)] {
            pools.take(&step(needs).amounts, sessions);
            assert_eq!(
                pools.short(&step(1.0)).is_none(),
                left,
                "{needs} {sessions}"
            );
        }
        let short = pools.short(&step(1.0)).unwrap();
        assert_eq!((short.used, short.size, short.needs), (3.0, 3, 1.0));
        assert!(pools.short(&step(f64::NAN)).is_some());
        assert!(
            pools.short(&step(-1.0)).is_none() && PoolUse::default().short(&step(9.0)).is_none()
        );
        assert_eq!(pools.all().collect::<Vec<_>>(), [(C, 3.0, 3)]);
    }

    #[test]
    fn a_pool_is_never_a_slot_s_own_amount() {
        for (name, is) in [
            (C, true),
            ("amount.worker.vcpu", false),
            ("attr.room", false),
            ("licence", false),
        ] {
            assert_eq!(is_name(name), is, "{name}");
        }
    }
}
