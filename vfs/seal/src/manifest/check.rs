//! What makes a manifest valid. Every rule here is one that a view or a home process would otherwise have to trust a peer for.

use safelight_policies::path::CentralPath;

use super::{
    ENTRIES_MAX, Entry, EntryRef, Kind, KindRef, MODE_MASK, NAME_MAX, PATH_MAX, Segments,
    TREES_MAX, WHAT, XATTR_VALUE_MAX, XATTRS_MAX,
};
use crate::{
    Error,
    segment::{OpenKey, SEGMENT_MAX},
};

/// The entries of a tree, whether they are a list or the bytes of one.
pub(super) trait Source {
    fn count(&self) -> usize;
    fn entry(&self, at: usize) -> Option<EntryRef<'_>>;
    fn path(&self, at: usize) -> &[u8];
}

impl Source for &[Entry] {
    fn count(&self) -> usize {
        self.len()
    }
    fn entry(&self, at: usize) -> Option<EntryRef<'_>> {
        self.get(at).map(Entry::lying)
    }
    fn path(&self, at: usize) -> &[u8] {
        self.get(at).map_or(b"", |entry| &entry.path)
    }
}

/// The number of the entry of this path among the first ones, which are sorted.
pub(super) fn find(source: &impl Source, first: usize, path: &[u8]) -> Option<usize> {
    let (mut low, mut high) = (0, first);
    while low < high {
        let middle = low + (high - low) / 2;
        match source.path(middle).cmp(path) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

pub(super) fn malformed(reason: &'static str) -> Error {
    Error::Malformed { what: WHAT, reason }
}

fn ensure(holds: bool, reason: &'static str) -> Result<(), Error> {
    if holds {
        Ok(())
    } else {
        Err(malformed(reason))
    }
}

pub(super) fn trees<S: Source>(kind: &Kind, trees: &[(&CentralPath, S)]) -> Result<(), Error> {
    ensure(trees.len() <= TREES_MAX, "it has too many trees")?;
    ensure(
        trees.is_sorted_by(|a, b| a.0 < b.0),
        "its trees are not sorted",
    )?;
    for (at, (path, _)) in trees.iter().enumerate() {
        ensure(
            !trees[..at].iter().any(|(other, _)| other.overlaps(path)),
            "one of its trees lies within another",
        )?;
    }
    let entries = trees
        .iter()
        .map(|(_, entries)| entries.count())
        .sum::<usize>();
    ensure(entries <= ENTRIES_MAX, "it has too many entries")?;
    let result = matches!(kind, Kind::Result { .. });
    trees
        .iter()
        .try_for_each(|(_, entries)| tree(entries, result))
}

/// Each entry by itself, and that it has its place among those before it.
pub(super) fn tree(entries: &impl Source, result: bool) -> Result<(), Error> {
    let root = entries.entry(0).ok_or(malformed("a tree has no root"))?;
    ensure(
        root.path.is_empty() && matches!(root.kind, KindRef::Directory { .. }),
        "a tree does not begin with its root directory",
    )?;
    check_entry(&root, result)?;
    // The directory of the entry before: most entries lie in the same one.
    let mut directory: &[u8] = b"";
    for at in 1..entries.count() {
        let Some(entry) = entries.entry(at) else {
            return Err(malformed("it does not decode"));
        };
        let path = entries.path(at);
        ensure(
            entries.path(at - 1) < path,
            "its entries are not sorted or not unique",
        )?;
        let (parent, name) = split(path);
        check_name(name)?;
        ensure(path.len() <= PATH_MAX, "a path is too long")?;
        // The parent was checked when it came by, so the whole path is normal.
        let is_directory = |entry: EntryRef<'_>| matches!(entry.kind, KindRef::Directory { .. });
        ensure(
            parent == directory || earlier(entries, at, parent, is_directory),
            "an entry is in no directory of the manifest",
        )?;
        directory = parent;
        check_entry(&entry, result)?;
        if let KindRef::Link { to } = entry.kind {
            let is_file = |entry: EntryRef<'_>| matches!(entry.kind, KindRef::File { .. });
            ensure(
                earlier(entries, at, to, is_file),
                "a hard link is not to an earlier file",
            )?;
        }
    }
    Ok(())
}

/// True if there is an entry of this path and kind before this one.
fn earlier(
    entries: &impl Source,
    before: usize,
    path: &[u8],
    is: impl Fn(EntryRef<'_>) -> bool,
) -> bool {
    let found = find(entries, before, path).and_then(|at| entries.entry(at));
    found.is_some_and(is)
}

/// Parent and name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        // A slash in front would make the root its own child: what is before it is no name.
        Some(0) => (b"", b""),
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn check_name(name: &[u8]) -> Result<(), Error> {
    let fits = (1..=NAME_MAX).contains(&name.len());
    ensure(
        fits && name != b"." && name != b".." && !name.contains(&0),
        "a name is empty, too long, '.', '..' or has a zero byte",
    )
}

fn check_entry(entry: &EntryRef<'_>, result: bool) -> Result<(), Error> {
    ensure(
        entry.mode & !MODE_MASK == 0,
        "a mode has other bits than permissions",
    )?;
    check_xattrs(&entry.xattrs)?;
    match &entry.kind {
        KindRef::Directory { opaque } => ensure(result || !opaque, "an input directory is opaque"),
        KindRef::File { len, segments } => check_segments(*len, segments),
        KindRef::Symlink { target } => ensure(
            (1..PATH_MAX).contains(&target.len()) && !target.contains(&0),
            "a symbolic link's target is empty, too long or has a zero byte",
        ),
        // Whether it is there is the tree's to say.
        KindRef::Link { .. } => Ok(()),
        KindRef::Whiteout => {
            ensure(result, "an input is a whiteout")?;
            ensure(
                entry.mode == 0 && entry.mtime_ns == 0 && entry.xattrs.is_empty(),
                "a whiteout has attributes",
            )
        }
    }
}

fn check_xattrs(xattrs: &[(&[u8], &[u8])]) -> Result<(), Error> {
    ensure(
        xattrs.len() <= XATTRS_MAX,
        "an entry has too many extended attributes",
    )?;
    ensure(
        xattrs.is_sorted_by(|a, b| a.0 < b.0),
        "extended attributes are not sorted or not unique",
    )?;
    xattrs.iter().try_for_each(|(name, value)| {
        let fits = name.len() > 5 && name.len() <= NAME_MAX;
        ensure(
            fits && name.starts_with(b"user.") && !name.contains(&0),
            "an extended attribute is not of the user namespace",
        )?;
        ensure(
            value.len() <= XATTR_VALUE_MAX,
            "an extended attribute is too long",
        )
    })
}

fn check_segments(len: u64, segments: &Segments<'_>) -> Result<(), Error> {
    ensure(
        segments.len() as u64 == len.div_ceil(SEGMENT_MAX as u64),
        "a file has another number of segments than its length needs",
    )?;
    let mut rest = len;
    segments.iter().try_for_each(|segment| {
        let expected = rest.min(SEGMENT_MAX as u64);
        ensure(
            u64::from(segment.len) == expected,
            "a segment has another length than its place needs",
        )?;
        rest -= expected;
        ensure(
            segment.object.is_some() || segment.key == OpenKey::none(),
            "a segment of zeros has a key",
        )
    })
}
