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
    random::SystemRandom,
    segment::{BLOCK, DedupKey, HEADER_LEN, SegmentKey, seal_segment},
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

/// A small file with a hole, its object, and what the view must say of every change to it.
struct Target {
    bench: Bench,
    layer: Vec<Entry>,
    object: ObjectId,
    whole: Vec<u8>,
    plain: Vec<u8>,
}

impl Target {
    fn new() -> Self {
        let bench = Bench::new();
        let mut plain = vec![7; 2 * BLOCK + 100];
        plain[BLOCK..2 * BLOCK].fill(0);
        let layer = bench.layer(&[("a", What::File(&plain))]);
        let object = object(&layer, "a");
        let whole = fs::read(stored(&bench, object)).unwrap();
        Self {
            bench,
            layer,
            object,
            whole,
            plain,
        }
    }

    /// Reads the file from an area in which its object has these bytes: an error and a record, unless they are the object's own.
    fn check(&self, bytes: &[u8], what: &str) {
        fs::write(stored(&self.bench, self.object), bytes).unwrap();
        let view = self.bench.view(&[&self.layer]);
        let said = read(&view, "a");
        let log = self.bench.log.take();
        if bytes == self.whole {
            assert!(said.unwrap() == self.plain, "{what}: the control");
            return;
        }
        assert_eq!(said, Err(Errno::EIO), "{what}");
        let at = "/mnt/show/a".to_owned();
        let record = (Op::OpenRead, at, Verdict::NotAuthentic);
        assert!(log.contains(&record), "{what}: {log:?}");
        assert_eq!(self.bench.log.forged().last(), Some(&self.object), "{what}");
        assert!(is_poisoned(&view), "{what}");
    }
}

#[test]
fn every_byte_of_a_header_every_tag_and_a_sample_of_the_data_is_told_from_what_was_sealed() {
    let target = Target::new();
    target.check(&target.whole, "untouched");
    let (len, tags) = (target.whole.len(), 2 * 16);
    let data = (HEADER_LEN..len - tags).step_by(1021);
    let edges = [HEADER_LEN + BLOCK - 1, HEADER_LEN + BLOCK, len - tags - 1];
    // All that the header says, then its zeros here and there.
    let header = (0..128).chain((128..HEADER_LEN).step_by(61));
    for at in header.chain(data).chain(edges).chain(len - tags..len) {
        for bit in [0x01, 0x80] {
            let mut bytes = target.whole.clone();
            bytes[at] ^= bit;
            target.check(&bytes, &format!("byte {at} ^ {bit}"));
        }
    }
    target.check(&target.whole, "untouched again");
}

#[test]
fn an_object_that_is_cut_or_longer_anywhere_is_told_from_what_was_sealed() {
    let target = Target::new();
    let len = target.whole.len();
    let edges = [0, 1, 79, 80, HEADER_LEN - 1, HEADER_LEN, HEADER_LEN + BLOCK];
    for at in edges.into_iter().chain(len - 40..len) {
        target.check(&target.whole[..at], &format!("cut at {at}"));
    }
    for more in [1, 16, 100, BLOCK] {
        let bytes = [&target.whole[..], &vec![0; more]].concat();
        target.check(&bytes, &format!("{more} bytes longer"));
    }
    // Blocks, and their tags, in each other's place.
    let (first, last) = (HEADER_LEN..HEADER_LEN + 100, len - 132..len - 32);
    let mut bytes = target.whole.clone();
    bytes.copy_within(first.clone(), last.start);
    bytes[first].copy_from_slice(&target.whole[last]);
    target.check(&bytes, "blocks swapped");
    let mut bytes = target.whole.clone();
    bytes.copy_within(len - 32..len - 16, len - 16);
    bytes[len - 32..len - 16].copy_from_slice(&target.whole[len - 16..]);
    target.check(&bytes, "tags swapped");
}

#[test]
fn an_object_of_another_file_version_job_or_client_is_told_from_what_was_sealed() {
    let target = Target::new();
    let mut older = target.plain.clone();
    older[5] ^= 1;
    let other: &[u8] = &vec![8; target.plain.len()];
    let own = DedupKey::from_bytes(&[7; 32]);
    let another = DedupKey::from_bytes(&[9; 32]);
    let random = || SegmentKey::generate(&SystemRandom::new()).unwrap();
    for (what, key, plain) in [
        ("an older version", own.segment_key(&older), &older[..]),
        ("another file", own.segment_key(other), other),
        ("another job's, of the same bytes", random(), &target.plain),
        (
            "another client's, of the same bytes",
            another.segment_key(&target.plain),
            &target.plain,
        ),
    ] {
        let sealed = seal_segment(key, plain).unwrap();
        assert_eq!(sealed.bytes.len() == target.whole.len(), plain != other);
        target.check(&sealed.bytes, what);
        // Nor does its body under the header that belongs here, or the other way around.
        let mixed = [&target.whole[..HEADER_LEN], &sealed.bytes[HEADER_LEN..]].concat();
        target.check(&mixed, &format!("{what}: its body"));
        let mixed = [&sealed.bytes[..HEADER_LEN], &target.whole[HEADER_LEN..]].concat();
        target.check(&mixed, &format!("{what}: its header"));
    }
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
