//! The FUSE adapter: requests in, answers out, nothing decided here. The only module that imports `fuser`.
//!
//! What we avoid in `fuser` 0.18, and why: its mount code (we get a mounted descriptor from the launcher), `SETXATTR_EXT` (the first
//! setxattr panics the thread), `ALLOW_IDMAP` (refuses nearly everything), and `ENOSYS` for fsync and fsyncdir, which the kernel would
//! remember as eternal success. A panic in a callback answers `EIO` and spoils the attempt; it never wedges the mount.
//!
//! One mount has one view and one kernel that changes it, so the kernel may keep names and attributes for as long as it likes.

mod convert;
mod requests;

use std::{
    cell::Cell,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use fuser::{
    Config, FileAttr, Generation, INodeNo, InitFlags, KernelConfig, ReplyEntry, Request, Session,
    SessionACL,
};
use nix::errno::Errno;

use self::convert::{code, device, kind, time};
use crate::{
    tree::Answer,
    view::{Attributes, Caller, View},
};

/// How long the kernel may keep what it was told: until it changes it itself.
const KEEP: Duration = Duration::from_secs(86_400);

/// The largest request, half of what the kernel allows: what each event loop copies and encrypts then stays in its processor's own cache,
/// and read-ahead has several under way.
const REQUEST_MAX: u32 = 1 << 19;

/// Requests that may be in flight in the background; the kernel's 12 starve read-ahead.
const BACKGROUND: u16 = 64;

/// Serves a view on a mounted `/dev/fuse` descriptor until the mount is gone. Blocks: call it on a thread of its own.
pub fn serve(view: Arc<View>, device: OwnedFd, threads: usize) -> std::io::Result<()> {
    let mut config = Config::default();
    config.n_threads = Some(threads);
    Session::from_fd(Adapter { view }, device, SessionACL::All, config)?.run()
}

thread_local! {
    /// True while a panic of this thread is caught.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Ends the process at a panic that nobody catches. One in `fuser` itself would end an event loop, and leave who asked waiting for an
/// answer beyond the reach of any signal: utimensat(2) with the earliest second there is does it. A session that fails is better.
pub(crate) fn end_rather_than_hang() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if !GUARDED.get() {
            std::process::exit(1);
        }
    }));
}

struct Adapter {
    view: Arc<View>,
}

impl Adapter {
    /// Runs a callback's body. A panic becomes `EIO`, and what the session wrote is not trusted any more.
    fn guarded<T>(&self, body: impl FnOnce() -> Answer<T>) -> Answer<T> {
        GUARDED.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(body));
        GUARDED.set(false);
        outcome.unwrap_or_else(|_| {
            self.view.spoil();
            Err(Errno::EIO)
        })
    }

    fn caller(request: &Request) -> Caller {
        Caller {
            pid: request.pid(),
            ids: (request.uid(), request.gid()),
        }
    }

    /// Requests by name come from the session's user only: the kernel lets in the mounting user namespace and those below, and in there
    /// nobody else is mapped.
    fn known(&self, request: &Request, ino: INodeNo) -> Answer<Caller> {
        let caller = Self::caller(request);
        if self.view.many || request.uid() == self.view.owner.0 {
            Ok(caller)
        } else {
            Err(self.view.refuse_stranger(caller, ino.0))
        }
    }

    fn attributes(&self, of: &Attributes) -> FileAttr {
        let (uid, gid) = of.owner.unwrap_or(self.view.owner);
        FileAttr {
            ino: INodeNo(of.ino),
            size: of.size,
            blocks: of.stored.div_ceil(512),
            atime: time(of.atime),
            mtime: time(of.mtime),
            ctime: time(of.ctime),
            crtime: time(of.ctime),
            kind: kind(of.what),
            perm: of.mode as u16,
            nlink: of.links,
            uid,
            gid,
            rdev: device(of.what),
            blksize: safelight_seal::segment::BLOCK as u32,
            flags: 0,
        }
    }

    fn entry(&self, outcome: Answer<Attributes>, reply: ReplyEntry) {
        match outcome {
            Ok(of) => reply.entry(&lifetime(&of), &self.attributes(&of), Generation(0)),
            Err(errno) => reply.error(code(errno)),
        }
    }
}

/// How long the kernel may keep attributes. A write takes set-user-id and set-group-id away on our side (`HANDLE_KILLPRIV_V2`), and the
/// kernel does not look again by itself: so it asks each time while there is one.
fn lifetime(of: &Attributes) -> Duration {
    match of.mode & (libc::S_ISUID | libc::S_ISGID) {
        0 => KEEP,
        _ => Duration::ZERO,
    }
}

/// What we ask of the kernel.
fn negotiate(config: &mut KernelConfig) -> std::io::Result<()> {
    // Not only speed: the kernel then keeps the times of files that are written, and we do not.
    let write_back = InitFlags::FUSE_WRITEBACK_CACHE;
    if config.add_capabilities(write_back).is_err() {
        return Err(std::io::ErrorKind::Unsupported.into());
    }
    let wanted = [
        InitFlags::FUSE_DO_READDIRPLUS,
        InitFlags::FUSE_READDIRPLUS_AUTO,
        InitFlags::FUSE_PARALLEL_DIROPS,
        InitFlags::FUSE_CACHE_SYMLINKS,
        InitFlags::FUSE_EXPLICIT_INVAL_DATA,
        InitFlags::FUSE_ASYNC_DIO,
        InitFlags::FUSE_ABORT_ERROR,
        // Or it asks for a file's capabilities at each write.
        InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    ];
    for flag in wanted {
        // A kernel that lacks one is slower, not less safe.
        let _ = config.add_capabilities(flag);
    }
    let _ = config.set_max_write(REQUEST_MAX);
    let _ = config.set_max_background(BACKGROUND);
    Ok(())
}
