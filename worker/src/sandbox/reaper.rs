//! PID 1 of the session: collects what ends, passes the request to end on, reports the job's end, and takes everything down with it.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
    wait::{WaitPidFlag, WaitStatus, waitpid},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use safelight_channel::Channel;

use super::At;
use crate::message::{Exit, Failed, FromSession, ToSession};

/// The signals of PID 1, as a descriptor. Made before the job is started, so that its end cannot be missed.
pub(crate) fn signals() -> Result<SignalFd, Failed> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block().at("signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).at("signals")
}

/// Waits for the job and reports its end. When this returns, PID 1 must exit: the kernel then kills whatever is left of the session.
pub(crate) fn wait(
    job: nix::unistd::Pid,
    signals: &SignalFd,
    channel: &Channel,
) -> Result<(), Failed> {
    loop {
        if let Some(exit) = reap(job)? {
            let leftover = !matches!(
                waitpid(None, Some(WaitPidFlag::WNOHANG)),
                Err(nix::errno::Errno::ECHILD)
            );
            // If the agent is gone there is nobody to tell.
            let _ = channel.send(&FromSession::Ended { exit, leftover });
            return Ok(());
        }
        let (child, agent) = ready(signals.as_fd(), channel.as_fd())?;
        if child {
            while matches!(signals.read_signal(), Ok(Some(_))) {}
        }
        if agent && !obey(job, channel) {
            return Ok(());
        }
    }
}

/// Collects everything that has ended; the job's end if it is among it.
fn reap(job: nix::unistd::Pid) -> Result<Option<Exit>, Failed> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == job => {
                return Ok(Some(Exit::Code(
                    u8::try_from(code & 0xff).unwrap_or(u8::MAX),
                )));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == job => {
                return Ok(Some(Exit::Signal(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).at("wait"),
        }
    }
}

fn ready(signals: BorrowedFd<'_>, channel: BorrowedFd<'_>) -> Result<(bool, bool), Failed> {
    let mut both = [
        PollFd::from_borrowed_fd(signals, PollFlags::IN),
        PollFd::from_borrowed_fd(channel, PollFlags::IN),
    ];
    match poll(&mut both, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error).at("wait"),
    }
    let [child, agent] = both.map(|one| !one.revents().is_empty());
    Ok((child, agent))
}

/// Does what the agent says; false if the agent is gone and the session must end.
fn obey(job: nix::unistd::Pid, channel: &Channel) -> bool {
    match channel.recv::<ToSession>() {
        Ok(Some(incoming)) => {
            if incoming.message == ToSession::Terminate {
                // The job leads a process group of its own; a member that is gone is no failure.
                let _ = nix::sys::signal::killpg(job, Signal::SIGTERM);
            }
            true
        }
        Ok(None) | Err(_) => false,
    }
}
