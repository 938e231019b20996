//! A slot of this host, held by a lock: two sessions never share a user.
//!
//! As root the lock is the machine's, since the slots' users are. A second lock, of the state's own, says that it is an agent of this
//! state that holds the slot: only then may an attempt that the ledger has there be alive.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use safelight_policies::id::SlotIndex;

use crate::{
    failure::{Failure, Kind},
    state::State,
};

/// Slots that one host may have.
const SLOTS: u16 = 512;

/// A claimed slot. Dropping it, or the end of the process, frees it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) index: SlotIndex,
    _machine: Option<Flock<File>>,
    _state: Flock<File>,
}

/// True if no agent of this state holds the slot.
pub(super) fn is_free(state: &State, index: SlotIndex) -> bool {
    let file = open(&of_state(state).join(name(index.0)));
    file.is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok())
}

fn of_state(state: &State) -> PathBuf {
    state.root().join("slots")
}

fn name(number: u16) -> String {
    format!("{number}.lock")
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Claims the first free slot.
pub(crate) fn claim(state: &State) -> Result<Slot, Failure> {
    let of_machine = PathBuf::from("/run/safelight/slots");
    let of_state = of_state(state);
    for directory in [&of_machine, &of_state] {
        if state.is_privileged() || *directory == of_state {
            std::fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
        }
    }
    for number in 0..SLOTS {
        let at = |directory: &Path| {
            let path = directory.join(name(number));
            open(&path).map_err(|error| failed(&path, &error))
        };
        let index = SlotIndex(number);
        if !state.is_privileged() {
            if let Ok(lock) = Flock::lock(at(&of_state)?, FlockArg::LockExclusiveNonblock) {
                return Ok(Slot {
                    index,
                    _machine: None,
                    _state: lock,
                });
            }
        } else if let Ok(machine) = Flock::lock(at(&of_machine)?, FlockArg::LockExclusiveNonblock) {
            // Whoever has this one now only asks whether it is free.
            let lock = Flock::lock(at(&of_state)?, FlockArg::LockExclusive);
            let lock = lock.map_err(|(_, errno)| failed(&of_state, &errno.into()))?;
            return Ok(Slot {
                index,
                _machine: Some(machine),
                _state: lock,
            });
        }
    }
    Err(Failure::new(
        Kind::Environment,
        format!("all {SLOTS} slots of this host are taken"),
    )
    .hint("wait until a job ends"))
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        Kind::Environment,
        format!("cannot claim a slot: {}: {error}", path.display()),
    )
}
