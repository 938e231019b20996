//! Names of one file: a file that has several below the packed directory is sealed once, and its other names are links to the first.

use std::{collections::HashMap, fs::Metadata, os::unix::fs::MetadataExt};

use safelight_seal::manifest::{Entry, EntryKind};

/// What is one file, and has not changed between two of its names. An inode whose number is given to another file has another time of change.
type Same = (u64, u64, i64, i64);

/// The files with several names that were found so far.
#[derive(Default)]
pub(super) struct Linked {
    /// The entry that has a file's bytes.
    first: HashMap<Same, usize>,
    /// An entry that is another name, and which one has the bytes.
    others: Vec<(usize, usize)>,
}

impl Linked {
    /// True if the entry with this number, which is about to be added, is another name of a file that was found before.
    pub(super) fn is_known(&mut self, metadata: &Metadata, entry: usize) -> bool {
        if metadata.nlink() < 2 {
            return false;
        }
        let (changed, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
        let same = (metadata.dev(), metadata.ino(), changed, nanoseconds);
        let first = *self.first.entry(same).or_insert(entry);
        if first != entry {
            self.others.push((entry, first));
        }
        first != entry
    }

    /// Gives each file's bytes to the first of its names, and makes the others links to that one: a manifest's links are to what stands before.
    pub(super) fn settle(self, entries: &mut [Entry]) {
        let mut names: HashMap<usize, Vec<usize>> = HashMap::new();
        for (other, first) in self.others {
            names
                .entry(first)
                .or_insert_with(|| vec![first])
                .push(other);
        }
        for (holder, names) in names {
            let Some(first) = names
                .iter()
                .copied()
                .min_by(|a, b| entries[*a].path.cmp(&entries[*b].path))
            else {
                continue;
            };
            let to = entries[first].path.clone();
            let bytes = std::mem::replace(&mut entries[holder].kind, link(&to));
            for name in names {
                entries[name].kind = link(&to);
            }
            entries[first].kind = bytes;
        }
    }
}

fn link(to: &[u8]) -> EntryKind {
    EntryKind::Link { to: to.to_vec() }
}
