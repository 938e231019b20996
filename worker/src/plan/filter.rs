//! System-call filters, compiled when the plan is made.
//!
//! Two filters, because a filter has one default answer. The first answers `ENOSYS` to calls that programs try and have a fallback for (and
//! whose arguments a filter cannot see); the second is the policy's list, with arguments checked where a call can do harm. The kernel
//! takes the stricter answer, and the later filter's among equals. A wrong architecture kills (Documentation/userspace-api/seccomp_filter.rst).

use std::{collections::BTreeMap, str::FromStr};

use safelight_policies::{
    grant::{OnDeny, Seccomp},
    why_never,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use serde::{Deserialize, Serialize};
use syscalls::Sysno;

use crate::error::Error;

/// Answered with `ENOSYS` always: programs fall back to `clone`, whose flags a filter can see, or to plain reads and writes.
const NOT_THERE: [&str; 4] = [
    "clone3",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
];

/// Answered with `ENOSYS` unless the policy has them: programs probe for them and fall back.
const PROBED: [&str; 8] = [
    "close_range",
    "faccessat2",
    "fchmodat2",
    "memfd_secret",
    "openat2",
    "rseq",
    "statx",
    "futex_waitv",
];

/// What the launcher itself calls between the filter and the program: all of it harmless in a session.
const LAUNCHER: [&str; 9] = [
    "openat",
    "read",
    "close",
    "sendmsg",
    "execve",
    "exit_group",
    "munmap",
    "brk",
    "mmap",
];

/// What PID 1 calls while it waits for the job.
const INIT: [&str; 24] = [
    "brk",
    "clock_gettime",
    "close",
    "exit",
    "exit_group",
    "futex",
    "getpid",
    "gettid",
    "kill",
    "madvise",
    "mmap",
    "mremap",
    "munmap",
    "poll",
    "ppoll",
    "read",
    "recvmsg",
    "restart_syscall",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sendmsg",
    "sigaltstack",
    "wait4",
    "waitid",
];

/// One instruction of a BPF program (`struct sock_filter`, linux/filter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// The filters of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filters {
    /// Answers `ENOSYS`, loaded first.
    pub not_there: Vec<Instruction>,
    /// The policy's list, loaded second.
    pub policy: Vec<Instruction>,
    /// The names that the second filter allows, sorted: for printing.
    pub allowed: Vec<String>,
    /// The answer to others: for printing.
    pub otherwise: String,
}

/// Compiles the session's filters.
pub(super) fn filters(seccomp: &Seccomp) -> Result<Filters, Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for name in &seccomp.allow {
        // The judge refuses these too; a filter that lets one through must not exist whoever asks for it.
        if why_never(name).is_some() && !NOT_THERE.contains(&name.as_str()) {
            return Err(Error::ForbiddenSyscall { name: name.clone() });
        }
        rules.insert(number(name)?, arguments(name)?);
    }
    let allowed = {
        let mut names: Vec<_> = seccomp
            .allow
            .iter()
            .filter(|name| !NOT_THERE.contains(&name.as_str()))
            .cloned()
            .collect();
        names.sort();
        names.dedup();
        names
    };
    let mut absent: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for name in NOT_THERE.iter().chain(
        PROBED
            .iter()
            .filter(|name| !seccomp.allow.iter().any(|allowed| allowed == *name)),
    ) {
        absent.insert(number(name)?, Vec::new());
        // The second filter lets it pass so that the first one's answer stands.
        rules.insert(number(name)?, Vec::new());
    }
    for name in LAUNCHER {
        rules.insert(number(name)?, arguments(name)?);
    }
    let (deny, otherwise) = match seccomp.on_deny {
        OnDeny::Errno => (SeccompAction::Errno(libc::EPERM.unsigned_abs()), "EPERM"),
        OnDeny::Kill => (SeccompAction::KillProcess, "the process is killed"),
    };
    Ok(Filters {
        not_there: compile(
            absent,
            SeccompAction::Allow,
            SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        )?,
        policy: compile(rules, deny, SeccompAction::Allow)?,
        allowed,
        otherwise: otherwise.to_owned(),
    })
}

/// The filter of PID 1.
pub(crate) fn init() -> Result<Vec<Instruction>, Error> {
    let mut rules = BTreeMap::new();
    for name in INIT {
        rules.insert(number(name)?, Vec::new());
    }
    compile(
        rules,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        SeccompAction::Allow,
    )
}

fn number(name: &str) -> Result<i64, Error> {
    Sysno::from_str(name)
        .map(|number| i64::from(number.id()))
        .map_err(|_| Error::UnknownSyscall {
            name: name.to_owned(),
        })
}

/// The conditions on a call's arguments: any one of the rules is enough, all conditions of a rule must hold; no rule means "as it is".
/// Arguments are compared as the kernel reads them: `int` and flags in 32 bits, so that garbage in the upper half changes nothing.
fn arguments(name: &str) -> Result<Vec<SeccompRule>, Error> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    const NEW_NAMESPACES: u64 = 0x7e02_0000;
    const FAST_OPEN: u64 = 0x2000_0000;
    const PERSONALITY_QUERY: u64 = 0xffff_ffff;
    const MPTCP: u64 = 262;
    // (argument, comparison, value)
    let rules: Vec<Vec<(u8, SeccompCmpOp, u64)>> = match name {
        "clone" => vec![vec![(0, MaskedEq(NEW_NAMESPACES), 0)]],
        // Terminal input, console and line-discipline tricks.
        "ioctl" => vec![vec![
            (1, Ne, libc::TIOCSTI),
            (1, Ne, 0x541c),
            (1, Ne, 0x5423),
        ]],
        "socket" => [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6]
            .map(|family| vec![(0, Eq, widen(family)), (2, Ne, MPTCP)])
            .to_vec(),
        "socketpair" => vec![vec![(0, Eq, widen(libc::AF_UNIX))]],
        "personality" => vec![vec![(0, Eq, 0)], vec![(0, Eq, PERSONALITY_QUERY)]],
        // TCP Fast Open connects without connect().
        "sendto" | "sendmmsg" => vec![vec![(3, MaskedEq(FAST_OPEN), 0)]],
        "sendmsg" => vec![vec![(2, MaskedEq(FAST_OPEN), 0)]],
        _ => Vec::new(),
    };
    rules.into_iter().map(rule).collect()
}

fn widen(number: i32) -> u64 {
    u64::from(number.unsigned_abs())
}

fn rule(conditions: Vec<(u8, SeccompCmpOp, u64)>) -> Result<SeccompRule, Error> {
    let conditions = conditions
        .into_iter()
        .map(|(argument, comparison, value)| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value)
        })
        .collect::<Result<_, _>>()
        .map_err(|source| Error::Filter { source })?;
    SeccompRule::new(conditions).map_err(|source| Error::Filter { source })
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    other: SeccompAction,
    matching: SeccompAction,
) -> Result<Vec<Instruction>, Error> {
    let program: BpfProgram = SeccompFilter::new(rules, other, matching, TargetArch::x86_64)
        .and_then(TryInto::try_into)
        .map_err(|source| Error::Filter { source })?;
    Ok(program
        .into_iter()
        .map(|step| Instruction {
            code: step.code,
            jt: step.jt,
            jf: step.jf,
            k: step.k,
        })
        .collect())
}

/// The form in which the kernel takes it.
pub(crate) fn program(instructions: &[Instruction]) -> BpfProgram {
    instructions
        .iter()
        .map(|step| seccompiler::sock_filter {
            code: step.code,
            jt: step.jt,
            jf: step.jf,
            k: step.k,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use safelight_policies::{Catalogue, Request, explain::filtered, id::PolicyName};

    use super::*;

    #[test]
    fn what_the_filter_looks_at_is_what_is_explained() {
        let catalogue = Catalogue::shipped().unwrap();
        let policy = catalogue.resolve(&PolicyName::new("generic").unwrap());
        let grant = policy.unwrap().admit(&Request::default()).unwrap();
        for call in &grant.terms().seccomp.allow {
            let looked_at = !arguments(call).unwrap().is_empty();
            assert_eq!(looked_at, filtered(call).is_some(), "{call}");
        }
    }
}
