//! The view: what one session sees at one central path, without FUSE.
//!
//! Every operation goes the same way: who asks, what path, what does the policy say, do it, put it on the log, answer. *No record, no
//! answer*: if the log does not take the record the caller gets `EIO`, the attempt is spoiled and the server ends. Refusals are decided
//! here and nowhere else, so that none is silent. What changes a name is decided and done under one lock, so that no other rename can
//! put something else in its place in between.

mod attributes;
mod callers;
mod files;
mod listed;
#[cfg(test)]
mod model;
mod names;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI32, AtomicU64, Ordering},
    },
};

use nix::errno::Errno;
use safelight_policies::{
    central::{Decision, Judge, Want},
    event::{Access, Op, Verdict},
    path::CentralPath,
};
use safelight_seal::manifest::Entries;

use self::callers::Callers;
pub(crate) use self::{
    attributes::{Attributes, Now, SetAttributes, What},
    files::{Access as OpenMode, Handle},
    names::Renaming,
};
use crate::{
    content::{SharedContent, Store},
    layers::Layers,
    log::Log,
    lower::Unreadable,
    room::Room,
    tree::{Answer, Ino, Tree},
};

/// Nanoseconds since 1970.
pub type Clock = fn() -> u64;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// Process id on the host; 0 for the kernel's own write-back.
    pub(crate) pid: u32,
    /// User and group, as numbers of the namespace that mounted the view.
    pub(crate) ids: (u32, u32),
}

impl Caller {
    /// The kernel, for nobody in particular.
    pub(crate) const KERNEL: Self = Self {
        pid: 0,
        ids: (0, 0),
    };
}

/// What one session sees at one central path.
#[derive(Debug)]
pub struct View {
    central: CentralPath,
    judge: Judge,
    writable: bool,
    /// User and group that every node belongs to, as numbers of the namespace that mounted the view.
    pub(crate) owner: (u32, u32),
    /// True if each node has an owner of its own: see [`View::for_many_users`].
    pub(crate) many: bool,
    tree: RwLock<Tree>,
    store: Arc<Store>,
    log: Arc<dyn Log>,
    clock: Clock,
    handles: RwLock<HashMap<u64, Arc<Handle>>>,
    next_handle: AtomicU64,
    /// The error number of the first write that failed; 0 before.
    fault: AtomicI32,
    /// Bytes of names that open directories hold.
    listed: Arc<AtomicU64>,
    callers: Callers,
}

/// The most files and directories that may be open at a time: each remembers its path in this process's memory.
const HANDLES_MAX: usize = 1 << 16;

/// How a view is set up.
#[derive(Debug)]
pub struct Setup {
    /// Where it is mounted.
    pub central: CentralPath,
    /// What may be done below: of the grant, so that it refuses to write where that is not granted.
    pub judge: Judge,
    /// False if every write is refused, and refused as to a read-only file system.
    pub writable: bool,
    /// User and group of every node.
    pub owner: (u32, u32),
    /// The clock.
    pub clock: Clock,
}

/// The layers are no tree together: there is none, or they show more names than one manifest may have.
#[derive(Debug, thiserror::Error)]
#[error("the layers of {central} do not make a tree")]
pub struct Unfit {
    /// Of which central path.
    pub central: CentralPath,
    /// Why.
    #[source]
    pub source: Errno,
}

/// Why something is not done.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// The policy refuses it.
    Refused {
        path: Vec<u8>,
        rule: String,
        errno: Errno,
    },
    /// It cannot be done.
    Failed(Errno),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

impl View {
    /// A view of sealed layers, lowest first, with the session's own changes on top if the store has a place for them.
    pub fn of_layers(
        setup: Setup,
        layers: Vec<Entries>,
        store: Arc<Store>,
        log: Arc<dyn Log>,
    ) -> Result<Self, Unfit> {
        let layers = Layers::of(layers).map_err(|source| Unfit {
            central: setup.central.clone(),
            source,
        })?;
        let room = match &store.upper {
            Some(upper) => upper.room().clone(),
            None => Arc::new(Room::for_names(0)),
        };
        Ok(Self {
            central: setup.central,
            judge: setup.judge,
            writable: setup.writable,
            owner: setup.owner,
            many: false,
            tree: RwLock::new(Tree::over(layers, room)),
            store,
            log,
            clock: setup.clock,
            handles: RwLock::default(),
            next_handle: AtomicU64::new(1),
            fault: AtomicI32::new(0),
            listed: Arc::default(),
            callers: Callers::default(),
        })
    }

    /// The view for a privileged mounter that lets several users in: a node belongs to who made it, owners can be changed, and device
    /// nodes can be made, as far as the kernel allows it to whom. Owners are not sealed. A session's view is never one: there is one user.
    #[must_use]
    pub fn for_many_users(mut self) -> Self {
        self.many = true;
        self
    }

    /// Where it is mounted.
    pub fn central(&self) -> &CentralPath {
        &self.central
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The tree, to be looked at.
    pub(crate) fn tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tree_mut(&self) -> RwLockWriteGuard<'_, Tree> {
        self.tree.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> i64 {
        i64::try_from((self.clock)()).unwrap_or(i64::MAX)
    }

    /// The full path inside the session.
    fn full(&self, path: &[u8]) -> Vec<u8> {
        let mut full = self.central.as_str().as_bytes().to_vec();
        if !path.is_empty() {
            full.push(b'/');
            full.extend_from_slice(path);
        }
        full
    }

    /// Asks the policy.
    fn permit(&self, path: &[u8], want: Want) -> Result<(), Stop> {
        let writes = matches!(want, Want::Write | Want::MakeDirectory);
        let read_only = writes && !self.writable;
        let rule = match self.judge.decide(path, want) {
            Decision::Allow if read_only => format!("{} is read-only", self.central),
            Decision::Allow => return Ok(()),
            Decision::Deny { rule } => rule,
        };
        Err(Stop::Refused {
            path: path.to_owned(),
            rule,
            errno: if read_only {
                Errno::EROFS
            } else {
                Errno::EACCES
            },
        })
    }

    /// Asks the policy. A refusal is on the log before the caller learns of it.
    fn judge(&self, caller: Caller, op: Op, path: &[u8], want: Want) -> Answer<()> {
        match self.permit(path, want) {
            Ok(()) => Ok(()),
            Err(stop) => self.noted(caller, op, path, None, Err(stop)),
        }
    }

    /// Refuses a caller that is not the session's user, wherever it comes from.
    pub(crate) fn refuse_stranger(&self, caller: Caller, ino: Ino) -> Errno {
        let stop = Stop::Refused {
            path: self.tree().path(ino),
            rule: "only the session's own user may use a view".to_owned(),
            errno: Errno::EACCES,
        };
        let refused: Answer<()> = self.noted(caller, Op::Lookup, b"", None, Err(stop));
        refused.err().unwrap_or(Errno::EACCES)
    }

    /// True if the policy shows the path at all.
    fn shows(&self, path: &[u8]) -> bool {
        self.judge.decide(path, Want::Traverse) == Decision::Allow
    }

    fn record(
        &self,
        caller: Caller,
        op: Op,
        path: &[u8],
        to: Option<&[u8]>,
        verdict: Verdict,
        bytes: u64,
    ) -> Answer<()> {
        let (comm, is_new) = self.callers.name(caller.pid);
        let lost = |_| {
            self.spoil();
            Errno::EIO
        };
        if is_new {
            self.log.began(caller.pid, &comm).map_err(lost)?;
        }
        let access = Access {
            at: (self.clock)(),
            pid: caller.pid,
            comm,
            op,
            path: self.full(path),
            to: to.map(|to| self.full(to)),
            verdict,
            bytes,
        };
        self.log.record(access).map_err(lost)
    }

    /// Puts the outcome of an operation on the log and passes it on.
    fn noted<T>(
        &self,
        caller: Caller,
        op: Op,
        path: &[u8],
        to: Option<&[u8]>,
        outcome: Result<T, Stop>,
    ) -> Answer<T> {
        match outcome {
            Ok(value) => {
                self.record(caller, op, path, to, Verdict::Allowed, 0)?;
                Ok(value)
            }
            Err(Stop::Refused { path, rule, errno }) => {
                self.record(caller, op, &path, None, Verdict::Denied { rule }, 0)?;
                Err(errno)
            }
            Err(Stop::Failed(errno)) => {
                let verdict = match errno {
                    Errno::ENOENT => Verdict::Missing,
                    errno => Verdict::Failed {
                        errno: errno as i32,
                    },
                };
                self.record(caller, op, path, to, verdict, 0)?;
                Err(errno)
            }
        }
    }

    /// What a process learns of bytes that cannot be read: an error, and never which.
    fn unreadable(&self, caller: Caller, op: Op, path: &[u8], why: Unreadable) -> Errno {
        match why {
            Unreadable::NotAuthentic(object) => {
                self.spoil();
                self.log.not_authentic(object);
                let _ = self.record(caller, op, path, None, Verdict::NotAuthentic, 0);
                Errno::EIO
            }
            Unreadable::Failed(errno) => {
                let _ = self.record(
                    caller,
                    op,
                    path,
                    None,
                    Verdict::Failed {
                        errno: errno as i32,
                    },
                    0,
                );
                errno
            }
        }
    }

    /// What the session wrote can no longer be trusted as a whole.
    pub(crate) fn spoil(&self) {
        if let Some(upper) = &self.store.upper {
            upper.poison();
        }
    }

    /// A write failed: the first failure is what everybody is told from here on.
    fn spoil_by(&self, errno: Errno) {
        let _ = self
            .fault
            .compare_exchange(0, errno as i32, Ordering::AcqRel, Ordering::Acquire);
        self.spoil();
    }

    /// Refuses whoever begins something that could not be committed any more. A renderer notices it with its next file at the latest,
    /// though the kernel tells it of its last one only when it syncs or closes it.
    fn whole(&self) -> Answer<()> {
        match &self.store.upper {
            Some(upper) if upper.is_poisoned() => match self.fault.load(Ordering::Acquire) {
                0 => Err(Errno::EIO),
                fault => Err(Errno::from_raw(fault)),
            },
            _ => Ok(()),
        }
    }

    fn give_back(&self, content: Option<SharedContent>) {
        if let Some(content) = content {
            content.discard(&self.store);
        }
    }

    /// The kernel forgot a node.
    pub(crate) fn forget(&self, ino: Ino, count: u64) {
        let gone = self.tree_mut().forget(ino, count);
        self.give_back(gone);
    }

    fn handle(&self, number: u64) -> Answer<Arc<Handle>> {
        self.handles
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&number)
            .cloned()
            .ok_or(Errno::EBADF)
    }

    fn add_handle(&self, handle: Handle) -> Answer<u64> {
        let number = self.next_handle.fetch_add(1, Ordering::Relaxed);
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        if handles.len() >= HANDLES_MAX {
            return Err(Errno::ENFILE);
        }
        handles.insert(number, Arc::new(handle));
        Ok(number)
    }

    fn take_handle(&self, number: u64) -> Answer<Arc<Handle>> {
        self.handles
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&number)
            .ok_or(Errno::EBADF)
    }

    /// Closes what is still open. Called when the mount is gone: the kernel may drop the last closings unsent when it lets go of a mount,
    /// but what was read and written belongs on the log.
    pub(crate) fn close_all(&self) {
        let numbers: Vec<u64> = {
            let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
            handles.keys().copied().collect()
        };
        for number in numbers {
            // A record that is lost has spoiled the attempt already.
            let _ = self.close(Caller::KERNEL, number);
        }
    }
}
