//! One release that is right, and every way in which one thing about it can be wrong.

use std::collections::BTreeMap;

use safelight_policies::{
    id::{ObjectId, PolicyDigest, PolicyName, SessionId, SlotIndex},
    lease::Wrapper,
    outline::{Outline, StepOutline},
};
use safelight_seal::{
    identity::{KemSecret, SigningSecret},
    job_key::{JobKey, TO_WARDEN},
    random::SystemRandom,
};

use super::*;

pub(in crate::warden) const NOW: u64 = 1_800_000_000;
const JOB: JobId = JobId::from_random([1; 10]);
const OTHER_JOB: JobId = JobId::from_random([2; 10]);
const TASK: TaskId = TaskId { step: 0, task: 4 };

/// A party by its number: the same number is the same key.
fn party(number: u8) -> SigningSecret {
    SigningSecret::from_bytes(&[number; 32])
}
const CLIENT: u8 = 1;
const SCHEDULE: u8 = 2;
const NODE: u8 = 3;
pub(in crate::warden) const SITE: u8 = 4;
const STRANGER: u8 = 9;

/// What the warden knows, in memory.
struct Table {
    schedule: Option<u8>,
    client: Option<u8>,
    node: Option<u8>,
    prekey: Prekey,
    released: Option<Fence>,
}

impl Known for Table {
    fn site(&self) -> VerifyKey {
        party(SITE).public()
    }
    fn schedule(&self) -> Result<Option<VerifyKey>, store::Error> {
        Ok(self.schedule.map(|number| party(number).public()))
    }
    fn client(&self, alias: &ClientAlias) -> Result<Option<VerifyKey>, store::Error> {
        assert_eq!(alias.as_str(), "c-one");
        Ok(self.client.map(|number| party(number).public()))
    }
    fn node(&self, name: &NodeName) -> Result<Option<VerifyKey>, store::Error> {
        assert_eq!(name.as_str(), "n-one");
        Ok(self.node.map(|number| party(number).public()))
    }
    fn prekey(&self, id: &[u8; 16]) -> Result<Prekey, store::Error> {
        assert_eq!(id, &[8; 16]);
        Ok(self.prekey)
    }
    fn released(&self, job: JobId, task: TaskId) -> Result<Option<Fence>, store::Error> {
        assert_eq!((job, task), (JOB, TASK));
        Ok(self.released)
    }
}

/// Everything about a release, before it is signed.
pub(in crate::warden) struct Case {
    known: Table,
    pub(in crate::warden) envelope: Envelope,
    pub(in crate::warden) lease: Lease,
    view_key: KemKey,
    /// What the node signs for, if not the view key of the request.
    signed_view_key: KemKey,
    signers: [u8; 3],
    now: u64,
}

fn outline() -> Outline {
    Outline {
        job: JOB,
        client: ClientAlias::new("c-one").unwrap(),
        priority: 50,
        policy: PolicyName::new("blender").unwrap(),
        policy_digest: PolicyDigest([5; 32]),
        steps: vec![StepOutline {
            tasks: 5,
            depends_on: vec![],
            amounts: BTreeMap::new(),
            attributes: BTreeMap::new(),
            timeout: 60,
            batch: None,
        }],
        expires: NOW + 100,
        central: vec![],
        retries: None,
        wishes: Default::default(),
    }
}

fn stanza() -> Vec<u8> {
    let rng = SystemRandom::new();
    let to = KemSecret::generate(&rng).unwrap().public();
    let key = JobKey::generate(&rng).unwrap();
    key.wrap(&to, TO_WARDEN, JOB, &rng)
        .unwrap()
        .to_bytes()
        .to_vec()
}

/// A release that is right.
pub(in crate::warden) fn right() -> Case {
    let view_key = KemKey([7; 32]);
    Case {
        known: Table {
            schedule: Some(SCHEDULE),
            client: Some(CLIENT),
            node: Some(NODE),
            prekey: Prekey::Unused,
            released: None,
        },
        envelope: Envelope {
            version: safelight_bundle::ENVELOPE_VERSION,
            outline: outline(),
            client_verify: party(CLIENT).public(),
            attest: VerifyKey([1; 32]),
            inputs: ObjectId([1; 32]),
            recipe: ObjectId([2; 32]),
            prekey: [8; 16],
            site: party(SITE).public(),
            stanza_for_site: stanza(),
            issued: NOW - 10,
            expires: NOW + 1000,
        },
        lease: Lease {
            client: ClientAlias::new("c-one").unwrap(),
            job: JOB,
            task: TASK,
            tasks: 1,
            attempt: 1,
            fence: Fence(10),
            session: SessionId::from_random([3; 10]),
            node: NodeName::new("n-one").unwrap(),
            node_key: party(NODE).public(),
            slot: SlotIndex(0),
            expires: NOW + 50,
            wrapper: Wrapper {
                policy: PolicyName::new("blender").unwrap(),
                digest: PolicyDigest([5; 32]),
            },
        },
        view_key,
        signed_view_key: view_key,
        signers: [CLIENT, SCHEDULE, NODE],
        now: NOW,
    }
}

fn sign<T: safelight_bundle::Document>(document: &T, by: &SigningSecret) -> Vec<u8> {
    let sign = |context: &str, bytes: &[u8]| by.sign(context, bytes);
    safelight_bundle::seal(document, &by.public(), sign).unwrap()
}

/// The job of every case.
pub(in crate::warden) fn job() -> JobId {
    JOB
}

impl Case {
    /// Enrolls everyone in a real store.
    pub(in crate::warden) fn enroll(&self, store: &store::Store) {
        for (role, name, number) in [
            (store::Role::Client, "c-one", CLIENT),
            (store::Role::Node, "n-one", NODE),
            (store::Role::Schedule, "-", SCHEDULE),
        ] {
            store.enroll(role, name, &party(number).public()).unwrap();
        }
    }

    /// Another view server asks, and its node signs for it.
    pub(in crate::warden) fn set_view_key(&mut self, key: KemKey) {
        self.view_key = key;
        self.signed_view_key = key;
    }

    /// The request, signed by everyone.
    pub(in crate::warden) fn request(&self) -> Request {
        let [client, schedule, node] = self.signers.map(party);
        let lease = sign(&self.lease, &schedule);
        let message = Request::message(&lease, &self.signed_view_key);
        Request {
            envelope: sign(&self.envelope, &client),
            node_signature: node.sign(NODE_CONTEXT, &message).to_vec(),
            lease,
            view_key: self.view_key,
        }
    }

    fn ask(&self, request: &Request) -> Result<Release, Refusal> {
        lease(request, &self.known).and_then(|lease| judge(request, lease, &self.known, self.now))
    }
}

/// The refusal's message after one thing was changed, or "released".
fn after(change: impl FnOnce(&mut Case)) -> String {
    let mut case = right();
    change(&mut case);
    match case.ask(&case.request()) {
        Ok(_) => "released".into(),
        Err(refusal) => refusal.to_string(),
    }
}

/// The same, changed after everything was signed.
fn tampered(change: impl FnOnce(&mut Request)) -> String {
    let case = right();
    let mut request = case.request();
    change(&mut request);
    match case.ask(&request) {
        Ok(_) => "released".into(),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn what_is_right_is_released_to_the_view_key_that_the_node_signed() {
    let case = right();
    let release = case.ask(&case.request()).unwrap();
    assert_eq!(release.lease, case.lease);
    assert_eq!(release.prekey, [8; 16]);
    assert_eq!(release.view_key, case.view_key);
    // A retry is a new lease with a newer fence, and finds the prekey in use by its own job.
    let retry = |case: &mut Case| {
        case.known.prekey = Prekey::Of(JOB);
        case.known.released = Some(Fence(9));
    };
    assert_eq!(after(retry), "released");
    // The client's clock may run a little ahead.
    assert_eq!(after(|case| case.envelope.issued = NOW + 300), "released");
}

#[test]
fn a_lease_that_is_not_the_schedulers_is_refused() {
    assert_eq!(
        after(|case| case.known.schedule = None),
        "no schedule server is enrolled"
    );
    let unsigned = "the lease is not signed by the enrolled schedule server";
    assert_eq!(after(|case| case.signers[1] = STRANGER), unsigned);
    assert_eq!(after(|case| case.signers[1] = CLIENT), unsigned);
    assert_eq!(tampered(|request| request.lease[110] ^= 1), unsigned);
    assert_eq!(tampered(|request| request.lease.push(0)), unsigned);
    assert_eq!(tampered(|request| request.lease.clear()), unsigned);
    // An envelope is no lease, whoever signed it.
    let swapped = |request: &mut Request| std::mem::swap(&mut request.lease, &mut request.envelope);
    assert_eq!(tampered(swapped), unsigned);
}

#[test]
fn an_envelope_that_is_not_the_clients_is_refused() {
    assert_eq!(
        after(|case| case.known.client = None),
        "the client is not enrolled"
    );
    let unsigned = "the envelope is not signed by the enrolled client";
    let forged = |case: &mut Case| {
        case.signers[0] = STRANGER;
        case.envelope.client_verify = party(STRANGER).public();
    };
    assert_eq!(after(forged), unsigned);
    assert_eq!(tampered(|request| request.envelope[120] ^= 1), unsigned);
    assert_eq!(tampered(|request| request.envelope.truncate(9)), unsigned);
}

#[test]
fn an_envelope_for_something_else_is_refused() {
    assert_eq!(
        after(|case| case.envelope.outline.job = OTHER_JOB),
        "the envelope is of another job than the lease"
    );
    assert_eq!(
        after(|case| case.envelope.outline.client = ClientAlias::new("c-two").unwrap()),
        "the envelope is of another client than the lease"
    );
    assert_eq!(
        after(|case| case.envelope.site = party(STRANGER).public()),
        "the envelope is for another site"
    );
    let policy = "the lease orders another policy than the client signed";
    assert_eq!(
        after(|case| case.lease.wrapper.digest = PolicyDigest([6; 32])),
        policy
    );
    assert_eq!(
        after(|case| case.lease.wrapper.policy = PolicyName::new("none").unwrap()),
        policy
    );
    let task = "the job has no such task";
    assert_eq!(after(|case| case.lease.task.task = 5), task);
    assert_eq!(after(|case| case.lease.task.step = 1), task);
}

#[test]
fn what_is_too_early_or_too_late_is_refused() {
    assert_eq!(
        after(|case| case.lease.expires = NOW),
        "the lease has expired"
    );
    assert_eq!(
        after(|case| case.envelope.issued = NOW + 301),
        "the envelope is from the future"
    );
    let ended = |case: &mut Case| {
        case.envelope.outline.expires = NOW;
        case.envelope.expires = NOW;
    };
    assert_eq!(after(ended), "the envelope has expired");
    assert_eq!(
        after(|case| case.envelope.outline.expires = NOW),
        "the job may not be started any more"
    );
}

#[test]
fn a_node_that_does_not_hold_the_lease_is_refused() {
    assert_eq!(
        after(|case| case.known.node = None),
        "the node is not enrolled"
    );
    assert_eq!(
        after(|case| case.known.node = Some(STRANGER)),
        "the lease names another node key than the enrolled one"
    );
    assert_eq!(
        after(|case| case.lease.node_key = party(STRANGER).public()),
        "the lease names another node key than the enrolled one"
    );
    let unsigned = "the request is not signed by the leased node";
    assert_eq!(after(|case| case.signers[2] = STRANGER), unsigned);
    // The agent in between puts its own key in the view server's place.
    assert_eq!(after(|case| case.view_key = KemKey([66; 32])), unsigned);
    assert_eq!(tampered(|request| request.node_signature[0] ^= 1), unsigned);
    assert_eq!(tampered(|request| request.node_signature.push(0)), unsigned);
}

#[test]
fn a_key_is_released_once_for_a_fence_and_a_prekey_to_one_job() {
    let old = "a key was released under this fence or a newer one";
    for fence in [10, 11, u64::MAX] {
        assert_eq!(after(|case| case.known.released = Some(Fence(fence))), old);
    }
    assert_eq!(
        after(|case| case.known.prekey = Prekey::Gone),
        "the prekey is not ours or was erased"
    );
    assert_eq!(
        after(|case| case.known.prekey = Prekey::Of(OTHER_JOB)),
        "the prekey belongs to another job"
    );
    let malformed = "the wrapped job key is malformed";
    assert_eq!(
        after(|case| case.envelope.stanza_for_site = vec![1; 80]),
        malformed
    );
    assert_eq!(
        after(|case| case.envelope.stanza_for_site.push(0)),
        malformed
    );
}
