//! One node of a tree: what it is, where it came from, and who still refers to it.

use std::{collections::BTreeMap, sync::Arc};

use safelight_seal::manifest;

use super::Ino;
use crate::content::SharedContent;

/// What a name costs besides its own bytes, which are there twice: a node, and its place in two maps.
const NAME_COST: usize = 400;

/// What an extended attribute costs besides its bytes.
const XATTR_COST: usize = 100;

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    /// Nanoseconds since 1970; before it, negative.
    pub(crate) mtime: i64,
    pub(crate) ctime: i64,
    pub(crate) atime: i64,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Every name of the node: its directory and its name there. A directory has one, the root none.
    pub(crate) names: Vec<(Ino, Vec<u8>)>,
    /// The paths at which the lower layers have this node: none if it is the session's own, several for hard links.
    pub(crate) origins: Vec<Arc<[u8]>>,
    /// True if the node no longer is what the lower layer has.
    pub(crate) dirty: bool,
    /// Directories among the entries.
    pub(super) subdirectories: u32,
    /// Where the node had its last name, once it has none.
    pub(super) gone: Vec<u8>,
    pub(super) lookups: u64,
    pub(super) opens: u32,
    /// Handles among `opens` that may write.
    pub(super) writers: u32,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Kind {
    Directory(BTreeMap<Vec<u8>, Ino>),
    File(SharedContent),
    Symlink(Vec<u8>),
}

impl Node {
    /// A node without a name yet.
    pub(crate) fn new(kind: Kind, mode: u32, now: i64) -> Self {
        Self {
            kind,
            mode: mode & manifest::MODE_MASK,
            mtime: now,
            ctime: now,
            atime: now,
            xattrs: BTreeMap::new(),
            names: Vec::new(),
            origins: Vec::new(),
            dirty: true,
            subdirectories: 0,
            gone: Vec::new(),
            lookups: 0,
            opens: 0,
            writers: 0,
        }
    }

    /// The link count that `stat` shows: of a directory that is gone, none.
    pub(crate) fn links(&self, is_root: bool) -> u32 {
        match self.kind {
            Kind::Directory(_) if self.names.is_empty() && !is_root => 0,
            Kind::Directory(_) => 2 + self.subdirectories,
            _ => u32::try_from(self.names.len()).unwrap_or(u32::MAX),
        }
    }

    /// True if the lower layers have this node at this path.
    pub(crate) fn is_from(&self, path: &[u8]) -> bool {
        self.origins.iter().any(|origin| **origin == *path)
    }

    /// True if a handle is open that may write.
    pub(crate) fn is_being_written(&self) -> bool {
        self.writers > 0
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// Bytes of a link's target.
    pub(super) fn weight_of_target(&self) -> usize {
        match &self.kind {
            Kind::Symlink(target) => target.len(),
            Kind::Directory(_) | Kind::File(_) => 0,
        }
    }
}

/// Estimated bytes of a name.
pub(super) fn weight_of_name(name: &[u8]) -> usize {
    NAME_COST + 2 * name.len()
}

/// Estimated bytes of a node's extended attributes.
pub(super) fn weight_of_xattrs(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> usize {
    let each = |(name, value): (&Vec<u8>, &Vec<u8>)| XATTR_COST + name.len() + value.len();
    xattrs.iter().map(each).sum()
}
