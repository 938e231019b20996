//! Ends sessions from outside: by a descriptor that a session watches, and a flag that what comes before and after it asks.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use safelight_policies::cause::Cause;

use crate::failure::{Failure, Kind, OrFail};

/// A reason to end. Once set it stays set.
#[derive(Debug)]
struct Flag {
    set: AtomicBool,
    event: EventFd,
}

impl Flag {
    fn new() -> Result<Self, Failure> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            set: AtomicBool::new(false),
            event: EventFd::from_value_and_flags(0, flags).or_fail(Kind::Environment)?,
        })
    }

    fn set(&self) {
        if !self.set.swap(true, Ordering::SeqCst) {
            // A counter of one always has room.
            let _ = self.event.write(1);
        }
    }

    fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }
}

/// The two reasons why a session that could go on must end.
#[derive(Debug)]
pub(super) struct Stop {
    lost: Flag,
    canceled: Flag,
}

impl Stop {
    /// Nothing is asked for yet.
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self {
            lost: Flag::new()?,
            canceled: Flag::new()?,
        })
    }

    /// The lease is gone: nothing that the session makes counts.
    pub(super) fn lose(&self) {
        self.lost.set();
    }

    /// Someone wants an orderly end, which counts as one.
    pub(super) fn cancel(&self) {
        self.canceled.set();
    }

    /// True once the lease is gone.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_set()
    }

    /// Why the session must end, if it must.
    pub(super) fn cause(&self) -> Option<Cause> {
        if self.lost.is_set() {
            Some(Cause::NodeLost)
        } else {
            self.canceled.is_set().then_some(Cause::Canceled)
        }
    }

    /// What a session watches; the first that is readable counts.
    pub(super) fn watches(&self) -> [(BorrowedFd<'_>, Cause); 2] {
        [
            (self.lost.event.as_fd(), Cause::NodeLost),
            (self.canceled.event.as_fd(), Cause::Canceled),
        ]
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    fn readable(stop: &Stop) -> Vec<Cause> {
        stop.watches()
            .into_iter()
            .filter(|(on, _)| {
                let mut polled = [PollFd::new(on, PollFlags::IN)];
                let now = rustix::event::Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                };
                poll(&mut polled, Some(&now)).unwrap() > 0
            })
            .map(|(_, cause)| cause)
            .collect()
    }

    #[test]
    fn a_reason_stays_and_a_lost_lease_outweighs_a_cancel() {
        let stop = Stop::new().unwrap();
        assert_eq!((readable(&stop), stop.cause()), (vec![], None));
        stop.cancel();
        stop.cancel();
        assert_eq!(readable(&stop), [Cause::Canceled]);
        assert_eq!(stop.cause(), Some(Cause::Canceled));
        stop.lose();
        assert_eq!(readable(&stop), [Cause::NodeLost, Cause::Canceled]);
        assert_eq!(stop.cause(), Some(Cause::NodeLost));
    }
}
