//! Limits of a process, besides those of the control group.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use safelight_policies::grant::Limits;

use super::At;
use crate::message::Failed;

/// No core dump, a number of open files, and a number of processes: the kernel counts processes per user *and* user namespace (since
/// 5.14), so this is the session's own count even if several sessions share a user. Never an address-space limit: renderers map more than they use.
pub(crate) fn apply(limits: &Limits) -> Result<(), Failed> {
    set(Resource::Core, 0).at("limit of core dumps")?;
    set(Resource::Nproc, limits.pids).at("limit of processes")?;
    set(Resource::Nofile, limits.files).at("limit of open files")
}

/// Lowers a limit for good; one that is lower already stays.
fn set(resource: Resource, most: u64) -> rustix::io::Result<()> {
    let hard = getrlimit(resource)
        .maximum
        .map_or(most, |now| now.min(most));
    setrlimit(
        resource,
        Rlimit {
            current: Some(hard),
            maximum: Some(hard),
        },
    )
}
