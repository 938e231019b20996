//! The writer process's loop: nothing that it took is lost, nobody speaks for another, and a full disk stops everybody.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    fs::File,
    os::fd::AsFd,
    path::Path,
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use safelight_audit::{
    Body, Checkpoint, Error, FromWriter, Order, Reader, Record, Recorder, Source, open_file,
    verify, writer,
};
use safelight_channel::Channel;
use safelight_policies::{
    event::Control,
    id::{ClientAlias, JobId, SessionId},
};

fn order(sources: &[Source]) -> Order {
    Order {
        job: JobId::from_random([3; 10]),
        client: ClientAlias::new("river").unwrap(),
        log: [1; 16],
        sources: sources.to_vec(),
    }
}

fn body(index: u64) -> Body {
    Body::Sealed {
        session: SessionId::from_random([5; 10]),
        index,
        bytes: vec![index as u8; 40],
    }
}

struct Running {
    parent: Channel,
    ends: Vec<Channel>,
    thread: JoinHandle<Result<Checkpoint, Error>>,
}

fn start(file: File, sources: &[Source]) -> Running {
    let (parent, child) = Channel::pair().unwrap();
    let thread = thread::spawn(move || writer::serve(&child, || 42));
    let (ends, theirs): (Vec<_>, Vec<_>) = sources.iter().map(|_| Channel::pair().unwrap()).unzip();
    let mut descriptors = vec![file.as_fd()];
    descriptors.extend(theirs.iter().map(AsFd::as_fd));
    parent.send_with(&order(sources), &descriptors).unwrap();
    assert!(matches!(
        parent.expect().unwrap().message,
        FromWriter::Synced(_)
    ));
    Running {
        parent,
        ends,
        thread,
    }
}

fn read(path: &Path) -> Vec<Record> {
    Reader::open(File::open(path).unwrap())
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn records_of_many_threads_and_sources_are_all_there_in_each_ones_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let sources = [Source::View, Source::Agent, Source::Warden];
    let mut running = start(open_file(&path).unwrap(), &sources);
    let ends: Vec<_> = running.ends.drain(..).collect();
    thread::scope(|scope| {
        for end in ends {
            scope.spawn(move || {
                let recorder = Recorder::new(end).unwrap();
                for index in 0..2_000 {
                    recorder.append(body(index)).unwrap();
                    if index % 500 == 499 {
                        let checkpoint = recorder.sync().unwrap();
                        assert!(checkpoint.records > index);
                    }
                }
            });
        }
    });
    let end = running.thread.join().unwrap().unwrap();
    assert_eq!(end.records, 6_000);
    assert_eq!(
        running.parent.expect::<FromWriter>().unwrap().message,
        FromWriter::Synced(end)
    );
    assert!(
        verify(File::open(&path).unwrap(), Some(end))
            .unwrap()
            .is_whole()
    );
    let records = read(&path);
    for source in sources {
        let bodies: Vec<&Body> = records
            .iter()
            .filter(|record| record.source == source)
            .map(|record| &record.body)
            .collect();
        assert!(bodies.into_iter().cloned().eq((0..2_000).map(body)));
    }
}

/// The order of a log is that in which the writer took the records, whatever the clock says.
#[test]
fn a_clock_that_is_set_back_changes_times_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (parent, child) = Channel::pair().unwrap();
    let (end, theirs) = Channel::pair().unwrap();
    let ticks = std::sync::atomic::AtomicU64::new(0);
    // An hour back after a hundred looks, and to the beginning of time later.
    let clock = move || match ticks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        tick @ 0..100 => 7_200_000_000_000 + tick,
        tick @ 100..200 => 3_600_000_000_000 + tick,
        _ => 0,
    };
    let thread = thread::spawn(move || writer::serve(&child, clock));
    let file = open_file(&path).unwrap();
    let descriptors = [file.as_fd(), theirs.as_fd()];
    parent
        .send_with(&order(&[Source::View]), &descriptors)
        .unwrap();
    parent.expect::<FromWriter>().unwrap();
    drop((file, theirs));
    let recorder = Recorder::new(end).unwrap();
    for index in 0..300 {
        recorder.append(body(index)).unwrap();
        if index % 50 == 0 {
            recorder.sync().unwrap();
        }
    }
    let at = recorder.sync().unwrap();
    drop(recorder);
    assert_eq!(thread.join().unwrap().unwrap(), at);
    let log = || File::open(&path).unwrap();
    assert!(verify(log(), Some(at)).unwrap().is_whole());
    let records = read(&path);
    assert!(records.iter().map(|record| record.seq).eq(1..=300));
    assert!(
        records
            .iter()
            .map(|record| record.body.clone())
            .eq((0..300).map(body))
    );
    let back = records.windows(2).filter(|two| two[1].at_ns < two[0].at_ns);
    assert_eq!(back.count(), 2, "the control: the clock was set back");
    // And it is opened and gone on with.
    let mut again = safelight_audit::Log::open(
        open_file(&path).unwrap(),
        &safelight_audit::Header {
            job: order(&[]).job,
            client: order(&[]).client,
            log: [1; 16],
        },
        0,
    )
    .unwrap();
    again.append(Source::Agent, 0, body(300)).unwrap();
    assert_eq!(again.sync().unwrap().records, 301);
}

#[test]
fn a_synced_record_is_in_the_file_and_under_the_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut running = start(open_file(&path).unwrap(), &[Source::View]);
    let recorder = Recorder::new(running.ends.remove(0)).unwrap();
    for index in 0..5 {
        recorder.append(body(index)).unwrap();
        let checkpoint = recorder.sync().unwrap();
        let report = verify(File::open(&path).unwrap(), Some(checkpoint)).unwrap();
        assert!(report.is_whole());
        assert_eq!(
            (report.records, report.chain),
            (index + 1, checkpoint.chain)
        );
    }
    drop(recorder);
    running.thread.join().unwrap().unwrap();
}

#[test]
fn what_a_source_sent_before_it_died_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let running = start(open_file(&path).unwrap(), &[Source::View]);
    for end in running.ends {
        for index in 0..300 {
            end.send(&safelight_audit::ToWriter::Append { body: body(index) })
                .unwrap();
        }
        // The answer to this is never read, which is how a killed view server looks.
        end.send(&safelight_audit::ToWriter::Sync).unwrap();
        for index in 300..600 {
            end.send(&safelight_audit::ToWriter::Append { body: body(index) })
                .unwrap();
        }
    }
    assert_eq!(running.thread.join().unwrap().unwrap().records, 600);
    assert!(
        read(&path)
            .into_iter()
            .map(|record| record.body)
            .eq((0..600).map(body))
    );
}

#[test]
fn who_never_listens_is_hung_up_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut running = start(open_file(&path).unwrap(), &[Source::View]);
    let view = running.ends.remove(0);
    while view.send(&safelight_audit::ToWriter::Sync).is_ok() {}
    running.thread.join().unwrap().unwrap();
    let last = read(&path).pop().unwrap();
    assert!(matches!(last.body, Body::Control(Control::HungUp { .. })));
}

#[test]
fn who_sends_rubbish_is_hung_up_on_and_the_others_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut running = start(open_file(&path).unwrap(), &[Source::View, Source::Agent]);
    let agent = Recorder::new(running.ends.remove(1)).unwrap();
    let view = running.ends.remove(0);
    view.send(&safelight_audit::ToWriter::Append { body: body(0) })
        .unwrap();
    view.send(&[0xffu8; 9]).unwrap();
    assert!(matches!(
        view.expect::<FromWriter>(),
        Err(safelight_channel::Error::Gone)
    ));
    assert!(view.send(&safelight_audit::ToWriter::Sync).is_err());
    agent.append(body(1)).unwrap();
    agent.sync().unwrap();
    drop(agent);
    running.thread.join().unwrap().unwrap();
    let records: Vec<_> = read(&path)
        .into_iter()
        .map(|record| (record.source, record.body))
        .collect();
    let hung_up = Body::Control(Control::HungUp {
        source: "view".into(),
    });
    assert_eq!(
        records,
        [
            (Source::View, body(0)),
            (Source::Writer, hung_up),
            (Source::Agent, body(1)),
        ]
    );
}

/// A log on a "disk" that takes nothing more after its header: a memory file that was sealed against growing.
fn full_disk() -> (File, File) {
    let file = File::from(memfd_create("log", MFdFlags::MFD_ALLOW_SEALING).unwrap());
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND)).unwrap();
    let other = file.try_clone().unwrap();
    (file, other)
}

#[test]
fn a_full_disk_stops_everybody() {
    let (file, disk) = full_disk();
    let mut running = start(file, &[Source::View, Source::Agent]);
    let agent = Recorder::new(running.ends.remove(1)).unwrap();
    let view = Recorder::new(running.ends.remove(0)).unwrap();
    view.append(body(0)).unwrap();
    view.sync().unwrap();
    fcntl(&disk, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).unwrap();
    let eperm = nix::errno::Errno::EPERM as i32;
    // Nothing to write: the disk was not asked, so this succeeds.
    agent.sync().unwrap();
    let _queued = view.append(body(1));
    let error = view.sync().unwrap_err();
    assert!(
        matches!(error, Error::Refused { errno } if errno == eperm)
            || matches!(error, Error::Channel { .. } | Error::Lost),
        "{error:?}"
    );
    assert!(matches!(view.append(body(2)), Err(Error::Lost)));
    let result = running.thread.join().unwrap();
    assert!(
        matches!(&result, Err(Error::Write { source }) if source.raw_os_error() == Some(eperm))
    );
    assert_eq!(
        running.parent.expect::<FromWriter>().unwrap().message,
        FromWriter::Failed { errno: eperm }
    );
    assert!(agent.append(body(3)).is_err());
    assert!(matches!(agent.append(body(4)), Err(Error::Lost)));
}

#[test]
fn who_waits_for_a_sync_that_fails_is_told_the_error() {
    // Both messages are in the queue before the writer looks, so one turn takes both and the answer is not a hang-up.
    let (file, disk) = full_disk();
    let (parent, child) = Channel::pair().unwrap();
    let (end, theirs) = Channel::pair().unwrap();
    for message in [
        safelight_audit::ToWriter::Append {
            body: Body::Sealed {
                session: SessionId::from_random([5; 10]),
                index: 0,
                bytes: vec![0; 1000],
            },
        },
        safelight_audit::ToWriter::Sync,
    ] {
        end.send(&message).unwrap();
    }
    let mut log = safelight_audit::Log::open(
        file.try_clone().unwrap(),
        &safelight_audit::Header {
            job: JobId::from_random([3; 10]),
            client: ClientAlias::new("river").unwrap(),
            log: [1; 16],
        },
        1,
    )
    .unwrap();
    log.sync().unwrap();
    drop(log);
    fcntl(&disk, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).unwrap();
    parent
        .send_with(&order(&[Source::View]), &[file.as_fd(), theirs.as_fd()])
        .unwrap();
    drop(theirs);
    let result = writer::serve(&child, || 42);
    assert!(matches!(result, Err(Error::Write { .. })));
    let errno = nix::errno::Errno::EPERM as i32;
    assert_eq!(
        end.expect::<FromWriter>().unwrap().message,
        FromWriter::Failed { errno }
    );
}

#[test]
fn a_writer_that_does_not_listen_is_given_up_on() {
    let (end, _silent) = Channel::pair().unwrap();
    let short = Duration::from_millis(50);
    let recorder = Recorder::with_waits(end, short, short).unwrap();
    let mut taken = 0;
    let error = loop {
        match recorder.append(body(taken)) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(taken > 10);
    assert!(matches!(
        error,
        Error::Channel {
            source: safelight_channel::Error::Late
        }
    ));
    assert!(matches!(recorder.append(body(0)), Err(Error::Lost)));
    assert!(matches!(recorder.sync(), Err(Error::Lost)));
}

#[test]
fn an_order_that_does_not_fit_its_descriptors_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    for (sources, ends) in [(0, 0), (1, 0), (1, 2), (3, 1)] {
        let (parent, child) = Channel::pair().unwrap();
        let file = open_file(&path).unwrap();
        let channels: Vec<_> = (0..ends).map(|_| Channel::pair().unwrap().0).collect();
        let mut descriptors = vec![file.as_fd()];
        descriptors.extend(channels.iter().map(AsFd::as_fd));
        parent
            .send_with(&order(&vec![Source::View; sources]), &descriptors)
            .unwrap();
        assert!(matches!(
            writer::serve(&child, || 1),
            Err(Error::Order { .. })
        ));
        assert!(matches!(
            parent.expect::<FromWriter>().unwrap().message,
            FromWriter::Failed { .. }
        ));
        assert!(fs::read(&path).unwrap().is_empty());
    }
}
