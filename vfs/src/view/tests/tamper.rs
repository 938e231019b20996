//! What the disk does to us: every byte that is not what was sealed is an error, and known.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use nix::errno::Errno;
use safelight_policies::{
    event::{Op, Verdict},
    id::ObjectId,
};
use safelight_seal::{
    manifest::{Entry, EntryKind},
    segment::BLOCK,
};

use super::*;
use crate::tree::ROOT;

fn object(layer: &[Entry], path: &str) -> ObjectId {
    let entry = layer
        .iter()
        .find(|entry| entry.path == path.as_bytes())
        .unwrap();
    match &entry.kind {
        EntryKind::File { segments, .. } => segments[0].object.unwrap(),
        _ => panic!("not a file"),
    }
}

fn stored(bench: &Bench, id: ObjectId) -> PathBuf {
    let name = id.to_string();
    bench.area.root().join(&name[..2]).join(name)
}

fn flip(path: &Path, offset: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

/// Spoils an object and reads the file of it.
fn spoilt(spoil: impl Fn(&Bench, &Path, &Path)) {
    let bench = Bench::new();
    let mut plain = vec![7; 2 * BLOCK + 100];
    plain[BLOCK..2 * BLOCK].fill(0);
    let other = vec![8; plain.len()];
    let list = [
        ("a", What::File(&plain)),
        ("b", What::File(&other)),
        ("c", What::File(b"fine")),
    ];
    let layer = bench.layer(&list);
    let (a, b) = (object(&layer, "a"), object(&layer, "b"));
    let view = bench.view(&[&layer]);
    spoil(&bench, &stored(&bench, a), &stored(&bench, b));
    bench.log.take();
    assert_eq!(read(&view, "a"), Err(Errno::EIO));
    let at = "/mnt/show/a".to_owned();
    let log = bench.log.take();
    assert_eq!(log[1], (Op::OpenRead, at, Verdict::NotAuthentic));
    assert_eq!(bench.log.forged(), [a]);
    assert!(is_poisoned(&view));
    // Nothing else is affected.
    assert_eq!(read(&view, "c").unwrap(), b"fine");
}

#[test]
fn a_flipped_byte_anywhere_in_an_object_is_an_error_and_known() {
    // Header, its unused rest is not read; both stored blocks at both ends; the tags.
    let data = 4096;
    let tags = data + BLOCK as u64 + 100;
    let last = tags + 2 * 16 - 1;
    for offset in [
        0,
        8,
        20,
        60,
        data,
        tags - 101,
        data + BLOCK as u64,
        tags - 1,
        tags,
        last,
    ] {
        spoilt(|_, a, _| flip(a, offset));
    }
}

#[test]
fn an_object_that_is_cut_swapped_replaced_or_gone_is_an_error_and_known() {
    spoilt(|_, a, b| {
        fs::copy(b, a).unwrap();
    });
    for len in [0, 100, 4096, 5000] {
        spoilt(move |_, a, _| {
            fs::File::options()
                .write(true)
                .open(a)
                .unwrap()
                .set_len(len)
                .unwrap()
        });
    }
    spoilt(|_, a, _| fs::remove_file(a).unwrap());
    spoilt(|_, a, b| {
        fs::remove_file(a).unwrap();
        std::os::unix::fs::symlink(b, a).unwrap();
    });
    spoilt(|_, a, _| {
        fs::remove_file(a).unwrap();
        fs::create_dir(a).unwrap();
    });
}

#[test]
fn a_write_of_a_part_of_a_forged_block_is_an_error_and_a_write_over_all_of_it_is_not() {
    let bench = Bench::new();
    let plain = vec![7; 2 * BLOCK];
    let layer = bench.layer(&[("a", What::File(&plain))]);
    flip(&stored(&bench, object(&layer, "a")), 5000);
    let view = bench.view(&[&layer]);
    write(&view, "a", 0, &vec![1; BLOCK]).unwrap();
    assert!(!is_poisoned(&view));
    assert_eq!(read(&view, "a").unwrap()[..BLOCK], vec![1; BLOCK]);
    let again = bench.view(&[&layer]);
    assert_eq!(write(&again, "a", 10, b"x"), Err(Errno::EIO));
    assert!(is_poisoned(&again));
    assert_eq!(bench.log.forged().len(), 1);
}

#[test]
fn the_sessions_own_blocks_are_noise_on_disk_and_cannot_be_changed() {
    let bench = Bench::new();
    let layer = bench.layer(&[]);
    let file = tempfile::NamedTempFile::new_in(bench.directory.path()).unwrap();
    let view = bench.view_on(&[&layer], file.reopen().unwrap());
    let secret = b"a line that must not be on the disk ".repeat(3000);
    make(&view, "a", &secret);
    assert_eq!(read(&view, "a").unwrap(), secret);
    let disk = fs::read(file.path()).unwrap();
    assert!(disk.len() >= secret.len());
    assert!(!disk.windows(8).any(|bytes| bytes == &secret[..8]));
    flip(file.path(), 3);
    assert_eq!(read(&view, "a"), Err(Errno::EIO));
    // Yesterday's block is not today's either.
    fs::write(file.path(), &disk).unwrap();
    assert_eq!(read(&view, "a").unwrap(), secret);
    write(&view, "a", 0, b"B").unwrap();
    fs::write(file.path(), &disk).unwrap();
    assert_eq!(read(&view, "a"), Err(Errno::EIO));
    assert!(view.lookup(ANYONE, ROOT, b"a").is_ok());
}
