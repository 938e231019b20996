//! What a parser may allocate: a bound that the length of the input sets.

use std::{alloc::System, sync::Mutex};

use cap::Cap;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// The limit is the whole process's, so one at a time.
static ALONE: Mutex<()> = Mutex::new(());

struct Limit;

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = MEMORY.set_limit(usize::MAX);
    }
}

/// Does it with at most so many more bytes of memory: whoever asks for more gets none, which ends the process.
pub fn bounded<T>(bytes: usize, act: impl FnOnce() -> T) -> T {
    let _alone = ALONE.lock().unwrap_or_else(|held| held.into_inner());
    let _limit = Limit;
    // What other threads hold at this moment is not ours; a little room is left for them.
    MEMORY
        .set_limit(MEMORY.allocated() + bytes + (64 << 10))
        .expect("a limit above what is allocated");
    act()
}

/// The bound for what is decoded into structures: a fixed sum, and a multiple of what came.
pub fn decoding<T>(input: &[u8], act: impl FnOnce() -> T) -> T {
    bounded((256 << 10) + 128 * input.len(), act)
}

/// For a test: while it has this, no other's memory counts as its own.
#[cfg(test)]
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    static TESTS: Mutex<()> = Mutex::new(());
    TESTS.lock().unwrap_or_else(|held| held.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_more_than_it_may_gets_none() {
        let _alone = alone();
        let reserve = |bytes: usize| {
            let mut memory = Vec::<u8>::new();
            memory.try_reserve_exact(bytes).is_ok()
        };
        assert!(!bounded(1000, || reserve(1 << 20)));
        assert!(bounded(2 << 20, || reserve(1 << 20)));
        assert!(reserve(1 << 20), "the limit outlives its act");
    }
}
