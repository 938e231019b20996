//! The system calls that a session's filter refuses, as the agent hears of them.
//!
//! The kernel asks us about each call that the filter does not allow, and holds the caller until we answer; our one answer is the refusal that the
//! filter would have given. Nothing that is allowed comes this way, and there is no word of ours by which a call goes on. What is counted is bounded
//! by how many calls there are, and how often we answer by a rate, so that a session cannot keep the agent busy.
//! (Documentation/userspace-api/seccomp_filter.rst, "Userspace Notification")

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use syscalls::Sysno;

use crate::sys;

/// Answers that are given at once, before the rate holds.
const BURST: u32 = 10_000;

/// How long a session gathers the right to one more answer after that.
const EACH: Duration = Duration::from_micros(500);

/// What a call is called that this architecture does not have: one name for all of them, since there are four thousand million.
const UNKNOWN: &str = "unknown";

/// Told of each call when it is first refused, by its name. False if that could not be put down: then the call gets no answer.
pub type Witness<'a> = dyn FnMut(&str) -> bool + 'a;

/// Listens to a session's filter.
#[derive(Debug)]
pub(crate) struct Listener {
    /// `None` once the kernel has nobody left to ask for.
    from: Option<OwnedFd>,
    tally: Tally,
    rate: Rate,
}

impl Listener {
    pub(crate) fn new(from: OwnedFd) -> Self {
        Self {
            from: Some(from),
            tally: Tally::default(),
            rate: Rate::new(Instant::now()),
        }
    }

    /// What to wait for, and until when not to.
    pub(crate) fn waits(&self, now: Instant) -> (Option<BorrowedFd<'_>>, Option<Instant>) {
        match self.rate.next(now) {
            None => (self.from.as_ref().map(AsFd::as_fd), None),
            Some(later) => (None, self.from.is_some().then_some(later)),
        }
    }

    /// Answers one call, after the witness knows of it.
    pub(crate) fn answer(&mut self, witness: &mut Witness<'_>) {
        let Some(from) = &self.from else { return };
        let asked = match sys::refused_call(from.as_fd()) {
            Ok(asked) => asked,
            // The caller is gone: the next.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {
                return;
            }
            Err(_) => {
                self.from = None;
                return;
            }
        };
        self.rate.take(Instant::now());
        let name = name(asked.number);
        if self.tally.see(name) && !witness(name) {
            return;
        }
        // A caller that is gone needs no answer.
        let _ = sys::refuse_call(from.as_fd(), asked.id, libc::EPERM);
    }

    /// Nobody is left to ask for.
    pub(crate) fn hung_up(&mut self) {
        self.from = None;
    }

    /// What was refused so far was not the job.
    pub(crate) fn forget(&mut self) {
        self.tally = Tally::default();
    }

    /// Every call that was refused, and how often.
    pub(crate) fn all(&self) -> Vec<(String, u64)> {
        let all = self.tally.0.iter();
        all.map(|(name, times)| ((*name).to_owned(), *times))
            .collect()
    }
}

/// The name of a call.
fn name(number: i32) -> &'static str {
    let number = usize::try_from(number).ok().and_then(Sysno::new);
    number.map_or(UNKNOWN, |call| call.name())
}

/// How often each call was refused.
#[derive(Debug, Default)]
struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    /// Counts one; true if it is the first.
    fn see(&mut self, name: &'static str) -> bool {
        let times = self.0.entry(name).or_default();
        *times = times.saturating_add(1);
        *times == 1
    }
}

/// So many answers at once, then one at a time.
#[derive(Debug)]
struct Rate {
    left: u32,
    /// Since when nothing was added.
    since: Instant,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            since: now,
        }
    }

    /// `None` if there may be an answer now, otherwise when there may be.
    fn next(&self, now: Instant) -> Option<Instant> {
        let later = self.since + EACH;
        (self.left == 0 && now < later).then_some(later)
    }

    fn take(&mut self, now: Instant) {
        let gathered = now.saturating_duration_since(self.since).as_nanos() / EACH.as_nanos();
        if gathered > 0 {
            let gathered = u32::try_from(gathered).unwrap_or(BURST);
            self.left = self.left.saturating_add(gathered).min(BURST);
            self.since = now;
        }
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_told_once_and_counted_always_and_all_unknown_ones_are_one() {
        let mut tally = Tally::default();
        let numbers = [101, 101, 0, 100_000, 0x4000_0001, -1];
        let first: Vec<bool> = numbers.map(|number| tally.see(name(number))).into();
        assert_eq!(first, [true, false, true, true, false, false]);
        let said: Vec<_> = tally.0.into_iter().collect();
        assert_eq!(said, [("ptrace", 2), ("read", 1), ("unknown", 3)]);
    }

    #[test]
    fn a_flood_is_answered_at_a_rate() {
        let begun = Instant::now();
        let mut rate = Rate::new(begun);
        for _ in 0..BURST {
            assert_eq!(rate.next(begun), None);
            rate.take(begun);
        }
        assert_eq!(rate.next(begun), Some(begun + EACH));
        // One more for each while, and no more than that.
        let mut now = begun;
        for _ in 0..100 {
            now += EACH;
            assert_eq!(rate.next(now), None);
            rate.take(now);
            assert_eq!(rate.next(now), Some(now + EACH));
        }
        // Who was quiet for long has all of it again.
        now += EACH * (2 * BURST);
        rate.take(now);
        assert_eq!(rate.left, BURST - 1);
    }
}
