//! Messages and descriptors between Safelight's own processes on one host.
//!
//! A channel is a `SOCK_SEQPACKET` Unix socket: a message arrives whole or not at all, and descriptors arrive with the message they
//! belong to. Each of our processes finds the channel to its parent on standard input, so nothing but 0, 1 and 2 is ever inherited and
//! every other descriptor is close-on-exec. The peer may have been taken over: a message is bounded, and one that does not decode is an
//! error, never a panic.
#![forbid(unsafe_code)]

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair, sockopt,
};
use serde::{Serialize, de::DeserializeOwned};

/// The longest message in bytes. Larger things travel as files or objects.
pub const MESSAGE_MAX: usize = 160 * 1024;

/// The most descriptors that travel with one message.
pub const DESCRIPTORS_MAX: usize = 16;

/// What can go wrong between two of our processes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be made.
    #[error("cannot make a channel")]
    Make {
        /// Why.
        source: io::Error,
    },
    /// The peer is gone.
    #[error("the process at the other end of the channel is gone")]
    Gone,
    /// Nothing came in time, or the peer took nothing in time.
    #[error("the process at the other end of the channel did not answer in time")]
    Late,
    /// The socket failed.
    #[error("the channel failed")]
    Failed {
        /// Why.
        source: io::Error,
    },
    /// The message is longer than a message may be.
    #[error("a message of {len} bytes does not fit a channel (at most {MESSAGE_MAX})")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The bytes are not the message that was expected.
    #[error("a message does not decode")]
    NotUnderstood {
        /// Why.
        source: postcard::Error,
    },
    /// The message came with other descriptors than it should.
    #[error("a message came with {found} descriptors instead of {expected}")]
    Descriptors {
        /// How many came.
        found: usize,
        /// How many should have.
        expected: usize,
    },
}

/// One end of a channel.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// A message and the descriptors that came with it.
#[derive(Debug)]
pub struct Incoming<T> {
    /// The message.
    pub message: T,
    /// Its descriptors, in order.
    pub descriptors: Vec<OwnedFd>,
}

/// Room for one message, for those who receive many.
#[derive(Debug)]
pub struct Inbox(Vec<u8>);

impl Inbox {
    /// Room for the longest message.
    pub fn new() -> Self {
        Self(vec![0; MESSAGE_MAX])
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Incoming<T> {
    /// The message and exactly `N` descriptors.
    pub fn exactly<const N: usize>(self) -> Result<(T, [OwnedFd; N]), Error> {
        let found = self.descriptors.len();
        let descriptors = self
            .descriptors
            .try_into()
            .map_err(|_| Error::Descriptors { found, expected: N })?;
        Ok((self.message, descriptors))
    }
}

impl Channel {
    /// Two connected ends, both close-on-exec.
    pub fn pair() -> Result<(Self, Self), Error> {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|source| Error::Make {
            source: source.into(),
        })?;
        for end in [&a, &b] {
            sockopt::set_socket_send_buffer_size(end, 2 * MESSAGE_MAX).map_err(|source| {
                Error::Make {
                    source: source.into(),
                }
            })?;
        }
        Ok((Self { socket: a }, Self { socket: b }))
    }

    /// The channel to the parent process, which is on standard input.
    pub fn to_parent() -> Result<Self, Error> {
        let socket = io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| Error::Make { source })?;
        sockopt::socket_type(&socket).map_err(|source| Error::Make {
            source: source.into(),
        })?;
        Ok(Self { socket })
    }

    /// Bounds every later `send` by `send` and every later `recv` by `recv`; `None` waits for ever.
    pub fn set_timeouts(
        &self,
        send: Option<Duration>,
        recv: Option<Duration>,
    ) -> Result<(), Error> {
        let set = |which, limit| {
            sockopt::set_socket_timeout(&self.socket, which, limit).map_err(|source| Error::Make {
                source: source.into(),
            })
        };
        set(sockopt::Timeout::Send, send)?;
        set(sockopt::Timeout::Recv, recv)
    }

    /// Sends a message. When this returns, the message is in the other process's queue and stays there if this process dies.
    pub fn send<T: Serialize>(&self, message: &T) -> Result<(), Error> {
        self.send_with(message, &[])
    }

    /// Sends a message if the peer's queue has room for it at once; otherwise [`Error::Late`].
    pub fn try_send<T: Serialize>(&self, message: &T) -> Result<(), Error> {
        self.send_flagged(message, &[], SendFlags::DONTWAIT)
    }

    /// Sends a message with descriptors.
    pub fn send_with<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        self.send_flagged(message, descriptors, SendFlags::empty())
    }

    fn send_flagged<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> Result<(), Error> {
        let bytes =
            postcard::to_stdvec(message).map_err(|source| Error::NotUnderstood { source })?;
        if bytes.len() > MESSAGE_MAX {
            return Err(Error::TooLong { len: bytes.len() });
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(Error::Descriptors {
                found: descriptors.len(),
                expected: DESCRIPTORS_MAX,
            });
        }
        loop {
            match sendmsg(
                &self.socket,
                &[IoSlice::new(&bytes)],
                &mut ancillary,
                SendFlags::NOSIGNAL | flags,
            ) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// Receives a message; `None` when the peer has closed its end.
    pub fn recv<T: DeserializeOwned>(&self) -> Result<Option<Incoming<T>>, Error> {
        self.recv_flagged(&mut Inbox::new(), RecvFlags::empty())
    }

    /// Receives a message that is already there, by way of a buffer that is kept from message to message; [`Error::Late`] if none is
    /// there, `None` when the peer has closed its end and all that it sent has been received.
    pub fn try_recv<T: DeserializeOwned>(
        &self,
        inbox: &mut Inbox,
    ) -> Result<Option<Incoming<T>>, Error> {
        self.recv_flagged(inbox, RecvFlags::DONTWAIT)
    }

    fn recv_flagged<T: DeserializeOwned>(
        &self,
        inbox: &mut Inbox,
        flags: RecvFlags,
    ) -> Result<Option<Incoming<T>>, Error> {
        let bytes = inbox.0.as_mut_slice();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut reset = false;
        let received = loop {
            match recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(bytes)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC | flags,
            ) {
                Ok(received) => break received,
                Err(rustix::io::Errno::INTR) => {}
                // A peer that died before it read our answer leaves this error in front of what it sent; it is reported once.
                Err(rustix::io::Errno::CONNRESET) if !reset => reset = true,
                Err(errno) => return Err(failed(errno)),
            }
        };
        let descriptors = ancillary
            .drain()
            .filter_map(|message| {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    Some(fds)
                } else {
                    None
                }
            })
            .flatten()
            .collect();
        if received.bytes == 0 {
            return Ok(None);
        }
        if received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        {
            return Err(Error::TooLong {
                len: received.bytes,
            });
        }
        let message = postcard::from_bytes(&bytes[..received.bytes])
            .map_err(|source| Error::NotUnderstood { source })?;
        Ok(Some(Incoming {
            message,
            descriptors,
        }))
    }

    /// Receives a message where the peer must not be gone.
    pub fn expect<T: DeserializeOwned>(&self) -> Result<Incoming<T>, Error> {
        self.recv()?.ok_or(Error::Gone)
    }

    /// This end as a descriptor, to be another process's standard input.
    pub fn into_descriptor(self) -> OwnedFd {
        self.socket
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn failed(errno: rustix::io::Errno) -> Error {
    use rustix::io::Errno;
    match errno {
        Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN | Errno::CONNREFUSED => Error::Gone,
        Errno::AGAIN => Error::Late,
        other => Error::Failed {
            source: other.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        io::{Read, Seek, Write},
    };

    #[test]
    fn a_message_and_its_descriptor_arrive_together() {
        let (a, b) = Channel::pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        a.send_with(&("hello", 7u32), &[write.as_fd()]).unwrap();
        drop(write);
        let (message, [write]) = b.expect::<(String, u32)>().unwrap().exactly().unwrap();
        assert_eq!(message, ("hello".to_owned(), 7));
        File::from(write).write_all(b"through").unwrap();
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn the_queue_outlives_the_sender() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&1u8).unwrap();
        a.send(&2u8).unwrap();
        drop(a);
        assert_eq!(b.expect::<u8>().unwrap().message, 1);
        assert_eq!(b.expect::<u8>().unwrap().message, 2);
        assert!(b.recv::<u8>().unwrap().is_none());
        assert!(matches!(b.send(&3u8), Err(Error::Gone)));
    }

    #[test]
    fn what_is_too_long_late_or_not_understood_is_an_error() {
        let (a, b) = Channel::pair().unwrap();
        assert!(matches!(
            a.send(&vec![0u8; MESSAGE_MAX]),
            Err(Error::TooLong { .. })
        ));
        b.set_timeouts(None, Some(Duration::from_millis(10)))
            .unwrap();
        assert!(matches!(b.recv::<u8>(), Err(Error::Late)));
        a.send(&255u8).unwrap();
        assert!(matches!(b.recv::<bool>(), Err(Error::NotUnderstood { .. })));
    }

    #[test]
    fn the_largest_message_passes() {
        let (a, b) = Channel::pair().unwrap();
        let large = vec![7u8; MESSAGE_MAX - 8];
        a.send(&large).unwrap();
        assert_eq!(b.expect::<Vec<u8>>().unwrap().message, large);
    }

    #[test]
    fn the_queue_outlives_a_sender_that_did_not_read_its_answer() {
        let (a, b) = Channel::pair().unwrap();
        b.send(&"never read").unwrap();
        a.send(&1u8).unwrap();
        a.send(&2u8).unwrap();
        drop(a);
        assert_eq!(b.expect::<u8>().unwrap().message, 1);
        assert_eq!(b.expect::<u8>().unwrap().message, 2);
        assert!(b.recv::<u8>().unwrap().is_none());
    }

    #[test]
    fn who_tries_never_waits() {
        let (a, b) = Channel::pair().unwrap();
        let mut inbox = Inbox::new();
        assert!(matches!(b.try_recv::<u8>(&mut inbox), Err(Error::Late)));
        let mut sent = 0u32;
        while a.try_send(&(sent, vec![0u8; 4096])).is_ok() {
            sent += 1;
        }
        assert!(matches!(a.try_send(&sent), Err(Error::Late)));
        drop(a);
        for expected in 0..sent {
            let got = b.try_recv::<(u32, Vec<u8>)>(&mut inbox).unwrap().unwrap();
            assert_eq!(got.message.0, expected);
        }
        assert!(b.try_recv::<u8>(&mut inbox).unwrap().is_none());
    }

    #[test]
    fn descriptors_that_were_not_asked_for_are_refused_and_closed() {
        let (a, b) = Channel::pair().unwrap();
        let mut file =
            File::from(rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        file.rewind().unwrap();
        a.send_with(&1u8, &[file.as_fd()]).unwrap();
        assert!(matches!(
            b.expect::<u8>().unwrap().exactly::<0>(),
            Err(Error::Descriptors {
                found: 1,
                expected: 0
            })
        ));
    }
}
