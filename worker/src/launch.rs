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

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
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
    Launcher::start(exe, io.group, io.complain)?.build(plan, io.view)
}

/// A launcher that has no plan yet. While it becomes the program, there is time to make the plan.
///
/// Dropped without one, it is killed: it has done nothing that would have to be undone.
#[derive(Debug)]
pub struct Launcher {
    /// `None` once it is a session's.
    started: Option<Started>,
}

#[derive(Debug)]
struct Started {
    process: Spawned,
    channel: Channel,
    group: Option<Leaf>,
    /// The `tasks` files of the groups that it joins by itself.
    tasks: Vec<OwnedFd>,
}

impl Launcher {
    /// Starts `exe __launch`, in its control group. For the thread that starts it the same holds as for [`spawn`].
    pub fn start(exe: &Path, group: Option<Leaf>, complain: bool) -> Result<Self, Error> {
        let (channel, theirs) = Channel::pair().map_err(|source| Error::Channel { source })?;
        channel
            .set_timeouts(Some(TAKE), Some(TAKE))
            .map_err(|source| Error::Channel { source })?;
        let start = |source| Error::Start {
            path: exe.to_owned(),
            source,
        };
        let joins = group.as_ref().map(Leaf::joins).transpose()?;
        let joins = joins.unwrap_or_default();
        let process =
            start_launcher(exe, theirs, complain, joins.born_in.as_ref()).map_err(start)?;
        Ok(Self {
            started: Some(Started {
                process,
                channel,
                group,
                tasks: joins.tasks,
            }),
        })
    }

    /// Gives it its plan, and its end of the channel to the view server.
    pub fn build(mut self, plan: &Plan, view: OwnedFd) -> Result<Session, Error> {
        let gone = || Error::Channel {
            source: safelight_channel::Error::Gone,
        };
        let Started {
            process,
            channel,
            group,
            tasks,
        } = self.started.take().ok_or_else(gone)?;
        let session = Session::new(process, channel, group, *plan.limits(), plan.tmp());
        let mut descriptors = vec![view.as_fd()];
        descriptors.extend(tasks.iter().map(AsFd::as_fd));
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
}

impl Drop for Launcher {
    fn drop(&mut self) {
        if let Some(started) = &self.started {
            let pidfd = &started.process.pidfd;
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        }
    }
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
    sys::spawn(&program, &command, stdio, group.map(AsFd::as_fd))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rustix::process::test_kill_process;

    use super::*;

    /// A program that goes on until it is killed, whatever its argument.
    const TIRELESS: &str = "/usr/bin/yes";

    #[test]
    fn a_launcher_without_a_plan_is_gone_when_it_is_dropped() {
        let launcher = Launcher::start(Path::new(TIRELESS), None, false).unwrap();
        let pid = launcher.started.as_ref().unwrap().process.pid;
        let pid = rustix::process::Pid::from_raw(pid.as_raw()).unwrap();
        assert!(test_kill_process(pid).is_ok(), "it runs");
        let begun = Instant::now();
        drop(launcher);
        assert!(test_kill_process(pid).is_err(), "it is killed and reaped");
        assert!(begun.elapsed() < TAKE, "and did not have to be waited for");
    }

    #[test]
    fn a_program_that_is_not_there_is_said_to_be_missing() {
        let missing = Launcher::start(Path::new("/nowhere/safelight"), None, false);
        let Err(Error::Start { source, .. }) = missing else {
            panic!("{missing:?}");
        };
        assert_eq!(source.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn what_is_started_has_its_descriptors_and_no_variable_and_is_our_child() {
        let launcher = Launcher::start(Path::new(TIRELESS), None, false).unwrap();
        let process = &launcher.started.as_ref().unwrap().process;
        let proc = |what: &str| format!("/proc/{}/{what}", process.pid);
        // The kernel lets us go on a moment before it has noted where the new program's arguments are.
        let said = (0..1_000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            let said = std::fs::read(proc("cmdline")).unwrap();
            (!said.is_empty()).then_some(said)
        });
        assert_eq!(said.unwrap(), b"/usr/bin/yes\0__launch\0");
        assert!(std::fs::read(proc("environ")).unwrap().is_empty());
        assert_eq!(std::fs::read_link(proc("cwd")).unwrap(), Path::new("/"));
        let status = std::fs::read_to_string(proc("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        assert_eq!(field("SigBlk:"), "0000000000000000");
        assert_eq!(field("PPid:"), std::process::id().to_string());
        let stands_for = |number: u32| {
            let link = std::fs::read_link(proc(&format!("fd/{number}"))).unwrap();
            link.to_string_lossy().into_owned()
        };
        assert!(stands_for(0).starts_with("socket:"), "{}", stands_for(0));
        assert_eq!([1, 2].map(stands_for), ["/dev/null", "/dev/null"]);
    }
}
