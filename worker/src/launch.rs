//! Parent side of a launch: starts the launcher and gives it its plan.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use safelight_channel::Channel;

use crate::{cgroup::Leaf, error::Error, message::ToSession, plan::Plan, supervise::Session};

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
    let child = Command::new(exe)
        .arg(COMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs.into_descriptor()))
        .stdout(Stdio::null())
        .stderr(if io.complain {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        .spawn()
        .map_err(start)?;
    let pidfd = Pid::from_raw(child.id().cast_signed())
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .map_err(|errno| start(errno.into()))?;
    let session = Session::new(child, pidfd, ours, io.group, *plan.limits());
    let joins = session
        .group()
        .map(Leaf::procs)
        .transpose()?
        .unwrap_or_default();
    let mut descriptors = vec![io.view.as_fd()];
    descriptors.extend(joins.iter().map(AsFd::as_fd));
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
