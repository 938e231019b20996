//! A directory packed is a directory that a view shows, and packed again the same objects.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File, FileTimes},
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use safelight_policies::id::{JobId, ObjectId};
use safelight_seal::{
    manifest::{EntryKind, Kind, Manifest, SegmentRef, Tree as ManifestTree},
    segment::{BLOCK, SEGMENT_MAX},
};
use tempfile::TempDir;

use super::*;
use crate::whole::Whole;

struct Site {
    directory: TempDir,
    area: Area,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path().join("area")).unwrap();
        fs::create_dir(directory.path().join("in")).unwrap();
        Self { directory, area }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join("in").join(name)
    }

    fn pack(&self, key: u8) -> Result<Vec<Entry>, Error> {
        self.pack_at(&self.at(""), key)
    }

    fn pack_at(&self, root: &Path, key: u8) -> Result<Vec<Entry>, Error> {
        pack(
            root,
            &self.area,
            &DedupKey::from_bytes(&[key; 32]),
            &mut |_| {},
        )
    }

    fn read(&self, entry: &Entry) -> Vec<u8> {
        let whole = Whole::new(&self.area, entry).unwrap();
        let mut bytes = Vec::new();
        let len = (whole.len() as usize).next_multiple_of(BLOCK);
        whole.read(0, len, &mut bytes).unwrap();
        bytes
    }
}

fn get<'a>(entries: &'a [Entry], path: &str) -> &'a Entry {
    let found = entries.iter().find(|entry| entry.path == path.as_bytes());
    found.unwrap_or_else(|| panic!("no {path}"))
}

fn objects(entries: &[Entry]) -> Vec<Option<ObjectId>> {
    let segments = entries.iter().flat_map(|entry| match &entry.kind {
        EntryKind::File { segments, .. } => segments.clone(),
        _ => Vec::new(),
    });
    segments.map(|segment| segment.object).collect()
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn bytes_modes_times_and_links_are_what_they_were() {
    let site = Site::new();
    let mut sparse = vec![0; 3 * BLOCK];
    sparse[BLOCK] = 1;
    let files = [
        ("big", noise(SEGMENT_MAX + 12_345)),
        ("exact", noise(SEGMENT_MAX)),
        ("empty", Vec::new()),
        ("zero", vec![0; 2 * BLOCK + 1]),
        ("sparse", sparse),
        ("dir/small", b"x".to_vec()),
    ];
    fs::create_dir(site.at("dir")).unwrap();
    for (name, bytes) in &files {
        fs::write(site.at(name), bytes).unwrap();
    }
    let odd = OsStr::from_bytes(b"n\xff\n");
    fs::write(site.at("").join(odd), b"odd").unwrap();
    symlink("/etc/passwd", site.at("out")).unwrap();
    symlink("nowhere/at/all", site.at("dangling")).unwrap();
    symlink("..", site.at("dir/up")).unwrap();
    fs::set_permissions(site.at("dir/small"), fs::Permissions::from_mode(0o6751)).unwrap();
    let before_1970 = UNIX_EPOCH - Duration::from_nanos(1_500_000_000);
    let times = FileTimes::new().set_modified(before_1970);
    File::open(site.at("dir"))
        .unwrap()
        .set_times(times)
        .unwrap();

    let entries = site.pack(1).unwrap();
    for (name, bytes) in &files {
        assert!(site.read(get(&entries, name)) == *bytes, "{name}");
    }
    assert_eq!(get(&entries, "dir/small").mode, 0o751);
    assert_eq!(get(&entries, "dir").mtime_ns, -1_500_000_000);
    for (name, target) in [
        ("out", "/etc/passwd"),
        ("dangling", "nowhere/at/all"),
        ("dir/up", ".."),
    ] {
        let kind = EntryKind::Symlink {
            target: target.as_bytes().to_vec(),
        };
        assert!(get(&entries, name).kind == kind, "{name}");
    }
    assert!(entries.iter().any(|entry| entry.path == b"n\xff\n"));
    // Nothing was followed: no more than what is there, and the manifest takes it as it is.
    assert_eq!(entries.len(), 1 + files.len() + 1 + 1 + 3);
    let path = "/mnt/show".parse().unwrap();
    let trees = vec![ManifestTree { path, entries }];
    let manifest = Manifest {
        job: JobId::from_random([1; 10]),
        kind: Kind::Inputs,
        trees,
    };
    assert!(manifest.encode().is_ok());
}

#[test]
fn what_is_zero_is_not_stored_and_what_is_equal_is_stored_once() {
    let site = Site::new();
    let data = noise(100_000);
    for name in ["a", "b"] {
        fs::write(site.at(name), &data).unwrap();
    }
    fs::write(site.at("zero"), vec![0; BLOCK]).unwrap();
    let first = site.pack(1).unwrap();
    let found = objects(&first);
    assert_eq!(found.iter().filter(|object| object.is_none()).count(), 1);
    assert_eq!(found.iter().flatten().collect::<BTreeSet<_>>().len(), 1);
    let count = || {
        let fans = fs::read_dir(site.area.root()).unwrap();
        fans.map(|fan| fs::read_dir(fan.unwrap().path()).unwrap().count())
            .sum::<usize>()
    };
    assert_eq!(count(), 1);
    // Again: the same names, nothing new on the disk. With another client's key: others.
    assert!(site.pack(1).unwrap() == first);
    assert_eq!(count(), 1);
    let other = objects(&site.pack(2).unwrap());
    assert_eq!(count(), 2);
    assert!(
        other
            .iter()
            .flatten()
            .all(|object| !found.contains(&Some(*object)))
    );
}

#[test]
fn no_plaintext_and_no_name_is_on_the_disk() {
    let site = Site::new();
    let data = b"the client's line ".repeat(10_000);
    fs::write(site.at("client-name"), &data).unwrap();
    site.pack(1).unwrap();
    for fan in fs::read_dir(site.area.root()).unwrap() {
        for object in fs::read_dir(fan.unwrap().path()).unwrap() {
            let bytes = fs::read(object.unwrap().path()).unwrap();
            for text in [&data[..16], b"client-name"] {
                assert!(!bytes.windows(text.len()).any(|part| part == text));
            }
        }
    }
}

#[test]
fn what_cannot_travel_is_named() {
    let site = Site::new();
    fs::create_dir(site.at("dir")).unwrap();
    let pipe = site.at("dir/pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let error = site.pack(1).map(drop).unwrap_err();
    let text = format!(
        "{} is neither a file nor a directory nor a symbolic link, so it cannot travel",
        pipe.display()
    );
    assert_eq!(error.to_string(), text);

    let missing = site.at("none");
    let error = site.pack_at(&missing, 1).map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot read {}", missing.display())
    );
    let file = site.at("file");
    fs::write(&file, b"x").unwrap();
    let error = site.pack_at(&file, 1).map(drop).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read {}", file.display()));
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let site = Site::new();
    for path in [site.directory.path(), &site.at("")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let shut = site.at("shut");
    fs::write(&shut, b"x").unwrap();
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o000)).unwrap();
    let site = Arc::new(site);
    let theirs = site.clone();
    // Root reads everything; the user for files is this thread's alone (setfsuid(2)).
    let packed = std::thread::spawn(move || {
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
        theirs.pack(1).map(drop)
    });
    let error = packed.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read {}", shut.display()));
}

#[test]
fn the_directory_itself_may_be_reached_by_a_link_and_progress_is_told() {
    let site = Site::new();
    fs::write(site.at("a"), b"123").unwrap();
    fs::write(site.at("b"), b"4567").unwrap();
    let link = site.directory.path().join("link");
    symlink(site.at(""), &link).unwrap();
    let mut heard = Vec::new();
    let key = DedupKey::from_bytes(&[1; 32]);
    let entries = pack(&link, &site.area, &key, &mut |progress| {
        heard.push(progress)
    })
    .unwrap();
    assert_eq!(entries.len(), 3);
    assert_eq!(heard.last(), Some(&Progress { files: 2, bytes: 7 }));
    assert!(heard.is_sorted_by_key(|progress| (progress.bytes, progress.files)));
}

/// A directory on the disk that the tests are built on: a file system in memory is not believed.
fn on_disk() -> (Site, bool) {
    let place = std::env::current_exe().unwrap();
    let directory = tempfile::tempdir_in(place.parent().unwrap()).unwrap();
    let kind = nix::sys::statfs::statfs(directory.path()).unwrap();
    let believed = [
        nix::sys::statfs::EXT4_SUPER_MAGIC,
        nix::sys::statfs::XFS_SUPER_MAGIC,
        nix::sys::statfs::BTRFS_SUPER_MAGIC,
    ];
    let area = Area::open(directory.path().join("area")).unwrap();
    fs::create_dir(directory.path().join("in")).unwrap();
    (
        Site { directory, area },
        believed.contains(&kind.filesystem_type()),
    )
}

fn pack_known(site: &Site, known: &Known) -> Packed {
    let mut selection = Selection::new(site.at(""));
    selection.whole(Path::new("")).unwrap();
    let key = DedupKey::from_bytes(&[1; 32]);
    pack_selection(&selection, &site.area, &key, known, &mut |_| {}).unwrap()
}

/// What a file of the area holds is replaced by something that was never read from the file: it shows where the entry is from.
fn lie(packed: &Packed) -> Known {
    let mut entries = packed.entries.clone();
    for entry in &mut entries {
        if let EntryKind::File { segments, .. } = &mut entry.kind {
            *segments = segments.iter().map(|it| SegmentRef::zero(it.len)).collect();
        }
    }
    Known::new(entries, packed.facts.clone())
}

#[test]
fn a_known_file_is_not_read_again_and_a_changed_one_is() {
    let (site, believed) = on_disk();
    if !believed {
        println!("skipped: this directory's file system is none that is believed");
        return;
    }
    for name in ["a", "b", "c", "d", "e"] {
        fs::write(site.at(name), format!("{name} as it was")).unwrap();
    }
    // Too young to be remembered.
    assert!(pack_known(&site, &Known::nothing()).facts.is_empty());
    std::thread::sleep(Duration::from_millis(1100));
    let first = pack_known(&site, &Known::nothing());
    assert_eq!(first.facts.len(), 5);

    // Each in another way; length and times as before.
    let times = |name: &str| {
        let about = fs::metadata(site.at(name)).unwrap();
        FileTimes::new().set_modified(about.modified().unwrap())
    };
    let back = times("b");
    fs::write(site.at("b"), "B AS IT WAS").unwrap();
    File::options()
        .write(true)
        .open(site.at("b"))
        .unwrap()
        .set_times(back)
        .unwrap();
    let back = times("c");
    fs::write(site.at("new"), "C AS IT WAS").unwrap();
    File::options()
        .write(true)
        .open(site.at("new"))
        .unwrap()
        .set_times(back)
        .unwrap();
    fs::rename(site.at("new"), site.at("c")).unwrap();
    fs::write(site.at("d"), "longer than it was").unwrap();

    let known = lie(&first);
    let second = pack_known(&site, &known);
    let zero = |name: &str| objects(std::slice::from_ref(get(&second.entries, name))) == [None];
    assert!(zero("a") && zero("e"), "what did not change was read");
    for (name, now) in [
        ("b", "B AS IT WAS"),
        ("c", "C AS IT WAS"),
        ("d", "longer than it was"),
    ] {
        assert_eq!(site.read(get(&second.entries, name)), now.as_bytes());
    }
    // What did not change stays known; what did is too young.
    let names: Vec<_> = second.facts.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn what_is_known_and_gone_from_the_area_is_sealed_again() {
    let (site, believed) = on_disk();
    if !believed {
        println!("skipped: this directory's file system is none that is believed");
        return;
    }
    fs::write(site.at("a"), "bytes").unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    let first = pack_known(&site, &Known::nothing());
    let object = objects(&first.entries)[0].unwrap();
    let fan = object.to_string()[..2].to_owned();
    fs::remove_file(site.area.root().join(fan).join(object.to_string())).unwrap();
    let known = Known::new(first.entries.clone(), first.facts);
    let second = pack_known(&site, &known);
    assert!(second.entries == first.entries);
    assert_eq!(site.read(get(&second.entries, "a")), b"bytes");
}

#[test]
fn a_page_that_stays_mapped_is_seen() {
    let (site, believed) = on_disk();
    if !believed {
        println!("skipped: this directory's file system is none that is believed");
        return;
    }
    // Somebody else holds the file mapped, makes the page dirty, waits, and changes it once more.
    let script = "import mmap, sys, time\nf = open(sys.argv[1], 'r+b')\nm = mmap.mmap(f.fileno(), 0)\nm[0:1] = b'1'\nprint('dirty', flush=True)\nsys.stdin.readline()\nm[0:1] = b'2'\nprint('again', flush=True)\nsys.stdin.readline()\n";
    let path = site.at("a");
    fs::write(&path, vec![b'0'; 4096]).unwrap();
    let spawned = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let Ok(mut python) = spawned else {
        println!("skipped: no python3");
        return;
    };
    let mut said = io::BufReader::new(python.stdout.take().unwrap());
    let mut line = || {
        let mut line = String::new();
        io::BufRead::read_line(&mut said, &mut line).unwrap();
        line
    };
    assert_eq!(line(), "dirty\n");
    std::thread::sleep(Duration::from_millis(1100));
    let first = pack_known(&site, &Known::nothing());
    assert_eq!(first.facts.len(), 1, "it is not young any more");
    io::Write::write_all(python.stdin.as_mut().unwrap(), b"\n").unwrap();
    assert_eq!(line(), "again\n");
    let known = Known::new(first.entries, first.facts);
    let second = pack_known(&site, &known);
    assert_eq!(site.read(get(&second.entries, "a"))[0], b'2');
    drop(python.stdin.take());
    assert!(python.wait().unwrap().success());
}

#[test]
fn attributes_and_several_names_of_a_file_travel() {
    use rustix::fs::{XattrFlags, setxattr};
    let site = Site::new();
    let give = |at: &str, name: &str, value: &[u8]| {
        setxattr(site.at(at), name, value, XattrFlags::empty()).unwrap();
    };
    fs::create_dir(site.at("d")).unwrap();
    fs::write(site.at("d/z"), "one file").unwrap();
    fs::hard_link(site.at("d/z"), site.at("d/m")).unwrap();
    fs::hard_link(site.at("d/z"), site.at("a")).unwrap();
    fs::write(site.at("alone"), "one file").unwrap();
    symlink("alone", site.at("s")).unwrap();
    give("d/m", "user.b", &[0, 255]);
    give("d/m", "user.a", b"");
    give("d", "user.of-a-directory", &[7; 3000]);
    give("", "user.of-the-root", b"1");
    let entries = site.pack(1).unwrap();
    let of = |path: &str| {
        entries
            .iter()
            .find(|it| it.path == path.as_bytes())
            .unwrap()
    };
    let both = vec![
        (b"user.a".to_vec(), vec![]),
        (b"user.b".to_vec(), vec![0, 255]),
    ];
    for name in ["a", "d/m", "d/z"] {
        assert_eq!(of(name).xattrs, both, "{name}");
    }
    assert_eq!(site.read(of("a")), b"one file");
    for name in ["d/m", "d/z"] {
        assert!(
            of(name).kind == EntryKind::Link { to: b"a".to_vec() },
            "{name}"
        );
    }
    assert!(matches!(of("alone").kind, EntryKind::File { len: 8, .. }));
    assert!(of("alone").xattrs.is_empty() && of("s").xattrs.is_empty());
    assert_eq!(
        of("d").xattrs,
        [(b"user.of-a-directory".to_vec(), vec![7; 3000])]
    );
    assert_eq!(
        of("").xattrs,
        [(b"user.of-the-root".to_vec(), b"1".to_vec())]
    );
    // A manifest takes it, and another look at the same tree is the same.
    let manifest = |entries| Manifest {
        job: JobId::from_random([1; 10]),
        kind: Kind::Inputs,
        trees: vec![ManifestTree::new("/mnt".parse().unwrap(), entries)],
    };
    assert!(Manifest::decode(&manifest(entries.clone()).encode().unwrap()).is_ok());
    assert!(site.pack(1).unwrap() == entries);
}

#[test]
fn attributes_that_no_manifest_takes_are_refused_by_name() {
    use rustix::fs::{XattrFlags, setxattr};
    let site = Site::new();
    fs::write(site.at("f"), "x").unwrap();
    // A file system may hold fewer than a manifest does.
    for number in 0..=64 {
        let name = format!("user.{number}");
        if setxattr(site.at("f"), &name, b"", XattrFlags::empty()).is_err() {
            println!("skipped: this file system holds {number} attributes of a file");
            return;
        }
    }
    let Err(error) = site.pack(1) else {
        panic!("packed");
    };
    let expected = format!(
        "{} has more than 64 extended attributes, or one of more than 64 KiB",
        site.at("f").display()
    );
    assert_eq!(error.to_string(), expected);
}
