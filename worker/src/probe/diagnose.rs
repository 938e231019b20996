//! What an error number of a probe means, and what to do about it. Pure.

use safelight_policies::grant::{Feature, Limits};

use super::{Concern, Status};
use crate::{facts::LANDLOCK_TRIED, message::Failed};

/// What each Landlock ABI added, which an older kernel leaves open (Documentation/userspace-api/landlock.rst, "Previous limitations").
const ADDED: [(u32, &str); 6] = [
    (
        2,
        "links and renames between directories are always refused",
    ),
    (
        3,
        "truncation is not controlled (the read-only mounts stand in)",
    ),
    (4, "TCP is not controlled (the network namespace stands in)"),
    (
        5,
        "device ioctls are not controlled (the filter and the missing nodes stand in)",
    ),
    (
        6,
        "signals and abstract sockets are not scoped (the pid and network namespaces stand in)",
    ),
    (7, "refusals are not in the kernel's audit log"),
];

const NEWER: &str = "start a newer kernel (6.1 is the least, 6.15 has everything that is used)";

/// A feature that was tried and refused.
pub(super) fn refused(feature: Feature, failed: &Failed, root: bool) -> Status {
    let said = failed.to_string();
    match (feature, failed.errno) {
        (Feature::Landlock, libc::EOPNOTSUPP) => disabled(
            format!("Landlock is in the kernel but not enabled ({said})"),
            "add landlock to the kernel's list of security modules: boot with lsm=landlock,… in front of the present list",
        ),
        (Feature::Landlock, libc::ENOSYS) => {
            unavailable(format!("the kernel has no Landlock ({said})"), NEWER)
        }
        (Feature::Seccomp, _) => unavailable(
            format!("the kernel takes no system-call filter ({said})"),
            NEWER,
        ),
        (Feature::UserNamespace, libc::ENOSPC) => disabled(
            format!("no more user namespaces are allowed ({said})"),
            "sysctl user.max_user_namespaces=10000",
        ),
        (Feature::UserNamespace, libc::EPERM | libc::EACCES) => disabled(
            format!("unprivileged user namespaces are refused ({said})"),
            "sysctl kernel.unprivileged_userns_clone=1 where that exists; in a container, a profile that allows unshare",
        ),
        (Feature::Fuse, libc::ENOENT | libc::ENODEV | libc::ENXIO) => unavailable(
            format!("the kernel has no FUSE loaded ({said})"),
            "modprobe fuse",
        ),
        (Feature::Fuse, libc::EACCES) if failed.path == "/dev/fuse" && !root => disabled(
            "only root may open /dev/fuse".to_owned(),
            "chmod 0666 /dev/fuse (which is its usual mode), or run safelight as root",
        ),
        (Feature::Fuse, libc::EACCES | libc::EPERM) if failed.path == "/dev/fuse" => disabled(
            format!("this container may not use /dev/fuse ({said})"),
            "give the container the device /dev/fuse",
        ),
        (Feature::Namespaces, libc::EPERM) if failed.step == "process table" => disabled(
            format!(
                "a part of /proc is covered, so no process table of its own may be mounted ({said})"
            ),
            "run outside of the container, or with an uncovered /proc (systempaths=unconfined)",
        ),
        (_, libc::EPERM | libc::EACCES) => disabled(
            format!("user namespaces come without privileges here ({said})"),
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for safelight with the rule userns",
        ),
        _ => unavailable(said, NEWER),
    }
}

/// A Landlock that is older than what we use.
pub(super) fn old_landlock(abi: u32) -> Status {
    let missing: Vec<_> = ADDED
        .iter()
        .filter(|(since, _)| *since > abi)
        .map(|(_, what)| *what)
        .collect();
    Status::Degraded {
        why: format!(
            "the Landlock ABI is {abi} of {LANDLOCK_TRIED}: {}",
            missing.join("; ")
        ),
        remedy: NEWER.to_owned(),
    }
}

/// Whether one write ends a session.
pub(super) fn group_kill(kills: bool, why: &[String]) -> Status {
    if kills {
        return Status::Active;
    }
    unavailable(
        format!(
            "no control group can be killed ({}); the pid namespace alone ends a session",
            reasons(why)
        ),
        "mount cgroup v2, and delegate a group to the user who runs safelight",
    )
}

/// Whether memory and processes are limited.
pub(super) fn group_limits(memory: bool, pids: bool, why: &[String]) -> Status {
    let remedy = "run safelight in a delegated cgroup v2 group with the controllers memory and pids (systemd: Delegate=yes)";
    match (memory, pids) {
        (true, true) => Status::Active,
        (false, false) => unavailable(
            format!(
                "no control group limits a session; its memory is looked at ten times a second, its processes are limited by RLIMIT_NPROC ({})",
                reasons(why)
            ),
            remedy,
        ),
        (false, true) => Status::Degraded {
            why: format!(
                "memory is looked at ten times a second, and not limited by the kernel ({})",
                reasons(why)
            ),
            remedy: remedy.to_owned(),
        },
        (true, false) => Status::Degraded {
            why: format!(
                "processes are limited by RLIMIT_NPROC only ({})",
                reasons(why)
            ),
            remedy: remedy.to_owned(),
        },
    }
}

/// No group at all.
pub(super) fn no_groups(why: &[String]) -> (Status, Status) {
    (group_kill(false, why), group_limits(false, false, why))
}

/// What else weakens a host: pages of a job on disk, pages shared between clients, one user for everything.
pub(super) fn concerns(swaps: &str, ksm: &str, smt: &str, root: bool) -> Vec<Concern> {
    let concern = |what: &str, why: &str, remedy: &str| Concern {
        what: what.to_owned(),
        why: why.to_owned(),
        remedy: remedy.to_owned(),
    };
    let mut concerns = Vec::new();
    // The first line is the heading.
    if swaps.lines().count() > 1 {
        concerns.push(concern(
            "swap is on",
            "a job's memory and private directories can reach the disk in clear",
            "swapoff -a, or swap on a device that is encrypted with a key of each boot",
        ));
    }
    if ksm.trim() == "1" {
        concerns.push(concern(
            "KSM is on",
            "equal pages of different clients are shared, which one of them can time",
            "echo 2 > /sys/kernel/mm/ksm/run",
        ));
    }
    if smt.trim() == "1" {
        concerns.push(concern(
            "two threads share a core",
            "sessions of two clients on one core can measure each other through its caches",
            "echo off > /sys/devices/system/cpu/smt/control, or boot with nosmt; or let the node serve one client",
        ));
    }
    if !root {
        concerns.push(concern(
            "safelight is not root",
            "agent, view server and session share one user, so one person's jobs are all that should run here",
            "run safelight as root: every session then has a user of its own",
        ));
    }
    concerns
}

/// Limits that no probe can meet.
pub(super) fn probe_limits() -> Limits {
    Limits {
        memory: 1 << 30,
        pids: 64,
        wall: 10,
        term_grace: 1,
        output: 1 << 16,
        files: 64,
        quota: 1 << 20,
        entries: 1000,
        records: 1 << 20,
        io: None,
    }
}

fn disabled(why: String, remedy: &str) -> Status {
    Status::Disabled {
        why,
        remedy: remedy.to_owned(),
    }
}

fn unavailable(why: String, remedy: &str) -> Status {
    Status::Unavailable {
        why,
        remedy: remedy.to_owned(),
    }
}

fn reasons(why: &[String]) -> String {
    if why.is_empty() {
        "without a reason".to_owned()
    } else {
        why.join("; ")
    }
}
