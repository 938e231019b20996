//! Addresses outside that a session may reach: by number and port, through a proxy, and nothing else.
//!
//! A name is never taken: who answers for a name decides where a connection goes. An address that stands for many hosts, for this one
//! link, or for another address is not taken either, so that what is written is what is reached.

use std::net::{IpAddr, SocketAddr};

/// The most addresses of one policy: a descriptor of each travels in one message.
pub const REACH_MAX: usize = 16;

/// Reads an address and a port.
pub(crate) fn parse(text: &str) -> Result<SocketAddr, &'static str> {
    let address: SocketAddr = text.parse().map_err(
        |_| "expected a number and a port, like 192.0.2.10:27000 or [2001:db8::10]:27000",
    )?;
    if address.to_string() != text {
        return Err("expected its shortest spelling, without a zone");
    }
    if address.port() == 0 {
        return Err("port 0 is no port");
    }
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast() => {
            Err("it is not one host's")
        }
        IpAddr::V6(ip) if ip.is_unspecified() || ip.is_multicast() => Err("it is not one host's"),
        // 169.254.169.254 is where clouds keep a host's own credentials.
        IpAddr::V4(ip) if ip.is_link_local() => {
            Err("it is of one link, where hosts keep their own secrets")
        }
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            Err("it is of one link, where hosts keep their own secrets")
        }
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            Err("it stands for an IPv4 address: write that")
        }
        _ => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hosts_address_and_port_in_one_spelling() {
        for good in [
            "192.0.2.10:27000",
            "127.0.0.1:5053",
            "[2001:db8::10]:1",
            "[::1]:65535",
        ] {
            assert_eq!(parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "licences:27000",
            "192.0.2.10",
            "192.0.2.10:0",
            "192.0.2.10:65536",
            "192.0.2.10:027000",
            "0.0.0.0:1",
            "255.255.255.255:1",
            "224.0.0.1:1",
            "169.254.169.254:80",
            "[::]:1",
            "[ff02::1]:1",
            "[fe80::1]:1",
            "[fe80::1%2]:1",
            "[::ffff:192.0.2.10]:1",
            "[2001:DB8::10]:1",
            " 192.0.2.10:1",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
