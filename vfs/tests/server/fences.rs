//! The end of a session: nothing is sealed while somebody can still write, what failed is set apart, and a late attempt replaces nothing.

use super::*;

/// A session up to the moment when its command would run.
fn begin(job: &Job, order: Order) -> (Server, Mounted) {
    begin_on(job, job.start(order).unwrap())
}

/// The same, of a server that was started.
pub(super) fn begin_on(job: &Job, server: Server) -> (Server, Mounted) {
    let mounted = Mounted::new(&job.at("mount"));
    server
        .launcher
        .send_with(&FromLauncher::Mounts, &[mounted.device.as_fd()])
        .unwrap();
    let run = server.launcher.expect::<ToLauncher>().unwrap();
    run.exactly::<2>().unwrap();
    assert!(matches!(hear(&server.agent), FromView::Serving));
    (server, mounted)
}

/// Objects in a directory of an attempt.
fn objects(attempt: &Path) -> usize {
    let fans = fs::read_dir(attempt)
        .unwrap()
        .map(|fan| fan.unwrap().path());
    let below = |fan: PathBuf| match fan.is_dir() {
        true => fs::read_dir(fan).unwrap().count(),
        false => 0,
    };
    fans.map(below).sum()
}

#[test]
fn what_is_written_after_the_end_was_said_is_in_the_result_or_was_refused() {
    if !can_mount("what_is_written_after") {
        return;
    }
    let job = Job::new("/mnt/show/late");
    let (server, mounted) = begin(&job, job.order(1, vec![]));
    let mut file = File::create(mounted.at.join("late")).unwrap();
    file.write_all(b"before ").unwrap();
    server.agent.send(&ToView::Ended { cause: DONE }).unwrap();
    // The mount is still held by an open file: the server waits for it, and seals what it wrote until then.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(objects(&server.attempt), 0, "sealed under a writer");
    file.write_all(b"and after").unwrap();
    drop(file);
    drop(mounted);
    let FromView::Sealed(sealed) = hear(&server.agent) else {
        panic!("it was let go in time")
    };
    assert_eq!((sealed.cause, sealed.files, sealed.bytes), (DONE, 1, 16));
}

#[test]
#[ignore = "long: the server waits twenty seconds for the last handle"]
fn a_session_that_somebody_still_holds_is_not_sealed() {
    if !can_mount("a_session_that_somebody") {
        return;
    }
    let job = Job::new("/mnt/show/late");
    let (server, mut mounted) = begin(&job, job.order(1, vec![]));
    let mut file = File::create(mounted.at.join("late")).unwrap();
    file.write_all(b"before").unwrap();
    // As a launcher does, which keeps nothing of the mount but the mount: the server's is the only descriptor.
    mounted.device = File::open("/dev/null").unwrap();
    server.agent.send(&ToView::Ended { cause: DONE }).unwrap();
    let FromView::Refused { reason, .. } = hear(&server.agent) else {
        panic!("it was sealed under a writer")
    };
    assert_eq!(reason, "a view is still in use after the session's end");
    assert_eq!(objects(&server.attempt), 0, "something of it was sealed");
    // Who holds on has nothing any more: the server is gone, and its keys with it.
    assert!(
        file.write_all(b"and after")
            .and_then(|()| file.sync_all())
            .is_err()
    );
    drop((file, mounted));
}

#[test]
fn a_failed_attempt_is_sealed_apart_and_a_late_one_replaces_nothing() {
    if !can_mount("a_failed_attempt") {
        return;
    }
    let job = Job::new("/mnt/show/picture");
    let order = |number: u8, attempt: u32, fence: u64| Order {
        attempt,
        fence: Fence(fence),
        ..job.order(number, vec![])
    };
    // The first attempt fails, and what it wrote is there to be looked at.
    let (failed, sealed) = job.run(order(1, 1, 5), |at| {
        fs::write(at.join("half"), "of a picture").unwrap();
    });
    assert_eq!((&sealed.cause, sealed.files), (&Cause::NoOutput, 1));
    // The second one is overtaken by the third, and seals when that is committed.
    let late = |at: &Path| fs::write(at.join("picture"), "of the late one").unwrap();
    let good = |at: &Path| fs::write(at.join("picture"), "of the good one").unwrap();
    let (committed, _) = job.run(order(3, 3, 7), good);
    let kept = job.area.read(committed.manifest).unwrap();
    let (overtaken, sealed) = job.run(order(2, 2, 6), late);
    assert_eq!(sealed.cause, DONE, "it cannot know that it is late");
    // Both are in the area under names of their own: what was committed has the same bytes as before.
    assert_ne!(overtaken.manifest, committed.manifest);
    assert_eq!(job.area.read(committed.manifest).unwrap(), kept);
    let seen = |layer: Layer, number: u8, name: &str| {
        let mut seen = String::new();
        job.run(job.order(number, vec![layer]), |at| {
            seen = fs::read_to_string(at.join(name)).unwrap();
        });
        seen
    };
    assert_eq!(seen(committed, 21, "picture"), "of the good one");
    assert_eq!(seen(overtaken, 22, "picture"), "of the late one");
    assert_eq!(seen(failed, 23, "half"), "of a picture");
    // Nobody passes the late one off as the one that was committed: a manifest opens for its own attempt and fence only.
    for passed_off in [
        Layer {
            manifest: overtaken.manifest,
            ..committed
        },
        Layer {
            fence: committed.fence,
            ..overtaken
        },
        Layer {
            attempt: committed.attempt,
            ..overtaken
        },
        Layer {
            session: committed.session,
            ..overtaken
        },
    ] {
        let cause = job.refusal(job.order(24, vec![passed_off]));
        assert_eq!(cause, Cause::NotAuthentic);
    }
}
