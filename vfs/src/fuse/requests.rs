//! Each request of the kernel, handed to the view as it is, and its answer handed back. One trait, so one file.

use std::{cell::RefCell, ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, time::SystemTime};

use fuser::{
    BsdFileFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use nix::errno::Errno;

use super::{
    Adapter, KEEP,
    convert::{absent, code, kind, mode_of, moment, nanoseconds, special},
    lifetime, negotiate,
};
use crate::{
    content::Part,
    tree::Answer,
    view::{Attributes, Renaming, SetAttributes},
};

thread_local! {
    /// Where each event loop makes its answers to reads: its memory is kept, since taking and clearing it costs as much as decrypting.
    static ANSWER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn empty(outcome: Answer<()>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(code(errno)),
    }
}

fn sized(outcome: Answer<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match outcome {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(code(Errno::ERANGE)),
        Ok(value) => reply.data(&value),
        Err(errno) => reply.error(code(errno)),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        negotiate(config)
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let outcome = self.guarded(|| {
            self.view
                .lookup(self.known(request, parent)?, parent.0, name.as_bytes())
        });
        match outcome {
            // A name that is not there is kept too: a renderer that searches paths asks once.
            Err(Errno::ENOENT) => reply.entry(&KEEP, &absent(), Generation(0)),
            outcome => self.entry(outcome, reply),
        }
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        let _ = self.guarded(|| {
            self.view.forget(ino.0, count);
            Ok(())
        });
    }

    fn getattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.guarded(|| self.view.attributes(ino.0)) {
            Ok(of) => reply.attr(&lifetime(&of), &self.attributes(&of)),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttributes {
            mode,
            owner: (uid, gid),
            size,
            atime: atime.map(moment),
            mtime: mtime.map(moment),
            ctime: ctime.map(nanoseconds),
            by_handle: handle.is_some(),
        };
        match self.guarded(|| self.view.set_attributes(Self::caller(request), ino.0, set)) {
            Ok(of) => reply.attr(&lifetime(&of), &self.attributes(&of)),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        match self.guarded(|| self.view.read_link(Self::caller(request), ino.0)) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let regular = mode & libc::S_IFMT == libc::S_IFREG;
        let outcome = self.guarded(|| {
            let caller = self.known(request, parent)?;
            let (parent, name, bits) = (parent.0, name.as_bytes(), mode & !umask);
            match special(mode, device) {
                Some(special) => self.view.make_special(caller, parent, name, bits, special),
                None if regular => self.view.make_file(caller, parent, name, bits),
                None => Err(Errno::EINVAL),
            }
        });
        self.entry(outcome, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        self.entry(
            self.guarded(|| {
                self.view.make_directory(
                    self.known(request, parent)?,
                    parent.0,
                    name.as_bytes(),
                    mode & !umask,
                )
            }),
            reply,
        );
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let target = target.as_os_str().as_bytes();
        self.entry(
            self.guarded(|| {
                self.view.make_symlink(
                    self.known(request, parent)?,
                    parent.0,
                    name.as_bytes(),
                    target,
                )
            }),
            reply,
        );
    }

    fn link(
        &self,
        request: &Request,
        ino: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        self.entry(
            self.guarded(|| {
                self.view
                    .link(self.known(request, ino)?, ino.0, parent.0, name.as_bytes())
            }),
            reply,
        );
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(
            self.guarded(|| {
                self.view
                    .unlink(self.known(request, parent)?, parent.0, name.as_bytes())
            }),
            reply,
        );
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(
            self.guarded(|| {
                self.view
                    .remove_directory(self.known(request, parent)?, parent.0, name.as_bytes())
            }),
            reply,
        );
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let outcome = self.guarded(|| {
            let how = match flags {
                flags if flags.is_empty() => Renaming::Replace,
                RenameFlags::RENAME_NOREPLACE => Renaming::Keep,
                RenameFlags::RENAME_EXCHANGE => Renaming::Exchange,
                _ => return Err(Errno::EINVAL),
            };
            let (from, to) = (
                (parent.0, name.as_bytes()),
                (new_parent.0, new_name.as_bytes()),
            );
            self.view
                .rename(self.known(request, parent)?, from, to, how)
        });
        empty(outcome, reply);
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.guarded(|| {
            self.view
                .open(self.known(request, ino)?, ino.0, mode_of(flags.0))
        }) {
            Ok(number) => reply.opened(FileHandle(number), FopenFlags::FOPEN_KEEP_CACHE),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let outcome = self.guarded(|| {
            self.view.create(
                self.known(request, parent)?,
                parent.0,
                name.as_bytes(),
                mode & !umask,
                mode_of(flags),
            )
        });
        match outcome {
            Ok((of, number)) => {
                reply.created(
                    &lifetime(&of),
                    &self.attributes(&of),
                    Generation(0),
                    FileHandle(number),
                    FopenFlags::FOPEN_KEEP_CACHE,
                );
            }
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn read(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        ANSWER.with_borrow_mut(|out| {
            let caller = Self::caller(request);
            let read = || self.view.read(caller, handle.0, offset, size as usize, out);
            match self.guarded(read) {
                Ok(answer) => reply.data(&out[answer]),
                Err(errno) => reply.error(code(errno)),
            }
        });
    }

    fn write(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.guarded(|| {
            if write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
                self.view.shed_privileges(handle.0)?;
            }
            self.view
                .write(Self::caller(request), handle.0, offset, data)
        }) {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Before it asks, the kernel has sent what was written and learned how that went, which is what it answers to a close. So this says
        // nothing, and the kernel need not ask again.
        reply.error(code(Errno::ENOSYS));
    }

    fn fsync(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        empty(self.guarded(|| self.view.sync(handle.0)), reply);
    }

    fn release(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        empty(
            self.guarded(|| self.view.close(Self::caller(request), handle.0)),
            reply,
        );
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.guarded(|| self.view.open_directory(self.known(request, ino)?, ino.0)) {
            Ok(number) => reply.opened(FileHandle(number), FopenFlags::empty()),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let add = |next, name: &[u8], of: &Attributes| {
            !reply.add(
                INodeNo(of.ino),
                next,
                kind(of.what),
                OsStr::from_bytes(name),
            )
        };
        match self.guarded(|| self.view.entries(handle.0, offset, false, add)) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let add = |next, name: &[u8], of: &Attributes| {
            let attributes = self.attributes(of);
            let (ino, name) = (INodeNo(of.ino), OsStr::from_bytes(name));
            !reply.add(ino, next, name, &lifetime(of), &attributes, Generation(0))
        };
        match self.guarded(|| self.view.entries(handle.0, offset, true, add)) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn releasedir(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        empty(
            self.guarded(|| self.view.close(Self::caller(request), handle.0)),
            reply,
        );
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        empty(self.guarded(|| self.view.sync(handle.0)), reply);
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        const UNIT: u64 = 4096;
        let space = self.view.space();
        let free = (space.quota - space.used) / UNIT;
        reply.statfs(
            space.quota / UNIT,
            free,
            free,
            space.nodes + space.names_left,
            space.names_left,
            UNIT as u32,
            255,
            UNIT as u32,
        );
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        empty(
            self.guarded(|| {
                self.view.set_xattr(
                    self.known(request, ino)?,
                    ino.0,
                    name.as_bytes(),
                    Some(value),
                    flags,
                )
            }),
            reply,
        );
    }

    fn getxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        sized(
            self.guarded(|| {
                self.view
                    .xattr(Self::caller(request), ino.0, name.as_bytes())
            }),
            size,
            reply,
        );
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        sized(
            self.guarded(|| self.view.xattr_names(Self::caller(request), ino.0)),
            size,
            reply,
        );
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(
            self.guarded(|| {
                self.view
                    .set_xattr(self.known(request, ino)?, ino.0, name.as_bytes(), None, 0)
            }),
            reply,
        );
    }

    fn fallocate(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        empty(
            self.guarded(|| {
                self.view
                    .allocate(Self::caller(request), handle.0, offset, len, mode)
            }),
            reply,
        );
    }

    fn lseek(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let outcome = self.guarded(|| {
            let part = match whence {
                libc::SEEK_DATA => Part::Data,
                libc::SEEK_HOLE => Part::Hole,
                _ => return Err(Errno::EINVAL),
            };
            self.view.seek(
                handle.0,
                u64::try_from(offset).map_err(|_| Errno::ENXIO)?,
                &part,
            )
        });
        match outcome {
            Ok(offset) => reply.offset(offset as i64),
            Err(errno) => reply.error(code(errno)),
        }
    }
}
