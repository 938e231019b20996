//! The decision about one letter, case by case. Nothing here touches a folder.

use std::collections::HashMap;

use proptest::prelude::*;
use safelight_bundle::{
    Announcement, Code, Epoch, Heartbeat, Judgement, Kind, Later, Letter, Limits, Load, Peer,
    ReadyName, Receipt, Role, Seq, Stamp, Trust, Verdict, Windows, judge, object_id,
    window::{HELD_MAX, Mark, Row, WINDOW},
};
use safelight_policies::id::{ObjectId, VerifyKey};

use crate::{
    letters::announcement,
    parties::{DAY, START, Signer},
};

const NOW: u64 = START + 100;

struct Case {
    client: Signer,
    site: Signer,
    windows: Windows,
    now: u64,
    limits: Limits,
}

impl Case {
    fn new() -> Self {
        let limits = Limits::default();
        Self {
            client: Signer::new(1),
            site: Signer::new(2),
            windows: Windows::default(),
            now: NOW,
            limits,
        }
    }
    fn trust(&self) -> Trust {
        let other = Signer::new(3).key();
        let client = Peer {
            role: Role::Client,
            limits: self.limits,
        };
        Trust {
            me: self.site.key(),
            peers: HashMap::from([(self.client.key(), client), (other, client)]),
        }
    }
    fn seq(&self, number: u64) -> Seq {
        Seq {
            epoch: Epoch::new(START, [0; 3]),
            number,
        }
    }
    fn stamp(&self) -> Stamp {
        Stamp {
            to: self.site.key(),
            seq: self.seq(5),
            issued: START,
            expires: START + DAY,
        }
    }
    fn letter(&self) -> Announcement {
        Announcement {
            stamp: self.stamp(),
            ..announcement()
        }
    }
    fn name<T: Letter>(&self, letter: &T) -> ReadyName {
        ReadyName {
            to: self.site.key(),
            from: self.client.key(),
            seq: letter.stamp().seq,
            kind: T::KIND,
        }
    }
    fn judge(&self, name: &ReadyName, bytes: &[u8]) -> Judgement {
        judge(name, bytes, &self.trust(), &self.windows, self.now)
    }
    fn judged<T: Letter>(&self, letter: &T) -> Judgement {
        self.judge(&self.name(letter), &self.client.seal(letter))
    }
    fn mark(&mut self, seq: Seq, of: ObjectId, verdict: Option<Verdict>) {
        let mark = Mark {
            of,
            verdict,
            at: NOW,
        };
        self.windows.apply(&Row {
            from: self.client.key(),
            seq,
            mark,
        });
    }
}

/// The code of a refusal, and whether its sender is answered.
fn code(judgement: Judgement) -> (Code, bool) {
    match judgement {
        Judgement::Refuse { refusal, of } => (refusal.code(), of.is_some()),
        Judgement::Renumber { refusal, .. } => (refusal.code(), true),
        other => panic!("not refused: {other:?}"),
    }
}

fn taken(judgement: Judgement) -> bool {
    matches!(judgement, Judgement::Take(_))
}

#[test]
fn a_good_letter_is_taken() {
    let case = Case::new();
    let bytes = case.client.seal(&case.letter());
    let Judgement::Take(opened) = case.judge(&case.name(&case.letter()), &bytes) else {
        panic!("not taken")
    };
    assert_eq!(opened.of, object_id(&bytes));
    assert_eq!(*opened.letter.stamp(), case.stamp());
}

#[test]
fn who_and_for_whom() {
    let case = Case::new();
    let letter = case.letter();
    let name = case.name(&letter);
    let bytes = case.client.seal(&letter);
    let stranger = Signer::new(77);
    let from = |from: VerifyKey| ReadyName { from, ..name };
    assert_eq!(
        code(case.judge(&from(stranger.key()), &stranger.seal(&letter))),
        (Code::UnknownSigner, false)
    );
    assert_eq!(
        code(case.judge(&name, &stranger.seal(&letter))),
        (Code::NotAuthentic, false)
    );
    // Another client's letter under this client's name.
    assert_eq!(
        code(case.judge(&name, &Signer::new(3).seal(&letter))),
        (Code::Misnamed, false)
    );
    let elsewhere = Announcement {
        stamp: Stamp {
            to: stranger.key(),
            ..letter.stamp
        },
        ..letter.clone()
    };
    assert_eq!(code(case.judged(&elsewhere)), (Code::WrongRecipient, false));
    let other = ReadyName {
        seq: case.seq(6),
        ..name
    };
    assert_eq!(code(case.judge(&other, &bytes)), (Code::Misnamed, false));
    let kind = |kind| ReadyName { kind, ..name };
    assert_eq!(
        code(case.judge(&kind(Kind::Result), &bytes)),
        (Code::NotTheirs, false)
    );
    assert_eq!(
        code(case.judge(&kind(Kind::Prekeys), &bytes)),
        (Code::NotTheirs, false)
    );
    assert_eq!(
        code(case.judge(&kind(Kind::Cancel), &bytes)),
        (Code::NotAuthentic, false)
    );
}

#[test]
fn what_is_cut_changed_or_too_long() {
    let case = Case::new();
    let letter = case.letter();
    let name = case.name(&letter);
    let bytes = case.client.seal(&letter);
    for cut in [0, 1, 105, 106] {
        assert_eq!(
            code(case.judge(&name, &bytes[..cut])),
            (Code::Truncated, false),
            "{cut}"
        );
    }
    for cut in [107, bytes.len() - 1] {
        assert_eq!(
            code(case.judge(&name, &bytes[..cut])),
            (Code::NotAuthentic, false),
            "{cut}"
        );
    }
    let zeros = vec![0; bytes.len()];
    assert_eq!(code(case.judge(&name, &zeros)), (Code::Malformed, false));
    let mut version = bytes.clone();
    version[8] = 2;
    assert_eq!(code(case.judge(&name, &version)), (Code::Malformed, false));
    let long = [&bytes[..], &[0; 600]].concat();
    assert_eq!(code(case.judge(&name, &long)), (Code::OverLong, false));
    let trailing = case.client.force(&letter, b"x");
    assert_eq!(code(case.judge(&name, &trailing)), (Code::NotValid, false));
}

#[test]
fn the_time_of_a_letter() {
    let mut case = Case::new();
    let letter = case.letter();
    let rows = [
        (START + DAY - 1, None),
        (START + DAY, Some((Code::Expired, true))),
        (START - 300, None),
        (START - DAY - 1, Some((Code::NotYetValid, false))),
    ];
    for (now, expected) in rows {
        case.now = now;
        match expected {
            None => assert!(taken(case.judged(&letter)), "{now}"),
            Some(expected) => assert_eq!(code(case.judged(&letter)), expected, "{now}"),
        }
    }
    // A clock that is off by less than a day keeps letters waiting, and refuses none.
    for (now, ahead) in [(START - 301, 301), (START - DAY, DAY)] {
        case.now = now;
        let judgement = case.judged(&letter);
        assert!(
            matches!(judgement, Judgement::Later(Later::Clock { ahead: found }) if found == ahead)
        );
    }
}

#[test]
fn a_letter_counts_once() {
    let mut case = Case::new();
    let letter = case.letter();
    let of = object_id(&case.client.seal(&letter));
    case.mark(case.seq(5), of, Some(Verdict::Accepted));
    let again = |judgement| matches!(judgement, Judgement::Again { of: found, verdict: Verdict::Accepted } if found == of);
    assert!(again(case.judged(&letter)));
    // Also after its end: the sender still wants to know.
    case.now = START + 30 * DAY;
    assert!(again(case.judged(&letter)));
    case.now = NOW;
    let other = Announcement {
        envelope: ObjectId([99; 32]),
        ..letter.clone()
    };
    assert_eq!(code(case.judged(&other)), (Code::Replayed, true));
    case.mark(
        case.seq(5 + WINDOW),
        ObjectId([1; 32]),
        Some(Verdict::Accepted),
    );
    assert_eq!(code(case.judged(&letter)), (Code::TooOld, true));
    let epoch = |second| Seq {
        epoch: Epoch::new(second, [0; 3]),
        number: 1,
    };
    case.mark(epoch(START + 1), ObjectId([2; 32]), Some(Verdict::Accepted));
    case.mark(epoch(START + 2), ObjectId([3; 32]), Some(Verdict::Accepted));
    assert_eq!(code(case.judged(&letter)), (Code::StaleEpoch, true));
}

#[test]
fn who_waits_with_too_much_waits_longer() {
    let mut case = Case::new();
    let letter = case.letter();
    let of = object_id(&case.client.seal(&letter));
    for number in 0..HELD_MAX as u64 {
        case.mark(case.seq(10 + number), ObjectId([1; 32]), None);
    }
    assert!(matches!(
        case.judged(&letter),
        Judgement::Later(Later::Crowded)
    ));
    // What waits already is not in its own way.
    let mut case = Case::new();
    case.mark(case.seq(5), of, None);
    for number in 1..HELD_MAX as u64 {
        case.mark(case.seq(10 + number), ObjectId([1; 32]), None);
    }
    assert!(taken(case.judged(&letter)));
}

#[test]
fn a_letter_may_bring_as_much_as_its_sender_may_send() {
    let mut case = Case::new();
    let load = |bytes| Load {
        bytes,
        ..announcement().load
    };
    case.limits.bytes = 1_000;
    let letter = |bytes| Announcement {
        load: load(bytes),
        ..case.letter()
    };
    assert!(taken(case.judged(&letter(1_000))));
    assert_eq!(
        code(case.judged(&letter(1_001))),
        (Code::TooManyBytes, true)
    );
}

#[test]
fn receipts_and_heartbeats_come_from_either_side() {
    let case = Case::new();
    let verdict = Verdict::Accepted;
    assert!(taken(case.judged(&Receipt {
        stamp: case.stamp(),
        of: ObjectId([1; 32]),
        verdict
    })));
    assert!(taken(case.judged(&Heartbeat {
        stamp: case.stamp(),
        last_seen: None
    })));
}

proptest! {
    #[test]
    fn noise_is_refused_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), number in any::<u64>(), kind in 0..6_usize) {
        let case = Case::new();
        let name = ReadyName { seq: case.seq(number), kind: Kind::ALL[kind], ..case.name(&case.letter()) };
        let refused = matches!(case.judge(&name, &bytes), Judgement::Refuse { of: None, .. });
        prop_assert!(refused);
    }

    /// One changed bit, anywhere: never taken, and nothing is answered.
    #[test]
    fn a_changed_bit_is_refused(at in 0..10_000_usize, bit in 0..8_u32) {
        let case = Case::new();
        let mut bytes = case.client.seal(&case.letter());
        let at = at % bytes.len();
        bytes[at] ^= 1_u8 << bit;
        let refused = matches!(case.judge(&case.name(&case.letter()), &bytes), Judgement::Refuse { of: None, .. });
        prop_assert!(refused);
    }
}
