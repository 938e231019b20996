//! The door of a render site for operators who look at jobs by a grant: who is let in, until when, and what is on the log of it.
//!
//! Each look has a thread, a log and a process of its own. The warden decides; here is only what surrounds it: which job is meant, who asks,
//! and that a look ends with its time, its grant, its client's trust or whoever looks. Nobody is answered before it is on the log that he is.

mod guard;
mod one;

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{SocketFlags, accept_with};
use safelight_channel::Channel;
use safelight_policies::id::SessionId;

use self::{guard::Guard, one::One};
use crate::{
    failure::{Failure, Kind, OrFail},
    look,
    state::State,
};

/// How many may look, or ask to, at a time.
const AT_ONCE: usize = 16;

/// How long an operator's process may take for what it does at once.
const PROMPT: Duration = Duration::from_secs(30);

/// How often the end of the site is looked for, in milliseconds.
const CHECK: u16 = 200;

/// The looks that go on: their logs are still being written.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing(Arc<Mutex<BTreeSet<SessionId>>>);

impl Standing {
    fn add(&self, session: SessionId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(session);
    }

    fn remove(&self, session: SessionId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&session);
    }

    /// True if a look goes on.
    pub(super) fn has(&self, session: SessionId) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.contains(&session)
    }
}

/// The door.
pub(super) struct Looks {
    state: State,
    socket: OwnedFd,
    standing: Standing,
    guard: Arc<Guard>,
    inside: Arc<AtomicUsize>,
    ending: Arc<AtomicBool>,
}

impl Looks {
    /// Opens the door. It closes when `ending` is set, and every look ends with it.
    pub(super) fn open(state: &State, ending: Arc<AtomicBool>) -> Result<Self, Failure> {
        Ok(Self {
            state: state.clone(),
            socket: look::listen(state.root())?,
            standing: Standing::default(),
            guard: Arc::default(),
            inside: Arc::default(),
            ending,
        })
    }

    /// The looks that go on.
    pub(super) fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Lets in who is at the door, or waits a moment.
    pub(super) fn turn(&self) {
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        if !poll(&mut polled, PollTimeout::from(CHECK)).is_ok_and(|count| count > 0) {
            return;
        }
        if let Err(failure) = self.let_in() {
            tracing::error!("the door for looks: {}", failure.message());
            std::thread::sleep(Duration::from_millis(CHECK.into()));
        }
    }

    fn let_in(&self) -> Result<(), Failure> {
        let socket = accept_with(&self.socket, SocketFlags::CLOEXEC).or_fail(Kind::Environment)?;
        let who = rustix::net::sockopt::socket_peercred(&socket).or_fail(Kind::Environment)?;
        let operator = Channel::from(socket);
        if self.inside.fetch_add(1, Ordering::AcqRel) >= AT_ONCE {
            self.inside.fetch_sub(1, Ordering::AcqRel);
            let reason = "too many look at this site's jobs now; ask again later".to_owned();
            let denied = false;
            let refused = look::FromSite::Refused { reason, denied };
            return operator.try_send(&refused).or_fail(Kind::Environment);
        }
        let one = One {
            state: self.state.clone(),
            standing: self.standing.clone(),
            guard: Arc::clone(&self.guard),
            ending: Arc::clone(&self.ending),
            user: (who.uid.as_raw(), who.gid.as_raw()),
        };
        let inside = Inside(Arc::clone(&self.inside));
        let thread = std::thread::Builder::new().name("look".to_owned());
        let work = move || {
            let _inside = inside;
            one.attend(&operator);
        };
        thread.spawn(work).or_fail(Kind::Environment).map(drop)
    }
}

/// Somebody is inside until this is dropped.
struct Inside(Arc<AtomicUsize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
