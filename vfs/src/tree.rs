//! The namespace of a view: one merged tree in memory, lower layers below, the session's changes on top.
//!
//! Pure: no I/O, no clock (times are arguments), no policy. A node lives as long as a name, an open handle or the kernel refers to it,
//! so that a file that was unlinked or renamed over while open stays whole. Every node knows whether it still is what the lower layers
//! said (`origins` and `dirty`), which is all that a commit needs to find the difference.

mod life;
mod node;

use std::collections::BTreeMap;

use nix::errno::Errno;
use safelight_seal::manifest;

pub(crate) use self::node::{Kind, Node, Special};
use self::node::{weight_of_name, weight_of_xattrs};

/// What an operation answers: a value or an error number.
pub(crate) type Answer<T> = Result<T, Errno>;

/// A node's number, never reused within a view.
pub(crate) type Ino = u64;

/// The root directory.
pub(crate) const ROOT: Ino = 1;

/// The most names in a tree: a name costs this process memory and a manifest an entry, but no byte of the quota.
const NAMES_MAX: usize = manifest::ENTRIES_MAX;

/// What a session may add to a tree, in bytes of this process's memory: names and targets cost no byte of the quota either, and this
/// process is outside the session's memory limit.
const GROWTH_MAX: usize = 1 << 30;

/// What a session may add in extended attributes. They are in the manifest as they are, and a manifest has a limit of its own.
const XATTR_GROWTH_MAX: usize = 64 << 20;

/// The most names of one node, as ext4 has it.
const LINKS_MAX: usize = 65_000;

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<Ino, Node>,
    next: Ino,
    names: usize,
    /// Estimated bytes of names and link targets, and of extended attributes; and how many there may be.
    weight: Weight,
    limit: Weight,
}

/// Estimated bytes.
#[derive(Debug, Clone, Copy)]
struct Weight {
    names: usize,
    xattrs: usize,
}

impl Tree {
    /// A tree with an empty root directory.
    pub(crate) fn new(mode: u32, now: i64) -> Self {
        let mut root = Node::new(Kind::Directory(BTreeMap::new()), mode, now);
        root.dirty = false;
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            names: 0,
            weight: Weight {
                names: 0,
                xattrs: 0,
            },
            limit: Weight {
                names: usize::MAX,
                xattrs: usize::MAX,
            },
        }
    }

    /// What is there now is the lower layers'. From here on a session adds to it, within limits.
    pub(crate) fn limit_growth(&mut self) {
        self.limit = Weight {
            names: self.weight.names.saturating_add(GROWTH_MAX),
            xattrs: self.weight.xattrs.saturating_add(XATTR_GROWTH_MAX),
        };
    }

    /// Sets all extended attributes of a node.
    pub(crate) fn set_xattrs(
        &mut self,
        ino: Ino,
        xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Answer<()> {
        let new = weight_of_xattrs(&xattrs);
        let node = self.nodes.get_mut(&ino).ok_or(Errno::ESTALE)?;
        let weight = self.weight.xattrs - weight_of_xattrs(&node.xattrs) + new;
        if weight > self.limit.xattrs && weight > self.weight.xattrs {
            return Err(Errno::ENOSPC);
        }
        (node.xattrs, self.weight.xattrs) = (xattrs, weight);
        Ok(())
    }

    /// A node by its number.
    pub(crate) fn node(&self, ino: Ino) -> Answer<&Node> {
        self.nodes.get(&ino).ok_or(Errno::ESTALE)
    }

    /// A node to be changed.
    pub(crate) fn node_mut(&mut self, ino: Ino) -> Answer<&mut Node> {
        self.nodes.get_mut(&ino).ok_or(Errno::ESTALE)
    }

    /// The number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A directory's entries.
    pub(crate) fn entries(&self, ino: Ino) -> Answer<&BTreeMap<Vec<u8>, Ino>> {
        match &self.node(ino)?.kind {
            Kind::Directory(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// The node of a name in a directory.
    pub(crate) fn child(&self, parent: Ino, name: &[u8]) -> Answer<Ino> {
        if name.len() > manifest::NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        self.entries(parent)?
            .get(name)
            .copied()
            .ok_or(Errno::ENOENT)
    }

    /// The path of a node relative to the root, by its first name; of a node without a name, where it had its last.
    pub(crate) fn path(&self, ino: Ino) -> Vec<u8> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut at = ino;
        while at != ROOT {
            let Some(node) = self.nodes.get(&at) else {
                break;
            };
            let Some((parent, name)) = node.names.first() else {
                parts.push(&node.gone);
                break;
            };
            parts.push(name);
            at = *parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// The path of a name in a directory.
    pub(crate) fn path_of(&self, parent: Ino, name: &[u8]) -> Vec<u8> {
        let mut path = self.path(parent);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// Resolves a path relative to the root, following nothing.
    pub(crate) fn resolve(&self, path: &[u8]) -> Answer<Ino> {
        path.split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty())
            .try_fold(ROOT, |at, part| self.child(at, part))
    }

    /// Adds a node under a new name.
    pub(crate) fn add(&mut self, parent: Ino, name: &[u8], mut node: Node) -> Answer<Ino> {
        self.may_add(parent, name)?;
        self.has_room()?;
        let ino = self.next;
        self.next += 1;
        let now = node.ctime;
        node.names.push((parent, name.to_vec()));
        self.weight.names += node.weight_of_target();
        self.weight.xattrs += weight_of_xattrs(&node.xattrs);
        self.nodes.insert(ino, node);
        self.enter(parent, name, ino, now)?;
        Ok(ino)
    }

    /// Gives what is no directory another name.
    pub(crate) fn link(&mut self, ino: Ino, parent: Ino, name: &[u8], now: i64) -> Answer<()> {
        let node = self.node(ino)?;
        if node.is_directory() {
            return Err(Errno::EPERM);
        }
        if node.names.is_empty() {
            return Err(Errno::ENOENT);
        }
        if node.names.len() >= LINKS_MAX {
            return Err(Errno::EMLINK);
        }
        self.may_add(parent, name)?;
        self.has_room()?;
        let node = self.node_mut(ino)?;
        node.names.push((parent, name.to_vec()));
        node.ctime = now;
        self.enter(parent, name, ino, now)
    }

    /// Removes a name of something that is not a directory. Answers the node.
    pub(crate) fn unlink(&mut self, parent: Ino, name: &[u8], now: i64) -> Answer<Ino> {
        let ino = self.child(parent, name)?;
        if self.node(ino)?.is_directory() {
            return Err(Errno::EISDIR);
        }
        self.leave(parent, name, ino, now)?;
        Ok(ino)
    }

    /// Removes an empty directory.
    pub(crate) fn rmdir(&mut self, parent: Ino, name: &[u8], now: i64) -> Answer<Ino> {
        let ino = self.child(parent, name)?;
        if !self.entries(ino)?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.leave(parent, name, ino, now)?;
        Ok(ino)
    }

    /// Renames. With `replace` false an existing target is an error (`RENAME_NOREPLACE`).
    pub(crate) fn rename(
        &mut self,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        replace: bool,
        now: i64,
    ) -> Answer<()> {
        let moved = self.child(from.0, from.1)?;
        let moved_is_directory = self.node(moved)?.is_directory();
        if moved_is_directory && self.is_below(to.0, moved) {
            return Err(Errno::EINVAL);
        }
        match self.child(to.0, to.1) {
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
            Ok(_) if !replace => return Err(Errno::EEXIST),
            // Two names of one file: rename does nothing (POSIX rename, "same file").
            Ok(target) if target == moved => return Ok(()),
            Ok(target) => {
                match (moved_is_directory, self.node(target)?.is_directory()) {
                    (true, false) => return Err(Errno::ENOTDIR),
                    (false, true) => return Err(Errno::EISDIR),
                    (true, true) if !self.entries(target)?.is_empty() => {
                        return Err(Errno::ENOTEMPTY);
                    }
                    _ => {}
                }
                self.leave(to.0, to.1, target, now)?;
            }
        }
        self.may_add(to.0, to.1)?;
        self.leave(from.0, from.1, moved, now)?;
        self.revive(moved, to, now)
    }

    /// Swaps two names (`RENAME_EXCHANGE`).
    pub(crate) fn exchange(&mut self, a: (Ino, &[u8]), b: (Ino, &[u8]), now: i64) -> Answer<()> {
        let (first, second) = (self.child(a.0, a.1)?, self.child(b.0, b.1)?);
        if self.is_below(b.0, first) || self.is_below(a.0, second) {
            return Err(Errno::EINVAL);
        }
        if first == second {
            return Ok(());
        }
        self.leave(a.0, a.1, first, now)?;
        self.leave(b.0, b.1, second, now)?;
        self.revive(first, b, now)?;
        self.revive(second, a, now)
    }

    /// Removes a whole subtree without looking at it; used when a layer hides it.
    pub(crate) fn remove_subtree(&mut self, parent: Ino, name: &[u8], now: i64) -> Answer<()> {
        let ino = self.child(parent, name)?;
        let names: Vec<Vec<u8>> = self
            .entries(ino)
            .map(|entries| entries.keys().cloned().collect())
            .unwrap_or_default();
        for name in names {
            self.remove_subtree(ino, &name, now)?;
        }
        self.leave(parent, name, ino, now)?;
        self.collect(ino);
        Ok(())
    }

    fn may_add(&self, parent: Ino, name: &[u8]) -> Answer<()> {
        if name.is_empty()
            || name == b"."
            || name == b".."
            || name.contains(&b'/')
            || name.contains(&0)
        {
            return Err(Errno::EINVAL);
        }
        let directory = self.node(parent)?;
        if directory.names.is_empty() && parent != ROOT {
            return Err(Errno::ENOENT);
        }
        match self.child(parent, name) {
            Ok(_) => Err(Errno::EEXIST),
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn has_room(&self) -> Answer<()> {
        if self.names < NAMES_MAX && self.weight.names < self.limit.names {
            Ok(())
        } else {
            Err(Errno::ENOSPC)
        }
    }

    fn enter(&mut self, parent: Ino, name: &[u8], ino: Ino, now: i64) -> Answer<()> {
        let is_directory = self.node(ino)?.is_directory();
        let directory = self.node_mut(parent)?;
        let Kind::Directory(entries) = &mut directory.kind else {
            return Err(Errno::ENOTDIR);
        };
        entries.insert(name.to_vec(), ino);
        directory.subdirectories += u32::from(is_directory);
        (directory.mtime, directory.ctime, directory.dirty) = (now, now, true);
        self.names += 1;
        self.weight.names += weight_of_name(name);
        Ok(())
    }

    fn leave(&mut self, parent: Ino, name: &[u8], ino: Ino, now: i64) -> Answer<()> {
        let path = self.path_of(parent, name);
        let is_directory = self.node(ino)?.is_directory();
        let directory = self.node_mut(parent)?;
        if let Kind::Directory(entries) = &mut directory.kind {
            entries.remove(name);
        }
        directory.subdirectories -= u32::from(is_directory);
        (directory.mtime, directory.ctime, directory.dirty) = (now, now, true);
        let node = self.node_mut(ino)?;
        node.names
            .retain(|(at, known)| (*at, known.as_slice()) != (parent, name));
        node.ctime = now;
        node.gone = path;
        self.names -= 1;
        self.weight.names -= weight_of_name(name);
        Ok(())
    }

    /// Gives a node that just lost a name another one.
    fn revive(&mut self, ino: Ino, to: (Ino, &[u8]), now: i64) -> Answer<()> {
        self.node_mut(ino)?.names.push((to.0, to.1.to_vec()));
        self.enter(to.0, to.1, ino, now)
    }

    /// True if `ino` is `ancestor` or lies below it.
    fn is_below(&self, ino: Ino, ancestor: Ino) -> bool {
        let mut at = ino;
        loop {
            if at == ancestor {
                return true;
            }
            match self.nodes.get(&at).and_then(|node| node.names.first()) {
                Some((parent, _)) => at = *parent,
                None => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::content::Content;

    fn directory() -> Node {
        Node::new(Kind::Directory(BTreeMap::new()), 0o755, 1)
    }
    fn symlink() -> Node {
        Node::new(Kind::Symlink(b"x".to_vec()), 0o777, 1)
    }

    fn file() -> Node {
        Node::new(Kind::File(Arc::new(Content::empty(1))), 0o644, 1)
    }

    #[test]
    fn a_session_adds_names_and_attributes_within_limits_and_gets_back_what_it_removes() {
        let mut tree = Tree::new(0o755, 0);
        let attributes = |bytes: usize| BTreeMap::from([(b"user.a".to_vec(), vec![0; bytes])]);
        let below = tree.add(ROOT, b"below", file()).unwrap();
        tree.set_xattrs(below, attributes(XATTR_GROWTH_MAX))
            .unwrap();
        tree.limit_growth();
        let f = tree.add(ROOT, b"f", file()).unwrap();
        assert_eq!(
            tree.set_xattrs(f, attributes(XATTR_GROWTH_MAX)),
            Err(Errno::ENOSPC)
        );
        tree.set_xattrs(f, attributes(XATTR_GROWTH_MAX / 2))
            .unwrap();
        let g = tree.add(ROOT, b"g", file()).unwrap();
        assert_eq!(
            tree.set_xattrs(g, attributes(XATTR_GROWTH_MAX / 2)),
            Err(Errno::ENOSPC)
        );
        tree.unlink(ROOT, b"f", 1).unwrap();
        tree.collect(f);
        tree.set_xattrs(g, attributes(XATTR_GROWTH_MAX / 2))
            .unwrap();

        let before = tree.weight.names;
        tree.limit.names = before + 10 * weight_of_name(b"n0");
        let mut made = 0;
        while tree
            .add(ROOT, format!("n{made}").as_bytes(), symlink())
            .is_ok()
        {
            made += 1;
        }
        assert_eq!(made, 10);
        assert_eq!(tree.add(ROOT, b"x", file()).err(), Some(Errno::ENOSPC));
        tree.rename((ROOT, b"n0"), (ROOT, b"n1"), true, 1).unwrap();
        for n in 1..made {
            let ino = tree.unlink(ROOT, format!("n{n}").as_bytes(), 2).unwrap();
            tree.collect(ino);
        }
        assert!(tree.weight.names <= before + 1, "of the one renamed over");
    }

    #[test]
    fn rename_follows_posix() {
        let mut tree = Tree::new(0o755, 0);
        let a = tree.add(ROOT, b"a", directory()).unwrap();
        let b = tree.add(ROOT, b"b", directory()).unwrap();
        let f = tree.add(a, b"f", symlink()).unwrap();
        assert_eq!(
            tree.rename((ROOT, b"a"), (a, b"x"), true, 2),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            tree.rename((ROOT, b"b"), (ROOT, b"a"), true, 2),
            Err(Errno::ENOTEMPTY)
        );
        assert_eq!(
            tree.rename((a, b"f"), (ROOT, b"b"), true, 2),
            Err(Errno::EISDIR)
        );
        assert_eq!(
            tree.rename((ROOT, b"b"), (a, b"f"), true, 2),
            Err(Errno::ENOTDIR)
        );
        assert_eq!(
            tree.rename((a, b"f"), (ROOT, b"b"), false, 2),
            Err(Errno::EEXIST)
        );
        assert_eq!(tree.rename((a, b"f"), (b, b"g"), true, 2), Ok(()));
        assert_eq!(tree.path(f), b"b/g");
        assert_eq!(tree.rename((ROOT, b"b"), (ROOT, b"a"), true, 2), Ok(()));
        assert_eq!(tree.path(f), b"a/g");
        assert_eq!(tree.node(a).map(|node| node.names.len()), Ok(0));
    }

    #[test]
    fn an_unlinked_open_file_lives_until_its_last_handle_and_lookup() {
        let mut tree = Tree::new(0o755, 0);
        let f = tree.add(ROOT, b"f", symlink()).unwrap();
        tree.looked_up(f);
        tree.opened(f, true).unwrap();
        tree.unlink(ROOT, b"f", 2).unwrap();
        tree.collect(f);
        assert!(tree.node(f).is_ok());
        tree.closed(f, true);
        assert!(tree.node(f).is_ok());
        tree.forget(f, 1);
        assert_eq!(tree.node(f).err(), Some(Errno::ESTALE));
        assert_eq!(tree.len(), 1);
    }

    #[test]
    fn hard_links_share_a_node_and_renaming_one_over_the_other_does_nothing() {
        let mut tree = Tree::new(0o755, 0);
        let f = tree.add(ROOT, b"f", file()).unwrap();
        tree.link(f, ROOT, b"g", 2).unwrap();
        let s = tree.add(ROOT, b"s", symlink()).unwrap();
        tree.link(s, ROOT, b"t", 2).unwrap();
        assert_eq!(tree.node(s).unwrap().links(false), 2);
        let d = tree.add(ROOT, b"d", directory()).unwrap();
        assert_eq!(tree.link(d, ROOT, b"e", 2), Err(Errno::EPERM));
        assert_eq!(tree.node(f).unwrap().links(false), 2);
        tree.rename((ROOT, b"f"), (ROOT, b"g"), true, 3).unwrap();
        assert_eq!(
            (tree.child(ROOT, b"f"), tree.child(ROOT, b"g")),
            (Ok(f), Ok(f))
        );
        tree.unlink(ROOT, b"f", 4).unwrap();
        assert_eq!(tree.path(f), b"g");
    }

    #[test]
    fn names_that_are_not_names_are_refused() {
        let mut tree = Tree::new(0o755, 0);
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
            assert_eq!(
                tree.add(ROOT, name, symlink()).err(),
                Some(Errno::EINVAL),
                "{name:?}"
            );
        }
        assert_eq!(
            tree.add(ROOT, &[b'n'; 256], symlink()).err(),
            Some(Errno::ENAMETOOLONG)
        );
        assert!(tree.add(ROOT, &[0xff; 255], symlink()).is_ok());
    }

    #[test]
    fn an_exchange_swaps_and_never_makes_a_loop() {
        let mut tree = Tree::new(0o755, 0);
        let a = tree.add(ROOT, b"a", directory()).unwrap();
        let b = tree.add(a, b"b", directory()).unwrap();
        let f = tree.add(ROOT, b"f", symlink()).unwrap();
        assert_eq!(
            tree.exchange((ROOT, b"a"), (a, b"b"), 2),
            Err(Errno::EINVAL)
        );
        tree.exchange((a, b"b"), (ROOT, b"f"), 2).unwrap();
        assert_eq!(
            (tree.path(b), tree.path(f)),
            (b"f".to_vec(), b"a/b".to_vec())
        );
    }
}
