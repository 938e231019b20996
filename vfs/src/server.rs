//! The view server: the one process outside the session that can read a job, for as long as a lease lasts.
//!
//! The story, top to bottom: harden, take the order, ask for the key with a key of our own, open manifest and recipe, take the mounts
//! from the launcher, serve, hand over the command, wait for the end, seal, answer. A lifeline runs beside it: when the agent goes away
//! or the lease ends, the process ends at once, and with it the connection, the keys and the upper. Nothing of the upper can be read
//! after that, so an attempt that did not finish never happened.

mod ancestry;
mod lifeline;
pub mod sealed_log;
mod serving;
mod turns;

use std::{
    os::fd::OwnedFd,
    process::ExitCode,
    sync::{Arc, mpsc},
    time::Duration,
};

use safelight_audit::Recorder;
use safelight_channel::Channel;
use safelight_policies::{cause::Cause, id::VerifyKey};
use safelight_seal::{
    blob::Purpose,
    identity::KemSecret,
    job_key::{JobKey, TO_VIEW},
    manifest::{Kind, Opened},
    random::Random,
};

use self::{lifeline::Lifeline, sealed_log::SealedLog, serving::Serving, turns::Turns};
use crate::{
    area::Area,
    protocol::{FromView, Order, Sealed, ToView},
    session::{Expand, FromLauncher, SessionFile, Task},
    view::Clock,
};

/// How long the kernel may take to let go of a mount whose processes are gone.
const LET_GO: Duration = Duration::from_secs(20);

/// Why a session cannot be served. The text is for the operator: it names no file of the client's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A process we depend on is gone or does not make sense.
    #[error("the view server's channel failed")]
    Channel {
        /// Why.
        #[from]
        source: safelight_channel::Error,
    },
    /// Nothing can be opened or sealed.
    #[error("the job cannot be opened")]
    Seal {
        /// Why.
        #[from]
        source: safelight_seal::Error,
    },
    /// The area fails.
    #[error("the secure area failed")]
    Area {
        /// Why.
        #[from]
        source: crate::area::Error,
    },
    /// The recipe is not one.
    #[error("the recipe is not valid")]
    Recipe,
    /// A grant's rules do not compile.
    #[error("the grant's rules are not valid")]
    Rules {
        /// Why.
        #[from]
        source: safelight_policies::central::BadRule,
    },
    /// The audit log does not take records.
    #[error("the audit log failed")]
    Audit {
        /// Why.
        #[from]
        source: safelight_audit::Error,
    },
    /// The outputs cannot be sealed.
    #[error("the outputs cannot be sealed")]
    Commit {
        /// Why.
        #[from]
        source: crate::commit::Error,
    },
    /// What a failure is known by is not valid.
    #[error("the expressions that failures are known by are not valid")]
    Lacks {
        /// Why.
        #[from]
        source: crate::heard::Unfit,
    },
    /// A layer contradicts itself.
    #[error("the input manifest does not fit the order")]
    Unfit {
        /// Why.
        #[from]
        source: crate::view::Unfit,
    },
    /// The order names a central path that the manifest does not have or too many layers, or a message is none.
    #[error("the input manifest does not fit the order")]
    DoesNotFit,
    /// The system refuses something.
    #[error("cannot {what}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel did not let go of a mount in time.
    #[error("a view is still in use after the session's end")]
    StillInUse,
}

impl Error {
    /// What the end of the attempt is put down to.
    fn cause(&self) -> Cause {
        match self {
            Self::Seal { .. } | Self::Recipe | Self::Unfit { .. } => Cause::NotAuthentic,
            Self::Area { source } if source.is_not_authentic() => Cause::NotAuthentic,
            Self::Commit {
                source: crate::commit::Error::NotAuthentic { .. },
            } => Cause::NotAuthentic,
            Self::Commit { .. } => Cause::Poisoned,
            Self::Audit { .. } => Cause::AuditLost,
            _ => Cause::ViewLost,
        }
    }
}

/// The process's main function. The channel to the agent is standard input.
pub fn main(random: &dyn Random, clock: Clock, expand: Expand) -> ExitCode {
    crate::fuse::end_rather_than_hang();
    let (Ok(parent), Ok(_)) = (Channel::to_parent(), safelight_seal::harden::harden()) else {
        return ExitCode::FAILURE;
    };
    match story(&parent, random, clock, expand) {
        Ok(sealed) => match parent.send(&FromView::Sealed(sealed)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            let _ = parent.send(&FromView::Refused {
                cause: error.cause(),
                reason: chain(&error),
            });
            ExitCode::FAILURE
        }
    }
}

fn story(
    parent: &Channel,
    random: &dyn Random,
    clock: Clock,
    expand: Expand,
) -> Result<Sealed, Error> {
    let (order, [audit, launcher, stdout, stderr, area, attempt]) =
        Order::receive(parent)?.ok_or(Error::DoesNotFit)?;
    let ephemeral = KemSecret::generate(random)?;
    parent.send(&FromView::Asks {
        key: ephemeral.public(),
    })?;
    let ToView::Key { stanza } = parent.expect()?.message else {
        return Err(Error::DoesNotFit);
    };
    let key = JobKey::unwrap(&stanza, &ephemeral, TO_VIEW, order.job)?;
    drop(ephemeral);
    let lifeline = Lifeline::watch(parent, order.deadline, clock)?;

    let area = Area::held(area);
    let attempt = Area::held(attempt);
    let layers = layers(&order, &area, &key)?;
    let recipe = key.open_blob(
        Purpose::Recipe,
        order.job.as_bytes(),
        &area.read(order.recipe)?,
    )?;
    let tasks = tasks(expand, recipe.into(), &order)?;
    let (troubles, trouble) = mpsc::channel();
    let log = Arc::new(SealedLog::new(
        Recorder::new(Channel::from(audit))?,
        key.audit_key(order.session),
        (order.session, order.records),
        troubles,
        clock,
    ));
    let mut serving =
        Serving::prepare(&order, &layers, area, &attempt, log.clone(), random, clock)?;
    // The views have what they show.
    drop(layers);
    parent.send(&FromView::Ready)?;

    let launcher = Channel::from(launcher);
    serving.start(mounts(&launcher, order.central.len())?)?;
    let given = serving.hand_over(launcher, &order, tasks, [stdout, stderr])?;
    parent.send(&FromView::Serving)?;

    let cause = wait(parent, &lifeline, &trouble)?;
    let poisoned = serving.finish(LET_GO)?;
    let cause = spoiled(cause, poisoned);
    let cause = if cause.is_success() {
        serving.expected(&given, &log)?.unwrap_or(cause)
    } else {
        serving.told(cause)
    };
    let sealed = serving.seal(&order, &key, &attempt, cause, random)?;
    log.sync()?;
    Ok(sealed)
}

/// The cause of an end after which what was written may be spoiled.
fn spoiled(cause: Cause, poisoned: Option<Cause>) -> Cause {
    match cause {
        // Why what was written is spoiled says more than that it is.
        Cause::NotAuthentic | Cause::AuditLost | Cause::Flooded => cause,
        _ => poisoned.unwrap_or(cause),
    }
}

/// The inputs, and above them the results of earlier tasks, lowest first: each as it was signed, or none at all.
fn layers(order: &Order, area: &Area, key: &JobKey) -> Result<Vec<Opened>, Error> {
    let open = |object, kind: &Kind, by: &VerifyKey| -> Result<Opened, Error> {
        let sealed = area.read(object)?;
        Ok(Opened::open(sealed, key, order.job, kind, by)?)
    };
    let attest = key.attest_key().public();
    let mut layers = Vec::with_capacity(1 + order.layers.len());
    layers.push(open(order.inputs, &Kind::Inputs, &order.client)?);
    for layer in &order.layers {
        let kind = Kind::Result {
            session: layer.session,
            attempt: layer.attempt,
            fence: layer.fence,
        };
        layers.push(open(layer.manifest, &kind, &attest)?);
    }
    Ok(layers)
}

/// What the session runs.
enum Tasks {
    /// The only command of its only task.
    One(Box<Task>),
    /// One action after the other.
    InTurn(Turns),
}

/// The tasks of the order, of which at least the first can be made.
fn tasks(
    expand: Expand,
    recipe: zeroize::Zeroizing<Vec<u8>>,
    order: &Order,
) -> Result<Tasks, Error> {
    let around = (expand.around)(&recipe, order.task.step).ok_or(Error::Recipe)?;
    // Who looks around in a session instead of its task runs nothing else in it.
    match around.filter(|_| order.instead.is_empty()) {
        None => {
            let task = (expand.task)(&recipe, order.task, 1)
                .filter(|task| order.tasks == 1 && may_set(task, &order.env_pass))
                .filter(|task| SessionFile::are_fit(&task.files));
            Ok(Tasks::One(Box::new(task.ok_or(Error::Recipe)?)))
        }
        Some(around) => Turns::new(expand, recipe, around, order)
            .map(Tasks::InTurn)
            .ok_or(Error::Recipe),
    }
}

/// A job sets only variables that the policy lets pass.
fn may_set(task: &Task, pass: &[String]) -> bool {
    task.env
        .iter()
        .all(|(name, _)| pass.iter().any(|allowed| allowed.as_bytes() == name))
}

fn mounts(launcher: &Channel, count: usize) -> Result<Vec<OwnedFd>, Error> {
    let incoming = launcher.expect::<FromLauncher>()?;
    if incoming.message == FromLauncher::Mounts && incoming.descriptors.len() == count {
        Ok(incoming.descriptors)
    } else {
        Err(Error::DoesNotFit)
    }
}

/// Waits until the agent says that the session is over, passing on what the session must be ended for.
fn wait(
    parent: &Channel,
    lifeline: &Lifeline,
    trouble: &mpsc::Receiver<Cause>,
) -> Result<Cause, Error> {
    let mut worst = None;
    loop {
        if let Ok(cause) = trouble.try_recv() {
            if worst.is_none() {
                parent.send(&FromView::Trouble {
                    cause: cause.clone(),
                })?;
            }
            worst.get_or_insert(cause);
        }
        if let Some(cause) = lifeline.ended(Duration::from_millis(20)) {
            // Trouble that came with the last request is still trouble.
            let last = trouble.try_recv().ok();
            return Ok(worst.or(last).unwrap_or(cause));
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
