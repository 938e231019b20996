//! What was sealed of which file before: a file that is the same need not be read again.
//!
//! - Same is what has the same device, number, length, time of change and time of status change. The last of these is the kernel's own and
//!   cannot be set.
//! - A file is remembered only if its status was last changed a while before it was read. What changed in the same tick of the clock as it was
//!   read may change once more in that tick, and would look the same.
//! - A page that somebody has mapped and made dirty changes without a trace until it was written back. So the file system is told to write
//!   everything back before the first file of it is read.
//! - Only file systems of this host's own kernel are believed: others have another host's clock, or other habits.
//! - A file is taken as known only if all that was sealed of it is in the area.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    os::unix::fs::MetadataExt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, XFS_SUPER_MAGIC, fstatfs};
use safelight_seal::manifest::{Entry, EntryKind, SegmentRef};
use serde::{Deserialize, Serialize};

/// How long before it is read a file must have changed last. A tick is 10 ms at most; the rest is for clocks that are set.
const SETTLED: Duration = Duration::from_secs(1);

/// The file systems that are believed.
const BELIEVED: [FsType; 3] = [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC];

/// What a file was like when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    dev: u64,
    ino: u64,
    len: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Facts {
    pub(super) fn of(about: &Metadata) -> Self {
        Self {
            dev: about.dev(),
            ino: about.ino(),
            len: about.len(),
            mtime: (about.mtime(), about.mtime_nsec()),
            ctime: (about.ctime(), about.ctime_nsec()),
        }
    }

    /// True if any later change will show, when what was written before `at` was written back.
    fn is_settled(&self, at: Duration) -> bool {
        let (seconds, nanos) = self.ctime;
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
            return false;
        };
        Duration::new(seconds, nanos) + SETTLED <= at
    }
}

/// What is remembered of a directory that was packed: each file's path below it, what the file was like, what was sealed of it.
#[derive(Default)]
pub struct Known(HashMap<Vec<u8>, (Facts, Vec<SegmentRef>)>);

impl Known {
    /// Nothing is known.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// What is known by the entries of an earlier manifest and what its files were like.
    pub fn new(entries: Vec<Entry>, facts: impl IntoIterator<Item = (Vec<u8>, Facts)>) -> Self {
        let mut facts: HashMap<Vec<u8>, Facts> = facts.into_iter().collect();
        let known = entries.into_iter().filter_map(|entry| {
            let facts = facts.remove(&entry.path)?;
            match entry.kind {
                EntryKind::File { len, segments } if len == facts.len => {
                    Some((entry.path, (facts, segments)))
                }
                _ => None,
            }
        });
        Self(known.collect())
    }

    /// What was sealed of a file that is still the same.
    pub(super) fn of(&self, path: &[u8], now: &Facts) -> Option<&[SegmentRef]> {
        let (then, segments) = self.0.get(path)?;
        (then == now).then_some(segments)
    }
}

/// Since when each file system shows every change.
#[derive(Default)]
pub(super) struct Clocks(HashMap<u64, Option<Duration>>);

impl Clocks {
    /// True if what a file is like tells whether it is still the same later. Asked before it is read.
    pub(super) fn believes(&mut self, facts: &Facts, file: &File) -> bool {
        let since = self.0.entry(facts.dev).or_insert_with(|| {
            let at = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
            let of = fstatfs(file).ok()?.filesystem_type();
            (BELIEVED.contains(&of) && nix::unistd::syncfs(file).is_ok()).then_some(at)
        });
        since.is_some_and(|at| facts.is_settled(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts {
        dev: 1,
        ino: 2,
        len: 3,
        mtime: (4, 5),
        ctime: (100, 500),
    };

    #[test]
    fn what_changed_in_the_moment_that_it_was_read_is_not_remembered() {
        assert!(FACTS.is_settled(Duration::new(101, 500)));
        assert!(!FACTS.is_settled(Duration::new(101, 499)));
        assert!(!FACTS.is_settled(Duration::new(100, 500)));
        // A clock that was set back.
        assert!(!FACTS.is_settled(Duration::new(7, 0)));
        let ctime = (-1, 0);
        assert!(!Facts { ctime, ..FACTS }.is_settled(Duration::new(9, 0)));
    }

    #[test]
    fn any_difference_makes_another_file() {
        let entry = Entry {
            path: b"a".to_vec(),
            kind: EntryKind::File {
                len: 3,
                segments: vec![SegmentRef::zero(3)],
            },
            mode: 0o644,
            mtime_ns: 0,
            xattrs: Vec::new(),
        };
        let known = Known::new(vec![entry.clone()], [(b"a".to_vec(), FACTS)]);
        assert!(known.of(b"a", &FACTS).is_some());
        assert!(known.of(b"b", &FACTS).is_none());
        for other in [
            Facts { dev: 9, ..FACTS },
            Facts { ino: 9, ..FACTS },
            Facts { len: 9, ..FACTS },
            Facts {
                mtime: (4, 6),
                ..FACTS
            },
            Facts {
                ctime: (100, 501),
                ..FACTS
            },
        ] {
            assert!(known.of(b"a", &other).is_none(), "{other:?}");
        }
        // Facts of another length than what was sealed are no facts of it.
        let known = Known::new(vec![entry], [(b"a".to_vec(), Facts { len: 4, ..FACTS })]);
        assert!(known.of(b"a", &Facts { len: 4, ..FACTS }).is_none());
    }
}
