//! What one node may ask of the desk, so that others can ask too: how much is in memory on its account, how often it has a key released,
//! and that what it said once is not said again for it.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::body::Bytes;
use hyper::body::{Body, Frame};
use safelight_policies::id::{NodeName, SessionId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::node::protocol::WINDOW;

/// A unit of memory: 1 MiB.
const UNIT: u64 = 1 << 20;
/// How many units of objects a node may have on their way at once.
const UNITS: usize = 512;
/// Releases at once: each is two processes.
const RELEASES: usize = 4;
/// How often a session may ask for its key. A fence is good for one release.
const ASKED_MAX: u8 = 3;
/// How many sessions, and how many requests, are remembered.
const REMEMBERED: usize = 1 << 16;
/// How much of an object is handed out at once.
const CHUNK: usize = 64 << 10;

/// What is on its way, and what was asked.
pub(in crate::site) struct Guard {
    nodes: Mutex<BTreeMap<NodeName, Arc<Semaphore>>>,
    releases: Semaphore,
    asked: Mutex<BTreeMap<SessionId, u8>>,
    said: Mutex<BTreeMap<[u8; 64], u64>>,
    /// The last state of each session's log, and when it was told.
    standing: Mutex<BTreeMap<SessionId, (u64, u64)>>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            nodes: Mutex::default(),
            releases: Semaphore::new(RELEASES),
            asked: Mutex::default(),
            said: Mutex::default(),
            standing: Mutex::default(),
        }
    }
}

/// Every change is one insertion or removal, so a panic elsewhere leaves a table whole.
fn lock<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guard {
    /// Waits until so many bytes of a node's may be in memory.
    pub(super) async fn room(&self, node: &NodeName, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT).clamp(1, UNITS as u64)).ok()?;
        let own = Arc::clone(
            lock(&self.nodes)
                .entry(node.clone())
                .or_insert_with(|| Arc::new(Semaphore::new(UNITS))),
        );
        own.acquire_many_owned(units).await.ok()
    }

    /// Waits until a key may be released; `None` if the session asked too often.
    pub(super) async fn release(
        &self,
        session: SessionId,
    ) -> Option<tokio::sync::SemaphorePermit<'_>> {
        {
            let mut asked = lock(&self.asked);
            if asked.len() >= REMEMBERED {
                asked.clear();
            }
            let times = asked.entry(session).or_default();
            if *times >= ASKED_MAX {
                return None;
            }
            *times += 1;
        }
        self.releases.acquire().await.ok()
    }

    /// True if the state of a session's log is later than the one before, and of another second: each is an entry of a register for ever.
    pub(super) fn goes_on(&self, session: SessionId, records: u64, now: u64) -> bool {
        let mut standing = lock(&self.standing);
        if standing.len() >= REMEMBERED {
            standing.clear();
        }
        match standing.get(&session) {
            Some((before, at)) if records <= *before || now <= *at => false,
            _ => {
                standing.insert(session, (records, now));
                true
            }
        }
    }

    /// True if a request was not made before. `time` is the request's own; one from outside of the window is refused elsewhere.
    pub(super) fn is_new(&self, signature: [u8; 64], time: u64, now: u64) -> bool {
        let mut said = lock(&self.said);
        said.retain(|_, time| now <= time.saturating_add(WINDOW));
        said.len() < REMEMBERED && said.insert(signature, time).is_none()
    }
}

/// An object on its way to a node: it counts until it is gone.
pub(super) struct Outgoing {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Outgoing {
    pub(super) fn new(bytes: Vec<u8>, room: OwnedSemaphorePermit) -> Self {
        Self {
            bytes: bytes.into(),
            _room: room,
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        let next = CHUNK.min(self.bytes.len());
        let chunk = self.bytes.split_to(next);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_node_that_takes_all_its_room_takes_no_others() {
        let guard = Guard::default();
        let (one, other) = ("n1".parse().unwrap(), "n2".parse().unwrap());
        let all = guard.room(&one, u64::MAX).await.unwrap();
        let soon = Duration::from_millis(50);
        assert!(timeout(soon, guard.room(&one, 0)).await.is_err());
        assert!(timeout(soon, guard.room(&other, 300 << 20)).await.is_ok());
        let mut going = Outgoing::new(vec![7; CHUNK + 1], all);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut lens = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut going).poll_frame(&mut context) {
            lens.push(frame.into_data().unwrap().len());
        }
        assert_eq!(lens, [CHUNK, 1]);
        assert!(timeout(soon, guard.room(&one, 1)).await.is_err());
        drop(going);
        assert!(timeout(soon, guard.room(&one, 1)).await.is_ok());
    }

    #[tokio::test]
    async fn a_session_asks_for_its_key_a_few_times() {
        let guard = Guard::default();
        let session = |byte| SessionId::from_random([byte; 10]);
        for _ in 0..ASKED_MAX {
            assert!(guard.release(session(1)).await.is_some());
        }
        assert!(guard.release(session(1)).await.is_none());
        assert!(guard.release(session(2)).await.is_some());
    }

    #[test]
    fn the_state_of_a_log_goes_on_and_not_too_often() {
        let guard = Guard::default();
        let session = |byte| SessionId::from_random([byte; 10]);
        assert!(guard.goes_on(session(1), 10, 100));
        assert!(!guard.goes_on(session(1), 20, 100), "the same second");
        assert!(!guard.goes_on(session(1), 10, 200), "the same state");
        assert!(!guard.goes_on(session(1), 9, 200), "an earlier one");
        assert!(guard.goes_on(session(2), 9, 100));
        assert!(guard.goes_on(session(1), 11, 101));
    }

    #[test]
    fn what_was_said_once_is_not_said_again_while_it_could_be() {
        let guard = Guard::default();
        assert!(guard.is_new([1; 64], 100, 100));
        assert!(!guard.is_new([1; 64], 100, 100 + WINDOW));
        assert!(guard.is_new([2; 64], 100, 100 + WINDOW));
        // Later it is too old to be believed, and need not be remembered.
        assert!(guard.is_new([3; 64], 200, 101 + WINDOW));
        assert_eq!(lock(&guard.said).len(), 1);
    }
}
