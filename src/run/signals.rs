//! Ctrl-C and its kin as a descriptor, so that the end of a session is always the same orderly one.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};

use crate::failure::{Failure, Kind, OrFail};

/// Signals that ask the agent to end.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Holds the signals back from now on. The children's masks are cleared when they are started.
    pub(crate) fn hold() -> Result<Self, Failure> {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
        ] {
            set.add(signal);
        }
        set.thread_block().or_fail(Kind::Internal)?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map(Self)
            .or_fail(Kind::Internal)
    }

    /// Readable when one has come.
    pub(crate) fn watch(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lets the signals through again: a program keeps its mask across `exec`, and what came while they were held. That was answered by
/// ending the session, so it is taken away here; what comes from now on is for the client.
pub(crate) fn release() -> Result<(), Failure> {
    let held = Signals::hold()?;
    while held.0.read_signal().or_fail(Kind::Internal)?.is_some() {}
    SigSet::all().thread_unblock().or_fail(Kind::Internal)
}

/// A process that serves on after its terminal is gone.
pub(crate) fn stay_on_hang_up() -> Result<(), Failure> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGHUP);
    set.thread_block().or_fail(Kind::Internal)
}
