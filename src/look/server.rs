//! The process that shows a job by a grant: a user of its own, a key that reads and signs nothing, a log, and the operator's mount.
//!
//! It ends when its parent does, when its time is over, or when the mount is gone; with it the mount shows nothing any more.

use std::{
    os::fd::OwnedFd,
    process::ExitCode,
    sync::{Arc, mpsc},
    time::Duration,
};

use safelight_audit::Recorder;
use safelight_bundle::Envelope;
use safelight_channel::Channel;
use safelight_policies::id::{JobId, KemKey, SessionId, VerifyKey};
use safelight_seal::{
    identity::KemSecret,
    job_key::{ReadKey, Stanza},
    random::SystemRandom,
};
use safelight_vfs::{area::Area, content::Store, lower::Segments, server::sealed_log::SealedLog};
use serde::{Deserialize, Serialize};

use crate::{
    commands::view::Layers,
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    opened, process,
};

/// Bytes of records that a look may put on its log: its log travels home as one object.
const RECORDS: u64 = 64 << 20;

/// What to show.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The job.
    pub(crate) job: JobId,
    /// The look's own session.
    pub(crate) session: SessionId,
    /// The job's client, who signed the envelope.
    pub(crate) client: VerifyKey,
    /// To whom files belong in the mount: the operator, by user and group.
    pub(crate) owner: (u32, u32),
}

/// What the site says to the process, in this order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToServer {
    /// Comes first, with three descriptors: the client's area, the mount, the channel to the audit writer.
    Show(Order),
    /// A piece of the signed envelope.
    Envelope(Vec<u8>),
    /// What is shown over the inputs, some at a time.
    Over(Vec<Left>),
    /// That is all: the key, and for how many seconds.
    Key {
        /// Wrapped to this process's own key.
        stanza: Stanza,
        /// When they are over, so is the look.
        seconds: u64,
    },
}

/// What the process says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromServer {
    /// Who it is.
    Asks { key: KemKey },
    /// It serves.
    Shown,
    /// It cannot. The reason names no file of the client's.
    Failed { reason: String },
}

/// The process's main function. The channel to the site is standard input.
pub(crate) fn main() -> ExitCode {
    let (Ok(parent), Ok(_)) = (Channel::to_parent(), safelight_seal::harden::harden()) else {
        return ExitCode::FAILURE;
    };
    match show(parent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("a look failed: {}", failure.message());
            ExitCode::FAILURE
        }
    }
}

fn show(parent: Channel) -> Result<(), Failure> {
    let first = parent.expect::<ToServer>().or_fail(Kind::Internal)?;
    let (first, [area, device, audit]) = first.exactly::<3>().or_fail(Kind::Internal)?;
    let ToServer::Show(order) = first else {
        return Err(out_of_turn());
    };
    let ephemeral = KemSecret::generate(&SystemRandom::new()).or_fail(Kind::Internal)?;
    let key = ephemeral.public();
    parent
        .send(&FromServer::Asks { key })
        .or_fail(Kind::Internal)?;
    let (mut envelope, mut over) = (Vec::new(), Vec::new());
    let (stanza, seconds) = loop {
        match parent.expect::<ToServer>().or_fail(Kind::Internal)?.message {
            ToServer::Envelope(piece) => envelope.extend(piece),
            ToServer::Over(lefts) => over.extend(lefts),
            ToServer::Key { stanza, seconds } => break (stanza, seconds),
            ToServer::Show(_) => return Err(out_of_turn()),
        }
    };
    let view = ReadKey::unwrap(&stanza, &ephemeral, order.job)
        .or_fail(Kind::Denied)
        .and_then(|key| view(&order, &key, &envelope, &over, area, audit));
    drop(ephemeral);
    match view {
        Ok(view) => {
            parent.send(&FromServer::Shown).or_fail(Kind::Internal)?;
            lifeline(parent, Duration::from_secs(seconds))?;
            safelight_vfs::serve(Arc::new(view), device, 2).or_fail(Kind::Environment)
        }
        Err(failure) => {
            let reason = failure.message();
            let _ = parent.send(&FromServer::Failed { reason });
            Err(failure)
        }
    }
}

/// Everything that is to be seen, read-only, each access on the log.
fn view(
    order: &Order,
    key: &ReadKey,
    envelope: &[u8],
    over: &[Left],
    area: OwnedFd,
    audit: OwnedFd,
) -> Result<safelight_vfs::view::View, Failure> {
    let envelope: Envelope = jobs::verify(envelope, order.job, &order.client)?;
    let area = Area::held(area);
    let mut manifests = vec![opened::inputs(&area, &envelope, key)?];
    for left in over {
        manifests.push(opened::results(&area, &envelope, key, left)?);
    }
    let layers = Layers::of(order.job, manifests, false)?;
    let (tell, _) = mpsc::channel();
    let log = SealedLog::new(
        Recorder::new(Channel::from(audit)).or_fail(Kind::Environment)?,
        key.audit_key(order.session),
        (order.session, RECORDS),
        tell,
        process::now,
    );
    let store = Arc::new(Store::new(Segments::new(area), None));
    layers.view(store, Arc::new(log), order.owner)
}

/// Ends the process when the parent hangs up or time is over, whatever else it does. Who holds a file open then holds nothing.
fn lifeline(parent: Channel, limit: Duration) -> Result<(), Failure> {
    let begun = std::time::Instant::now();
    let watch = move || {
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() || parent.set_timeouts(None, Some(left)).is_err() {
                break;
            }
            // Nothing is to be said any more: whatever comes is the end, but for time that passes.
            match parent.recv::<ToServer>() {
                Err(safelight_channel::Error::Late) => {}
                _ => break,
            }
        }
        std::process::exit(0);
    };
    let thread = std::thread::Builder::new().name("lifeline".to_owned());
    thread.spawn(watch).or_fail(Kind::Environment).map(drop)
}

fn out_of_turn() -> Failure {
    Failure::new(
        Kind::Internal,
        "the process that shows a job was spoken to out of turn",
    )
}
