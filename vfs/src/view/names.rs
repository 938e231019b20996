//! Names: looking up, listing, creating, linking, renaming, removing.

use std::sync::Arc;

use nix::errno::Errno;
use safelight_policies::{
    central::{Decision, Want},
    event::Op,
};
use safelight_seal::manifest::{NAME_MAX, PATH_MAX};

use super::{Attributes, Caller, Stop, View, attributes::attributes, listed::Names};
use crate::{
    content::Content,
    tree::{Answer, Bytes, Children, Ino, Kind, Node, ROOT, Special, Tree},
};

/// How two names are to be renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renaming {
    Replace,
    Keep,
    Exchange,
}

impl View {
    /// Looks a name up. Not found and refused are recorded; found is not, since nothing was read.
    pub(crate) fn lookup(&self, caller: Caller, parent: Ino, name: &[u8]) -> Answer<Attributes> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let (path, found) = {
            let mut tree = self.tree_mut();
            let path = tree.path_of(parent, name);
            let permitted = self.permit(&path, Want::Traverse);
            let found = permitted.and_then(|()| Ok(known(&mut tree, parent, name)?));
            (path, found)
        };
        match found {
            Ok(attributes) => Ok(attributes),
            Err(stop) => self.noted(caller, Op::Lookup, &path, None, Err(stop)),
        }
    }

    /// The names in a directory as they are now, those that the policy hides left out; `.` and `..` first.
    pub(super) fn names(&self, ino: Ino) -> Answer<Names> {
        let tree = self.tree();
        let path = tree.path(ino);
        let above = tree.first_name(ino).map_or(ROOT, |(parent, _)| parent);
        let mut names = Names::default();
        names.push(b".", ino);
        names.push(b"..", above);
        for (name, ino) in tree.children(ino)? {
            if self.shows(&join(&path, name)) {
                names.push(name, ino);
            }
        }
        Ok(names)
    }

    /// The target of a symbolic link.
    pub(crate) fn read_link(&self, caller: Caller, ino: Ino) -> Answer<Vec<u8>> {
        let path = self.tree().path(ino);
        self.judge(caller, Op::Lookup, &path, Want::Read)?;
        match &self.tree().node(ino)?.kind {
            Kind::Symlink(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(crate) fn make_directory(
        &self,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        mode: u32,
    ) -> Answer<Attributes> {
        let kind = Kind::Directory(Children::default());
        self.make(caller, Op::Mkdir, parent, name, mode, kind)
    }

    pub(crate) fn make_symlink(
        &self,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        target: &[u8],
    ) -> Answer<Attributes> {
        if target.is_empty() || target.len() >= PATH_MAX || target.contains(&0) {
            return Err(Errno::EINVAL);
        }
        let kind = Kind::Symlink(target.to_vec());
        self.make(caller, Op::Symlink, parent, name, 0o777, kind)
    }

    pub(crate) fn make_file(
        &self,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        mode: u32,
    ) -> Answer<Attributes> {
        let content = Arc::new(Content::empty(self.store().file_number()));
        self.make(
            caller,
            Op::Create,
            parent,
            name,
            mode,
            Kind::File(Bytes::Own(content)),
        )
    }

    /// Makes a pipe or a socket: a name at which processes of the session meet. Device nodes do not exist in a session's view.
    pub(crate) fn make_special(
        &self,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        mode: u32,
        special: Special,
    ) -> Answer<Attributes> {
        if !self.many && !matches!(special, Special::Pipe | Special::Socket) {
            let stop = Stop::Refused {
                path: self.tree().path_of(parent, name),
                rule: "no device nodes exist in a view".to_owned(),
                errno: Errno::EPERM,
            };
            return self.noted(caller, Op::Mknod, b"", None, Err(stop));
        }
        self.make(
            caller,
            Op::Mknod,
            parent,
            name,
            mode,
            Kind::Special(special),
        )
    }

    fn make(
        &self,
        caller: Caller,
        op: Op,
        parent: Ino,
        name: &[u8],
        mode: u32,
        kind: Kind,
    ) -> Answer<Attributes> {
        let want = match op {
            Op::Mkdir => Want::MakeDirectory,
            _ => Want::Write,
        };
        let mut node = Node::new(kind, mode, self.now());
        let (path, outcome) = {
            let mut tree = self.tree_mut();
            let path = tree.path_of(parent, name);
            let outcome = self.permit(&path, want).and_then(|()| {
                self.whole()?;
                let above = tree.node(parent)?;
                self.inherit(caller, &above, &mut node);
                drop(above);
                tree.add(parent, name, node)?;
                Ok(known(&mut tree, parent, name)?)
            });
            (path, outcome)
        };
        self.noted(caller, op, &path, None, outcome)
    }

    /// A new node belongs to who makes it; in a directory with set-group-id, to that directory's group, and a directory in it is one too.
    fn inherit(&self, caller: Caller, parent: &Node, node: &mut Node) {
        let set_group_id = parent.mode & libc::S_ISGID != 0;
        if set_group_id && matches!(node.kind, Kind::Directory(_)) {
            node.set_mode(node.mode | libc::S_ISGID);
        }
        if self.many {
            let (_, group) = parent.owner.unwrap_or(self.owner);
            let gid = if set_group_id { group } else { caller.ids.1 };
            node.owner = Some((caller.ids.0, gid));
        }
    }

    pub(crate) fn link(
        &self,
        caller: Caller,
        ino: Ino,
        parent: Ino,
        name: &[u8],
    ) -> Answer<Attributes> {
        let now = self.now();
        let (from, to, outcome) = {
            let mut tree = self.tree_mut();
            let (from, to) = (tree.path(ino), tree.path_of(parent, name));
            // Another name must not open what the first one keeps shut.
            let permitted = self
                .permit(&from, Want::Read)
                .and_then(|()| self.permit(&from, Want::Write))
                .and_then(|()| self.permit(&to, Want::Write));
            let outcome = permitted.and_then(|()| {
                tree.link(ino, parent, name, now)?;
                Ok(known(&mut tree, parent, name)?)
            });
            (from, to, outcome)
        };
        self.noted(caller, Op::Link, &from, Some(&to), outcome)
    }

    pub(crate) fn unlink(&self, caller: Caller, parent: Ino, name: &[u8]) -> Answer<()> {
        self.remove(caller, Op::Unlink, parent, name)
    }

    pub(crate) fn remove_directory(&self, caller: Caller, parent: Ino, name: &[u8]) -> Answer<()> {
        self.remove(caller, Op::Rmdir, parent, name)
    }

    fn remove(&self, caller: Caller, op: Op, parent: Ino, name: &[u8]) -> Answer<()> {
        let now = self.now();
        let (path, outcome) = {
            let mut tree = self.tree_mut();
            let path = tree.path_of(parent, name);
            let outcome = self.permit(&path, Want::Write).and_then(|()| {
                let ino = match op {
                    Op::Rmdir => tree.rmdir(parent, name, now)?,
                    _ => tree.unlink(parent, name, now)?,
                };
                Ok(tree.collect(ino))
            });
            (path, outcome)
        };
        let gone = self.noted(caller, op, &path, None, outcome)?;
        self.give_back(gone);
        Ok(())
    }

    pub(crate) fn rename(
        &self,
        caller: Caller,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        how: Renaming,
    ) -> Answer<()> {
        let now = self.now();
        let (source, target, outcome) = {
            let mut tree = self.tree_mut();
            let (source, target) = (tree.path_of(from.0, from.1), tree.path_of(to.0, to.1));
            let mut permitted = self.permit_move(&tree, from, &source, &target);
            if how == Renaming::Exchange {
                permitted = permitted.and_then(|()| self.permit_move(&tree, to, &target, &source));
            }
            let outcome = permitted.and_then(|()| {
                let replaced = tree.child(to.0, to.1).ok();
                match how {
                    Renaming::Replace => tree.rename(from, to, true, now)?,
                    Renaming::Keep => tree.rename(from, to, false, now)?,
                    Renaming::Exchange => tree.exchange(from, to, now)?,
                }
                Ok(replaced.and_then(|ino| tree.collect(ino)))
            });
            (source, target, outcome)
        };
        let gone = self.noted(caller, Op::Rename, &source, Some(&target), outcome)?;
        self.give_back(gone);
        Ok(())
    }

    /// A rename must not carry what is shut at its old place to a place where it is open, nor the other way round: for the node and for
    /// everything below it, both places must be writable, and readable at the new place only if readable at the old.
    fn permit_move(
        &self,
        tree: &Tree,
        from: (Ino, &[u8]),
        source: &[u8],
        target: &[u8],
    ) -> Result<(), Stop> {
        let mut stack = vec![(tree.child(from.0, from.1).ok(), Vec::new())];
        while let Some((ino, below)) = stack.pop() {
            let (old, new) = (join(source, &below), join(target, &below));
            self.permit(&old, Want::Write)?;
            self.permit(&new, Want::Write)?;
            if self.judge.decide(&new, Want::Read) == Decision::Allow {
                self.permit(&old, Want::Read)?;
            }
            if let Some(children) = ino.and_then(|ino| tree.children(ino).ok()) {
                stack.extend(children.map(|(name, ino)| (Some(ino), join(&below, name))));
            }
        }
        Ok(())
    }
}

/// What a name is. The kernel learns of it, and says when it has forgotten it.
fn known(tree: &mut Tree, parent: Ino, name: &[u8]) -> Answer<Attributes> {
    let ino = tree.child(parent, name)?;
    tree.looked_up(ino);
    attributes(tree, ino)
}

fn join(a: &[u8], b: &[u8]) -> Vec<u8> {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b.to_vec(),
        (_, true) => a.to_vec(),
        _ => [a, b].join(&b'/'),
    }
}
