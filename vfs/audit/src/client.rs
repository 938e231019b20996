//! The other end of the audit writer: what a process holds that must not answer before its record is with the writer.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use safelight_channel::{Channel, Error as ChannelError};
use safelight_policies::event::Control;

use crate::{
    Error, FromWriter, ToWriter,
    record::{Body, Checkpoint},
};

/// How long a record may wait for room in the writer's queue.
pub const APPEND_WAIT: Duration = Duration::from_secs(5);

/// How long the disk may take for a sync.
pub const SYNC_WAIT: Duration = Duration::from_secs(30);

/// Appends records through an audit writer. May be shared between threads.
///
/// The first failure is final: every later call fails too, so a process cannot go on after a record was lost.
pub struct Recorder {
    channel: Channel,
    /// Answers carry no number, so only one thread may wait for one.
    syncing: Mutex<()>,
    lost: AtomicBool,
}

impl Recorder {
    /// Takes over a channel to an audit writer and bounds its waits.
    pub fn new(channel: Channel) -> Result<Self, Error> {
        Self::with_waits(channel, APPEND_WAIT, SYNC_WAIT)
    }

    /// As [`Recorder::new`], with other bounds.
    pub fn with_waits(channel: Channel, append: Duration, sync: Duration) -> Result<Self, Error> {
        channel
            .set_timeouts(Some(append), Some(sync))
            .map_err(|source| Error::Channel { source })?;
        Ok(Self {
            channel,
            syncing: Mutex::new(()),
            lost: AtomicBool::new(false),
        })
    }

    /// Sends a record. When this returns, it is with the writer and no longer depends on this process.
    pub fn append(&self, body: Body) -> Result<(), Error> {
        self.send(&ToWriter::Append { body })
    }

    /// Sends a record that the operator may read.
    pub fn control(&self, event: Control) -> Result<(), Error> {
        self.append(Body::Control(event))
    }

    /// Waits until everything that was appended before is on the disk.
    pub fn sync(&self) -> Result<Checkpoint, Error> {
        let _one = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.send(&ToWriter::Sync)?;
        match self.channel.expect::<FromWriter>() {
            Ok(incoming) => match incoming.message {
                FromWriter::Synced(checkpoint) => Ok(checkpoint),
                FromWriter::Failed { errno } => self.lose(Error::Refused { errno }),
            },
            Err(source) => self.lose(Error::Channel { source }),
        }
    }

    fn send(&self, message: &ToWriter) -> Result<(), Error> {
        if self.lost.load(Ordering::Acquire) {
            return Err(Error::Lost);
        }
        match self.channel.send(message) {
            Ok(()) => Ok(()),
            // Nothing was sent and the caller knows: the log is as good as before.
            Err(ChannelError::TooLong { len }) => Err(Error::TooLong { len }),
            Err(source) => self.lose(Error::Channel { source }),
        }
    }

    fn lose<T>(&self, error: Error) -> Result<T, Error> {
        self.lost.store(true, Ordering::Release);
        Err(error)
    }
}
