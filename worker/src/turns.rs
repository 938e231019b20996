//! A session that runs actions in turn: it enters what stands around the tasks, runs the tasks, and leaves what it entered.
//!
//! This is the job's own process, behind every wall, where otherwise the command would be: it can do no more than the job can, and what it
//! says of an end is the job's word. It has one thread and waits in one place. What it is told by the view server is the only thing that it
//! runs; what the actions print is read for what an environment says of variables, and passed on.
//!
//! From the outside in on the way there, from the inside out on the way back: whatever was begun to be entered is left, whatever failed.

mod output;
mod wait;
mod words;

use std::{collections::BTreeMap, convert::Infallible, os::fd::OwnedFd, process::exit};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{DumpableBehavior, Pid, PidfdFlags, pidfd_open, set_dumpable_behavior, setpgid},
    stdio::{dup2_stderr, dup2_stdout},
};
use safelight_channel::Channel;
use safelight_policies::cause::Cause;
use safelight_vfs::session::{Action, Environment, FromLauncher, ToLauncher};

use self::{output::Output, wait::End, words::Change};
use crate::{
    launcher::Command,
    message::{Failed, FromSession},
    plan::Plan,
    sandbox::{At, failed, files},
    sys::{self, Fork},
};

/// The exit code of a program that could not be run, as shells have it.
const CANNOT_RUN: i32 = 127;

/// What the view server said of the session.
pub(crate) struct Sitting {
    /// The environment that everything begins with.
    pub(crate) env: Vec<(Vec<u8>, Vec<u8>)>,
    /// The working directory, which is where we are.
    pub(crate) directory: Vec<u8>,
    /// What stands around the tasks, the outermost first.
    pub(crate) around: Vec<Environment>,
}

/// Variables that one environment sets, or takes away.
type Layer = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

struct Conductor<'a> {
    plan: &'a Plan,
    view: &'a Channel,
    sitting: &'a Sitting,
    /// `SIGTERM`, which asks the session to end.
    asked: SignalFd,
    /// Said once: from then on nothing begins but what leaves.
    canceled: bool,
    output: Output,
    layers: Vec<Layer>,
}

/// Runs the session to its end, and ends.
pub(crate) fn run(
    plan: &Plan,
    view: &Channel,
    agent: &Channel,
    sitting: &Sitting,
) -> Result<Infallible, Failed> {
    // What it runs has the same user: it must not read or steer what holds our ends of the channels.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at("dumpable")?;
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.thread_block().at("signals")?;
    let asked =
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).at("signals")?;
    let mut conductor = Conductor {
        plan,
        view,
        sitting,
        asked,
        canceled: false,
        output: Output::default(),
        layers: Vec::new(),
    };
    let end = conductor.sit();
    conductor.output.finish();
    if let Some(cause) = end.cause() {
        // If the agent is gone there is nobody to tell.
        let _ = agent.send(&FromSession::Failing(cause));
    }
    exit(end.code())
}

impl Conductor<'_> {
    /// The session, and how it ends: by the first failure.
    fn sit(&mut self) -> End {
        let mut end = End::Done;
        for environment in &self.sitting.around {
            let variables = environment.variables.iter().cloned();
            let layer = variables.map(|(name, value)| (name, Some(value)));
            self.layers.push(layer.collect());
            if let Some(action) = &environment.enter {
                end = self.act(action, true);
            }
            if end != End::Done {
                break;
            }
        }
        if end == End::Done {
            end = self.tasks();
        }
        while let Some(environment) = self.layers.len().checked_sub(1) {
            if let Some(action) = &self.sitting.around[environment].exit {
                let left = self.act(action, false);
                if end == End::Done {
                    end = left;
                }
            }
            self.layers.pop();
        }
        end
    }

    /// One task after the other, until there is no other or one fails.
    fn tasks(&mut self) -> End {
        loop {
            if self.canceled {
                return End::Canceled;
            }
            let asked = self.view.send(&FromLauncher::Next);
            let told = asked.and_then(|()| self.view.expect::<ToLauncher>());
            match told.map(|incoming| incoming.message) {
                Ok(ToLauncher::Act(action)) => match self.act(&action, false) {
                    End::Done => {}
                    end => return end,
                },
                Ok(ToLauncher::Leave) => return End::Done,
                // Without the view server there is no view either.
                _ => return End::Exited(CANNOT_RUN),
            }
        }
    }

    /// Runs one action. What an environment says while it is entered is heard.
    fn act(&mut self, action: &Action, enters: bool) -> End {
        match self.start(action, enters) {
            Ok((pid, pidfd)) => {
                let limits = (action.timeout, action.notice);
                let process = wait::Process { pid, pidfd };
                let end = wait::wait(
                    &process,
                    limits,
                    (&self.asked, &mut self.canceled),
                    &mut self.output,
                );
                self.hear();
                end
            }
            Err(errno) => {
                self.output
                    .say(&format!("safelight: cannot run an action: {errno}\n"));
                End::Exited(CANNOT_RUN)
            }
        }
    }

    /// Starts an action in a process group of its own.
    fn start(
        &mut self,
        action: &Action,
        enters: bool,
    ) -> Result<(nix::unistd::Pid, OwnedFd), std::io::Error> {
        files::replace(self.plan, &action.files).map_err(errno)?;
        let command = Command::new(
            action.command.clone(),
            &self.sitting.directory,
            self.variables(),
            Vec::new(),
        )
        .map_err(errno)?;
        let (out, to_out) = pipe_with(PipeFlags::CLOEXEC)?;
        let (err, to_err) = pipe_with(PipeFlags::CLOEXEC)?;
        match sys::fork()? {
            Fork::Child => {
                let ready = || -> Result<(), std::io::Error> {
                    setpgid(None, None)?;
                    dup2_stdout(&to_out)?;
                    dup2_stderr(&to_err)?;
                    sys::reset_signals()
                };
                if ready().is_ok() {
                    let Err(why) = command.execute();
                    let why = std::io::Error::from_raw_os_error(why.errno);
                    let said = format!("safelight: cannot run the program: {why}\n");
                    let _ = rustix::io::write(rustix::stdio::stderr(), said.as_bytes());
                }
                exit(CANNOT_RUN)
            }
            Fork::Parent(pid) => {
                // Both of us do it: whoever is first, the group is there before it is needed.
                let _ = setpgid(Pid::from_raw(pid.as_raw()), None);
                let known = Pid::from_raw(pid.as_raw()).ok_or(rustix::io::Errno::SRCH)?;
                let pidfd = pidfd_open(known, PidfdFlags::empty())?;
                self.output.add(out, 1, enters)?;
                self.output.add(err, 2, false)?;
                Ok((pid, pidfd))
            }
        }
    }

    /// The environment at this depth.
    fn variables(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all: BTreeMap<_, _> = self.sitting.env.iter().cloned().collect();
        for (name, value) in self.layers.iter().flatten() {
            match value {
                Some(value) => all.insert(name.clone(), value.clone()),
                None => all.remove(name),
            };
        }
        all.into_iter().collect()
    }

    /// Takes what the innermost environment said of variables.
    fn hear(&mut self) {
        for change in self.output.heard() {
            let Some(layer) = self.layers.last_mut() else {
                continue;
            };
            match change {
                Change::Set { name, value } => layer.insert(name, Some(value)),
                Change::Unset { name } => layer.insert(name, None),
            };
        }
    }
}

fn errno(failed: Failed) -> std::io::Error {
    std::io::Error::from_raw_os_error(failed.errno)
}

impl End {
    /// What the agent is told besides the exit code.
    fn cause(&self) -> Option<Cause> {
        match *self {
            Self::TimedOut(seconds) => Some(Cause::TimedOut { seconds }),
            Self::Signaled(signal) => Some(Cause::Killed { signal }),
            Self::Done | Self::Exited(_) | Self::Canceled => None,
        }
    }

    fn code(&self) -> i32 {
        match *self {
            Self::Done => 0,
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
            Self::TimedOut(_) => 124,
            Self::Canceled => 143,
        }
    }
}

/// A message that is none in this place.
pub(crate) fn malformed() -> Failed {
    failed("command", "", libc::EINVAL)
}
