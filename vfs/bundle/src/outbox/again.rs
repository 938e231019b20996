//! Letters that go a second time: kept back until somebody decides, or sent under a new number; and new runs of numbers.
//!
//! A sender that was restored from a backup counts on from where the backup was, and uses numbers that its reader knows as others'. It finds
//! out by what the reader says it has seen, or by a receipt that refuses a number; then it begins a new run, and what was refused goes again.

use safelight_policies::id::{ObjectId, VerifyKey};

use super::{Held, Item, Journal, Numbers, Outbox, OutboxError, Posted, store};
use crate::{AnyLetter, Code, Epoch, Kind, Medium, Objects, SKEW, Seq, Stamp};

impl Outbox {
    /// The place of the last letter to this recipient; number 0 if there was none.
    pub fn last(&self, to: &VerifyKey) -> Seq {
        let none = Seq {
            epoch: self.epoch,
            number: 0,
        };
        self.last.get(&to.0).map_or(none, |numbers| numbers.last)
    }

    /// True if `seen`, the newest letter of ours that `to` says it knows, is one that we never sent: we lost count. What is said of a time
    /// to come is no reason to believe that.
    pub fn lost_count(&self, to: &VerifyKey, seen: Seq, now: u64) -> bool {
        seen.epoch.seconds() <= now.saturating_add(SKEW) && seen > self.last(to)
    }

    /// Begins a new run of numbers towards a recipient, later than the last and than `seen`.
    pub fn begin(
        &mut self,
        to: VerifyKey,
        seen: Option<Seq>,
        (now, random): (u64, [u8; 3]),
        journal: &mut dyn Journal,
    ) -> Result<Epoch, OutboxError> {
        let before = seen.map_or(0, |seen| seen.epoch.seconds());
        let before = before.max(self.last(&to).epoch.seconds());
        let epoch = Epoch::new(now.max(before.saturating_add(1)), random);
        let last = Seq { epoch, number: 0 };
        let numbers = Numbers { to, last };
        let begun = journal.begin(&numbers);
        begun.map_err(|source| OutboxError::Journal { source })?;
        self.last.insert(to.0, numbers);
        Ok(epoch)
    }

    /// The letters that are kept back.
    pub fn held(&self) -> impl Iterator<Item = (&Item, &Held)> {
        let items = self.items.values();
        items.filter_map(|item| Some((item, item.held.as_ref()?)))
    }

    /// Sends a letter once more: the same under the next number, signed anew. `None` if it is on its way no more, or its time is over.
    pub fn renumber(
        &mut self,
        of: ObjectId,
        now: u64,
        sign: impl FnOnce(&str, &[u8]) -> [u8; 64],
        medium: &dyn Medium,
        journal: &mut dyn Journal,
    ) -> Result<Option<Posted>, OutboxError> {
        let Some((key, old)) = self.items.iter().find(|(_, item)| item.of() == of) else {
            return Ok(None);
        };
        let (key, old) = (*key, old.clone());
        let sealed = |source| OutboxError::Seal { source };
        let letter = AnyLetter::open(old.kind, &old.bytes, &self.me).map_err(sealed)?;
        let expires = match old.kind {
            // The job's own time to start.
            Kind::Job => old.expires,
            _ => now.saturating_add(old.expires.saturating_sub(letter.stamp().issued)),
        };
        if expires <= now {
            return Ok(None);
        }
        let last = self.last(&old.to);
        let number = last.number.checked_add(1).ok_or(OutboxError::NoNumber)?;
        let (to, seq) = (old.to, Seq { number, ..last });
        let stamp = Stamp {
            to,
            seq,
            issued: now.max(seq.epoch.seconds()),
            expires,
        };
        let bytes = letter.seal_again(stamp, &self.me, sign).map_err(sealed)?;
        let item = Item {
            seq,
            bytes,
            expires,
            offers: 0,
            offered: 0,
            held: None,
            ..old.clone()
        };
        let numbers = Numbers { to, last: seq };
        let replaced = journal.replace(of, &numbers, &item);
        replaced.map_err(|source| OutboxError::Journal { source })?;
        let posted = Posted { of: item.of(), seq };
        self.items.remove(&key);
        self.last.insert(to.0, numbers);
        self.items.insert((to.0, seq), item);
        // If it stays, it is refused once more by its number, and by nobody missed.
        let _ = medium.remove_ready(&old.to, &old.name(self.me).entry());
        Ok(Some(posted))
    }

    /// Keeps a letter back: off the medium, and not done.
    pub(super) fn hold(
        &mut self,
        key: ([u8; 32], Seq),
        code: Option<Code>,
        at: u64,
        medium: &dyn Medium,
        objects: &dyn Objects,
        journal: &mut dyn Journal,
    ) -> Result<(), OutboxError> {
        let Some(item) = self.items.get(&key) else {
            return Ok(());
        };
        self.take_back(key, item, medium, objects)?;
        let again = false;
        let held = Item {
            held: Some(Held { code, at, again }),
            ..item.clone()
        };
        let to = item.to;
        let last = self.last(&to);
        store(journal, &Numbers { to, last }, &held)?;
        self.items.insert(key, held);
        Ok(())
    }
}
