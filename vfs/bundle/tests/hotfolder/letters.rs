//! Every kind of letter: what was signed is what is opened, as its kind, and nothing that it may not say.

use proptest::prelude::*;
use safelight_bundle::{
    Announcement, AnyLetter, Cancel, Code, Document, Epoch, Error, Heartbeat, JobEnded, Kind,
    LIFE_MAX, LOOK_PARTS_MAX, Letter, Load, LookNotice, Outcome, PREKEYS_MAX, PrekeyBatch, Receipt,
    ResultNotice, Revocation, Seq, Stamp, Verdict, open, seal,
};
use safelight_policies::{
    cause::Cause,
    id::{Fence, GrantId, JobId, ObjectId, SessionId, TaskId},
};

use crate::parties::{DAY, START, Signer, prekey};

pub(crate) fn stamp() -> Stamp {
    Stamp {
        to: Signer::new(9).key(),
        seq: Seq {
            epoch: Epoch::new(START, [1, 2, 3]),
            number: 5,
        },
        issued: START + 10,
        expires: START + DAY,
    }
}

fn load() -> Load {
    Load {
        list: ObjectId([4; 32]),
        bytes: 1 << 30,
    }
}

pub(crate) fn announcement() -> Announcement {
    Announcement {
        stamp: stamp(),
        job: JobId::from_random([1; 10]),
        envelope: ObjectId([5; 32]),
        load: load(),
    }
}

fn result() -> ResultNotice {
    ResultNotice {
        stamp: stamp(),
        job: JobId::from_random([1; 10]),
        task: TaskId { step: 0, task: 3 },
        session: SessionId::from_random([2; 10]),
        attempt: 1,
        fence: Fence(7),
        manifest: Some(ObjectId([6; 32])),
        log: None,
        audit: vec![ObjectId([7; 32])],
        cause: Cause::Exited { code: 0 },
        load: load(),
    }
}

fn prekeys(site: &Signer) -> PrekeyBatch {
    PrekeyBatch {
        stamp: stamp(),
        prekeys: vec![prekey(site, 1), prekey(site, 2)],
    }
}

fn receipt() -> Receipt {
    Receipt {
        stamp: stamp(),
        of: ObjectId([8; 32]),
        verdict: Verdict::Refused {
            code: Code::HashMismatch,
        },
    }
}

fn heartbeat() -> Heartbeat {
    Heartbeat {
        stamp: stamp(),
        last_seen: Some(stamp().seq),
    }
}

fn cancel() -> Cancel {
    Cancel {
        stamp: stamp(),
        job: JobId::from_random([1; 10]),
    }
}

fn ended() -> JobEnded {
    JobEnded {
        stamp: stamp(),
        job: JobId::from_random([1; 10]),
        outcome: Outcome::Succeeded,
        results: 240,
    }
}

fn look() -> LookNotice {
    LookNotice {
        stamp: stamp(),
        job: JobId::from_random([1; 10]),
        session: SessionId::from_random([2; 10]),
        audit: vec![ObjectId([7; 32])],
        load: load(),
    }
}

fn revocation() -> Revocation {
    Revocation {
        stamp: stamp(),
        job: JobId::from_random([1; 10]),
        number: GrantId::from_random([3; 10]),
    }
}

/// One of every kind, signed.
fn all(signer: &Signer) -> [(Kind, Vec<u8>); 9] {
    [
        (Kind::Job, signer.seal(&announcement())),
        (Kind::Result, signer.seal(&result())),
        (Kind::Prekeys, signer.seal(&prekeys(signer))),
        (Kind::Receipt, signer.seal(&receipt())),
        (Kind::Heartbeat, signer.seal(&heartbeat())),
        (Kind::Cancel, signer.seal(&cancel())),
        (Kind::Ended, signer.seal(&ended())),
        (Kind::Look, signer.seal(&look())),
        (Kind::Revocation, signer.seal(&revocation())),
    ]
}

#[test]
fn a_letter_opens_as_what_it_was_signed_as_and_as_nothing_else() {
    let signer = Signer::new(1);
    for (kind, bytes) in all(&signer) {
        assert!(bytes.len() <= kind.bytes_max());
        for other in Kind::ALL {
            let opened = AnyLetter::open(other, &bytes, &signer.key());
            if other == kind {
                let letter = opened.unwrap();
                assert_eq!((letter.kind(), *letter.stamp()), (kind, stamp()));
                assert_eq!(
                    letter.load().is_some(),
                    matches!(kind, Kind::Job | Kind::Result | Kind::Look)
                );
            } else {
                let refused = matches!(
                    opened,
                    Err(Error::NotAuthentic { .. } | Error::TooLong { .. })
                );
                assert!(refused, "{kind:?} as {other:?}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let signer = Signer::new(1);
    for (kind, bytes) in all(&signer) {
        for at in (0..bytes.len()).filter(|at| *at < 400) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(
                AnyLetter::open(kind, &changed, &signer.key()).is_err(),
                "{kind:?}, byte {at}"
            );
            assert!(
                AnyLetter::open(kind, &bytes[..at], &signer.key()).is_err(),
                "{kind:?}, cut at {at}"
            );
        }
    }
}

/// Neither seals nor opens, though the signature holds.
fn refused<T: Document>(document: &T, reason: &str) {
    let signer = Signer::new(1);
    let expected = format!("the {} is not valid: {reason}", T::CONTEXT);
    let sealed = seal(document, &signer.key(), |context, bytes| {
        signer.sign(context, bytes)
    });
    assert_eq!(sealed.unwrap_err().to_string(), expected);
    let opened = open::<T>(&signer.force(document, b""), &signer.key());
    assert_eq!(opened.map(drop).unwrap_err().to_string(), expected);
}

#[test]
fn a_stamp_is_within_its_bounds_in_every_kind() {
    let s = stamp();
    let life = "it ends before it begins, or is valid for more than 90 days";
    let cases = [
        (
            Stamp {
                seq: Seq { number: 0, ..s.seq },
                ..s
            },
            "letters count from one",
        ),
        (
            Stamp {
                expires: s.issued,
                ..s
            },
            life,
        ),
        (
            Stamp {
                expires: s.issued + LIFE_MAX + 1,
                ..s
            },
            life,
        ),
        (
            Stamp {
                issued: START - 301,
                ..s
            },
            "it is older than its epoch",
        ),
    ];
    for (stamp, reason) in cases {
        refused(
            &Announcement {
                stamp,
                ..announcement()
            },
            reason,
        );
        refused(&ResultNotice { stamp, ..result() }, reason);
        refused(
            &PrekeyBatch {
                stamp,
                ..prekeys(&Signer::new(1))
            },
            reason,
        );
        refused(&Receipt { stamp, ..receipt() }, reason);
        refused(
            &Heartbeat {
                stamp,
                ..heartbeat()
            },
            reason,
        );
        refused(&Cancel { stamp, ..cancel() }, reason);
        looks_refused(stamp, reason);
    }
    assert!(announcement().check(&Signer::new(1).key()).is_ok());
}

#[test]
fn what_a_result_may_not_say() {
    let good = result;
    let text = |step: &str| Cause::NotStarted {
        step: step.into(),
        errno: 1,
    };
    let step = "the step that failed is not 0 to 100 bytes of text";
    refused(
        &ResultNotice {
            attempt: 0,
            ..good()
        },
        "attempts and fences count from one",
    );
    refused(
        &ResultNotice {
            fence: Fence(0),
            ..good()
        },
        "attempts and fences count from one",
    );
    refused(
        &ResultNotice {
            audit: vec![ObjectId([1; 32]); 65],
            ..good()
        },
        "it has more than 64 audit logs",
    );
    refused(
        &ResultNotice {
            manifest: None,
            ..good()
        },
        "it succeeded and brings no outputs",
    );
    refused(
        &ResultNotice {
            cause: text("\u{1b}[2J"),
            ..good()
        },
        step,
    );
    refused(
        &ResultNotice {
            cause: text(&"x".repeat(101)),
            ..good()
        },
        step,
    );
}

#[test]
fn what_a_load_may_not_say() {
    let good = result;
    let huge = Load {
        bytes: u64::MAX,
        ..load()
    };
    refused(
        &ResultNotice {
            load: huge,
            ..good()
        },
        "it brings more than any list can name",
    );
    let ended = ResultNotice {
        manifest: None,
        cause: Cause::NotStarted {
            step: "mount".into(),
            errno: 1,
        },
        ..good()
    };
    assert!(ended.check(&Signer::new(1).key()).is_ok());
    let same = Announcement {
        envelope: ObjectId([4; 32]),
        ..announcement()
    };
    refused(&same, "the envelope and the list are one object");
}

/// What is about looks is stamped as everything else is.
fn looks_refused(stamp: Stamp, reason: &str) {
    let revoked = Revocation {
        stamp,
        ..revocation()
    };
    refused(&LookNotice { stamp, ..look() }, reason);
    refused(&revoked, reason);
}

#[test]
fn a_look_brings_its_log_in_few_parts() {
    let parts = |count| LookNotice {
        audit: vec![ObjectId([1; 32]); count],
        ..look()
    };
    let expected = "its log has not 1 to 64 parts";
    refused(&parts(0), expected);
    refused(&parts(LOOK_PARTS_MAX + 1), expected);
    let signer = Signer::new(1);
    assert!(signer.seal(&parts(LOOK_PARTS_MAX)).len() <= Kind::Look.bytes_max());
    let list = safelight_bundle::BlobList::new(vec![(ObjectId([7; 32]), 1)]).unwrap();
    assert_eq!(look().disagreement(&list), None);
    assert!(parts(1).disagreement(&list).is_some());
}

#[test]
fn a_batch_is_of_the_sites_own_prekeys_and_fits() {
    let (site, other) = (Signer::new(1), Signer::new(2));
    let batch = |prekeys| PrekeyBatch {
        stamp: stamp(),
        prekeys,
    };
    refused(&batch(vec![]), "it has no prekey or more than 256");
    refused(
        &batch(vec![prekey(&other, 1)]),
        "a prekey is not signed by the site",
    );
    refused(
        &batch(vec![b"SLSIGNED".to_vec()]),
        "a prekey is not signed by the site",
    );
    refused(
        &batch(vec![prekey(&site, 1), prekey(&site, 1)]),
        "it has a prekey twice",
    );
    refused(
        &batch(vec![prekey(&site, 1); PREKEYS_MAX + 1]),
        "it has no prekey or more than 256",
    );
    let full = batch((0..=255).map(|id| prekey(&site, id)).collect());
    let bytes = site.seal(&full);
    assert!(bytes.len() <= Kind::Prekeys.bytes_max());
    assert_eq!(open::<PrekeyBatch>(&bytes, &site.key()).unwrap(), full);
}

#[test]
fn only_what_brings_blobs_has_a_load() {
    assert_eq!(announcement().load(), Some(&load()));
    assert_eq!(cancel().load(), None);
}

proptest! {
    #[test]
    fn no_bytes_make_opening_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), head in any::<bool>(), kind in 0..6_usize) {
        let signer = Signer::new(1);
        let bytes = if head { [b"SLSIGNED", &[1, 0][..], &signer.key().0, &[0; 64], &bytes].concat() } else { bytes };
        prop_assert!(AnyLetter::open(Kind::ALL[kind], &bytes, &signer.key()).is_err());
    }

    /// The signature holds, the body is noise: decoding and checking meet every shape.
    #[test]
    fn no_signed_bytes_make_opening_panic(body in proptest::collection::vec(any::<u8>(), 0..400), kind in 0..6_usize) {
        let signer = Signer::new(1);
        let context = ["announcement", "result notice", "prekey batch", "receipt", "heartbeat", "cancel"][kind];
        let signature = signer.sign(context, &body);
        let bytes = [b"SLSIGNED", &[1, 0][..], &signer.key().0, &signature, &body].concat();
        let opened = AnyLetter::open(Kind::ALL[kind], &bytes, &signer.key());
        let authentic = !matches!(opened, Err(Error::NotAuthentic { .. } | Error::NotSigned));
        prop_assert!(authentic, "the signature was meant to hold");
    }
}
