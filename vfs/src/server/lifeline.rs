//! The lifeline: the server lives as long as its agent and its lease, and not a moment longer.
//!
//! A thread waits on the channel to the agent. When the agent hangs up, says something that makes no sense, or the lease ends, the whole
//! process ends at once: the kernel then closes the FUSE connection and takes back every page that held a key or a file.

use std::{
    os::fd::AsFd,
    process,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use safelight_channel::Channel;
use safelight_policies::cause::Cause;

use super::Error;
use crate::{protocol::ToView, view::Clock};

/// How often the lease is looked at. The clock may be set; a monotonic span is bounded by this anyway.
const LOOK: Duration = Duration::from_millis(500);

/// The exit code when the lifeline was cut.
const CUT: i32 = 9;

pub(super) struct Lifeline {
    ended: Receiver<Cause>,
}

impl Lifeline {
    /// Watches the agent's channel from now on. `deadline` in seconds since 1970.
    pub(super) fn watch(parent: &Channel, deadline: u64, clock: Clock) -> Result<Self, Error> {
        let failed = |source| Error::System {
            what: "watch the agent",
            source,
        };
        let parent = Channel::from(parent.as_fd().try_clone_to_owned().map_err(failed)?);
        // Not a socket option: the option would bound the main thread's sends and receives too.
        let (tell, ended) = mpsc::channel();
        thread::Builder::new()
            .name("lifeline".to_owned())
            .spawn(move || {
                let remaining = deadline.saturating_sub(clock() / 1_000_000_000);
                let until = std::time::Instant::now() + Duration::from_secs(remaining);
                loop {
                    if std::time::Instant::now() >= until || clock() / 1_000_000_000 >= deadline {
                        process::exit(CUT);
                    }
                    match readable(&parent) {
                        false => {}
                        true => match parent.recv::<ToView>() {
                            Ok(Some(incoming))
                                if matches!(incoming.message, ToView::Ended { .. }) =>
                            {
                                if let ToView::Ended { cause } = incoming.message {
                                    let _ = tell.send(cause);
                                }
                            }
                            _ => process::exit(CUT),
                        },
                    }
                }
            })
            .map_err(failed)?;
        Ok(Self { ended })
    }

    /// What the agent said of the session's end, if it came within `wait`.
    pub(super) fn ended(&self, wait: Duration) -> Option<Cause> {
        match self.ended.recv_timeout(wait) {
            Ok(cause) => Some(cause),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => process::exit(CUT),
        }
    }
}

fn readable(channel: &Channel) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut descriptors = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
    matches!(poll(&mut descriptors, timeout), Ok(count) if count > 0)
}
