//! Whether a job's key may be released: every reason why not, and nothing else.
//!
//! Pure but for what it asks of [`Known`]. The lease is checked first, since it names the client and the node whose keys check the rest.

use safelight_bundle::{Envelope, SKEW};
use safelight_policies::{
    id::{ClientAlias, Fence, JobId, KemKey, NodeName, TaskId, VerifyKey},
    lease::Lease,
};
use safelight_seal::{identity, job_key::Stanza};

use super::{NODE_CONTEXT, Request, store};

/// What the warden knows.
pub(super) trait Known {
    /// The key that signs our prekeys: which site we are.
    fn site(&self) -> VerifyKey;
    /// The key of the schedule server, if one is enrolled.
    fn schedule(&self) -> Result<Option<VerifyKey>, store::Error>;
    /// The key of an enrolled client.
    fn client(&self, alias: &ClientAlias) -> Result<Option<VerifyKey>, store::Error>;
    /// The key of an enrolled node.
    fn node(&self, name: &NodeName) -> Result<Option<VerifyKey>, store::Error>;
    /// A prekey of ours.
    fn prekey(&self, id: &[u8; 16]) -> Result<Prekey, store::Error>;
    /// The newest fence under which a key was released for a task.
    fn released(&self, job: JobId, task: TaskId) -> Result<Option<Fence>, store::Error>;
}

/// What became of a prekey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prekey {
    /// Never ours, or erased.
    Gone,
    /// No job's yet.
    Unused,
    /// This job's.
    Of(JobId),
}

/// A release that may be made.
#[derive(Debug, PartialEq)]
pub(super) struct Release {
    pub(super) lease: Lease,
    pub(super) prekey: [u8; 16],
    pub(super) stanza: Stanza,
    pub(super) view_key: KemKey,
}

/// Why a key is not released. The messages name our rules and repeat nothing that was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no schedule server is enrolled")]
    NoSchedule,
    #[error("the lease is not signed by the enrolled schedule server")]
    LeaseNotSigned,
    #[error("the lease has expired")]
    LeaseExpired,
    #[error("the client is not enrolled")]
    ClientUnknown,
    #[error("the envelope is not signed by the enrolled client")]
    EnvelopeNotSigned,
    #[error("the envelope is of another job than the lease")]
    OtherJob,
    #[error("the envelope is of another client than the lease")]
    OtherClient,
    #[error("the envelope is for another site")]
    OtherSite,
    #[error("the envelope is from the future")]
    NotYet,
    #[error("the envelope has expired")]
    EnvelopeExpired,
    #[error("the job may not be started any more")]
    JobExpired,
    #[error("the job has no such task")]
    NoSuchTask,
    #[error("the lease orders another policy than the client signed")]
    PolicyDiffers,
    #[error("the node is not enrolled")]
    NodeUnknown,
    #[error("the lease names another node key than the enrolled one")]
    NodeKeyDiffers,
    #[error("the request is not signed by the leased node")]
    NodeNotSigned,
    #[error("a key was released under this fence or a newer one")]
    FenceOld,
    #[error("the prekey is not ours or was erased")]
    PrekeyGone,
    #[error("the prekey belongs to another job")]
    PrekeyTaken,
    #[error("the wrapped job key is malformed")]
    StanzaMalformed,
    #[error("the job key cannot be passed on")]
    Seal { source: safelight_seal::Error },
    #[error("the release cannot be put on the audit log")]
    NotLogged { source: safelight_audit::Error },
    #[error("the warden's store failed")]
    Store {
        #[from]
        source: store::Error,
    },
}

/// The lease, if the schedule server signed it.
pub(super) fn lease(request: &Request, known: &impl Known) -> Result<Lease, Refusal> {
    let schedule = known.schedule()?.ok_or(Refusal::NoSchedule)?;
    safelight_bundle::open(&request.lease, &schedule).map_err(|_| Refusal::LeaseNotSigned)
}

/// What may be released for this lease at this time (seconds since 1970).
pub(super) fn judge(
    request: &Request,
    lease: Lease,
    known: &impl Known,
    now: u64,
) -> Result<Release, Refusal> {
    ensure(now < lease.expires, Refusal::LeaseExpired)?;
    let envelope = envelope(request, &lease, known, now)?;
    node(request, &lease, known)?;
    let newest = known.released(lease.job, lease.task)?;
    ensure(
        newest.is_none_or(|newest| lease.fence > newest),
        Refusal::FenceOld,
    )?;
    match known.prekey(&envelope.prekey)? {
        Prekey::Gone => return Err(Refusal::PrekeyGone),
        Prekey::Of(job) => ensure(job == lease.job, Refusal::PrekeyTaken)?,
        Prekey::Unused => {}
    }
    let stanza = Stanza::from_bytes(&envelope.stanza_for_site);
    let stanza = stanza.map_err(|_| Refusal::StanzaMalformed)?;
    Ok(Release {
        lease,
        prekey: envelope.prekey,
        stanza,
        view_key: request.view_key,
    })
}

/// The envelope, if the enrolled client signed it for us, for this lease, and for now.
fn envelope(
    request: &Request,
    lease: &Lease,
    known: &impl Known,
    now: u64,
) -> Result<Envelope, Refusal> {
    let client = known.client(&lease.client)?.ok_or(Refusal::ClientUnknown)?;
    // Opening also checks that the envelope names the key that signed it.
    let envelope: Envelope = safelight_bundle::open(&request.envelope, &client)
        .map_err(|_| Refusal::EnvelopeNotSigned)?;
    let outline = &envelope.outline;
    ensure(outline.job == lease.job, Refusal::OtherJob)?;
    ensure(outline.client == lease.client, Refusal::OtherClient)?;
    ensure(envelope.site == known.site(), Refusal::OtherSite)?;
    ensure(envelope.issued <= now.saturating_add(SKEW), Refusal::NotYet)?;
    ensure(now < envelope.expires, Refusal::EnvelopeExpired)?;
    ensure(now < outline.expires, Refusal::JobExpired)?;
    let step = outline.steps.get(lease.task.step as usize);
    ensure(
        step.is_some_and(|step| lease.end() <= step.tasks),
        Refusal::NoSuchTask,
    )?;
    let same =
        lease.wrapper.digest == outline.policy_digest && lease.wrapper.policy == outline.policy;
    ensure(same, Refusal::PolicyDiffers)?;
    Ok(envelope)
}

/// That the leased node, and no other, asks for this view server.
fn node(request: &Request, lease: &Lease, known: &impl Known) -> Result<(), Refusal> {
    let node = known.node(&lease.node)?.ok_or(Refusal::NodeUnknown)?;
    ensure(node == lease.node_key, Refusal::NodeKeyDiffers)?;
    let message = Request::message(&request.lease, &request.view_key);
    <&[u8; 64]>::try_from(&request.node_signature[..])
        .ok()
        .and_then(|signature| identity::verify(NODE_CONTEXT, &node, &message, signature).ok())
        .ok_or(Refusal::NodeNotSigned)
}

fn ensure(holds: bool, refusal: Refusal) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(refusal) }
}

#[cfg(test)]
pub(super) mod tests;
