use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::Code;

const FROM: VerifyKey = VerifyKey([7; 32]);

fn epoch(second: u64) -> Epoch {
    Epoch::new(second, [0; 3])
}

fn seq(second: u64, number: u64) -> Seq {
    Seq {
        epoch: epoch(second),
        number,
    }
}

fn of(number: u64) -> ObjectId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    ObjectId(bytes)
}

fn accepted(number: u64) -> Mark {
    Mark {
        of: of(number),
        verdict: Some(Verdict::Accepted),
        at: 10,
    }
}

fn held(number: u64) -> Mark {
    Mark {
        verdict: None,
        ..accepted(number)
    }
}

const DONE: Seen = Seen::Settled {
    verdict: Verdict::Accepted,
};

#[test]
fn the_borders_of_the_window() {
    let mut window = Window::default();
    window.mark(seq(1, WINDOW + 10), accepted(0));
    let rows = [
        (1, Seen::TooOld),
        (10, Seen::TooOld),
        (11, Seen::Never),
        (WINDOW + 9, Seen::Never),
        (u64::MAX, Seen::Never),
    ];
    for (number, expected) in rows {
        assert_eq!(
            window.seen(seq(1, number), of(number)),
            expected,
            "{number}"
        );
    }
    window.mark(seq(1, u64::MAX), accepted(1));
    assert_eq!(window.seen(seq(1, u64::MAX), of(1)), DONE);
    assert_eq!(window.seen(seq(1, WINDOW + 10), of(0)), Seen::TooOld);
    assert_eq!(window.gaps(), vec![u64::MAX - WINDOW + 1..=u64::MAX - 1]);
}

#[test]
fn another_letter_under_a_used_number_is_named() {
    let mut window = Window::default();
    window.mark(seq(1, 1), held(1));
    assert_eq!(window.seen(seq(1, 1), of(1)), Seen::Held);
    assert_eq!(window.seen(seq(1, 1), of(2)), Seen::Other { of: of(1) });
    window.mark(seq(1, 1), accepted(2));
    assert_eq!(
        window.seen(seq(1, 1), of(1)),
        Seen::Held,
        "a mark of another letter changes nothing"
    );
    window.mark(seq(1, 1), accepted(1));
    window.mark(seq(1, 1), held(1));
    assert_eq!(
        window.seen(seq(1, 1), of(1)),
        DONE,
        "what is settled stays settled"
    );
}

#[test]
fn a_letter_that_waits_does_not_grow_too_old() {
    let mut window = Window::default();
    window.mark(seq(1, 1), held(1));
    window.mark(seq(1, 2), accepted(2));
    window.mark(seq(1, 3 * WINDOW), accepted(3));
    assert_eq!(window.seen(seq(1, 1), of(1)), Seen::Held);
    assert_eq!(window.seen(seq(1, 2), of(2)), Seen::TooOld);
    assert_eq!(window.held(), 1);
    window.mark(seq(1, 1), accepted(1));
    assert_eq!(window.held(), 0);
    assert_eq!(window.seen(seq(1, 1), of(1)), Seen::TooOld);
}

#[test]
fn a_new_epoch_keeps_one_before_it_and_no_more() {
    let mut window = Window::default();
    window.mark(seq(5, 1), accepted(1));
    assert_eq!(window.seen(seq(4, 1), of(9)), Seen::StaleEpoch);
    assert_eq!(window.seen(seq(6, 1), of(9)), Seen::Never);
    window.mark(seq(7, 1), accepted(2));
    assert_eq!(window.seen(seq(5, 1), of(1)), DONE);
    assert_eq!(
        window.seen(seq(5, 2), of(9)),
        Seen::Never,
        "what was on its way still comes"
    );
    assert_eq!(
        window.seen(seq(6, 1), of(9)),
        Seen::StaleEpoch,
        "nothing opens between two epochs"
    );
    window.mark(seq(6, 1), accepted(9));
    assert_eq!(window.seen(seq(6, 1), of(9)), Seen::StaleEpoch);
    window.mark(seq(8, 3), accepted(3));
    assert_eq!(window.seen(seq(5, 1), of(1)), Seen::StaleEpoch);
    assert_eq!(window.newest(), Some(seq(8, 3)));
    assert_eq!(window.gaps(), vec![1..=2]);
}

#[test]
fn only_a_refusal_is_forgiven() {
    let refused = Verdict::Refused {
        code: Code::HashMismatch,
    };
    let mut window = Window::default();
    window.mark(seq(1, 1), accepted(1));
    window.mark(
        seq(1, 2),
        Mark {
            verdict: Some(refused),
            ..accepted(2)
        },
    );
    assert_eq!(window.forgiven(seq(1, 1)), None);
    assert_eq!(window.forgiven(seq(1, 3)), None);
    let mark = window.forgiven(seq(1, 2)).unwrap();
    window.mark(seq(1, 2), mark);
    assert_eq!(window.seen(seq(1, 1), of(1)), DONE);
    assert_eq!(window.seen(seq(1, 2), of(2)), Seen::Held);
    assert_eq!(
        window.seen(seq(1, 2), of(3)),
        Seen::Other { of: of(2) },
        "the number is still that letter's"
    );
}

/// Numbers near a moving front, so that all borders are met.
fn numbers() -> impl Strategy<Value = Vec<(u64, bool)>> {
    let step = prop_oneof![0..20_u64, (WINDOW - 3)..(WINDOW + 3), 0..(3 * WINDOW)];
    proptest::collection::vec((step, any::<bool>()), 1..200).prop_map(|steps| {
        let mut front = 1;
        let place = |(step, ahead)| {
            let number = if ahead {
                front + step
            } else {
                u64::saturating_sub(front, step).max(1)
            };
            front = front.max(number);
            (number, ahead)
        };
        steps.into_iter().map(place).collect()
    })
}

proptest! {
    #[test]
    fn each_letter_is_new_once_whatever_the_order(numbers in numbers()) {
        let mut windows = Windows::default();
        let mut model = BTreeSet::new();
        let mut newest = 0;
        let mut rows = Vec::new();
        for (number, _) in numbers {
            let seen = windows.seen(&FROM, seq(1, number), of(number));
            let old = number + WINDOW <= newest;
            let expected = match (old, model.contains(&number)) {
                (true, _) => Seen::TooOld,
                (false, true) => DONE,
                (false, false) => Seen::Never,
            };
            prop_assert_eq!(seen, expected, "number {} after {}", number, newest);
            if seen == Seen::Never {
                let row = Row { from: FROM, seq: seq(1, number), mark: accepted(number) };
                windows.apply(&row);
                rows.push(row);
                model.insert(number);
                newest = newest.max(number);
            }
        }
        let missing: Vec<u64> = (1..=newest).filter(|number| number + WINDOW > newest && !model.contains(number)).collect();
        let gaps: Vec<u64> = windows.of(&FROM).unwrap().gaps().into_iter().flatten().collect();
        prop_assert_eq!(gaps, missing);
        // Both ways to keep the state bring back the same.
        prop_assert_eq!(&Windows::restore(rows), &windows);
        let bytes = postcard::to_stdvec(&windows).unwrap();
        prop_assert_eq!(&postcard::from_bytes::<Windows>(&bytes).unwrap(), &windows);
    }

    #[test]
    fn no_letter_is_ever_new_again(letters in proptest::collection::vec((1..6_u64, 1..6_u64), 1..80)) {
        let mut window = Window::default();
        let mut taken: BTreeMap<Seq, u32> = BTreeMap::new();
        for (second, number) in letters {
            let place = seq(second, number);
            if window.seen(place, of(number)) == Seen::Never {
                *taken.entry(place).or_default() += 1;
                window.mark(place, accepted(number));
            }
        }
        prop_assert!(taken.values().all(|times| *times == 1), "{:?}", taken);
    }

    #[test]
    fn memory_is_bounded(numbers in numbers()) {
        let mut window = Window::default();
        for (number, _) in numbers {
            window.mark(seq(1, number), accepted(number));
        }
        prop_assert!(window.current.unwrap().marks.len() as u64 <= WINDOW);
    }
}
