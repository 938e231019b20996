//! Whether a log is sound in every respect, by all processors in one pass: it follows from itself, it is the one that was noted and
//! registered, and every sealed record opens in its turn. Never asks an index.

use std::io::{Read, Seek};

use safelight_audit::{
    BodyRef, Checkpoint, Header, Statement,
    pass::{self, Block},
    tree::{Frontier, Hash, leaf},
};
use safelight_policies::id::SessionId;
use safelight_seal::job_key::JobKey;

use super::digest::{Opening, Turns};

/// A log that is sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sound {
    pub(crate) header: Header,
    pub(crate) records: u64,
    pub(crate) sealed: u64,
}

/// What of a block counts.
struct Checked {
    sealed: u64,
    turns: std::collections::BTreeMap<SessionId, (u64, u64)>,
    leaves: Vec<Hash>,
    anchored: bool,
}

/// What a log is held against.
#[derive(Clone, Copy)]
pub(crate) struct Against<'a> {
    pub(crate) key: &'a JobKey,
    /// The only session that it may tell of.
    pub(crate) only: Option<SessionId>,
    pub(crate) anchor: Option<Checkpoint>,
    pub(crate) statements: &'a [Statement],
}

/// Checks a log; `None` if anything is wrong with it, which others then name.
pub(crate) fn sound(log: impl Read + Seek, against: Against<'_>) -> Option<Sound> {
    let (mut sealed, mut turns, mut frontier) = (0, Turns::default(), Frontier::default());
    let mut anchored = against.anchor.is_none();
    let mut statements: Vec<_> = against.statements.iter().collect();
    statements.sort_by_key(|said| said.records);
    let mut statements = statements.into_iter().peekable();
    let passed = pass::pass(
        log,
        |block| check(block, against),
        |checked| {
            let Some(checked) = checked else { return false };
            anchored |= checked.anchored;
            sealed += checked.sealed;
            for leaf in checked.leaves {
                frontier.push(leaf);
                while let Some(said) = statements.next_if(|said| said.records == frontier.size()) {
                    if said.root != frontier.root() {
                        return false;
                    }
                }
            }
            turns.follow(&checked.turns)
        },
    )
    .ok()?;
    let as_said = passed.complete && anchored && statements.next().is_none();
    as_said.then_some(Sound {
        header: passed.header,
        records: passed.end.at.records,
        sealed,
    })
}

fn check(block: &Block, against: Against<'_>) -> Option<Checked> {
    let mut opening = Opening::new(against.key, against.only);
    let (mut sealed, mut leaves, mut anchored) = (0, Vec::new(), false);
    for entry in block.records() {
        let entry = entry?;
        anchored |= against
            .anchor
            .is_some_and(|anchor| anchor.records == entry.record.seq && anchor.chain == entry.link);
        if !against.statements.is_empty() {
            leaves.push(leaf(entry.encoded));
        }
        if let BodyRef::Sealed {
            session,
            index,
            bytes,
        } = entry.record.body
        {
            opening.open(session, index, bytes)?;
            sealed += 1;
        }
    }
    Some(Checked {
        sealed,
        turns: opening.turns(),
        leaves,
        anchored,
    })
}
