//! An area that is used, spoiled and shared.

use std::{collections::HashSet, io::Read};

use super::*;

fn id(bytes: &[u8]) -> ObjectId {
    ObjectId(*blake3::hash(bytes).as_bytes())
}

#[test]
fn an_object_reads_back_and_a_changed_one_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let area = Area::open(directory.path().join("area")).unwrap();
    area.put(id(b"one"), b"one").unwrap();
    area.put(id(b"one"), b"one").unwrap();
    assert_eq!(area.read(id(b"one")).unwrap(), b"one");
    fs::write(area.path(id(b"one")), b"two").unwrap();
    assert!(matches!(
        area.read(id(b"one")),
        Err(Error::NotAuthentic { .. })
    ));
    assert!(matches!(area.read(id(b"none")), Err(Error::Read { .. })));
}

#[test]
fn an_object_that_was_changed_is_healed_when_it_is_stored_again() {
    let directory = tempfile::tempdir().unwrap();
    let area = Area::open(directory.path().join("area")).unwrap();
    let path = area.path(id(b"one"));
    let outside = directory.path().join("outside");
    fs::write(&outside, b"outside").unwrap();
    let spoil: [&dyn Fn(); 4] = [
        &|| fs::write(&path, b"two").unwrap(),
        &|| fs::write(&path, b"on").unwrap(),
        &|| fs::write(&path, b"one more").unwrap(),
        &|| {
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(&outside, &path).unwrap();
        },
    ];
    area.put(id(b"one"), b"one").unwrap();
    for spoil in spoil {
        spoil();
        assert!(area.read(id(b"one")).is_err());
        area.put(id(b"one"), b"one").unwrap();
        assert_eq!(area.read(id(b"one")).unwrap(), b"one");
    }
    assert_eq!(fs::read(outside).unwrap(), b"outside");
    let before = fs::metadata(&path).unwrap().ino();
    area.put(id(b"one"), b"one").unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().ino(),
        before,
        "what is whole is not written again"
    );
}

#[test]
fn an_attempts_objects_move_over_whole() {
    let directory = tempfile::tempdir().unwrap();
    let site = Area::open(directory.path().join("site")).unwrap();
    let attempt = Area::open(directory.path().join("attempt")).unwrap();
    attempt.put(id(b"a"), b"a").unwrap();
    attempt.put(id(b"b"), b"b").unwrap();
    fs::write(attempt.root().join(".not-an-object"), b"").unwrap_or_default();
    fs::remove_file(attempt.root().join(".not-an-object")).unwrap_or_default();
    assert_eq!(site.adopt(&attempt).unwrap().len(), 2);
    assert_eq!(site.read(id(b"b")).unwrap(), b"b");
    assert!(attempt.read(id(b"b")).is_err());
}

#[test]
fn what_is_received_is_whole_and_itself_or_not_there() {
    struct Broken(&'static [u8]);
    impl Read for Broken {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            match std::mem::take(&mut self.0) {
                [] => Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => {
                    out[..bytes.len()].copy_from_slice(bytes);
                    Ok(bytes.len())
                }
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let area = Area::open(directory.path()).unwrap();
    let name = id(b"whole");
    let refused = |most, source: &mut dyn Read| area.receive(name, most, source).unwrap_err();
    assert!(matches!(
        refused(9, &mut &b"whol"[..]),
        Error::NotAuthentic { .. }
    ));
    assert!(matches!(
        refused(9, &mut &b"other"[..]),
        Error::NotAuthentic { .. }
    ));
    assert!(matches!(
        refused(4, &mut &b"whole"[..]),
        Error::TooLarge { .. }
    ));
    assert!(matches!(
        refused(9, &mut Broken(b"whole")),
        Error::Source { .. }
    ));
    let left = fs::read_dir(area.path(name).parent().unwrap()).unwrap();
    assert_eq!(left.count(), 0, "nothing is left of what was refused");
    assert_eq!(area.receive(name, 5, &mut &b"whole"[..]).unwrap(), 5);
    assert_eq!(area.read(name).unwrap(), b"whole");
}

#[test]
fn an_object_that_is_a_symlink_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let area = Area::open(directory.path()).unwrap();
    let path = area.path(id(b"x"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", path).unwrap();
    assert!(matches!(area.object(id(b"x")), Err(Error::Read { .. })));
}

fn aged(area: &Area, object: ObjectId) {
    let file = File::options().write(true).open(area.path(object)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
}

fn yesterday() -> SystemTime {
    SystemTime::now() - std::time::Duration::from_secs(86_400)
}

#[test]
fn a_collection_takes_what_nobody_refers_to_and_is_old() {
    let directory = tempfile::tempdir().unwrap();
    let area = Area::open(directory.path()).unwrap();
    let all = [&b"needed"[..], b"young", b"old", b"claimed", b"put again"];
    for bytes in all {
        area.put(id(bytes), bytes).unwrap();
        aged(&area, id(bytes));
    }
    area.put(id(b"young"), b"young").unwrap();
    let fan = area.fan_path(id(b"old"));
    let (left, foreign) = (fan.join(".1-2"), fan.join("README"));
    for path in [&left, &foreign] {
        let file = File::create(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    File::create(fan.join(".1-3")).unwrap();
    assert_eq!(area.claim(id(b"claimed")).unwrap(), Some(7));
    assert_eq!(area.claim(id(b"nowhere")).unwrap(), None);
    let batch = area.batch();
    batch.put(id(b"put again"), b"put again").unwrap();
    batch.settle().unwrap();
    let needed = HashSet::from([id(b"needed")]);
    let expected = Collected {
        removed: 1,
        bytes: 3,
        leftovers: 1,
        needed: 1,
        young: 3,
    };
    assert_eq!(area.collect(&needed, yesterday(), true).unwrap(), expected);
    assert!(
        left.exists() && area.read(id(b"old")).is_ok(),
        "only looked"
    );
    assert_eq!(area.collect(&needed, yesterday(), false).unwrap(), expected);
    assert!(!left.exists() && foreign.exists() && fan.join(".1-3").exists());
    for bytes in all {
        assert_eq!(area.read(id(bytes)).is_ok(), bytes != b"old");
    }
}

#[test]
fn what_is_put_while_others_are_removed_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let area = &Area::open(directory.path()).unwrap();
    let bytes = b"wanted again";
    for round in 0..200 {
        area.put(id(bytes), bytes).unwrap();
        aged(area, id(bytes));
        std::thread::scope(|scope| {
            let nothing = HashSet::new();
            scope.spawn(move || area.collect(&nothing, yesterday(), false).unwrap());
            scope.spawn(move || match round % 3 {
                0 => area.put(id(bytes), bytes).unwrap(),
                1 => {
                    let batch = area.batch();
                    batch.put(id(bytes), bytes).unwrap();
                    batch.settle().unwrap();
                }
                _ => {
                    // Whoever claims and is told that it is gone, puts.
                    if area.claim(id(bytes)).unwrap().is_none() {
                        area.put(id(bytes), bytes).unwrap();
                    }
                }
            });
        });
        assert_eq!(area.read(id(bytes)).unwrap(), bytes, "round {round}");
    }
}
