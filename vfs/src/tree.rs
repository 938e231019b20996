//! The namespace of a view: the lower layers' names as their index has them, and the session's changes over it in memory.
//!
//! Pure: no I/O, no clock (times are arguments), no policy. A node of the layers is *made* when the session changes it or has it open, and
//! is let go of again when it was closed unchanged: what nobody touches costs nothing but its place in the index. A node lives as long as
//! a name, an open handle or the kernel refers to it, so that a file that was unlinked or renamed over while open stays whole. Every node
//! knows whether it still is what the lower layers said (`dirty`, and [`Tree::is_from`]), which is all that a commit needs.

mod life;
mod names;
mod node;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Deref,
    sync::Arc,
};

use nix::errno::Errno;
use safelight_seal::manifest::{self, KindRef, MODE_MASK};

use self::node::weight_of_xattrs;
pub(crate) use self::node::{Bytes, Children, Kind, Node, Special};
use crate::{
    content::{Content, SharedContent, Store},
    layers::Layers,
    room::Room,
};

/// What an operation answers: a value or an error number.
pub(crate) type Answer<T> = Result<T, Errno>;

/// A node's number, never reused within a view.
pub(crate) type Ino = u64;

/// The root directory.
pub(crate) const ROOT: Ino = 1;

/// What a session may add to a tree, in bytes of this process's memory: names and targets cost no byte of the quota, and this process is
/// outside the session's memory limit.
const GROWTH_MAX: usize = 1 << 30;

/// What a session may add in extended attributes. They are in the manifest as they are, and a manifest has a limit of its own.
const XATTR_GROWTH_MAX: usize = 64 << 20;

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree {
    layers: Layers,
    /// The session's own nodes, and those of the layers that are more than their entry says.
    made: HashMap<Ino, Node>,
    /// How often the kernel knows each node of the layers; [`life::GONE`] if it is no more.
    known: Vec<u32>,
    next: Ino,
    names: usize,
    nodes: usize,
    /// Estimated bytes of names and link targets that the session made, and of extended attributes that it set; and how many there may be.
    weight: Weight,
    limit: Weight,
    /// What the session may add to all its views together.
    room: Arc<Room>,
}

/// Estimated bytes.
#[derive(Debug, Clone, Copy)]
struct Weight {
    names: usize,
    xattrs: usize,
}

/// A node to be looked at.
pub(crate) enum Found<'a> {
    /// As it is in memory.
    Made(&'a Node),
    /// As the layers have it, made for this look.
    Sealed(Box<Node>),
}

impl Deref for Found<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        match self {
            Self::Made(node) => node,
            Self::Sealed(node) => node,
        }
    }
}

impl Tree {
    /// What these layers show, with room for what the session adds.
    pub(crate) fn over(layers: Layers, room: Arc<Room>) -> Self {
        Self {
            made: HashMap::new(),
            known: vec![0; layers.names_len()],
            next: layers.names_len() as Ino + 1,
            names: layers.names_len(),
            nodes: layers.nodes_len(),
            layers,
            weight: Weight {
                names: 0,
                xattrs: 0,
            },
            limit: Weight {
                names: GROWTH_MAX,
                xattrs: XATTR_GROWTH_MAX,
            },
            room,
        }
    }

    /// The lower layers.
    pub(crate) fn layers(&self) -> &Layers {
        &self.layers
    }

    /// True if a node is exactly what the layers say, where they say it; what is below it may differ.
    pub(crate) fn is_untouched(&self, ino: Ino) -> bool {
        !self.made.contains_key(&ino)
    }

    /// Every node that is in memory: all that may differ from what the layers say.
    pub(crate) fn touched(&self) -> impl Iterator<Item = Ino> {
        self.made.keys().copied()
    }

    /// The directories in which a node has its names.
    pub(crate) fn parents(&self, ino: Ino) -> Vec<Ino> {
        let parents = |names: &[(Ino, Vec<u8>)]| names.iter().map(|(parent, _)| *parent).collect();
        match self.made.get(&ino) {
            Some(node) => parents(&node.names),
            None => parents(&self.layers.names(ino)),
        }
    }

    /// True if the lower layers have this node at this path.
    pub(crate) fn is_from(&self, ino: Ino, path: &[u8]) -> bool {
        self.layers.is_at(ino, path)
    }

    /// The directories of the layers in which names came or went.
    pub(crate) fn changed_directories(&self) -> impl Iterator<Item = (Ino, &Children)> {
        self.made.iter().filter_map(|(ino, node)| match &node.kind {
            Kind::Directory(children) if self.layers.has(*ino) => Some((*ino, children)),
            _ => None,
        })
    }

    /// Sets all extended attributes of a node.
    pub(crate) fn set_xattrs(
        &mut self,
        ino: Ino,
        xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Answer<()> {
        let new = weight_of_xattrs(&xattrs);
        let (all, limit) = (self.weight.xattrs, self.limit.xattrs);
        let node = self.node_mut(ino)?;
        let weight = all - node.charged + new;
        if weight > limit && weight > all {
            return Err(Errno::ENOSPC);
        }
        (node.xattrs, node.charged) = (xattrs, new);
        self.weight.xattrs = weight;
        Ok(())
    }

    /// A node by its number.
    pub(crate) fn node(&self, ino: Ino) -> Answer<Found<'_>> {
        match self.made.get(&ino) {
            Some(node) => Ok(Found::Made(node)),
            None => Ok(Found::Sealed(Box::new(self.sealed(ino)?))),
        }
    }

    /// A node to be changed.
    pub(crate) fn node_mut(&mut self, ino: Ino) -> Answer<&mut Node> {
        let node = self.held(ino)?;
        node.changed = true;
        Ok(node)
    }

    /// A node in memory.
    fn held(&mut self, ino: Ino) -> Answer<&mut Node> {
        if !self.made.contains_key(&ino) {
            let node = self.sealed(ino)?;
            self.made.insert(ino, node);
        }
        self.made.get_mut(&ino).ok_or(Errno::ESTALE)
    }

    /// A node as the layers have it.
    fn sealed(&self, ino: Ino) -> Answer<Node> {
        if self.is_gone(ino) {
            return Err(Errno::ESTALE);
        }
        let entry = self.layers.entry(ino).ok_or(Errno::ESTALE)?;
        let mut subdirectories = 0;
        let kind = match entry.kind {
            KindRef::Directory { .. } => {
                let (count, directories) = self.layers.counts(ino).ok_or(Errno::EIO)?;
                subdirectories = directories;
                Kind::Directory(Children::sealed(count))
            }
            KindRef::File { len, segments } => Kind::File(Bytes::Sealed {
                len,
                stored: segments.stored(),
            }),
            KindRef::Symlink { target } => Kind::Symlink(target.to_vec()),
            KindRef::Link { .. } | KindRef::Whiteout => return Err(Errno::EIO),
        };
        let mut node = Node::new(kind, entry.mode & MODE_MASK, entry.mtime_ns);
        let owned = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
        node.xattrs = entry.xattrs.into_iter().map(owned).collect();
        node.names = self.layers.names(ino);
        (node.dirty, node.changed) = (false, false);
        node.subdirectories = subdirectories;
        Ok(node)
    }

    /// The bytes of a file. Of a sealed one they are opened, and stay so as long as the node is held.
    pub(crate) fn content(&mut self, ino: Ino, store: &Store) -> Answer<SharedContent> {
        let node = self.held(ino)?;
        match &node.kind {
            Kind::File(Bytes::Own(content)) => return Ok(content.clone()),
            Kind::File(Bytes::Sealed { .. }) => {}
            kind => return Err(kind.refusal()),
        }
        let lower = self.layers.file(ino)?;
        let content = Arc::new(Content::sealed(store.file_number(), lower));
        self.held(ino)?.kind = Kind::File(Bytes::Own(content.clone()));
        Ok(content)
    }

    /// The number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.nodes
    }

    /// A directory's entries, sorted by name.
    pub(crate) fn children(&self, ino: Ino) -> Answer<impl Iterator<Item = (&[u8], Ino)>> {
        let (is_sealed, changes) = match self.made.get(&ino) {
            Some(node) => {
                let children = node.children()?;
                (children.is_sealed(), Some(children.changes()))
            }
            None => {
                self.is_sealed_directory(ino)?;
                (true, None)
            }
        };
        let sealed = is_sealed.then(|| self.layers.children(ino));
        let sealed = sealed.into_iter().flatten();
        let same = sealed
            .filter(move |(name, _)| !changes.is_some_and(|changes| changes.contains_key(*name)));
        let own = changes.into_iter().flatten();
        let own = own.filter_map(|(name, ino)| Some((name.as_slice(), (*ino)?)));
        let (mut same, mut own) = (same.peekable(), own.peekable());
        Ok(std::iter::from_fn(move || {
            match (same.peek(), own.peek()) {
                (Some((a, _)), Some((b, _))) if b < a => own.next(),
                (None, _) => own.next(),
                _ => same.next(),
            }
        }))
    }

    /// How many entries a directory has.
    pub(crate) fn children_len(&self, ino: Ino) -> Answer<usize> {
        Ok(self.node(ino)?.children()?.len())
    }

    /// The node of a name in a directory.
    pub(crate) fn child(&self, parent: Ino, name: &[u8]) -> Answer<Ino> {
        if name.len() > manifest::NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        match self.changed_child(parent, name)? {
            Some(changed) => changed,
            None => self.layers.child(parent, name),
        }
        .ok_or(Errno::ENOENT)
    }

    /// The node of a name that was this one when it was listed.
    pub(crate) fn child_listed(&self, parent: Ino, name: &[u8], was: Ino) -> Answer<Ino> {
        match self.changed_child(parent, name)? {
            None if self.layers.is_first(was, parent, name) => Ok(was),
            _ => self.child(parent, name),
        }
    }

    /// What the session made of a name: a node or none. None if that is the layers' to say.
    fn changed_child(&self, parent: Ino, name: &[u8]) -> Answer<Option<Option<Ino>>> {
        match self.made.get(&parent) {
            Some(node) => Ok(node.children()?.changed(name)),
            None => self.is_sealed_directory(parent).map(|()| None),
        }
    }

    /// Of a node that is not in memory.
    fn is_sealed_directory(&self, ino: Ino) -> Answer<()> {
        if self.is_gone(ino) || !self.layers.has(ino) {
            return Err(Errno::ESTALE);
        }
        self.layers.counts(ino).map(drop).ok_or(Errno::ENOTDIR)
    }

    /// The path of a node relative to the root, by its first name; of a node without a name, where it had its last.
    pub(crate) fn path(&self, ino: Ino) -> Vec<u8> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut at = ino;
        while at != ROOT {
            let Some((parent, name)) = self.first_name(at) else {
                if let Some(node) = self.made.get(&at) {
                    parts.push(&node.gone);
                }
                break;
            };
            parts.push(name);
            at = parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// The first name of a node, with its directory.
    pub(crate) fn first_name(&self, ino: Ino) -> Option<(Ino, &[u8])> {
        match self.made.get(&ino) {
            Some(node) => {
                let (parent, name) = node.names.first()?;
                Some((*parent, name))
            }
            None if self.is_gone(ino) => None,
            None => self.layers.first_name(ino),
        }
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
}

#[cfg(test)]
mod tests;
