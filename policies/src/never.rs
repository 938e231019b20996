//! System calls that no policy may allow, whoever wrote it.
//!
//! Each would take down a wall that the rest of the sandbox leans on, or opens a part of the kernel that renderers have no use for.

const MOUNTS: &str = "it changes what is mounted, and the view is a mount";
const NAMESPACES: &str = "it enters or makes namespaces, in which lost privileges come back";
const OTHERS: &str = "it reaches into other processes";
const KEYS: &str = "the kernel's keyrings are shared beyond the session";
const KERNEL: &str = "it loads or replaces code of the kernel";
const SURFACE: &str = "a large part of the kernel with a record of escapes";
const HANDLES: &str = "it opens files by handle, past every path";
const MACHINE: &str = "it changes the whole machine";
const HARDWARE: &str = "it reaches the hardware";

/// Names and why. Sorted by reason, searched rarely.
const NEVER: [(&str, &str); 61] = [
    ("mount", MOUNTS),
    ("umount2", MOUNTS),
    ("mount_setattr", MOUNTS),
    ("move_mount", MOUNTS),
    ("open_tree", MOUNTS),
    ("open_tree_attr", MOUNTS),
    ("fsopen", MOUNTS),
    ("fsconfig", MOUNTS),
    ("fsmount", MOUNTS),
    ("fspick", MOUNTS),
    ("pivot_root", MOUNTS),
    ("chroot", MOUNTS),
    ("setns", NAMESPACES),
    ("unshare", NAMESPACES),
    ("clone3", NAMESPACES),
    ("ptrace", OTHERS),
    ("process_vm_readv", OTHERS),
    ("process_vm_writev", OTHERS),
    ("process_madvise", OTHERS),
    ("process_mrelease", OTHERS),
    ("kcmp", OTHERS),
    ("pidfd_getfd", OTHERS),
    ("migrate_pages", OTHERS),
    ("move_pages", OTHERS),
    ("add_key", KEYS),
    ("request_key", KEYS),
    ("keyctl", KEYS),
    ("init_module", KERNEL),
    ("finit_module", KERNEL),
    ("delete_module", KERNEL),
    ("kexec_load", KERNEL),
    ("kexec_file_load", KERNEL),
    ("bpf", SURFACE),
    ("perf_event_open", SURFACE),
    ("userfaultfd", SURFACE),
    ("io_uring_setup", SURFACE),
    ("io_uring_enter", SURFACE),
    ("io_uring_register", SURFACE),
    ("fanotify_init", SURFACE),
    ("fanotify_mark", SURFACE),
    ("lookup_dcookie", SURFACE),
    ("modify_ldt", SURFACE),
    ("uselib", SURFACE),
    ("open_by_handle_at", HANDLES),
    ("name_to_handle_at", HANDLES),
    ("reboot", MACHINE),
    ("swapon", MACHINE),
    ("swapoff", MACHINE),
    ("quotactl", MACHINE),
    ("quotactl_fd", MACHINE),
    ("acct", MACHINE),
    ("syslog", MACHINE),
    ("vhangup", MACHINE),
    ("settimeofday", MACHINE),
    ("clock_settime", MACHINE),
    ("clock_adjtime", MACHINE),
    ("adjtimex", MACHINE),
    ("sethostname", MACHINE),
    ("setdomainname", MACHINE),
    ("ioperm", HARDWARE),
    ("iopl", HARDWARE),
];

/// Why no policy may allow this call; `None` if one may.
pub fn why_never(call: &str) -> Option<&'static str> {
    NEVER
        .iter()
        .find(|(name, _)| *name == call)
        .map(|(_, why)| *why)
}
