//! What a hostile job can make of a result, and what becomes of it at home.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use safelight_seal::{
    manifest::{Kind as ManifestKind, Manifest, SegmentRef},
    random::SystemRandom,
    segment::{SegmentKey, seal_segment},
};

use super::*;

/// A client's directory below another, so that there is an outside, and an area.
struct Home {
    top: tempfile::TempDir,
    area: Area,
}

impl Home {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("show")).unwrap();
        fs::write(top.path().join("secret"), "outside").unwrap();
        let area = Area::open(top.path().join("area")).unwrap();
        Self { top, area }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join("show").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The names in the client's directory.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.path("")).unwrap();
        let mut names: Vec<_> = names
            .map(|name| name.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn file(&self, path: &str, text: &str) -> Entry {
        let sealed = seal_segment(
            SegmentKey::generate(&SystemRandom::new()).unwrap(),
            text.as_bytes(),
        );
        let sealed = sealed.unwrap();
        self.area.put(sealed.id, &sealed.bytes).unwrap();
        let segment = SegmentRef {
            object: Some(sealed.id),
            len: text.len() as u32,
            key: sealed.key,
        };
        let segments = vec![segment];
        let len = text.len() as u64;
        entry(path, 0o644, EntryKind::File { len, segments })
    }

    fn deliver(&self, entries: Vec<Entry>, overwrite: bool) -> Delivered {
        self.deliver_after(&Earlier::new(Vec::new), entries, overwrite)
    }

    fn deliver_after(
        &self,
        earlier: &Earlier<'_>,
        entries: Vec<Entry>,
        overwrite: bool,
    ) -> Delivered {
        let tree = tree(entries);
        let mut delivered = Delivered::default();
        let mut store = Store::new(&self.area, job(), self.path(""), &tree, overwrite).unwrap();
        store.earlier = Some(earlier);
        store.all(&mut delivered);
        // Whatever was tried.
        let outside = fs::read_dir(self.top.path()).unwrap().count();
        assert_eq!(outside, 3, "something was made outside");
        assert_eq!(
            fs::read(self.top.path().join("secret")).unwrap(),
            b"outside"
        );
        delivered
    }
}

fn tree(entries: Vec<Entry>) -> Tree {
    let mut all = vec![directory("")];
    all.extend(entries);
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Tree {
        path: "/mnt/central".parse().unwrap(),
        entries: all,
    }
}

fn job() -> JobId {
    JobId::from_random([7; 10])
}

fn with_job(before: &str, after: &str) -> String {
    format!("{before}.{}{after}", job())
}

fn entry(path: &str, mode: u32, kind: EntryKind) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode,
        mtime_ns: 1,
        xattrs: Vec::new(),
    }
}

fn directory(path: &str) -> Entry {
    entry(path, 0o755, EntryKind::Directory { opaque: false })
}

fn to(path: &str, target: &str) -> Entry {
    let target = target.as_bytes().to_vec();
    entry(path, 0o777, EntryKind::Symlink { target })
}

fn link(path: &str, to: &str) -> Entry {
    let to = to.as_bytes().to_vec();
    entry(path, 0o644, EntryKind::Link { to })
}

#[test]
fn a_name_beside_keeps_its_extension_and_fits() {
    let beside = |name: &str| beside(OsStr::new(name), "job-x").into_string().unwrap();
    assert_eq!(beside("frame.png"), "frame.job-x.png");
    assert_eq!(beside("frame"), "frame.job-x");
    assert_eq!(beside(".rc"), ".rc.job-x");
    let long = format!("{}.png", "n".repeat(251));
    assert_eq!(beside(&long), format!("{}.job-x.png", "n".repeat(245)));
    let odd = format!("a.{}", "n".repeat(253));
    assert_eq!(beside(&odd), format!("{}.job-x", &odd[..249]));
}

#[test]
fn a_link_that_could_lead_out_is_not_stored() {
    // (path, target, stays)
    let table = [
        ("l", "board.txt", true),
        ("l", "d/board.txt", true),
        ("l", "./d//x", true),
        ("d/l", "../board.txt", true),
        ("d/l", "..", true),
        ("l", "/etc/passwd", false),
        ("l", "..", false),
        ("l", "../secret", false),
        ("d/l", "../../secret", false),
        ("d/l", ".././../secret", false),
        ("l", "d/..", false),
        ("d/l", "../x/../../secret", false),
        ("l", ".//..", false),
    ];
    for (path, target, stays) in table {
        assert_eq!(leads_out(&to(path, target)), !stays, "{path} -> {target}");
    }
    let home = Home::new();
    let delivered = home.deliver(
        vec![
            to("fine", "board.txt"),
            to("out", "../secret"),
            to("root", "/"),
        ],
        false,
    );
    assert_eq!(home.names(), ["fine"]);
    assert_eq!(delivered.stored, [home.path("fine")]);
    assert_eq!(delivered.leading_out, [home.path("out"), home.path("root")]);
    delivered.complete().unwrap();
}

#[test]
fn nothing_is_written_through_a_link_that_stands_at_home() {
    let home = Home::new();
    symlink("..", home.path("d")).unwrap();
    symlink("../secret", home.path("f")).unwrap();
    // The links do lead out.
    assert_eq!(home.read("d/secret"), "outside");
    assert_eq!(home.read("f"), "outside");
    for overwrite in [false, true] {
        let entries = vec![
            directory("d"),
            home.file("d/secret", "evil"),
            home.file("f", "evil"),
        ];
        let delivered = home.deliver(entries, overwrite);
        delivered.complete().unwrap();
    }
    assert_eq!(home.read(&with_job("d", "/secret")), "evil");
    assert_eq!(home.read("f"), "evil", "replaced, since that was asked for");
    assert!(home.path("f").symlink_metadata().unwrap().is_file());
}

#[test]
fn what_stands_in_the_way_keeps_nothing_else_from_being_stored() {
    let home = Home::new();
    home.write("a", "mine");
    fs::create_dir(home.path("b")).unwrap();
    home.write("b/mine", "mine");
    for overwrite in [false, true] {
        let entries = vec![
            directory("a"),
            directory("a/deep"),
            home.file("a/deep/x", "x"),
            home.file("a/y", "y"),
            home.file("b", "b"),
            home.file("z", "z"),
        ];
        home.deliver(entries, overwrite).complete().unwrap();
    }
    assert_eq!(home.read("a"), "mine");
    assert_eq!(home.read("b/mine"), "mine");
    assert_eq!(home.read(&with_job("a", "/deep/x")), "x");
    assert_eq!(home.read(&with_job("a", "/y")), "y");
    assert_eq!(home.read(&with_job("b", "")), "b");
    assert_eq!(home.read("z"), "z");
}

#[test]
fn one_failure_stops_nothing_else_and_is_a_failure() {
    let home = Home::new();
    let mut lost = home.file("lost", "lost");
    if let EntryKind::File { segments, .. } = &mut lost.kind {
        segments[0].object = Some(safelight_policies::id::ObjectId([9; 32]));
    }
    // As no manifest has it, but this code does not rely on that.
    let climbing = home.file("../evil", "evil");
    let delivered = home.deliver(vec![climbing, lost, home.file("z", "z")], false);
    assert_eq!(delivered.failed.len(), 2);
    assert!(delivered.complete().is_err());
    assert_eq!(home.names(), ["z"]);
}

#[test]
fn a_hard_link_never_becomes_a_name_of_the_clients_own_file() {
    let home = Home::new();
    home.write("keep", "mine");
    let entries = vec![
        home.file("keep", "changed"),
        link("more", "keep"),
        link("same", "keep"),
    ];
    home.deliver(entries, false).complete().unwrap();
    let inode = |name: &str| fs::metadata(home.path(name)).unwrap().ino();
    assert_eq!(
        (home.read("keep"), inode("keep")),
        ("mine".to_owned(), inode("keep"))
    );
    assert_eq!(home.read("more"), "changed");
    assert_eq!(fs::metadata(home.path("keep")).unwrap().nlink(), 1);
    assert_eq!(inode("more"), inode("same"), "it is a link nevertheless");
    assert_eq!(inode("more"), inode(&with_job("keep", "")));
}

#[test]
fn a_hard_link_to_what_was_swapped_meanwhile_is_a_copy() {
    let home = Home::new();
    let tree = Tree {
        path: "/mnt/central".parse().unwrap(),
        entries: vec![directory(""), home.file("a", "job"), link("b", "a")],
    };
    let mut store = Store::new(&home.area, job(), home.path(""), &tree, false).unwrap();
    store.entry(&tree.entries[1]).unwrap();
    fs::remove_file(home.path("a")).unwrap();
    fs::hard_link(home.top.path().join("secret"), home.path("a")).unwrap();
    store.entry(&tree.entries[2]).unwrap();
    assert_eq!(home.read("a"), "outside");
    assert_eq!(home.read("b"), "job");
}

#[test]
fn modes_lose_what_is_dangerous_and_zeros_take_no_room() {
    let home = Home::new();
    let mut program = home.file("run", "x");
    program.mode = 0o1777 | 0o6000;
    let segments = vec![SegmentRef::zero(SEGMENT_MAX as u32); 1 << 10];
    let len = (SEGMENT_MAX as u64) << 10;
    let sparse = entry("sparse", 0o644, EntryKind::File { len, segments });
    home.deliver(vec![program, sparse], false)
        .complete()
        .unwrap();
    let mode = fs::metadata(home.path("run")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o7000, 0);
    let sparse = fs::metadata(home.path("sparse")).unwrap();
    assert_eq!(sparse.len(), len);
    assert!(
        sparse.blocks() * 512 < 1 << 20,
        "16 GiB of zeros take {} blocks",
        sparse.blocks()
    );
    // The control: what has bytes has blocks.
    assert!(fs::metadata(home.path("run")).unwrap().blocks() > 0);
    fs::set_permissions(home.path("run"), Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_failure_moves_no_cursor() {
    let home = Home::new();
    let mut lost = home.file("a\x1b[2Jb", "x");
    if let EntryKind::File { segments, .. } = &mut lost.kind {
        segments[0].object = Some(safelight_policies::id::ObjectId([9; 32]));
    }
    let failure = home.deliver(vec![lost], false).complete().unwrap_err();
    assert!(failure.to_string().contains("a\\u{1b}[2Jb"), "{failure}");
    assert!(!failure.to_string().contains('\x1b'));
}

fn empty() -> EntryKind {
    EntryKind::File {
        len: 0,
        segments: Vec::new(),
    }
}

#[test]
fn storing_again_stores_nothing_twice() {
    let home = Home::new();
    home.write("mine", "mine");
    let entries = || {
        let segments = vec![SegmentRef::zero(SEGMENT_MAX as u32); 1 << 10];
        let len = (SEGMENT_MAX as u64) << 10;
        vec![
            home.file("a", "a"),
            entry("empty", 0o644, empty()),
            link("b", "a"),
            to("l", "a"),
            directory("d"),
            home.file("d/x", "x"),
            entry("zeros", 0o644, EntryKind::File { len, segments }),
            home.file("mine", "changed"),
        ]
    };
    let first = home.deliver(entries(), false);
    let names = home.names();
    for _ in 0..2 {
        let again = home.deliver(entries(), false);
        again.complete().unwrap();
        assert_eq!(again.stored, first.stored);
        assert_eq!(again.aside, first.aside);
        assert_eq!(home.names(), names);
    }
    assert_eq!(first.stored.len(), 6);
    assert_eq!(
        first.aside,
        [(home.path("mine"), home.path(&with_job("mine", "")))]
    );
    assert_eq!(home.read("mine"), "mine");
}

#[test]
fn what_differs_in_one_byte_is_not_the_same() {
    let home = Home::new();
    let long = "x".repeat(3 << 20);
    let mut other = long.clone();
    other.replace_range((3 << 20) - 1.., "y");
    for (name, stands, brought) in [
        ("longer", "ab", "a"),
        ("shorter", "a", "ab"),
        ("end", other.as_str(), long.as_str()),
        ("case", "A", "a"),
    ] {
        home.write(name, stands);
        let delivered = home.deliver(vec![home.file(name, brought)], false);
        assert_eq!(delivered.aside.len(), 1, "{name}");
        assert_eq!(home.read(name), stands);
        assert_eq!(home.read(&with_job(name, "")), brought);
    }
    // Neither is another kind, nor one that is not zero where zeros are brought.
    symlink("case", home.path("link")).unwrap();
    let delivered = home.deliver(vec![home.file("link", "A"), to("case", "A")], false);
    assert_eq!(delivered.aside.len(), 2);
    let sparse = fs::File::create(home.path("sparse")).unwrap();
    sparse.set_len(4 << 20).unwrap();
    sparse.write_all_at(b"1", (4 << 20) - 1).unwrap();
    let segments = vec![SegmentRef::zero(4 << 20)];
    let zeros = || {
        let segments = segments.clone();
        entry(
            "sparse",
            0o644,
            EntryKind::File {
                len: 4 << 20,
                segments,
            },
        )
    };
    assert_eq!(home.deliver(vec![zeros()], false).aside.len(), 1);
    sparse.write_all_at(&[0], (4 << 20) - 1).unwrap();
    assert_eq!(home.deliver(vec![zeros()], false).stored.len(), 1);
}

#[test]
fn each_result_that_differs_has_its_own_name_beside() {
    let home = Home::new();
    home.write("f.png", "mine");
    for text in ["one", "two", "one", "three"] {
        home.deliver(vec![home.file("f.png", text)], false)
            .complete()
            .unwrap();
    }
    assert_eq!(home.read("f.png"), "mine");
    let beside = |number: &str| home.read(&with_job("f", &format!("{number}.png")));
    assert_eq!(
        [beside(""), beside(".2"), beside(".3")],
        ["one", "two", "three"]
    );
    assert_eq!(home.names().len(), 4);
}

#[test]
fn a_later_step_replaces_what_an_earlier_one_brought_and_nothing_else() {
    let home = Home::new();
    home.deliver(
        vec![home.file("a", "noisy"), home.file("b", "noisy")],
        false,
    );
    // By now the client has one of its own there.
    home.write("b", "mine");
    let results = || {
        vec![Manifest {
            job: job(),
            kind: ManifestKind::Inputs,
            trees: vec![tree(vec![home.file("a", "noisy"), home.file("b", "noisy")])],
        }]
    };
    let clean = vec![home.file("a", "clean"), home.file("b", "clean")];
    let delivered = home.deliver_after(&Earlier::new(results), clean, false);
    assert_eq!(delivered.stored, [home.path("a")]);
    assert_eq!(
        (home.read("a"), home.read("b")),
        ("clean".to_owned(), "mine".to_owned())
    );
    assert_eq!(home.read(&with_job("b", "")), "clean");
    assert_eq!(home.names().len(), 3, "no name is left over");
}

#[test]
fn attributes_come_home_and_another_is_another_file() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    let home = Home::new();
    let mut file = home.file("f", "same");
    file.xattrs = vec![(b"user.sum".to_vec(), vec![0, 1, 255])];
    let read = |name: &str| {
        let mut value = [0; 64];
        getxattr(home.path(name), "user.sum", &mut value).map(|len| value[..len].to_vec())
    };
    let delivered = home.deliver(vec![file.clone()], false);
    assert_eq!(delivered.stored, [home.path("f")]);
    assert_eq!(read("f"), Ok(vec![0, 1, 255]));
    // The same again changes nothing, though the client gave it one more.
    setxattr(home.path("f"), "user.mine", b"1", XattrFlags::empty()).unwrap();
    let delivered = home.deliver(vec![file.clone()], false);
    assert!(delivered.aside.is_empty());
    assert_eq!(home.names(), ["f"]);
    // The same bytes with another value are stored beside.
    file.xattrs[0].1 = vec![2];
    let delivered = home.deliver(vec![file], false);
    assert_eq!(delivered.aside.len(), 1);
    assert_eq!(read("f"), Ok(vec![0, 1, 255]));
}
