//! Which nodes a job is kept from, because its sessions fail there by its own fault and work elsewhere: a library that is missing, another
//! driver. Pure; leases are given and `why` answers by it.
//!
//! The node is not drained: other jobs may do well there, and whoever submits a job could bring it about at will. Nothing is kept from the
//! only nodes that could take it: then it fails there as it would have.

use std::collections::BTreeMap;

use safelight_policies::{id::NodeName, outline::StepOutline};

use crate::{
    matching::{self, SlotSpec},
    pools::Pools,
};

/// Nodes on which a job failed too often since its last result there, and how often; it has results from others.
pub type Failing = BTreeMap<NodeName, u64>;

/// How often a job failed on a node that a step of it is kept from; `None` if it is not. `up` are the slots of nodes that are up, busy or not.
pub fn keeps_from<'a>(
    failing: &Failing,
    node: &NodeName,
    (step, pools): (&StepOutline, &Pools),
    up: impl IntoIterator<Item = (&'a NodeName, &'a SlotSpec)>,
) -> Option<u64> {
    let failures = failing.get(node)?;
    // A node that is on the list itself is no other to go to.
    let other = up
        .into_iter()
        .any(|(name, spec)| !failing.contains_key(name) && matching::fits(spec, pools, step));
    other.then_some(*failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes on the list, slots that are up, what is said of the node `bad`.
    type Case = (
        &'static [&'static str],
        &'static [(&'static str, u32)],
        Option<u64>,
    );

    #[test]
    fn a_step_is_kept_from_a_node_only_if_another_could_take_it() {
        let name = |name: &str| NodeName::new(name).unwrap();
        let slot = |vcpu| SlotSpec {
            vcpu,
            ..SlotSpec::default()
        };
        let step = StepOutline {
            tasks: 1,
            depends_on: vec![],
            amounts: [("amount.worker.vcpu".to_owned(), 8.0)].into(),
            attributes: Default::default(),
            timeout: 60,
            batch: None,
        };
        let both: &'static [(&str, u32)] = &[("bad", 8), ("good", 8)];
        let table: [Case; 6] = [
            (&["bad"], both, Some(3)),
            (&[], both, None),
            (&["good"], both, None),
            (&["bad", "good"], both, None),
            (&["bad"], &[("bad", 8), ("good", 4)], None),
            (&["bad"], &[("bad", 8)], None),
        ];
        for (listed, up, expected) in table {
            let failing: Failing = listed.iter().map(|it| (name(it), 3)).collect();
            let up: Vec<_> = up.iter().map(|(it, n)| (name(it), slot(*n))).collect();
            let up = up.iter().map(|(name, spec)| (name, spec));
            let said = keeps_from(&failing, &name("bad"), (&step, &Pools::new()), up);
            assert_eq!(said, expected, "{listed:?}");
        }
    }
}
