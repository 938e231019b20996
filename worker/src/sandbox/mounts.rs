//! The session's root: an empty tmpfs into which exactly the plan's mounts are put.
//!
//! Sources are cloned before the new root covers anything, and attached by descriptor; names are resolved inside the new root only. So no
//! path of the host is ever taken for a path of the session or the other way round.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, symlinkat},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
        OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
        mount_change, move_mount, open_tree, unmount,
    },
    process::{chdir, fchdir, pivot_root},
};

use super::{At, fuse};
use crate::{
    message::Failed,
    plan::{Mount, Plan},
    sys,
};

/// The new root covers this directory for a moment: it exists everywhere, and everything that is needed below it is open by then.
const COVERED: &str = "/dev";

/// What was built.
pub(crate) struct Built {
    /// The root of the session, not yet entered.
    pub(crate) root: OwnedFd,
    /// The device numbers of the views, in order.
    pub(crate) devices: Vec<(u32, u32)>,
}

/// Builds the session's root with its views over the given `/dev/fuse` descriptors.
pub(crate) fn build(plan: &Plan, views: &[OwnedFd]) -> Result<Built, Failed> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .at_path("private mounts", "/")?;
    let mut views = views.iter();
    let sources = plan
        .mounts
        .iter()
        .map(|mount| source(mount, &mut views))
        .collect::<Result<Vec<_>, _>>()?;
    let root = tmpfs("/", 1 << 20, 4096, false, "0755")?;
    attach(&root, CWD, COVERED, "/")?;
    let mut devices = Vec::new();
    for (mount, source) in plan.mounts.iter().zip(&sources) {
        place(root.as_fd(), mount, source.as_ref())?;
        if let (Mount::View { at }, Some(source)) = (mount, source) {
            devices.push(fuse::device_number(source, at)?);
        }
    }
    Ok(Built { root, devices })
}

/// What is to be attached, where something is.
fn source<'a>(
    mount: &Mount,
    views: &mut impl Iterator<Item = &'a OwnedFd>,
) -> Result<Option<OwnedFd>, Failed> {
    let (rdonly, nosuid, nodev, noexec) = (
        libc::MOUNT_ATTR_RDONLY,
        libc::MOUNT_ATTR_NOSUID,
        libc::MOUNT_ATTR_NODEV,
        libc::MOUNT_ATTR_NOEXEC,
    );
    match mount {
        Mount::Bind { at, exec, .. } => {
            let attributes = rdonly | nosuid | nodev | if *exec { 0 } else { noexec };
            clone(at, attributes, true).map(Some)
        }
        Mount::Device { at } => clone(at, nosuid | noexec, false).map(Some),
        Mount::Tmp {
            at,
            bytes,
            inodes,
            exec,
        } => {
            let mode = if at == "/tmp" || at == "/dev/shm" {
                "1777"
            } else {
                "0755"
            };
            tmpfs(at, *bytes, *inodes, *exec, mode).map(Some)
        }
        Mount::View { at } => match views.next() {
            Some(device) => fuse::mount(device, at).map(Some),
            None => Err(super::failed("view", at, libc::EBADF)),
        },
        Mount::File { .. } | Mount::Symlink { .. } | Mount::Proc => Ok(None),
    }
}

fn clone(at: &str, attributes: u64, tree: bool) -> Result<OwnedFd, Failed> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if tree {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let mount = open_tree(CWD, at, flags).at_path("bind", at)?;
    sys::set_mount_attributes(mount.as_fd(), attributes, tree).at_path("bind attributes", at)?;
    Ok(mount)
}

fn tmpfs(at: &str, bytes: u64, inodes: u64, exec: bool, mode: &str) -> Result<OwnedFd, Failed> {
    let make = || -> rustix::io::Result<OwnedFd> {
        let filesystem = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&filesystem, "source", "tmpfs")?;
        fsconfig_set_string(&filesystem, "size", bytes.to_string())?;
        fsconfig_set_string(&filesystem, "nr_inodes", inodes.to_string())?;
        fsconfig_set_string(&filesystem, "mode", mode)?;
        fsconfig_create(&filesystem)?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        if !exec {
            attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
        }
        fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().at_path("memory directory", at)
}

/// Puts one thing into the root.
fn place(root: BorrowedFd<'_>, mount: &Mount, source: Option<&OwnedFd>) -> Result<(), Failed> {
    let at = mount.at();
    let (parent, name) = parent(root, at)?;
    match mount {
        Mount::Symlink { target, .. } => symlinkat(target, &parent, name).at_path("link", at),
        Mount::File { content, .. } => file(&parent, name, content.as_bytes()).at_path("file", at),
        Mount::Device { .. }
        | Mount::Bind {
            directory: false, ..
        } => {
            match file(&parent, name, b"") {
                // A parent that is bound already has it.
                Ok(()) | Err(Errno::EXIST | Errno::ROFS) => {}
                other => other.at_path("file", at)?,
            }
            mount_at(root, source, at)
        }
        Mount::Bind { .. } | Mount::Tmp { .. } | Mount::View { .. } | Mount::Proc => {
            directory(root, at)?;
            mount_at(root, source, at)
        }
    }
}

fn mount_at(root: BorrowedFd<'_>, source: Option<&OwnedFd>, at: &str) -> Result<(), Failed> {
    let Some(source) = source else {
        return Ok(());
    };
    let target = find(root, at, OFlags::PATH).at_path("mount point", at)?;
    attach_to(source, &target, at)
}

fn attach(source: &OwnedFd, base: BorrowedFd<'_>, path: &str, at: &str) -> Result<(), Failed> {
    move_mount(
        source,
        "",
        base,
        path,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .at_path("mount", at)
}

fn attach_to(source: &OwnedFd, target: &OwnedFd, at: &str) -> Result<(), Failed> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(source, "", target, "", flags).at_path("mount", at)
}

/// Attaches something inside the root by path, for [`super::proc`].
pub(crate) fn attach_in(root: &OwnedFd, source: &OwnedFd, at: &str) -> Result<(), Failed> {
    mount_at(root.as_fd(), Some(source), at)
}

fn file(parent: &OwnedFd, name: &str, content: &[u8]) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(parent, name, flags, Mode::from_raw_mode(0o644))?;
    let mut rest = content;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// The directory in which a path's last part lies, made if need be, and that part.
fn parent<'a>(root: BorrowedFd<'_>, at: &'a str) -> Result<(OwnedFd, &'a str), Failed> {
    let (parent, name) = at.rsplit_once('/').unwrap_or(("", at));
    Ok((directory(root, parent)?, name))
}

/// A directory of the new root, made with its parents if need be.
fn directory(root: BorrowedFd<'_>, at: &str) -> Result<OwnedFd, Failed> {
    match find(root, at, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) if !at.is_empty() => {
            let (parent, name) = parent(root, at)?;
            mkdirat(&parent, name, Mode::from_raw_mode(0o755)).at_path("directory", at)?;
            find(root, at, OFlags::PATH | OFlags::DIRECTORY).at_path("directory", at)
        }
        found => found.at_path("directory", at),
    }
}

/// Opens a path as the session will see it: links lead nowhere but into the new root.
fn find(root: BorrowedFd<'_>, at: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let relative = at.trim_start_matches('/');
    let relative = if relative.is_empty() { "." } else { relative };
    openat2(
        root,
        relative,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// Makes the new root the only one there is, and read-only.
pub(crate) fn enter(root: OwnedFd) -> Result<(), Failed> {
    fchdir(&root).at_path("enter", "/")?;
    // The old root lands on top of the new one, and is taken away (pivot_root(2), "pivot_root(".", ".")").
    pivot_root(".", ".").at_path("pivot", "/")?;
    unmount(".", UnmountFlags::DETACH).at_path("detach", "/")?;
    chdir("/").at_path("enter", "/")?;
    sys::set_mount_attributes(root.as_fd(), libc::MOUNT_ATTR_RDONLY, false)
        .at_path("read-only root", "/")?;
    Ok(())
}
