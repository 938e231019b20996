//! Every rule refused once by name, round trips, and manifests under the wrong key, job, kind and signer.

use proptest::prelude::*;

use super::*;
use crate::{job_key::JobKey, random::testing::Counting, segment::SEGMENT_MAX};

const JOB: JobId = JobId::from_random([1; 10]);
const RESULT: Kind = Kind::Result {
    session: SessionId::from_random([2; 10]),
    attempt: 1,
    fence: Fence(7),
};

fn entry(path: &str, kind: EntryKind) -> Entry {
    let gone = kind == EntryKind::Whiteout;
    Entry {
        path: path.into(),
        kind,
        mode: if gone { 0 } else { 0o755 },
        mtime_ns: if gone { 0 } else { -5 },
        xattrs: vec![],
    }
}

fn directory(path: &str) -> Entry {
    entry(path, EntryKind::Directory { opaque: false })
}

fn stored(len: u32, seed: u8) -> SegmentRef {
    SegmentRef {
        object: Some(ObjectId([seed; 32])),
        len,
        key: OpenKey::from_bytes(&[seed ^ 0xff; 32]),
    }
}

fn file(path: &str) -> Entry {
    let full = SEGMENT_MAX as u32;
    entry(
        path,
        EntryKind::File {
            len: 2 * u64::from(full) + 3,
            segments: vec![stored(full, 1), SegmentRef::zero(full), stored(3, 2)],
        },
    )
}

fn link(path: &str, to: &str) -> Entry {
    entry(path, EntryKind::Link { to: to.into() })
}

fn tree(path: &str, entries: Vec<Entry>) -> Tree {
    Tree {
        path: CentralPath::new(path).unwrap(),
        entries,
    }
}

fn manifest(kind: Kind, entries: Vec<Entry>) -> Manifest {
    Manifest {
        job: JOB,
        kind,
        trees: vec![tree("/projects", entries)],
    }
}

fn inputs() -> Manifest {
    let mut named = file("a/b");
    named.xattrs = vec![
        (b"user.a".to_vec(), vec![]),
        (b"user.b".to_vec(), vec![0, 255]),
    ];
    let target = b"../\xff".to_vec();
    let mut manifest = manifest(
        Kind::Inputs,
        vec![
            directory(""),
            directory("a"),
            // Sorts between a directory and what is in it.
            entry("a-b", EntryKind::Symlink { target }),
            named,
            link("c", "a/b"),
            entry(
                "empty",
                EntryKind::File {
                    len: 0,
                    segments: vec![],
                },
            ),
        ],
    );
    manifest.trees.push(tree("/textures", vec![directory("")]));
    manifest
}

fn result() -> Manifest {
    manifest(
        RESULT,
        vec![
            directory(""),
            entry("gone", EntryKind::Whiteout),
            entry("new", EntryKind::Directory { opaque: true }),
            file("new/frame"),
        ],
    )
}

#[test]
fn inputs_and_results_read_back() {
    for manifest in [inputs(), result()] {
        let bytes = manifest.encode().unwrap();
        assert!(Manifest::decode(&bytes).unwrap() == manifest);
    }
}

/// The reason for which entries of an input tree, or of a result, are refused.
fn reason(kind: Kind, entries: Vec<Entry>) -> &'static str {
    match manifest(kind, entries).encode() {
        Err(Error::Malformed { what: WHAT, reason }) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => "accepted",
    }
}

fn with(entry: Entry) -> Vec<Entry> {
    vec![directory(""), entry]
}

#[test]
fn each_broken_name_and_order_is_refused_for_its_reason() {
    let input = |entries| reason(Kind::Inputs, entries);
    assert_eq!(input(vec![]), "a tree has no root");
    let no_root = "a tree does not begin with its root directory";
    assert_eq!(input(vec![directory("a")]), no_root);
    assert_eq!(input(vec![file("")]), no_root);
    let unsorted = "its entries are not sorted or not unique";
    assert_eq!(input(vec![directory(""), file("b"), file("a")]), unsorted);
    assert_eq!(input(vec![directory(""), file("a"), file("a")]), unsorted);
    assert_eq!(input(vec![directory(""), directory("")]), unsorted);
    let name = "a name is empty, too long, '.', '..' or has a zero byte";
    for path in [".", "..", "a\0b", &"n".repeat(256), "/a", "a/", "a//b"] {
        let refused = input(vec![directory(""), file(path)]);
        let orphan = "an entry is in no directory of the manifest";
        assert!(
            refused == name || (path == "a//b" && refused == orphan),
            "{path:?}: {refused}"
        );
    }
    assert_eq!(
        input(vec![directory(""), directory("a"), file("a/..")]),
        name
    );
    assert_eq!(
        input(vec![directory(""), directory("a"), file("a//b")]),
        "an entry is in no directory of the manifest"
    );
    let orphan = "an entry is in no directory of the manifest";
    assert_eq!(input(with(file("a/b"))), orphan);
    assert_eq!(input(vec![directory(""), file("a"), file("a/b")]), orphan);
    let mut deep = vec![directory("")];
    let mut path = String::new();
    while path.len() <= PATH_MAX {
        path.push_str(if path.is_empty() { "" } else { "/" });
        path.push_str(&"d".repeat(250));
        deep.push(directory(&path));
    }
    assert_eq!(input(deep), "a path is too long");
}

#[test]
fn each_broken_entry_is_refused_for_its_reason() {
    let input = |entry| reason(Kind::Inputs, with(entry));
    for mode in [0o4755, 0o2755, 0o100_644, u32::MAX] {
        let entry = Entry { mode, ..file("a") };
        assert_eq!(input(entry), "a mode has other bits than permissions");
    }
    for target in [vec![], b"a\0".to_vec(), vec![b'a'; PATH_MAX]] {
        let reason = "a symbolic link's target is empty, too long or has a zero byte";
        assert_eq!(input(entry("a", EntryKind::Symlink { target })), reason);
    }
    let xattrs = |names: &[&str]| {
        let xattrs = names.iter().map(|name| (name.as_bytes().to_vec(), vec![]));
        input(Entry {
            xattrs: xattrs.collect(),
            ..file("a")
        })
    };
    for name in [
        "security.capability",
        "system.posix_acl_access",
        "trusted.x",
        "user.",
        "user.\0",
    ] {
        assert_eq!(
            xattrs(&[name]),
            "an extended attribute is not of the user namespace"
        );
    }
    let unsorted = "extended attributes are not sorted or not unique";
    assert_eq!(xattrs(&["user.a", "user.a"]), unsorted);
    assert_eq!(xattrs(&["user.b", "user.a"]), unsorted);
    let many: Vec<String> = (0..=XATTRS_MAX).map(|n| format!("user.{n:03}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(xattrs(&many), "an entry has too many extended attributes");
    let value = vec![0; XATTR_VALUE_MAX + 1];
    let long = Entry {
        xattrs: vec![(b"user.a".to_vec(), value)],
        ..file("a")
    };
    assert_eq!(input(long), "an extended attribute is too long");
}

#[test]
fn links_and_what_only_results_have() {
    let input = |entries| reason(Kind::Inputs, entries);
    let nowhere = "a hard link is not to an earlier file";
    assert_eq!(input(with(link("a", "a"))), nowhere);
    assert_eq!(
        input(vec![directory(""), link("a", "b"), file("b")]),
        nowhere
    );
    assert_eq!(
        input(vec![directory(""), directory("a"), link("b", "a")]),
        nowhere
    );
    assert_eq!(
        input(vec![
            directory(""),
            file("a"),
            link("b", "a"),
            link("c", "b")
        ]),
        nowhere
    );
    assert_eq!(
        input(with(entry("a", EntryKind::Whiteout))),
        "an input is a whiteout"
    );
    let opaque = entry("a", EntryKind::Directory { opaque: true });
    assert_eq!(input(with(opaque.clone())), "an input directory is opaque");
    assert_eq!(reason(RESULT, with(opaque)), "accepted");
    let dated = Entry {
        mtime_ns: 1,
        ..entry("a", EntryKind::Whiteout)
    };
    assert_eq!(reason(RESULT, with(dated)), "a whiteout has attributes");
}

#[test]
fn segments_must_add_up() {
    let full = SEGMENT_MAX as u32;
    let refused = |len, segments| {
        reason(
            Kind::Inputs,
            with(entry("a", EntryKind::File { len, segments })),
        )
    };
    let count = "a file has another number of segments than its length needs";
    let length = "a segment has another length than its place needs";
    assert_eq!(refused(1, vec![]), count);
    assert_eq!(refused(0, vec![stored(0, 1)]), count);
    assert_eq!(refused(u64::MAX, vec![stored(full, 1)]), count);
    assert_eq!(refused(5, vec![stored(4, 1)]), length);
    assert_eq!(refused(5, vec![stored(6, 1)]), length);
    assert_eq!(
        refused(u64::from(full) + 5, vec![stored(5, 1), stored(full, 1)]),
        length
    );
    let keyed = SegmentRef {
        object: None,
        ..stored(5, 1)
    };
    assert_eq!(refused(5, vec![keyed]), "a segment of zeros has a key");
}

#[test]
fn trees_are_sorted_few_and_apart() {
    let refused = |paths: &[String]| {
        let trees = paths
            .iter()
            .map(|path| tree(path, vec![directory("")]))
            .collect();
        let manifest = Manifest {
            job: JOB,
            kind: Kind::Inputs,
            trees,
        };
        match manifest.encode() {
            Err(Error::Malformed { reason, .. }) => reason,
            _ => "accepted",
        }
    };
    let paths = |paths: &[&str]| {
        paths
            .iter()
            .map(|&path| path.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(refused(&paths(&["/b", "/a"])), "its trees are not sorted");
    assert_eq!(refused(&paths(&["/a", "/a"])), "its trees are not sorted");
    assert_eq!(
        refused(&paths(&["/a", "/a-b", "/a/b"])),
        "one of its trees lies within another"
    );
    let many: Vec<String> = (100..=100 + TREES_MAX).map(|n| format!("/t{n}")).collect();
    assert_eq!(refused(&many), "it has too many trees");
    assert_eq!(refused(&many[1..]), "accepted");
}

#[test]
fn a_tree_is_put_in_order_with_its_links() {
    // By directory, "a/b" comes before "a-b"; by bytes, after.
    let unordered = vec![
        directory(""),
        link("z", "a/b"),
        directory("a"),
        file("a/b"),
        link("a-b", "a/b"),
    ];
    let ordered = Tree::new(CentralPath::new("/projects").unwrap(), unordered);
    let manifest = Manifest {
        job: JOB,
        kind: Kind::Inputs,
        trees: vec![ordered],
    };
    manifest.encode().unwrap();
    let tree = &manifest.trees[0];
    assert!(tree.get(b"a-b").unwrap().kind == file("").kind);
    for name in ["a/b", "z"] {
        assert!(
            tree.get(name.as_bytes()).unwrap().kind == link("", "a-b").kind,
            "{name}"
        );
    }
    assert!(tree.get(b"b").is_none());
}

#[test]
fn a_sealed_manifest_opens_for_its_key_job_kind_and_signer_only() {
    let rng = Counting::from(1);
    let (mine, other) = (
        SigningSecret::generate(&rng).unwrap(),
        SigningSecret::generate(&rng).unwrap(),
    );
    let (key, wrong) = (
        JobKey::generate(&rng).unwrap(),
        JobKey::generate(&rng).unwrap(),
    );
    let sealed = result().sign_and_seal(&mine, &key, &rng).unwrap();
    let open = |sealed: &[u8], key, job, kind, by: &SigningSecret| {
        Manifest::open(sealed, key, job, &kind, &by.public()).map(|_| ())
    };
    assert_eq!(open(&sealed, &key, JOB, RESULT, &mine), Ok(()));
    let blob = Err(Error::NotAuthentic {
        what: "a sealed blob",
    });
    assert_eq!(open(&sealed, &wrong, JOB, RESULT, &mine), blob);
    assert_eq!(
        open(&sealed, &key, JobId::from_random([9; 10]), RESULT, &mine),
        blob
    );
    let signature = Err(Error::NotAuthentic {
        what: "a signature",
    });
    assert_eq!(open(&sealed, &key, JOB, RESULT, &other), signature);
    assert!(open(&sealed, &key, JOB, Kind::Inputs, &mine).is_err());
    let Kind::Result {
        session,
        attempt,
        fence,
    } = RESULT
    else {
        unreachable!()
    };
    for kind in [
        Kind::Result {
            session: SessionId::from_random([3; 10]),
            attempt,
            fence,
        },
        Kind::Result {
            session,
            attempt: 2,
            fence,
        },
        Kind::Result {
            session,
            attempt,
            fence: Fence(8),
        },
    ] {
        assert_eq!(open(&sealed, &key, JOB, kind, &mine), blob);
    }
}

#[test]
fn every_byte_of_a_sealed_manifest_counts() {
    let rng = Counting::from(3);
    let by = SigningSecret::generate(&rng).unwrap();
    let key = JobKey::generate(&rng).unwrap();
    let sealed = result().sign_and_seal(&by, &key, &rng).unwrap();
    let refused = |bytes: &[u8]| Manifest::open(bytes, &key, JOB, &RESULT, &by.public()).is_err();
    assert!(!refused(&sealed));
    for at in 0..sealed.len() {
        let mut flipped = sealed.clone();
        flipped[at] ^= 4;
        assert!(refused(&flipped), "byte {at}");
        assert!(refused(&sealed[..at]), "{at} bytes");
    }
}

/// Whoever holds the job key can seal, but not move what was signed to another attempt.
#[test]
fn a_signed_manifest_sealed_again_for_another_attempt_is_refused() {
    let rng = Counting::from(2);
    let by = SigningSecret::generate(&rng).unwrap();
    let key = JobKey::generate(&rng).unwrap();
    let sealed = result().sign_and_seal(&by, &key, &rng).unwrap();
    let signed = key
        .open_blob(Purpose::ResultManifest, &RESULT.place(JOB), &sealed)
        .unwrap();
    let Kind::Result { session, fence, .. } = RESULT else {
        unreachable!()
    };
    let next = Kind::Result {
        session,
        attempt: 2,
        fence,
    };
    let moved = key
        .seal_blob(Purpose::ResultManifest, &next.place(JOB), &signed, &rng)
        .unwrap();
    assert!(matches!(
        Manifest::open(&moved, &key, JOB, &next, &by.public()),
        Err(Error::NotTheOne { .. })
    ));
}

#[test]
fn bytes_that_are_no_manifest_are_refused() {
    let bytes = inputs().encode().unwrap();
    for len in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..len]).is_err(), "{len}");
    }
    assert!(Manifest::decode(&[&bytes[..], &[0]].concat()).is_err());
    let mut newer = bytes.to_vec();
    newer[7] = 2;
    assert!(matches!(
        Manifest::decode(&newer),
        Err(Error::Version { found: 2, .. })
    ));
    // A list that claims to be endless costs nothing.
    let mut endless = b"SLMANIF\x01".to_vec();
    endless.extend_from_slice(JOB.as_bytes());
    endless.extend_from_slice(&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert!(Manifest::decode(&endless).is_err());
}

#[test]
fn a_manifest_has_one_spelling() {
    let bytes = inputs().encode().unwrap();
    // Magic, version and job; then the kind, a number of one byte, which postcard would read from two.
    let (head, rest) = bytes.split_at(8 + 10);
    assert_eq!(rest[0], 0);
    let long = [head, &[0x80, 0], &rest[1..]].concat();
    let refused = Manifest::decode(&long).err();
    assert_eq!(
        refused,
        Some(check::malformed("it is not in its shortest form"))
    );
}

proptest! {
    #[test]
    fn what_decodes_is_valid_and_encodes_again(at in 0usize..500, bit in 0u8..8, more in proptest::collection::vec(any::<u8>(), 0..8)) {
        let mut bytes = inputs().encode().unwrap().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        bytes.splice(at..at, more);
        if let Ok(manifest) = Manifest::decode(&bytes) {
            let again = manifest.encode();
            prop_assert_eq!(again.unwrap().to_vec(), bytes);
        }
    }

    #[test]
    fn any_set_of_names_reads_back(names in proptest::collection::btree_set("[a-c.\u{e9} -]{1,6}", 0..40), len in 0u64..40_000_000) {
        let mut entries = vec![directory("")];
        for name in names.iter().filter(|name| *name != "." && *name != "..") {
            let full = SEGMENT_MAX as u64;
            let segments = (0..len.div_ceil(full)).map(|n| stored((len - n * full).min(full) as u32, n as u8 + 1));
            entries.push(entry(name, EntryKind::File { len, segments: segments.collect() }));
        }
        let manifest = manifest(Kind::Inputs, entries);
        prop_assert!(Manifest::decode(&manifest.encode().unwrap()).unwrap() == manifest);
    }
}
