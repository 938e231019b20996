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
    count: Count,
    free: Arc<Semaphore>,
    /// True once the session is over.
    over: watch::Sender<bool>,
}

/// Counts the connections of a session, at all of its doors together.
struct Count {
    so_far: AtomicU32,
    most: u32,
}

/// What becomes of a connection.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// It is carried, under this number.
    Number(u32),
    /// It is not, and it is the first.
    FirstTooMany,
    TooMany,
}

impl Count {
    fn up_to(most: u32) -> Self {
        Self {
            so_far: AtomicU32::new(0),
            most,
        }
    }

    fn next(&self) -> Turn {
        // Each door stops at its first that is too many, so this never comes round.
        match self.so_far.fetch_add(1, Ordering::Relaxed) {
            before if before < self.most => Turn::Number(before + 1),
            before if before == self.most => Turn::FirstTooMany,
            _ => Turn::TooMany,
        }
    }
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
        count: Count::up_to(IN_ALL),
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
            let number = match self.count.next() {
                Turn::Number(number) => number,
                Turn::FirstTooMany => {
                    return self.note(Control::DoorsShut {
                        session: self.session,
                        after: IN_ALL,
                    });
                }
                Turn::TooMany => return,
            };
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
            quiet(back, received, HALF).await
        }
        ended = &mut back => {
            ended?;
            quiet(out, sent, HALF).await
        }
    }
}

/// The other way, for as long as something moves: at least once in so long.
async fn quiet(
    way: impl Future<Output = io::Result<()>>,
    moved: &AtomicU64,
    half: Duration,
) -> io::Result<()> {
    tokio::pin!(way);
    loop {
        let before = moved.load(Ordering::Relaxed);
        match timeout(half, &mut way).await {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test);
    }

    /// A connection on this host, and its two ends.
    async fn pair() -> (TcpStream, TcpStream) {
        let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(door.local_addr().unwrap());
        let (near, far) = tokio::join!(near, door.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[test]
    fn so_many_connections_are_carried_and_the_end_is_said_once() {
        let count = Count::up_to(3);
        let turns: Vec<Turn> = (0..6).map(|_| count.next()).collect();
        let numbers = [1, 2, 3].map(Turn::Number);
        assert_eq!(turns[..3], numbers);
        assert_eq!(
            turns[3..],
            [Turn::FirstTooMany, Turn::TooMany, Turn::TooMany]
        );
    }

    #[test]
    fn a_side_that_is_silent_after_the_other_has_finished_ends_the_connection() {
        run(async {
            let moved = AtomicU64::new(0);
            let silent = std::future::pending();
            let ended = quiet(silent, &moved, Duration::from_millis(5)).await;
            assert_eq!(ended.unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
        });
    }

    #[test]
    fn a_side_that_goes_on_after_the_other_has_finished_is_carried_to_its_end() {
        run(async {
            let moved = AtomicU64::new(0);
            // It moves something whenever it is looked at, and ends at the sixth time; the silent one above is the control.
            let mut looks = 0;
            let moves = std::future::poll_fn(|_| {
                moved.fetch_add(1, Ordering::Relaxed);
                looks += 1;
                match looks {
                    6 => std::task::Poll::Ready(Ok(())),
                    _ => std::task::Poll::Pending,
                }
            });
            assert!(quiet(moves, &moved, Duration::from_millis(5)).await.is_ok());
            assert_eq!(moved.into_inner(), 6);
        });
    }

    #[test]
    fn what_one_side_says_after_the_other_has_finished_arrives() {
        run(async {
            let ((mut program, inside), (outside, mut server)) = (pair().await, pair().await);
            let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
            let both = async {
                program.write_all(b"ask").await.unwrap();
                program.shutdown().await.unwrap();
                let mut heard = Vec::new();
                server.read_to_end(&mut heard).await.unwrap();
                assert_eq!(heard, b"ask");
                server.write_all(b"answer").await.unwrap();
                drop(server);
                heard.clear();
                program.read_to_end(&mut heard).await.unwrap();
                assert_eq!(heard, b"answer");
            };
            let (ended, ()) = tokio::join!(between(inside, outside, &sent, &received), both);
            ended.unwrap();
            assert_eq!([sent, received].map(AtomicU64::into_inner), [3, 6]);
        });
    }
}
