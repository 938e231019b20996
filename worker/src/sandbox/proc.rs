//! The session's process table.
//!
//! The kernel lets a user namespace mount a new procfs only while a complete old one is still visible in its mount namespace, so this comes
//! before the old root is detached.

use std::os::fd::OwnedFd;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::{At, mounts};
use crate::message::Failed;

/// Mounts `/proc` in the new root, as PID 1: it shows the process table of the process that mounts it. A process sees only its own user's.
pub(crate) fn mount(root: &OwnedFd) -> Result<(), Failed> {
    let make = || -> rustix::io::Result<OwnedFd> {
        let filesystem = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&filesystem, "source", "proc")?;
        fsconfig_set_string(&filesystem, "hidepid", "invisible")?;
        fsconfig_create(&filesystem)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    let proc = make().at_path("process table", "/proc")?;
    mounts::attach_in(root, &proc, "/proc")
}
