//! The warden end to end, over real channels and a real store; the audit writer is played by the test.

use std::{
    fs,
    os::{fd::AsFd, unix::fs::PermissionsExt},
    sync::{Arc, Mutex},
    thread,
};

use safelight_audit::{Body, Checkpoint, FromWriter, ToWriter};
use safelight_policies::id::{Fence, KemKey};
use safelight_seal::{identity::KemSecret, random::SystemRandom};

use super::*;
use crate::warden::judge::tests::{Case, NOW, SITE, job, right};

/// What the log does when it is asked to sync.
#[derive(Clone, Copy)]
enum Disk {
    Works,
    IsFull,
    IsGone,
}

struct World {
    directory: tempfile::TempDir,
    view: KemSecret,
    case: Case,
    key: JobKey,
}

/// A release that is right for a store with one prekey and all keys enrolled.
fn world() -> World {
    let rng = SystemRandom::new();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(directory.path().join("site.key"), [SITE; 32]).unwrap();
    let (view, key) = (
        KemSecret::generate(&rng).unwrap(),
        JobKey::generate(&rng).unwrap(),
    );
    let store = Store::open(directory.path(), &rng).unwrap();
    let (prekey, public) = store.mint(&rng).unwrap();
    let mut case = right();
    case.enroll(&store);
    case.envelope.prekey = prekey;
    let stanza = key.wrap(&public, TO_WARDEN, job(), &rng).unwrap();
    case.envelope.stanza_for_site = stanza.to_bytes().to_vec();
    case.set_view_key(view.public());
    World {
        directory,
        view,
        case,
        key,
    }
}

impl World {
    /// Asks a fresh warden, which dies afterwards. Answers what it said, and what was on the log when it said so.
    fn ask(&self, asks: &[Ask], disk: Disk) -> (Vec<Answer>, Vec<Control>) {
        self.ask_at(NOW, asks, disk)
    }

    /// The same, by another clock.
    fn ask_at(&self, now: u64, asks: &[Ask], disk: Disk) -> (Vec<Answer>, Vec<Control>) {
        let store = Store::open(self.directory.path(), &SystemRandom::new()).unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        let (log, warden_log) = Channel::pair().unwrap();
        ours.send_with(&Ask::Audit, &[warden_log.as_fd()]).unwrap();
        drop(warden_log);
        let events = Arc::new(Mutex::new(Vec::new()));
        let written = events.clone();
        let writer = thread::spawn(move || {
            while let Some(incoming) = log.recv::<ToWriter>().unwrap() {
                match (incoming.message, disk) {
                    (
                        ToWriter::Append {
                            body: Body::Control(event),
                        },
                        _,
                    ) => written.lock().unwrap().push(event),
                    (ToWriter::Append { .. }, _) => panic!("the warden seals nothing"),
                    (ToWriter::Sync, Disk::Works) => {
                        let checkpoint = Checkpoint {
                            records: 1,
                            chain: [0; 32],
                        };
                        log.send(&FromWriter::Synced(checkpoint)).unwrap();
                    }
                    (ToWriter::Sync, Disk::IsFull) => {
                        log.send(&FromWriter::Failed { errno: 28 }).unwrap()
                    }
                    (ToWriter::Sync, Disk::IsGone) => return,
                }
            }
        });
        let warden =
            thread::spawn(move || serve(&theirs, store, &SystemRandom::new(), || now).is_ok());
        let answers = asks
            .iter()
            .map(|ask| {
                ours.send(ask).unwrap();
                ours.expect::<Answer>().unwrap().message
            })
            .collect();
        drop(ours);
        assert!(warden.join().unwrap(), "hanging up is no failure");
        writer.join().unwrap();
        let events = events.lock().unwrap().clone();
        (answers, events)
    }

    fn release(&self) -> Ask {
        Ask::Release(self.case.request())
    }

    fn erase(&self) -> Ask {
        Ask::Erase {
            job: job(),
            prekey: self.case.envelope.prekey,
        }
    }
}

fn reason(answer: &Answer) -> &str {
    match answer {
        Answer::Released { .. } => "released",
        Answer::Granted { .. } => "granted",
        Answer::Refused { reason } => reason,
        Answer::Erased => "erased",
    }
}

#[test]
fn the_view_server_gets_the_key_after_the_log_has_it() {
    let world = world();
    let (answers, events) = world.ask(&[world.release()], Disk::Works);
    let [Answer::Released { stanza }] = &answers[..] else {
        panic!("{answers:?}");
    };
    let key = JobKey::unwrap(stanza, &world.view, TO_VIEW, job()).unwrap();
    assert_eq!(key.attest_key().public(), world.key.attest_key().public());
    let session = world.case.lease.session;
    let to = world.view.public().0;
    assert_eq!(events, [Control::KeyReleased { session, to }]);
}

#[test]
fn no_log_no_key() {
    for disk in [Disk::IsFull, Disk::IsGone] {
        let world = world();
        let (answers, _) = world.ask(&[world.release()], disk);
        assert_eq!(
            reason(&answers[0]),
            "the release cannot be put on the audit log"
        );
        // Not even later: the fence is spent, and a new lease is what it takes.
        let (answers, _) = world.ask(&[world.release()], Disk::Works);
        assert_eq!(
            reason(&answers[0]),
            "a key was released under this fence or a newer one"
        );
    }
}

#[test]
fn a_replayed_request_is_refused_by_the_next_warden_too() {
    let mut world = world();
    let old = "a key was released under this fence or a newer one";
    let (answers, events) = world.ask(&[world.release(), world.release()], Disk::Works);
    assert_eq!(
        answers.iter().map(reason).collect::<Vec<_>>(),
        ["released", old]
    );
    let session = world.case.lease.session;
    assert_eq!(
        events[1],
        Control::KeyRefused {
            session,
            reason: old.into()
        }
    );
    let (answers, _) = world.ask(&[world.release()], Disk::Works);
    assert_eq!(reason(&answers[0]), old);
    world.case.lease.fence = Fence(world.case.lease.fence.0 + 1);
    let (answers, _) = world.ask(&[world.release()], Disk::Works);
    assert_eq!(reason(&answers[0]), "released");
}

#[test]
fn an_erased_prekey_releases_nothing_any_more() {
    let mut world = world();
    let (answers, _) = world.ask(&[world.release(), world.erase()], Disk::Works);
    assert_eq!(
        answers.iter().map(reason).collect::<Vec<_>>(),
        ["released", "erased"]
    );
    world.case.lease.fence = Fence(99);
    let (answers, _) = world.ask(&[world.release()], Disk::Works);
    assert_eq!(reason(&answers[0]), "the prekey is not ours or was erased");
}

#[test]
fn a_lease_that_is_not_authentic_puts_no_session_on_the_log() {
    let world = world();
    let mut request = world.case.request();
    request.lease[110] ^= 1;
    let (_, events) = world.ask(&[Ask::Release(request)], Disk::Works);
    let reason = "the lease is not signed by the enrolled schedule server".into();
    assert_eq!(
        events,
        [Control::KeyRefused {
            session: NO_SESSION,
            reason
        }]
    );
}

#[test]
fn a_stanza_for_another_job_or_a_useless_view_key_gives_nothing() {
    let mut world = world();
    let rng = SystemRandom::new();
    let secret = Store::open(world.directory.path(), &rng)
        .unwrap()
        .secret(&world.case.envelope.prekey)
        .unwrap()
        .unwrap();
    let stanza = world
        .key
        .wrap(&secret.public(), TO_VIEW, job(), &rng)
        .unwrap();
    world.case.envelope.stanza_for_site = stanza.to_bytes().to_vec();
    let (answers, events) = world.ask(&[world.release()], Disk::Works);
    assert_eq!(reason(&answers[0]), "the job key cannot be passed on");
    assert!(matches!(events[1], Control::KeyRefused { .. }));

    let mut world = self::world();
    world.case.set_view_key(KemKey([0; 32]));
    let (answers, _) = world.ask(&[world.release()], Disk::Works);
    assert_eq!(reason(&answers[0]), "the job key cannot be passed on");
}

#[test]
fn a_parent_that_speaks_out_of_turn_ends_the_warden() {
    let rng = SystemRandom::new();
    let world = world();
    let open = || Store::open(world.directory.path(), &rng).unwrap();
    let (ours, theirs) = Channel::pair().unwrap();
    ours.send(&world.release()).unwrap();
    assert!(serve(&theirs, open(), &rng, || NOW).is_err());
    let (ours, theirs) = Channel::pair().unwrap();
    ours.send(&Ask::Audit).unwrap();
    assert!(
        serve(&theirs, open(), &rng, || NOW).is_err(),
        "no descriptor"
    );
    let (ours, theirs) = Channel::pair().unwrap();
    ours.send_with(&Ask::Audit, &[ours.as_fd()]).unwrap();
    ours.send(&[0xff_u8; 9]).unwrap();
    assert!(
        serve(&theirs, open(), &rng, || NOW).is_err(),
        "not a question"
    );
}

#[test]
fn of_wardens_that_are_asked_at_once_one_releases_under_a_fence() {
    for _ in 0..20 {
        let world = world();
        let ask = || world.ask(&[world.release()], Disk::Works).0;
        let answers: Vec<Answer> = thread::scope(|scope| {
            let asked: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            asked
                .into_iter()
                .flat_map(|it| it.join().unwrap())
                .collect()
        });
        let released = |answer: &&Answer| matches!(answer, Answer::Released { .. });
        assert_eq!(answers.iter().filter(released).count(), 1, "{answers:?}");
        for answer in answers.iter().filter(|answer| !released(answer)) {
            let expected = "a key was released under this fence or a newer one";
            assert_eq!(reason(answer), expected);
        }
    }
}

/// A look by a grant that is right for this world, which lets operator 6 look until `NOW + 1000`.
fn look(world: &World, operator: u8) -> LookRequest {
    use safelight_bundle::{DebugGrant, GRANT_VERSION};
    use safelight_policies::id::GrantId;
    use safelight_seal::identity::SigningSecret;

    let party = |number: u8| SigningSecret::from_bytes(&[number; 32]);
    let store = Store::open(world.directory.path(), &SystemRandom::new()).unwrap();
    let secret = store.secret(&world.case.envelope.prekey).unwrap().unwrap();
    let rng = SystemRandom::new();
    let stanza = world.key.read_key().wrap(&secret.public(), job(), &rng);
    let client = party(1);
    let grant = DebugGrant {
        version: GRANT_VERSION,
        number: GrantId::from_random([5; 10]),
        client: world.case.envelope.outline.client.clone(),
        client_verify: client.public(),
        job: job(),
        task: None,
        site: store.signing().public(),
        operator: party(6).public(),
        issued: NOW - 10,
        from: NOW - 10,
        expires: NOW + 1000,
        prekey: world.case.envelope.prekey,
        stanza: stanza.unwrap().to_bytes().to_vec(),
    };
    let sign = |context: &str, bytes: &[u8]| client.sign(context, bytes);
    let grant = safelight_bundle::seal(&grant, &client.public(), sign).unwrap();
    let (view_key, session) = (world.view.public(), SessionId::from_random([7; 10]));
    let message = LookRequest::message(&grant, &view_key, session);
    LookRequest {
        operator_signature: party(operator)
            .sign(crate::warden::OPERATOR_CONTEXT, &message)
            .to_vec(),
        client: world.case.envelope.outline.client.clone(),
        job: job(),
        grant,
        session,
        view_key,
    }
}

#[test]
fn who_looks_gets_what_reads_the_job_after_the_log_has_it() {
    let world = world();
    let (answers, events) = world.ask(&[Ask::Look(look(&world, 6))], Disk::Works);
    let [Answer::Granted { stanza, seconds }] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    assert_eq!(*seconds, 1000);
    assert!(matches!(events.as_slice(), [Control::KeyReleased { .. }]));
    // It reads the job, and is not the key that signs for it.
    let read = ReadKey::unwrap(stanza, &world.view, job()).unwrap();
    let sealed = world.key.seal_blob(
        safelight_seal::blob::Purpose::Recipe,
        job().as_bytes(),
        b"a recipe",
        &SystemRandom::new(),
    );
    let opened = read.open_blob(
        safelight_seal::blob::Purpose::Recipe,
        job().as_bytes(),
        &sealed.unwrap(),
    );
    assert_eq!(&opened.unwrap()[..], b"a recipe");
    assert!(JobKey::unwrap(stanza, &world.view, TO_VIEW, job()).is_err());
    // No log, no key.
    for disk in [Disk::IsFull, Disk::IsGone] {
        let (answers, _) = world.ask(&[Ask::Look(look(&world, 6))], disk);
        assert_eq!(
            reason(&answers[0]),
            "the look cannot be put on the audit log"
        );
    }
    let (answers, events) = world.ask(&[Ask::Look(look(&world, 9))], Disk::Works);
    assert_eq!(
        reason(&answers[0]),
        "the grant is for another operator's key"
    );
    assert!(matches!(events.as_slice(), [Control::KeyRefused { .. }]));
}

#[test]
fn a_grant_that_expired_stays_so_when_the_clock_is_set_back() {
    let world = world();
    let right = look(&world, 6);
    let ask_at = |now| {
        let (answers, _) = world.ask_at(now, &[Ask::Look(right.clone())], Disk::Works);
        answers.into_iter().next().unwrap()
    };
    assert!(matches!(ask_at(NOW), Answer::Granted { .. }));
    // Somebody else's look is what shows the warden that time passed.
    let (answers, _) = world.ask_at(NOW + 400, &[Ask::Look(look(&world, 9))], Disk::Works);
    assert!(matches!(answers.as_slice(), [Answer::Refused { .. }]));
    let Answer::Granted { seconds, .. } = ask_at(NOW) else {
        panic!("it holds still")
    };
    assert_eq!(seconds, 600, "by the latest time that was known");
    assert_eq!(reason(&ask_at(NOW + 1000)), "the grant has expired");
    assert_eq!(reason(&ask_at(NOW)), "the grant has expired");
    // And were the note of the time gone too, there is no prekey any more.
    fs::remove_file(world.directory.path().join("latest")).unwrap();
    assert_eq!(
        reason(&ask_at(NOW)),
        "the grant's prekey is not this site's, or was erased"
    );
}

#[test]
fn a_grant_that_was_revoked_is_refused_for_ever() {
    use safelight_policies::id::GrantId;
    let world = world();
    let (answers, _) = world.ask(&[Ask::Look(look(&world, 6))], Disk::Works);
    assert!(matches!(answers.as_slice(), [Answer::Granted { .. }]));
    let store = Store::open(world.directory.path(), &SystemRandom::new()).unwrap();
    let client = &world.case.envelope.outline.client;
    store
        .withdraw(client, GrantId::from_random([6; 10]))
        .unwrap();
    let (answers, _) = world.ask(&[Ask::Look(look(&world, 6))], Disk::Works);
    assert!(matches!(answers.as_slice(), [Answer::Granted { .. }]));
    store
        .withdraw(client, GrantId::from_random([5; 10]))
        .unwrap();
    let (answers, _) = world.ask(&[Ask::Look(look(&world, 6))], Disk::Works);
    assert_eq!(reason(&answers[0]), "the grant was revoked by its client");
    // The same prekey is the job's: that is gone now as well, and with it the job's own way in.
    let (answers, _) = world.ask(&[world.release()], Disk::Works);
    assert_eq!(reason(&answers[0]), "the prekey is not ours or was erased");
}
