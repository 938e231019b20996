//! FUSE mounts: made in here, served from outside.
//!
//! Between the mount and the server's answer to `FUSE_INIT` nothing may look up a path on the mount: it would wait for a server that waits for us.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::{
    fs::{AtFlags, StatxFlags, statx},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
        fsconfig_set_string, fsmount, fsopen,
    },
};

use super::At;
use crate::{message::Failed, plan::INSIDE};

/// A mount over an open `/dev/fuse`, not yet attached anywhere (options: Documentation/filesystems/fuse/fuse.rst).
pub(crate) fn mount(device: &OwnedFd, at: &str) -> Result<OwnedFd, Failed> {
    let make = || -> rustix::io::Result<OwnedFd> {
        let filesystem = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let inside = INSIDE.to_string();
        let device = device.as_fd().as_raw_fd().to_string();
        for (key, value) in [
            ("source", "safelight"),
            ("subtype", "safelight"),
            ("fd", &device),
            ("rootmode", "40000"),
            ("user_id", &inside),
            ("group_id", &inside),
        ] {
            fsconfig_set_string(&filesystem, key, value)?;
        }
        fsconfig_set_flag(&filesystem, "default_permissions")?;
        fsconfig_set_flag(&filesystem, "allow_other")?;
        fsconfig_create(&filesystem)?;
        fsmount(
            &filesystem,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
        )
    };
    make().at_path("view", at)
}

/// The device number of a mount, from what the kernel already has: the server is not asked.
pub(crate) fn device_number(mount: &OwnedFd, at: &str) -> Result<(u32, u32), Failed> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(mount, "", flags, StatxFlags::TYPE).at_path("view device", at)?;
    Ok((found.stx_dev_major, found.stx_dev_minor))
}
