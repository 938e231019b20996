//! One node of a tree: what it is, where it came from, and who still refers to it.

use std::collections::BTreeMap;

use nix::errno::Errno;
use safelight_seal::manifest;

use super::{Answer, Ino};
use crate::content::SharedContent;

/// What a name costs besides its own bytes, which are there twice: a node, and its place in two maps.
const NAME_COST: usize = 400;

/// What an extended attribute costs besides its bytes.
const XATTR_COST: usize = 100;

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Permission bits, with set-user-id, set-group-id and the sticky bit.
    pub(crate) mode: u32,
    /// User and group, where a view has several; where it has one, none.
    pub(crate) owner: Option<(u32, u32)>,
    /// Nanoseconds since 1970; before it, negative.
    pub(crate) mtime: i64,
    pub(crate) ctime: i64,
    pub(crate) atime: i64,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Every name of the node: its directory and its name there. A directory has one, the root none.
    pub(crate) names: Vec<(Ino, Vec<u8>)>,
    /// True if a manifest has to say something else of it than the lower layers do.
    pub(crate) dirty: bool,
    /// True if it was ever to be changed, in whatever way: then it stays in memory.
    pub(super) changed: bool,
    /// What of its extended attributes counts as the session's.
    pub(super) charged: usize,
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
    Directory(Children),
    File(Bytes),
    Symlink(Vec<u8>),
    /// What passes between those who open it never comes to us, and is gone with the session.
    Special(Special),
}

/// The bytes of a file.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// As the layers have them; nobody opened them yet.
    Sealed {
        len: u64,
        stored: u64,
    },
    Own(SharedContent),
}

/// The entries of a directory: the layers', but for those that the session changed.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// True if there are entries of the layers below.
    sealed: bool,
    /// What a name is now; none if it is gone.
    changes: BTreeMap<Vec<u8>, Option<Ino>>,
    len: usize,
}

impl Children {
    /// Those of a directory of the layers.
    pub(super) fn sealed(len: usize) -> Self {
        Self {
            sealed: true,
            len,
            ..Self::default()
        }
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Every name that was changed, and what it is now.
    pub(crate) fn changes(&self) -> &BTreeMap<Vec<u8>, Option<Ino>> {
        &self.changes
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What the session made of a name.
    pub(super) fn changed(&self, name: &[u8]) -> Option<Option<Ino>> {
        match self.changes.get(name) {
            None if !self.sealed => Some(None),
            changed => changed.copied(),
        }
    }

    /// A name that is not there comes.
    pub(super) fn enter(&mut self, name: &[u8], ino: Ino) {
        self.changes.insert(name.to_vec(), Some(ino));
        self.len += 1;
    }

    /// A name that is there goes; with `below`, there is one of the layers that would show then. True if it was the session's.
    pub(super) fn leave(&mut self, name: &[u8], below: bool) -> bool {
        self.len -= 1;
        match self.sealed && below {
            true => matches!(self.changes.insert(name.to_vec(), None), Some(Some(_))),
            false => self.changes.remove(name).is_some(),
        }
    }
}

impl Kind {
    /// Why there are no bytes to be read or written.
    pub(crate) fn refusal(&self) -> Errno {
        match self {
            Self::Directory(_) => Errno::EISDIR,
            Self::Symlink(_) => Errno::ELOOP,
            Self::Special(_) | Self::File(_) => Errno::ENXIO,
        }
    }
}

/// A node that is a meeting point in the kernel, and nothing that could be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Pipe,
    Socket,
    CharDevice(u32),
    BlockDevice(u32),
}

/// The bits of a mode that a view keeps. Its mounts are `nosuid`, so two of them mean nothing to the kernel, and they are not sealed.
const MODE_BITS: u32 = 0o7777;

impl Node {
    /// A node without a name yet.
    pub(crate) fn new(kind: Kind, mode: u32, now: i64) -> Self {
        Self {
            kind,
            mode: mode & MODE_BITS,
            owner: None,
            mtime: now,
            ctime: now,
            atime: now,
            xattrs: BTreeMap::new(),
            names: Vec::new(),
            dirty: true,
            changed: true,
            charged: 0,
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

    /// True if a handle is open that may write.
    pub(crate) fn is_being_written(&self) -> bool {
        self.writers > 0
    }

    /// Sets the mode.
    pub(crate) fn set_mode(&mut self, mode: u32) {
        self.mode = mode & MODE_BITS;
    }

    /// Takes set-user-id away, and set-group-id where it is not for locking, as whoever writes to a file or gives it away does to it.
    pub(crate) fn shed_privileges(&mut self) {
        if matches!(self.kind, Kind::Directory(_)) {
            return;
        }
        self.mode &= !libc::S_ISUID;
        if self.mode & libc::S_IXGRP != 0 {
            self.mode &= !libc::S_ISGID;
        }
    }

    /// The mode as it is sealed.
    pub(crate) fn sealed_mode(&self) -> u32 {
        self.mode & manifest::MODE_MASK
    }

    /// A directory's entries.
    pub(crate) fn children(&self) -> Answer<&Children> {
        match &self.kind {
            Kind::Directory(children) => Ok(children),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn children_mut(&mut self) -> Answer<&mut Children> {
        match &mut self.kind {
            Kind::Directory(children) => Ok(children),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// True if it exists in this session only.
    pub(crate) fn is_special(&self) -> bool {
        matches!(self.kind, Kind::Special(_))
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// Bytes of a link's target.
    pub(super) fn weight_of_target(&self) -> usize {
        match &self.kind {
            Kind::Symlink(target) => target.len(),
            Kind::Directory(_) | Kind::File(_) | Kind::Special(_) => 0,
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
