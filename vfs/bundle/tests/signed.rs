//! A document is what its signer signed, as the kind it was signed as, or it is refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair};
use safelight_bundle::{
    DebugGrant, Document, Envelope, Error, GRANT_LIFE_MAX, GRANT_VERSION, LIFE_MAX, NotNow, Prekey,
    SKEW, claimed_signer, open, seal,
};
use safelight_policies::{
    id::{
        ClientAlias, Fence, GrantId, JobId, KemKey, NodeName, ObjectId, PolicyDigest, PolicyName,
        SessionId, SlotIndex, TaskId, VerifyKey,
    },
    lease::{Lease, Wrapper},
    outline::{Batch, Outline, StepOutline},
};

struct Signer(Ed25519KeyPair);

impl Signer {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }
    fn key(&self) -> VerifyKey {
        VerifyKey(self.0.public_key().as_ref().try_into().unwrap())
    }
    fn sign(&self, context: &str, bytes: &[u8]) -> [u8; 64] {
        let message = [b"safelight v1 ", context.as_bytes(), b"\0", bytes].concat();
        self.0.sign(&message).as_ref().try_into().unwrap()
    }
    fn seal<T: Document>(&self, document: &T) -> Result<Vec<u8>, Error> {
        seal(document, &self.key(), |context, bytes| {
            self.sign(context, bytes)
        })
    }
    /// Signs what [`seal`] would refuse, as a hostile client does.
    fn force<T: Document>(&self, document: &T, more: &[u8]) -> Vec<u8> {
        let mut body = postcard::to_stdvec(document).unwrap();
        body.extend(more);
        let signature = self.sign(T::CONTEXT, &body);
        [b"SLSIGNED", &[1, 0][..], &self.key().0, &signature, &body].concat()
    }
}

fn step() -> StepOutline {
    StepOutline {
        tasks: 240,
        depends_on: vec![],
        amounts: BTreeMap::from([("amount.worker.vcpu".into(), 2.0)]),
        attributes: BTreeMap::from([("attr.worker.os.family".into(), vec!["linux".into()])]),
        timeout: 3600,
        batch: None,
    }
}

fn envelope(client: &Signer) -> Envelope {
    Envelope {
        version: 1,
        outline: Outline {
            job: JobId::from_random([1; 10]),
            client: ClientAlias::new("river").unwrap(),
            priority: 50,
            policy: PolicyName::new("blender").unwrap(),
            policy_digest: PolicyDigest([2; 32]),
            steps: vec![step()],
            expires: 5_000,
            central: vec![],
            retries: None,
            wishes: Default::default(),
        },
        client_verify: client.key(),
        attest: VerifyKey([3; 32]),
        inputs: ObjectId([4; 32]),
        recipe: ObjectId([5; 32]),
        prekey: [6; 16],
        site: Signer::new(200).key(),
        stanza_for_site: vec![7; 81],
        issued: 1_000,
        expires: 9_000,
    }
}

fn lease() -> Lease {
    Lease {
        client: ClientAlias::new("river").unwrap(),
        job: JobId::from_random([1; 10]),
        task: TaskId { step: 0, task: 3 },
        tasks: 1,
        attempt: 1,
        fence: Fence(7),
        session: SessionId::from_random([2; 10]),
        node: NodeName::new("node-1").unwrap(),
        node_key: VerifyKey([3; 32]),
        slot: SlotIndex(0),
        expires: 99,
        wrapper: Wrapper {
            policy: PolicyName::new("blender").unwrap(),
            digest: PolicyDigest([2; 32]),
        },
    }
}

fn prekey(site: &Signer) -> Prekey {
    Prekey {
        id: [1; 16],
        key: KemKey([2; 32]),
        site: site.key(),
        issued: 3,
    }
}

fn grant(client: &Signer) -> DebugGrant {
    DebugGrant {
        version: GRANT_VERSION,
        number: GrantId::from_random([4; 10]),
        client: ClientAlias::new("river").unwrap(),
        client_verify: client.key(),
        job: JobId::from_random([1; 10]),
        task: Some(TaskId { step: 0, task: 3 }),
        site: Signer::new(200).key(),
        operator: Signer::new(201).key(),
        issued: 1_000,
        from: 2_000,
        expires: 9_000,
        prekey: [6; 16],
        stanza: vec![7; 81],
    }
}

/// One field changed to what it may not be.
fn grant_refused(change: impl FnOnce(&mut DebugGrant), expected: &str) {
    let signer = Signer::new(1);
    let mut wrong = grant(&signer);
    change(&mut wrong);
    let expected = format!("the debug grant is not valid: {expected}");
    assert_eq!(signer.seal(&wrong).unwrap_err().to_string(), expected);
    let opened = open::<DebugGrant>(&signer.force(&wrong, b""), &signer.key());
    assert_eq!(opened.unwrap_err().to_string(), expected);
}

#[test]
fn a_grant_says_what_it_may_say_only() {
    grant_refused(|it| it.version = 2, "its version is unknown");
    let other = "it names another client than the one who signed it";
    grant_refused(|it| it.client_verify = Signer::new(2).key(), other);
    let order = "it ends before it begins, or begins before it was made";
    grant_refused(|it| it.from = 999, order);
    grant_refused(|it| it.expires = it.from, order);
    let long = "it holds for more than 30 days, or ends more than 90 days after it was made";
    grant_refused(|it| it.expires = it.from + GRANT_LIFE_MAX + 1, long);
    let late = |it: &mut DebugGrant| {
        it.from = it.issued + LIFE_MAX;
        it.expires = it.from + 1;
    };
    grant_refused(late, long);
    let stanza = "its stanza is empty or longer than 1,024 bytes";
    grant_refused(|it| it.stanza.clear(), stanza);
    grant_refused(|it| it.stanza = vec![0; 1025], stanza);
}

#[test]
fn a_grant_holds_from_its_beginning_to_before_its_end() {
    let grant = grant(&Signer::new(1));
    for (now, expected) in [
        (0, Err(NotNow::Early)),
        (2_000 - SKEW - 1, Err(NotNow::Early)),
        (2_000 - SKEW, Ok(())),
        (8_999, Ok(())),
        (9_000, Err(NotNow::Expired)),
        (u64::MAX, Err(NotNow::Expired)),
    ] {
        assert_eq!(grant.check_time(now), expected, "{now}");
    }
}

#[test]
fn what_was_signed_is_what_is_opened() {
    let signer = Signer::new(1);
    let bytes = signer.seal(&envelope(&signer)).unwrap();
    assert_eq!(claimed_signer(&bytes).unwrap(), signer.key());
    assert_eq!(
        open::<Envelope>(&bytes, &signer.key()).unwrap(),
        envelope(&signer)
    );
    let bytes = signer.seal(&grant(&signer)).unwrap();
    assert_eq!(
        open::<DebugGrant>(&bytes, &signer.key()).unwrap(),
        grant(&signer)
    );
    let bytes = signer.seal(&lease()).unwrap();
    assert_eq!(open::<Lease>(&bytes, &signer.key()).unwrap(), lease());
    let bytes = signer.seal(&prekey(&signer)).unwrap();
    assert_eq!(
        open::<Prekey>(&bytes, &signer.key()).unwrap(),
        prekey(&signer)
    );
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let signer = Signer::new(1);
    let bytes = signer.seal(&envelope(&signer)).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            assert!(
                open::<Envelope>(&bytes, &signer.key()).is_err(),
                "byte {at} bit {bit}"
            );
        }
        assert!(
            open::<Envelope>(&bytes[..at], &signer.key()).is_err(),
            "cut at {at}"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(
        open::<Envelope>(&longer, &signer.key()),
        Err(Error::NotAuthentic { .. })
    ));
}

#[test]
fn another_signer_is_named_and_refused() {
    let (mine, other) = (Signer::new(1), Signer::new(2));
    let bytes = other.seal(&lease()).unwrap();
    let error = open::<Lease>(&bytes, &mine.key()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the lease is signed by {}, not by {}",
            other.key().fingerprint(),
            mine.key().fingerprint()
        )
    );
    // With the name replaced it is the signature that does not hold.
    let mut bytes = bytes;
    bytes[10..42].copy_from_slice(&mine.key().0);
    assert!(matches!(
        open::<Lease>(&bytes, &mine.key()),
        Err(Error::NotAuthentic { kind: "lease" })
    ));
}

/// The same bytes as a prekey's, of another kind.
#[derive(serde::Serialize, serde::Deserialize)]
struct Lookalike(Prekey);

impl Document for Lookalike {
    const CONTEXT: &'static str = "lookalike";
    const BYTES_MAX: usize = 256;
    fn check(&self, _: &VerifyKey) -> Result<(), Error> {
        Ok(())
    }
}

#[test]
fn bytes_signed_as_one_kind_are_no_other() {
    let signer = Signer::new(1);
    let bytes = signer.seal(&Lookalike(prekey(&signer))).unwrap();
    assert!(open::<Lookalike>(&bytes, &signer.key()).is_ok());
    assert!(matches!(
        open::<Prekey>(&bytes, &signer.key()),
        Err(Error::NotAuthentic { kind: "prekey" })
    ));
}

#[test]
fn a_signer_that_signs_something_else_is_noticed_at_once() {
    let signer = Signer::new(1);
    let result = seal(&lease(), &signer.key(), |_, bytes| {
        signer.sign("envelope", bytes)
    });
    assert!(matches!(result, Err(Error::NotAuthentic { kind: "lease" })));
}

fn sit(envelope: &mut Envelope, size: u32) {
    envelope.outline.steps[0].batch = Some(Batch { size, target: 60 });
}

#[test]
fn each_fault_of_an_envelope_is_refused_on_both_sides() {
    type Edit = fn(&mut Envelope);
    let client = Signer::new(1);
    let table: [(&str, Edit); 24] = [
        ("its version is unknown", |e| e.version = 0),
        ("it names another client than the one who signed it", |e| {
            e.client_verify = VerifyKey([0; 32]);
        }),
        (LIFE, |e| e.expires = e.issued),
        (LIFE, |e| e.expires = e.issued + LIFE_MAX + 1),
        (LIFE, |e| (e.issued, e.expires) = (0, u64::MAX)),
        ("its outline outlives it", |e| {
            e.outline.expires = e.expires + 1
        }),
        (STANZA, |e| e.stanza_for_site.clear()),
        (STANZA, |e| e.stanza_for_site = vec![0; 1025]),
        ("the inputs and the recipe are one object", |e| {
            e.recipe = e.inputs;
        }),
        ("its priority is above 100", |e| e.outline.priority = 101),
        (STEPS, |e| e.outline.steps.clear()),
        (STEPS, |e| e.outline.steps = vec![step(); 1_001]),
        (TASKS, |e| e.outline.steps[0].tasks = 0),
        (TASKS, |e| e.outline.steps[0].tasks = u64::MAX),
        (TIME, |e| e.outline.steps[0].timeout = 0),
        (TIME, |e| e.outline.steps[0].timeout = u64::MAX),
        (BATCH, |e| sit(e, 0)),
        (BATCH, |e| sit(e, 1_025)),
        (BEFORE, |e| e.outline.steps[0].depends_on = vec![0]),
        (BEFORE, |e| e.outline.steps[0].depends_on = vec![u32::MAX]),
        (AMOUNT, |e| {
            e.outline.steps[0].amounts.insert("a".into(), f64::NAN);
        }),
        (AMOUNT, |e| {
            e.outline.steps[0].amounts.insert("a".into(), -0.5);
        }),
        ("an attribute has no value or more than 64", |e| {
            e.outline.steps[0].attributes.insert("a".into(), vec![]);
        }),
        (
            "a capability is not 1 to 100 visible ASCII characters",
            |e| {
                e.outline.steps[0].amounts.insert("a\u{1b}[2J".into(), 1.0);
            },
        ),
    ];
    for (reason, edit) in table {
        let mut envelope = envelope(&client);
        edit(&mut envelope);
        let expected = format!("the envelope is not valid: {reason}");
        assert_eq!(client.seal(&envelope).unwrap_err().to_string(), expected);
        let forced = client.force(&envelope, &[]);
        assert_eq!(
            open::<Envelope>(&forced, &client.key())
                .unwrap_err()
                .to_string(),
            expected
        );
    }
}

const LIFE: &str = "it ends before it begins, or is valid for more than 90 days";
const STANZA: &str = "its stanza is empty or longer than 1,024 bytes";
const STEPS: &str = "it has no step or more than 1,000";
const TASKS: &str = "a step has no task or more than 100,000,000";
const TIME: &str = "a step has no time or more than 30 days";
const BATCH: &str = "a session has no task or more than 1,024";
const BEFORE: &str = "a step depends on one that does not come before it";
const AMOUNT: &str = "an amount is negative or no number";

#[test]
fn leases_and_prekeys_are_checked_too() {
    let signer = Signer::new(1);
    for (attempt, fence, tasks) in [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1025)] {
        let lease = Lease {
            attempt,
            fence: Fence(fence),
            tasks,
            ..lease()
        };
        assert!(matches!(
            open::<Lease>(&signer.force(&lease, &[]), &signer.key()),
            Err(Error::NotValid { .. })
        ));
    }
    let foreign = prekey(&Signer::new(2));
    assert!(matches!(
        open::<Prekey>(&signer.force(&foreign, &[]), &signer.key()),
        Err(Error::NotValid { .. })
    ));
}

#[test]
fn sizes_are_bounded_before_anything_is_read() {
    let signer = Signer::new(1);
    let huge = vec![0; 106 + Envelope::BYTES_MAX + 1];
    assert!(matches!(
        open::<Envelope>(&huge, &signer.key()),
        Err(Error::TooLong { .. })
    ));
    // A signed length that the bytes do not have.
    let mut body = postcard::to_stdvec(&lease()).unwrap();
    body[0] = 0xff;
    let signature = signer.sign("lease", &body);
    let bytes = [b"SLSIGNED", &[1, 0][..], &signer.key().0, &signature, &body].concat();
    assert!(matches!(
        open::<Lease>(&bytes, &signer.key()),
        Err(Error::Decode { .. })
    ));
    assert!(matches!(
        open::<Lease>(&signer.force(&lease(), b"more"), &signer.key()),
        Err(Error::Trailing { len: 4, .. })
    ));
    let mut newer = signer.seal(&lease()).unwrap();
    newer[8] = 2;
    assert!(matches!(
        open::<Lease>(&newer, &signer.key()),
        Err(Error::Version { found: 2 })
    ));
}

#[test]
fn a_document_has_one_spelling() {
    let signer = Signer::new(1);
    let spelled = |body: &[u8]| {
        let signature = signer.sign("prekey", body);
        [b"SLSIGNED", &[1, 0][..], &signer.key().0, &signature, body].concat()
    };
    let body = postcard::to_stdvec(&prekey(&signer)).unwrap();
    assert_eq!(
        open::<Prekey>(&spelled(&body), &signer.key()).unwrap(),
        prekey(&signer)
    );
    // The last number is 3; postcard would read this as 3, too.
    assert_eq!(body.last(), Some(&3));
    let mut long = body[..body.len() - 1].to_vec();
    long.extend_from_slice(&[0x83, 0]);
    assert_eq!(
        postcard::from_bytes::<Prekey>(&long).unwrap(),
        prekey(&signer)
    );
    assert!(matches!(
        open::<Prekey>(&spelled(&long), &signer.key()),
        Err(Error::NotCanonical { kind: "prekey" })
    ));
}

#[test]
fn an_envelope_is_valid_from_its_issue_to_its_end() {
    let envelope = Envelope {
        issued: 1_000,
        expires: 9_000,
        ..envelope(&Signer::new(1))
    };
    for (now, valid) in [
        (1_000 - SKEW - 1, false),
        (1_000 - SKEW, true),
        (1_000, true),
        (8_999, true),
        (9_000, false),
        (u64::MAX, false),
    ] {
        assert_eq!(envelope.check_time(now).is_ok(), valid, "{now}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_only_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let signer = Signer::new(1);
        prop_assert!(open::<Envelope>(&bytes, &signer.key()).is_err());
        // Signed by a hostile client: it may decode or not, but never panics.
        let signature = signer.sign("envelope", &bytes);
        let signed = [b"SLSIGNED", &[1, 0][..], &signer.key().0, &signature, &bytes].concat();
        let _answer = open::<Envelope>(&signed, &signer.key());
    }
}
