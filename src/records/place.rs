//! Where a session ran, as its own log says. Pure.

use safelight_policies::{
    event::Control,
    id::{NodeName, SessionId, SiteName, SlotIndex},
};

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

impl Place {
    /// A lease says where its session is; `site` is the one that the log came from.
    pub(super) fn told(control: &Control, site: Option<&SiteName>) -> Option<(SessionId, Self)> {
        let Control::Leased {
            session,
            node,
            slot,
            ..
        } = control
        else {
            return None;
        };
        let place = Self {
            site: site.cloned(),
            node: node.clone(),
            slot: *slot,
        };
        Some((*session, place))
    }
}
