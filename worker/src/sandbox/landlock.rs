//! Landlock: the second wall around files, and around signals, abstract sockets and TCP where the kernel has it.
//!
//! Every right of the plan's ABI is handled and must be enforced in full; what a rule does not grant is refused.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use super::{At, failed};
use crate::{
    message::Failed,
    plan::{Access, Landlock},
};

/// Restricts this thread, which is the only one, and all that come from it.
pub(crate) fn apply(plan: &Landlock) -> Result<(), Failed> {
    let abi = ABI::from(i32::try_from(plan.abi).unwrap_or(0));
    let mut ruleset = create(abi).map_err(|error| refused("landlock", "", &error))?;
    for rule in &plan.rules {
        let path = openat(
            CWD,
            &*rule.at,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .at_path("landlock rule", &rule.at)?;
        let found = fstat(&path).at_path("landlock rule", &rule.at)?;
        let mut access = rights(rule.access, abi);
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            // The kernel refuses rights that only a directory can have.
            access &= AccessFs::from_file(abi);
        }
        ruleset = ruleset
            .add_rule(
                PathBeneath::new(path, access).set_compatibility(CompatLevel::HardRequirement),
            )
            .map_err(|error| refused("landlock rule", &rule.at, &error))?;
    }
    if abi >= ABI::V4 {
        for port in &plan.ports {
            let port = NetPort::new(*port, AccessNet::ConnectTcp)
                .set_compatibility(CompatLevel::HardRequirement);
            ruleset = ruleset
                .add_rule(port)
                .map_err(|error| refused("landlock port", "", &error))?;
        }
    }
    if abi >= ABI::V7 {
        // Without the first nothing of the job's life is in the log, since that begins with an execve; without the second not even that the
        // launcher tried the wall.
        ruleset = ruleset
            .log_new_exec(plan.log)
            .and_then(|ruleset| ruleset.log_same_exec(plan.log))
            .map_err(|error| refused("landlock log", "", &error))?;
    }
    let status = ruleset
        .restrict_self()
        .map_err(|error| refused("landlock", "", &error))?;
    if status.ruleset != RulesetStatus::FullyEnforced || !status.no_new_privs {
        return Err(failed("landlock", "", libc::ENOTSUP));
    }
    Ok(())
}

fn create(abi: ABI) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?;
    if abi >= ABI::V4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi))?;
    }
    if abi >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(abi))?;
    }
    Ok(ruleset
        .create()?
        .set_compatibility(CompatLevel::HardRequirement))
}

fn rights(access: Access, abi: ABI) -> BitFlags<AccessFs> {
    let all = AccessFs::from_all(abi);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let nodes = AccessFs::MakeChar | AccessFs::MakeBlock;
    match access {
        Access::Read => read,
        Access::ReadExecute => read | AccessFs::Execute,
        Access::Device => {
            all & (AccessFs::ReadFile
                | AccessFs::WriteFile
                | AccessFs::IoctlDev
                | AccessFs::Truncate)
        }
        Access::Scratch => all & !(nodes | AccessFs::Execute | AccessFs::IoctlDev),
        Access::ScratchExecute => all & !(nodes | AccessFs::IoctlDev),
        Access::View => all & !AccessFs::IoctlDev,
    }
}

/// The error number behind the crate's error, which nests it differently for each call.
fn refused(step: &str, path: &str, error: &RulesetError) -> Failed {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(errno) = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error)
        {
            return failed(step, path, errno);
        }
        cause = error.source();
    }
    failed(step, path, libc::ENOTSUP)
}
