//! Bytes: holes, lengths, quota, failing disks.

use std::fs::File;

use nix::errno::Errno;
use safelight_seal::segment::BLOCK;

use super::*;
use crate::{content::Part, tree::ROOT, view::SetAttributes};

const TIB: u64 = 1 << 40;

fn truncate(view: &View, path: &str, size: u64) -> Answer<()> {
    let set = SetAttributes {
        size: Some(size),
        ..SetAttributes::default()
    };
    view.set_attributes(ANYONE, ino(view, path), set).map(drop)
}

#[test]
fn what_was_cut_off_never_comes_back() {
    let bench = Bench::new();
    let plain = vec![7; 3 * BLOCK];
    let layer = bench.layer(&[("sealed", What::File(&plain))]);
    let view = bench.view(&[&layer]);
    make(&view, "own", &plain);
    for path in ["sealed", "own"] {
        for cut in [BLOCK + 10, BLOCK, 5, 0] {
            truncate(&view, path, cut as u64).unwrap();
            truncate(&view, path, plain.len() as u64).unwrap();
            let mut expected = vec![0; plain.len()];
            expected[..cut].fill(7);
            assert_eq!(read(&view, path).unwrap(), expected, "{path} {cut}");
        }
    }
}

#[test]
fn a_file_of_a_tebibyte_costs_what_is_in_it() {
    let bench = Bench::new();
    let layer = bench.layer(&[]);
    let view = bench.view(&[&layer]);
    make(&view, "a", b"");
    truncate(&view, "a", 2 * TIB).unwrap();
    write(&view, "a", TIB + 5, b"middle").unwrap();
    let of = view.attributes(ino(&view, "a")).unwrap();
    assert_eq!((of.size, of.stored), (2 * TIB, BLOCK as u64));
    let number = view.open(ANYONE, ino(&view, "a"), READ).unwrap();
    let block = BLOCK as u64;
    assert_eq!(view.seek(number, 0, &Part::Data), Ok(TIB));
    assert_eq!(view.seek(number, TIB + 3, &Part::Data), Ok(TIB + 3));
    assert_eq!(view.seek(number, TIB, &Part::Hole), Ok(TIB + block));
    assert_eq!(
        view.seek(number, TIB + block, &Part::Data),
        Err(Errno::ENXIO)
    );
    assert_eq!(view.seek(number, 2 * TIB, &Part::Hole), Err(Errno::ENXIO));
    view.close(ANYONE, number).unwrap();
    let merged = bench.view(&[&layer, &bench.commit(&view)]);
    let number = merged.open(ANYONE, ino(&merged, "a"), READ).unwrap();
    let mut out = Vec::new();
    let answer = merged.read(ANYONE, number, TIB, 12, &mut out).unwrap();
    assert_eq!(out[answer], *b"\0\0\0\0\0middle\0");
    // A punched hole of the whole file touches one block, not 32 million.
    let number = view.open(ANYONE, ino(&view, "a"), WRITE).unwrap();
    let punch = libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE;
    view.allocate(ANYONE, number, 0, 4 * TIB, punch).unwrap();
    let of = view.attributes(ino(&view, "a")).unwrap();
    assert_eq!((of.size, of.stored, view.space().used), (2 * TIB, 0, 0));
}

#[test]
fn a_file_ends_at_16_tebibytes() {
    let bench = Bench::new();
    let layer = bench.layer(&[]);
    let view = bench.view(&[&layer]);
    make(&view, "a", b"");
    assert_eq!(truncate(&view, "a", 16 * TIB), Ok(()));
    assert_eq!(truncate(&view, "a", 16 * TIB + 1), Err(Errno::EFBIG));
    let number = view.open(ANYONE, ino(&view, "a"), WRITE).unwrap();
    assert_eq!(
        view.allocate(ANYONE, number, 16 * TIB, 1, 0),
        Err(Errno::EFBIG)
    );
    assert_eq!(
        view.allocate(ANYONE, number, u64::MAX, u64::MAX, 0),
        Err(Errno::EFBIG)
    );
    assert!(!is_poisoned(&view));
    // The kernel has promised a write already when it comes here: what fails now is lost.
    assert_eq!(
        view.write(ANYONE, number, 16 * TIB, b"x"),
        Err(Errno::EFBIG)
    );
    assert_eq!(
        view.write(ANYONE, number, u64::MAX, b"x"),
        Err(Errno::EFBIG)
    );
    assert!(is_poisoned(&view));
}

#[test]
fn stored_bytes_are_counted_once() {
    let bench = Bench::new();
    let plain = vec![7; 2 * BLOCK + 10];
    let layer = bench.layer(&[("a", What::File(&plain))]);
    let view = bench.view(&[&layer]);
    let stored = || view.attributes(ino(&view, "a")).unwrap().stored;
    assert_eq!(stored(), plain.len() as u64);
    write(&view, "a", 0, &plain).unwrap();
    assert_eq!(stored(), plain.len() as u64);
    truncate(&view, "a", BLOCK as u64 + 1).unwrap();
    assert_eq!(stored(), BLOCK as u64 + 1);
    truncate(&view, "a", 1 << 30).unwrap();
    assert_eq!(stored(), BLOCK as u64 + 1);
}

#[test]
fn the_quota_is_exact_and_going_beyond_it_spoils_the_attempt() {
    let mut bench = Bench::new();
    bench.quota.bytes = 2 * BLOCK as u64;
    let layer = bench.layer(&[]);
    let view = bench.view(&[&layer]);
    make(&view, "a", &vec![1; 2 * BLOCK]);
    // Writing over what is there takes nothing, and what is given back can be taken again.
    write(&view, "a", 5, &vec![2; BLOCK]).unwrap();
    truncate(&view, "a", BLOCK as u64).unwrap();
    make(&view, "b", &vec![3; BLOCK]);
    let space = view.space();
    assert_eq!(
        (space.quota, space.used),
        (bench.quota.bytes, bench.quota.bytes)
    );
    assert_eq!(space.nodes, 3);
    assert!(!is_poisoned(&view));
    let number = view.open(ANYONE, ino(&view, "b"), WRITE).unwrap();
    assert_eq!(
        view.write(ANYONE, number, BLOCK as u64, b"x"),
        Err(Errno::ENOSPC)
    );
    assert!(is_poisoned(&view));
    // A writer that did not wait learns of it once, at the next flush; a sync always fails from now on.
    assert_eq!(view.flush(number), Err(Errno::ENOSPC));
    assert_eq!(view.flush(number), Ok(()));
    assert_eq!(view.sync(number), Err(Errno::ENOSPC));
    // What was there is still there.
    assert_eq!(read(&view, "b").unwrap(), vec![3; BLOCK]);
}

#[test]
fn a_disk_that_refuses_spoils_the_attempt() {
    let bench = Bench::new();
    let layer = bench.layer(&[]);
    let view = bench.view_on(&[&layer], File::open("/dev/null").unwrap());
    let (_, number) = view.create(ANYONE, ROOT, b"a", 0o644, BOTH).unwrap();
    assert_eq!(view.write(ANYONE, number, 0, b"x"), Err(Errno::EBADF));
    assert!(is_poisoned(&view));
    assert_eq!(view.sync(number), Err(Errno::EBADF));
    assert_eq!(view.sync(number), Err(Errno::EBADF));
}
