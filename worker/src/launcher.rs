//! The launcher, `safelight __launch`: becomes the session. A process with one thread, started afresh, never a fork of a threaded one.
//!
//! Read [`launch`], [`session`] and [`job`] from top to bottom: the order is the kernel's. Whatever fails, the command does not run, and the
//! agent is told the step, the path and the error number.

use std::{
    convert::Infallible,
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
    process::exit,
};

use nix::sys::wait::waitpid;
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    process::{
        DumpableBehavior, Pid, PidfdFlags, Signal, chdir, getppid, ioctl_tiocsctty, pidfd_open,
        set_dumpable_behavior, set_parent_process_death_signal, setsid,
    },
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};
use safelight_channel::Channel;
use safelight_vfs::session::{FromLauncher, SessionFile, ToLauncher};

use crate::{
    message::{Failed, FromSession, ToSession},
    plan::Plan,
    sandbox::{
        At, capabilities, devices, failed, files, ids, landlock, limits, mounts, namespaces,
        network, proc, process, reaper, seccomp, verify,
    },
    sys::{self, Fork},
    turns::{self, Sitting},
};

/// The exit code of a launcher that could not start the session. The agent learns the reason from the message, not from this.
const NOT_STARTED: i32 = 125;

/// Becomes the session that the agent on standard input asks for.
pub fn main() -> std::process::ExitCode {
    let parent = getppid();
    let Ok(channel) = Channel::to_parent() else {
        return std::process::ExitCode::from(2);
    };
    let result = launch(&channel, parent);
    let Err(failed) = result;
    // If the agent is gone there is nobody to tell.
    let _ = channel.send(&FromSession::Failed(failed));
    exit(NOT_STARTED)
}

/// From an ordinary process to one inside all namespaces but the last, with the session's root built and its views handed over.
fn launch(channel: &Channel, parent: Option<Pid>) -> Result<Infallible, Failed> {
    let (plan, view, groups) = receive(channel)?;
    join(&groups)?;
    drop(groups);
    process::detach()?;
    let node = devices::own_fuse_node(plan.identity);
    ids::become_session(plan.identity)?;
    process::bind_to_parent(parent)?;
    namespaces::enter_user()?;
    namespaces::enter_others(plan.network_namespace, &plan.hostname)?;
    let doors = network::open_doors(&plan.reach)?;
    let fuse = devices::open_fuse(node.as_ref(), plan.views().count())?;
    let built = mounts::build(&plan, &fuse)?;
    hand_over(&view, fuse)?;
    tell(
        channel,
        &FromSession::Mounted {
            devices: built.devices,
        },
    )?;
    if !doors.is_empty() {
        let doors: Vec<_> = doors.iter().map(AsFd::as_fd).collect();
        let told = channel.send_with(&FromSession::Doors, &doors);
        told.map_err(|_| failed("report", "", libc::EPIPE))?;
    }
    drop(doors);
    namespaces::enter_pid()?;
    match sys::fork().at("fork")? {
        Fork::Child => {
            drop(node);
            session(channel, view, &plan, built.root)
        }
        Fork::Parent(init) => stand_by(channel, init),
    }
}

/// The plan, the view socket and the control groups to join. Standard input becomes empty.
fn receive(channel: &Channel) -> Result<(Plan, Channel, Vec<OwnedFd>), Failed> {
    let incoming = channel
        .expect::<ToSession>()
        .map_err(|_| failed("plan", "", libc::EPROTO))?;
    let ToSession::Start { plan } = incoming.message else {
        return Err(failed("plan", "", libc::EPROTO));
    };
    let mut descriptors = incoming.descriptors.into_iter();
    let view = descriptors
        .next()
        .ok_or_else(|| failed("plan", "", libc::EBADF))?;
    let null = openat(
        CWD,
        "/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .at_path("open", "/dev/null")?;
    dup2_stdin(&null).at("standard input")?;
    Ok((*plan, Channel::from(view), descriptors.collect()))
}

/// Joins the control groups that it was not born in, before anything that could be counted or multiply.
fn join(groups: &[OwnedFd]) -> Result<(), Failed> {
    for group in groups {
        rustix::io::write(group, b"0").at("control group")?;
    }
    Ok(())
}

/// Gives the views' descriptors to the view server, and keeps none.
fn hand_over(view: &Channel, fuse: Vec<OwnedFd>) -> Result<(), Failed> {
    let descriptors: Vec<_> = fuse.iter().map(AsFd::as_fd).collect();
    view.send_with(&FromLauncher::Mounts, &descriptors)
        .map_err(|_| failed("hand over views", "", libc::EPIPE))
}

/// The outer launcher: holds nothing, waits for PID 1, and takes it along if it dies.
fn stand_by(channel: &Channel, init: nix::unistd::Pid) -> Result<Infallible, Failed> {
    let pidfd = Pid::from_raw(init.as_raw())
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .at("pidfd")?;
    channel
        .send_with(&FromSession::Init, &[pidfd.as_fd()])
        .map_err(|_| failed("report", "", libc::EPIPE))?;
    drop(pidfd);
    // From here on this process owns no descriptor but 0, 1 and 2, drops none, and ends by `exit`.
    if sys::close_from_3().is_err() {
        exit(NOT_STARTED);
    }
    while let Err(nix::errno::Errno::EINTR) = waitpid(init, None) {}
    exit(0)
}

/// PID 1: the process table, the root, the job; then it gives up everything it does not need to wait.
fn session(
    channel: &Channel,
    view: Channel,
    plan: &Plan,
    root: OwnedFd,
) -> Result<Infallible, Failed> {
    set_parent_process_death_signal(Some(Signal::KILL)).at("parent")?;
    proc::mount(&root)?;
    mounts::enter(root)?;
    namespaces::allow_one_more_user()?;
    let signals = reaper::signals()?;
    match sys::fork().at("fork")? {
        Fork::Child => {
            drop(signals);
            sys::reset_signals().at("signals")?;
            job(channel, &view, plan)
        }
        Fork::Parent(job) => {
            drop(view);
            set_dumpable_behavior(DumpableBehavior::NotDumpable).at("dumpable")?;
            capabilities::drop_all()?;
            seccomp::load(&plan.init_filter)?;
            reaper::wait(job, &signals, channel)?;
            exit(0)
        }
    }
}

/// The job: the second user namespace, no capabilities, limits; then, once the views are served, Landlock, seccomp, and the command.
fn job(channel: &Channel, view: &Channel, plan: &Plan) -> Result<Infallible, Failed> {
    setsid().at("session")?;
    namespaces::enter_second_user()?;
    capabilities::drop_for_good()?;
    limits::apply(&plan.limits)?;
    let work = Work::receive(view)?;
    chdir(work.directory()?.as_c_str()).at("directory")?;
    if let Some(rules) = &plan.landlock {
        landlock::apply(rules)?;
    }
    sys::close_on_exec_from_3().at("descriptors")?;
    if let Some(filters) = &plan.filters {
        // Who holds what listens could let calls go on: it is given away before anything of the job's runs.
        let listener = seccomp::apply_and_listen(filters)?;
        let listener: Vec<_> = listener.iter().map(AsFd::as_fd).collect();
        let told = channel.send_with(&FromSession::Listen, &listener);
        told.map_err(|_| failed("report", "", libc::EPIPE))?;
    }
    let report = verify::verify(plan)?;
    match work {
        Work::One(command) => {
            files::write(plan, &command.files)?;
            tell(channel, &FromSession::Enforced(report))?;
            command.execute()
        }
        Work::InTurn(sitting) => {
            tell(channel, &FromSession::Enforced(report))?;
            turns::run(plan, view, channel, &sitting)
        }
    }
}

fn tell(channel: &Channel, message: &FromSession) -> Result<(), Failed> {
    channel
        .send(message)
        .map_err(|_| failed("report", "", libc::EPIPE))
}

/// What the session does.
enum Work {
    One(Command),
    InTurn(Sitting),
}

impl Work {
    /// Waits for the view server's word, and takes its two descriptors as standard output and error.
    fn receive(view: &Channel) -> Result<Self, Failed> {
        let incoming = view
            .expect::<ToLauncher>()
            .map_err(|_| failed("command", "", libc::EPIPE))?;
        let (message, [stdout, stderr]) = incoming.exactly().map_err(|_| turns::malformed())?;
        if let ToLauncher::Run {
            interactive: true, ..
        } = message
        {
            dup2_stdin(&stdout).at("standard input")?;
            // Of a socket there is no terminal to be had.
            let _ = ioctl_tiocsctty(&stdout);
        }
        dup2_stdout(stdout).at("standard output")?;
        dup2_stderr(stderr).at("standard error")?;
        match message {
            ToLauncher::Run {
                command,
                directory,
                env,
                files,
                interactive: _,
            } => Command::new(command, &directory, env, files).map(Self::One),
            ToLauncher::Sit {
                directory,
                env,
                around,
            } => Ok(Self::InTurn(Sitting {
                directory,
                env,
                around,
            })),
            ToLauncher::Act(_) | ToLauncher::Leave => Err(turns::malformed()),
        }
    }

    fn directory(&self) -> Result<CString, Failed> {
        match self {
            Self::One(command) => Ok(command.directory.clone()),
            Self::InTurn(sitting) => {
                CString::new(sitting.directory.clone()).map_err(|_| turns::malformed())
            }
        }
    }
}

/// The command, as `execve` takes it.
pub(crate) struct Command {
    /// Where to look for the program, in order.
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    directory: CString,
    /// What must be in the session's private home first.
    files: Vec<SessionFile>,
}

impl Command {
    pub(crate) fn new(
        command: Vec<Vec<u8>>,
        directory: &[u8],
        env: Vec<(Vec<u8>, Vec<u8>)>,
        files: Vec<SessionFile>,
    ) -> Result<Self, Failed> {
        let malformed = turns::malformed;
        let c = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| malformed());
        let path = env
            .iter()
            .find(|(name, _)| name == b"PATH")
            .map_or(&b""[..], |(_, value)| value);
        let program = command
            .first()
            .filter(|program| !program.is_empty())
            .ok_or_else(malformed)?;
        let candidates = if program.contains(&b'/') {
            vec![c(program.clone())?]
        } else {
            path.split(|byte| *byte == b':')
                .filter(|place| place.starts_with(b"/"))
                .map(|place| c([place, b"/", program].concat()))
                .collect::<Result<_, _>>()?
        };
        let environment = env
            .into_iter()
            .map(|(name, value)| c([&name[..], b"=", &value].concat()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            candidates,
            arguments: command.into_iter().map(c).collect::<Result<_, _>>()?,
            environment,
            directory: c(directory.to_vec())?,
            files,
        })
    }

    /// Becomes the command. The failure names no path: the program's name is the client's.
    pub(crate) fn execute(&self) -> Result<Infallible, Failed> {
        let mut worst = nix::errno::Errno::ENOENT;
        for program in &self.candidates {
            let Err(errno) = nix::unistd::execve(program, &self.arguments, &self.environment);
            // As execvp(3): go on looking, but remember that something was there.
            if errno != nix::errno::Errno::ENOENT && errno != nix::errno::Errno::ENOTDIR {
                worst = errno;
            }
        }
        Err(failed("exec", "", worst as i32))
    }
}
