//! Blobs on their way into a store, several at once: each costs a way there and back, and most are small.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use super::wire::{Fault, Wire};

/// So many at once.
const FLIGHTS: usize = 16;
/// So many bytes of them, unless one alone has more.
const BYTES: usize = 64 << 20;

/// One on its way: its key, its length, and who brings it.
type Flight = (String, usize, JoinHandle<Result<bool, Fault>>);

/// What is on its way.
#[derive(Default)]
pub(super) struct Flights(Mutex<VecDeque<Flight>>);

impl Flights {
    fn held(&self) -> MutexGuard<'_, VecDeque<Flight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one more go, once there is room. What went wrong with one that went before is told here, with its key.
    pub(super) fn put(
        &self,
        wire: &Arc<Wire>,
        key: String,
        bytes: Vec<u8>,
    ) -> Result<(), (String, Fault)> {
        let mut flights = self.held();
        while flights.len() >= FLIGHTS || bytes_of(&flights) + bytes.len() > BYTES {
            match flights.pop_front() {
                Some(flight) => landed(flight)?,
                None => break,
            }
        }
        let (wire, len, name) = (Arc::clone(wire), bytes.len(), key.clone());
        let thread = std::thread::Builder::new().name("upload".to_owned());
        let thread = thread.spawn(move || wire.put(&name, &bytes, false));
        match thread {
            Ok(thread) => {
                flights.push_back((key, len, thread));
                Ok(())
            }
            Err(error) => Err((key, Fault::Unreachable(error))),
        }
    }

    /// Waits until all are there; answers the first failure.
    pub(super) fn land(&self) -> Result<(), (String, Fault)> {
        let all: Vec<_> = self.held().drain(..).collect();
        let mut first = Ok(());
        for flight in all {
            first = first.and(landed(flight));
        }
        first
    }
}

fn bytes_of(flights: &VecDeque<Flight>) -> usize {
    flights.iter().map(|(_, len, _)| len).sum()
}

fn landed((key, _, thread): Flight) -> Result<(), (String, Fault)> {
    match thread.join() {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(fault)) => Err((key, fault)),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
