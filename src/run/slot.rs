//! A slot of this host, held by a lock: two sessions never share a user.

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
pub(super) struct Slot {
    pub(super) index: SlotIndex,
    _lock: Flock<File>,
}

/// True if no agent holds the slot.
pub(super) fn is_free(state: &State, index: SlotIndex) -> bool {
    let file = open(&directory(state).join(format!("{}.lock", index.0)));
    file.is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok())
}

fn directory(state: &State) -> PathBuf {
    if state.is_privileged() {
        PathBuf::from("/run/safelight/slots")
    } else {
        state.root().join("slots")
    }
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

/// Claims the first free slot. As root the locks are the machine's, since the slots' users are.
pub(super) fn claim(state: &State) -> Result<Slot, Failure> {
    let directory = directory(state);
    let failed = |path: &Path, error: std::io::Error| {
        Failure::new(
            Kind::Environment,
            format!("cannot claim a slot: {}: {error}", path.display()),
        )
    };
    std::fs::create_dir_all(&directory).map_err(|error| failed(&directory, error))?;
    for number in 0..SLOTS {
        let path = directory.join(format!("{number}.lock"));
        let file = open(&path).map_err(|error| failed(&path, error))?;
        if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            return Ok(Slot {
                index: SlotIndex(number),
                _lock: lock,
            });
        }
    }
    Err(Failure::new(
        Kind::Environment,
        format!("all {SLOTS} slots of this host are taken"),
    )
    .hint("wait until a job ends"))
}
