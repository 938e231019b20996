//! Where a session ran, as its own log says. Pure.

use safelight_policies::id::{NodeName, SiteName, SlotIndex};

/// Where a session ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The site, if it was another one.
    pub(crate) site: Option<SiteName>,
    /// The node.
    pub(crate) node: NodeName,
    /// The slot.
    pub(crate) slot: SlotIndex,
}
