//! `/dev/fuse`, opened where the kernel wants it opened: by a process inside the session's user namespace.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mknodat, openat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
        fsopen,
    },
};

use super::At;
use crate::{message::Failed, plan::Identity};

/// Character device 10:229 (Documentation/admin-guide/devices.txt).
const FUSE: (u32, u32) = (10, 229);

/// A directory with a `fuse` node that the session's user may open: on many servers the host's is root's alone, and changing that would change
/// the host. The directory is mounted nowhere and goes with its descriptor. `None` where nodes cannot be made: the host's own must do.
pub(crate) fn own_fuse_node(identity: Identity) -> Option<OwnedFd> {
    let Identity::Root { uid, gid } = identity else {
        return None;
    };
    let make = || -> rustix::io::Result<OwnedFd> {
        let filesystem = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&filesystem, "size", "4k")?;
        fsconfig_set_string(&filesystem, "mode", "0711")?;
        fsconfig_create(&filesystem)?;
        let directory = fsmount(
            &filesystem,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
        )?;
        mknodat(
            &directory,
            "fuse",
            FileType::CharacterDevice,
            Mode::RUSR | Mode::WUSR,
            makedev(FUSE.0, FUSE.1),
        )?;
        chownat(
            &directory,
            "fuse",
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        Ok(directory)
    };
    make().ok()
}

/// Opens `/dev/fuse` once for each of `count` views, which must happen inside the session's user namespace.
pub(crate) fn open_fuse(node: Option<&OwnedFd>, count: usize) -> Result<Vec<OwnedFd>, Failed> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    (0..count)
        .map(|_| {
            match node {
                Some(directory) => openat(directory, "fuse", flags, Mode::empty()),
                None => openat(CWD, "/dev/fuse", flags, Mode::empty()),
            }
            .at_path("open", "/dev/fuse")
        })
        .collect()
}
