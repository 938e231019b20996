//! Loads system-call filters, which the plan has compiled.

use std::os::fd::OwnedFd;

use rustix::thread::set_no_new_privs;

use super::{At, failed};
use crate::{
    message::Failed,
    plan::{Filters, Instruction, program, that_asks},
    sys,
};

/// The session's two filters: what is not there, then what is allowed.
pub(crate) fn apply(filters: &Filters) -> Result<(), Failed> {
    load(&filters.not_there)?;
    load(&filters.policy)
}

/// The same, and what hears of each call that the second refuses. `None` where nothing is to be heard: the policy has the caller killed, or
/// whoever runs us listens already, which only one can.
pub(crate) fn apply_and_listen(filters: &Filters) -> Result<Option<OwnedFd>, Failed> {
    load(&filters.not_there)?;
    load_and_listen(&filters.policy)
}

/// One filter, and what hears of each call that it refuses, if anything can.
pub(crate) fn load_and_listen(filter: &[Instruction]) -> Result<Option<OwnedFd>, Failed> {
    let Some(asks) = that_asks(filter) else {
        load(filter)?;
        return Ok(None);
    };
    set_no_new_privs(true).at("seccomp")?;
    let mut asks: Vec<_> = asks.iter().map(as_the_kernel_has_it).collect();
    match sys::load_filter_that_asks(&mut asks) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            load(filter)?;
            Ok(None)
        }
        Err(error) => Err(error).at("seccomp"),
    }
}

fn as_the_kernel_has_it(step: &Instruction) -> libc::sock_filter {
    libc::sock_filter {
        code: step.code,
        jt: step.jt,
        jf: step.jf,
        k: step.k,
    }
}

/// One filter, for this thread and all that come from it.
pub(crate) fn load(filter: &[Instruction]) -> Result<(), Failed> {
    use seccompiler::Error::{Prctl, Seccomp};
    seccompiler::apply_filter(&program(filter)).map_err(|error| {
        let errno = match error {
            Prctl(error) | Seccomp(error) => error.raw_os_error(),
            _ => None,
        };
        failed("seccomp", "", errno.unwrap_or(libc::EINVAL))
    })
}
