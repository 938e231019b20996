//! The heartbeat: it keeps the leases, hears what must end, and ends everything once the site was out of reach for as long as a lease lives.
//!
//! A node that cannot reach its site must assume that its tasks were given to others. It counts from the moment at which the last beat
//! that got through was *sent*, by a clock that goes on while the host sleeps (`CLOCK_BOOTTIME`), so that it never believes in a lease
//! longer than the site does.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

use super::{
    http::Error,
    protocol::{Answer, Call, Often},
    serve::Node,
};
use crate::{
    failure::{Failure, Kind},
    terminal,
};

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The shortest that a beat may take.
const LEAST: Duration = Duration::from_millis(200);

/// When the site was last reached, and what that is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contact {
    /// By [`since_boot`].
    at: Duration,
    beat: Duration,
    lease: Duration,
    often: Often,
}

impl Contact {
    /// The site answered what was sent at `at`, and has these ideas of beats and leases, in seconds, and of the states of logs.
    pub(super) fn new(at: Duration, (beat, lease): (u64, u64), often: Often) -> Self {
        Self {
            at,
            beat: Duration::from_secs(beat.clamp(1, 60)),
            lease: Duration::from_secs(lease.clamp(1, 3600)),
            often: Often {
                seconds: often.seconds.max(1),
                records: often.records.max(1),
            },
        }
    }

    /// How often the state of a log is told.
    pub(super) fn often(&self) -> Often {
        self.often
    }

    /// For how long a lease still holds; nothing once it does not.
    fn left(&self, now: Duration) -> Option<Duration> {
        let left = self.lease.saturating_sub(now.saturating_sub(self.at));
        (!left.is_zero()).then_some(left)
    }

    /// How long a beat that is sent now may take: three fit a lease, and none outlives one.
    fn patience(&self, now: Duration) -> Duration {
        let third = self.lease / 3;
        self.left(now)
            .map_or(third, |left| left.min(third))
            .max(LEAST)
    }

    /// For how long a lease outlives the last beat.
    pub(super) fn lease(&self) -> Duration {
        self.lease
    }
}

/// Time since the host was started, with the time that it slept.
pub(super) fn since_boot() -> Duration {
    // This clock cannot fail on a kernel that runs the rest; if it could, no lease would hold.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

/// The contact that the threads of a node share.
#[derive(Debug)]
pub(super) struct Pulse {
    contact: Mutex<Contact>,
    over: AtomicBool,
}

impl Pulse {
    pub(super) fn new(contact: Contact) -> Self {
        Self {
            contact: Mutex::new(contact),
            over: AtomicBool::new(false),
        }
    }

    pub(super) fn contact(&self) -> Contact {
        *self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The site was reached.
    pub(super) fn reached(&self, contact: Contact) {
        *self.contact.lock().unwrap_or_else(PoisonError::into_inner) = contact;
    }

    /// No more beats.
    pub(super) fn stop(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Beats until it is stopped.
    pub(super) fn run(&self, node: &Node) {
        let mut next = since_boot();
        let (mut well, mut fenced) = (true, false);
        while !self.over.load(Ordering::SeqCst) {
            let now = since_boot();
            let contact = self.contact();
            if contact.left(now).is_none() && !node.seats.is_empty() {
                node.seats.lose_all();
                if !fenced {
                    terminal::say(format!(
                        "{}: the site was out of reach for {} s: its leases are over, and every session ends",
                        node.config.name,
                        contact.lease.as_secs()
                    ));
                }
                fenced = true;
            }
            if now >= next {
                let beat = self.beat(node, contact, now);
                if let (true, Err(failure)) = (well, &beat) {
                    terminal::complain(failure);
                }
                if beat.is_ok() && !well {
                    terminal::say(format!("{}: the site is back", node.config.name));
                }
                well = beat.is_ok();
                fenced &= !well;
                next = now + contact.beat;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn beat(&self, node: &Node, contact: Contact, now: Duration) -> Result<(), Failure> {
        let held = node.seats.held();
        let once = |_| false;
        let answer = node
            .site
            .call(&Call::Beat { held }, contact.patience(now), &once);
        match answer {
            Ok(Answer::Pulse(pulse)) => {
                node.seats.obey(&pulse);
                self.reached(Contact { at: now, ..contact });
                Ok(())
            }
            Ok(Answer::Refused { reason }) => Err(Failure::new(
                Kind::Denied,
                format!(
                    "the site refuses the heartbeat: {}",
                    terminal::shown(reason.as_bytes())
                ),
            )),
            Ok(_) => Err(out_of_turn()),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// The site answered something else than what was asked.
pub(super) fn out_of_turn() -> Failure {
    Failure::new(Kind::Environment, "the site answered something else")
}

/// A call that did not come through.
pub(super) fn failed(error: &Error) -> Failure {
    let failure = Failure::from_error(Kind::Environment, error);
    match error {
        Error::Clock { .. } => failure.hint("set the clocks, for example with an NTP service"),
        Error::Unreachable { .. } => failure.hint("is 'safelight site serve' running there?"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFTEN: Often = Often {
        seconds: 300,
        records: 1000,
    };

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_holds_from_the_last_beat_that_got_through() {
        let contact = Contact::new(s(100), (5, 15), OFTEN);
        for (now, left, patience) in [
            (s(100), Some(s(15)), s(5)),
            (s(112), Some(s(3)), s(3)),
            (
                Duration::from_millis(114_950),
                Some(Duration::from_millis(50)),
                LEAST,
            ),
            (s(115), None, s(5)),
            (s(9_999), None, s(5)),
            (s(99), Some(s(15)), s(5)),
            (Duration::MAX, None, s(5)),
        ] {
            assert_eq!(
                (contact.left(now), contact.patience(now)),
                (left, patience),
                "{now:?}"
            );
        }
    }

    #[test]
    fn what_a_site_thinks_of_time_is_bounded() {
        let contact = Contact::new(s(0), (0, 0), OFTEN);
        assert_eq!((contact.beat, contact.lease), (s(1), s(1)));
        let contact = Contact::new(s(0), (u64::MAX, u64::MAX), OFTEN);
        assert_eq!((contact.beat, contact.lease), (s(60), s(3600)));
    }

    #[test]
    fn the_clock_goes() {
        let before = since_boot();
        std::thread::sleep(Duration::from_millis(2));
        assert!(since_boot() > before && since_boot() < Duration::MAX);
    }
}
