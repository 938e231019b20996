//! Audit logs, registers, notes, statements and proofs.

use std::{fs, io::Cursor};

use safelight_audit::{
    Reader, Register, Statement,
    note::{Head, Role, Signer},
    tree::{self, Forest, Frontier, Hash},
    verify,
};

use crate::bounded::bounded;

/// How many parsers this family has.
pub const CHOICES: u8 = 7;

/// What a reader of a log may hold: windows of a few records, whatever the log's length.
const WINDOW: usize = 4 << 20;

/// Calls the parser that the first byte chooses; true if it took the rest.
pub fn check(bytes: &[u8]) -> bool {
    let Some((choice, bytes)) = bytes.split_first() else {
        return false;
    };
    match choice % CHOICES {
        0 => log(bytes),
        1 => log(&linked(bytes)),
        2 => note(bytes),
        3 => Statement::read(bytes).is_some_and(|statement| {
            assert_eq!(
                statement.text().as_bytes(),
                bytes,
                "two spellings of a statement"
            );
            true
        }),
        4 => included(bytes),
        5 => extended(bytes),
        _ => register(bytes),
    }
}

/// A log as it lies on a disk: the verifier and the reader see the same in it.
fn log(bytes: &[u8]) -> bool {
    let report = bounded(WINDOW + 4 * bytes.len(), || {
        verify(Cursor::new(bytes), None)
    });
    let Ok(report) = report else { return false };
    let read = bounded(WINDOW, || read(bytes));
    if report.is_whole() {
        let (records, root) = read.expect("what verifies is read");
        assert_eq!(
            records, report.records,
            "the reader stops where the verifier does not"
        );
        let mut frontier = Frontier::default();
        let reader = Reader::open(bytes).expect("what verifies is read");
        reader
            .leaves(|_, leaf| frontier.push(leaf))
            .expect("what verifies is read");
        assert_eq!(frontier.root(), root, "two trees over one log");
    } else if let Some((records, _)) = read {
        // What is wrong is found by both: the reader never goes on to the end.
        let whole = Reader::open(bytes).is_ok_and(|mut reader| {
            let fine = reader.by_ref().all(|record| record.is_ok());
            fine && reader.torn() == 0 && reader.offset() == bytes.len() as u64
        });
        assert!(
            !whole,
            "{records} records are read and {:?}",
            report.findings
        );
    }
    report.is_whole()
}

fn read(bytes: &[u8]) -> Option<(u64, Hash)> {
    let mut reader = Reader::open(bytes).ok()?.with_tree();
    let mut last = 0;
    for record in reader.by_ref() {
        let Ok(record) = record else { break };
        last += 1;
        assert_eq!(record.seq, last, "a number was left out");
    }
    Some((last, reader.root()?))
}

/// A log whose links all hold: records as they are made up, each with its length before it (u16, little-endian).
fn linked(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = b"SLAUDIT\0\x01\0".to_vec();
    let mut take = || -> Option<&[u8]> {
        let (len, rest) = bytes.split_first_chunk::<2>()?;
        let (body, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        bytes = rest;
        Some(body)
    };
    let Some(header) = take() else { return out };
    out.extend_from_slice(
        &u16::try_from(header.len())
            .unwrap_or(u16::MAX)
            .to_le_bytes(),
    );
    out.extend_from_slice(header);
    let mut link = blake3::derive_key("safelight v1 audit header", &out);
    out.extend_from_slice(&link);
    while let Some(body) = take() {
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let all = [&link[..], &len, body].concat();
        link = blake3::derive_key("safelight v1 audit record", &all);
        out.extend_from_slice(&[&len[..], body, &link].concat());
    }
    out
}

fn note(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let read = bounded((64 << 10) + 8 * bytes.len(), || Head::read(text));
    for role in [Role::Log, Role::Witness] {
        let signer = Signer::new("safelight-site", role, &[0x51; 32]).expect("a key");
        if let Some((head, time)) = signer.verifier().open(text) {
            assert_eq!(Some(&head), read.as_ref());
            let again = signer.sign(&head, time);
            let line = again.lines().last().expect("a line");
            assert!(
                text.lines().any(|it| it == line),
                "a signature that was not made"
            );
        }
    }
    read.is_some_and(|head| {
        assert!(text.starts_with(&head.text()), "two spellings of a head");
        true
    })
}

/// A tree of a few leaves, a number below its size, and hashes.
fn tree_and_path(bytes: &[u8]) -> Option<(Forest, Frontier, u64, Vec<Hash>)> {
    let (numbers, rest) = bytes.split_first_chunk::<2>()?;
    let size = u64::from(numbers[0] % 40) + 1;
    let (mut forest, mut frontier) = (Forest::default(), Frontier::default());
    for leaf in 0..size {
        let leaf = tree::leaf(&leaf.to_be_bytes());
        forest.push(leaf);
        frontier.push(leaf);
    }
    let path = rest
        .chunks_exact(32)
        .filter_map(|hash| hash.try_into().ok());
    Some((
        forest,
        frontier,
        u64::from(numbers[1]) % size,
        path.collect(),
    ))
}

/// A proof holds if it is the one that there is.
fn included(bytes: &[u8]) -> bool {
    let Some((forest, frontier, index, path)) = tree_and_path(bytes) else {
        return false;
    };
    let nodes = |level, index| forest.node(level, index).ok_or(());
    let true_path = tree::inclusion(index, frontier.size(), &nodes).expect("a proof");
    let leaf = tree::leaf(&index.to_be_bytes());
    let holds = tree::includes(leaf, index, frontier.size(), &path, &frontier.root());
    assert_eq!(holds, path == true_path, "a forged proof");
    assert!(tree::includes(
        leaf,
        index,
        frontier.size(),
        &true_path,
        &frontier.root()
    ));
    holds
}

fn extended(bytes: &[u8]) -> bool {
    let Some((forest, frontier, before, path)) = tree_and_path(bytes) else {
        return false;
    };
    let nodes = |level, index| forest.node(level, index).ok_or(());
    let (old, new) = (before + 1, (frontier.size(), &frontier.root()));
    let root = Frontier::of(old, &nodes).expect("a part of it").root();
    let true_path = tree::consistency(old, frontier.size(), &nodes).expect("a proof");
    let holds = tree::extends((old, &root), new, &path);
    assert_eq!(holds, path == true_path, "a forged proof");
    assert!(tree::extends((old, &root), new, &true_path));
    let other = tree::leaf(b"another history");
    assert!(
        !tree::extends((old, &other), new, &true_path),
        "another history"
    );
    holds
}

/// The files of a register: the note, the tile of entries and the tile of hashes, each with its length before it (u16, little-endian).
fn register(mut bytes: &[u8]) -> bool {
    let mut parts = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
        let Some((part, rest)) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))
        else {
            break;
        };
        parts.push(part);
        bytes = rest;
    }
    let [note, entries, hashes] = parts[..] else {
        return false;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, bytes).expect("a file");
    };
    write("checkpoint", note);
    let Ok(register) = Register::open(directory.path()) else {
        return false;
    };
    let size = register.size();
    let width = (1..256).contains(&size).then(|| format!("000.p/{size}"));
    let tile = width.as_deref().unwrap_or("000");
    write(&format!("tile/entries/{tile}"), entries);
    write(&format!("tile/0/{tile}"), hashes);
    bounded(WINDOW, || {
        let Ok(found) = register.entries(0, size.min(1024)) else {
            return false;
        };
        assert!(found.len() as u64 <= size);
        let _ = register.inclusion(size / 2);
        let _ = register.consistency(size.div_ceil(2).max(1).min(size));
        let _ = register.head_at(size);
        let root = register.root_of_entries(size);
        matches!(root, Ok(Some(root)) if Head::read(register.note()).is_some_and(|it| it.root == root))
    })
}
