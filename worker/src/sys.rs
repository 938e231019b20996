//! The only unsafe code of this crate: system calls that no safe wrapper has.
#![allow(
    unsafe_code,
    reason = "this module is where the crate keeps it, call by call, each with its facts"
)]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use nix::{
    sys::signal::SigSet,
    unistd::{ForkResult, Pid},
};

/// The flag of `mount_setattr(2)` that says "the descriptor itself, and everything mounted below it".
const WHOLE_TREE: libc::c_int = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;

/// Which process `fork` returned in.
#[derive(Debug)]
pub(crate) enum Fork {
    /// The new one.
    Child,
    /// The one that called, and the new one's id.
    Parent(Pid),
}

/// Makes a second process. Only for a process with one thread.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: the launcher never starts a thread (its main starts none, and it links no runtime that would before `main`), so the child
    // finds every lock and the allocator in the state the caller left them in, and may go on with ordinary code.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => Ok(Fork::Child),
        ForkResult::Parent { child } => Ok(Fork::Parent(child)),
    }
}

/// Marks every descriptor from 3 up as closed by the next `execve`.
pub(crate) fn close_on_exec_from_3() -> io::Result<()> {
    close_range(libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor from 3 up. The caller must not use or drop one of them afterwards: it ends by `exit`.
pub(crate) fn close_from_3() -> io::Result<()> {
    close_range(0)
}

fn close_range(flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: close_range(2) takes three integers and touches no memory of ours.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, flags) })
}

/// Sets attributes (`MOUNT_ATTR_…`) on a mount, and on all mounts below it if `tree`.
pub(crate) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    attributes: u64,
    tree: bool,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = if tree {
        WHOLE_TREE
    } else {
        libc::AT_EMPTY_PATH
    };
    // SAFETY: the path is an empty C string, `attr` outlives the call and its true size is passed with it; the kernel only reads both.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(&attr),
            size_of::<libc::mount_attr>(),
        )
    })
}

/// Gives every signal its default action and unblocks all, whatever was inherited (Rust's runtime ignores `SIGPIPE`).
pub(crate) fn reset_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action runs no code of ours. The kernel refuses it for SIGKILL and SIGSTOP, the C library for the two
        // signals it keeps to itself; none of these four can be anything but default.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// The kernel's Landlock ABI (Documentation/userspace-api/landlock.rst, "Kernel interface").
pub(crate) fn landlock_abi() -> io::Result<u32> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with the version flag the kernel takes a null pointer and the size zero, and touches no memory.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<libc::c_void>(),
            0usize,
            VERSION,
        )
    };
    check(abi)?;
    u32::try_from(abi).map_err(io::Error::other)
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
