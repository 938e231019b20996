//! After a restore: every link begins a new run of numbers, before a letter goes under a number that is used.
//!
//! A site that is served finds out by itself, see [`super::link`]; this is for who knows it before.

use safelight_bundle::Epoch;

use super::{
    card::{Card, Peer},
    link::Link,
    serve::alone,
};
use crate::{failure::Failure, process, run::Books, state::State};

/// Begins anew towards each site that was written to; answers how many there are.
pub(crate) fn restored(state: &State) -> Result<usize, Failure> {
    let _alone = alone(state)?;
    let card = Card::read(&Card::path(state))?;
    let (books, now) = (Books::open(state)?, process::now_seconds());
    let peers = Peer::all(state)?;
    for peer in &peers {
        let (me, own) = (card.letters, card.client.as_ref());
        let epoch = Epoch::new(now, [0; 3]);
        let mut link = Link::open(state, &books, me, own, peer.clone(), epoch)?;
        link.begin(&books, None, now)?;
    }
    Ok(peers.len())
}
