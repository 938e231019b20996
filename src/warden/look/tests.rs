//! One look that is right, and every way in which one thing about it can be wrong.

use safelight_bundle::GRANT_VERSION;
use safelight_policies::id::{Fence, NodeName, TaskId, VerifyKey};
use safelight_seal::{
    identity::{KemSecret, SigningSecret},
    job_key::JobKey,
    random::SystemRandom,
};

use super::*;

const NOW: u64 = 1_800_000_000;
const JOB: JobId = JobId::from_random([1; 10]);
const CLIENT: u8 = 1;
const SITE: u8 = 4;
const OPERATOR: u8 = 6;
const STRANGER: u8 = 9;

/// A party by its number: the same number is the same key.
fn party(number: u8) -> SigningSecret {
    SigningSecret::from_bytes(&[number; 32])
}

fn alias(name: &str) -> ClientAlias {
    ClientAlias::new(name).unwrap()
}

/// What the warden knows, in memory.
struct Table {
    client: Option<u8>,
    prekey: Prekey,
    latest: u64,
    revoked: (usize, bool),
}

impl Known for Table {
    fn site(&self) -> VerifyKey {
        party(SITE).public()
    }
    fn schedule(&self) -> Result<Option<VerifyKey>, store::Error> {
        Ok(None)
    }
    fn client(&self, alias: &ClientAlias) -> Result<Option<VerifyKey>, store::Error> {
        let known = (alias.as_str() == "c-one").then_some(self.client).flatten();
        let other = (alias.as_str() == "c-two").then_some(STRANGER);
        Ok(known.or(other).map(|number| party(number).public()))
    }
    fn node(&self, _: &NodeName) -> Result<Option<VerifyKey>, store::Error> {
        Ok(None)
    }
    fn prekey(&self, id: &[u8; 16]) -> Result<Prekey, store::Error> {
        assert_eq!(id, &[8; 16]);
        Ok(self.prekey)
    }
    fn released(&self, _: JobId, _: TaskId) -> Result<Option<Fence>, store::Error> {
        Ok(None)
    }
}

impl Granting for Table {
    fn latest(&self) -> Result<u64, store::Error> {
        Ok(self.latest)
    }
    fn revoked(&self, _: &ClientAlias, _: GrantId) -> Result<(usize, bool), store::Error> {
        Ok(self.revoked)
    }
}

/// Everything about a look, before it is signed.
struct Case {
    known: Table,
    grant: DebugGrant,
    request: LookRequest,
    /// Who signs the grant, and who the look.
    signers: [u8; 2],
    clock: u64,
}

fn stanza() -> Vec<u8> {
    let rng = SystemRandom::new();
    let to = KemSecret::generate(&rng).unwrap().public();
    let key = JobKey::generate(&rng).unwrap();
    let stanza = key.read_key().wrap(&to, JOB, &rng).unwrap();
    stanza.to_bytes().to_vec()
}

fn right() -> Case {
    Case {
        known: Table {
            client: Some(CLIENT),
            prekey: Prekey::Unused,
            latest: NOW - 100,
            revoked: (0, false),
        },
        grant: DebugGrant {
            version: GRANT_VERSION,
            number: GrantId::from_random([5; 10]),
            client: alias("c-one"),
            client_verify: party(CLIENT).public(),
            job: JOB,
            task: None,
            site: party(SITE).public(),
            operator: party(OPERATOR).public(),
            issued: NOW - 1000,
            from: NOW - 1000,
            expires: NOW + 1000,
            prekey: [8; 16],
            stanza: stanza(),
        },
        request: LookRequest {
            grant: Vec::new(),
            client: alias("c-one"),
            job: JOB,
            session: SessionId::from_random([3; 10]),
            view_key: KemKey([7; 32]),
            operator_signature: Vec::new(),
        },
        signers: [CLIENT, OPERATOR],
        clock: NOW,
    }
}

impl Case {
    fn signed(&self) -> LookRequest {
        let [client, operator] = self.signers.map(party);
        let grant = DebugGrant {
            client_verify: client.public(),
            ..self.grant.clone()
        };
        let sign = |context: &str, bytes: &[u8]| client.sign(context, bytes);
        let grant = safelight_bundle::seal(&grant, &client.public(), sign).unwrap();
        let LookRequest {
            view_key, session, ..
        } = self.request;
        let message = LookRequest::message(&grant, &view_key, session);
        LookRequest {
            grant,
            operator_signature: operator.sign(OPERATOR_CONTEXT, &message).to_vec(),
            ..self.request.clone()
        }
    }

    fn ask(&self, request: &LookRequest) -> Result<Look, Refusal> {
        let grant = grant(request, &self.known)?;
        judge(request, grant, &self.known, self.clock)
    }
}

/// The refusal's message after one thing was changed, or "shown".
fn after(change: impl FnOnce(&mut Case)) -> String {
    let mut case = right();
    change(&mut case);
    match case.ask(&case.signed()) {
        Ok(_) => "shown".into(),
        Err(refusal) => refusal.to_string(),
    }
}

/// The same, changed after everything was signed.
fn tampered(change: impl FnOnce(&mut LookRequest)) -> String {
    let case = right();
    let mut request = case.signed();
    change(&mut request);
    match case.ask(&request) {
        Ok(_) => "shown".into(),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn what_is_right_is_shown_again_and_again_until_it_ends() {
    let case = right();
    let look = case.ask(&case.signed()).unwrap();
    assert_eq!((look.grant, look.now), (case.grant.clone(), NOW));
    assert_eq!(after(|case| case.known.prekey = Prekey::Of(JOB)), "shown");
    assert_eq!(after(|case| case.clock = NOW + 999), "shown");
    // Clocks of two sites may be a little apart.
    assert_eq!(
        after(|case| (case.grant.issued, case.grant.from) = (NOW + 300, NOW + 300)),
        "shown"
    );
}

#[test]
fn a_grant_of_another_client_or_changed_is_refused() {
    assert_eq!(
        after(|case| case.known.client = None),
        "the job's client is not enrolled"
    );
    let other = "the grant is of another client than the job's";
    assert_eq!(after(|case| case.signers[0] = STRANGER), other);
    assert_eq!(after(|case| case.request.client = alias("c-two")), other);
    assert_eq!(after(|case| case.grant.client = alias("c-two")), other);
    let changed = "the grant was changed after its client signed it, or is not valid";
    assert_eq!(tampered(|request| request.grant.push(0)), changed);
    for at in [44, 106, 110, 150, 200] {
        assert_eq!(tampered(|request| request.grant[at] ^= 1), changed, "{at}");
    }
    assert_eq!(tampered(|request| request.grant[20] ^= 1), other);
    assert_eq!(
        tampered(|request| request.grant.clear()),
        "the file is no grant"
    );
}

#[test]
fn a_grant_for_another_job_site_or_operator_is_refused() {
    let job = |case: &mut Case| case.request.job = JobId::from_random([2; 10]);
    assert_eq!(after(job), "the grant is for another job");
    let site = |case: &mut Case| case.grant.site = party(STRANGER).public();
    assert_eq!(after(site), "the grant is for another site");
    let other = "the grant is for another operator's key";
    assert_eq!(after(|case| case.signers[1] = STRANGER), other);
    // A signature is for one look: another view server or session is another.
    assert_eq!(tampered(|request| request.view_key.0[0] ^= 1), other);
    let session = SessionId::from_random([9; 10]);
    assert_eq!(tampered(|request| request.session = session), other);
    assert_eq!(
        tampered(|request| request.operator_signature.clear()),
        other
    );
}

#[test]
fn a_grant_that_was_revoked_is_refused() {
    let revoked = "the grant was revoked by its client";
    assert_eq!(after(|case| case.known.revoked = (1, true)), revoked);
    assert_eq!(after(|case| case.known.revoked = (1, false)), "shown");
    assert_eq!(
        after(|case| case.known.revoked = (REVOKED_MAX, false)),
        "the client revoked more grants than are kept"
    );
}

#[test]
fn a_grant_holds_in_its_time_and_no_clock_brings_it_back() {
    let (early, late) = ("the grant does not hold yet", "the grant has expired");
    assert_eq!(after(|case| case.grant.from = NOW + 301), early);
    assert_eq!(after(|case| case.clock = NOW + 1000), late);
    let set_back = |case: &mut Case| {
        case.known.latest = NOW + 1000;
        case.clock = NOW - 500;
    };
    assert_eq!(after(set_back), late);
    // Only what never holds again costs the prekey.
    let case = right();
    let refusal = |clock| {
        let case = Case { clock, ..right() };
        case.ask(&case.signed()).unwrap_err()
    };
    assert!(refusal(NOW + 1000).is_for_good());
    assert!(!refusal_of_another_operator(case).is_for_good());
}

fn refusal_of_another_operator(mut case: Case) -> Refusal {
    case.signers[1] = STRANGER;
    case.ask(&case.signed()).unwrap_err()
}

#[test]
fn a_prekey_that_is_gone_or_anothers_opens_nothing() {
    assert_eq!(
        after(|case| case.known.prekey = Prekey::Gone),
        "the grant's prekey is not this site's, or was erased"
    );
    let other = Prekey::Of(JobId::from_random([2; 10]));
    assert_eq!(
        after(|case| case.known.prekey = other),
        "the grant's prekey belongs to another job"
    );
    assert_eq!(
        after(|case| case.grant.stanza = vec![1; 9]),
        "the grant's wrapped key is malformed"
    );
}
