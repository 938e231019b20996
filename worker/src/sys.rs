//! The only unsafe code of this crate: system calls that no safe wrapper has.
#![allow(
    unsafe_code,
    reason = "this module is where the crate keeps it, call by call, each with its facts"
)]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
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

/// A program that was started, and a descriptor of its process.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
}

/// Starts a program with these standard descriptors, no environment, `/` as its directory, and every signal let through; in a control group
/// (of cgroup v2, by its directory) from its first instruction, if one is given. To move it there afterwards would have the kernel wait for all
/// processors, for ten milliseconds and more.
pub(crate) fn spawn(
    program: &CStr,
    argument: &CStr,
    stdio: [BorrowedFd<'_>; 3],
    group: Option<BorrowedFd<'_>>,
) -> io::Result<Spawned> {
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let arguments = [program.as_ptr(), argument.as_ptr(), ptr::null()];
    let environment = [ptr::null()];
    let standard = stdio.map(|descriptor| descriptor.as_raw_fd());
    let mut pidfd: libc::c_int = -1;
    // The kernel's own layout (linux/sched.h, struct clone_args, version 2): flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size,
    // tls, set_tid, set_tid_size, cgroup.
    let mut clone = [0u64; 11];
    clone[0] = (libc::CLONE_PIDFD | libc::CLONE_VFORK)
        .unsigned_abs()
        .into();
    clone[1] = ptr::from_mut(&mut pidfd).addr() as u64;
    clone[4] = libc::SIGCHLD.unsigned_abs().into();
    if let Some(group) = group {
        clone[0] |= INTO_CGROUP;
        clone[10] = u64::from(group.as_raw_fd().unsigned_abs());
    }
    // SAFETY: without CLONE_VM this is a fork: the child has its own copy of this memory, in which other threads may have left locks and the
    // allocator in any state. It calls `become_program` only, which touches neither. The arguments are as the kernel reads them, and
    // `pidfd` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, clone.as_ptr(), size_of_val(&clone)) };
    if pid == 0 {
        become_program(program, &arguments, &environment, standard);
    }
    check(pid)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    Ok(Spawned {
        pid: Pid::from_raw(pid),
        pidfd,
    })
}

/// The child's part: system calls only, then the program, or an end with the error number as exit code.
fn become_program(
    program: &CStr,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
    standard: [libc::c_int; 3],
) -> ! {
    // SAFETY: each call is async-signal-safe (signal-safety(7)) and works on integers, on a set of signals on our own stack, or on strings and
    // arrays that end with a null and are borrowed for the call. The descriptors are above 2 or where they belong, so none is overwritten
    // before it is copied. `_exit` runs no code of this program's.
    unsafe {
        for (to, from) in (0..).zip(standard) {
            // A descriptor that is in its place already must not be closed by exec.
            let copied = if from == to {
                libc::fcntl(to, libc::F_SETFD, 0)
            } else {
                libc::dup2(from, to)
            };
            if copied < 0 {
                libc::_exit(*libc::__errno_location());
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        if libc::chdir(c"/".as_ptr()) < 0 {
            libc::_exit(*libc::__errno_location());
        }
        libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        libc::_exit(*libc::__errno_location())
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
