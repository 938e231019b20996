//! What changes names: adding, linking, removing, renaming.

use nix::errno::Errno;
use safelight_seal::manifest;

use super::{Answer, Ino, Node, ROOT, Tree, node::weight_of_name};

/// The most names in a tree: a name costs this process memory and a manifest an entry, but no byte of the quota.
const NAMES_MAX: usize = manifest::ENTRIES_MAX;

/// The most names of one node, as ext4 has it.
const LINKS_MAX: usize = 65_000;

impl Tree {
    /// Adds a node under a new name.
    pub(crate) fn add(&mut self, parent: Ino, name: &[u8], mut node: Node) -> Answer<Ino> {
        self.may_add(parent, name)?;
        self.has_room()?;
        let ino = self.next;
        self.next += 1;
        let now = node.ctime;
        node.names.push((parent, name.to_vec()));
        self.weight.names += node.weight_of_target();
        self.made.insert(ino, node);
        self.nodes += 1;
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
        if self.children_len(ino)? > 0 {
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
                    (true, true) if self.children_len(target)? > 0 => {
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
        if self.names_left() > 0 && self.weight.names < self.limit.names {
            Ok(())
        } else {
            Err(Errno::ENOSPC)
        }
    }

    /// How many names may still be added.
    pub(crate) fn names_left(&self) -> u64 {
        let left = NAMES_MAX.saturating_sub(self.names) as u64;
        left.min(self.room.left())
    }

    fn enter(&mut self, parent: Ino, name: &[u8], ino: Ino, now: i64) -> Answer<()> {
        let is_directory = self.node(ino)?.is_directory();
        let directory = self.node_mut(parent)?;
        directory.children_mut()?.enter(name, ino);
        directory.subdirectories += u32::from(is_directory);
        (directory.mtime, directory.ctime, directory.dirty) = (now, now, true);
        self.names += 1;
        self.weight.names += weight_of_name(name);
        self.room.take();
        Ok(())
    }

    /// Takes a name away. One of the layers' costs a note that it is gone instead of giving anything back: there are no more of those than
    /// names in the layers.
    fn leave(&mut self, parent: Ino, name: &[u8], ino: Ino, now: i64) -> Answer<()> {
        let path = self.path_of(parent, name);
        let is_directory = self.node(ino)?.is_directory();
        let below = self.layers.child(parent, name).is_some();
        let directory = self.node_mut(parent)?;
        let was_own = directory.children_mut()?.leave(name, below);
        directory.subdirectories -= u32::from(is_directory);
        (directory.mtime, directory.ctime, directory.dirty) = (now, now, true);
        let node = self.node_mut(ino)?;
        node.names
            .retain(|(at, known)| (*at, known.as_slice()) != (parent, name));
        node.ctime = now;
        node.gone = path;
        self.names -= 1;
        if was_own {
            self.weight.names -= weight_of_name(name);
            self.room.give_back();
        }
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
            match self.first_name(at) {
                Some((parent, _)) => at = parent,
                None => return false,
            }
        }
    }
}
