//! The only unsafe code of this crate: system calls that no safe wrapper has.
#![allow(
    unsafe_code,
    reason = "this module is where the crate keeps it, call by call, each with its facts"
)]

use std::{
    ffi::CStr,
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use nix::{
    sys::signal::SigSet,
    unistd::{ForkResult, Pid},
};
use rustix::process::{WaitId, WaitIdOptions, waitid};

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
    const CLEAR_SIGNAL_HANDLERS: u64 = 0x1_0000_0000;
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let arguments = [program.as_ptr(), argument.as_ptr(), ptr::null()];
    let environment = [ptr::null()];
    let mut child = Child {
        program: program.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        standard: stdio.map(|descriptor| descriptor.as_raw_fd()),
        failed: 0,
    };
    let mut stack = Stack::new();
    let mut pidfd: libc::c_int = -1;
    // The kernel's own layout (linux/sched.h, struct clone_args, version 2): flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size,
    // tls, set_tid, set_tid_size, cgroup.
    let mut clone = [0u64; 11];
    let flags = (libc::CLONE_PIDFD | libc::CLONE_VFORK | libc::CLONE_VM).unsigned_abs();
    clone[0] = u64::from(flags) | CLEAR_SIGNAL_HANDLERS;
    clone[1] = ptr::from_mut(&mut pidfd).addr() as u64;
    clone[4] = libc::SIGCHLD.unsigned_abs().into();
    clone[5] = stack.0.as_mut_ptr().addr() as u64;
    clone[6] = size_of_val(&*stack.0) as u64;
    if let Some(group) = group {
        clone[0] |= INTO_CGROUP;
        clone[10] = u64::from(group.as_raw_fd().unsigned_abs());
    }
    // SAFETY: this thread waits (CLONE_VFORK) until the child has become the program or has ended, so `child`, what it points to, `stack` and
    // `pidfd` outlive the child's use of them.
    let pid = unsafe { clone_onto(&clone, &mut child) };
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    if pid < 0 {
        return Err(io::Error::from_raw_os_error(-pid));
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    if child.failed != 0 {
        // It ends by itself; what matters is why.
        let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        return Err(io::Error::from_raw_os_error(child.failed));
    }
    Ok(Spawned {
        pid: Pid::from_raw(pid),
        pidfd,
    })
}

/// What the child needs to become the program.
struct Child {
    program: *const libc::c_char,
    arguments: *const *const libc::c_char,
    environment: *const *const libc::c_char,
    standard: [libc::c_int; 3],
    /// The error number if it could not become the program. Read once the child is gone.
    failed: libc::c_int,
}

/// The child's stack, aligned as the calling convention wants it. The child calls half a dozen thin functions of the C library on it.
struct Stack(Box<[StackLine; 1024]>);

#[derive(Clone, Copy)]
#[repr(align(16))]
struct StackLine(#[expect(dead_code, reason = "memory that the child writes")] [u8; 16]);

impl Stack {
    fn new() -> Self {
        Self(Box::new([StackLine([0; 16]); 1024]))
    }
}

/// The system call, whose child goes on in [`become_program`] on a stack of its own, in this process's memory: to copy that first, for a child
/// that gives it up at once, would cost more than all its other work. The process number, or the negative error number.
///
/// # Safety
///
/// `clone` names a stack that nobody else uses, and asks for CLONE_VM, CLONE_VFORK and no handlers of signals in the child; everything that
/// `child` points to is as `execve(2)` wants it.
unsafe fn clone_onto(clone: &[u64; 11], child: &mut Child) -> i64 {
    let result: i64;
    // SAFETY: the parent's registers are its own, and the kernel changes rax, rcx and r11 of them. The child begins behind `syscall` with a copy
    // of them, an aligned empty stack, and never comes back from its call. It runs no handler, since it has none, and no code that would
    // take a lock which another thread of this process may hold.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") clone.as_ptr(),
            in("rsi") size_of_val(clone),
            in("r12") ptr::from_mut(child),
            in("r13") become_program as unsafe extern "C" fn(*mut Child) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// The child's part: system calls only, then the program, or an end with the error number where the parent finds it.
///
/// # Safety
///
/// For [`clone_onto`] only.
unsafe extern "C" fn become_program(child: *mut Child) -> ! {
    // SAFETY: each call is async-signal-safe (signal-safety(7)) and works on integers, on a set of signals on our own stack, or on strings and
    // arrays that end with a null and that the waiting parent keeps. The descriptors are above 2 or where they belong, so none is overwritten
    // before it is copied. `_exit` runs no code of this program's. `errno` is that of the parent's thread, which waits.
    unsafe {
        let child = &mut *child;
        for (to, from) in (0..).zip(child.standard) {
            // A descriptor that is in its place already must not be closed by exec.
            let copied = if from == to {
                libc::fcntl(to, libc::F_SETFD, 0)
            } else {
                libc::dup2(from, to)
            };
            if copied < 0 {
                give_up(child);
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        if libc::chdir(c"/".as_ptr()) == 0 {
            libc::execve(child.program, child.arguments, child.environment);
        }
        give_up(child)
    }
}

/// Says why, and ends.
fn give_up(child: &mut Child) -> ! {
    // SAFETY: the first is this thread's own error number, the second ends the process without running code of this program's.
    unsafe {
        child.failed = *libc::__errno_location();
        libc::_exit(1)
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

/// Switches on the loopback interface of this process's network namespace.
pub(crate) fn raise_loopback() -> io::Result<()> {
    let mut request = loopback(0);
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    // Both flags are below 2^15.
    request.ifr_ifru.ifru_flags = i16::try_from(flags).map_err(io::Error::other)?;
    ask_network(libc::AF_INET, libc::SIOCSIFFLAGS, &mut request)
}

/// Gives the loopback interface of this process's network namespace one more address, by itself and not with its neighbours. `label` is the
/// number of this address among those that are added.
pub(crate) fn add_to_loopback(address: IpAddr, label: u16) -> io::Result<()> {
    match address {
        IpAddr::V4(address) => {
            let mut request = loopback(label + 1);
            request.ifr_ifru.ifru_addr = socket_address(address);
            ask_network(libc::AF_INET, libc::SIOCSIFADDR, &mut request)?;
            request.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::BROADCAST);
            ask_network(libc::AF_INET, libc::SIOCSIFNETMASK, &mut request)
        }
        IpAddr::V6(address) => {
            let mut request = Ipv6Request {
                address: address.octets(),
                prefix: 128,
                // The first interface of every network namespace is its loopback.
                interface: 1,
            };
            ask_network(libc::AF_INET6, libc::SIOCSIFADDR, &mut request)
        }
    }
}

/// The kernel's `struct in6_ifreq` (linux/ipv6.h), which the C library's headers leave out.
#[repr(C)]
struct Ipv6Request {
    address: [u8; 16],
    prefix: u32,
    interface: libc::c_int,
}

/// A request about the loopback interface, or, with a number, about one of the names that an address of its own has.
fn loopback(label: u16) -> libc::ifreq {
    // SAFETY: an `ifreq` is integers and unions of integers and pointers, for all of which zero is a value; the kernel follows no pointer of it
    // in the requests that we make.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = match label {
        0 => "lo".to_owned(),
        label => format!("lo:{label}"),
    };
    // "lo:65535" is shorter than a name may be, so its end stays zero.
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request
}

/// An IPv4 address as a socket's, without a port.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..].iter_mut().zip(address.octets()) {
        *to = from.cast_signed();
    }
    libc::sockaddr {
        // AF_INET is 2.
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: data,
    }
}

/// Asks the kernel for something about a network interface (netdevice(7)).
fn ask_network<T>(family: libc::c_int, what: libc::c_ulong, request: &mut T) -> io::Result<()> {
    // SAFETY: socket(2) takes three integers; what it answers is a new descriptor of ours, or an error.
    let socket = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(socket.into())?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: `request` has the layout that the kernel reads for this request of this family, and outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), what, ptr::from_mut(request)) }.into())
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

/// Loads a system-call filter that asks about some calls, for this thread and all that come from it. What it asks is heard on the descriptor.
/// Needs `no_new_privs`.
pub(crate) fn load_filter_that_asks(program: &mut [libc::sock_filter]) -> io::Result<OwnedFd> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel reads `filter` and the so many instructions that it points to, and both outlive the call.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            ptr::from_ref(&filter),
        )
    };
    check(listener)?;
    let listener = libc::c_int::try_from(listener).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

/// A call that a filter asks about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// By which it is answered.
    pub(crate) id: u64,
    /// The call's number; whatever the caller said.
    pub(crate) number: i32,
}

/// The next call that a filter asks about.
pub(crate) fn refused_call(listener: BorrowedFd<'_>) -> io::Result<Asked> {
    // SAFETY: it is integers and an array of integers, for all of which zero is a value; the kernel wants them to be zero.
    let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    let to = ptr::from_mut(&mut asked);
    // SAFETY: for this request the kernel writes a `seccomp_notif`, to one that outlives the call.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, to) }.into())?;
    Ok(Asked {
        id: asked.id,
        number: asked.data.nr,
    })
}

/// Has a call that a filter asked about answered with an error number. There is no function that lets one go on.
pub(crate) fn refuse_call(listener: BorrowedFd<'_>, id: u64, errno: i32) -> io::Result<()> {
    let mut answer = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: -errno,
        flags: 0,
    };
    let from = ptr::from_mut(&mut answer);
    // SAFETY: for this request the kernel reads a `seccomp_notif_resp`, from one that outlives the call.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, from) }.into())
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
