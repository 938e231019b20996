//! Sends letters: what is posted is numbered, signed and kept, then offered until its receipt comes back.
//!
//! - A number is used once: it is kept before anything leaves, and a letter is offered again byte for byte.
//! - Blobs go first, then the letter. What is on the medium with the right length and hash is not sent again, so an interrupted push goes on.
//! - What the recipient is believed to hold is not brought until nobody answers; nor is what only gets another name read before that.
//! - A receipt, or the letter's end, removes from the medium what nobody else waits for.

mod again;
mod blobs;
mod item;

use std::collections::{BTreeMap, BTreeSet};

use safelight_policies::id::{ObjectId, VerifyKey};

use crate::{Epoch, Letter, Load, Medium, Objects, Receipt, Seq, Stamp, Verdict, seal};
use blobs::{Sharing, load_list, put_load};
pub use item::{Collected, Held, Item, Journal, Numbers, OutboxError, Posted, Pushed};

/// The sender's side of hot folders. One for each sender's key, and one for each folder.
pub struct Outbox {
    me: VerifyKey,
    epoch: Epoch,
    last: BTreeMap<[u8; 32], Numbers>,
    items: BTreeMap<([u8; 32], Seq), Item>,
    /// What the recipient is believed to hold: not brought with the first offer of a letter.
    holds: BTreeSet<ObjectId>,
}

impl Outbox {
    /// An outbox that goes on from what was kept. `epoch` begins now: it is used for recipients of whom no numbers were kept.
    pub fn new(
        me: VerifyKey,
        epoch: Epoch,
        numbers: impl IntoIterator<Item = Numbers>,
        items: impl IntoIterator<Item = Item>,
    ) -> Self {
        let last = numbers
            .into_iter()
            .map(|numbers| (numbers.to.0, numbers))
            .collect();
        let items = items
            .into_iter()
            .map(|item| ((item.to.0, item.seq), item))
            .collect();
        Self {
            me,
            epoch,
            last,
            items,
            holds: BTreeSet::new(),
        }
    }

    /// Says what the recipient holds already, in place of what was said before. It is a belief: a letter that is offered once more, because
    /// nobody answered, comes with everything that it names.
    pub fn believe(&mut self, holds: BTreeSet<ObjectId>) {
        self.holds = holds;
    }

    /// True if a letter that brings something was never offered.
    pub fn has_load_to_offer(&self) -> bool {
        let mut items = self.items.values();
        items.any(|item| item.offers == 0 && item.load.is_some() && item.held.is_none())
    }

    /// The letters on their way.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    /// Posts a letter: numbers it, has it signed, keeps it. It leaves with the next push. `sign` is as in [`seal`].
    pub fn post<T: Letter>(
        &mut self,
        to: VerifyKey,
        (issued, expires): (u64, u64),
        letter: impl FnOnce(Stamp) -> T,
        sign: impl FnOnce(&str, &[u8]) -> [u8; 64],
        journal: &mut dyn Journal,
    ) -> Result<Posted, OutboxError> {
        let first = Seq {
            epoch: self.epoch,
            number: 0,
        };
        let last = self.last.get(&to.0).map_or(first, |numbers| numbers.last);
        let number = last.number.checked_add(1).ok_or(OutboxError::NoNumber)?;
        let seq = Seq { number, ..last };
        let letter = letter(Stamp {
            to,
            seq,
            issued,
            expires,
        });
        let bytes = seal(&letter, &self.me, sign).map_err(|source| OutboxError::Seal { source })?;
        let load = letter.load().copied();
        let item = Item {
            to,
            seq,
            kind: T::KIND,
            bytes,
            load,
            expires,
            offers: 0,
            offered: 0,
            held: None,
        };
        let numbers = Numbers { to, last: seq };
        store(journal, &numbers, &item)?;
        let posted = Posted { of: item.of(), seq };
        self.last.insert(to.0, numbers);
        self.items.insert((to.0, seq), item);
        Ok(posted)
    }

    /// Brings to the medium what is due, and takes back what has ended. `now` is in seconds since 1970.
    pub fn push(
        &mut self,
        medium: &dyn Medium,
        objects: &dyn Objects,
        journal: &mut dyn Journal,
        now: u64,
    ) -> Pushed {
        let mut pushed = Pushed::default();
        let mut there = BTreeSet::new();
        let keys: Vec<_> = self.items.keys().copied().collect();
        for key in keys {
            let Some(item) = self.items.get(&key) else {
                continue;
            };
            let done = if now >= item.end() && item.kind.is_kept() {
                pushed.held.push(item.of());
                self.hold(key, None, now, medium, objects, journal)
            } else if now >= item.end() {
                let (of, answered) = (item.of(), item.kind.is_answered());
                self.drop_item(key, medium, objects, journal).map(|()| {
                    if answered {
                        pushed.lapsed.push(of);
                    }
                })
            } else if now >= item.due() {
                self.offer(key, medium, objects, journal, now, &mut there, &mut pushed)
            } else {
                Ok(())
            };
            // One letter whose blobs cannot be read does not hold up the others; a folder or a journal that fails does.
            if let Err(error) = done {
                let goes_on = error.is_of_one_letter();
                pushed.stopped = Some(error);
                if !goes_on {
                    break;
                }
            }
        }
        pushed
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one push, which belong to the caller"
    )]
    fn offer(
        &mut self,
        key: ([u8; 32], Seq),
        medium: &dyn Medium,
        objects: &dyn Objects,
        journal: &mut dyn Journal,
        now: u64,
        there: &mut BTreeSet<ObjectId>,
        pushed: &mut Pushed,
    ) -> Result<(), OutboxError> {
        let (Some(item), Some(numbers)) = (self.items.get_mut(&key), self.last.get(&key.0)) else {
            return Ok(());
        };
        if let Some(load) = &item.load {
            let none = BTreeSet::new();
            let (holds, sharing) = match item.offers {
                0 => (&self.holds, Sharing::Unread),
                _ => (&none, Sharing::Verified),
            };
            put_load(load, medium, objects, holds, there, sharing, pushed)?;
        }
        let failed = |source| OutboxError::Medium { source };
        medium
            .put_ready(&item.name(self.me), &item.bytes)
            .map_err(failed)?;
        let offers = item.offers.saturating_add(1);
        let offered = Item {
            offers,
            offered: now,
            ..item.clone()
        };
        store(journal, numbers, &offered)?;
        pushed.offered.push(offered.of());
        *item = offered;
        Ok(())
    }

    /// Acts on a receipt that `from` signed: removes the letter from the medium, and the blobs that no other letter brings.
    pub fn collect(
        &mut self,
        from: &VerifyKey,
        receipt: &Receipt,
        medium: &dyn Medium,
        objects: &dyn Objects,
        journal: &mut dyn Journal,
    ) -> Result<Collected, OutboxError> {
        let mut items = self.items.iter();
        let found = items.find(|(_, item)| item.to == *from && item.of() == receipt.of);
        let Some(key) = found.map(|(key, _)| *key) else {
            return Ok(Collected::Unknown);
        };
        let (of, seq) = (receipt.of, key.1);
        let kept = self.items.get(&key).is_some_and(|it| it.kind.is_kept());
        Ok(match receipt.verdict {
            Verdict::Refused { code } if code.is_of_the_number() => {
                Collected::Renumber { of, seq, code }
            }
            Verdict::Refused { code } if kept => {
                let at = receipt.stamp.issued;
                self.hold(key, Some(code), at, medium, objects, journal)?;
                Collected::Held { of, code }
            }
            Verdict::Refused { code } => {
                self.drop_item(key, medium, objects, journal)?;
                Collected::Refused { of, code }
            }
            Verdict::Accepted => {
                self.drop_item(key, medium, objects, journal)?;
                Collected::Accepted { of }
            }
        })
    }

    /// The letter goes before its blobs, so that nobody waits for what is being removed; the journal last, so that all is done again after a crash.
    fn drop_item(
        &mut self,
        key: ([u8; 32], Seq),
        medium: &dyn Medium,
        objects: &dyn Objects,
        journal: &mut dyn Journal,
    ) -> Result<(), OutboxError> {
        let Some(item) = self.items.get(&key) else {
            return Ok(());
        };
        self.take_back(key, item, medium, objects)?;
        journal
            .remove(item.of())
            .map_err(|source| OutboxError::Journal { source })?;
        self.items.remove(&key);
        Ok(())
    }

    /// Takes a letter and what only it brings off the medium.
    fn take_back(
        &self,
        key: ([u8; 32], Seq),
        item: &Item,
        medium: &dyn Medium,
        objects: &dyn Objects,
    ) -> Result<(), OutboxError> {
        let failed = |source| OutboxError::Medium { source };
        medium
            .remove_ready(&item.to, &item.name(self.me).entry())
            .map_err(failed)?;
        for blob in self.only_of(key, objects) {
            medium.remove_blob(blob).map_err(failed)?;
        }
        Ok(())
    }

    /// The blobs that this letter brings and no other. If a list cannot be read, none: what is left over is harmless.
    fn only_of(&self, key: ([u8; 32], Seq), objects: &dyn Objects) -> BTreeSet<ObjectId> {
        let blobs = |load: &Load| {
            let list = load_list(load, objects).ok()?;
            let ids = list.entries().iter().map(|(id, _)| *id);
            Some(ids.chain([load.list]).collect::<Vec<_>>())
        };
        let Some(mine) = self
            .items
            .get(&key)
            .and_then(|item| item.load.as_ref())
            .and_then(blobs)
        else {
            return BTreeSet::new();
        };
        let mut mine: BTreeSet<ObjectId> = mine.into_iter().collect();
        let others = self.items.iter();
        let others = others.filter(|(other, item)| **other != key && item.held.is_none());
        for load in others.filter_map(|(_, item)| item.load.as_ref()) {
            match blobs(load) {
                Some(theirs) => theirs.iter().for_each(|id| {
                    mine.remove(id);
                }),
                None => return BTreeSet::new(),
            }
        }
        mine
    }
}

fn store(journal: &mut dyn Journal, numbers: &Numbers, item: &Item) -> Result<(), OutboxError> {
    journal
        .store(numbers, item)
        .map_err(|source| OutboxError::Journal { source })
}
