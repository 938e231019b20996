//! Who sits in which slot of this node: the one table that the loop, the heartbeat and the sessions share.
//!
//! Invariant: whoever waits on [`Seats::freed`] wakes after each slot that becomes free, so that no slot stands empty for want of asking.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use safelight_policies::{
    id::{ClientAlias, SessionId, SlotIndex},
    lease::Lease,
};
use safelight_scheduler::{Holding, Pulse};

use super::stop::Stop;
use crate::failure::{Failure, Kind, OrFail};

/// A session in a slot.
#[derive(Debug, Clone)]
struct Seated {
    holding: Holding,
    client: ClientAlias,
    stop: Arc<Stop>,
}

/// The slots of a node.
#[derive(Debug)]
pub(super) struct Seats {
    count: u16,
    taken: Mutex<BTreeMap<SlotIndex, Seated>>,
    freed: EventFd,
}

/// A taken slot. Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    slot: SlotIndex,
    /// Ends the session in it.
    pub(super) stop: Arc<Stop>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.table().remove(&self.slot);
        // A counter that has no room left is one that wakes, too.
        let _ = self.seats.freed.write(1);
    }
}

impl Seats {
    /// So many free slots.
    pub(super) fn new(count: u16) -> Result<Arc<Self>, Failure> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Arc::new(Self {
            count,
            taken: Mutex::default(),
            freed: EventFd::from_value_and_flags(0, flags).or_fail(Kind::Environment)?,
        }))
    }

    /// Becomes readable when a slot becomes free, and stays so until [`Self::seen`].
    pub(super) fn freed(&self) -> BorrowedFd<'_> {
        self.freed.as_fd()
    }

    /// What became free so far is known: only what comes after it makes [`Self::freed`] readable.
    pub(super) fn seen(&self) {
        let _ = self.freed.read();
    }

    /// Every change is one insertion or removal, so a panic elsewhere leaves the table whole.
    fn table(&self) -> MutexGuard<'_, BTreeMap<SlotIndex, Seated>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slots in which nobody sits.
    pub(super) fn free(&self) -> Vec<SlotIndex> {
        let table = self.table();
        let all = (0..self.count).map(SlotIndex);
        all.filter(|slot| !table.contains_key(slot)).collect()
    }

    /// True if nobody sits anywhere.
    pub(super) fn is_empty(&self) -> bool {
        self.table().is_empty()
    }

    /// A client other than this one who sits somewhere.
    pub(super) fn stranger(&self, client: &ClientAlias) -> Option<ClientAlias> {
        let table = self.table();
        let mut clients = table.values().map(|seated| &seated.client);
        clients.find(|seated| *seated != client).cloned()
    }

    /// Takes the slot of a lease; `None` if somebody sits there.
    pub(super) fn take(self: &Arc<Self>, lease: &Lease, stop: Arc<Stop>) -> Option<Seat> {
        let mut table = self.table();
        if table.contains_key(&lease.slot) || lease.slot.0 >= self.count {
            return None;
        }
        let seated = Seated {
            holding: Holding {
                session: lease.session,
                fence: lease.fence,
            },
            client: lease.client.clone(),
            stop: Arc::clone(&stop),
        };
        table.insert(lease.slot, seated);
        Some(Seat {
            seats: Arc::clone(self),
            slot: lease.slot,
            stop,
        })
    }

    /// Every session, for the heartbeat.
    pub(super) fn held(&self) -> Vec<Holding> {
        self.table().values().map(|seated| seated.holding).collect()
    }

    /// Ends what the site says must end.
    pub(super) fn obey(&self, pulse: &Pulse) {
        for seated in self.table().values() {
            let named = |sessions: &[SessionId]| sessions.contains(&seated.holding.session);
            if named(&pulse.lost) {
                seated.stop.lose();
            }
            if named(&pulse.cancel) {
                seated.stop.cancel();
            }
        }
    }

    /// The site was out of reach for longer than a lease lives: every session ends.
    pub(super) fn lose_all(&self) {
        self.table().values().for_each(|seated| seated.stop.lose());
    }

    /// The node ends: every session ends in order.
    pub(super) fn cancel_all(&self) {
        self.table()
            .values()
            .for_each(|seated| seated.stop.cancel());
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use safelight_policies::cause::Cause;

    use super::*;
    use crate::node::lease::tests::lease;

    fn sit(seats: &Arc<Seats>, slot: u16, session: u8, client: &str) -> Option<Seat> {
        let lease = Lease {
            slot: SlotIndex(slot),
            session: SessionId::from_random([session; 10]),
            client: client.parse().unwrap(),
            ..lease()
        };
        seats.take(&lease, Arc::new(Stop::new().unwrap()))
    }

    #[test]
    fn a_slot_has_one_session_until_it_goes() {
        let seats = Seats::new(2).unwrap();
        let first = sit(&seats, 0, 1, "c-a").unwrap();
        assert!(sit(&seats, 0, 2, "c-a").is_none());
        assert!(sit(&seats, 2, 2, "c-a").is_none());
        assert_eq!(seats.free(), [SlotIndex(1)]);
        assert_eq!(seats.held().len(), 1);
        let b = "c-b".parse().unwrap();
        assert_eq!(seats.stranger(&b), Some("c-a".parse().unwrap()));
        assert_eq!(seats.stranger(&"c-a".parse().unwrap()), None);
        drop(first);
        assert!(seats.is_empty() && seats.stranger(&b).is_none());
        assert_eq!(seats.free().len(), 2);
    }

    #[test]
    fn a_slot_that_becomes_free_wakes_who_waits_until_it_is_seen() {
        let seats = Seats::new(2).unwrap();
        let awake = || {
            let mut polled = [PollFd::new(seats.freed(), PollFlags::POLLIN)];
            poll(&mut polled, PollTimeout::ZERO).unwrap() > 0
        };
        let (first, second) = (sit(&seats, 0, 1, "c-a"), sit(&seats, 1, 2, "c-a"));
        assert!(!awake());
        drop(first);
        assert!(awake());
        seats.seen();
        assert!(!awake());
        drop(second);
        assert!(awake());
    }

    #[test]
    fn a_pulse_ends_those_it_names() {
        let seats = Seats::new(3).unwrap();
        let sat: Vec<_> = (0..3)
            .map(|slot| sit(&seats, slot, slot as u8, "c-a").unwrap())
            .collect();
        let session = |byte| SessionId::from_random([byte; 10]);
        seats.obey(&Pulse {
            lost: vec![session(0), session(9)],
            cancel: vec![session(1)],
        });
        let causes = || sat.iter().map(|seat| seat.stop.cause()).collect::<Vec<_>>();
        assert_eq!(
            causes(),
            [Some(Cause::NodeLost), Some(Cause::Canceled), None]
        );
        seats.cancel_all();
        assert_eq!(causes()[2], Some(Cause::Canceled));
        seats.lose_all();
        assert_eq!(causes()[1], Some(Cause::NodeLost));
    }
}
