//! Directed tests of a view, without FUSE.

mod bytes;
mod policy;
mod sealed;
mod tamper;

use super::{
    Attributes, OpenMode, View,
    testing::{ANYONE, Bench, What},
};
use crate::tree::{Answer, Ino};

const READ: OpenMode = OpenMode {
    read: true,
    write: false,
};
const WRITE: OpenMode = OpenMode {
    read: false,
    write: true,
};
const BOTH: OpenMode = OpenMode {
    read: true,
    write: true,
};

fn ino(view: &View, path: &str) -> Ino {
    view.tree().resolve(path.as_bytes()).unwrap()
}

fn is_poisoned(view: &View) -> bool {
    view.store().upper.as_ref().unwrap().is_poisoned()
}

/// Opens a file, reads all of it, closes it.
fn read(view: &View, path: &str) -> Answer<Vec<u8>> {
    let number = view.open(ANYONE, ino(view, path), READ)?;
    let mut out = Vec::new();
    let outcome = view.read(ANYONE, number, 0, 1 << 30, &mut out);
    view.close(ANYONE, number)?;
    outcome.map(|answer| out[answer].to_vec())
}

fn write(view: &View, path: &str, offset: u64, data: &[u8]) -> Answer<()> {
    let number = view.open(ANYONE, ino(view, path), WRITE)?;
    let outcome = view.write(ANYONE, number, offset, data);
    view.close(ANYONE, number)?;
    outcome
}

/// Creates a file at the root with this content.
fn make(view: &View, name: &str, data: &[u8]) {
    let (_, number) = view
        .create(ANYONE, crate::tree::ROOT, name.as_bytes(), 0o644, BOTH)
        .unwrap();
    view.write(ANYONE, number, 0, data).unwrap();
    view.close(ANYONE, number).unwrap();
}

/// The names of a directory, as they are listed.
fn names(view: &View, path: &str) -> Vec<String> {
    let number = view.open_directory(ANYONE, ino(view, path)).unwrap();
    let mut names = Vec::new();
    let each = |_, name: &[u8], _: &Attributes| {
        names.push(String::from_utf8_lossy(name).into_owned());
        true
    };
    view.entries(number, 0, false, each).unwrap();
    view.close(ANYONE, number).unwrap();
    names
}
