//! What makes a manifest valid. Every rule here is one that a view or a home process would otherwise have to trust a peer for.

use std::collections::HashSet;

use super::{
    ENTRIES_MAX, Entry, EntryKind, Kind, MODE_MASK, Manifest, NAME_MAX, PATH_MAX, SegmentRef,
    TREES_MAX, Tree, WHAT, XATTR_VALUE_MAX, XATTRS_MAX,
};
use crate::{
    Error,
    segment::{OpenKey, SEGMENT_MAX},
};

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

pub(super) fn manifest(manifest: &Manifest) -> Result<(), Error> {
    let trees = &manifest.trees;
    ensure(trees.len() <= TREES_MAX, "it has too many trees")?;
    ensure(
        trees.is_sorted_by(|a, b| a.path < b.path),
        "its trees are not sorted",
    )?;
    for (at, tree) in trees.iter().enumerate() {
        ensure(
            !trees[..at]
                .iter()
                .any(|other| other.path.overlaps(&tree.path)),
            "one of its trees lies within another",
        )?;
    }
    let entries = trees.iter().map(|tree| tree.entries.len()).sum::<usize>();
    ensure(entries <= ENTRIES_MAX, "it has too many entries")?;
    let result = matches!(manifest.kind, Kind::Result { .. });
    trees.iter().try_for_each(|tree| check_tree(tree, result))
}

fn check_tree(tree: &Tree, result: bool) -> Result<(), Error> {
    let Some((root, rest)) = tree.entries.split_first() else {
        return Err(malformed("a tree has no root"));
    };
    ensure(
        root.path.is_empty() && matches!(root.kind, EntryKind::Directory { .. }),
        "a tree does not begin with its root directory",
    )?;
    check_entry(root, result)?;
    let mut directories: HashSet<&[u8]> = HashSet::from([&b""[..]]);
    let mut files: HashSet<&[u8]> = HashSet::new();
    let mut previous: &[u8] = b"";
    for entry in rest {
        let path = entry.path.as_slice();
        ensure(previous < path, "its entries are not sorted or not unique")?;
        previous = path;
        let (parent, name) = split(path);
        check_name(name)?;
        ensure(path.len() <= PATH_MAX, "a path is too long")?;
        // The parent was checked when it came by, so the whole path is normal.
        ensure(
            directories.contains(parent),
            "an entry is in no directory of the manifest",
        )?;
        check_entry(entry, result)?;
        match &entry.kind {
            EntryKind::Directory { .. } => {
                directories.insert(path);
            }
            EntryKind::File { .. } => {
                files.insert(path);
            }
            EntryKind::Link { to } => ensure(
                files.contains(to.as_slice()),
                "a hard link is not to an earlier file",
            )?,
            EntryKind::Symlink { .. } | EntryKind::Whiteout => {}
        }
    }
    Ok(())
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

fn check_entry(entry: &Entry, result: bool) -> Result<(), Error> {
    ensure(
        entry.mode & !MODE_MASK == 0,
        "a mode has other bits than permissions",
    )?;
    check_xattrs(&entry.xattrs)?;
    match &entry.kind {
        EntryKind::Directory { opaque } => {
            ensure(result || !opaque, "an input directory is opaque")
        }
        EntryKind::File { len, segments } => check_segments(*len, segments),
        EntryKind::Symlink { target } => ensure(
            (1..PATH_MAX).contains(&target.len()) && !target.contains(&0),
            "a symbolic link's target is empty, too long or has a zero byte",
        ),
        // Whether it is there is the tree's to say.
        EntryKind::Link { .. } => Ok(()),
        EntryKind::Whiteout => {
            ensure(result, "an input is a whiteout")?;
            ensure(
                entry.mode == 0 && entry.mtime_ns == 0 && entry.xattrs.is_empty(),
                "a whiteout has attributes",
            )
        }
    }
}

fn check_xattrs(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Error> {
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

fn check_segments(len: u64, segments: &[SegmentRef]) -> Result<(), Error> {
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
