//! Our own processes: how each is started, with what user, and where its main function is.
//!
//! A process gets a clean environment, a channel on standard input and nothing else: no secret travels in arguments or environment. It
//! leads a process group of its own, so that Ctrl-C reaches the agent alone, which then ends everything in order.

use std::{
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use safelight_channel::Channel;
use safelight_job::recipe::Recipe;
use safelight_seal::random::SystemRandom;
use safelight_vfs::session::Task;

use crate::failure::{Failure, Kind, OrFail};

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds since 1970.
pub(crate) fn now_seconds() -> u64 {
    now() / 1_000_000_000
}

/// A process of ours and the channel to it.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) channel: Channel,
}

/// The user and group of a process; `None` is ours.
pub(crate) type Identity = Option<(u32, u32)>;

/// Starts this program again as `command`. `directory` becomes its working directory, even if its user could not reach it by its path.
pub(crate) fn start(
    command: &str,
    arguments: &[&str],
    identity: Identity,
    directory: Option<&OwnedFd>,
) -> Result<Process, Failure> {
    let (ours, theirs) = Channel::pair().or_fail(Kind::Environment)?;
    let mut process = Command::new(executable()?);
    process
        .arg(command)
        .args(arguments)
        .env_clear()
        .process_group(0);
    process
        .stdin(Stdio::from(theirs.into_descriptor()))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    if let Ok(filter) = std::env::var("SAFELIGHT_LOG") {
        process.env("SAFELIGHT_LOG", filter);
    }
    match directory {
        Some(directory) => process.current_dir(format!("/proc/self/fd/{}", directory.as_raw_fd())),
        None => process.current_dir("/"),
    };
    if let Some((uid, gid)) = identity {
        process.uid(uid).gid(gid);
    }
    let child = process.spawn().map_err(|error| {
        Failure::new(
            Kind::Environment,
            format!("cannot start {command}: {error}"),
        )
    })?;
    Ok(Process {
        child,
        channel: ours,
    })
}

/// This program's own file.
pub(crate) fn executable() -> Result<PathBuf, Failure> {
    std::env::current_exe().or_fail(Kind::Environment)
}

/// Runs a hidden command if that is what was asked for. Each of these has its story in its own crate.
pub(crate) fn internal_main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next()?;
    match command.to_str()? {
        safelight_worker::launch::COMMAND => Some(safelight_worker::launcher::main()),
        "__view" => {
            crate::terminal::start_logging();
            Some(safelight_vfs::server::main(
                &SystemRandom::new(),
                now,
                expand,
            ))
        }
        "__audit" => {
            crate::terminal::start_logging();
            Some(audit_main())
        }
        _ => None,
    }
}

fn audit_main() -> ExitCode {
    let outcome = Channel::to_parent()
        .map_err(|error| error.to_string())
        .and_then(|parent| {
            safelight_audit::writer::serve(&parent, now).map_err(|error| {
                crate::failure::Failure::from_error(Kind::Internal, &error).to_string()
            })
        });
    match outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("audit writer: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the view server needs of a recipe.
fn expand(bytes: &[u8]) -> Option<Task> {
    let recipe = Recipe::decode(bytes).ok()?;
    Some(Task {
        command: recipe.command,
        directory: recipe.directory,
        env: recipe.env.into_iter().collect(),
        expect: recipe.expect,
    })
}
