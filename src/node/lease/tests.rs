//! Work that is ours, and every way in which one fact about it can be another's.

use std::collections::BTreeMap;

use safelight_policies::{
    id::{JobId, ObjectId, PolicyDigest, TaskId},
    lease::Wrapper,
    outline::{Outline, StepOutline},
};
use safelight_seal::identity::SigningSecret;

use super::*;
use crate::node::protocol::Before;

const NOW: u64 = 1_800_000_000;

/// A party by its number: the same number is the same key.
fn party(number: u8) -> SigningSecret {
    SigningSecret::from_bytes(&[number; 32])
}
const CLIENT: u8 = 1;
const SCHEDULE: u8 = 2;
const NODE: u8 = 3;
const STRANGER: u8 = 9;

pub(in crate::node) fn lease() -> Lease {
    Lease {
        client: "c-one".parse().unwrap(),
        job: JobId::from_random([1; 10]),
        task: TaskId { step: 0, task: 4 },
        tasks: 1,
        attempt: 1,
        fence: Fence(7),
        session: SessionId::from_random([5; 10]),
        node: "n-one".parse().unwrap(),
        node_key: party(NODE).public(),
        slot: SlotIndex(1),
        expires: NOW + 60,
        wrapper: Wrapper {
            policy: "blender".parse().unwrap(),
            digest: PolicyDigest([5; 32]),
        },
    }
}

fn envelope() -> Envelope {
    Envelope {
        version: safelight_bundle::ENVELOPE_VERSION,
        outline: Outline {
            job: lease().job,
            client: lease().client,
            priority: 50,
            policy: lease().wrapper.policy,
            policy_digest: lease().wrapper.digest,
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
        },
        client_verify: party(CLIENT).public(),
        attest: VerifyKey([6; 32]),
        inputs: ObjectId([1; 32]),
        recipe: ObjectId([2; 32]),
        prekey: [8; 16],
        site: party(4).public(),
        stanza_for_site: vec![1],
        issued: NOW,
        expires: NOW + 1000,
    }
}

/// Everything about a piece of work, before it is signed.
struct Case {
    lease: Lease,
    envelope: Envelope,
    /// Who signs the lease and the envelope.
    signers: [u8; 2],
    layers: usize,
    asked: Vec<(SlotIndex, SessionId)>,
    now: u64,
    /// Spoils what was signed.
    spoil: fn(&mut Work),
}

impl Case {
    fn work(&self) -> Work {
        let sealed = |signer: u8| {
            let secret = party(signer);
            move |context: &str, bytes: &[u8]| secret.sign(context, bytes)
        };
        let [schedule, client] = self.signers;
        let before = Before {
            manifest: ObjectId([3; 32]),
            session: self.lease.session,
            attempt: 1,
            fence: Fence(1),
            list: ObjectId([4; 32]),
        };
        let key = |number| party(number).public();
        let mut work = Work {
            lease: safelight_bundle::seal(&self.lease, &key(schedule), sealed(schedule)).unwrap(),
            envelope: safelight_bundle::seal(&self.envelope, &key(client), sealed(client)).unwrap(),
            list: ObjectId([4; 32]),
            layers: vec![before; self.layers],
        };
        (self.spoil)(&mut work);
        work
    }

    fn verdict(&self) -> (Result<(), Refusal>, Option<(SessionId, Fence)>) {
        let (schedule, key) = (party(SCHEDULE).public(), party(NODE).public());
        let known = Known {
            schedule: &schedule,
            name: &"n-one".parse().unwrap(),
            key: &key,
            asked: &self.asked,
            now: self.now,
        };
        let work = self.work();
        (verify(&work, &known).map(drop), named(&work, &known))
    }
}

fn right() -> Case {
    let asked = vec![
        (SlotIndex(0), SessionId::from_random([4; 10])),
        (lease().slot, lease().session),
    ];
    Case {
        lease: lease(),
        envelope: envelope(),
        signers: [SCHEDULE, CLIENT],
        layers: LAYERS_MAX,
        asked,
        now: NOW,
        spoil: |_| {},
    }
}

#[test]
fn work_that_is_ours_is_taken() {
    assert_eq!(
        right().verdict(),
        (Ok(()), Some((lease().session, Fence(7))))
    );
    let last = Case {
        now: NOW + 59,
        ..right()
    };
    assert_eq!(last.verdict().0, Ok(()));
}

type Flip = fn(&mut Case);

fn refused(table: &[(&str, Flip, Refusal)]) {
    for (what, flip, expected) in table {
        let mut case = right();
        flip(&mut case);
        assert_eq!(case.verdict().0, Err(*expected), "{what}");
    }
}

#[test]
fn one_other_fact_about_the_lease_and_it_is_refused() {
    refused(&[
        (
            "another signed the lease",
            |it| it.signers[0] = STRANGER,
            Refusal::LeaseNotSigned,
        ),
        (
            "the client signed the lease",
            |it| it.signers[0] = CLIENT,
            Refusal::LeaseNotSigned,
        ),
        (
            "a byte of the lease",
            |it| it.spoil = |work| *work.lease.last_mut().unwrap() ^= 1,
            Refusal::LeaseNotSigned,
        ),
        (
            "a cut lease",
            |it| it.spoil = |work| work.lease.truncate(work.lease.len() - 1),
            Refusal::LeaseNotSigned,
        ),
        (
            "an envelope as lease",
            |it| it.spoil = |work| work.lease = work.envelope.clone(),
            Refusal::LeaseNotSigned,
        ),
        (
            "no lease",
            |it| it.spoil = |work| work.lease.clear(),
            Refusal::LeaseNotSigned,
        ),
        (
            "another node",
            |it| it.lease.node = "n-two".parse().unwrap(),
            Refusal::OtherNode,
        ),
        (
            "another key of the node",
            |it| it.lease.node_key = party(STRANGER).public(),
            Refusal::OtherKey,
        ),
        ("the last second", |it| it.now = NOW + 60, Refusal::Expired),
        (
            "another session",
            |it| it.lease.session = SessionId::from_random([6; 10]),
            Refusal::NotAsked,
        ),
        (
            "the session of another slot",
            |it| it.lease.session = it.asked[0].1,
            Refusal::NotAsked,
        ),
        (
            "another slot",
            |it| it.lease.slot = SlotIndex(0),
            Refusal::NotAsked,
        ),
        ("nobody asked", |it| it.asked.clear(), Refusal::NotAsked),
    ]);
}

#[test]
fn one_other_fact_about_the_job_and_it_is_refused() {
    refused(&[
        (
            "another signed the envelope",
            |it| {
                it.spoil = |work| {
                    let signer = 10..42;
                    work.envelope[signer].copy_from_slice(&party(STRANGER).public().0);
                }
            },
            Refusal::EnvelopeNotSigned,
        ),
        (
            "a byte of the envelope",
            |it| it.spoil = |work| *work.envelope.last_mut().unwrap() ^= 1,
            Refusal::EnvelopeNotSigned,
        ),
        (
            "another job",
            |it| it.lease.job = JobId::from_random([2; 10]),
            Refusal::OtherJob,
        ),
        (
            "another client",
            |it| it.lease.client = "c-two".parse().unwrap(),
            Refusal::OtherClient,
        ),
        (
            "a step too far",
            |it| it.lease.task.step = 1,
            Refusal::NoSuchTask,
        ),
        (
            "a task too far",
            |it| it.lease.task.task = 5,
            Refusal::NoSuchTask,
        ),
        (
            "another policy",
            |it| it.lease.wrapper.policy = "povray".parse().unwrap(),
            Refusal::PolicyDiffers,
        ),
        (
            "another text of the policy",
            |it| it.lease.wrapper.digest = PolicyDigest([6; 32]),
            Refusal::PolicyDiffers,
        ),
        (
            "a layer too many",
            |it| it.layers += 1,
            Refusal::TooManyLayers,
        ),
    ]);
}

#[test]
fn refused_work_has_a_name_only_if_its_session_asked() {
    let named = |flip: Flip| {
        let mut case = right();
        flip(&mut case);
        case.verdict().1
    };
    let ours = Some((lease().session, Fence(7)));
    assert_eq!(named(|it| it.signers[0] = STRANGER), ours);
    assert_eq!(named(|it| it.lease.node = "n-two".parse().unwrap()), ours);
    assert_eq!(named(|it| it.asked.clear()), None);
    assert_eq!(named(|it| it.spoil = |work| work.lease.clear()), None);
    assert_eq!(
        named(|it| it.spoil = |work| *work.lease.last_mut().unwrap() ^= 1),
        None
    );
}
