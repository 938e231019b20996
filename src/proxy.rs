//! `safelight __proxy`: carries a session's connections from the doors in its network to the addresses that its policy names.
//!
//! Each door leads to one address and port, which the agent says before the session exists; nothing that the session sends is looked at, and
//! no name is resolved. No record, no connection: that one is about to be made is with the audit writer first, and how much went over it
//! follows. Everything is bounded: connections at a time, connections in all, how long one side may be silent once the other has finished.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use safelight_audit::Recorder;
use safelight_channel::Channel;
use safelight_policies::{event::Control, id::SessionId};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, watch},
    time::timeout,
};

/// The hidden command.
pub(crate) const COMMAND: &str = "__proxy";

/// Connections of one session at a time. More wait at the door, as many as the kernel lets wait there.
const AT_A_TIME: u32 = 64;

/// Connections of one session in all; each is two records on the log.
const IN_ALL: u32 = 100_000;

/// How long a server may take to answer a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a connection may be silent after one of its sides has finished.
const HALF: Duration = Duration::from_secs(60);

/// How long what is on its way may take once the session is over.
const LAST: Duration = Duration::from_secs(5);

/// Bytes of one direction on their way.
const BUFFER: usize = 32 << 10;

/// What to do. The first comes with the channel to the audit writer, the second with the doors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToProxy {
    /// For whom, and where to.
    Order {
        /// The session.
        session: SessionId,
        /// Where each door leads, in order.
        reach: Vec<SocketAddr>,
    },
    /// The session's walls stand: carry.
    Doors,
}

/// Carries until the agent hangs up.
pub(crate) fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let agent = Channel::to_parent()?;
    let (order, [audit]) = agent.expect::<ToProxy>()?.exactly()?;
    let ToProxy::Order { session, reach } = order else {
        return Err("the order does not come first".into());
    };
    let recorder = Recorder::new(Channel::from(audit))?;
    let incoming = match agent.recv::<ToProxy>()? {
        Some(incoming) => incoming,
        // The session never came to stand.
        None => return Ok(()),
    };
    if !matches!(incoming.message, ToProxy::Doors) || incoming.descriptors.len() != reach.len() {
        return Err("the doors are not those of the order".into());
    }
    let doors = reach.into_iter().zip(incoming.descriptors).map(door);
    let doors = doors.collect::<io::Result<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(carry(agent, doors, recorder, session))
}

/// A door, if it is what it should be: a listener at that very address.
fn door((to, door): (SocketAddr, OwnedFd)) -> io::Result<(SocketAddr, TcpListener)> {
    let door = TcpListener::from(door);
    if door.local_addr()? != to {
        return Err(io::Error::other("a door leads elsewhere"));
    }
    door.set_nonblocking(true)?;
    Ok((to, door))
}

/// What all connections of the session share.
struct Proxy {
    session: SessionId,
    recorder: Recorder,
    /// Connections so far.
    count: AtomicU32,
    free: Arc<Semaphore>,
    /// True once the session is over.
    over: watch::Sender<bool>,
}

async fn carry(
    agent: Channel,
    doors: Vec<(SocketAddr, TcpListener)>,
    recorder: Recorder,
    session: SessionId,
) -> Result<(), Box<dyn std::error::Error>> {
    let proxy = Arc::new(Proxy {
        session,
        recorder,
        count: AtomicU32::new(0),
        free: Arc::new(Semaphore::new(AT_A_TIME as usize)),
        over: watch::Sender::new(false),
    });
    for (to, door) in doors {
        let door = tokio::net::TcpListener::from_std(door)?;
        tokio::spawn(Arc::clone(&proxy).attend(to, door));
    }
    // Whatever the agent says now, it is the end.
    let agent = UnixStream::from(agent.into_descriptor());
    agent.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(agent)?.readable().await?;
    proxy.over.send_replace(true);
    let all = proxy.free.acquire_many(AT_A_TIME);
    if timeout(LAST, all).await.is_err() {
        return Err("a connection does not end".into());
    }
    Ok(())
}

impl Proxy {
    /// Takes what comes to a door until there were too many, or the session is over.
    async fn attend(self: Arc<Self>, to: SocketAddr, door: tokio::net::TcpListener) {
        let mut over = self.over.subscribe();
        loop {
            let Ok(permit) = Arc::clone(&self.free).acquire_owned().await else {
                return;
            };
            let taken = tokio::select! {
                taken = door.accept() => taken,
                _ = over.changed() => return,
            };
            let inside = match taken {
                Ok((inside, _)) => inside,
                // It went away while it waited, or there is no memory for it: the next may fare better.
                Err(_) => continue,
            };
            let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
            if number > IN_ALL {
                if number == IN_ALL + 1 {
                    self.note(Control::DoorsShut {
                        session: self.session,
                        after: IN_ALL,
                    });
                }
                return;
            }
            let proxy = Arc::clone(&self);
            tokio::spawn(async move {
                proxy.connect(number, to, inside).await;
                drop(permit);
            });
        }
    }

    /// One connection, with its two records.
    async fn connect(&self, number: u32, to: SocketAddr, inside: TcpStream) {
        let session = self.session;
        self.note(Control::Connecting {
            session,
            number,
            to: to.to_string(),
        });
        let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut over = self.over.subscribe();
        let carried = async {
            let outside = timeout(CONNECT, TcpStream::connect(to)).await;
            let outside = outside.map_err(|_| errno(libc::ETIMEDOUT))??;
            between(inside, outside, &sent, &received).await
        };
        let ended = tokio::select! {
            ended = carried => ended,
            _ = over.wait_for(|over| *over) => Ok(()),
        };
        let errno = ended
            .err()
            .map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
        self.note(Control::Disconnected {
            session,
            number,
            sent: sent.into_inner(),
            received: received.into_inner(),
            errno,
        });
    }

    /// No record, no connection: without a log there is nothing more to be carried.
    fn note(&self, event: Control) {
        if let Err(error) = self.recorder.control(event) {
            tracing::error!("proxy: {error}");
            std::process::exit(1);
        }
    }
}

/// Carries both ways until both sides have finished, one fails, or one is silent for too long after the other has finished.
async fn between(
    inside: TcpStream,
    outside: TcpStream,
    sent: &AtomicU64,
    received: &AtomicU64,
) -> io::Result<()> {
    let _ = (inside.set_nodelay(true), outside.set_nodelay(true));
    let (mut from_inside, mut to_inside) = inside.into_split();
    let (mut from_outside, mut to_outside) = outside.into_split();
    let out = one_way(&mut from_inside, &mut to_outside, sent);
    let back = one_way(&mut from_outside, &mut to_inside, received);
    tokio::pin!(out, back);
    tokio::select! {
        ended = &mut out => {
            ended?;
            quiet(back, received).await
        }
        ended = &mut back => {
            ended?;
            quiet(out, sent).await
        }
    }
}

/// The other way, for as long as something moves.
async fn quiet(way: impl Future<Output = io::Result<()>>, moved: &AtomicU64) -> io::Result<()> {
    tokio::pin!(way);
    loop {
        let before = moved.load(Ordering::Relaxed);
        match timeout(HALF, &mut way).await {
            Ok(ended) => return ended,
            Err(_) if moved.load(Ordering::Relaxed) == before => {
                return Err(errno(libc::ETIMEDOUT));
            }
            Err(_) => {}
        }
    }
}

async fn one_way(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        moved.fetch_add(count as u64, Ordering::Relaxed);
    }
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}
