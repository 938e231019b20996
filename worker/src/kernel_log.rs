//! What Landlock refuses, as the kernel's audit log tells it: for those who may read that log, where it is on, since ABI 7.
//!
//! Read by the agent, from before its session begins until the session's domain is gone, by multicast, so that nobody else hears less of it. The
//! session is known by its user, which no other session of the host has at that time. What is kept of it is bounded, and what was lost is said.

mod record;

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
        netlink::{self, SocketAddrNetlink},
        recv, send, socket_with, sockopt,
    },
};

use self::record::Record;
use crate::facts::landlock_abi;

/// Since this Landlock tells what it refuses.
const TELLS: u32 = 7;

/// The group of those who read the log (`AUDIT_NLGRP_READLOG`, linux/audit.h), as a bit.
const READERS: u32 = 1;

/// The message that asks for the log's state, and what it is answered with (`AUDIT_GET`).
const GET: u16 = 1000;

/// Bytes in front of every message.
const HEADER: usize = 16;

/// No message is longer (`MAX_AUDIT_MESSAGE_LENGTH`, linux/audit.h).
const MESSAGE_MAX: usize = 16 << 10;

/// What the kernel keeps for us if we are slow.
const KEEP: usize = 4 << 20;

/// Kinds of refusals that are told apart; the rest are counted as lost.
const KINDS_MAX: usize = 256;

/// How long the kernel may take to say that a domain is gone.
const GONE: Duration = Duration::from_millis(500);

/// Why nothing is heard.
#[derive(Debug, thiserror::Error)]
pub enum Deaf {
    /// The kernel does not tell.
    #[error("Landlock tells what it refuses since ABI {TELLS}, and this kernel has {abi}")]
    Old {
        /// The ABI that it has.
        abi: u32,
    },
    /// It would, but is told not to.
    #[error("the kernel's audit is off (auditctl -e 1 turns it on)")]
    Off,
    /// We may not listen.
    #[error("only who has CAP_AUDIT_READ hears what Landlock refuses")]
    NotAllowed,
    /// Every session of this host has the same user.
    #[error("the session has no user of its own by which its refusals would be known")]
    NoUser,
    /// There would be names of the client's in the host's own log.
    #[error("what Landlock refuses would stand in this host's own log with names of the client's")]
    Dark,
    /// The kernel has no audit, or something else is wrong with it.
    #[error("the kernel's audit cannot be read: {0}")]
    Broken(#[source] io::Error),
}

/// What was refused, and how often.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Refused {
    /// By what was missing and where.
    pub times: BTreeMap<(String, String), u64>,
    /// True if this is not all.
    pub lost: bool,
}

/// Listens for one session.
#[derive(Debug)]
pub struct KernelLog {
    reader: JoinHandle<Refused>,
    over: Arc<AtomicBool>,
}

/// Whether this process would hear what Landlock refuses.
pub fn check() -> Result<(), Deaf> {
    listen().map(drop)
}

impl KernelLog {
    /// Begins to listen for the session of a user.
    pub fn of(uid: u32) -> Result<Self, Deaf> {
        let socket = listen()?;
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let reader = std::thread::spawn(move || Hearing::new(uid).hear(&socket, &seen));
        Ok(Self { reader, over })
    }

    /// What was heard, once the session is over.
    pub fn finish(self) -> Refused {
        self.over.store(true, Ordering::Release);
        self.reader.join().unwrap_or(Refused {
            lost: true,
            ..Refused::default()
        })
    }
}

/// A socket on which the log is heard.
fn listen() -> Result<OwnedFd, Deaf> {
    let abi = landlock_abi();
    if abi < TELLS {
        return Err(Deaf::Old { abi });
    }
    if !is_on()? {
        return Err(Deaf::Off);
    }
    let socket = audit(READERS)?;
    sockopt::set_socket_recv_buffer_size_force(&socket, KEEP)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, KEEP))
        .map_err(deaf)?;
    Ok(socket)
}

fn audit(groups: u32) -> Result<OwnedFd, Deaf> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::AUDIT),
    )
    .map_err(deaf)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups)).map_err(deaf)?;
    Ok(socket)
}

/// True if the kernel writes its log at all.
fn is_on() -> Result<bool, Deaf> {
    let socket = audit(0)?;
    // struct nlmsghdr (linux/netlink.h): length, type, NLM_F_REQUEST, number, port.
    let mut ask = Vec::with_capacity(HEADER);
    ask.extend(u32::try_from(HEADER).unwrap_or(16).to_ne_bytes());
    ask.extend([GET, 1].map(u16::to_ne_bytes).as_flattened());
    ask.extend([0; 8]);
    send(&socket, &ask, SendFlags::empty()).map_err(deaf)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(GONE)).map_err(deaf)?;
    let mut answer = [0; 256];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::empty()).map_err(deaf)?;
    let word = |at: usize| {
        let bytes = answer[..length].get(at..at + 4)?;
        bytes.try_into().ok().map(u32::from_ne_bytes)
    };
    let kind = word(4).map(|word| word & 0xffff);
    match kind {
        // struct audit_status (linux/audit.h): a mask, then whether it is enabled.
        Some(kind) if kind == u32::from(GET) => Ok(word(HEADER + 4).is_some_and(|on| on > 0)),
        // An error: its number, negative.
        _ => Err(deaf(word(HEADER).map_or(Errno::PROTO, |errno| {
            Errno::from_raw_os_error(errno.cast_signed().wrapping_neg())
        }))),
    }
}

fn deaf(errno: Errno) -> Deaf {
    match errno {
        Errno::PERM | Errno::ACCESS | Errno::CONNREFUSED => Deaf::NotAllowed,
        other => Deaf::Broken(other.into()),
    }
}

/// What was heard of one session so far.
#[derive(Debug)]
struct Hearing {
    uid: u32,
    /// The session's domain, once it is known: the first of its user's, since the job's own process restricts itself before the job.
    domain: Option<u64>,
    /// The refusal that makes the kernel speak of a domain comes before it says whose that is.
    last: Option<(u64, String, String)>,
    gone: bool,
    heard: u64,
    refused: Refused,
}

impl Hearing {
    fn new(uid: u32) -> Self {
        Self {
            uid,
            domain: None,
            last: None,
            gone: false,
            heard: 0,
            refused: Refused::default(),
        }
    }

    /// Reads until the session is over and its domain gone.
    fn hear(mut self, socket: &OwnedFd, over: &AtomicBool) -> Refused {
        const LOOK: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        let mut message = vec![0; MESSAGE_MAX];
        let mut until = None;
        while !self.gone && until.is_none_or(|until| Instant::now() < until) {
            if over.load(Ordering::Acquire) {
                until.get_or_insert_with(|| Instant::now() + GONE);
            }
            let ready = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&LOOK));
            if !matches!(ready, Ok(1..)) {
                continue;
            }
            match recv(socket, &mut *message, RecvFlags::DONTWAIT) {
                Ok((length, _)) => self.take(&message[..length]),
                Err(Errno::NOBUFS) => self.refused.lost = true,
                Err(_) => {}
            }
        }
        self.refused.lost |= !self.gone;
        self.refused
    }

    fn take(&mut self, message: &[u8]) {
        let Some((header, text)) = message.split_at_checked(HEADER) else {
            return;
        };
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let text = String::from_utf8_lossy(text);
        if let Some(record) = Record::parse(kind, text.trim_end_matches('\0')) {
            self.note(record);
        }
    }

    fn note(&mut self, record: Record) {
        match record {
            Record::Denied { domain, what, path } if self.domain == Some(domain) => {
                self.count(what, path);
            }
            Record::Denied { domain, what, path } => self.last = Some((domain, what, path)),
            Record::Allocated { domain, uid } if uid == self.uid && self.domain.is_none() => {
                self.domain = Some(domain);
                // That was the launcher itself, which tries the wall.
                self.heard += u64::from(self.last.take().is_some_and(|last| last.0 == domain));
            }
            Record::Deallocated { domain, denials } if self.domain == Some(domain) => {
                self.gone = true;
                self.refused.lost |= self.heard != denials;
            }
            Record::Allocated { .. } | Record::Deallocated { .. } => {}
        }
    }

    fn count(&mut self, what: String, path: String) {
        self.heard += 1;
        let known = self.refused.times.len();
        let key = (what, path);
        if known >= KINDS_MAX && !self.refused.times.contains_key(&key) {
            self.refused.lost = true;
            return;
        }
        *self.refused.times.entry(key).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(domain: u64, path: &str) -> Record {
        Record::Denied {
            domain,
            what: "fs.execute".to_owned(),
            path: path.to_owned(),
        }
    }

    #[test]
    fn only_the_sessions_own_domain_counts_and_not_what_its_launcher_tried() {
        let mut hearing = Hearing::new(7);
        let others = Record::Allocated { domain: 2, uid: 8 };
        let own = Record::Allocated { domain: 1, uid: 7 };
        let later = Record::Allocated { domain: 3, uid: 7 };
        for record in [
            denied(2, "/other"),
            others,
            denied(1, "/"),
            own,
            denied(1, "/usr/a"),
            denied(2, "/other"),
            denied(1, "/usr/a"),
            denied(3, "/nested"),
            later,
            Record::Deallocated {
                domain: 2,
                denials: 9,
            },
        ] {
            hearing.note(record);
        }
        assert!(!hearing.gone);
        hearing.note(Record::Deallocated {
            domain: 1,
            denials: 3,
        });
        assert!(hearing.gone && !hearing.refused.lost);
        let said: Vec<_> = hearing.refused.times.into_iter().collect();
        let one = ("fs.execute".to_owned(), "/usr/a".to_owned());
        assert_eq!(said, [(one, 2)]);
    }

    #[test]
    fn what_was_not_heard_is_known_to_be_lost() {
        let mut hearing = Hearing::new(7);
        hearing.note(denied(1, "/"));
        hearing.note(Record::Allocated { domain: 1, uid: 7 });
        hearing.note(Record::Deallocated {
            domain: 1,
            denials: 2,
        });
        assert!(hearing.refused.lost);
        // And nobody has us keep more than so much.
        let mut hearing = Hearing::new(7);
        hearing.domain = Some(1);
        for number in 0..2 * KINDS_MAX {
            hearing.note(denied(1, &number.to_string()));
        }
        assert!(hearing.refused.lost && hearing.refused.times.len() == KINDS_MAX);
    }
}
