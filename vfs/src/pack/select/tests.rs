//! What is chosen is packed, with what leads to it, and nothing else.

use std::os::unix::fs::symlink;

use safelight_seal::{
    manifest::{Entry, EntryKind},
    segment::DedupKey,
};
use tempfile::TempDir;

use super::*;
use crate::{
    area::Area,
    pack::{Known, pack_selection},
};

struct Show(TempDir);

impl Show {
    /// Three files, a directory of two, links between them, and one that leads out.
    fn new() -> Self {
        let show = Self(tempfile::tempdir().unwrap());
        for file in [
            "a",
            "shots/s1/x",
            "shots/s1/y",
            "tex/wood",
            "tex/deep/grain",
        ] {
            let path = show.at(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        fs::write(show.0.path().join("secret"), "outside").unwrap();
        for (link, target) in [
            ("latest", "shots/s1"),
            ("up", "tex/../latest/./y"),
            ("etc", "/etc"),
            ("out", "../secret"),
            ("round", "round"),
            ("dangling", "nowhere/at/all"),
            ("tex/back", "../a"),
        ] {
            symlink(target, show.at(link)).unwrap();
        }
        show
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join("show").join(name)
    }

    fn selection(&self) -> Selection {
        Selection::new(self.at("").components().collect::<PathBuf>())
    }

    fn pack(&self, selection: &Selection) -> Vec<Entry> {
        let area = Area::open(self.0.path().join("area")).unwrap();
        let key = DedupKey::from_bytes(&[1; 32]);
        let known = Known::nothing();
        let packed = pack_selection(selection, &area, &key, &known, &mut |_| {});
        packed.unwrap().entries
    }

    fn names(&self, selection: &Selection) -> Vec<String> {
        let entries = self.pack(selection);
        let text = |entry: Entry| String::from_utf8(entry.path).unwrap();
        entries.into_iter().map(text).collect()
    }
}

#[test]
fn only_what_is_chosen_is_packed_with_what_is_above_it() {
    let show = Show::new();
    assert_eq!(show.names(&show.selection()), [""]);
    let mut selection = show.selection();
    selection.file(Path::new("shots/s1/x")).unwrap();
    assert_eq!(
        show.names(&selection),
        ["", "shots", "shots/s1", "shots/s1/x"]
    );
    selection.whole(Path::new("tex/deep")).unwrap();
    selection.file(Path::new("tex/deep/grain")).unwrap();
    selection.whole(Path::new("a")).unwrap();
    assert_eq!(
        show.names(&selection),
        [
            "",
            "a",
            "shots",
            "shots/s1",
            "shots/s1/x",
            "tex",
            "tex/deep",
            "tex/deep/grain"
        ]
    );
    let mut all = show.selection();
    all.whole(Path::new("")).unwrap();
    let area = Area::open(show.0.path().join("area")).unwrap();
    let key = DedupKey::from_bytes(&[1; 32]);
    let whole = crate::pack::pack(&show.at(""), &area, &key, &mut |_| {}).unwrap();
    assert!(show.pack(&all) == whole);
}

#[test]
fn a_link_on_the_way_is_packed_with_what_it_names() {
    let show = Show::new();
    let mut selection = show.selection();
    selection.file(Path::new("latest/x")).unwrap();
    assert_eq!(
        show.names(&selection),
        ["", "latest", "shots", "shots/s1", "shots/s1/x"]
    );
    let entries = show.pack(&selection);
    assert!(matches!(&entries[1].kind, EntryKind::Symlink { target } if target == b"shots/s1"));

    let mut selection = show.selection();
    selection.file(Path::new("up")).unwrap();
    assert_eq!(
        show.names(&selection),
        ["", "latest", "shots", "shots/s1", "shots/s1/y", "tex", "up"]
    );
    let mut selection = show.selection();
    selection.whole(Path::new("latest")).unwrap();
    assert_eq!(
        show.names(&selection),
        [
            "",
            "latest",
            "shots",
            "shots/s1",
            "shots/s1/x",
            "shots/s1/y"
        ]
    );
    let mut selection = show.selection();
    selection.file(Path::new("tex/back")).unwrap();
    assert_eq!(show.names(&selection), ["", "a", "tex", "tex/back"]);
}

#[test]
fn a_directory_to_write_into_is_empty_and_need_not_be_there() {
    let show = Show::new();
    let mut selection = show.selection();
    selection.directory(Path::new("renders/s1")).unwrap();
    selection.directory(Path::new("tex")).unwrap();
    selection.directory(Path::new("latest/frames")).unwrap();
    selection.directory(Path::new("dangling")).unwrap();
    selection.directory(Path::new("")).unwrap();
    assert_eq!(
        show.names(&selection),
        [
            "",
            "dangling",
            "latest",
            "nowhere",
            "nowhere/at",
            "nowhere/at/all",
            "renders",
            "renders/s1",
            "shots",
            "shots/s1",
            "shots/s1/frames",
            "tex"
        ]
    );
    let entries = show.pack(&selection);
    let directories = entries
        .iter()
        .filter(|entry| matches!(entry.kind, EntryKind::Directory { opaque: false }));
    assert_eq!(directories.count(), entries.len() - 2);
    assert_eq!(entries[3].mode, 0o755);
    assert!(entries[3].mtime_ns > 0);
    // What is read there, too, is packed all the same.
    selection.whole(Path::new("tex")).unwrap();
    assert!(show.names(&selection).contains(&"tex/wood".to_owned()));
}

#[test]
fn what_cannot_be_chosen_is_refused_and_chooses_nothing() {
    let show = Show::new();
    let mut selection = show.selection();
    let refused = |outcome: Result<(), NotChosen>| outcome.unwrap_err().to_string();
    for (path, why) in [
        ("nothing", "there is nothing"),
        ("a/below", "there is nothing"),
        ("dangling", "there is nothing"),
        (
            "etc/passwd",
            "a symbolic link on the way leads out of the directory",
        ),
        (
            "etc",
            "a symbolic link on the way leads out of the directory",
        ),
        (
            "out",
            "a symbolic link on the way leads out of the directory",
        ),
        ("round/x", "too many symbolic links are on the way"),
        ("../secret", "it is no path below the directory"),
        ("/etc/passwd", "it is no path below the directory"),
        ("tex", "it is a directory"),
    ] {
        assert_eq!(refused(selection.file(Path::new(path))), why, "{path}");
    }
    for (path, why) in [
        ("a", "it is not a directory"),
        ("a/below", "it is not a directory"),
        (
            "out/frames",
            "a symbolic link on the way leads out of the directory",
        ),
    ] {
        assert_eq!(refused(selection.directory(Path::new(path))), why, "{path}");
    }
    // The control: the links do lead out.
    assert_eq!(fs::read_to_string(show.at("out")).unwrap(), "outside");
    assert_eq!(show.names(&selection), [""]);
}
