//! Whether somebody may look at a job away from home: every reason why not, and nothing else.
//!
//! Pure but for what it asks of [`Granting`]. The client's signature comes first, since it names who may look; the time comes after it, since
//! what a client did not sign says nothing about time. The time is the latest that this warden ever knew: a clock that is set back revives
//! nothing.

use safelight_bundle::{DebugGrant, NotNow};
use safelight_policies::id::{ClientAlias, GrantId, JobId, KemKey, SessionId};
use safelight_seal::{identity, job_key::Stanza};
use serde::{Deserialize, Serialize};

use super::{
    judge::{Known, Prekey},
    store,
};

/// What an operator's signature under a look is made for.
pub(crate) const OPERATOR_CONTEXT: &str = "debug look";

/// How many revocations of one client are kept. Of a client with more no grant holds any more.
pub(super) const REVOKED_MAX: usize = 10_000;

/// A request to look at a job. Nothing in it is believed before its signatures hold, but for whose the job is: that is the site's word.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LookRequest {
    /// The grant, signed by the client.
    pub(crate) grant: Vec<u8>,
    /// Whose job it is.
    pub(crate) client: ClientAlias,
    /// The job that is asked for.
    pub(crate) job: JobId,
    /// The look's own session, which names its log.
    pub(crate) session: SessionId,
    /// The ephemeral public key of the view server that is to show it.
    pub(crate) view_key: KemKey,
    /// The operator's signature over [`LookRequest::message`], made for [`OPERATOR_CONTEXT`].
    pub(crate) operator_signature: Vec<u8>,
}

impl LookRequest {
    /// What the operator signs. View key and session are made for this look: a signature is good for no other.
    pub(crate) fn message(grant: &[u8], view_key: &KemKey, session: SessionId) -> Vec<u8> {
        [grant, &view_key.0, session.as_bytes()].concat()
    }
}

/// What the warden knows about grants.
pub(super) trait Granting: Known {
    /// The latest time that this warden ever knew, in seconds since 1970.
    fn latest(&self) -> Result<u64, store::Error>;
    /// How many grants a client revoked, and whether this is one of them.
    fn revoked(&self, client: &ClientAlias, number: GrantId)
    -> Result<(usize, bool), store::Error>;
}

/// A look that may be had.
#[derive(Debug, PartialEq)]
pub(super) struct Look {
    pub(super) grant: DebugGrant,
    pub(super) stanza: Stanza,
    /// The time by which it was judged.
    pub(super) now: u64,
}

/// Why a look is refused. The messages name our rules and repeat nothing that was shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the job's client is not enrolled")]
    ClientUnknown,
    #[error("the file is no grant")]
    NotAGrant,
    #[error("the grant is of another client than the job's")]
    OtherClient,
    #[error("the grant was changed after its client signed it, or is not valid")]
    NotSigned,
    #[error("the grant is for another job")]
    OtherJob,
    #[error("the grant is for another site")]
    OtherSite,
    #[error("the grant is for another operator's key")]
    OtherOperator,
    #[error("the grant was revoked by its client")]
    Revoked { number: GrantId },
    #[error("the client revoked more grants than are kept")]
    TooManyRevoked,
    #[error("the grant does not hold yet")]
    NotYet,
    #[error("the grant has expired")]
    Expired,
    #[error("the grant's prekey is not this site's, or was erased")]
    PrekeyGone,
    #[error("the grant's prekey belongs to another job")]
    PrekeyTaken,
    #[error("the grant's wrapped key is malformed")]
    StanzaMalformed,
    #[error("the key cannot be passed on")]
    Seal { source: safelight_seal::Error },
    #[error("the look cannot be put on the audit log")]
    NotLogged { source: safelight_audit::Error },
    #[error("the warden's store failed")]
    Store {
        #[from]
        source: store::Error,
    },
}

impl Refusal {
    /// True if the grant never holds again, whatever becomes of the clock: then its prekey may go.
    pub(super) fn is_for_good(&self) -> bool {
        matches!(self, Self::Revoked { .. } | Self::Expired)
    }
}

/// The grant, if the job's client signed it.
pub(super) fn grant(request: &LookRequest, known: &impl Known) -> Result<DebugGrant, Refusal> {
    let client = known.client(&request.client)?;
    let client = client.ok_or(Refusal::ClientUnknown)?;
    let claimed = safelight_bundle::claimed_signer(&request.grant);
    let claimed = claimed.map_err(|_| Refusal::NotAGrant)?;
    ensure(claimed == client, Refusal::OtherClient)?;
    let grant: DebugGrant =
        safelight_bundle::open(&request.grant, &client).map_err(|_| Refusal::NotSigned)?;
    ensure(grant.client == request.client, Refusal::OtherClient)?;
    Ok(grant)
}

/// The look, if this grant allows it at this time (seconds since 1970, by the clock).
pub(super) fn judge(
    request: &LookRequest,
    grant: DebugGrant,
    known: &impl Granting,
    clock: u64,
) -> Result<Look, Refusal> {
    ensure(grant.job == request.job, Refusal::OtherJob)?;
    ensure(grant.site == known.site(), Refusal::OtherSite)?;
    operator(request, &grant)?;
    let number = grant.number;
    let (revoked, this) = known.revoked(&grant.client, number)?;
    ensure(!this, Refusal::Revoked { number })?;
    ensure(revoked < REVOKED_MAX, Refusal::TooManyRevoked)?;
    let now = clock.max(known.latest()?);
    grant.check_time(now).map_err(|why| match why {
        NotNow::Early => Refusal::NotYet,
        NotNow::Expired => Refusal::Expired,
    })?;
    match known.prekey(&grant.prekey)? {
        Prekey::Gone => return Err(Refusal::PrekeyGone),
        Prekey::Of(job) => ensure(job == grant.job, Refusal::PrekeyTaken)?,
        Prekey::Unused => {}
    }
    let stanza = Stanza::from_bytes(&grant.stanza).map_err(|_| Refusal::StanzaMalformed)?;
    Ok(Look { grant, stanza, now })
}

/// That the person whom the grant names, and nobody else, asks for this look.
fn operator(request: &LookRequest, grant: &DebugGrant) -> Result<(), Refusal> {
    let message = LookRequest::message(&request.grant, &request.view_key, request.session);
    <&[u8; 64]>::try_from(&request.operator_signature[..])
        .ok()
        .and_then(|signature| {
            identity::verify(OPERATOR_CONTEXT, &grant.operator, &message, signature).ok()
        })
        .ok_or(Refusal::OtherOperator)
}

fn ensure(holds: bool, refusal: Refusal) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(refusal) }
}

#[cfg(test)]
pub(super) mod tests;
