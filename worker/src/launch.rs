//! Parent side of a launch: starts the launcher and gives it its plan.

use std::{
    ffi::CString,
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    time::Duration,
};

use rustix::process::{WaitId, WaitIdOptions, waitid};
use safelight_channel::Channel;

use crate::{
    cgroup::Leaf,
    error::Error,
    message::ToSession,
    plan::Plan,
    supervise::Session,
    sys::{self, Spawned},
};

/// The hidden command of the launcher.
pub const COMMAND: &str = "__launch";

/// How long a launcher may take to read its plan.
const TAKE: Duration = Duration::from_secs(10);

/// What a session is connected to.
#[derive(Debug)]
pub struct LaunchIo {
    /// The launcher's end of the channel to the view server ([`safelight_vfs::session`]).
    pub view: OwnedFd,
    /// The session's control groups, if there are any. They are killed and removed with the session.
    pub group: Option<Leaf>,
    /// True if the launcher's own complaints may go to our standard error. Never the job's: its output goes to the view server.
    pub complain: bool,
}

/// Starts `exe __launch` for a plan. The session is built while [`Session::wait_until_running`] or [`Session::wait`] is called.
///
/// Call it from a thread that lives as long as the session: the kernel ends the launcher with the *thread* that started it.
pub fn spawn(exe: &Path, plan: &Plan, io: LaunchIo) -> Result<Session, Error> {
    let (ours, theirs) = Channel::pair().map_err(|source| Error::Channel { source })?;
    ours.set_timeouts(Some(TAKE), Some(TAKE))
        .map_err(|source| Error::Channel { source })?;
    let start = |source| Error::Start {
        path: exe.to_owned(),
        source,
    };
    let joins = io.group.as_ref().map(Leaf::joins).transpose()?;
    let joins = joins.unwrap_or_default();
    let started =
        start_launcher(exe, theirs, io.complain, joins.born_in.as_ref()).map_err(start)?;
    let session = Session::new(started, ours, io.group, *plan.limits(), plan.tmp());
    let mut descriptors = vec![io.view.as_fd()];
    descriptors.extend(joins.tasks.iter().map(AsFd::as_fd));
    session
        .channel()
        .send_with(
            &ToSession::Start {
                plan: Box::new(plan.clone()),
            },
            &descriptors,
        )
        .map_err(|source| Error::Channel { source })?;
    Ok(session)
}

/// Starts the launcher with its end of the channel as standard input.
fn start_launcher(
    exe: &Path,
    channel: Channel,
    complain: bool,
    group: Option<&OwnedFd>,
) -> io::Result<Spawned> {
    let program = CString::new(exe.as_os_str().as_bytes())?;
    let command = CString::new(COMMAND)?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    let channel = channel.into_descriptor();
    let error = std::io::stderr();
    let error = if complain {
        error.as_fd()
    } else {
        null.as_fd()
    };
    let stdio = [channel.as_fd(), null.as_fd(), error];
    let started = sys::spawn(&program, &command, stdio, group.map(AsFd::as_fd))?;
    // We went on when it had become the program, or had ended because it could not.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::PidFd(started.pidfd.as_fd()), look)? {
        Some(ended) => Err(io::Error::from_raw_os_error(
            ended.exit_status().unwrap_or(libc::EIO),
        )),
        None => Ok(started),
    }
}
