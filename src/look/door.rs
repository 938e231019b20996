//! The socket of a site's that operators on its host ask at.
//!
//! Every user of the host may ask: a grant says who is let in. It lies in the site's state directory, and is reached by the directory's
//! descriptor, because a socket's address is shorter than a path may be.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect as connect_to,
    listen as listen_at, socket_with,
};
use safelight_channel::Channel;

use crate::failure::{Failure, Kind, OrFail};

/// Its name in the state directory.
const NAME: &str = "look";

/// How many may wait to be heard.
const BACKLOG: i32 = 16;

/// Opens the door of a site, in place of one that an earlier process left.
pub(crate) fn listen(root: &Path) -> Result<OwnedFd, Failure> {
    let directory = File::open(root).or_fail(Kind::Environment)?;
    match fs::remove_file(root.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::from_error(Kind::Environment, &error));
        }
        _ => {}
    }
    let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    bind(&socket, &address(&directory)?).or_fail(Kind::Environment)?;
    let everybody = fs::Permissions::from_mode(0o666);
    fs::set_permissions(root.join(NAME), everybody).or_fail(Kind::Environment)?;
    listen_at(&socket, BACKLOG).or_fail(Kind::Environment)?;
    Ok(socket)
}

/// Goes to the door of a site.
pub(crate) fn connect(root: &Path) -> Result<Channel, Failure> {
    let closed = |error: io::Error| {
        let message = format!("no site can be asked at {}: {error}", root.display());
        Failure::new(Kind::Environment, message)
            .hint("name the site's state directory with --at DIR; it must be served")
    };
    // To be walked through, not to be read: the state directory is not for everybody's eyes.
    let flags =
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let directory = rustix::fs::open(root, flags, rustix::fs::Mode::empty());
    let directory = File::from(directory.map_err(|errno| closed(errno.into()))?);
    let socket = socket(SocketFlags::CLOEXEC)?;
    connect_to(&socket, &address(&directory)?).map_err(|errno| closed(errno.into()))?;
    Ok(Channel::from(socket))
}

fn socket(flags: SocketFlags) -> Result<OwnedFd, Failure> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).or_fail(Kind::Environment)
}

fn address(directory: &File) -> Result<SocketAddrUnix, Failure> {
    let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()));
    SocketAddrUnix::new(path).or_fail(Kind::Internal)
}
