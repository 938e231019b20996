//! Watches a session and ends it, all of it.
//!
//! Whatever happens, [`Session::wait`] answers with an [`Ended`], and a session that is dropped is killed. The end is known twice: PID 1
//! reports it, and the launcher's own end (which the kernel lets happen only after the last process of the session is gone) confirms it.

mod step;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
};
use safelight_channel::Channel;
use safelight_policies::{cause::Cause, event::By, grant::Limits};

use crate::{
    cgroup::{Leaf, Usage},
    error::Error,
    message::{Exit, Failed, Report, ToSession},
    refused::{Listener, Witness},
    sys::Spawned,
    watchdog::Watchdog,
};
use step::timespec;

/// How long the kernel may take to get rid of what was killed, before the session is reported as stuck.
pub const KILL_WAIT: Duration = Duration::from_secs(10);

/// Something whose end, or whose word, ends the session.
#[derive(Debug)]
pub struct Watch<'a> {
    /// Readable or hung up: the session must end.
    pub on: BorrowedFd<'a>,
    /// What the session's end is put down to.
    pub cause: Cause,
}

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub cause: Cause,
    /// The step that failed, if the command never ran.
    pub failed: Option<Failed>,
    /// True if the command left processes behind, which were killed.
    pub leftover: bool,
    /// True if something of the session still lives: its slot must not be used again.
    pub stuck: bool,
    /// What the session used, as far as is known, and what held it to its limits.
    pub usage: Usage,
    /// The system calls that its filter refused, and how often; `None` if nobody heard of them.
    pub refused: Option<Vec<(String, u64)>>,
}

/// A session that was started.
#[derive(Debug)]
pub struct Session {
    launcher: Spawned,
    channel: Channel,
    group: Option<Leaf>,
    limits: Limits,
    watchdog: Option<Watchdog>,
    listener: Option<Listener>,
    doors: Option<Vec<OwnedFd>>,
    init: Option<OwnedFd>,
    report: Option<Report>,
    failed: Option<Failed>,
    exit: Option<(Exit, bool)>,
    failing: Option<Cause>,
    channel_open: bool,
    gone: bool,
}

impl Session {
    pub(crate) fn new(
        launcher: Spawned,
        channel: Channel,
        group: Option<Leaf>,
        limits: Limits,
        tmp: Vec<String>,
    ) -> Self {
        let limited = group.as_ref().is_some_and(Leaf::limits_memory);
        let watchdog = (!limited).then(|| Watchdog::new(launcher.pid.as_raw(), limits.memory, tmp));
        Self {
            launcher,
            channel,
            group,
            limits,
            watchdog,
            listener: None,
            doors: None,
            init: None,
            report: None,
            failed: None,
            exit: None,
            failing: None,
            channel_open: true,
            gone: false,
        }
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Listeners in the session's network, for the addresses of the plan that can be reached, in order. What is not taken is shut.
    pub fn take_doors(&mut self) -> Vec<OwnedFd> {
        self.doors.take().unwrap_or_default()
    }

    /// The launcher's process id.
    pub fn pid(&self) -> u32 {
        self.launcher.pid.as_raw().unsigned_abs()
    }

    /// What the launcher read back inside just before the command; `None` before that.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// Waits until every wall stands and the command is next. An error is the step that failed; `wait` then says the same.
    pub fn wait_until_running(&mut self, limit: Duration) -> Result<Report, Failed> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(failed) = &self.failed {
                return Err(failed.clone());
            }
            if let Some(report) = &self.report {
                return Ok(report.clone());
            }
            let late = Instant::now() >= deadline;
            if self.gone || self.exit.is_some() || late {
                let errno = if late { libc::ETIMEDOUT } else { libc::ECHILD };
                return Err(self.unexplained(errno));
            }
            // Before the walls stand only the launcher calls, whose refusals are nobody's.
            self.step(Some(deadline), &[], Some(&mut |_| true))
                .map_err(|error| self.unexplained(errno_of(&error)))?;
        }
    }

    /// Waits for the end, at most `wall` (the plan's wall-clock limit if `None`) from now; then asks, then kills. Returns when nothing of the
    /// session is left, or after [`KILL_WAIT`] with `stuck`.
    pub fn wait(self, wall: Option<Duration>, watches: &[Watch<'_>]) -> Result<Ended, Error> {
        self.wait_with(wall, watches, &mut |_| true)
    }

    /// The same, with a witness of the system calls that are refused.
    pub fn wait_with(
        mut self,
        wall: Option<Duration>,
        watches: &[Watch<'_>],
        witness: &mut Witness<'_>,
    ) -> Result<Ended, Error> {
        let wall = wall.unwrap_or(Duration::from_secs(self.limits.wall));
        let deadline = Instant::now() + wall;
        let mut verdict = None;
        while verdict.is_none() && !self.is_over() {
            if Instant::now() >= deadline {
                verdict = Some(Cause::TimedOut {
                    seconds: wall.as_secs(),
                });
                continue;
            }
            // Before the walls stand, a path of the session's is still one of the host's.
            let stands = self.report.is_some();
            if stands && self.watchdog.as_mut().is_some_and(Watchdog::exceeded) {
                verdict = Some(Cause::OutOfMemory);
                continue;
            }
            let look = self
                .watchdog
                .as_ref()
                .filter(|_| stands)
                .map(Watchdog::next);
            let until = look.map_or(deadline, |look| look.min(deadline));
            let fired = self.step(Some(until), watches, Some(&mut *witness));
            if let Some(index) = fired.map_err(wait_failed)? {
                verdict = watches.get(index).map(|watch| watch.cause.clone());
            }
        }
        // What takes all memory is not given time to take more.
        if verdict
            .as_ref()
            .is_some_and(|cause| *cause != Cause::OutOfMemory)
        {
            self.ask_to_end(witness)?;
        }
        // What the command left behind dies with PID 1; what PID 1 cannot end, we kill.
        self.kill();
        let stuck = !self.await_all_gone()?;
        Ok(self.conclude(verdict, stuck))
    }

    /// True once the end is known: the command's, the launch's, or the launcher's.
    fn is_over(&self) -> bool {
        self.gone || self.exit.is_some() || self.failed.is_some()
    }

    /// `SIGTERM` through PID 1, and the policy's time to react to it.
    fn ask_to_end(&mut self, witness: &mut Witness<'_>) -> Result<(), Error> {
        if self.channel_open && self.channel.send(&ToSession::Terminate).is_err() {
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_secs(self.limits.term_grace);
        while !self.is_over() && Instant::now() < deadline {
            let fired = self.step(Some(deadline), &[], Some(&mut *witness));
            fired.map_err(wait_failed)?;
        }
        Ok(())
    }

    /// Kills everything at once: the control group if there is one, and PID 1 and the launcher, without which the kernel ends the rest.
    pub fn kill(&mut self) {
        if let Some(group) = &self.group {
            let _ = group.kill();
        }
        // Gone already is as good as killed.
        if let Some(init) = &self.init {
            let _ = pidfd_send_signal(init, Signal::KILL);
        }
        if self.init.is_none() || self.failed.is_some() {
            let _ = pidfd_send_signal(&self.launcher.pidfd, Signal::KILL);
        }
    }

    /// True once the launcher, PID 1 and the control groups are gone; false if that takes longer than [`KILL_WAIT`].
    fn await_all_gone(&mut self) -> Result<bool, Error> {
        let deadline = Instant::now() + KILL_WAIT;
        while !self.gone {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            self.step(Some(deadline), &[], None).map_err(wait_failed)?;
        }
        let _ = self.reap();
        let group_gone = |group: &Leaf| group.await_empty(deadline);
        let init_gone = match &self.init {
            Some(init) => wait_readable(init.as_fd(), deadline).map_err(wait_failed)?,
            None => true,
        };
        Ok(init_gone && self.group.as_ref().is_none_or(group_gone))
    }

    /// Takes the launcher's end from the kernel.
    fn reap(&self) -> io::Result<()> {
        waitid(
            WaitId::PidFd(self.launcher.pidfd.as_fd()),
            WaitIdOptions::EXITED,
        )?;
        Ok(())
    }

    fn conclude(&mut self, verdict: Option<Cause>, stuck: bool) -> Ended {
        let mut usage = self.group.as_ref().map(Leaf::usage).unwrap_or_default();
        if let Some(watchdog) = &self.watchdog {
            usage.memory.by = By::Watchdog;
            usage.memory.most = usage.memory.most.or(Some(watchdog.peak()));
        }
        tracing::info!(?usage, "the session is over");
        let never_ran = self.report.is_none() || self.failed.is_some();
        let failed = never_ran.then(|| self.unexplained(libc::ECHILD));
        let cause = match (verdict, &failed, self.exit) {
            (Some(verdict), _, _) => verdict,
            (None, Some(failed), _) => Cause::NotStarted {
                step: failed.step.clone(),
                errno: failed.errno,
            },
            (None, None, _) if usage.memory.refused > 0 => Cause::OutOfMemory,
            (None, None, Some((Exit::Code(1..), _))) if self.failing.is_some() => {
                self.failing.take().unwrap_or(Cause::ViewLost)
            }
            (None, None, Some((Exit::Code(code), _))) => Cause::Exited { code },
            (None, None, Some((Exit::Signal(signal), _))) => Cause::Killed { signal },
            // PID 1 went without a word: someone killed the session from outside.
            (None, None, None) => Cause::Killed {
                signal: libc::SIGKILL,
            },
        };
        Ended {
            cause,
            failed,
            leftover: self.exit.is_some_and(|(_, leftover)| leftover),
            stuck,
            usage,
            refused: self.listener.as_ref().map(Listener::all),
        }
    }

    /// The failure that was reported, or one that says how far the launch had come.
    fn unexplained(&self, errno: i32) -> Failed {
        self.failed.clone().unwrap_or_else(|| Failed {
            step: "launch".to_owned(),
            path: String::new(),
            errno,
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill();
        let _ = pidfd_send_signal(&self.launcher.pidfd, Signal::KILL);
        let deadline = Instant::now() + KILL_WAIT;
        // What the kernel cannot end is left, not waited for.
        if wait_readable(self.launcher.pidfd.as_fd(), deadline).is_ok_and(|gone| gone) {
            let _ = self.reap();
        }
        if let Some(group) = &self.group {
            group.await_empty(deadline);
        }
    }
}

fn wait_readable(on: BorrowedFd<'_>, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(
            &mut [PollFd::from_borrowed_fd(on, PollFlags::IN)],
            Some(&timespec(left)),
        ) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn wait_failed(source: io::Error) -> Error {
    Error::Wait { source }
}
