//! The resource database's values: render servers, their slots, and when a slot is available. Pure.

use safelight_policies::id::{Fence, JobId, NodeName, SessionId, VerifyKey};
use serde::{Deserialize, Serialize};

use crate::{
    ledger::{Place, states},
    matching::SlotSpec,
};

/// The most slots of one node.
pub const SLOTS_MAX: usize = 4_096;

states!(
    /// Where a node stands.
    NodeState {
        /// It takes work.
        Up = "up",
        /// It ends what it has and takes nothing new.
        Draining = "draining",
        /// It said goodbye.
        Down = "down",
        /// It was not heard of for too long.
        Lost = "lost",
    }
);

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeEvent {
    /// It began, holding nothing.
    Registered,
    /// It was heard of.
    Heard,
    /// It was not heard of for longer than [`crate::Rules::fresh`].
    Silent,
    /// It said goodbye.
    Left,
    /// Someone wants it empty, or it had too many faults.
    Drained,
    /// Someone wants it back.
    Resumed,
}

/// Where a node goes. That it is to be drained is kept apart from whether it is heard of, and outlives a restart: only a resume takes it
/// back.
pub fn follow(state: NodeState, drained: bool, event: NodeEvent) -> (NodeState, bool) {
    let drained = match event {
        NodeEvent::Drained => true,
        NodeEvent::Resumed => false,
        _ => drained,
    };
    let there = if drained {
        NodeState::Draining
    } else {
        NodeState::Up
    };
    let state = match (event, state) {
        (NodeEvent::Registered, _) => there,
        // A node that said goodbye must begin anew.
        (_, NodeState::Down) | (NodeEvent::Left, _) => NodeState::Down,
        (NodeEvent::Silent, _) => NodeState::Lost,
        (NodeEvent::Drained | NodeEvent::Resumed, NodeState::Lost) => NodeState::Lost,
        _ => there,
    };
    (state, drained)
}

/// A node as it registers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Its name.
    pub name: NodeName,
    /// Its key. A name keeps its first key until the node is forgotten.
    pub key: VerifyKey,
    /// Its slots, numbered from zero in this order.
    pub slots: Vec<SlotSpec>,
}

/// A node in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Its name.
    pub name: NodeName,
    /// Its key.
    pub key: VerifyKey,
    /// Where it stands.
    pub state: NodeState,
    /// It is to be drained, whatever its state.
    pub drained: bool,
    /// Its last heartbeat, in seconds since 1970.
    pub heard_at: u64,
    /// Faults since its last result.
    pub faults: u32,
}

/// A slot in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotEntry {
    /// Where it is.
    pub place: Place,
    /// What it offers.
    pub spec: SlotSpec,
    /// Why it takes nothing now; `None` if it is available.
    pub unavailable: Option<Unavailable>,
    /// What runs in it.
    pub holds: Option<(JobId, SessionId)>,
}

/// A session that a node says it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The session.
    pub session: SessionId,
    /// Its fence.
    pub fence: Fence,
}

/// The answer to a heartbeat: what the node must end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pulse {
    /// Sessions that hold nothing any more. What they made counts for nothing.
    pub lost: Vec<SessionId>,
    /// Sessions whose job was canceled. Their lease still holds, for an orderly end.
    pub cancel: Vec<SessionId>,
}

/// Why a slot takes nothing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Unavailable {
    /// Its node is being drained.
    #[error("its node is being drained")]
    Draining,
    /// Its node said goodbye.
    #[error("its node is down")]
    Down,
    /// Its node was not heard of.
    #[error("its node was not heard of for {seconds} s")]
    Silent {
        /// For how long.
        seconds: u64,
    },
    /// A session holds it.
    #[error("{session} is in it")]
    Busy {
        /// The session.
        session: SessionId,
    },
}

/// Is a slot available? `holder` is the session that holds it by the ledger.
///
/// A heartbeat from the future, after a clock was set back, counts as fresh.
pub fn availability(
    node: &NodeEntry,
    holder: Option<SessionId>,
    now: u64,
    fresh: u64,
) -> Result<(), Unavailable> {
    let seconds = now.saturating_sub(node.heard_at);
    match node.state {
        NodeState::Down => Err(Unavailable::Down),
        NodeState::Lost => Err(Unavailable::Silent { seconds }),
        _ if seconds > fresh => Err(Unavailable::Silent { seconds }),
        NodeState::Draining => Err(Unavailable::Draining),
        NodeState::Up => holder.map_or(Ok(()), |session| Err(Unavailable::Busy { session })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_comes_and_goes() {
        use NodeEvent::{Drained, Heard, Left, Registered, Resumed, Silent};
        use NodeState::{Down, Draining, Lost, Up};
        let table: [(&[NodeEvent], NodeState); 9] = [
            (&[Heard], Up),
            (&[Silent], Lost),
            (&[Silent, Heard], Up),
            (&[Drained, Silent, Heard], Draining),
            (&[Drained, Registered], Draining),
            (&[Drained, Left, Resumed, Registered], Up),
            (&[Silent, Drained], Lost),
            (&[Left, Heard], Down),
            (&[Left, Silent, Registered], Up),
        ];
        for (events, expected) in table {
            let end = events.iter().fold((Up, false), |(state, drained), event| {
                follow(state, drained, *event)
            });
            assert_eq!(end.0, expected, "{events:?}");
        }
    }

    #[test]
    fn a_slot_is_available_while_its_node_is_heard_of() {
        let session = SessionId::from_random([1; 10]);
        let node = |state| NodeEntry {
            name: NodeName::new("n1").unwrap(),
            key: VerifyKey([0; 32]),
            state,
            drained: false,
            heard_at: 100,
            faults: 0,
        };
        let silent = |seconds| Err(Unavailable::Silent { seconds });
        let table = [
            (NodeState::Up, None, 145, Ok(())),
            (NodeState::Up, None, 146, silent(46)),
            (NodeState::Up, None, 5, Ok(())),
            (
                NodeState::Up,
                Some(session),
                100,
                Err(Unavailable::Busy { session }),
            ),
            (
                NodeState::Draining,
                Some(session),
                100,
                Err(Unavailable::Draining),
            ),
            (NodeState::Draining, None, 200, silent(100)),
            (NodeState::Down, None, 100, Err(Unavailable::Down)),
            (NodeState::Lost, None, 110, silent(10)),
        ];
        for (state, holder, now, expected) in table {
            assert_eq!(
                availability(&node(state), holder, now, 45),
                expected,
                "{state} {holder:?} {now}"
            );
        }
    }
}
