//! Mounting a view where a person wants to look at it: by the kernel as root, by `fusermount3` for everybody else.

use std::{
    fs::File,
    io::{IoSliceMut, Read},
    mem::MaybeUninit,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    process::{Command, Stdio},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};

use crate::failure::{Failure, Kind};

/// What `mount` shows as the source; nothing of the job's.
const SOURCE: &str = "safelight";

/// Mounts at `directory`, for the calling user only. Answers the descriptor to serve.
pub(crate) fn mount_at(directory: &Path) -> Result<OwnedFd, Failure> {
    if nix::unistd::geteuid().is_root() {
        by_kernel(directory)
    } else {
        by_helper(directory)
    }
}

/// Takes the mount away again, as soon as nobody uses it.
pub(crate) fn unmount(directory: &Path) {
    if nix::unistd::geteuid().is_root() {
        let _ = umount2(directory, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    } else {
        let _ = Command::new("fusermount3")
            .args(["-u", "-z", "--"])
            .arg(directory)
            .stderr(Stdio::null())
            .status();
    }
}

fn by_kernel(directory: &Path) -> Result<OwnedFd, Failure> {
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map_err(|error| {
            Failure::new(Kind::Environment, format!("cannot open /dev/fuse: {error}"))
                .hint("load the kernel module: modprobe fuse")
        })?;
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let options = format!(
        "fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions",
        device.as_raw_fd()
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some(SOURCE),
        directory,
        Some("fuse.safelight"),
        flags,
        Some(options.as_str()),
    )
    .map_err(|errno| cannot(directory, errno.desc()))?;
    Ok(device.into())
}

/// `fusermount3` mounts with its own privilege and hands the descriptor over a socket, which we give it as standard input.
fn by_helper(directory: &Path) -> Result<OwnedFd, Failure> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| cannot(directory, errno.to_string()))?;
    let mut helper = Command::new("fusermount3")
        .args([
            "-o",
            "default_permissions,nosuid,nodev,noexec,fsname=safelight,subtype=safelight",
            "--",
        ])
        .arg(directory)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            cannot(directory, format!("cannot start fusermount3: {error}"))
                .hint("install the package fuse3")
        })?;
    let received = receive(&ours);
    let mut complaint = String::new();
    if let Some(stderr) = &mut helper.stderr {
        let _ = stderr.take(4096).read_to_string(&mut complaint);
    }
    let ended = helper.wait().is_ok_and(|status| status.success());
    match received {
        Some(device) if ended => Ok(device),
        _ => Err(cannot(directory, complaint.trim())),
    }
}

fn receive(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut byte = [0; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )
    .ok()?;
    let mut descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    descriptors.next()?.next()
}

fn cannot(directory: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new(
        Kind::Environment,
        format!("cannot mount at {}: {why}", directory.display()),
    )
}
