//! What is sealed is what was there, and no more is sealed than has to be.

use safelight_seal::{
    manifest::{Entries, Entry, EntryKind, SegmentRef},
    segment::{BLOCK, SEGMENT_MAX},
};

use super::*;
use crate::{
    tree::ROOT,
    view::{Renaming, SetAttributes},
};

fn lines(entries: &[Entry]) -> Vec<String> {
    let line = |entry: &Entry| {
        let path = String::from_utf8_lossy(&entry.path);
        match &entry.kind {
            EntryKind::Directory { opaque: true } => format!("{path}: opaque"),
            EntryKind::Directory { opaque: false } => format!("{path}: directory"),
            EntryKind::File { len, .. } => format!("{path}: {len}"),
            EntryKind::Symlink { .. } => format!("{path}: symlink"),
            EntryKind::Link { to } => format!("{path}: link to {}", String::from_utf8_lossy(to)),
            EntryKind::Whiteout => format!("{path}: gone"),
        }
    };
    entries.iter().map(line).collect()
}

fn segments<'a>(entries: &'a [Entry], path: &str) -> &'a [SegmentRef] {
    let entry = entries
        .iter()
        .find(|entry| entry.path == path.as_bytes())
        .unwrap();
    match &entry.kind {
        EntryKind::File { segments, .. } => segments,
        _ => panic!("not a file"),
    }
}

#[test]
fn of_a_large_file_only_the_changed_segment_is_sealed_again() {
    let bench = Bench::new();
    let mut plain = vec![3; 2 * SEGMENT_MAX + 1000];
    plain[SEGMENT_MAX] = 4;
    let layer = bench.layer(&[("big", What::File(&plain))]);
    let view = bench.view(&[&layer]);
    let at = SEGMENT_MAX - 1;
    write(&view, "big", at as u64, b"XYZ").unwrap();
    plain[at..at + 3].copy_from_slice(b"XYZ");
    assert_eq!(read(&view, "big").unwrap(), plain);
    let result = bench.commit(&view);
    let (before, after) = (segments(&layer, "big"), segments(&result, "big"));
    let same: Vec<bool> = before.iter().zip(after).map(|(a, b)| a == b).collect();
    assert_eq!(same, [false, false, true]);
    let merged = bench.view(&[&layer, &result]);
    assert!(read(&merged, "big").unwrap() == plain);

    // Shorter by a little: the last segment is another one, the first is not.
    for (len, kept) in [
        (plain.len() - 1, [true, true, false]),
        (SEGMENT_MAX + 7, [true, false, false]),
    ] {
        let view = bench.view(&[&layer, &result]);
        let set = SetAttributes {
            size: Some(len as u64),
            ..SetAttributes::default()
        };
        view.set_attributes(ANYONE, ino(&view, "big"), set).unwrap();
        let shorter = bench.commit(&view);
        let new = segments(&shorter, "big");
        for (index, segment) in new.iter().enumerate() {
            assert_eq!(*segment == after[index], kept[index], "{len} {index}");
        }
        let merged = bench.view(&[&layer, &result, &shorter]);
        assert!(read(&merged, "big").unwrap() == plain[..len]);
    }
}

#[test]
fn a_moved_directory_costs_entries_and_no_bytes() {
    let bench = Bench::new();
    let list = [
        ("d", What::Directory),
        ("d/e", What::Directory),
        ("d/e/f", What::File(b"1")),
        ("d/g", What::Symlink("e/f")),
    ];
    let layer = bench.layer(&list);
    let view = bench.view(&[&layer]);
    view.rename(ANYONE, (ROOT, b"d"), (ROOT, b"z"), Renaming::Replace)
        .unwrap();
    view.make_directory(ANYONE, ROOT, b"d", 0o755).unwrap();
    let d = ino(&view, "d");
    view.make_file(ANYONE, d, b"e", 0o644).unwrap();
    let result = bench.commit(&view);
    let expected = [
        ": directory",
        "d: opaque",
        "d/e: 0",
        "z: opaque",
        "z/e: opaque",
        "z/e/f: 1",
        "z/g: symlink",
    ];
    assert_eq!(lines(&result), expected);
    assert!(segments(&layer, "d/e/f") == segments(&result, "z/e/f"));
}

#[test]
fn nothing_changed_is_a_root_and_what_went_away_and_came_back_is_not_a_change() {
    let bench = Bench::new();
    let layer = bench.layer(&[("d", What::Directory), ("d/f", What::File(b"1"))]);
    let view = bench.view(&[&layer]);
    assert_eq!(lines(&bench.commit(&view)), [": directory"]);
    let d = ino(&view, "d");
    view.rename(ANYONE, (d, b"f"), (ROOT, b"f"), Renaming::Replace)
        .unwrap();
    view.rename(ANYONE, (ROOT, b"f"), (d, b"f"), Renaming::Replace)
        .unwrap();
    assert_eq!(lines(&bench.commit(&view)), [": directory", "d: directory"]);
}

#[test]
fn the_names_of_a_file_stay_the_names_of_one_file() {
    let bench = Bench::new();
    let list = [
        ("a", What::File(b"1")),
        ("b", What::Link("a")),
        ("c", What::Link("a")),
    ];
    let layer = bench.layer(&list);
    // None changed, one gone: nothing of the others is said.
    let view = bench.view(&[&layer]);
    view.unlink(ANYONE, ROOT, b"a").unwrap();
    let gone = bench.commit(&view);
    assert_eq!(lines(&gone), [": directory", "a: gone"]);
    let merged = bench.view(&[&layer, &gone]);
    assert_eq!(ino(&merged, "b"), ino(&merged, "c"));
    // One more: all are said, as one file.
    let view = bench.view(&[&layer]);
    view.link(ANYONE, ino(&view, "b"), ROOT, b"0").unwrap();
    let more = bench.commit(&view);
    assert_eq!(
        lines(&more),
        [
            ": directory",
            "0: 1",
            "a: link to 0",
            "b: link to 0",
            "c: link to 0"
        ]
    );
    assert!(segments(&more, "0") == segments(&layer, "a"));
    let merged = bench.view(&[&layer, &more]);
    assert_eq!(merged.attributes(ino(&merged, "c")).unwrap().links, 4);
    write(&merged, "c", 0, b"2").unwrap();
    assert_eq!(read(&merged, "0").unwrap(), b"2");
}

#[test]
fn what_is_gone_is_said_once_whatever_sorts_in_between() {
    let bench = Bench::new();
    let list = [
        ("a", What::Directory),
        ("a.b", What::File(b"1")),
        ("a/c", What::Directory),
        ("a/c/d", What::File(b"2")),
    ];
    let layer = bench.layer(&list);
    let view = bench.view(&[&layer]);
    let (a, c) = (ino(&view, "a"), ino(&view, "a/c"));
    view.unlink(ANYONE, c, b"d").unwrap();
    view.remove_directory(ANYONE, a, b"c").unwrap();
    view.remove_directory(ANYONE, ROOT, b"a").unwrap();
    view.unlink(ANYONE, ROOT, b"a.b").unwrap();
    let result = bench.commit(&view);
    assert_eq!(lines(&result), [": directory", "a: gone", "a.b: gone"]);
    assert_eq!(names(&bench.view(&[&layer, &result]), ""), [".", ".."]);
    // A file where the directory was, and a directory again.
    make(&view, "a", b"file");
    let result = bench.commit(&view);
    assert_eq!(lines(&result), [": directory", "a: 4", "a.b: gone"]);
    let second = bench.view(&[&layer, &result]);
    second.unlink(ANYONE, ROOT, b"a").unwrap();
    second.make_directory(ANYONE, ROOT, b"a", 0o700).unwrap();
    let back = bench.commit(&second);
    assert_eq!(lines(&back), [": directory", "a: opaque"]);
    assert_eq!(
        names(&bench.view(&[&layer, &result, &back]), "a"),
        [".", ".."]
    );
}

#[test]
fn zeros_are_not_stored() {
    let bench = Bench::new();
    let layer = bench.layer(&[("a", What::File(&[1; 3 * BLOCK]))]);
    let view = bench.view(&[&layer]);
    write(&view, "a", 0, &vec![0; 3 * BLOCK]).unwrap();
    make(&view, "b", &vec![0; BLOCK + 5]);
    let result = bench.commit(&view);
    for path in ["a", "b"] {
        assert!(segments(&result, path)[0].object.is_none(), "{path}");
    }
    assert_eq!(
        read(&bench.view(&[&layer, &result]), "b").unwrap(),
        vec![0; BLOCK + 5]
    );
}

#[test]
fn a_layer_that_contradicts_itself_is_no_view() {
    let bench = Bench::new();
    let mut layer = bench.layer(&[("a", What::File(b"1")), ("b", What::File(b"2"))]);
    layer[2].path = b"a/b".to_vec();
    assert_eq!(
        Entries::of(&layer).err().unwrap().to_string(),
        "a manifest is malformed: an entry is in no directory of the manifest"
    );
    let store = crate::content::Store::new(crate::lower::Segments::new(bench.area.again()), None);
    let view = View::of_layers(bench.setup(), Vec::new(), store.into(), bench.log.clone());
    assert_eq!(
        view.unwrap_err().to_string(),
        "the layers of /mnt/show do not make a tree"
    );
}

#[test]
fn looking_at_files_and_reading_them_keeps_none_of_them_in_memory() {
    let bench = Bench::new();
    let layer = bench.layer(&[
        ("a", What::Directory),
        ("a/b", What::File(&[1; BLOCK + 1])),
        ("a/c", What::Link("a/b")),
        ("a/s", What::Symlink("b")),
    ]);
    let view = bench.view(&[&layer]);
    let paths = ["a", "a/b", "a/s"];
    let untouched = |path: &&str| view.tree().is_untouched(ino(&view, path));
    let number = view.open_directory(ANYONE, ino(&view, "a")).unwrap();
    let mut listed = Vec::new();
    let each = |_, _: &[u8], of: &Attributes| {
        listed.push(of.ino);
        true
    };
    view.entries(number, 0, true, each).unwrap();
    view.close(ANYONE, number).unwrap();
    assert_eq!(names(&view, "a"), [".", "..", "b", "c", "s"]);
    assert_eq!(view.attributes(ino(&view, "a/c")).unwrap().links, 2);
    assert_eq!(read(&view, "a/c").unwrap(), [1; BLOCK + 1]);
    assert!(paths.iter().all(untouched));
    // What is being read is in memory, and what was changed stays there.
    let number = view.open(ANYONE, ino(&view, "a/b"), READ).unwrap();
    assert!(!untouched(&"a/b"));
    view.close(ANYONE, number).unwrap();
    assert!(untouched(&"a/b"));
    write(&view, "a/b", 0, b"2").unwrap();
    for ino in listed {
        view.forget(ino, 1);
    }
    assert!(!untouched(&"a/b"));
    assert_eq!(read(&view, "a/c").unwrap()[..2], [b'2', 1]);
}

#[test]
fn a_file_that_was_cut_without_being_open_stays_cut() {
    let bench = Bench::new();
    let layer = bench.layer(&[("a", What::File(b"sealed"))]);
    let view = bench.view(&[&layer]);
    let cut = SetAttributes {
        size: Some(3),
        ..SetAttributes::default()
    };
    view.set_attributes(ANYONE, ino(&view, "a"), cut).unwrap();
    assert_eq!(read(&view, "a").unwrap(), b"sea");
    assert_eq!(read(&view, "a").unwrap(), b"sea");
    let result = bench.commit(&view);
    assert_eq!(read(&bench.view(&[&layer, &result]), "a").unwrap(), b"sea");
}
