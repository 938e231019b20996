//! The names of a directory as they were when somebody began to list it, in one piece of memory.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use nix::errno::Errno;

use crate::tree::{Answer, Ino};

/// Names, and which node each was.
#[derive(Debug, Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<(u32, Ino)>,
}

impl Names {
    /// Adds a name. There are no more of them than a tree has, and none is longer than 255 bytes.
    pub(super) fn push(&mut self, name: &[u8], ino: Ino) {
        self.bytes.extend_from_slice(name);
        self.ends.push((self.bytes.len() as u32, ino));
    }

    /// The names from this number on, with their numbers.
    pub(super) fn from(&self, first: usize) -> impl Iterator<Item = (usize, (&[u8], Ino))> {
        let ends = self.ends.iter().enumerate().skip(first);
        ends.map(|(at, (end, ino))| {
            let begin = match at {
                0 => 0,
                at => self.ends[at - 1].0,
            };
            (at, (&self.bytes[begin as usize..*end as usize], *ino))
        })
    }

    /// Bytes of memory.
    fn weight(&self) -> u64 {
        let each = size_of::<(u32, Ino)>();
        (self.bytes.len() + each * self.ends.len()) as u64
    }
}

/// Names that an open directory holds on to, counted against what all of them together may hold.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    names: Arc<Names>,
    bytes: u64,
    all: Arc<AtomicU64>,
}

/// What open directories may hold together, in bytes of this process's memory: a listing costs no byte of the quota.
pub(super) const LISTED_MAX: u64 = 256 << 20;

impl Listed {
    pub(super) fn new(names: Names, all: &Arc<AtomicU64>, most: u64) -> Answer<Self> {
        let listed = Self {
            bytes: names.weight(),
            names: Arc::new(names),
            all: all.clone(),
        };
        let bytes = listed.bytes;
        if all.fetch_add(bytes, Ordering::Relaxed) + bytes > most {
            return Err(Errno::ENOMEM);
        }
        Ok(listed)
    }

    pub(super) fn names(&self) -> Arc<Names> {
        self.names.clone()
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_hold_a_bounded_memory_and_give_it_back() {
        let all = Arc::new(AtomicU64::new(0));
        let names = || {
            let mut names = Names::default();
            (0..10).for_each(|ino| names.push(&[b'n'; 84], ino));
            names
        };
        let first = Listed::new(names(), &all, 2000).unwrap();
        let second = Listed::new(names(), &all, 2000).unwrap();
        assert_eq!(Listed::new(names(), &all, 2000).err(), Some(Errno::ENOMEM));
        assert_eq!(
            all.load(Ordering::Relaxed),
            2000,
            "what was refused is not counted"
        );
        drop(first);
        let third = Listed::new(names(), &all, 2000).unwrap();
        drop((second, third));
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn names_come_from_where_somebody_left_off() {
        let mut names = Names::default();
        for (ino, name) in [&b"a"[..], b"", b"ccc"].into_iter().enumerate() {
            names.push(name, ino as Ino);
        }
        let from = |first| names.from(first).map(|(at, (name, ino))| (at, name, ino));
        assert!(from(1).eq([(1, &b""[..], 1), (2, b"ccc", 2)]));
        assert_eq!(from(0).count(), 3);
        assert_eq!(from(3).count(), 0);
    }
}
