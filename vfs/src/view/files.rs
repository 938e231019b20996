//! Open files: reading, writing, making durable, closing.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::errno::Errno;
use safelight_policies::{
    central::Want,
    event::{Op, Verdict},
};

use super::{
    Attributes, Caller, Stop, View,
    attributes::attributes,
    listed::{LISTED_MAX, Listed},
};
use crate::{
    content::{Content, Part, SharedContent},
    lower::Unreadable,
    tree::{Answer, Ino, Kind, ROOT, Tree},
    upper::Upper,
};

/// What an open file may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// Something open.
#[derive(Debug)]
pub(crate) enum Handle {
    /// A file.
    File {
        ino: Ino,
        content: SharedContent,
        access: Access,
        /// The path at which it was opened.
        path: Vec<u8>,
        read: AtomicU64,
        written: AtomicU64,
        /// The first error of a write that nobody waited for; told once, at the next flush or sync.
        failed: Mutex<Option<Errno>>,
    },
    /// A directory: the names that it had when it was last read from its beginning.
    Directory { ino: Ino, names: Mutex<Listed> },
}

/// How full a session's views are. What other clients hold does not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    /// Bytes that the session may write to all its views.
    pub(crate) quota: u64,
    /// Bytes that it wrote.
    pub(crate) used: u64,
    /// Files, directories and links of this view.
    pub(crate) nodes: u64,
    /// Names that may still be added.
    pub(crate) names_left: u64,
}

impl View {
    /// The bytes of a file, which is held as if it were open until [`View::let_go`].
    pub(super) fn content(&self, ino: Ino, writes: bool) -> Answer<SharedContent> {
        let mut tree = self.tree_mut();
        self.is_file(&tree, ino)?;
        tree.opened(ino, writes)?;
        let content = tree.content(ino, self.store());
        drop(tree);
        content.inspect_err(|_| self.let_go(ino, writes))
    }

    fn is_file(&self, tree: &Tree, ino: Ino) -> Answer<()> {
        match &tree.node(ino)?.kind {
            Kind::File(_) => Ok(()),
            kind => Err(kind.refusal()),
        }
    }

    /// Opens a file. Each open is on the log before the caller has a descriptor.
    pub(crate) fn open(&self, caller: Caller, ino: Ino, access: Access) -> Answer<u64> {
        let path = self.tree().path(ino);
        if access.read {
            self.judge(caller, Op::OpenRead, &path, Want::Read)?;
        }
        if access.write {
            self.judge(caller, Op::OpenWrite, &path, Want::Write)?;
        }
        self.is_file(&self.tree(), ino)?;
        if access.write {
            let outcome = self.whole().map_err(Stop::from);
            outcome.or_else(|stop| self.noted(caller, Op::OpenWrite, &path, None, Err(stop)))?;
        }
        if access.read {
            self.record(caller, Op::OpenRead, &path, None, Verdict::Allowed, 0)?;
        }
        if access.write {
            self.record(caller, Op::OpenWrite, &path, None, Verdict::Allowed, 0)?;
        }
        self.hold(ino, access, path)
    }

    /// Creates a file and opens it.
    pub(crate) fn create(
        &self,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        mode: u32,
        access: Access,
    ) -> Answer<(Attributes, u64)> {
        let attributes = self.make_file(caller, parent, name, mode)?;
        let path = self.tree().path_of(parent, name);
        let number = self.hold(attributes.ino, access, path)?;
        Ok((attributes, number))
    }

    fn hold(&self, ino: Ino, access: Access, path: Vec<u8>) -> Answer<u64> {
        let writes = access.write;
        let content = self.content(ino, writes)?;
        let (read, written, failed) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(None));
        let added = self.add_handle(Handle::File {
            ino,
            content,
            access,
            path,
            read,
            written,
            failed,
        });
        added.inspect_err(|_| self.let_go(ino, writes))
    }

    /// A handle on a node is gone.
    pub(super) fn let_go(&self, ino: Ino, writes: bool) {
        let gone = self.tree_mut().closed(ino, writes);
        self.give_back(gone);
    }

    /// Opens a directory. The list of its names is made when it is read.
    pub(crate) fn open_directory(&self, caller: Caller, ino: Ino) -> Answer<u64> {
        let path = self.tree().path(ino);
        self.judge(caller, Op::List, &path, Want::Traverse)?;
        let is_directory = self.tree().children_len(ino).map(drop);
        let outcome = is_directory.map_err(Stop::from);
        self.noted(caller, Op::List, &path, None, outcome)?;
        self.tree_mut().opened(ino, false)?;
        let names = Mutex::default();
        let added = self.add_handle(Handle::Directory { ino, names });
        added.inspect_err(|_| self.let_go(ino, false))
    }

    /// Calls `each` with the entries of an open directory from `offset` on, until it answers that it has no room for one. It gets the
    /// offset of the next entry and what the name is *now*: the kernel believes what it is told for as long as it likes, so a name
    /// that is gone is left out and a name that is another file's is that file's. With `known` the kernel counts a look-up of each.
    pub(crate) fn entries(
        &self,
        number: u64,
        offset: u64,
        known: bool,
        mut each: impl FnMut(u64, &[u8], &Attributes) -> bool,
    ) -> Answer<()> {
        let handle = self.handle(number)?;
        let Handle::Directory { ino, names } = &*handle else {
            return Err(Errno::ENOTDIR);
        };
        if offset == 0 {
            // Also what rewinddir(3) asks for.
            let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
            *names = Listed::default();
            *names = Listed::new(self.names(*ino)?, &self.listed, LISTED_MAX)?;
        }
        let names = names.lock().unwrap_or_else(PoisonError::into_inner);
        let names = names.names();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, (name, was)) in names.from(from) {
            let dots = name == b"." || name == b"..";
            let Ok(of) = self.entry(*ino, name, was, known && !dots) else {
                continue;
            };
            if each(index as u64 + 1, name, &of) {
                continue;
            }
            if known && !dots {
                self.forget(of.ino, 1);
            }
            break;
        }
        Ok(())
    }

    fn entry(&self, directory: Ino, name: &[u8], was: Ino, known: bool) -> Answer<Attributes> {
        let mut tree = self.tree_mut();
        let ino = match name {
            b"." => directory,
            b".." => {
                let above = tree.first_name(directory);
                above.map_or(ROOT, |(parent, _)| parent)
            }
            name => tree.child_listed(directory, name, was)?,
        };
        if known {
            tree.looked_up(ino);
        }
        attributes(&tree, ino)
    }

    /// Reads into `out`, which keeps its memory from call to call, and says where the answer is; short only at the end of the file.
    pub(crate) fn read(
        &self,
        caller: Caller,
        number: u64,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Answer<Range<usize>> {
        let handle = self.handle(number)?;
        let Handle::File {
            content,
            path,
            read,
            ..
        } = &*handle
        else {
            return Err(Errno::EISDIR);
        };
        let answer = content
            .read_into(self.store(), offset, len, out)
            .map_err(|why| self.unreadable(caller, Op::OpenRead, path, why))?;
        read.fetch_add(answer.len() as u64, Ordering::Relaxed);
        Ok(answer)
    }

    pub(crate) fn write(
        &self,
        caller: Caller,
        number: u64,
        offset: u64,
        data: &[u8],
    ) -> Answer<()> {
        let handle = self.handle(number)?;
        let Handle::File {
            ino,
            content,
            access,
            path,
            written,
            failed,
            ..
        } = &*handle
        else {
            return Err(Errno::EISDIR);
        };
        if !access.write {
            return Err(Errno::EBADF);
        }
        if let Err(why) = content.write(self.store(), offset, data) {
            let errno = self.unreadable(caller, Op::OpenWrite, path, why);
            self.spoil_by(errno);
            failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(errno);
            return Err(errno);
        }
        written.fetch_add(data.len() as u64, Ordering::Relaxed);
        // The times are the kernel's: under write-back it keeps them, and tells us of each that we do not know.
        if !self.tree().node(*ino)?.dirty {
            self.tree_mut().node_mut(*ino)?.dirty = true;
        }
        Ok(())
    }

    /// Somebody without privilege writes to a file.
    pub(crate) fn shed_privileges(&self, number: u64) -> Answer<()> {
        if let Handle::File { ino, .. } = &*self.handle(number)? {
            self.tree_mut().node_mut(*ino)?.shed_privileges();
        }
        Ok(())
    }

    /// The first failure of a write that nobody has been told of yet.
    pub(crate) fn flush(&self, number: u64) -> Answer<()> {
        match &*self.handle(number)? {
            Handle::File { failed, .. } => failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
                .map_or(Ok(()), Err),
            Handle::Directory { .. } => Ok(()),
        }
    }

    /// Within an attempt there is nothing to make durable: what a crash leaves is never read again (see the upper). So a sync is the
    /// answer whether every write so far arrived.
    pub(crate) fn sync(&self, number: u64) -> Answer<()> {
        self.flush(number)?;
        self.whole()
    }

    /// Closes. What was read and written is on the log afterwards.
    pub(crate) fn close(&self, caller: Caller, number: u64) -> Answer<()> {
        let handle = self.take_handle(number)?;
        let (ino, writes) = match &*handle {
            Handle::File { ino, access, .. } => (*ino, access.write),
            Handle::Directory { ino, .. } => (*ino, false),
        };
        self.let_go(ino, writes);
        let Handle::File {
            access,
            path,
            read,
            written,
            ..
        } = &*handle
        else {
            return Ok(());
        };
        let summary = |op, bytes: &AtomicU64| {
            let bytes = bytes.load(Ordering::Relaxed);
            self.record(caller, op, path, None, Verdict::Allowed, bytes)
        };
        if access.read {
            summary(Op::CloseRead, read)?;
        }
        if access.write {
            summary(Op::CloseWrite, written)?;
        }
        Ok(())
    }

    /// `fallocate`: plain and `KEEP_SIZE` answer whether the quota has room for the range now, and hold none of it; `PUNCH_HOLE` and
    /// `ZERO_RANGE` make zeros that take no space.
    pub(crate) fn allocate(
        &self,
        caller: Caller,
        number: u64,
        offset: u64,
        len: u64,
        mode: i32,
    ) -> Answer<()> {
        let handle = self.handle(number)?;
        let Handle::File {
            ino,
            content,
            access,
            path,
            ..
        } = &*handle
        else {
            return Err(Errno::ENODEV);
        };
        if !access.write {
            return Err(Errno::EBADF);
        }
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        let (keep, mode) = (
            mode & libc::FALLOC_FL_KEEP_SIZE != 0,
            mode & !libc::FALLOC_FL_KEEP_SIZE,
        );
        let done = match mode {
            0 => self
                .has_room(content, offset, len)
                .map_err(Unreadable::Failed),
            libc::FALLOC_FL_PUNCH_HOLE if keep => content.punch(self.store(), offset, len),
            libc::FALLOC_FL_ZERO_RANGE => content.punch(self.store(), offset, len),
            _ => return Err(Errno::EOPNOTSUPP),
        };
        let grown = done.and_then(|()| match keep {
            true => Ok(()),
            false => content.grow(end).map_err(Unreadable::Failed),
        });
        grown.map_err(|why| self.unreadable(caller, Op::Setattr, path, why))?;
        // The times are the kernel's: under write-back it keeps them, and tells us of each that we do not know.
        self.tree_mut().node_mut(*ino)?.dirty = true;
        Ok(())
    }

    /// True if what is not stored of a range yet would still fit.
    fn has_room(&self, content: &Content, offset: u64, len: u64) -> Answer<()> {
        let Space { quota, used, .. } = self.space();
        if content.unstored(offset, len) > quota.saturating_sub(used) {
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// `SEEK_DATA` and `SEEK_HOLE`. While somebody may write, the kernel keeps pages that we have not seen, and does not send them
    /// first: then where the holes are is not known, and `EINVAL` makes programs read everything instead (lseek(2)).
    pub(crate) fn seek(&self, number: u64, offset: u64, part: &Part) -> Answer<u64> {
        match &*self.handle(number)? {
            Handle::File { ino, .. } if self.tree().node(*ino)?.is_being_written() => {
                Err(Errno::EINVAL)
            }
            Handle::File { content, .. } => content.seek(offset, part),
            Handle::Directory { .. } => Err(Errno::EINVAL),
        }
    }

    /// What there is room for, and what there is.
    pub(crate) fn space(&self) -> Space {
        let (quota, used) = self.store().upper.as_ref().map_or((0, 0), Upper::space);
        let tree = self.tree();
        Space {
            quota,
            used,
            nodes: tree.len() as u64,
            names_left: tree.names_left(),
        }
    }
}
