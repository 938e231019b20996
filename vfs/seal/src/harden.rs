//! What a process does before it holds a key: no core dump, no tracer of the same user, no swap.
//!
//! Not dumpable also makes `/proc/<pid>/mem` and friends root's (prctl(2), ptrace(2)). Locking memory is best effort, because an
//! unprivileged process may not lock all of it; the caller reports what was reached.

use nix::sys::{
    mman::{MlockAllFlags, mlockall},
    prctl,
    resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
};

use crate::Error;

/// What was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardened {
    /// True if no page of this process can reach swap.
    pub memory_locked: bool,
}

/// Hardens this process. Call it first in `main` of every process that will hold a key; again after `exec`.
pub fn harden() -> Result<Hardened, Error> {
    prctl::set_dumpable(false).map_err(|source| Error::NotHardened {
        step: "make the process not dumpable",
        source,
    })?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|source| Error::NotHardened {
        step: "switch core dumps off",
        source,
    })?;
    Ok(Hardened {
        memory_locked: lock_memory(),
    })
}

/// Locks every present and future page, each when it is first touched.
///
/// Only where the limit cannot bite: under a finite `RLIMIT_MEMLOCK`, `MCL_FUTURE` would turn a later allocation into a failure.
fn lock_memory() -> bool {
    let _raised = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let unlimited =
        getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    unlimited && mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault).is_ok()
}
