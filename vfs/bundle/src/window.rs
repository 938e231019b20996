//! What was read already: each letter counts once.
//!
//! - A number stands for one letter for ever; another letter under it is a replay, whoever brings it.
//! - Letters may come in any order, up to [`WINDOW`] behind the newest. What is behind that is refused, since nobody remembers it.
//! - A letter that waits for its blobs is *held*: it does not grow too old meanwhile.
//! - A newer epoch opens with the first letter of it; the one before stays readable, older ones do not come back.
//! - A gap is reported and blocks nothing.
//!
//! Pure. The state changes by rows ([`Row`]) that the caller stores, or by its own serialisation: either brings it back.

use std::{collections::BTreeMap, ops::RangeInclusive};

use safelight_policies::id::{ObjectId, VerifyKey};
use serde::{Deserialize, Serialize};

use crate::{Epoch, Seq, Verdict};

/// How far behind the newest a letter may come.
pub const WINDOW: u64 = 4096;
/// The most letters of one sender that wait at a time.
pub const HELD_MAX: usize = 1024;

/// What is remembered of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The hash of the signed letter.
    pub of: ObjectId,
    /// What became of it; none while it waits for its blobs.
    pub verdict: Option<Verdict>,
    /// When it was marked, in seconds since 1970.
    pub at: u64,
}

/// One change of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The sender.
    pub from: VerifyKey,
    /// The letter's place.
    pub seq: Seq,
    /// What is to be remembered of it.
    pub mark: Mark,
}

/// What is known of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: it is new.
    Never,
    /// It waits for its blobs.
    Held,
    /// It was read.
    Settled {
        /// What became of it.
        verdict: Verdict,
    },
    /// Another letter has its number.
    Other {
        /// The other.
        of: ObjectId,
    },
    /// It is more than [`WINDOW`] behind.
    TooOld,
    /// Its epoch is over.
    StaleEpoch,
}

/// The numbers of one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stream {
    epoch: Epoch,
    newest: u64,
    marks: BTreeMap<u64, Mark>,
}

impl Stream {
    fn seen(&self, number: u64, of: ObjectId) -> Seen {
        match self.marks.get(&number) {
            Some(mark) if mark.of != of => Seen::Other { of: mark.of },
            Some(Mark { verdict: None, .. }) => Seen::Held,
            Some(Mark {
                verdict: Some(verdict),
                ..
            }) => Seen::Settled { verdict: *verdict },
            None if number <= self.forgotten() => Seen::TooOld,
            None => Seen::Never,
        }
    }

    /// The last number that is no longer remembered.
    fn forgotten(&self) -> u64 {
        self.newest.saturating_sub(WINDOW)
    }

    fn mark(&mut self, number: u64, mark: Mark) {
        let may = match self.seen(number, mark.of) {
            Seen::Never | Seen::Held => true,
            Seen::Settled { verdict } => verdict != Verdict::Accepted && mark.verdict.is_none(),
            Seen::Other { .. } | Seen::TooOld | Seen::StaleEpoch => false,
        };
        if !may {
            return;
        }
        self.newest = self.newest.max(number);
        self.marks.insert(number, mark);
        let forgotten = self.forgotten();
        let outside = self.marks.range(..=forgotten);
        let settled: Vec<u64> = outside
            .filter(|(_, mark)| mark.verdict.is_some())
            .map(|(number, _)| *number)
            .collect();
        for number in settled {
            self.marks.remove(&number);
        }
    }

    fn gaps(&self) -> Vec<RangeInclusive<u64>> {
        let mut gaps = Vec::new();
        let mut next = self.forgotten() + 1;
        for number in self.marks.range(next..).map(|(number, _)| *number) {
            if number > next {
                gaps.push(next..=number - 1);
            }
            next = number.saturating_add(1);
        }
        gaps
    }
}

/// What was read of one sender.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    current: Option<Stream>,
    previous: Option<Stream>,
    heard: u64,
}

impl Window {
    /// What is known of the letter `of` at this place.
    pub fn seen(&self, seq: Seq, of: ObjectId) -> Seen {
        match self.stream(seq.epoch) {
            Some(stream) => stream.seen(seq.number, of),
            None if self.is_newer(seq.epoch) => Seen::Never,
            None => Seen::StaleEpoch,
        }
    }

    /// Remembers a letter. One that [`Window::seen`] refuses changes nothing.
    pub fn mark(&mut self, seq: Seq, mark: Mark) {
        if self.is_newer(seq.epoch) {
            let opened = Stream {
                epoch: seq.epoch,
                newest: 0,
                marks: BTreeMap::new(),
            };
            self.previous = self.current.replace(opened);
        }
        let streams = self.current.iter_mut().chain(&mut self.previous);
        for stream in streams.filter(|stream| stream.epoch == seq.epoch) {
            stream.mark(seq.number, mark);
            self.heard = self.heard.max(mark.at);
        }
    }

    /// The mark that lets a refused letter be tried again, once it is stored and applied. An accepted one stays accepted.
    pub fn forgiven(&self, seq: Seq) -> Option<Mark> {
        let mark = self.stream(seq.epoch)?.marks.get(&seq.number)?;
        let refused = matches!(mark.verdict, Some(Verdict::Refused { .. }));
        refused.then_some(Mark {
            verdict: None,
            ..*mark
        })
    }

    /// The numbers of the current epoch, as far as it is remembered, of which no letter has come.
    pub fn gaps(&self) -> Vec<RangeInclusive<u64>> {
        self.current.as_ref().map(Stream::gaps).unwrap_or_default()
    }

    /// The newest letter.
    pub fn newest(&self) -> Option<Seq> {
        self.current.as_ref().map(|stream| Seq {
            epoch: stream.epoch,
            number: stream.newest,
        })
    }

    /// When a letter was last marked, in seconds since 1970; 0 for never.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// How many letters wait.
    pub fn held(&self) -> usize {
        let streams = self.current.iter().chain(&self.previous);
        let marks = streams.flat_map(|stream| stream.marks.values());
        marks.filter(|mark| mark.verdict.is_none()).count()
    }

    fn is_newer(&self, epoch: Epoch) -> bool {
        self.current
            .as_ref()
            .is_none_or(|stream| epoch > stream.epoch)
    }

    fn stream(&self, epoch: Epoch) -> Option<&Stream> {
        let mut streams = self.current.iter().chain(&self.previous);
        streams.find(|stream| stream.epoch == epoch)
    }
}

/// What was read, of every sender.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    senders: BTreeMap<[u8; 32], Window>,
}

impl Windows {
    /// The state that these rows left, in the order in which they were stored.
    pub fn restore(rows: impl IntoIterator<Item = Row>) -> Self {
        let mut windows = Self::default();
        rows.into_iter().for_each(|row| windows.apply(&row));
        windows
    }

    /// Applies one row.
    pub fn apply(&mut self, row: &Row) {
        let window = self.senders.entry(row.from.0).or_default();
        window.mark(row.seq, row.mark);
    }

    /// The window of a sender, if any letter of it was ever read.
    pub fn of(&self, from: &VerifyKey) -> Option<&Window> {
        self.senders.get(&from.0)
    }

    /// What is known of the letter `of` at this place.
    pub fn seen(&self, from: &VerifyKey, seq: Seq, of: ObjectId) -> Seen {
        self.of(from)
            .map_or(Seen::Never, |window| window.seen(seq, of))
    }
}

#[cfg(test)]
mod tests;
