//! Real logs with real seals, read at home.

mod indexed;
mod several;

use std::io::Cursor;

use safelight_audit::{Body, Checkpoint, Reader};
use safelight_seal::job_key::JobKey;

use super::{
    name::Runs,
    reading::Records,
    samples::farm::{JOB, access, key, log_of, sealed},
    *,
};

const A: SessionId = SessionId::from_random([2; 10]);
const B: SessionId = SessionId::from_random([3; 10]);

/// A job's own log of these bodies: its bytes, and where it stands.
fn log(bodies: Vec<Body>) -> (Vec<u8>, Checkpoint) {
    log_of(LogOf::Job, bodies.into_iter().map(|body| (2, body)))
}

fn opened(
    bytes: Vec<u8>,
    key: &JobKey,
    anchor: Option<Checkpoint>,
) -> (Vec<What>, Result<(), String>) {
    let reader = Reader::open(Cursor::new(bytes)).unwrap();
    let runs = Runs::new();
    let records = match Records::new(reader, (JOB, Name::Job), &runs, key, anchor) {
        Ok(records) => records,
        Err(failure) => return (Vec::new(), Err(failure.to_string())),
    };
    let (mut all, mut end) = (Vec::new(), Ok(()));
    for record in records {
        assert!(end.is_ok(), "nothing comes after a failure");
        match record {
            Ok(record) => all.push(record.what),
            Err(failure) => end = Err(failure.to_string()),
        }
    }
    (all, end)
}

fn read_of(session: SessionId, path: &str) -> What {
    What::Access {
        session,
        access: access(path),
    }
}

#[test]
fn records_of_several_sessions_open_in_order() {
    let key = key();
    let (bytes, checkpoint) = log(vec![
        Body::Control(Control::Packed { files: 1, bytes: 2 }),
        sealed(&key, A, 0, "/c/a"),
        sealed(&key, B, 0, "/c/b"),
        sealed(&key, A, 1, "/c/c"),
    ]);
    let (all, end) = opened(bytes, &key, Some(checkpoint));
    assert_eq!(end, Ok(()));
    assert_eq!(
        all,
        [
            What::Control(Control::Packed { files: 1, bytes: 2 }),
            read_of(A, "/c/a"),
            read_of(B, "/c/b"),
            read_of(A, "/c/c"),
        ]
    );
}

#[test]
fn what_does_not_open_is_reported_in_its_place() {
    let (key, other) = (key(), key());
    let plain = postcard::to_stdvec(&access("/c/a")).unwrap();
    let seal = |index, plain: &[u8]| Body::Sealed {
        session: A,
        index,
        bytes: key.audit_key(A).seal(index, plain).unwrap(),
    };
    let wrong_place = match sealed(&key, B, 1, "/c/a") {
        Body::Sealed { bytes, .. } => Body::Sealed {
            session: A,
            index: 1,
            bytes,
        },
        other => other,
    };
    let longer = [plain.as_slice(), b"x"].concat();
    let (bytes, _) = log(vec![
        sealed(&other, A, 0, "/c/a"),
        wrong_place,
        seal(2, b"not an access"),
        seal(3, &longer),
        Body::Sealed {
            session: A,
            index: 4,
            bytes: Vec::new(),
        },
        seal(5, &plain),
    ]);
    let (all, end) = opened(bytes, &key, None);
    assert_eq!(end, Ok(()));
    let unreadable = |index| What::Unreadable { session: A, index };
    assert_eq!(
        all,
        [
            unreadable(0),
            unreadable(1),
            unreadable(2),
            unreadable(3),
            unreadable(4),
            read_of(A, "/c/a"),
        ]
    );
}

#[test]
fn a_gap_and_a_repetition_are_reported_and_hide_nothing() {
    let key = key();
    let (bytes, _) = log(vec![
        sealed(&key, A, 0, "/c/0"),
        sealed(&key, A, 2, "/c/2"),
        sealed(&key, A, 3, "/c/3"),
        sealed(&key, A, 2, "/c/2"),
        sealed(&key, A, 4, "/c/4"),
        sealed(&key, A, u64::MAX, "/c/max"),
        sealed(&key, A, u64::MAX, "/c/max"),
    ]);
    let (all, end) = opened(bytes, &key, None);
    assert_eq!(end, Ok(()));
    let out_of_turn = |index, expected| What::OutOfTurn {
        session: A,
        index,
        expected,
    };
    assert_eq!(
        all,
        [
            read_of(A, "/c/0"),
            out_of_turn(2, 1),
            read_of(A, "/c/2"),
            read_of(A, "/c/3"),
            out_of_turn(2, 4),
            read_of(A, "/c/2"),
            read_of(A, "/c/4"),
            out_of_turn(u64::MAX, 5),
            read_of(A, "/c/max"),
            out_of_turn(u64::MAX, u64::MAX),
            read_of(A, "/c/max"),
        ]
    );
}

#[test]
fn a_changed_log_ends_with_a_failure_after_what_holds() {
    let key = key();
    let bodies = |path| vec![sealed(&key, A, 0, "/c/a"), sealed(&key, A, 1, path)];
    let (bytes, checkpoint) = log(bodies("/c/b"));
    let mut flipped = bytes.clone();
    let near_end = flipped.len() - 40;
    flipped[near_end] ^= 1;
    let (all, end) = opened(flipped, &key, Some(checkpoint));
    assert_eq!(all, [read_of(A, "/c/a")]);
    let end = end.unwrap_err();
    assert!(
        end.starts_with(&format!("error: the log of {JOB} was changed: record 2")),
        "{end}"
    );
    assert!(end.contains(&format!("hint: safelight audit verify {JOB}")));

    let (shorter, _) = log(vec![sealed(&key, A, 0, "/c/a")]);
    let (all, end) = opened(shorter, &key, Some(checkpoint));
    assert_eq!(all, [read_of(A, "/c/a")]);
    assert_eq!(
        end.unwrap_err(),
        format!(
            "error: the log of {JOB} was changed: the log was cut off after record 1; there were 2"
        )
    );

    let (rewritten, _) = log(bodies("/c/x"));
    let (all, end) = opened(rewritten, &key, Some(checkpoint));
    assert_eq!(all, [read_of(A, "/c/a")]);
    let end = end.unwrap_err();
    assert!(end.contains("rewritten at or before record 2"), "{end}");

    let (empty, anchor) = log(Vec::new());
    assert_eq!(
        opened(empty.clone(), &key, Some(anchor)),
        (Vec::new(), Ok(()))
    );
    let other = Checkpoint {
        records: 0,
        chain: [9; 32],
    };
    let (_, end) = opened(empty, &key, Some(other));
    assert!(end.unwrap_err().contains("rewritten"));
}

#[test]
fn a_log_that_grew_since_it_was_noted_is_whole() {
    let key = key();
    let first = sealed(&key, A, 0, "/c/a");
    let (_, checkpoint) = log(vec![first.clone()]);
    let (bytes, _) = log(vec![first, sealed(&key, A, 1, "/c/b")]);
    let (all, end) = opened(bytes, &key, Some(checkpoint));
    assert_eq!(end, Ok(()));
    assert_eq!(all, [read_of(A, "/c/a"), read_of(A, "/c/b")]);
}
