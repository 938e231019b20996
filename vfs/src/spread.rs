//! Sealing spread over the processors: one thread says what there is to do, a few do it, each with room for one segment.
//!
//! So memory is bounded by the number of threads, whatever there is to seal, and while one waits for the disk another encrypts.

use std::{
    num::NonZero,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

use zeroize::Zeroize;

/// The fewest threads: one encrypts while the other waits for the disk.
const THREADS_MIN: usize = 2;
/// The most: each has up to 37 MiB.
const THREADS_MAX: usize = 4;

/// A thread's own memory, kept from segment to segment.
pub(crate) struct Room {
    /// What is sealed.
    pub(crate) plain: Vec<u8>,
    /// What it becomes.
    pub(crate) sealed: Vec<u8>,
}

impl Room {
    fn new() -> Self {
        Self {
            plain: Vec::new(),
            sealed: Vec::new(),
        }
    }

    /// Makes `plain` at least so long, without leaving a copy of what was in it behind. What is in it then means nothing.
    pub(crate) fn make(&mut self, len: usize) {
        if self.plain.len() < len {
            self.plain.zeroize();
            self.plain = vec![0; len];
        }
    }
}

/// Wipes what was read.
impl Drop for Room {
    fn drop(&mut self) {
        self.plain.zeroize();
    }
}

/// Does with `work` whatever `feed` hands over, and answers what came of it, in no order. `feed` is told to stop when something failed; the
/// first failure is the answer.
pub(crate) fn spread<J: Send, R: Send, E: Send>(
    feed: impl FnOnce(&mut dyn FnMut(J) -> bool) -> Result<(), E>,
    work: impl Fn(&mut Room, J) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    // One more than there are processors: what is large is written past the kernel's memory, and whoever writes it waits.
    let threads = (threads + 1).clamp(THREADS_MIN, THREADS_MAX);
    let (hand, taken) = sync_channel::<J>(threads);
    let (taken, failed) = (Mutex::new(taken), AtomicBool::new(false));
    thread::scope(|scope| {
        let hands: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| all(&taken, &failed, &work)))
            .collect();
        let fed = feed(&mut |job| !failed.load(Ordering::Acquire) && hand.send(job).is_ok());
        drop(hand);
        let mut done = Ok(Vec::new());
        for thread in hands {
            match (thread.join(), &mut done) {
                (Ok(Ok(some)), Ok(all)) => all.extend(some),
                (Ok(Err(error)), Ok(_)) => done = Err(error),
                (Ok(_), Err(_)) => {}
                (Err(panic), _) => std::panic::resume_unwind(panic),
            }
        }
        let done = done?;
        fed.map(|()| done)
    })
}

/// One thread's part. After a failure it takes what is still handed over, so that nobody waits for it, and leaves it undone.
fn all<J, R, E>(
    taken: &Mutex<Receiver<J>>,
    failed: &AtomicBool,
    work: &impl Fn(&mut Room, J) -> Result<R, E>,
) -> Result<Vec<R>, E> {
    let (mut room, mut done) = (Room::new(), Ok(Vec::new()));
    loop {
        let next = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else {
            return done;
        };
        if failed.load(Ordering::Acquire) {
            continue;
        }
        match (work(&mut room, job), &mut done) {
            (Ok(one), Ok(all)) => all.push(one),
            (Ok(_), Err(_)) => {}
            (Err(error), _) => {
                failed.store(true, Ordering::Release);
                done = Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_done_once() {
        let done = spread(
            |hand| {
                assert!((0..1000).all(&mut *hand));
                Ok::<(), ()>(())
            },
            |_, number: i32| Ok(number * 2),
        );
        let mut done = done.unwrap();
        done.sort_unstable();
        let expected: Vec<i32> = (0..1000).map(|number| number * 2).collect();
        assert_eq!(done, expected);
    }

    #[test]
    fn a_failure_stops_it_and_is_told() {
        let mut handed = 0;
        let done = spread(
            |hand| {
                // A feed that went on for ever would hang the test.
                while hand(handed) {
                    handed += 1;
                }
                Ok(())
            },
            |_, number: u64| match number {
                20.. => Err(format!("not {number}")),
                number => Ok(number),
            },
        );
        assert!(done.unwrap_err().starts_with("not 2"));
    }

    #[test]
    fn what_the_feed_fails_with_is_told() {
        let done: Result<Vec<()>, _> = spread(|_| Err("feed"), |_, ()| Ok(()));
        assert_eq!(done, Err("feed"));
    }
}
