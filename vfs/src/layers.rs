//! Building a view's tree from sealed layers, lowest first.
//!
//! Manifests are validated when they are opened (sorted, unique, parents first), so a violation here is a defect of ours and answers an
//! error number like any other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use safelight_seal::manifest::{Entry, EntryKind, MODE_MASK};

use crate::{
    content::{Content, Store},
    lower::LowerFile,
    tree::{Answer, Ino, Kind, Node, ROOT, Tree},
};

/// Every path that the layers of one central path show, sorted by path.
pub(crate) type Lower = BTreeSet<Arc<[u8]>>;

/// Merges the layers of one central path into a tree.
pub(crate) fn merge(layers: &[&[Entry]], store: &Store) -> Answer<(Tree, Lower)> {
    let mut tree = Tree::new(0o755, 0);
    for layer in layers {
        for entry in *layer {
            apply(&mut tree, entry, store)?;
        }
    }
    let mut lower = Lower::new();
    settle(&mut tree, ROOT, &mut Vec::new(), &mut lower)?;
    tree.limit_growth();
    Ok((tree, lower))
}

fn apply(tree: &mut Tree, entry: &Entry, store: &Store) -> Answer<()> {
    if entry.path.is_empty() {
        return dress(tree, ROOT, entry);
    }
    let (parent, name) = match entry.path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (
            tree.resolve(&entry.path[..slash])?,
            &entry.path[slash + 1..],
        ),
        None => (ROOT, &entry.path[..]),
    };
    // Building is not a change: a directory keeps the time that its own entry says.
    let time = tree.node(parent)?.mtime;
    put(tree, parent, name, entry, store)?;
    tree.node_mut(parent)?.mtime = time;
    Ok(())
}

fn put(tree: &mut Tree, parent: Ino, name: &[u8], entry: &Entry, store: &Store) -> Answer<()> {
    let there = tree.child(parent, name).ok();
    let directory_there = there.filter(|ino| tree.entries(*ino).is_ok());
    if let (EntryKind::Directory { opaque: false }, Some(ino)) = (&entry.kind, directory_there) {
        return dress(tree, ino, entry);
    }
    if there.is_some() {
        tree.remove_subtree(parent, name, entry.mtime_ns)?;
    }
    let kind = match &entry.kind {
        EntryKind::Whiteout => return Ok(()),
        EntryKind::Link { to } => {
            let ino = tree.resolve(to)?;
            // What else it says is the file's: its first name says that.
            return tree.link(ino, parent, name, entry.mtime_ns);
        }
        EntryKind::Directory { .. } => Kind::Directory(BTreeMap::new()),
        EntryKind::Symlink { target } => Kind::Symlink(target.clone()),
        EntryKind::File { len, segments } => {
            let lower = LowerFile {
                len: *len,
                segments: segments.clone().into(),
            };
            Kind::File(Arc::new(Content::sealed(store.file_number(), lower)))
        }
    };
    let ino = tree.add(parent, name, Node::new(kind, entry.mode, entry.mtime_ns))?;
    dress(tree, ino, entry)
}

fn dress(tree: &mut Tree, ino: Ino, entry: &Entry) -> Answer<()> {
    let node = tree.node_mut(ino)?;
    node.mode = entry.mode & MODE_MASK;
    node.mtime = entry.mtime_ns;
    tree.set_xattrs(ino, entry.xattrs.iter().cloned().collect())
}

/// Marks every node as what the layers said, and lets each remember where it was: a hard link at every of its names.
fn settle(tree: &mut Tree, ino: Ino, path: &mut Vec<u8>, lower: &mut Lower) -> Answer<()> {
    let origin: Arc<[u8]> = path.as_slice().into();
    lower.insert(origin.clone());
    let node = tree.node_mut(ino)?;
    node.dirty = false;
    (node.ctime, node.atime) = (node.mtime, node.mtime);
    node.origins.push(origin);
    let children: Vec<(Vec<u8>, Ino)> = match &node.kind {
        Kind::Directory(entries) => entries
            .iter()
            .map(|(name, ino)| (name.clone(), *ino))
            .collect(),
        Kind::File(_) | Kind::Symlink(_) | Kind::Special(_) => Vec::new(),
    };
    for (name, child) in children {
        let len = path.len();
        if len > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        settle(tree, child, path, lower)?;
        path.truncate(len);
    }
    Ok(())
}
