//! Attributes and extended attributes.

use nix::errno::Errno;
use safelight_policies::{
    central::Want,
    event::{Op, Verdict},
};
use safelight_seal::manifest::{NAME_MAX, XATTR_VALUE_MAX, XATTRS_MAX};

use super::{Caller, Stop, View};
use crate::tree::{Answer, Bytes, Ino, Kind, ROOT, Special, Tree};

/// Only these extended attributes exist in a view.
const XATTR_PREFIX: &[u8] = b"user.";

/// What `stat` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) ino: Ino,
    pub(crate) what: What,
    pub(crate) size: u64,
    /// Bytes stored.
    pub(crate) stored: u64,
    pub(crate) mode: u32,
    /// None if everything is one user's.
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) links: u32,
    pub(crate) mtime: i64,
    pub(crate) ctime: i64,
    pub(crate) atime: i64,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Directory,
    File,
    Symlink,
    Special(Special),
}

/// What is to be changed. `None` stays.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SetAttributes {
    pub(crate) mode: Option<u32>,
    pub(crate) owner: (Option<u32>, Option<u32>),
    pub(crate) size: Option<u64>,
    /// Nanoseconds since 1970; `Err` is "now".
    pub(crate) atime: Option<Result<i64, Now>>,
    pub(crate) mtime: Option<Result<i64, Now>>,
    pub(crate) ctime: Option<i64>,
    /// True if it comes with an open handle, as the kernel's write-back of times does.
    pub(crate) by_handle: bool,
}

/// The time at which the request is served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now;

impl SetAttributes {
    /// Under write-back the kernel keeps times itself and tells us when it closes a file. That was no one's request.
    fn is_times_of_write_back(&self) -> bool {
        self.by_handle
            && self.mode.is_none()
            && self.size.is_none()
            && self.owner == (None, None)
            && self.ctime.is_some()
    }
}

pub(super) fn attributes(tree: &Tree, ino: Ino) -> Answer<Attributes> {
    let node = tree.node(ino)?;
    let (what, size, stored) = match &node.kind {
        Kind::Directory(children) => (What::Directory, children.len() as u64 * 32, 0),
        Kind::File(Bytes::Sealed { len, stored }) => (What::File, *len, *stored),
        Kind::File(Bytes::Own(content)) => (What::File, content.len(), content.stored()),
        Kind::Symlink(target) => (What::Symlink, target.len() as u64, 0),
        Kind::Special(special) => (What::Special(*special), 0, 0),
    };
    let links = node.links(ino == ROOT);
    Ok(Attributes {
        ino,
        what,
        size,
        stored,
        mode: node.mode,
        owner: node.owner,
        links,
        mtime: node.mtime,
        ctime: node.ctime,
        atime: node.atime,
    })
}

impl View {
    pub(crate) fn attributes(&self, ino: Ino) -> Answer<Attributes> {
        attributes(&self.tree(), ino)
    }

    pub(crate) fn set_attributes(
        &self,
        caller: Caller,
        ino: Ino,
        set: SetAttributes,
    ) -> Answer<Attributes> {
        if set.is_times_of_write_back() {
            return self.apply(caller, ino, set);
        }
        let path = self.tree().path(ino);
        self.judge(caller, Op::Setattr, &path, Want::Write)?;
        if !self.may_own(set.owner) {
            let verdict = Verdict::Failed {
                errno: Errno::EPERM as i32,
            };
            self.record(caller, Op::Setattr, &path, None, verdict, 0)?;
            return Err(Errno::EPERM);
        }
        let outcome = match set.size {
            Some(size) => {
                // Nobody may let go of what is cut before it is known to be changed.
                let content = self.content(ino, false)?;
                let cut = content.truncate(self.store(), size);
                let cut = cut.map_err(|why| self.unreadable(caller, Op::Setattr, &path, why));
                let outcome = cut.map(|()| self.apply(caller, ino, set));
                self.let_go(ino, false);
                outcome?
            }
            None => self.apply(caller, ino, set),
        };
        self.noted(
            caller,
            Op::Setattr,
            &path,
            None,
            outcome.map_err(Stop::from),
        )
    }

    /// True if nodes can belong to these. Where there are several users, the kernel has decided it already (`default_permissions`).
    fn may_own(&self, (uid, gid): (Option<u32>, Option<u32>)) -> bool {
        let (own_uid, own_gid) = self.owner;
        self.many || (uid.is_none_or(|uid| uid == own_uid) && gid.is_none_or(|gid| gid == own_gid))
    }

    fn apply(&self, caller: Caller, ino: Ino, set: SetAttributes) -> Answer<Attributes> {
        let now = self.now();
        let mut tree = self.tree_mut();
        let node = tree.node_mut(ino)?;
        // The kernel leaves this to us. What a privileged user cuts keeps its bits (CAP_FSETID); in a session nobody is one.
        let cut = set.size.is_some() && !(self.many && caller.ids.0 == 0);
        if cut || set.owner != (None, None) {
            node.shed_privileges();
        }
        if let Some(mode) = set.mode {
            node.set_mode(mode);
        }
        if self.many {
            let (uid, gid) = node.owner.unwrap_or(self.owner);
            node.owner = Some((set.owner.0.unwrap_or(uid), set.owner.1.unwrap_or(gid)));
        }
        if set.size.is_some() {
            node.mtime = now;
        }
        if let Some(mtime) = set.mtime {
            node.mtime = mtime.unwrap_or(now);
        }
        if let Some(atime) = set.atime {
            node.atime = atime.unwrap_or(now);
        }
        node.ctime = set.ctime.unwrap_or(now);
        node.dirty |= set.mode.is_some() || set.size.is_some() || set.mtime.is_some();
        attributes(&tree, ino)
    }

    /// The value of an extended attribute. The kernel asks for its own before it writes: they never exist, whoever asks.
    pub(crate) fn xattr(&self, caller: Caller, ino: Ino, name: &[u8]) -> Answer<Vec<u8>> {
        if !name.starts_with(XATTR_PREFIX) {
            return Err(Errno::ENODATA);
        }
        let path = self.tree().path(ino);
        self.judge(caller, Op::Xattr, &path, Want::Read)?;
        let tree = self.tree();
        tree.node(ino)?
            .xattrs
            .get(name)
            .cloned()
            .ok_or(Errno::ENODATA)
    }

    /// The names of all extended attributes, each followed by NUL.
    pub(crate) fn xattr_names(&self, caller: Caller, ino: Ino) -> Answer<Vec<u8>> {
        let path = self.tree().path(ino);
        self.judge(caller, Op::Xattr, &path, Want::Read)?;
        let tree = self.tree();
        let node = tree.node(ino)?;
        Ok(node
            .xattrs
            .keys()
            .flat_map(|name| name.iter().copied().chain([0]))
            .collect())
    }

    /// Sets or, with `value` none, removes an extended attribute. Only `user.` exists: the others mean something to a kernel.
    pub(crate) fn set_xattr(
        &self,
        caller: Caller,
        ino: Ino,
        name: &[u8],
        value: Option<&[u8]>,
        flags: i32,
    ) -> Answer<()> {
        let path = self.tree().path(ino);
        self.judge(caller, Op::Xattr, &path, Want::Write)?;
        let outcome = self.change_xattr(ino, name, value, flags);
        self.noted(caller, Op::Xattr, &path, None, outcome.map_err(Stop::from))
    }

    fn change_xattr(&self, ino: Ino, name: &[u8], value: Option<&[u8]>, flags: i32) -> Answer<()> {
        if !name.starts_with(XATTR_PREFIX) {
            return Err(Errno::EOPNOTSUPP);
        }
        if name.len() == XATTR_PREFIX.len() || name.contains(&0) {
            return Err(Errno::EINVAL);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ERANGE);
        }
        let now = self.now();
        let mut tree = self.tree_mut();
        let mut xattrs = tree.node(ino)?.xattrs.clone();
        let exists = xattrs.contains_key(name);
        match value {
            Some(value) if value.len() > XATTR_VALUE_MAX => return Err(Errno::E2BIG),
            Some(_) if exists && flags & libc::XATTR_CREATE != 0 => return Err(Errno::EEXIST),
            Some(_) if !exists && flags & libc::XATTR_REPLACE != 0 => return Err(Errno::ENODATA),
            Some(_) if !exists && xattrs.len() >= XATTRS_MAX => return Err(Errno::ENOSPC),
            None if !exists => return Err(Errno::ENODATA),
            Some(value) => drop(xattrs.insert(name.to_vec(), value.to_vec())),
            None => drop(xattrs.remove(name)),
        }
        tree.set_xattrs(ino, xattrs)?;
        let node = tree.node_mut(ino)?;
        (node.ctime, node.dirty) = (now, true);
        Ok(())
    }
}
