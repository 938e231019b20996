//! `safelight view shell`: a shell where a task stood, after the fact, with the same walls and the same denials.
//!
//! It is a session like the task's: the policy that the client signed, the task's directory, environment and files, the view at the
//! central paths with the same rules. Another command runs, on a terminal; what it writes goes into a layer that is thrown away; nothing
//! is sealed, nothing is committed, and the ledger hears of none of it. Every access is on a log of its own, as a look from outside.

use std::{
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use safelight_audit::Source;
use safelight_policies::{
    Grant,
    cause::Cause,
    event::Control,
    id::{Fence, JobId, SessionId, SlotIndex, TaskId},
    lease::{Lease, Wrapper},
    outline::Outline,
};
use safelight_seal::{job_key::TO_VIEW, random::SystemRandom};
use safelight_vfs::protocol::{LAYERS_MAX, Layer};

use super::{Which, exchange::Exchange};
use crate::{
    commands::chosen,
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left, Order},
    lacks::Lacks,
    opened::OpenedJob,
    policy_source, process, registers,
    results::{Wanted, task_name},
    run::{self, Attempt, AuditWriter, Recorded, Signals, duration},
    state::{LogOf, State},
    terminal,
};

/// Stand where a task stood: its sandbox, environment and view, with a shell in place of its command
///
/// What the shell writes is thrown away when it ends. It may do what the task might, and is refused what the task was refused.
#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    which: Which,
    /// The task: its step and its number in the step, like 0/12 [default: the first]
    #[arg(value_name = "TASK", value_parser = crate::results::parse_task)]
    of: Option<TaskId>,
    /// End after this time (90s, 15m, 2h, 1d)
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "1h")]
    limit: Duration,
    /// Run this in place of a shell
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Where a look stands.
struct Look<'a> {
    state: &'a State,
    opened: &'a OpenedJob,
    task: TaskId,
    session: SessionId,
    limit: Duration,
}

pub(super) fn run(arguments: &ShellArgs) -> Result<ExitCode, Failure> {
    safelight_seal::harden::harden().or_fail(Kind::Environment)?;
    let mut which = arguments.which.clone();
    if let Some(task) = arguments.of {
        which.task.set(task);
    }
    let shown = which.find()?;
    let (state, opened) = (&shown.state, OpenedJob::open(&shown.state, shown.job)?);
    let outline = &opened.envelope.outline;
    let first = TaskId { step: 0, task: 0 };
    let task = which.task.of(outline)?.unwrap_or(first);
    let look = Look {
        state,
        opened: &opened,
        task,
        session: run::draw_session()?,
        limit: arguments.limit,
    };
    let own: Vec<&Left> = shown
        .written
        .iter()
        .filter(|left| left.task == task)
        .collect();
    let layers = look.layers(&own)?;
    let command = command(&arguments.command);
    let cause = look.stand(layers, command, written(&own))?;
    look.conclude(&cause)
}

/// What the log says of what was shown.
fn written(own: &[&Left]) -> String {
    match own {
        [left, ..] => format!("with what attempt {} wrote", left.attempt),
        [] => "as it found it".to_owned(),
    }
}

fn command(words: &[String]) -> Vec<Vec<u8>> {
    if !words.is_empty() {
        return words.iter().map(|word| word.clone().into_bytes()).collect();
    }
    // The session has the host's own system directories.
    let shell: &[&str] = match Path::new("/bin/bash").exists() {
        true => &["/bin/bash", "--norc", "--noprofile"],
        false => &["/bin/sh"],
    };
    shell.iter().map(|word| word.as_bytes().to_vec()).collect()
}

impl Look<'_> {
    fn outline(&self) -> &Outline {
        &self.opened.envelope.outline
    }

    /// What the task found above the inputs, and over it what is to be shown of its own.
    fn layers(&self, own: &[&Left]) -> Result<Vec<Layer>, Failure> {
        let before = self.outline().steps_before(self.task.step);
        let results = chosen::results(self.state, self.opened.job())?;
        let earlier = results.choose(None, Wanted::Counting);
        let earlier = earlier
            .iter()
            .map(|it| &it.left)
            .filter(|left| before.contains(&left.task.step));
        let layer = |left: &Left| {
            left.manifest.map(|manifest| Layer {
                manifest,
                session: left.session,
                attempt: left.attempt,
                fence: left.fence,
            })
        };
        let layers: Vec<_> = earlier
            .chain(own.iter().copied())
            .filter_map(layer)
            .collect();
        if layers.len() > LAYERS_MAX {
            let message = "the steps before left more layers than a session may have";
            return Err(Failure::new(Kind::User, message).hint("safelight view mount JOB DIR"));
        }
        Ok(layers)
    }

    /// What the policy grants the task, if it is the policy that the client signed.
    fn grant(&self) -> Result<Grant, Failure> {
        let path = self.state.job(self.opened.job())?.join("order.json");
        let order: Order = serde_json::from_slice(&jobs::read(&path)?).or_fail(Kind::Config)?;
        let (catalogue, name) = policy_source::load(&order.policy)?;
        let policy = catalogue.resolve(&name).or_fail(Kind::Config)?;
        if policy.digest() != self.outline().policy_digest {
            let message = format!("the policy {name} is not the one that the job was sent with");
            return Err(Failure::new(Kind::Denied, message));
        }
        let grant = run::admit(&policy, self.outline(), self.task.step)?;
        run::check_host(&grant)?;
        Ok(grant)
    }

    /// Runs the command where the task stood. No record, no look.
    fn stand(
        &self,
        layers: Vec<Layer>,
        instead: Vec<Vec<u8>>,
        written: String,
    ) -> Result<Cause, Failure> {
        let grant = self.grant()?;
        let signals = Signals::hold()?;
        let slot = run::claim_slot(self.state)?;
        let outline = self.outline();
        let which = (&outline.client, outline.job, LogOf::Look(self.session));
        let sources = Recorded::sources(&[], Source::Debug, grant.terms());
        let (audit, mut others) = AuditWriter::start(self.state, which, Source::Debug, &sources)?;
        let recorded = Recorded::take(&mut others, grant.terms())?;
        audit.note(Control::DebugAccess {
            uid: nix::unistd::getuid().as_raw(),
            how: format!("shell of task {} {written}", task_name(self.task)),
        })?;
        audit.sync()?;
        let exchange = Exchange::begin()?;
        let [out, err] = exchange.inner();
        let lease = self.lease(slot.index)?;
        let attempt = Attempt {
            state: self.state,
            envelope: &self.opened.envelope,
            lease: &lease,
            layers,
            slot: &slot,
            audit: &audit,
            stop: &[(signals.watch(), Cause::Canceled)],
            shown: [out.as_fd(), err.as_fd()],
            lacks: &Lacks::shipped(),
            instead,
            wall: Some(self.limit),
            // At home nobody has to be asked: the key is the client's own.
            release: &|key| {
                let random = SystemRandom::new();
                let stanza = self.opened.key.wrap(&key, TO_VIEW, outline.job, &random);
                stanza.or_fail(Kind::Internal)
            },
        };
        let carried = exchange.carry()?;
        let ended = attempt.run(grant, recorded);
        carried.end();
        let directory = self.directory(outline.job, slot.index);
        let _ = directory.map(fs::remove_dir_all);
        let ended = ended?;
        audit.note(Control::Ended {
            session: self.session,
            cause: ended.cause.clone(),
        })?;
        audit.finish()?;
        registers::note(self.state, which.0, which.1, which.2)?;
        ended.failure.map_or(Ok(ended.cause), Err)
    }

    /// A lease that nobody signed: it is worth nothing but to name the session.
    fn lease(&self, slot: SlotIndex) -> Result<Lease, Failure> {
        let outline = self.outline();
        Ok(Lease {
            client: outline.client.clone(),
            job: outline.job,
            task: self.task,
            tasks: 1,
            attempt: 0,
            fence: Fence(0),
            session: self.session,
            node: run::own_node()?,
            node_key: self.opened.envelope.client_verify,
            slot,
            expires: process::now_seconds() + self.limit.as_secs() + run::LEASE_MARGIN,
            wrapper: Wrapper {
                policy: outline.policy.clone(),
                digest: outline.policy_digest,
            },
        })
    }

    fn directory(&self, job: JobId, slot: SlotIndex) -> Result<PathBuf, Failure> {
        self.state.session(job, self.session, slot.0)
    }

    /// A command's exit code is the person's own; anything else is said.
    fn conclude(&self, cause: &Cause) -> Result<ExitCode, Failure> {
        match cause {
            Cause::Exited { code } => Ok(ExitCode::from(*code)),
            Cause::TimedOut { seconds } => {
                terminal::say(format!("the look was over after {seconds} s"));
                Ok(ExitCode::SUCCESS)
            }
            other => {
                let job = self.opened.job();
                let message = format!("the shell where {job} stood ended: {other}");
                Err(Failure::new(Kind::JobFailed, message))
            }
        }
    }
}
