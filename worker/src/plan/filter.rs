//! System-call filters, compiled when the plan is made.
//!
//! Two filters, because a filter has one default answer. The first answers `ENOSYS` to calls that programs try and have a fallback for (and
//! whose arguments a filter cannot see); the second is the policy's list, with arguments checked where a call can do harm. The kernel
//! takes the stricter answer, and the later filter's among equals. A wrong architecture kills (Documentation/userspace-api/seccomp_filter.rst).

mod tree;

use std::{collections::BTreeMap, str::FromStr};

use safelight_policies::{
    grant::{OnDeny, Seccomp},
    why_never,
};
use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};
use syscalls::Sysno;

use self::tree::{Answer, Compare, Condition, Conditions};
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
    pub(crate) code: u16,
    pub(crate) jt: u8,
    pub(crate) jf: u8,
    pub(crate) k: u32,
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
    let mut rules = BTreeMap::new();
    for name in &seccomp.allow {
        // The judge refuses these too; a filter that lets one through must not exist whoever asks for it.
        if why_never(name).is_some() && !NOT_THERE.contains(&name.as_str()) {
            return Err(Error::ForbiddenSyscall { name: name.clone() });
        }
        rules.insert(number(name)?, arguments(name));
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
    let mut absent = BTreeMap::new();
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
        rules.insert(number(name)?, arguments(name));
    }
    let (deny, otherwise) = match seccomp.on_deny {
        OnDeny::Errno => (Answer::Errno(libc::EPERM), "EPERM"),
        OnDeny::Kill => (Answer::KillProcess, "the process is killed"),
    };
    Ok(Filters {
        not_there: tree::compile(&absent, Answer::Errno(libc::ENOSYS), Answer::Allow),
        policy: tree::compile(&rules, Answer::Allow, deny),
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
    Ok(tree::compile(
        &rules,
        Answer::Allow,
        Answer::Errno(libc::EPERM),
    ))
}

fn number(name: &str) -> Result<u32, Error> {
    Sysno::from_str(name)
        .map(|number| number.id().unsigned_abs())
        .map_err(|_| Error::UnknownSyscall {
            name: name.to_owned(),
        })
}

/// The conditions on a call's arguments: any one of the rules is enough, all conditions of a rule must hold; no rule means "as it is".
/// Arguments are compared as the kernel reads them: `int` and flags in 32 bits, so that garbage in the upper half changes nothing.
fn arguments(name: &str) -> Vec<Conditions> {
    use Compare::{Equal, Masked, NotEqual};
    const NEW_NAMESPACES: u32 = 0x7e02_0000;
    const FAST_OPEN: u32 = 0x2000_0000;
    const PERSONALITY_QUERY: u32 = 0xffff_ffff;
    const MPTCP: u32 = 262;
    const STI: u32 = 0x5412;
    let when = |argument, compare, value| Condition {
        argument,
        compare,
        value,
    };
    match name {
        "clone" => vec![vec![when(0, Masked(NEW_NAMESPACES), 0)]],
        // Terminal input, console and line-discipline tricks.
        "ioctl" => vec![[STI, 0x541c, 0x5423].map(|it| when(1, NotEqual, it)).into()],
        "socket" => [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6]
            .map(|family| {
                let family = family.unsigned_abs();
                vec![when(0, Equal, family), when(2, NotEqual, MPTCP)]
            })
            .to_vec(),
        "socketpair" => vec![vec![when(0, Equal, libc::AF_UNIX.unsigned_abs())]],
        "personality" => vec![
            vec![when(0, Equal, 0)],
            vec![when(0, Equal, PERSONALITY_QUERY)],
        ],
        // TCP Fast Open connects without connect().
        "sendto" | "sendmmsg" => vec![vec![when(3, Masked(FAST_OPEN), 0)]],
        "sendmsg" => vec![vec![when(2, Masked(FAST_OPEN), 0)]],
        _ => Vec::new(),
    }
}

/// The same filter, but that it asks (`SECCOMP_RET_USER_NOTIF`) where it would refuse with `EPERM`. `None` if it never does.
pub(crate) fn that_asks(filter: &[Instruction]) -> Option<Vec<Instruction>> {
    let refuses = |step: &Instruction| tree::is_answer(*step, Answer::Errno(libc::EPERM));
    filter.iter().any(refuses).then(|| {
        let asks = |step: &Instruction| match refuses(step) {
            true => tree::answer(Answer::Ask),
            false => *step,
        };
        filter.iter().map(asks).collect()
    })
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
    fn a_filter_that_asks_asks_where_the_other_refuses_and_differs_in_nothing_else() {
        let calls = [(number("read").unwrap(), arguments("read"))].into();
        let refuse = tree::compile(&calls, Answer::Allow, Answer::Errno(libc::EPERM));
        let ask = tree::compile(&calls, Answer::Allow, Answer::Ask);
        assert_eq!(that_asks(&refuse), Some(ask));
        // Neither what is said to be missing nor what kills is asked about.
        let absent = tree::compile(&calls, Answer::Errno(libc::ENOSYS), Answer::Allow);
        let kills = tree::compile(&calls, Answer::Allow, Answer::KillProcess);
        assert_eq!([absent, kills].map(|it| that_asks(&it)), [None, None]);
    }

    #[test]
    fn what_the_filter_looks_at_is_what_is_explained() {
        let catalogue = Catalogue::shipped().unwrap();
        let policy = catalogue.resolve(&PolicyName::new("generic").unwrap());
        let grant = policy.unwrap().admit(&Request::default()).unwrap();
        for call in &grant.terms().seccomp.allow {
            let looked_at = !arguments(call).is_empty();
            assert_eq!(looked_at, filtered(call).is_some(), "{call}");
        }
    }
}
