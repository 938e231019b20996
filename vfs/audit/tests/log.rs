//! A log that a crash left behind is opened again without losing a record that was promised, and nothing else is repaired.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use safelight_audit::{
    Body, Checkpoint, Error, Finding, Header, Log, Reader, Record, Source, open_file, verify,
};
use safelight_policies::{
    cause::Cause,
    event::Control,
    id::{ClientAlias, JobId, SessionId, SlotIndex, TaskId},
};

fn header(job: u8) -> Header {
    Header {
        job: JobId::from_random([job; 10]),
        client: ClientAlias::new("river").unwrap(),
        log: [9; 16],
    }
}

fn body(index: u64) -> Body {
    Body::Sealed {
        session: SessionId::from_random([5; 10]),
        index,
        bytes: vec![index as u8; 50],
    }
}

fn write(path: &Path, records: u64) -> Checkpoint {
    let mut log = Log::open(open_file(path).unwrap(), &header(3), 1).unwrap();
    for index in 0..records {
        log.append(Source::View, index, body(index)).unwrap();
    }
    log.sync().unwrap()
}

fn read(path: &Path) -> Vec<Record> {
    Reader::open(fs::File::open(path).unwrap())
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn a_log_cut_at_any_byte_opens_again_and_says_what_was_cut() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    write(&path, 3);
    let whole = fs::read(&path).unwrap();
    let sizes: Vec<usize> = {
        let mut reader = Reader::open(&whole[..]).unwrap();
        let mut sizes = vec![reader.offset() as usize];
        while let Some(record) = reader.next() {
            record.unwrap();
            sizes.push(reader.offset() as usize);
        }
        sizes
    };
    for keep in 0..=whole.len() {
        fs::write(&path, &whole[..keep]).unwrap();
        let mut log = Log::open(open_file(&path).unwrap(), &header(3), 77).unwrap();
        log.append(Source::Agent, 78, body(9)).unwrap();
        let anchor = log.sync().unwrap();
        drop(log);
        let kept = sizes.iter().filter(|size| **size <= keep).count();
        let cut = keep - sizes[..kept].last().copied().unwrap_or(0);
        let mut expected: Vec<Body> = (1..kept as u64).map(|count| body(count - 1)).collect();
        if cut > 0 {
            expected.push(Body::Control(Control::Recovered { bytes: cut as u64 }));
        }
        expected.push(body(9));
        let found: Vec<Body> = read(&path).into_iter().map(|record| record.body).collect();
        assert_eq!(found, expected, "cut at {keep}");
        let report = verify(fs::File::open(&path).unwrap(), Some(anchor)).unwrap();
        assert!(report.is_whole(), "cut at {keep}: {:?}", report.findings);
    }
}

#[test]
fn zeros_at_the_end_are_cut_off_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let anchor = write(&path, 3);
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend([0; 300_000]);
    fs::write(&path, bytes).unwrap();
    drop(Log::open(open_file(&path).unwrap(), &header(3), 1).unwrap());
    let last = read(&path).pop().unwrap();
    assert_eq!(
        last.body,
        Body::Control(Control::Recovered { bytes: 300_000 })
    );
    assert_eq!(last.source, Source::Writer);
    assert!(
        verify(fs::File::open(&path).unwrap(), Some(anchor))
            .unwrap()
            .is_whole()
    );
}

#[test]
fn a_log_that_was_changed_is_not_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    write(&path, 10);
    let honest = fs::read(&path).unwrap();
    for at in 0..honest.len() {
        let mut bytes = honest.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let result = Log::open(open_file(&path).unwrap(), &header(3), 1);
        assert!(result.is_err(), "byte {at}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "byte {at}");
    }
}

#[test]
fn a_file_that_is_no_log_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    for bytes in [
        &b"#!"[..],
        b"SLAUDIT!",
        b"some text that someone wrote",
        &[0; 1000],
    ] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(
            Log::open(open_file(&path).unwrap(), &header(3), 1),
            Err(Error::NotALog)
        ));
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn another_jobs_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    write(&path, 1);
    let error = Log::open(open_file(&path).unwrap(), &header(4), 1)
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "the audit log belongs to {} of river, not to {} of river",
            header(3).job,
            header(4).job
        )
    );
}

#[test]
fn a_log_has_one_writer_and_only_appends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = Log::open(open_file(&path).unwrap(), &header(3), 1).unwrap();
    assert!(matches!(
        Log::open(open_file(&path).unwrap(), &header(3), 1),
        Err(Error::Locked)
    ));
    drop(log);
    let plain = fs::OpenOptions::new().read(true).write(true).open(&path);
    assert!(matches!(
        Log::open(plain.unwrap(), &header(3), 1),
        Err(Error::NotAppendable)
    ));
    let directory = fs::File::open(directory.path()).unwrap();
    assert!(matches!(
        Log::open(directory, &header(3), 1),
        Err(Error::NotAppendable)
    ));
}

#[test]
fn a_log_is_for_its_owner_only_and_not_through_a_link() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mode = open_file(&path).unwrap().metadata().unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(open_file(&link), Err(Error::Open { .. })));
}

fn events() -> Vec<Control> {
    let session = SessionId::from_random([1; 10]);
    let causes = [
        Cause::Exited { code: 3 },
        Cause::Killed { signal: 9 },
        Cause::OutOfMemory,
        Cause::NotStarted {
            step: "mount".into(),
            errno: 1,
        },
    ];
    let mut events: Vec<Control> = causes
        .into_iter()
        .map(|cause| Control::Ended { session, cause })
        .collect();
    events.extend([
        Control::Packed { files: 1, bytes: 2 },
        Control::Leased {
            session,
            task: TaskId { step: 0, task: 12 },
            attempt: 1,
            fence: 7,
            node: "localhost".parse().unwrap(),
            slot: SlotIndex(3),
        },
        Control::KeyReleased {
            session,
            to: [4; 32],
        },
        Control::KeyRefused {
            session,
            reason: "late".into(),
        },
        Control::Started {
            session,
            policy: [2; 32],
            landlock_abi: 7,
        },
        Control::Committed {
            session,
            manifest: [8; 32],
            files: 1,
            bytes: 2,
        },
        Control::SetApart {
            session,
            reason: "failed".into(),
        },
        Control::DebugAccess {
            uid: 0,
            how: "ls".into(),
        },
    ]);
    events
}

#[test]
fn every_control_event_is_read_back_as_it_was_written() {
    let events = events();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut log = Log::open(open_file(&path).unwrap(), &header(3), 1).unwrap();
    for event in &events {
        log.append(Source::Agent, 5, Body::Control(event.clone()))
            .unwrap();
    }
    log.sync().unwrap();
    let found: Vec<Body> = read(&path).into_iter().map(|record| record.body).collect();
    assert_eq!(
        found,
        events.into_iter().map(Body::Control).collect::<Vec<_>>()
    );
}

#[test]
fn a_reader_follows_a_log_that_grows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut log = Log::open(open_file(&path).unwrap(), &header(3), 1).unwrap();
    let mut reader = Reader::open(fs::File::open(&path).unwrap()).unwrap();
    for index in 0..3 {
        assert!(reader.next().is_none());
        log.append(Source::View, 1, body(index)).unwrap();
        assert!(reader.next().is_none(), "not flushed yet");
        log.flush().unwrap();
        assert_eq!(reader.next().unwrap().unwrap().body, body(index));
    }
}

#[test]
fn a_record_that_is_too_long_leaves_the_log_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut log = Log::open(open_file(&path).unwrap(), &header(3), 1).unwrap();
    let long = Body::Sealed {
        session: SessionId::from_random([5; 10]),
        index: 0,
        bytes: vec![1; safelight_audit::BODY_MAX],
    };
    assert!(matches!(
        log.append(Source::View, 1, long),
        Err(Error::TooLong { .. })
    ));
    log.append(Source::View, 1, body(1)).unwrap();
    let anchor = log.sync().unwrap();
    let report = verify(fs::File::open(&path).unwrap(), Some(anchor)).unwrap();
    assert_eq!(
        (report.records, report.findings),
        (1, Vec::<Finding>::new())
    );
}
