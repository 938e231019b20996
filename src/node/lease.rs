//! Whether a piece of work is ours to run: every reason why not, and nothing else. Pure.
//!
//! The lease must be signed by the schedule server that this node joined, for this node and its key, and for a session that it asked for.
//! What the client signed must be of the job that is leased, under the policy that is leased. Whether the client is one that the site
//! knows, the key warden says: a node believes no site in that, and knows no client.

use safelight_bundle::Envelope;
use safelight_policies::{
    id::{Fence, NodeName, SessionId, SlotIndex, VerifyKey},
    lease::Lease,
};
use safelight_vfs::protocol::LAYERS_MAX;

use super::protocol::Work;

/// What a node knows before it asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) schedule: &'a VerifyKey,
    pub(super) name: &'a NodeName,
    pub(super) key: &'a VerifyKey,
    /// The slots that asked, with the session of each.
    pub(super) asked: &'a [(SlotIndex, SessionId)],
    /// In seconds since 1970.
    pub(super) now: u64,
}

/// Why work is not ours. The messages name our rules and repeat nothing that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the lease is not signed by the schedule server that this node joined")]
    LeaseNotSigned,
    #[error("the lease is another node's")]
    OtherNode,
    #[error("the lease is for another key than this node's")]
    OtherKey,
    #[error("the lease has expired")]
    Expired,
    #[error("the lease is for a slot and a session that did not ask")]
    NotAsked,
    #[error("the envelope is not signed by the client that it names")]
    EnvelopeNotSigned,
    #[error("the envelope is of another job than the lease")]
    OtherJob,
    #[error("the envelope is of another client than the lease")]
    OtherClient,
    #[error("the job has no such task")]
    NoSuchTask,
    #[error("the lease orders another policy than the client signed")]
    PolicyDiffers,
    #[error("the steps before left more layers than a task may have")]
    TooManyLayers,
}

/// The lease and the envelope of work that is ours.
pub(super) fn verify(work: &Work, known: &Known<'_>) -> Result<(Lease, Envelope), Refusal> {
    let lease: Lease =
        safelight_bundle::open(&work.lease, known.schedule).map_err(|_| Refusal::LeaseNotSigned)?;
    ensure(lease.node == *known.name, Refusal::OtherNode)?;
    ensure(lease.node_key == *known.key, Refusal::OtherKey)?;
    ensure(known.now < lease.expires, Refusal::Expired)?;
    let asked = known.asked.contains(&(lease.slot, lease.session));
    ensure(asked, Refusal::NotAsked)?;
    let envelope: Envelope = safelight_bundle::claimed_signer(&work.envelope)
        .and_then(|client| safelight_bundle::open(&work.envelope, &client))
        .map_err(|_| Refusal::EnvelopeNotSigned)?;
    let outline = &envelope.outline;
    ensure(outline.job == lease.job, Refusal::OtherJob)?;
    ensure(outline.client == lease.client, Refusal::OtherClient)?;
    let step = outline.steps.get(lease.task.step as usize);
    ensure(
        step.is_some_and(|step| lease.end() <= step.tasks),
        Refusal::NoSuchTask,
    )?;
    let same =
        lease.wrapper.policy == outline.policy && lease.wrapper.digest == outline.policy_digest;
    ensure(same, Refusal::PolicyDiffers)?;
    ensure(work.layers.len() <= LAYERS_MAX, Refusal::TooManyLayers)?;
    Ok((lease, envelope))
}

/// What to call work that was refused when the site is told, if it is of a session that asked. Nothing else in it is believed.
pub(super) fn named(work: &Work, known: &Known<'_>) -> Option<(SessionId, Fence)> {
    let signer = safelight_bundle::claimed_signer(&work.lease).ok()?;
    let lease: Lease = safelight_bundle::open(&work.lease, &signer).ok()?;
    let mut asked = known.asked.iter();
    asked
        .any(|(_, session)| *session == lease.session)
        .then_some((lease.session, lease.fence))
}

fn ensure(holds: bool, refusal: Refusal) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(refusal) }
}

#[cfg(test)]
pub(super) mod tests;
