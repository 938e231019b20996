//! Namespaces: what there is to see at all.

use std::fs;

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    unistd::sethostname,
};

use super::{At, failed, ids};
use crate::message::Failed;

/// The first user namespace, which will own all the others.
pub(crate) fn enter_user() -> Result<(), Failed> {
    let outer = ids::current();
    unshare(CloneFlags::CLONE_NEWUSER).at("user namespace")?;
    ids::map(outer)
}

/// Mounts, System V IPC, host name, control groups as seen, and the network.
pub(crate) fn enter_others(network: bool, hostname: &str) -> Result<(), Failed> {
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).at("namespaces")?;
    sethostname(hostname).at("host name")
}

/// The next child is PID 1 of a new process table.
pub(crate) fn enter_pid() -> Result<(), Failed> {
    unshare(CloneFlags::CLONE_NEWPID).at("pid namespace")
}

/// Leaves room for one more user namespace below this one: the job's. Needs the session's own `/proc`.
pub(crate) fn allow_one_more_user() -> Result<(), Failed> {
    let path = "/proc/sys/user/max_user_namespaces";
    fs::write(path, "1").at_path("namespace limit", path)
}

/// The second user namespace: the job owns none of the first one's namespaces, so no capability that it might regain reaches a mount.
/// Tries that a third is refused.
pub(crate) fn enter_second_user() -> Result<(), Failed> {
    let outer = ids::current();
    unshare(CloneFlags::CLONE_NEWUSER).at("second user namespace")?;
    ids::map(outer)?;
    match unshare(CloneFlags::CLONE_NEWUSER) {
        Err(Errno::ENOSPC) => Ok(()),
        Err(other) => Err(failed("third user namespace refused", "", other as i32)),
        Ok(()) => Err(failed("third user namespace refused", "", 0)),
    }
}
