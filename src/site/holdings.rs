//! What another site holds of ours: the blobs of the letters that it accepted within the last day. They are not brought again.
//!
//! It is a belief and spares a way, nothing hangs on it: if the other site lacks a blob after all, it does not answer, and the letter is
//! offered once more with everything that it names. A day is as long as objects that nobody refers to are kept there by themselves. Only
//! letters of this link count, so it is about one client's own objects.

use std::collections::BTreeSet;

use safelight_policies::id::ObjectId;
use serde::{Deserialize, Serialize};

use super::card::Peer;
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs,
    state::State,
    store::Store,
};

/// For how long a receipt is believed, in seconds.
const BELIEVED: u64 = 86_400;
/// How many letters are remembered: the newest.
const LISTS_MAX: usize = 16;

/// A list of blobs that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Accepted {
    /// The list, an object of ours.
    list: ObjectId,
    /// When, in seconds since 1970.
    at: u64,
}

/// Every blob that the peer is believed to hold. What cannot be read is not believed.
pub(super) fn read(peer: &Peer, state: &State, store: &Store, now: u64) -> BTreeSet<ObjectId> {
    let mut holds = BTreeSet::new();
    for Accepted { list, .. } in believed(accepted(peer, state), now) {
        if let Ok(blobs) = store.list(list) {
            holds.extend(blobs.entries().iter().map(|(id, _)| *id));
        }
    }
    holds
}

/// The peer accepted what is on this list.
pub(super) fn note(peer: &Peer, state: &State, list: ObjectId, now: u64) -> Result<(), Failure> {
    let mut all = believed(accepted(peer, state), now);
    all.retain(|known| known.list != list);
    all.push(Accepted { list, at: now });
    let old = all.len().saturating_sub(LISTS_MAX);
    all.drain(..old);
    let bytes = serde_json::to_vec(&all).or_fail(Kind::Internal)?;
    jobs::write_private(&peer.holdings(state), &bytes)
}

/// Nothing is believed any more.
pub(super) fn forget(peer: &Peer, state: &State) -> Result<(), Failure> {
    match std::fs::remove_file(peer.holdings(state)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::from_error(Kind::Environment, &error))
        }
        _ => Ok(()),
    }
}

fn accepted(peer: &Peer, state: &State) -> Vec<Accepted> {
    let bytes = std::fs::read(peer.holdings(state)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// A time to come is no reason to believe anything.
fn believed(mut all: Vec<Accepted>, now: u64) -> Vec<Accepted> {
    all.retain(|it| it.at <= now && now - it.at < BELIEVED);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_believed_for_a_day() {
        let list = ObjectId([7; 32]);
        let at = |at| believed(vec![Accepted { list, at }], 100_000).len();
        assert_eq!((at(100_000), at(13_601)), (1, 1));
        assert_eq!((at(13_600), at(100_001)), (0, 0));
    }
}
