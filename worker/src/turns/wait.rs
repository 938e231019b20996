//! Waits for one action, and ends it when its time is over or the session is asked to end.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        signalfd::SignalFd,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use safelight_vfs::session::SessionFile;

use super::output::Output;
use crate::sandbox::files;

/// How an action, or a session, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Well.
    Done,
    Exited(i32),
    Signaled(i32),
    /// After so many seconds.
    TimedOut(u64),
    /// The session was asked to end.
    Canceled,
}

pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
}

/// Waits for the end. `limits` are its limit and its notice in seconds. That the session is asked to end is noted, and ends the action only
/// if it was not known before: what leaves an environment is run after it.
pub(super) fn wait(
    process: &Process,
    (timeout, notice): (Option<u64>, Option<u64>),
    (asked, canceled): (&SignalFd, &mut bool),
    output: &mut Output,
) -> End {
    let began = Instant::now();
    let mut until = timeout.map(|seconds| began + Duration::from_secs(seconds));
    let mut verdict = None;
    let mut killed = false;
    loop {
        let ended = look(process, asked, output, until);
        output.pass();
        if ended {
            return reap(process.pid, verdict);
        }
        let new = matches!(asked.read_signal(), Ok(Some(_)));
        let first = new && !*canceled;
        *canceled |= new;
        let late = until.is_some_and(|until| Instant::now() >= until);
        if verdict.is_none() && (first || late) {
            verdict = Some(match timeout {
                Some(seconds) if !first => End::TimedOut(seconds),
                _ => End::Canceled,
            });
            until = notice.map(|seconds| Instant::now() + Duration::from_secs(seconds));
            if let Some(seconds) = notice {
                tell(process.pid, seconds);
            }
        }
        let over = until.is_none_or(|until| Instant::now() >= until);
        if verdict.is_some() && over && !killed {
            killed = true;
            until = None;
            let _ = killpg(process.pid, Signal::SIGKILL);
        }
    }
}

/// Says when it will be killed, in the file that the format names, and by a signal.
fn tell(pid: Pid, seconds: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let end = now.unwrap_or_default().as_secs().saturating_add(seconds);
    let info = SessionFile {
        name: b"cancel_info.json".to_vec(),
        bytes: format!("{{\"NotifyEnd\": \"{}\"}}\n", moment(end)).into_bytes(),
        runnable: false,
    };
    // Without the file there is still the signal.
    let _ = files::put(&[info]);
    let _ = killpg(pid, Signal::SIGTERM);
}

/// Waits until something happens or the time is over; true at the action's end.
fn look(process: &Process, asked: &SignalFd, output: &Output, until: Option<Instant>) -> bool {
    let mut polled = vec![
        PollFd::from_borrowed_fd(process.pidfd.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(asked.as_fd(), PollFlags::IN),
    ];
    let pipes = output.descriptors();
    polled.extend(pipes.map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)));
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut polled, left.as_ref()) {
        Ok(_) => !polled[0].revents().is_empty(),
        Err(Errno::INTR) => false,
        // Nothing can be waited for any more: then for the action itself.
        Err(_) => true,
    }
}

fn reap(pid: Pid, verdict: Option<End>) -> End {
    let status = loop {
        match waitpid(pid, None) {
            Err(nix::errno::Errno::EINTR) => {}
            status => break status,
        }
    };
    match (verdict, status) {
        (Some(verdict), _) => verdict,
        (None, Ok(WaitStatus::Exited(_, 0))) => End::Done,
        (None, Ok(WaitStatus::Exited(_, code))) => End::Exited(code),
        (None, Ok(WaitStatus::Signaled(_, signal, _))) => End::Signaled(signal as i32),
        (None, _) => End::Exited(super::CANNOT_RUN),
    }
}

/// A moment in seconds since 1970, as ISO 8601 writes it.
fn moment(seconds: u64) -> String {
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    // Days of the proleptic Gregorian calendar, counted in years that begin with March.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_the_format_wants_it() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_801_425_600, "2027-01-31T20:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(moment(seconds), text);
        }
    }
}
