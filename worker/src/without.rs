//! `safelight __without FEATURE -- CMD…`: see how Safelight behaves on a lesser kernel.
//!
//! A diagnostic: the command runs under a filter that makes the feature's system calls answer as a kernel without the feature does. So "what is
//! missing is reported, never passed over" can be tried on any host.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt,
    process::Command,
};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::error::Error;

/// The hidden command.
pub const COMMAND: &str = "__without";

/// A call that fails: its number, the flag in its first argument that makes it fail (always if `None`), and the error.
type Failing = (i64, Option<i32>, i32);

/// What can be taken away: a name, and the calls that then fail.
const FEATURES: [(&str, &[Failing]); 5] = [
    (
        "landlock",
        &[(libc::SYS_landlock_create_ruleset, None, libc::ENOSYS)],
    ),
    ("seccomp", &[(libc::SYS_seccomp, None, libc::ENOSYS)]),
    (
        "user-namespace",
        &[(libc::SYS_unshare, Some(libc::CLONE_NEWUSER), libc::EPERM)],
    ),
    (
        "namespaces",
        &[(libc::SYS_unshare, Some(libc::CLONE_NEWNS), libc::EINVAL)],
    ),
    (
        "network-namespace",
        &[(libc::SYS_unshare, Some(libc::CLONE_NEWNET), libc::EINVAL)],
    ),
];

/// The names of the features that can be taken away.
pub fn names() -> impl Iterator<Item = &'static str> {
    FEATURES.iter().map(|(name, _)| *name)
}

/// Becomes the command, without the feature. Returns only if that fails.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> Error {
    let feature = arguments.next().unwrap_or_default();
    let mut command = arguments.skip_while(|word| word == OsStr::new("--"));
    let without = |source| Error::Without {
        feature: feature.to_string_lossy().into_owned(),
        source,
    };
    let Some((_, calls)) = FEATURES.iter().find(|(name, _)| *name == feature) else {
        return without(io::Error::from(io::ErrorKind::Unsupported));
    };
    let Some(program) = command.next() else {
        return without(io::Error::from(io::ErrorKind::InvalidInput));
    };
    if let Err(source) = take_away(calls) {
        return without(source);
    }
    without(Command::new(program).args(command).exec())
}

fn take_away(calls: &[Failing]) -> io::Result<()> {
    for &(number, flag, errno) in calls {
        let rules = match flag {
            Some(flag) => vec![flagged(flag).map_err(io::Error::other)?],
            None => Vec::new(),
        };
        let program: BpfProgram = SeccompFilter::new(
            BTreeMap::from([(number, rules)]),
            SeccompAction::Allow,
            SeccompAction::Errno(errno.unsigned_abs()),
            TargetArch::x86_64,
        )
        .and_then(TryInto::try_into)
        .map_err(io::Error::other)?;
        seccompiler::apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn flagged(flag: i32) -> Result<SeccompRule, seccompiler::BackendError> {
    let flag = u64::from(flag.unsigned_abs());
    SeccompRule::new(vec![SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(flag),
        flag,
    )?])
}
