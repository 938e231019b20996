//! A log that is too long for one object comes back as it was, and only from its own parts in their order.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Cursor, Read, Seek, SeekFrom};

use safelight_audit::{
    Body, Error, Header, Log, Reader, Source,
    parts::{Joined, cut, is_continued},
    verify,
};
use safelight_policies::id::{ClientAlias, JobId, SessionId};

const MOST: u64 = 20 << 20;

fn log(job: u8, records: u64) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let header = Header {
        job: JobId::from_random([job; 10]),
        client: ClientAlias::new("river").unwrap(),
        log: [9; 16],
    };
    let mut log = Log::open(safelight_audit::open_file(&path).unwrap(), &header, 1).unwrap();
    for index in 0..records {
        let body = Body::Sealed {
            session: SessionId::from_random([5; 10]),
            index,
            bytes: vec![index as u8; 100_000],
        };
        log.append(Source::View, index, body).unwrap();
    }
    log.sync().unwrap();
    std::fs::read(path).unwrap()
}

fn parts(log: &[u8]) -> Vec<Vec<u8>> {
    let pieces = cut(Cursor::new(log), MOST).unwrap();
    let read = |piece: &safelight_audit::parts::Piece| {
        let mut bytes = Vec::new();
        piece
            .read(Cursor::new(log))
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(bytes.len() as u64, piece.len());
        bytes
    };
    pieces.iter().map(read).collect()
}

fn join(parts: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    Joined::new(parts.iter().map(Cursor::new))?
        .read_to_end(&mut bytes)
        .unwrap();
    Ok(bytes)
}

#[test]
fn parts_join_to_the_log_that_they_were() {
    let log = log(3, 600);
    let parts = parts(&log);
    assert!(parts.len() > 2);
    assert!(parts.iter().all(|part| part.len() as u64 <= MOST));
    assert!(!is_continued(&parts[0]) && parts[1..].iter().all(|part| is_continued(part)));
    assert!(join(&parts).unwrap() == log);
    let joined = || Joined::new(parts.iter().map(Cursor::new)).unwrap();
    let report = verify(joined(), None).unwrap();
    assert!(report.is_whole() && report.records == 600);
    assert_eq!(Reader::open(joined()).unwrap().count(), 600);
    let mut at = joined();
    for offset in [0, parts[0].len() as u64 - 3, log.len() as u64 - 5] {
        at.seek(SeekFrom::Start(offset)).unwrap();
        let mut few = Vec::new();
        at.by_ref().take(10).read_to_end(&mut few).unwrap();
        let from = offset as usize;
        assert_eq!(few, log[from..(from + 10).min(log.len())]);
    }
    let end = at.seek(SeekFrom::End(0)).unwrap();
    assert_eq!(end, log.len() as u64);
}

#[test]
fn a_short_log_is_one_part_and_the_same_bytes() {
    let log = log(3, 5);
    assert!(parts(&log).concat() == log && parts(&log).len() == 1);
    let mut torn = log.clone();
    torn.truncate(torn.len() - 7);
    assert!(parts(&torn).concat() == torn && parts(&torn).len() == 1);
}

#[test]
fn other_parts_and_another_order_are_refused() {
    let (mine, others) = (parts(&log(3, 600)), parts(&log(4, 600)));
    let refused = |parts: &[&Vec<u8>]| {
        let parts: Vec<_> = parts.iter().map(|part| (*part).clone()).collect();
        join(&parts).is_err()
    };
    assert!(!refused(&[&mine[0], &mine[1], &mine[2]]), "the control");
    assert!(refused(&[&mine[0], &mine[2], &mine[1]]));
    assert!(refused(&[&mine[0], &mine[2]]));
    assert!(refused(&[&mine[1], &mine[2]]));
    assert!(refused(&[&mine[0], &others[1], &mine[2]]));
    assert!(refused(&[&mine[0], &mine[1], &mine[1]]));
    let mut changed = mine.clone();
    for at in 0..60 {
        changed[1][at] ^= 1;
        assert!(join(&changed).is_err(), "byte {at}");
        changed[1][at] ^= 1;
    }
    // A record in a part that was changed is found as in any log.
    let middle = changed[1].len() / 2;
    changed[1][middle] ^= 1;
    let joined = Joined::new(changed.iter().map(Cursor::new)).unwrap();
    assert!(!verify(joined, None).unwrap().is_whole());
}
