//! A pass by many threads sees what a reader sees, in order, whatever the blocks are.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Cursor;

use safelight_audit::{
    Body, BodyRef, Checkpoint, Finding, Header, Log, Reader, Record, RecordRef, Source,
    pass::{BLOCK_BYTES, Block, begin, pass},
    verify,
};
use safelight_policies::{
    event::Control,
    id::{ClientAlias, JobId, SessionId},
};

fn body(index: u64) -> Body {
    match index % 5 {
        3 => Body::Control(Control::Recovered { bytes: index }),
        _ => Body::Sealed {
            session: SessionId::from_random([5; 10]),
            index,
            bytes: vec![index as u8; 100_000 + index as usize],
        },
    }
}

/// A log of several blocks, and where it stands.
fn log(records: u64) -> (Vec<u8>, Checkpoint) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let header = Header {
        job: JobId::from_random([3; 10]),
        client: ClientAlias::new("river").unwrap(),
        log: [9; 16],
    };
    let mut log = Log::open(safelight_audit::open_file(&path).unwrap(), &header, 1).unwrap();
    for index in 0..records {
        log.append(Source::View, 1_000 + index, body(index))
            .unwrap();
    }
    let end = log.sync().unwrap();
    (std::fs::read(path).unwrap(), end)
}

fn owned(record: &RecordRef<'_>) -> Record {
    let body = match &record.body {
        BodyRef::Control(control) => Body::Control(control.clone()),
        BodyRef::Sealed {
            session,
            index,
            bytes,
        } => Body::Sealed {
            session: *session,
            index: *index,
            bytes: bytes.to_vec(),
        },
    };
    Record {
        seq: record.seq,
        at_ns: record.at_ns,
        source: record.source,
        body,
    }
}

/// The records of each block; `None` where one does not follow.
fn blocks(bytes: &[u8]) -> (Vec<Vec<Option<Record>>>, bool) {
    let all = |block: &Block| {
        let records = block.records();
        records
            .map(|entry| entry.map(|entry| owned(&entry.record)))
            .collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    let passed = pass(Cursor::new(bytes), all, |block| {
        found.push(block);
        true
    });
    (found, passed.unwrap().complete)
}

#[test]
fn a_pass_sees_what_a_reader_sees() {
    let (bytes, end) = log(500);
    let (found, complete) = blocks(&bytes);
    assert!(complete);
    assert!(found.len() > 2 && bytes.len() > 2 * BLOCK_BYTES);
    let all: Vec<Record> = found.concat().into_iter().map(Option::unwrap).collect();
    let read: Vec<Record> = Reader::open(&bytes[..])
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(all, read);
    let passed = pass(Cursor::new(&bytes), |_| (), |()| true).unwrap();
    assert_eq!(
        (passed.end.at, passed.end.offset),
        (end, bytes.len() as u64)
    );
    assert_eq!(begin(Cursor::new(&bytes)).unwrap().0, passed.header);
}

#[test]
fn who_has_seen_enough_gets_no_more() {
    let (bytes, _) = log(500);
    let mut taken = 0;
    let passed = pass(
        Cursor::new(&bytes),
        |_| (),
        |()| {
            taken += 1;
            taken < 2
        },
    );
    assert!(!passed.unwrap().complete);
    assert_eq!(taken, 2);
}

#[test]
fn a_change_in_any_block_and_an_anchor_in_any_block_are_found() {
    let (bytes, end) = log(500);
    for at in [
        300,
        BLOCK_BYTES - 5,
        BLOCK_BYTES + 60_000,
        bytes.len() - 40,
        bytes.len() - 1,
    ] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let (found, _) = blocks(&changed);
        assert!(found.concat().contains(&None), "byte {at}");
        let report = verify(Cursor::new(&changed), Some(end)).unwrap();
        assert!(!report.is_whole(), "byte {at}");
    }
    for cut in [1, 40, BLOCK_BYTES] {
        let short = &bytes[..bytes.len() - cut];
        assert!(!verify(Cursor::new(short), Some(end)).unwrap().is_whole());
    }
    for records in [0, 1, 211, 499, 500] {
        let mut reader = Reader::open(&bytes[..]).unwrap();
        (&mut reader).take(records).for_each(drop);
        let anchor = reader.checkpoint();
        assert_eq!(anchor.records, records as u64);
        let report = verify(Cursor::new(&bytes), Some(anchor)).unwrap();
        assert!(report.is_whole(), "{:?}", report.findings);
        let mut other = anchor;
        other.chain[0] ^= 1;
        let report = verify(Cursor::new(&bytes), Some(other)).unwrap();
        let record = anchor.records;
        assert_eq!(report.findings, [Finding::Rewritten { record }]);
    }
}
