//! Makes an index: one pass over the log, whose blocks are put together in order.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek},
    path::Path,
};

use safelight_audit::{Checkpoint, pass};
use safelight_policies::id::SessionId;
use safelight_seal::{audit_key::IndexKey, job_key::JobKey};

use super::{
    digest::{Digest, Kind, Names, Tally, Turns, Who, digest},
    file::{Head, Making, Share, Shares, Stamp},
};

/// The whole log in short, as far as it was gone through.
#[derive(Default)]
struct Total {
    whos: Names<Who>,
    paths: Names<Vec<u8>>,
    numbers: HashMap<Kind, u32>,
    kinds: Vec<(Kind, Tally)>,
    controls: Vec<safelight_audit::Record>,
    turns: Turns,
}

impl Total {
    /// Adds a block; answers what its part of the index says, or nothing if the block does not follow.
    fn add(&mut self, digest: Digest) -> Option<Shares> {
        if !self.turns.follow(&digest.turns) {
            return None;
        }
        let whos: Option<Vec<u32>> = digest.whos.iter().map(|it| self.whos.number(it)).collect();
        let paths: Option<Vec<u32>> = digest
            .paths
            .iter()
            .map(|it| self.paths.number(it.as_slice()))
            .collect();
        let (whos, paths) = (whos?, paths?);
        let mut shares = Vec::with_capacity(digest.kinds.len());
        for (kind, tally, places) in digest.kinds {
            let kind = Kind {
                who: whos[kind.who as usize],
                path: paths[kind.path as usize],
                to: kind.to.map(|to| paths[to as usize]),
                ..kind
            };
            let number = match self.numbers.get(&kind) {
                Some(number) => {
                    self.kinds[*number as usize].1.add(tally);
                    *number
                }
                None => {
                    let number = u32::try_from(self.kinds.len()).ok()?;
                    self.numbers.insert(kind, number);
                    self.kinds.push((kind, tally));
                    number
                }
            };
            let share = Share {
                kind: number,
                tally,
            };
            shares.push((share, places));
        }
        self.controls.extend(digest.controls);
        Some(Shares::new(shares))
    }
}

/// Makes the index of a log at `path`; `None` if the log is not whole, or the disk does not take it.
pub(super) fn make(
    path: &Path,
    (key, index): (&JobKey, &IndexKey),
    log: impl Read + Seek,
    (of, anchor, only): (Stamp, Option<Checkpoint>, Option<SessionId>),
) -> Option<(File, Head)> {
    let mut making = Making::begin(path, index).ok()?;
    let mut total = Total::default();
    let mut anchored = anchor.is_none();
    let in_short = |block: &pass::Block| {
        let met = anchor.is_some_and(|anchor| holds(block, anchor));
        (digest(block, key, only), (block.from, block.to), met)
    };
    let passed = pass::pass(log, in_short, |(digest, between, met)| {
        anchored |= met;
        let Some(digest) = digest else { return false };
        let times = digest.times;
        let shares = total.add(digest);
        shares.is_some_and(|shares| making.part(between, times, &shares).is_ok())
    })
    .ok()?;
    if !passed.complete || !anchored {
        return None;
    }
    let head = Head {
        of,
        header: passed.header,
        anchor,
        end: passed.end,
        whos: total.whos.all,
        paths: total.paths.all,
        kinds: total.kinds,
        controls: total.controls,
        parts: Vec::new(),
    };
    making.end(path, head).ok()
}

/// True if the log was at this state before, within or after the block.
fn holds(block: &pass::Block, anchor: Checkpoint) -> bool {
    let within = block.from.at.records < anchor.records && anchor.records < block.to.at.records;
    block.from.at == anchor
        || block.to.at == anchor
        || (within
            && block
                .records()
                .flatten()
                .any(|it| it.record.seq == anchor.records && it.link == anchor.chain))
}
