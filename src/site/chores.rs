//! Errands, one by one: each is done, waits, or fails, and none of them keeps another from being done.
//!
//! Whoever is at the other end of an errand may make it wait for ever: a client that sends no receipts, a result that does not verify. So a
//! kind's errands are gone through page by page, from wherever the last turn ended, and one that failed rests before it is tried again.

use std::collections::{BTreeMap, BTreeSet};

use safelight_scheduler::Errand;

use super::turn::{BATCH, Site};
use crate::failure::{Failure, Kind};

/// The longest that an errand rests that failed, in seconds.
const REST_MAX: u64 = 60;

/// What is known of errands besides the ledger's rows. It is lost with the process, and nothing depends on it.
#[derive(Debug, Default)]
pub(super) struct Chores {
    /// The last errand of each kind that was looked at.
    last: BTreeMap<&'static str, Errand>,
    /// Errands that failed, by kind and subject.
    resting: BTreeMap<(&'static str, String), Rest>,
}

#[derive(Debug)]
struct Rest {
    until: u64,
    tries: u32,
    why: String,
}

impl Chores {
    /// Notes how far a kind was gone through; a page that is not full was the last.
    fn turn_page(&mut self, kind: &'static str, page: &[Errand]) {
        match page.last() {
            Some(last) if page.len() >= BATCH as usize => self.last.insert(kind, last.clone()),
            _ => self.last.remove(kind),
        };
    }

    /// True if an errand failed a moment ago.
    pub(super) fn rests(&self, kind: &'static str, subject: &str, now: u64) -> bool {
        let rest = self.resting.get(&(kind, subject.to_owned()));
        rest.is_some_and(|rest| now < rest.until)
    }

    /// Notes what became of an errand that was tried.
    pub(super) fn tried(
        &mut self,
        kind: &'static str,
        subject: &str,
        now: u64,
        failed: Option<&Failure>,
    ) {
        let key = (kind, subject.to_owned());
        let Some(failure) = failed else {
            self.resting.remove(&key);
            return;
        };
        let tries = self.resting.get(&key).map_or(0, |rest| rest.tries);
        let rest = Rest {
            until: now.saturating_add((1 << tries.min(6)).min(REST_MAX)),
            tries: tries.saturating_add(1),
            why: failure.message(),
        };
        self.resting.insert(key, rest);
    }

    /// Forgets what is not to be done any more, whoever did it.
    pub(super) fn only(&mut self, kind: &'static str, open: &BTreeSet<String>) {
        self.resting
            .retain(|(of, subject), _| *of != kind || open.contains(subject));
    }

    /// A failure if any errand of a kind failed when it was tried last: the first one's, and how many there are.
    pub(super) fn trouble(&self, kind: &'static str) -> Result<(), Failure> {
        let from = (kind, String::new());
        let mut failed = self.resting.range(from..).take_while(|it| it.0.0 == kind);
        let Some((_, first)) = failed.next() else {
            return Ok(());
        };
        let more = match failed.count() {
            0 => String::new(),
            count => format!(", and {count} more"),
        };
        Err(Failure::new(
            Kind::Environment,
            format!("{}{more}", first.why),
        ))
    }
}

impl Site {
    /// The next errands of a kind. Turn after turn, each of them is among these.
    pub(super) fn page(&mut self, kind: &'static str) -> Result<Vec<Errand>, Failure> {
        let after = self.chores.last.get(kind);
        let page = self
            .books
            .wait(self.books.ledger().errands(kind, after, BATCH))?;
        self.chores.turn_page(kind, &page);
        Ok(page)
    }

    /// Does what is to be done of a kind. `act` answers whether an errand is done; one that is not is looked at again.
    pub(super) fn each(
        &mut self,
        kind: &'static str,
        now: u64,
        act: impl Fn(&mut Self, &Errand, u64) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        for errand in self.page(kind)? {
            let subject = &errand.subject;
            if self.chores.rests(kind, subject, now) {
                continue;
            }
            let done = match act(self, &errand, now) {
                Ok(true) => self.done(kind, subject, now),
                Ok(false) => Ok(()),
                Err(failure) => Err(failure),
            };
            self.chores.tried(kind, subject, now, done.as_ref().err());
        }
        self.chores.trouble(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(why: &str) -> Failure {
        Failure::new(Kind::Environment, why)
    }

    #[test]
    fn what_failed_rests_longer_and_longer_and_is_said_until_it_is_done() {
        let mut chores = Chores::default();
        let mut now = 1_000;
        let mut rests = Vec::new();
        for _ in 0..9 {
            chores.tried("end", "a", now, Some(&failure("full")));
            let since = now;
            while chores.rests("end", "a", now) {
                now += 1;
            }
            rests.push(now - since);
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(!chores.rests("end", "b", since_ever()));
        chores.tried("end", "b", now, Some(&failure("other")));
        assert!(chores.trouble("ends").is_ok() && chores.trouble("en").is_ok());
        let said = chores.trouble("end").unwrap_err().message();
        assert_eq!(said, "full, and 1 more");
        chores.tried("send", "a", now, Some(&failure("apart")));
        chores.only("send", &BTreeSet::new());
        assert!(chores.trouble("send").is_ok());
        chores.only("end", &BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        chores.tried("end", "a", now, None);
        assert!(!chores.rests("end", "a", now));
        assert_eq!(chores.trouble("end").unwrap_err().message(), "other");
        chores.tried("end", "b", now, None);
        assert!(chores.trouble("end").is_ok());
    }

    fn since_ever() -> u64 {
        0
    }
}
