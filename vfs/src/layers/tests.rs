//! What layers show together, against the plain way of saying it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use safelight_seal::manifest::{Entry, EntryKind};

use super::*;

fn entry(path: &[u8], kind: EntryKind, mode: u32) -> Entry {
    let gone = kind == EntryKind::Whiteout;
    Entry {
        path: path.to_vec(),
        kind,
        mode: if gone { 0 } else { mode },
        mtime_ns: 0,
        xattrs: Vec::new(),
    }
}

fn directory(path: &[u8]) -> Entry {
    entry(path, EntryKind::Directory { opaque: false }, 0o755)
}

/// What a name is made to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Directory,
    Opaque,
    File,
    Link,
    Whiteout,
}

/// A layer of what was asked for, as far as it can be one: below a file there is nothing, and a link has a file to go to.
fn layer(asked: &BTreeMap<Vec<u8>, What>, number: u32) -> Vec<Entry> {
    let mut made: BTreeMap<Vec<u8>, Entry> = BTreeMap::from([(Vec::new(), directory(b""))]);
    let mut file: Option<Vec<u8>> = None;
    for (path, what) in asked {
        let above = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let parent = made.get(&path[..above]);
        if !parent.is_some_and(|parent| matches!(parent.kind, EntryKind::Directory { .. })) {
            continue;
        }
        let kind = match (what, &file) {
            (What::Directory, _) => EntryKind::Directory { opaque: false },
            (What::Opaque, _) => EntryKind::Directory { opaque: true },
            (What::Whiteout, _) => EntryKind::Whiteout,
            (What::Link, Some(to)) => EntryKind::Link { to: to.clone() },
            (What::File | What::Link, _) => {
                file = Some(path.clone());
                EntryKind::File {
                    len: 0,
                    segments: Vec::new(),
                }
            }
        };
        made.insert(path.clone(), entry(path, kind, 0o600 + number));
    }
    made.into_values().collect()
}

/// The same, one entry after the other: path to layer, kind, and the file that it is.
type Plain = BTreeMap<Vec<u8>, (u32, EntryKind, Option<(u32, Vec<u8>)>)>;

fn plainly(layers: &[Vec<Entry>]) -> Plain {
    let mut shown = Plain::new();
    for (number, layer) in (0..).zip(layers) {
        for entry in layer {
            let was = shown.get(&entry.path).map(|(_, kind, _)| kind);
            let keeps = matches!(was, Some(EntryKind::Directory { .. }))
                && entry.kind == EntryKind::Directory { opaque: false };
            if !keeps {
                let below = within(&entry.path);
                shown.retain(|path, _| *path != entry.path && !path.starts_with(&below));
            }
            let file = match &entry.kind {
                EntryKind::Whiteout => continue,
                EntryKind::File { .. } => Some((number, entry.path.clone())),
                EntryKind::Link { to } => Some((number, to.clone())),
                _ => None,
            };
            shown.insert(entry.path.clone(), (number, entry.kind.clone(), file));
        }
    }
    shown
}

fn compare(layers: &[Vec<Entry>]) {
    let trees = layers.iter().map(|layer| Entries::of(layer).unwrap());
    let index = Layers::of(trees.collect()).unwrap();
    let plain = plainly(layers);
    let rows: Vec<&[u8]> = (0..index.names_len())
        .map(|row| index.row_path(row))
        .collect();
    assert!(rows.iter().copied().eq(plain.keys().map(Vec::as_slice)));
    let mut nodes: BTreeMap<Ino, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for (path, (layer, kind, file)) in &plain {
        let ino = index.node_of(index.find(path).unwrap());
        nodes.entry(ino).or_default().insert(path.clone());
        assert!(index.is_at(ino, path) && index.has(ino));
        let shown = index.entry(ino).unwrap();
        match file {
            Some((of, to)) => {
                assert_eq!((shown.path, shown.mode), (&to[..], 0o600 + of));
                // Whoever is the same file is the same node.
                for (other, (_, _, known)) in &plain {
                    let same = index.node_of(index.find(other).unwrap()) == ino;
                    assert_eq!(same, known == file, "{path:?} {other:?}");
                }
            }
            None => {
                let said = layers[*layer as usize].iter().find(|it| it.path == *path);
                assert_eq!((shown.path, shown.mode), (&path[..], said.unwrap().mode));
            }
        }
        let below = within(path);
        let children: BTreeSet<&[u8]> = plain
            .keys()
            .filter_map(|other| other.strip_prefix(&below[..]))
            .filter(|rest| !rest.is_empty() && !rest.contains(&b'/'))
            .collect();
        let directory = matches!(kind, EntryKind::Directory { .. });
        assert_eq!(index.counts(ino).is_some(), directory);
        if directory {
            assert!(index.children(ino).map(|(name, _)| name).eq(children));
            for (name, child) in index.children(ino) {
                assert_eq!(index.child(ino, name), Some(child));
            }
            let (entries, subdirectories) = index.counts(ino).unwrap();
            let kinds = index
                .children(ino)
                .filter_map(|(_, child)| index.entry(child));
            let directories = kinds.filter(|it| matches!(it.kind, KindRef::Directory { .. }));
            assert_eq!(subdirectories as usize, directories.count());
            assert_eq!(entries, index.children(ino).count());
        }
    }
    assert_eq!(index.nodes_len(), nodes.len());
    for (ino, paths) in nodes.into_iter().filter(|(ino, _)| *ino > 1) {
        let whole =
            |(parent, name): (Ino, Vec<u8>)| [&within(index.path(parent)), &name[..]].concat();
        let names: BTreeSet<Vec<u8>> = index.names(ino).into_iter().map(whole).collect();
        assert_eq!(names, paths);
        assert!(paths.contains(index.path(ino)));
    }
    assert_eq!(index.child(1, b"absent"), None);
    assert!(!index.has(0) && !index.has(index.names_len() as Ino + 1));
}

fn asked() -> impl Strategy<Value = BTreeMap<Vec<u8>, What>> {
    let what = prop_oneof![
        4 => Just(What::Directory),
        1 => Just(What::Opaque),
        3 => Just(What::File),
        2 => Just(What::Link),
        1 => Just(What::Whiteout),
    ];
    // Names on both sides of the slash, so that what is below a directory does not follow it directly.
    let path = "[ab]([.]?[ab])?(/[ab][.-]?){0,3}".prop_map(String::into_bytes);
    prop::collection::btree_map(path, what, 0..24)
}

proptest! {
    #[test]
    fn the_index_shows_what_the_layers_say(asked in prop::collection::vec(asked(), 1..4)) {
        let layers: Vec<Vec<Entry>> = (0..).zip(&asked).map(|(number, asked)| layer(asked, number)).collect();
        compare(&layers);
    }
}

#[test]
fn what_lies_between_a_directory_and_its_entries_does_not_disturb() {
    let file = |path: &[u8]| {
        let kind = EntryKind::File {
            len: 0,
            segments: Vec::new(),
        };
        entry(path, kind, 0o600)
    };
    let first = vec![
        directory(b""),
        directory(b"a"),
        file(b"a-"),
        file(b"a.b"),
        directory(b"a/d"),
        directory(b"a/d/e"),
        file(b"a/d/e/f"),
        file(b"a/d0"),
        file(b"a0"),
    ];
    let hides = |kind| vec![directory(b""), entry(b"a", kind, 0o601)];
    compare(std::slice::from_ref(&first));
    compare(&[first.clone(), hides(EntryKind::Whiteout)]);
    compare(&[first.clone(), hides(EntryKind::Directory { opaque: true })]);
    compare(&[first, hides(EntryKind::Directory { opaque: false })]);
}
