//! What is typed goes in, what is shown comes out: between our terminal and a session that must not have it.
//!
//! A process that holds a terminal can type into it (TIOCSTI), so the session gets one of its own and we carry. What it shows there goes
//! through a guard: a terminal that is asked something answers as if it were typed. Where nobody types at a terminal the session gets a
//! socket, so that the end of what is fed in is an end; then what comes out is made harmless before a terminal sees it, since nobody asked
//! for anything but text.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::openpty,
    sys::{
        socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair},
        termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
    },
};
use rustix::termios::{tcgetwinsize, tcsetwinsize};
use safelight_vfs::console::harmless;

use super::guard::Guard;
use crate::failure::{Failure, Kind, OrFail};

/// How often the window's size and the end are looked at, in milliseconds.
const LOOK: u16 = 100;

/// The two ends of each way, before anything is carried.
pub(super) struct Exchange {
    inner: [OwnedFd; 2],
    outer: Outer,
}

enum Outer {
    /// A terminal of the session's own.
    Terminal(OwnedFd),
    /// Both ways on a socket, and what goes to standard error.
    Streams { both: OwnedFd, error: OwnedFd },
}

/// What is under way.
pub(super) struct Carried {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _restored: Option<Restored>,
}

/// What is shown of what a session says.
enum Shown {
    /// What a terminal may be told by a session that has one.
    Guarded(Guard),
    /// Text.
    Harmless,
    /// Everything: it does not lead to a terminal.
    Everything,
}

impl Shown {
    fn on(stream: &impl IsTerminal) -> Self {
        match stream.is_terminal() {
            true => Self::Harmless,
            false => Self::Everything,
        }
    }

    fn of(&mut self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Guarded(guard) => guard.pass(bytes),
            Self::Harmless => harmless(bytes).into_bytes(),
            Self::Everything => bytes.to_vec(),
        }
    }
}

/// Gives our terminal its manners back.
struct Restored(Termios);

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

impl Exchange {
    /// Makes the ways.
    pub(super) fn begin() -> Result<Self, Failure> {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            let pty = openpty(None, None).or_fail(Kind::Environment)?;
            let again = pty.slave.try_clone().or_fail(Kind::Environment)?;
            return Ok(Self {
                inner: [pty.slave, again],
                outer: Outer::Terminal(pty.master),
            });
        }
        let pair = || {
            socketpair(
                AddressFamily::Unix,
                SockType::Stream,
                None,
                SockFlag::SOCK_CLOEXEC,
            )
            .or_fail(Kind::Environment)
        };
        let ((both, in_both), (error, in_error)) = (pair()?, pair()?);
        Ok(Self {
            inner: [in_both, in_error],
            outer: Outer::Streams { both, error },
        })
    }

    /// The session's ends: what it reads and writes, and where its errors go.
    pub(super) fn inner(&self) -> [BorrowedFd<'_>; 2] {
        [self.inner[0].as_fd(), self.inner[1].as_fd()]
    }

    /// Begins to carry.
    pub(super) fn carry(&self) -> Result<Carried, Failure> {
        let over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let clone = |end: &OwnedFd| end.try_clone().map(File::from).or_fail(Kind::Environment);
        let mut restored = None;
        match &self.outer {
            Outer::Terminal(master) => {
                let before = tcgetattr(io::stdin()).or_fail(Kind::Environment)?;
                let mut raw = before.clone();
                cfmakeraw(&mut raw);
                tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw).or_fail(Kind::Environment)?;
                restored = Some(Restored(before));
                let shown = Shown::Guarded(Guard::new());
                threads.push(out(clone(master)?, io::stdout(), shown, over.clone())?);
                typed(clone(master)?, true, over.clone())?;
            }
            Outer::Streams { both, error } => {
                let shown = Shown::on(&io::stdout());
                threads.push(out(clone(both)?, io::stdout(), shown, over.clone())?);
                let shown = Shown::on(&io::stderr());
                threads.push(out(clone(error)?, io::stderr(), shown, over.clone())?);
                typed(clone(both)?, false, over.clone())?;
            }
        }
        Ok(Carried {
            over,
            threads,
            _restored: restored,
        })
    }
}

impl Carried {
    /// The session is over: shows what it still said, and gives the terminal back.
    pub(super) fn end(self) {
        self.over.store(true, Ordering::Release);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Carries out until the other end is gone, or the session is over and nothing more is there.
fn out(
    mut from: File,
    mut to: impl Write + Send + 'static,
    mut shown: Shown,
    over: Arc<AtomicBool>,
) -> Result<JoinHandle<()>, Failure> {
    let work = move || {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match ready(&from) {
                false if over.load(Ordering::Acquire) => return,
                false => continue,
                true => {}
            }
            // A terminal whose other end is closed answers with an error.
            let Ok(count @ 1..) = from.read(&mut buffer) else {
                return;
            };
            let written = to.write_all(&shown.of(&buffer[..count]));
            if written.and_then(|()| to.flush()).is_err() {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("shown".to_owned());
    thread.spawn(work).or_fail(Kind::Environment)
}

/// Carries in what is typed. Nobody waits for this one: it ends with the process, or when the input does.
fn typed(mut to: File, terminal: bool, over: Arc<AtomicBool>) -> Result<(), Failure> {
    // Not through the standard library's buffer: what is in there, nobody can wait for.
    let input = io::stdin().as_fd().try_clone_to_owned();
    let mut input = File::from(input.or_fail(Kind::Environment)?);
    let work = move || {
        let mut buffer = vec![0; 4096];
        while !over.load(Ordering::Acquire) {
            if terminal && let Ok(size) = tcgetwinsize(&input) {
                let _ = tcsetwinsize(&to, size);
            }
            if !ready(&input) {
                continue;
            }
            match input.read(&mut buffer) {
                Ok(count @ 1..) if to.write_all(&buffer[..count]).is_ok() => {}
                _ => break,
            }
        }
        if !terminal {
            let _ = shutdown(to.as_raw_fd(), Shutdown::Write);
        }
    };
    let thread = thread::Builder::new().name("typed".to_owned());
    thread.spawn(work).or_fail(Kind::Environment).map(drop)
}

/// True if there is something to read, or an end, within a moment.
fn ready(from: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::from(LOOK)).is_ok_and(|count| count > 0)
}
