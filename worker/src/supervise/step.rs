//! One step of watching a session: what happened first, and what it says of itself.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use safelight_channel::Incoming;
use safelight_policies::cause::Cause;

use super::{Session, Watch};
use crate::{
    caching::let_cache,
    message::FromSession,
    refused::{Listener, Witness},
};

impl Session {
    /// Waits for one thing to happen, or for the deadline; the index of a watch that fired. Without a witness no refused call is answered.
    pub(super) fn step(
        &mut self,
        deadline: Option<Instant>,
        watches: &[Watch<'_>],
        witness: Option<&mut Witness<'_>>,
    ) -> io::Result<Option<usize>> {
        let now = Instant::now();
        let listener = self.listener.as_ref().filter(|_| witness.is_some());
        let (asking, later) = listener.map_or((None, None), |listener| listener.waits(now));
        let until = [deadline, later].into_iter().flatten().min();
        let left = until.map(|until| until.saturating_duration_since(now));
        let mut polled = vec![PollFd::new(&self.launcher.pidfd, PollFlags::IN)];
        polled.extend(
            watches
                .iter()
                .map(|watch| PollFd::from_borrowed_fd(watch.on, PollFlags::IN)),
        );
        if let Some(asking) = asking {
            polled.push(PollFd::from_borrowed_fd(asking, PollFlags::IN));
        }
        let asks = asking.is_some().then_some(watches.len() + 1);
        if self.channel_open {
            polled.push(PollFd::new(&self.channel, PollFlags::IN));
        }
        match poll(&mut polled, left.map(timespec).as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let fired: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        let asked = asks.map(|at| polled[at].revents());
        drop(polled);
        if self.channel_open && fired.last() == Some(&true) {
            self.listen();
            // What was said before the end counts before the end.
            return Ok(None);
        }
        if let (Some(asked), Some(witness)) = (asked, witness) {
            self.hear(asked, witness);
        }
        self.gone |= fired.first() == Some(&true);
        Ok(fired
            .iter()
            .skip(1)
            .take(watches.len())
            .position(|fired| *fired))
    }

    /// Answers a call that the filter refuses, if there is one.
    fn hear(&mut self, asked: PollFlags, witness: &mut Witness<'_>) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        if asked.contains(PollFlags::IN) {
            listener.answer(witness);
        } else if !asked.is_empty() {
            listener.hung_up();
        }
    }

    /// Takes one message. A session that says nonsense says nothing any more: its end is known from its processes.
    fn listen(&mut self) {
        match self.channel.recv::<FromSession>() {
            Ok(Some(Incoming {
                message,
                descriptors,
            })) => self.take(message, descriptors),
            Ok(None) | Err(_) => self.channel_open = false,
        }
    }

    fn take(&mut self, message: FromSession, descriptors: Vec<OwnedFd>) {
        match message {
            FromSession::Mounted { devices } => let_cache(&devices),
            FromSession::Doors => {
                self.doors.get_or_insert(descriptors);
            }
            FromSession::Init => self.init = self.init.take().or(descriptors.into_iter().next()),
            FromSession::Failed(failed) => {
                self.failed.get_or_insert(failed);
            }
            FromSession::Enforced(report) => {
                if self.report.is_none() {
                    self.listener.iter_mut().for_each(Listener::forget);
                }
                self.report.get_or_insert(report);
            }
            FromSession::Listen => {
                let listener = descriptors.into_iter().next().map(Listener::new);
                self.listener = self.listener.take().or(listener);
            }
            // Only what a session may say of itself: not that someone else is to blame.
            FromSession::Failing(cause @ (Cause::TimedOut { .. } | Cause::Killed { .. })) => {
                self.failing.get_or_insert(cause);
            }
            FromSession::Failing(_) => {}
            FromSession::Ended { exit, leftover } => {
                self.exit.get_or_insert((exit, leftover));
            }
        }
    }
}

pub(super) fn timespec(duration: Duration) -> Timespec {
    // A time that does not fit is for ever.
    Timespec::try_from(duration).unwrap_or(Timespec {
        tv_sec: i64::MAX,
        tv_nsec: 0,
    })
}
