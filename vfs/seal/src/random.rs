//! Randomness as an argument, so that tests choose it and nothing else can.

use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use crate::Error;

/// A source of bytes that nobody can predict.
pub trait Random {
    /// Fills `out`, or fails and leaves it unspecified.
    fn fill(&self, out: &mut [u8]) -> Result<(), Error>;
}

/// The operating system's generator (`getrandom(2)`).
#[derive(Debug, Clone)]
pub struct SystemRandom(ring::rand::SystemRandom);

impl SystemRandom {
    /// The generator.
    pub fn new() -> Self {
        Self(ring::rand::SystemRandom::new())
    }
}

impl Default for SystemRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
        self.0.fill(out).map_err(|_| Error::NoRandomness)
    }
}

/// `N` random bytes that are wiped when dropped.
pub(crate) fn draw<const N: usize>(rng: &dyn Random) -> Result<Zeroizing<[u8; N]>, Error> {
    let mut out = Zeroizing::new([0; N]);
    rng.fill(&mut out[..])?;
    Ok(out)
}

#[cfg(test)]
pub(crate) mod testing {
    use std::cell::Cell;

    use super::{Error, Random};

    /// Counts upwards from a seed: equal seeds give equal bytes.
    pub(crate) struct Counting(Cell<u64>);

    impl Counting {
        pub(crate) fn from(seed: u64) -> Self {
            Self(Cell::new(seed << 32))
        }
    }

    impl Random for Counting {
        fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
            for part in out.chunks_mut(32) {
                let next = self.0.get();
                self.0.set(next + 1);
                part.copy_from_slice(&blake3::hash(&next.to_le_bytes()).as_bytes()[..part.len()]);
            }
            Ok(())
        }
    }

    /// Always fails.
    pub(crate) struct Dry;

    impl Random for Dry {
        fn fill(&self, _: &mut [u8]) -> Result<(), Error> {
            Err(Error::NoRandomness)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let rng = SystemRandom::new();
        assert_ne!(draw::<32>(&rng).unwrap()[..], draw::<32>(&rng).unwrap()[..]);
    }
}
