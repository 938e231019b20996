//! The operator's side of a look: mounts with his own rights, shows the grant, proves that it is his, and takes the mount away at the end.
//!
//! The command returns when the job can be seen; a process of the operator's stays. If it ends, so does the look.

use std::{
    fs,
    io::Read,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
};

use safelight_bundle::{DebugGrant, Document};
use safelight_channel::Channel;
use safelight_policies::id::TaskId;
use safelight_seal::random::SystemRandom;
use serde::{Deserialize, Serialize};

use super::{FromSite, Seen, ToSite, connect};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs, mounting, process, run,
    state::State,
    terminal,
    warden::{LookRequest, OPERATOR_CONTEXT},
};

/// The hidden command of the process that stays.
pub(crate) const COMMAND: &str = "__operator";

/// Where a site that root serves has its state.
pub(crate) const SITE: &str = "/var/lib/safelight";

/// What is to be mounted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Wish {
    /// The signed grant.
    pub(crate) grant: Vec<u8>,
    /// The job, as it was called.
    pub(crate) job: String,
    /// Only this task's.
    pub(crate) task: Option<TaskId>,
    /// What of it.
    pub(crate) seen: Seen,
    /// Where.
    pub(crate) directory: PathBuf,
    /// The state directory of the site that is asked.
    pub(crate) site: PathBuf,
    /// The operator's own, with his key.
    pub(crate) state: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Mounted { what: String },
    Failed { message: String, denied: bool },
}

/// Reads a grant's file, as far as a grant goes.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(
            Kind::User,
            format!("cannot read the grant {}: {error}", path.display()),
        )
    };
    let file = fs::File::open(path).map_err(cannot)?;
    let most = DebugGrant::BYTES_MAX as u64 + 1024;
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > most {
        let message = format!("{} is longer than a grant", path.display());
        return Err(Failure::new(Kind::User, message));
    }
    Ok(bytes)
}

/// Has the job mounted by a process that stays. Answers when it can be seen.
pub(crate) fn mount(wish: &Wish) -> Result<(), Failure> {
    let process = process::start(COMMAND, &[], None, None)?;
    process.channel.send(wish).or_fail(Kind::Internal)?;
    match process
        .channel
        .expect::<Said>()
        .or_fail(Kind::Internal)?
        .message
    {
        Said::Mounted { what } => {
            let at = wish.directory.display();
            terminal::say(format!("{what}; read-only at {at}"));
            terminal::say(format!("unmount with: fusermount3 -u {at}"));
            Ok(())
        }
        Said::Failed { message, denied } => Err(Failure::new(
            match denied {
                true => Kind::Denied,
                false => Kind::Environment,
            },
            message,
        )),
    }
}

/// The process that stays.
pub(crate) fn main() -> ExitCode {
    let (Ok(parent), Ok(_)) = (Channel::to_parent(), safelight_seal::harden::harden()) else {
        return ExitCode::FAILURE;
    };
    if run::stay_on_hang_up().is_err() {
        return ExitCode::FAILURE;
    }
    let looked = parent
        .expect::<Wish>()
        .or_fail(Kind::Internal)
        .and_then(|wish| look(&parent, &wish.message));
    match looked {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (message, denied) = (failure.message(), failure.kind() == Kind::Denied);
            let _ = parent.send(&Said::Failed { message, denied });
            ExitCode::FAILURE
        }
    }
}

fn look(parent: &Channel, wish: &Wish) -> Result<(), Failure> {
    let state = State::open(Some(&wish.state))?;
    if !state.identity().exists() {
        let message = format!(
            "no key in {}: a grant names its operator's",
            state.root().display()
        );
        return Err(Failure::new(Kind::User, message)
            .hint("safelight key new, and give the client what safelight key show prints"));
    }
    let secret = jobs::client_secret(&state, &SystemRandom::new())?;
    let site = connect(&wish.site)?;
    let device = mounting::mount_at(&wish.directory)?;
    let asked = site.send_with(
        &ToSite::Look {
            grant: wish.grant.clone(),
            job: wish.job.clone(),
            task: wish.task,
            seen: wish.seen,
        },
        &[device.as_fd()],
    );
    // Whoever holds the other end of the mount, it is not us: with the site's process it is gone.
    drop(device);
    let shown = asked.or_fail(Kind::Environment).and_then(|()| {
        let sign = move |message: &[u8]| secret.sign.sign(OPERATOR_CONTEXT, message);
        converse(parent, &site, wish, sign)
    });
    mounting::unmount(&wish.directory);
    shown
}

/// Answers the site until the look is over. It signs once, and from then on the operator's key is not here any more.
fn converse(
    parent: &Channel,
    site: &Channel,
    wish: &Wish,
    sign: impl FnOnce(&[u8]) -> [u8; 64],
) -> Result<(), Failure> {
    let (mut shown, mut sign) = (false, Some(sign));
    loop {
        let said = match site.recv::<FromSite>() {
            Ok(Some(said)) => said.message,
            _ if shown => return Ok(()),
            _ => {
                let message = "the site went away before it showed anything";
                return Err(Failure::new(Kind::Environment, message));
            }
        };
        match said {
            FromSite::Sign { view_key, session } => {
                let message = LookRequest::message(&wish.grant, &view_key, session);
                let sign = sign.take().ok_or_else(|| {
                    let message = "the site wants a second signature, and gets none";
                    Failure::new(Kind::Denied, message)
                })?;
                let signed = ToSite::Signed(sign(&message).to_vec());
                site.send(&signed).or_fail(Kind::Environment)?;
            }
            FromSite::Shown { what, .. } => {
                shown = true;
                let _ = parent.send(&Said::Mounted { what });
            }
            FromSite::Refused { reason, denied } => {
                let kind = match denied {
                    true => Kind::Denied,
                    false => Kind::Environment,
                };
                return Err(Failure::new(kind, format!("the site refuses: {reason}")));
            }
            FromSite::Over { .. } => return Ok(()),
        }
    }
}
