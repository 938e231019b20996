//! The audit writer: the process that owns a log and writes what others send.
//!
//! A record that a source has sent is in this process's queue even if the source dies at once. It is then either written, or the writer
//! fails where everybody sees it: it answers who waits, closes every channel, so that each next record is refused, and ends with an
//! error. A source that sends something else than messages is hung up on, and the log says so.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use safelight_channel::{Channel, Error as ChannelError, Inbox, Incoming};
use safelight_policies::event::Control;

use crate::{
    Error, FromWriter, Header, Log, Order, ToWriter,
    record::{Body, Checkpoint, Source},
};

/// Messages that are taken from one source before the next has its turn.
const TURN: usize = 256;

/// Records come one upon another when this many wakes in a row are each within [`SOON`] of the one before.
const BUSY: u32 = 32;
const SOON: Duration = Duration::from_millis(1);

/// How long records then gather in the queue, where they are as safe as here, before they are taken: to be woken for each would cost their
/// senders more than they spend on sending. A queue holds several times what comes meanwhile.
const GATHER: Duration = Duration::from_micros(500);

/// Serves a log until every source has hung up: takes the order from the parent, says when the log is open, writes, and says where the
/// log ended. `now` is the clock in nanoseconds since 1970. An error must become the process's exit code.
pub fn serve(parent: &Channel, now: impl Fn() -> u64) -> Result<Checkpoint, Error> {
    let result = accept(parent, &now).and_then(|mut writer| {
        tell(parent, &FromWriter::Synced(writer.log.checkpoint()));
        writer.run(&now)
    });
    // The parent may be gone, and then nobody wants to know.
    tell(
        parent,
        &match &result {
            Ok(checkpoint) => FromWriter::Synced(*checkpoint),
            Err(error) => FromWriter::Failed {
                errno: error.errno(),
            },
        },
    );
    result
}

fn tell(parent: &Channel, message: &FromWriter) {
    let _gone = parent.try_send(message);
}

fn accept(parent: &Channel, now: &impl Fn() -> u64) -> Result<Writer, Error> {
    let Incoming {
        message: order,
        descriptors,
    } = parent
        .expect::<Order>()
        .map_err(|source| Error::Channel { source })?;
    let wrong = Error::Order {
        sources: order.sources.len(),
        descriptors: descriptors.len(),
    };
    if order.sources.is_empty() || descriptors.len() != order.sources.len() + 1 {
        return Err(wrong);
    }
    let mut descriptors = descriptors.into_iter();
    let file: OwnedFd = descriptors.next().ok_or(wrong)?;
    let header = Header {
        job: order.job,
        client: order.client,
        log: order.log,
    };
    let log = Log::open(File::from(file), &header, now())?;
    let sources = order
        .sources
        .into_iter()
        .zip(descriptors)
        .map(|(source, descriptor)| Peer {
            source,
            channel: Channel::from(descriptor),
            waits: false,
            gone: false,
        })
        .collect();
    Ok(Writer {
        log,
        peers: sources,
        inbox: Inbox::new(),
    })
}

/// A source and what it waits for.
struct Peer {
    source: Source,
    channel: Channel,
    waits: bool,
    gone: bool,
}

struct Writer {
    log: Log,
    peers: Vec<Peer>,
    inbox: Inbox,
}

impl Writer {
    fn run(&mut self, now: &impl Fn() -> u64) -> Result<Checkpoint, Error> {
        let result = self.serve_all(now);
        if let Err(error) = &result {
            let errno = error.errno();
            for peer in self.peers.drain(..).filter(|peer| peer.waits) {
                let _gone = peer.channel.try_send(&FromWriter::Failed { errno });
            }
        }
        result
    }

    fn serve_all(&mut self, now: &impl Fn() -> u64) -> Result<Checkpoint, Error> {
        let (mut last, mut quick) = (Instant::now(), 0);
        while !self.peers.is_empty() {
            let ready = self.wait()?;
            quick = if last.elapsed() < SOON { quick + 1 } else { 0 };
            if quick > BUSY {
                thread::sleep(GATHER);
            }
            last = Instant::now();
            for (peer, ready) in self.peers.iter_mut().zip(ready) {
                if ready {
                    take_turn(peer, &mut self.log, &mut self.inbox, now)?;
                }
            }
            self.answer(now)?;
            self.log.flush()?;
            self.peers.retain(|peer| !peer.gone);
        }
        self.log.sync()
    }

    /// Waits until a source has said something or is gone.
    fn wait(&self) -> Result<Vec<bool>, Error> {
        let mut polled: Vec<PollFd<'_>> = self
            .peers
            .iter()
            .map(|peer| PollFd::new(peer.channel.as_fd(), PollFlags::POLLIN))
            .collect();
        loop {
            match poll(&mut polled, PollTimeout::NONE) {
                Ok(_) => break,
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => {
                    return Err(Error::Wait {
                        source: errno.into(),
                    });
                }
            }
        }
        Ok(polled
            .iter()
            .map(|polled| polled.any().unwrap_or(true))
            .collect())
    }

    /// One sync for all who wait.
    fn answer(&mut self, now: &impl Fn() -> u64) -> Result<(), Error> {
        if !self.peers.iter().any(|peer| peer.waits) {
            return Ok(());
        }
        let checkpoint = self.log.sync()?;
        for peer in self.peers.iter_mut().filter(|peer| peer.waits) {
            peer.waits = false;
            match peer.channel.try_send(&FromWriter::Synced(checkpoint)) {
                // Who died while it waited may have left records in its queue; it is gone when those are taken.
                Ok(()) | Err(ChannelError::Gone) => {}
                // Who asks again and again and never listens has filled its own queue.
                Err(_) => hang_up(peer, &mut self.log, now)?,
            }
        }
        Ok(())
    }
}

/// Takes what a source has sent, up to its turn's length or to a sync.
fn take_turn(
    peer: &mut Peer,
    log: &mut Log,
    inbox: &mut Inbox,
    now: &impl Fn() -> u64,
) -> Result<(), Error> {
    for _ in 0..TURN {
        match peer.channel.try_recv::<ToWriter>(inbox) {
            Ok(Some(incoming)) if incoming.descriptors.is_empty() => match incoming.message {
                ToWriter::Append { body } => log.append(peer.source, now(), body)?,
                ToWriter::Sync => {
                    peer.waits = true;
                    return Ok(());
                }
            },
            Ok(None) | Err(ChannelError::Gone) => {
                peer.gone = true;
                return Ok(());
            }
            Err(ChannelError::Late) => return Ok(()),
            Ok(Some(_)) | Err(_) => return hang_up(peer, log, now),
        }
    }
    Ok(())
}

fn hang_up(peer: &mut Peer, log: &mut Log, now: &impl Fn() -> u64) -> Result<(), Error> {
    peer.gone = true;
    let source = peer.source.to_string();
    log.append(
        Source::Writer,
        now(),
        Body::Control(Control::HungUp { source }),
    )
}
