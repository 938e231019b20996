//! Loads system-call filters, which the plan has compiled.

use super::failed;
use crate::{
    message::Failed,
    plan::{Filters, Instruction, program},
};

/// The session's two filters: what is not there, then what is allowed.
pub(crate) fn apply(filters: &Filters) -> Result<(), Failed> {
    load(&filters.not_there)?;
    load(&filters.policy)
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
