//! The store on a real directory.

use std::os::unix::fs::PermissionsExt;

use safelight_seal::random::SystemRandom;

use super::*;

const JOB: JobId = JobId::from_random([1; 10]);
const OTHER: JobId = JobId::from_random([2; 10]);

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    directory
}

fn open(directory: &tempfile::TempDir) -> Store {
    Store::open(directory.path(), &SystemRandom::new()).unwrap()
}

#[test]
fn a_site_stays_the_same_site_and_others_cannot_look() {
    let directory = directory();
    let site = open(&directory).site();
    assert_eq!(open(&directory).site(), site);
    let mode = fs::metadata(directory.path().join("site.key"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    for mode in [0o750, 0o705, 0o777] {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        let refused = Store::open(directory.path(), &SystemRandom::new());
        assert!(matches!(refused, Err(Error::NotPrivate { .. })), "{mode:o}");
    }
}

#[test]
fn a_damaged_site_key_is_not_replaced() {
    let directory = directory();
    drop(open(&directory));
    let path = directory.path().join("site.key");
    fs::write(&path, [1; 31]).unwrap();
    let refused = Store::open(directory.path(), &SystemRandom::new());
    assert!(matches!(refused, Err(Error::Malformed { .. })));
    assert_eq!(fs::read(&path).unwrap(), [1; 31]);
}

#[test]
fn a_prekey_is_one_jobs_and_then_gone() {
    let directory = directory();
    let store = open(&directory);
    let (id, public) = store.mint(&SystemRandom::new()).unwrap();
    assert_eq!(store.prekey(&id).unwrap(), Prekey::Unused);
    assert_eq!(store.secret(&id).unwrap().unwrap().public(), public);
    store.claim(&id, JOB).unwrap();
    store.claim(&id, JOB).unwrap();
    assert!(store.claim(&id, OTHER).is_err());
    let store = open(&directory);
    assert_eq!(store.prekey(&id).unwrap(), Prekey::Of(JOB));
    assert!(!store.erase(&id, OTHER).unwrap());
    assert!(store.secret(&id).unwrap().is_some());
    assert!(store.erase(&id, JOB).unwrap());
    assert!(store.erase(&id, JOB).unwrap());
    assert_eq!(store.prekey(&id).unwrap(), Prekey::Gone);
    assert!(store.secret(&id).unwrap().is_none());
    assert_eq!(
        fs::read_dir(directory.path().join("prekeys"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn fences_outlive_the_process_and_a_torn_line() {
    let directory = directory();
    let store = open(&directory);
    let task = |step, task| TaskId { step, task };
    let large = 1 << 40;
    for (task, fence) in [
        (task(0, 1), 5),
        (task(0, large), 9),
        (task(1, 1), 7),
        (task(0, 1), 6),
    ] {
        store.note_release(JOB, task, Fence(fence)).unwrap();
    }
    let newest = |task| open(&directory).released(JOB, task).unwrap();
    assert_eq!(newest(task(0, 1)), Some(Fence(6)));
    assert_eq!(newest(task(0, large)), Some(Fence(9)));
    assert_eq!(newest(task(1, 1)), Some(Fence(7)));
    assert_eq!(newest(task(1, 2)), None);
    assert_eq!(store.released(OTHER, task(0, 1)).unwrap(), None);
    let path = directory.path().join("released").join(JOB.to_string());
    let mut torn = fs::read(&path).unwrap();
    torn.extend_from_slice(&[0xff; 13]);
    fs::write(&path, torn).unwrap();
    assert_eq!(newest(task(0, 1)), Some(Fence(6)));
    store.note_release(JOB, task(0, 1), Fence(8)).unwrap();
    assert_eq!(newest(task(0, 1)), Some(Fence(8)));
}

#[test]
fn only_names_are_enrolled() {
    let directory = directory();
    let store = open(&directory);
    let alias = ClientAlias::new("c-one").unwrap();
    assert_eq!(store.client(&alias).unwrap(), None);
    store
        .enroll(Role::Client, "c-one", &VerifyKey([1; 32]))
        .unwrap();
    store
        .enroll(Role::Client, "c-one", &VerifyKey([2; 32]))
        .unwrap();
    store
        .enroll(Role::Schedule, "-", &VerifyKey([3; 32]))
        .unwrap();
    assert_eq!(store.client(&alias).unwrap(), Some(VerifyKey([2; 32])));
    assert_eq!(store.schedule().unwrap(), Some(VerifyKey([3; 32])));
    assert_eq!(store.node(&NodeName::new("c-one").unwrap()).unwrap(), None);
    for name in ["../nodes/x", "", "a/b", ".new"] {
        let refused = store.enroll(Role::Client, name, &VerifyKey([1; 32]));
        assert!(matches!(refused, Err(Error::Name { .. })), "{name:?}");
    }
    for text in ["", "00", &"0".repeat(63), &"g".repeat(64), &"0".repeat(66)] {
        fs::write(directory.path().join("trust/clients/c-one"), text).unwrap();
        assert!(
            matches!(store.client(&alias), Err(Error::Malformed { .. })),
            "{text:?}"
        );
    }
}
