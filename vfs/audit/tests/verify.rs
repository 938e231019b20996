//! Every kind of edit of a log is found, and named for what it is.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Cursor;

use proptest::prelude::*;
use safelight_audit::{Body, Checkpoint, Finding, Header, Log, Reader, Source, verify};
use safelight_policies::{
    event::Control,
    id::{ClientAlias, JobId, SessionId},
};

const RECORDS: usize = 50;

fn header() -> Header {
    Header {
        job: JobId::from_random([3; 10]),
        client: ClientAlias::new("river").unwrap(),
        log: [9; 16],
    }
}

fn body(index: u64) -> Body {
    if index % 7 == 3 {
        Body::Control(Control::Delivered {
            files: index,
            kept_aside: 0,
        })
    } else {
        Body::Sealed {
            session: SessionId::from_random([5; 10]),
            index,
            bytes: vec![index as u8 ^ 0x5a; 20 + (index as usize * 13) % 90],
        }
    }
}

/// A log in parts: the header's bytes, then each frame's.
struct Parts {
    header: Vec<u8>,
    frames: Vec<Vec<u8>>,
    anchor: Checkpoint,
}

fn write(records: u64, salt: u64) -> (Vec<u8>, Checkpoint) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut log = Log::open(safelight_audit::open_file(&path).unwrap(), &header(), 1).unwrap();
    for index in 0..records {
        log.append(Source::View, 1_000 + index + salt, body(index))
            .unwrap();
    }
    let anchor = log.sync().unwrap();
    (std::fs::read(path).unwrap(), anchor)
}

fn parts() -> Parts {
    let (bytes, anchor) = write(RECORDS as u64, 0);
    let mut at = 12 + usize::from(u16::from_le_bytes([bytes[10], bytes[11]])) + 32;
    let header = bytes[..at].to_vec();
    let mut frames = Vec::new();
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize + 36;
        frames.push(bytes[at..at + len].to_vec());
        at += len;
    }
    assert_eq!(frames.len(), RECORDS);
    Parts {
        header,
        frames,
        anchor,
    }
}

impl Parts {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.clone();
        bytes.extend(self.frames.concat());
        bytes
    }
    fn findings(&self) -> Vec<Finding> {
        check(self.bytes(), self.anchor)
    }
}

fn check(bytes: Vec<u8>, anchor: Checkpoint) -> Vec<Finding> {
    verify(Cursor::new(bytes), Some(anchor)).unwrap().findings
}

#[test]
fn an_honest_log_is_whole() {
    let parts = parts();
    let report = verify(Cursor::new(parts.bytes()), Some(parts.anchor)).unwrap();
    assert!(report.is_whole());
    assert_eq!(report.records, RECORDS as u64);
    assert_eq!(report.chain, parts.anchor.chain);
    assert_eq!(report.header, Some(header()));
    let records: Vec<_> = Reader::open(Cursor::new(parts.bytes()))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(records.iter().zip(0..).all(|(record, index)| {
        record.seq == index + 1 && record.body == body(index) && record.source == Source::View
    }));
}

#[test]
fn an_earlier_anchor_holds_for_a_log_that_grew() {
    let (_, early) = write(20, 0);
    assert_eq!(check(parts().bytes(), early), []);
    let (_, none) = write(0, 0);
    assert_eq!(check(parts().bytes(), none), []);
}

#[test]
fn every_flipped_bit_of_a_record_names_the_record() {
    for record in [0, 1, 3, 24, 48, 49] {
        let honest = parts();
        for byte in 0..honest.frames[record].len() {
            for bit in [0, 3, 7] {
                let mut parts = parts_from(&honest);
                parts.frames[record][byte] ^= 1 << bit;
                let findings = parts.findings();
                let expected = Finding::Changed {
                    record: record as u64 + 1,
                };
                assert!(
                    findings == [expected],
                    "record {} byte {byte} bit {bit}: {findings:?}",
                    record + 1
                );
            }
        }
    }
}

fn parts_from(parts: &Parts) -> Parts {
    Parts {
        header: parts.header.clone(),
        frames: parts.frames.clone(),
        anchor: parts.anchor,
    }
}

#[test]
fn every_flipped_bit_of_the_header_is_found() {
    let honest = parts();
    for byte in 0..honest.header.len() {
        let mut parts = parts_from(&honest);
        parts.header[byte] ^= 4;
        match verify(Cursor::new(parts.bytes()), Some(parts.anchor)) {
            Ok(report) => assert_eq!(report.findings, [Finding::HeaderChanged], "byte {byte}"),
            Err(error) => assert!(
                matches!(error, safelight_audit::Error::Version { .. }) && (8..10).contains(&byte)
            ),
        }
    }
}

#[test]
fn a_removed_record_is_missing() {
    for record in [0, 1, 24, 48] {
        let mut parts = parts();
        parts.frames.remove(record);
        let n = record as u64 + 1;
        assert_eq!(parts.findings(), [Finding::Missing { first: n, last: n }]);
    }
    let mut parts = parts();
    parts.frames.drain(9..20);
    assert_eq!(
        parts.findings(),
        [Finding::Missing {
            first: 10,
            last: 20
        }]
    );
}

#[test]
fn swapped_records_are_out_of_order() {
    for record in [0, 1, 24, 48] {
        let mut parts = parts();
        parts.frames.swap(record, record + 1);
        let n = record as u64 + 1;
        assert_eq!(
            parts.findings(),
            [Finding::OutOfOrder { first: n, last: n }]
        );
    }
}

#[test]
fn a_record_moved_to_the_end_is_out_of_order() {
    let mut parts = parts();
    let frame = parts.frames.remove(9);
    parts.frames.push(frame);
    assert_eq!(
        parts.findings(),
        [Finding::OutOfOrder {
            first: 10,
            last: 10
        }]
    );
}

#[test]
fn a_duplicated_record_is_there_twice() {
    for (from, to) in [(0, 1), (9, 10), (9, 30), (49, 50)] {
        let mut parts = parts();
        let frame = parts.frames[from].clone();
        parts.frames.insert(to, frame);
        let n = from as u64 + 1;
        assert_eq!(parts.findings(), [Finding::Repeated { first: n, last: n }]);
    }
}

#[test]
fn several_edits_are_all_named() {
    let mut parts = parts();
    parts.frames.swap(30, 31);
    parts.frames.remove(20);
    parts.frames[10][8] ^= 1;
    let length = parts.frames[4][0] ^ 0x40;
    parts.frames[4][0] = length;
    assert_eq!(
        parts.findings(),
        [
            Finding::Changed { record: 5 },
            Finding::Changed { record: 11 },
            Finding::Missing {
                first: 21,
                last: 21
            },
            Finding::OutOfOrder {
                first: 31,
                last: 31
            },
        ]
    );
}

#[test]
fn a_cut_between_records_is_seen_by_the_anchor_only() {
    let mut parts = parts();
    parts.frames.truncate(40);
    assert_eq!(
        parts.findings(),
        [Finding::CutOff {
            after: 40,
            anchored: 50
        }]
    );
    assert!(verify(Cursor::new(parts.bytes()), None).unwrap().is_whole());
    parts.frames.clear();
    assert_eq!(
        parts.findings(),
        [Finding::CutOff {
            after: 0,
            anchored: 50
        }]
    );
}

#[test]
fn a_cut_inside_a_record_is_torn() {
    let honest = parts();
    for keep in 1..honest.frames[39].len() {
        let mut parts = parts_from(&honest);
        parts.frames.truncate(40);
        parts.frames[39].truncate(keep);
        let bytes = keep as u64;
        assert_eq!(
            parts.findings(),
            [
                Finding::CutOff {
                    after: 39,
                    anchored: 50
                },
                Finding::Torn { after: 39, bytes }
            ]
        );
    }
}

#[test]
fn what_is_appended_is_garbage_or_torn() {
    let table: [(&[u8], Finding); 4] = [
        (
            &[0xff; 100],
            Finding::Garbage {
                after: 50,
                bytes: 100,
            },
        ),
        (
            &[1, 2],
            Finding::Torn {
                after: 50,
                bytes: 2,
            },
        ),
        (
            &[9, 0, 0, 0, 1],
            Finding::Torn {
                after: 50,
                bytes: 5,
            },
        ),
        (
            &[0; 70],
            Finding::Torn {
                after: 50,
                bytes: 70,
            },
        ),
    ];
    for (bytes, expected) in table {
        let mut parts = parts();
        parts.frames.push(bytes.to_vec());
        assert_eq!(parts.findings(), [expected]);
    }
    // A frame whose length fits, but which is no record and links to nothing.
    let mut parts = parts();
    parts.frames.push([&[4, 0, 0, 0][..], &[7; 36]].concat());
    assert_eq!(parts.findings(), [Finding::Changed { record: 51 }]);
}

#[test]
fn a_consistent_rewrite_is_caught_by_the_anchor() {
    let (rewritten, _) = write(RECORDS as u64 + 5, 1);
    assert!(
        verify(Cursor::new(rewritten.clone()), None)
            .unwrap()
            .is_whole()
    );
    assert_eq!(
        check(rewritten, parts().anchor),
        [Finding::Rewritten { record: 50 }]
    );
}

#[test]
fn a_forged_record_in_between_doubles_a_number() {
    // Linked to its predecessor as a writer would do it: the genuine record of that number then stands beside it.
    let honest = parts();
    let (longer, _) = write(11, 0);
    let (other, _) = write(10, 0);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    std::fs::write(&path, other).unwrap();
    let mut log = Log::open(safelight_audit::open_file(&path).unwrap(), &header(), 1).unwrap();
    log.append(Source::Agent, 7, body(1)).unwrap();
    log.sync().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    assert_ne!(bytes, longer);
    bytes.extend(honest.frames[10..].concat());
    assert_eq!(
        check(bytes, honest.anchor),
        [Finding::Repeated {
            first: 11,
            last: 11
        }]
    );
}

#[test]
fn a_file_that_is_no_log_says_so() {
    for bytes in [&b""[..], b"SLAUDIT", &[0; 4096], b"#!/bin/sh\n"] {
        let report = verify(Cursor::new(bytes), None).unwrap();
        assert_eq!(report.findings, [Finding::HeaderChanged]);
        assert_eq!(report.header, None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any edit at all is found with the anchor, and no input makes the verification fail or hang.
    #[test]
    fn no_edit_passes(edits in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..6), cut in prop::option::of(any::<prop::sample::Index>())) {
        let parts = parts();
        let honest = parts.bytes();
        let mut bytes = honest.clone();
        for (at, flip) in edits {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        prop_assume!(bytes != honest);
        if let Ok(report) = verify(Cursor::new(&bytes), Some(parts.anchor)) {
            prop_assert!(!report.is_whole());
        }
        // The strict reader never hands out a record that was not written.
        if let Ok(reader) = Reader::open(Cursor::new(&bytes)) {
            for (record, index) in reader.take_while(Result::is_ok).flatten().zip(0..) {
                prop_assert_eq!(record.seq, index + 1);
                prop_assert_eq!(record.body, body(index));
            }
        }
    }

    #[test]
    fn any_bytes_are_only_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        let mut all = parts().header;
        all.extend(&bytes);
        let report = verify(Cursor::new(&all), None).unwrap();
        prop_assert_eq!(report.is_whole(), bytes.is_empty());
    }
}
