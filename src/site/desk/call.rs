//! A node's calls, answered one by one.

use safelight_audit::Source;
use safelight_bundle::BlobList;
use safelight_policies::{
    cause::Cause,
    event::Control,
    id::{JobId, NodeName, SessionId},
    lease::Lease,
};
use safelight_scheduler::{Ask, AttemptEntry, AttemptState, Error, Next, Place, Settlement};

use super::{Desk, standing, work};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    node::protocol::{ASKS_MAX, Answer, Call, Ended, Often},
    process,
    run::{AuditWriter, KeyWarden},
    state::{LogOf, State},
    store::Store,
    warden::{self, Request},
};

/// The most letters of a step's name: 100 bytes, whatever the letters are.
const STEP_CHARS: usize = 25;

/// Answers a call of an enrolled node.
pub(super) async fn answer(desk: &Desk, node: &NodeName, call: Call) -> Result<Answer, Failure> {
    let now = process::now_seconds();
    match call {
        Call::Register(spec) => {
            let enrolled = warden::enrolled_node(&desk.state, node)?;
            if spec.name != *node || enrolled != Some(spec.key) {
                return Ok(refused("it registers another node than itself"));
            }
            match desk.ledger.register_node(&spec, now).await {
                Ok(()) => {}
                // The node's people can do something about these two.
                Err(error @ (Error::NodeKey { .. } | Error::OutOfRange { .. })) => {
                    return Ok(refused(error));
                }
                Err(error) => return Err(Failure::from_error(Kind::Environment, &error)),
            }
            tracing::info!("node {node} is here with {} slots", spec.slots.len());
            Ok(Answer::Registered {
                beat: desk.config.beat,
                lease: desk.config.lease,
                often: Often {
                    seconds: desk.config.checkpoint,
                    records: desk.config.checkpoint_records,
                },
            })
        }
        Call::Beat { held } => {
            let ttl = desk.config.lease;
            let pulse = desk.ledger.heartbeat(node, &held, now, ttl).await;
            Ok(Answer::Pulse(pulse.or_fail(Kind::Environment)?))
        }
        Call::Next { asks } => next(desk, node, &asks, now).await,
        Call::Release { session, request } => release(desk, node, session, request).await,
        Call::Ended(ended) => settle(desk, node, *ended, now).await,
        Call::Standing(said) => standing::note(desk, node, said, now).await,
        Call::Leave => {
            desk.ledger
                .leave_node(node, now)
                .await
                .or_fail(Kind::Environment)?;
            tracing::info!("node {node} left");
            Ok(Answer::Left)
        }
    }
}

pub(super) fn refused(reason: impl ToString) -> Answer {
    Answer::Refused {
        reason: reason.to_string(),
    }
}

async fn next(
    desk: &Desk,
    node: &NodeName,
    asks: &[(safelight_policies::id::SlotIndex, SessionId)],
    now: u64,
) -> Result<Answer, Failure> {
    // Each is several questions to the ledger, which answers nobody else meanwhile.
    if asks.len() > ASKS_MAX {
        return Ok(refused(format!(
            "no more than {ASKS_MAX} slots ask at once"
        )));
    }
    let asks: Vec<Ask> = asks
        .iter()
        .map(|(slot, session)| Ask {
            place: Place {
                node: node.clone(),
                slot: *slot,
            },
            session: *session,
        })
        .collect();
    let answers = desk
        .ledger
        .next_for(&asks, now, desk.config.lease)
        .await
        .or_fail(Kind::Environment)?;
    let mut given = Vec::new();
    for answer in answers {
        let Next::Leased(lease) = answer else {
            continue;
        };
        let session = lease.ask.session;
        match work::of(desk, &lease, now).await {
            Ok(work) => given.push(work),
            // A job whose files are damaged must not hold a slot.
            Err(failure) => {
                tracing::error!("{}: {}", lease.outline.job, failure.message());
                let damaged = Cause::NotStarted {
                    step: "job files".to_owned(),
                    errno: 0,
                };
                let cause = failure.cause().unwrap_or(&damaged);
                // Nor may it keep the others from theirs. If it cannot be ended, its lease runs out.
                let end = desk.ledger.end(session, cause, None, now).await;
                if let Err(failure) = end.or_fail(Kind::Environment) {
                    tracing::error!("{session}: {}", failure.message());
                }
            }
        }
    }
    Ok(Answer::Work(given))
}

/// The attempt of a session, if it is this node's.
pub(super) async fn attempt(
    desk: &Desk,
    node: &NodeName,
    session: SessionId,
) -> Result<Option<(JobId, AttemptEntry)>, Failure> {
    let found = desk.ledger.attempt_of(session).await;
    let found = found.or_fail(Kind::Environment)?;
    Ok(found.filter(|(_, attempt)| attempt.place.node == *node))
}

/// Passes a request on to the warden, with a log of its own for what the warden does about it.
async fn release(
    desk: &Desk,
    node: &NodeName,
    session: SessionId,
    request: Request,
) -> Result<Answer, Failure> {
    let Some((job, entry)) = attempt(desk, node, session).await? else {
        return Ok(refused("no such session of this node"));
    };
    if entry.state != AttemptState::Running {
        return Ok(refused("the session's lease is over"));
    }
    // The log that the release is put on is this session's; the warden judges the rest.
    let lease = safelight_bundle::open::<Lease>(&request.lease, &desk.schedule.public());
    if !lease.is_ok_and(|lease| lease.session == session) {
        return Ok(refused("the lease is not the session's"));
    }
    let Some(_turn) = desk.guard.release(session).await else {
        return Ok(refused("the session asked for its key too often"));
    };
    let job = desk.ledger.job(&job.to_string()).await;
    let job = job.or_fail(Kind::Environment)?;
    let state = desk.state.clone();
    let ask = warden::Ask::Release(request);
    let release = move || {
        let log = (&job.outline.client, job.id(), LogOf::Release(session));
        let (audit, mut channels) =
            AuditWriter::start(&state, log, Source::Agent, &[Source::Warden])?;
        audit.note(Control::Leased {
            session,
            task: entry.task,
            attempt: entry.attempt,
            fence: entry.fence.0,
            node: entry.place.node,
            slot: entry.place.slot,
        })?;
        let channel = channels
            .pop()
            .ok_or_else(|| Failure::new(Kind::Internal, "the audit writer has too few channels"))?;
        let warden = KeyWarden::start(&state, channel)?;
        let released = warden.release(&ask);
        warden.finish();
        audit.finish()?;
        match released {
            Ok(stanza) => Ok(Answer::Released { stanza }),
            Err(failure) if failure.kind() == Kind::Denied => Ok(refused(failure.message())),
            // A warden that died said nothing about the job: the attempt is lost, and the next one asks again.
            Err(failure) => Err(failure),
        }
    };
    tokio::task::spawn_blocking(release)
        .await
        .or_fail(Kind::Internal)?
}

/// Writes an end down: what was left first, so that it is there whatever the ledger says; then the ledger.
async fn settle(
    desk: &Desk,
    node: &NodeName,
    mut ended: Ended,
    now: u64,
) -> Result<Answer, Failure> {
    let session = ended.session;
    ended.cause = sayable(ended.cause);
    let Some((job, entry)) = attempt(desk, node, session).await? else {
        return Ok(refused("no such session of this node"));
    };
    if entry.fence != ended.fence {
        return Ok(refused("the session has another fence"));
    }
    let told = desk.ledger.job(&job.to_string()).await;
    let outline = told.or_fail(Kind::Environment)?.outline;
    if entry.state == AttemptState::Running {
        let (state, ended, entry) = (desk.state.clone(), ended.clone(), entry.clone());
        let keep = move || keep(&state, &outline.client, job, &entry, &ended, now);
        let kept = tokio::task::spawn_blocking(keep);
        if let Err(failure) = kept.await.or_fail(Kind::Internal)? {
            return Ok(refused(failure.message()));
        }
        desk.ledger
            .add_errand(crate::site::errand::RESULT, &session.to_string(), job, now)
            .await
            .or_fail(Kind::Environment)?;
    }
    let settled = match (&ended.cause, &ended.sealed) {
        (cause, Some(sealed)) if cause.is_success() => {
            let commit = desk
                .ledger
                .commit(session, ended.fence, sealed.manifest, None, now);
            commit.await.or_fail(Kind::Environment)?
        }
        (cause, _) => {
            let cause = if cause.is_success() {
                &Cause::NoOutput
            } else {
                cause
            };
            let end = desk.ledger.end(session, cause, None, now);
            end.await.or_fail(Kind::Environment)?
        }
    };
    Ok(match settled {
        Settlement::Accepted => Answer::Settled,
        // It asks again because our answer was lost.
        Settlement::Refused { .. } if repeated(&entry, &ended) => Answer::Settled,
        Settlement::Refused { reason } => refused(reason),
    })
}

/// A cause that a letter can hold: what a node calls the step that failed is shown to people, and may be anything.
fn sayable(cause: Cause) -> Cause {
    match cause {
        Cause::NotStarted { step, errno } => {
            let step = step.chars().filter(|it| !it.is_control());
            let step = step.take(STEP_CHARS).collect();
            Cause::NotStarted { step, errno }
        }
        cause => cause,
    }
}

/// True if the ledger has this very end already.
fn repeated(entry: &AttemptEntry, ended: &Ended) -> bool {
    match entry.state {
        AttemptState::Committed => {
            let manifest = ended.sealed.map(|sealed| sealed.manifest);
            ended.cause.is_success() && manifest == entry.result
        }
        AttemptState::Failed => !ended.cause.is_success(),
        AttemptState::Running | AttemptState::Superseded => false,
    }
}

/// A letter names at most 64 logs, of which one is the release's.
const PARTS_MAX: usize = 63;

/// Keeps what a session left: every object that it names must be here.
fn keep(
    state: &State,
    client: &safelight_policies::id::ClientAlias,
    job: JobId,
    entry: &AttemptEntry,
    ended: &Ended,
    now: u64,
) -> Result<(), Failure> {
    let store = Store::open(state, client)?;
    let mut objects = ended.objects.clone();
    // What the warden did for this session belongs to the client's log too.
    let release = state.audit_log(client, job, LogOf::Release(ended.session))?;
    if ended.audit.len() > PARTS_MAX {
        let message = format!("a log of {} parts is too long", ended.audit.len());
        return Err(Failure::new(Kind::User, message));
    }
    let mut audit = ended.audit.clone();
    if release.exists() {
        let bytes = jobs::read(&release)?;
        let len = u32::try_from(bytes.len()).or_fail(Kind::Internal)?;
        let object = store.put_bytes(&bytes)?;
        objects.push((object, len));
        audit.push(object);
    }
    let missing = |what: &str| Failure::new(Kind::User, format!("{what} is not here"));
    for (object, len) in &objects {
        if store.area().len(*object).or_fail(Kind::Environment)? != Some(u64::from(*len)) {
            return Err(missing(&format!("object {object}")));
        }
    }
    let list = BlobList::new(objects).or_fail(Kind::User)?;
    let sealed = ended
        .sealed
        .iter()
        .flat_map(|sealed| [sealed.manifest, sealed.log]);
    for named in sealed.chain(ended.audit.iter().copied()) {
        if !list.has(named) {
            return Err(missing(&format!("object {named}, which it does not list,")));
        }
    }
    let left = Left {
        task: entry.task,
        manifest: ended.sealed.map(|sealed| sealed.manifest),
        log: ended.sealed.map(|sealed| sealed.log),
        session: ended.session,
        attempt: entry.attempt,
        fence: entry.fence,
        cause: ended.cause.clone(),
        files: ended.sealed.map_or(0, |sealed| sealed.files),
        bytes: ended.sealed.map_or(0, |sealed| sealed.bytes),
        audit,
        list: Some(store.put_list(&list)?),
        site: None,
        at: now,
    };
    jobs::write_left(state, job, &left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_calls_a_step_fits_a_letter() {
        let cause = |step: &str| Cause::NotStarted {
            step: step.to_owned(),
            errno: 2,
        };
        assert_eq!(sayable(cause("mount")), cause("mount"));
        assert_eq!(sayable(cause("a\u{1b}[2J\nb")), cause("a[2Jb"));
        assert_eq!(
            sayable(cause(&"\u{1f600}".repeat(9_999))),
            cause(&"\u{1f600}".repeat(25))
        );
        assert_eq!(sayable(Cause::NoKey), Cause::NoKey);
    }
}
