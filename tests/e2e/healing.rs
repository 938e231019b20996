//! What a disk did to sealed objects at home: the next job that has the same files finds them whole.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
};

use crate::harness::{Host, below_directory, end, requires};

/// Sealed segments of all clients of a state, by their paths.
fn segments(host: &Host) -> Vec<PathBuf> {
    let all = below_directory(&host.state()).expect("a state");
    let mut found: Vec<PathBuf> = all
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.len() == 64) && path.is_file())
        .filter(|path| fs::read(path).expect("an object").starts_with(b"SLSEGMNT"))
        .collect();
    found.sort();
    found
}

fn is_itself(path: &PathBuf) -> bool {
    let bytes = fs::read(path).expect("an object");
    let name = path.file_name().and_then(|name| name.to_str());
    name == Some(blake3::hash(&bytes).to_hex().as_str())
}

#[test]
fn objects_that_were_damaged_at_home_are_healed_by_the_next_job_with_the_same_files() {
    if !requires(&["fuse", "userns", "landlock"]) {
        return;
    }
    let host = Host::new();
    let show = host.dir("show");
    for name in ["a", "b", "c", "d"] {
        host.write(format!("show/{name}"), format!("file {name}\n"));
    }
    let run = || end(&mut host.run(&[(&show, "/mnt/c")], &[], &["cat", "a", "b", "c", "d"]));
    run().ok();
    let damaged = segments(&host);
    assert_eq!(damaged.len(), 4, "{damaged:?}");
    assert!(damaged.iter().all(is_itself));
    // A flipped bit, one byte too few, one too many, and one that is not there any more.
    let mut bytes = fs::read(&damaged[0]).expect("an object");
    bytes[4100] ^= 1;
    fs::write(&damaged[0], &bytes).expect("a flipped bit");
    let file = OpenOptions::new().write(true).open(&damaged[1]);
    let file = file.expect("an object");
    let len = file.metadata().expect("its length").len();
    file.set_len(len - 1).expect("a shorter object");
    let file = OpenOptions::new().append(true).open(&damaged[2]);
    file.and_then(|mut file| file.write_all(b"x"))
        .expect("a longer object");
    fs::remove_file(&damaged[3]).expect("a lost object");
    assert!(!damaged[..3].iter().any(is_itself));
    run().ok();
    assert!(damaged.iter().all(is_itself), "not healed");
}
