//! Control groups: a leaf for each session, whose kill reaches every process of it, and limits where the host has the controllers.
//!
//! cgroup v2 is used wherever it is mounted, with or without controllers (a hybrid host has none there); limits then come from the memory
//! and pids hierarchies of v1. Where v2 has the cpu controller, all sessions together get what one group of the host gets. A v1 group that
//! somebody else has put us into is his to divide, so it is left alone. A leaf is locked by the agent that made it: one that is not locked
//! belongs to nobody any more and is swept. (Documentation/admin-guide/cgroup-v2.rst)

mod disk;
mod places;
mod usage;

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use safelight_policies::{grant::Limits, id::SessionId};

use crate::error::Error;
use places::Candidates;

pub use disk::Bound;
pub use usage::Usage;

/// The group below which all sessions of this host are.
const OURS: &str = "safelight";

/// How often a group is looked at until it is empty. The kernel's own notification would need a watch for each group.
const LOOK: Duration = Duration::from_millis(2);

/// How long a swept group may take to become empty.
const SWEEP: Duration = Duration::from_secs(2);

/// Where leaves can be made on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    /// Our group in the cgroup v2 hierarchy.
    unified: Option<PathBuf>,
    /// Our group in v1's memory hierarchy.
    memory: Option<PathBuf>,
    /// Our group in v1's pids hierarchy.
    pids: Option<PathBuf>,
    /// Why something is not there.
    why: Vec<String>,
}

/// A session's groups.
#[derive(Debug)]
pub struct Leaf {
    unified: Option<Locked>,
    memory: Option<Locked>,
    pids: Option<Locked>,
    limits_memory: bool,
    limits_pids: bool,
    limits_disk: bool,
}

/// By what a launcher comes into its groups.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    /// The group of cgroup v2 to be born in: to move into it afterwards takes the kernel long, since it waits for all processors.
    pub(crate) born_in: Option<OwnedFd>,
    /// The `tasks` files of v1's groups, into which a thread moves itself at once.
    pub(crate) tasks: Vec<OwnedFd>,
}

/// A group and the lock that says whose it is.
#[derive(Debug)]
struct Locked {
    path: PathBuf,
    _lock: OwnedFd,
}

impl Groups {
    /// Looks for groups that we may divide, and really makes ours.
    pub fn find() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let candidates =
            Candidates::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let mut why = candidates.why.clone();
        let mut make = |what: &str, candidates: &[PathBuf]| {
            let made = candidates
                .iter()
                .map(|parent| parent.join(OURS))
                .find(|ours| prepare(ours).is_ok());
            if made.is_none() && !candidates.is_empty() {
                why.push(format!("the {what} hierarchy may not be written"));
            }
            made
        };
        let unified = make("cgroup v2", &candidates.unified);
        let memory = make("memory", &candidates.memory);
        let pids = make("pids", &candidates.pids);
        Self {
            unified,
            memory,
            pids,
            why,
        }
    }

    /// No groups at all, and why.
    pub fn none(why: impl Into<String>) -> Self {
        Self {
            why: vec![why.into()],
            ..Self::default()
        }
    }

    /// Why some of it is not there.
    pub fn why(&self) -> &[String] {
        &self.why
    }

    /// Kills and removes leaves whose agent is gone; how many there were.
    pub fn sweep(&self) -> usize {
        let mut swept = 0;
        for ours in [&self.unified, &self.memory, &self.pids]
            .into_iter()
            .flatten()
        {
            for leaf in fs::read_dir(ours)
                .into_iter()
                .flatten()
                .flatten()
                .filter(|entry| entry.path().is_dir())
            {
                // Locked means that its agent lives.
                if let Ok(stale) = lock(&leaf.path()) {
                    kill(&leaf.path()).ok();
                    await_empty(&leaf.path(), Instant::now() + SWEEP);
                    swept += usize::from(fs::remove_dir(&stale.path).is_ok());
                }
            }
        }
        swept
    }

    /// A leaf for a session, limited where that is possible; `None` if this host has nothing to make it of.
    pub fn leaf(&self, session: &SessionId, limits: &Limits) -> Result<Option<Leaf>, Error> {
        let name = session.to_string();
        let make = |ours: &Option<PathBuf>| {
            ours.as_ref()
                .map(|ours| create(&ours.join(&name)))
                .transpose()
        };
        let mut leaf = Leaf {
            unified: make(&self.unified)?,
            memory: make(&self.memory)?,
            pids: make(&self.pids)?,
            limits_memory: false,
            limits_pids: false,
            limits_disk: false,
        };
        if leaf.unified.is_none() && leaf.memory.is_none() && leaf.pids.is_none() {
            return Ok(None);
        }
        leaf.limit(limits)?;
        Ok(Some(leaf))
    }
}

impl Leaf {
    /// Sweeps what dead agents left on this host, then makes a leaf for a session; `None` if there is nothing to make it of.
    pub fn create(session: SessionId, limits: &Limits) -> Result<Option<Self>, Error> {
        let groups = Groups::find();
        groups.sweep();
        groups.leaf(&session, limits)
    }

    /// Sets the limits. A limit file that is there must take its limit.
    fn limit(&mut self, limits: &Limits) -> Result<(), Error> {
        let (memory, pids) = (limits.memory.to_string(), limits.pids.to_string());
        if let Some(Locked { path, .. }) = &self.unified {
            self.limits_memory = set(path, "memory.max", &memory)?;
            set(path, "memory.swap.max", "0")?;
            set(path, "memory.oom.group", "1")?;
            self.limits_pids = set(path, "pids.max", &pids)?;
            if let Some(rate) = limits.io {
                self.limits_disk = disk::limit(path, Path::new(disk::DISKS), rate)?;
            }
        }
        if let Some(Locked { path, .. }) = &self.memory {
            self.limits_memory |= set(path, "memory.limit_in_bytes", &memory)?;
            set(path, "memory.swappiness", "0")?;
        }
        if let Some(Locked { path, .. }) = &self.pids {
            self.limits_pids |= set(path, "pids.max", &pids)?;
        }
        Ok(())
    }

    fn groups(&self) -> impl Iterator<Item = &Path> {
        [&self.unified, &self.memory, &self.pids]
            .into_iter()
            .flatten()
            .map(|group| group.path.as_path())
    }

    /// True if one write ends every process of the session.
    pub fn kills(&self) -> bool {
        self.unified
            .as_ref()
            .is_some_and(|group| group.path.join("cgroup.kill").exists())
    }

    /// True if the session's memory is limited.
    pub fn limits_memory(&self) -> bool {
        self.limits_memory
    }

    /// True if the session's number of processes is limited.
    pub fn limits_pids(&self) -> bool {
        self.limits_pids
    }

    /// True if it is limited how fast the session reads from disks and writes to them.
    pub fn limits_disk(&self) -> bool {
        self.limits_disk
    }

    /// By what a launcher comes into the groups.
    pub(crate) fn joins(&self) -> Result<Joins, Error> {
        let open = |path: PathBuf, flags: OFlags| {
            openat(CWD, &path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
                Error::Group {
                    act: "open",
                    path,
                    source: errno.into(),
                }
            })
        };
        let born_in = self.unified.as_ref();
        let born_in =
            born_in.map(|group| open(group.path.clone(), OFlags::RDONLY | OFlags::DIRECTORY));
        let first_generation = [&self.memory, &self.pids].into_iter().flatten();
        Ok(Joins {
            born_in: born_in.transpose()?,
            tasks: first_generation
                .map(|group| open(group.path.join("tasks"), OFlags::WRONLY))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Ends every process, if the host can do that.
    pub fn kill(&self) -> io::Result<()> {
        self.unified
            .as_ref()
            .map_or(Ok(()), |group| kill(&group.path))
    }

    /// Waits until no process is left; false if some are at the deadline.
    pub fn await_empty(&self, deadline: Instant) -> bool {
        self.groups().all(|group| await_empty(group, deadline))
    }
}

impl Drop for Leaf {
    /// Removes the groups. One that still has a process stays, and is swept later.
    fn drop(&mut self) {
        for group in self.groups() {
            let _ = fs::remove_dir(group);
        }
    }
}

/// Makes our own group, and asks for controllers in its leaves; those that cannot be had are simply not there.
fn prepare(ours: &Path) -> io::Result<()> {
    match fs::create_dir(ours) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for group in [ours.parent(), Some(ours)].into_iter().flatten() {
        // With cpu, all sessions together weigh as much as one other group of the host, however many threads they have.
        for controller in ["+memory", "+pids", "+cpu", "+io"] {
            let control = group.join("cgroup.subtree_control");
            if control.exists() {
                let _ = fs::write(control, controller);
            }
        }
    }
    // Made by somebody else it may not be ours to divide.
    rustix::fs::access(ours, rustix::fs::Access::WRITE_OK)?;
    Ok(())
}

/// Makes a leaf and locks it. Between the two, another agent may take it for one that nobody has, and sweep it: then it is made again.
fn create(path: &Path) -> Result<Locked, Error> {
    let group = |act, source| Error::Group {
        act,
        path: path.to_owned(),
        source,
    };
    let deadline = Instant::now() + SWEEP;
    loop {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(group("create", error));
            }
            _ => {}
        }
        match lock(path) {
            // A lock on what was removed meanwhile is a lock on nothing.
            Ok(locked) if path.exists() => return Ok(locked),
            Err(source) if Instant::now() >= deadline => return Err(group("lock", source)),
            _ => sleep(LOOK),
        }
    }
}

fn lock(path: &Path) -> io::Result<Locked> {
    let directory = openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
    Ok(Locked {
        path: path.to_owned(),
        _lock: directory,
    })
}

/// Writes a limit; false if this group has no such limit.
fn set(group: &Path, file: &str, value: &str) -> Result<bool, Error> {
    let path = group.join(file);
    if !path.exists() {
        return Ok(false);
    }
    match fs::write(&path, value) {
        Ok(()) => Ok(true),
        Err(source) => Err(Error::Group {
            act: "set",
            path,
            source,
        }),
    }
}

fn kill(group: &Path) -> io::Result<()> {
    let path = group.join("cgroup.kill");
    if path.exists() {
        fs::write(path, "1")
    } else {
        Ok(())
    }
}

fn await_empty(group: &Path, deadline: Instant) -> bool {
    loop {
        match fs::read_to_string(group.join("cgroup.procs")) {
            Ok(procs) if procs.trim().is_empty() => return true,
            Ok(_) => {}
            // The group itself is gone.
            Err(_) => return true,
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(LOOK);
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests;
