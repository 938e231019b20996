//! The largest things that may come, and those that only say that they are large: memory follows the bytes, never a number in them.

use safelight_bundle::{BlobList, ListError};
use safelight_policies::id::{JobId, ObjectId};
use safelight_seal::manifest::{Entry, EntryKind, Kind, Manifest, Tree};

use crate::bounded::bounded;

const MILLION: u32 = 1_000_000;

fn entry(path: Vec<u8>, kind: EntryKind) -> Entry {
    Entry {
        path,
        kind,
        mode: 0o644,
        mtime_ns: 1,
        xattrs: Vec::new(),
    }
}

fn manifest(entries: Vec<Entry>) -> Vec<u8> {
    let manifest = Manifest {
        job: JobId::from_random([1; 10]),
        kind: Kind::Inputs,
        trees: vec![Tree::new("/mnt/show".parse().unwrap(), entries)],
    };
    manifest.encode().unwrap().to_vec()
}

fn root() -> Entry {
    entry(Vec::new(), EntryKind::Directory { opaque: false })
}

#[test]
fn a_manifest_of_a_million_files_takes_no_more_than_its_entries() {
    let _alone = crate::bounded::alone();
    let file = |number: u32| {
        let (len, segments) = (0, Vec::new());
        entry(
            format!("{number:07}.exr").into_bytes(),
            EntryKind::File { len, segments },
        )
    };
    let bytes = manifest(
        std::iter::once(root())
            .chain((0..MILLION).map(file))
            .collect(),
    );
    let read = bounded(320 * MILLION as usize, || Manifest::decode(&bytes))
        .ok()
        .unwrap();
    assert_eq!(read.trees[0].entries.len(), MILLION as usize + 1);
}

#[test]
fn a_manifest_that_says_that_millions_follow_allocates_nothing_for_them() {
    let _alone = crate::bounded::alone();
    let bytes = manifest(vec![root()]);
    // The number of entries is after the path of the one tree: it was one, and becomes four million.
    let at = bytes
        .windows(9)
        .position(|part| part == b"/mnt/show")
        .unwrap()
        + 9;
    assert_eq!(bytes[at], 1);
    let lies = [&bytes[..at], &[0xff, 0xff, 0xff, 0x01], &bytes[at + 1..]].concat();
    assert!(bounded(1 << 20, || Manifest::decode(&lies)).is_err());
}

#[test]
fn a_deep_tree_is_read_without_a_deep_stack() {
    let _alone = crate::bounded::alone();
    // As deep as a path of 4,096 bytes can be.
    let path = |depth: usize| vec!["d"; depth].join("/").into_bytes();
    let directory = |depth| entry(path(depth), EntryKind::Directory { opaque: false });
    let bytes = manifest(
        std::iter::once(root())
            .chain((1..=2048).map(directory))
            .collect(),
    );
    let read = bounded(16 << 20, || {
        let read = std::thread::Builder::new().stack_size(64 << 10);
        let read = read.spawn(move || Manifest::decode(&bytes).is_ok());
        read.unwrap().join()
    });
    assert!(read.unwrap());
}

#[test]
fn the_longest_list_of_blobs_takes_no_more_than_its_entries() {
    let _alone = crate::bounded::alone();
    let blob = |number: u32| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        (ObjectId(id), 1)
    };
    let list = BlobList::new((0..1 << 20).map(blob)).unwrap();
    let bytes = list.encode().unwrap();
    let read = bounded(128 << 20, || BlobList::decode(&bytes));
    assert_eq!(read, Ok(list));
    let mut more = bytes.clone();
    more.resize(bytes.len() + (8 << 20), 0);
    assert_eq!(
        bounded(1 << 20, || BlobList::decode(&more)),
        Err(ListError::TooMany)
    );
}
