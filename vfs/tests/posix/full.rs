//! Where there is no room: who writes is told, what was written before stays, and nothing more is begun.

use std::{
    fs::{self, File},
    io::{Error, Write},
    os::fd::IntoRawFd,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    mount::{MntFlags, MsFlags, mount, umount2},
};

use crate::mounting::{Bench, can_mount, noise};

const ROOM: u64 = 4 << 20;

fn errno(outcome: Result<(), Error>) -> Option<i32> {
    outcome.err().and_then(|error| error.raw_os_error())
}

/// Writes more than there is room for, and answers what closing said.
fn overfill(path: &Path) -> Option<Errno> {
    let mut file = File::create(path).unwrap();
    // The kernel takes this into its own memory; whether it does not is told just as well.
    let _ = file.write_all(&noise(3 * ROOM as usize));
    nix::unistd::close(file.into_raw_fd()).err()
}

/// What holds once something did not fit.
fn afterwards(at: &Path) {
    let began = File::create(at.join("next")).map(drop);
    assert_eq!(
        errno(began),
        Some(libc::ENOSPC),
        "a renderer's next file tells it at once"
    );
    let began = File::options()
        .write(true)
        .open(at.join("sealed"))
        .map(drop);
    assert_eq!(errno(began), Some(libc::ENOSPC));
    assert_eq!(
        errno(fs::create_dir(at.join("directory"))),
        Some(libc::ENOSPC)
    );
    assert!(fs::read(at.join("sealed")).unwrap() == noise(100_000));
    assert!(fs::read(at.join("before")).unwrap() == noise(1 << 20));
    fs::remove_file(at.join("much")).unwrap();
}

fn bench() -> Bench {
    let bench = Bench::new();
    fs::write(bench.at("in/sealed"), noise(100_000)).unwrap();
    bench
}

#[test]
fn beyond_the_quota_close_says_so_and_so_does_whatever_is_begun_next() {
    if !can_mount("beyond_the_quota") {
        return;
    }
    let mut bench = bench();
    bench.quota.bytes = ROOM;
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    fs::write(mounted.at.join("before"), noise(1 << 20)).unwrap();
    let room = nix::sys::statvfs::statvfs(&mounted.at).unwrap();
    assert_eq!(room.blocks() * room.fragment_size(), ROOM);
    assert_eq!(overfill(&mounted.at.join("much")), Some(Errno::ENOSPC));
    afterwards(&mounted.at);
    mounted.end();
}

#[test]
fn the_first_write_that_failed_is_told_to_who_syncs() {
    if !can_mount("the_first_write_that_failed") {
        return;
    }
    let mut bench = bench();
    bench.quota.bytes = ROOM;
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    let mut file = File::create(mounted.at.join("much")).unwrap();
    let mut other = File::create(mounted.at.join("other")).unwrap();
    other.write_all(b"a little").unwrap();
    let _ = file.write_all(&noise(3 * ROOM as usize));
    assert_eq!(errno(file.sync_all()), Some(libc::ENOSPC));
    // What is open next to it learns of it too: none of it will be committed.
    assert_eq!(errno(other.sync_all()), Some(libc::ENOSPC));
    drop((file, other));
    mounted.end();
}

#[test]
fn names_beyond_what_may_be_added_are_refused_at_once_and_spoil_nothing() {
    if !can_mount("names_beyond_what_may_be_added") {
        return;
    }
    let mut bench = bench();
    bench.quota.entries = 3;
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    let left = || {
        nix::sys::statvfs::statvfs(&mounted.at)
            .unwrap()
            .files_free()
    };
    let make = |name: &str| fs::write(mounted.at.join(name), b"made");
    assert_eq!(left(), 3);
    make("one").unwrap();
    fs::create_dir(mounted.at.join("two")).unwrap();
    fs::hard_link(mounted.at.join("one"), mounted.at.join("two/three")).unwrap();
    assert_eq!(left(), 0);
    assert_eq!(errno(make("four")), Some(libc::ENOSPC));
    // What is there can be written, renamed and removed, and its room is had again.
    make("one").unwrap();
    fs::rename(mounted.at.join("one"), mounted.at.join("two/one")).unwrap();
    fs::remove_file(mounted.at.join("two/three")).unwrap();
    make("four").unwrap();
    assert_eq!(errno(make("five")), Some(libc::ENOSPC));
    let view = mounted.end();
    let result = bench.seal(&view);
    let again = bench.mount("again", &[&inputs, &result], false, &[]);
    assert_eq!(fs::read(again.at.join("two/one")).unwrap(), b"made");
    assert_eq!(fs::read(again.at.join("four")).unwrap(), b"made");
    again.end();
}

#[test]
fn what_is_asked_for_and_refused_costs_nothing() {
    if !can_mount("what_is_asked_for_and_refused") {
        return;
    }
    let mut bench = bench();
    bench.quota.bytes = ROOM;
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    let mut file = File::create(mounted.at.join("asked")).unwrap();
    let asked = |bytes: u64| fallocate(&file, FallocateFlags::empty(), 0, bytes as i64);
    assert_eq!(asked(ROOM + 1), Err(Errno::ENOSPC));
    assert_eq!(asked(ROOM), Ok(()));
    file.write_all(&noise(ROOM as usize)).unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert!(fs::read(mounted.at.join("asked")).unwrap() == noise(ROOM as usize));
    mounted.end();
}

/// A small disk in memory, gone with this value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(at: PathBuf) -> Self {
        fs::create_dir(&at).unwrap();
        let size = format!("size={ROOM}");
        mount(
            Some("none"),
            &at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size.as_str()),
        )
        .unwrap();
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn on_a_full_disk_close_says_so_and_what_was_there_stays() {
    if !can_mount("on_a_full_disk") {
        return;
    }
    let mut bench = bench();
    let disk = SmallDisk::new(bench.at("disk"));
    bench.upper = Some(disk.0.clone());
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    fs::write(mounted.at.join("before"), noise(1 << 20)).unwrap();
    File::open(mounted.at.join("before"))
        .unwrap()
        .sync_all()
        .unwrap();
    assert_eq!(overfill(&mounted.at.join("much")), Some(Errno::ENOSPC));
    afterwards(&mounted.at);
    mounted.end();
}
