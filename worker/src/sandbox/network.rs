//! The session's own network: a loopback interface, and on it the addresses that the policy names. Each has a listener, the *door*, that is
//! handed out to the proxy; the session keeps none. So a program connects to the address that it was told, and finds the proxy there.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use super::{At, failed};
use crate::{message::Failed, sys};

/// Connections that wait for the proxy, at each door: all threads of a program may come at once. Where more come, the kernel lets them believe
/// that they are connected, and forgets them.
const WAITING: i32 = 256;

/// Makes the doors. In the session's own network namespace only: there nobody else has these addresses.
pub(crate) fn open_doors(reach: &[SocketAddr]) -> Result<Vec<OwnedFd>, Failed> {
    if reach.is_empty() {
        return Ok(Vec::new());
    }
    sys::raise_loopback().at("loopback")?;
    let mut known: Vec<IpAddr> = Vec::new();
    let mut doors = Vec::new();
    for to in reach {
        if !to.ip().is_loopback() && !known.contains(&to.ip()) {
            let label =
                u16::try_from(known.len()).map_err(|_| failed("address", "", libc::EOVERFLOW))?;
            sys::add_to_loopback(to.ip(), label).at("address")?;
            known.push(to.ip());
        }
        doors.push(door(to).at("door")?);
    }
    Ok(doors)
}

fn door(at: &SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let door = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The kernel lets an IPv6 address be bound a moment after it was given; that moment is not waited for.
    if at.is_ipv6() {
        sockopt::set_ipv6_freebind(&door, true)?;
    }
    bind(&door, at)?;
    listen(&door, WAITING)?;
    Ok(door)
}
