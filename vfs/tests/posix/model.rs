//! A mounted view beside a plain directory: the same random steps in both, the whole of both compared after each, and again once it is
//! sealed and lies below the next view. The plain directory's file system is the model.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AT_FDCWD, FallocateFlags, RenameFlags, fallocate, renameat2},
    sys::{
        stat::{UtimensatFlags, utimensat},
        time::TimeSpec,
    },
};
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr};
use safelight_seal::manifest::Entry;

use crate::{
    chance::Chance,
    mounting::{Bench, Watchdog, can_mount},
};

const NAMES: [&str; 6] = ["a", "a.b", "b", "a-", "\u{e9}", "c"];
const BLOCK: u64 = 64 << 10;

/// Times before this were set by a step; the others are the moment at which something was done.
const LONG_AGO: i64 = 1_000_000_000;

/// What a path shows.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    /// Of a directory that is the file system's own way of counting.
    links: Option<u64>,
    len: Option<u64>,
    /// The bytes of a file, as their hash, or where a link leads.
    bytes: Vec<u8>,
    mtime: Option<(i64, i64)>,
    xattrs: BTreeMap<OsString, Vec<u8>>,
    /// The first path of the same node.
    same: PathBuf,
}

fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut list = vec![0; 1 << 16];
    let len = llistxattr(path, &mut list[..]).unwrap();
    let names = list[..len]
        .split(|byte| *byte == 0)
        .filter(|name| name.starts_with(b"user."));
    let value = |name: &[u8]| {
        let name = std::ffi::OsStr::from_bytes(name);
        let mut value = vec![0; 1 << 16];
        let len = lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(len);
        (name.to_owned(), value)
    };
    names.map(value).collect()
}

/// Every path below a directory.
fn seen(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut all = BTreeMap::new();
    let mut nodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut stack = vec![PathBuf::new()];
    let mut paths = Vec::new();
    while let Some(path) = stack.pop() {
        let full = root.join(&path);
        let of = fs::symlink_metadata(&full).unwrap();
        if of.is_dir() {
            stack.extend(
                fs::read_dir(&full)
                    .unwrap()
                    .map(|entry| path.join(entry.unwrap().file_name())),
            );
        }
        let first = nodes.entry(of.ino()).or_insert_with(|| path.clone());
        *first = path.clone().min(first.clone());
        paths.push((path, of));
    }
    for (path, of) in paths {
        let full = root.join(&path);
        let bytes = match of.file_type() {
            kind if kind.is_file() => blake3::hash(&fs::read(&full).unwrap()).as_bytes().to_vec(),
            kind if kind.is_symlink() => fs::read_link(&full)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec(),
            _ => Vec::new(),
        };
        let seen = Seen {
            mode: of.mode(),
            links: (!of.is_dir()).then_some(of.nlink()),
            len: (!of.is_dir()).then_some(of.len()),
            bytes,
            mtime: (of.mtime() < LONG_AGO).then_some((of.mtime(), of.mtime_nsec())),
            xattrs: if of.is_symlink() {
                BTreeMap::new()
            } else {
                xattrs(&full)
            },
            same: nodes[&of.ino()].clone(),
        };
        all.insert(path, seen);
    }
    all
}

#[track_caller]
fn compare(view: &Path, plain: &Path, after: &str) {
    let (mut real, mut model) = (seen(view), seen(plain));
    let same: Vec<PathBuf> = real
        .iter()
        .filter(|(path, of)| model.get(*path) == Some(of))
        .map(|(path, _)| path.clone())
        .collect();
    for path in same {
        real.remove(&path);
        model.remove(&path);
    }
    assert!(
        real.is_empty() && model.is_empty(),
        "after {after}:\nview {real:#?}\nplain {model:#?}"
    );
}

/// One step, the same in both places.
#[derive(Debug, Clone)]
enum Step {
    Create(PathBuf, u32),
    Mkdir(PathBuf),
    Symlink(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Unlink(PathBuf),
    Rmdir(PathBuf),
    Rename(PathBuf, PathBuf, u32),
    Write(PathBuf, u64, usize, u8),
    Append(PathBuf, usize),
    Truncate(PathBuf, u64),
    Fallocate(PathBuf, i32, u64, u64),
    Mode(PathBuf, u32),
    Time(PathBuf, i64, i64),
    Xattr(PathBuf, &'static str, Option<usize>),
    /// Open, remove or rename over, and write on: what is open has no name any more.
    WriteNameless(PathBuf, PathBuf),
    Copy(PathBuf, PathBuf),
}

fn opened(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

fn xattr(path: &Path, name: &str, len: Option<usize>) -> io::Result<()> {
    let flags = XattrFlags::empty();
    match len {
        Some(len) => lsetxattr(path, name, &vec![7; len], flags)?,
        None => lremovexattr(path, name)?,
    }
    Ok(())
}

impl Step {
    fn any(chance: &mut Chance) -> Self {
        let path = |chance: &mut Chance| -> PathBuf {
            let depth = 1 + chance.below(3);
            (0..depth).map(|_| *chance.of(&NAMES)).collect()
        };
        let offset = |chance: &mut Chance| match chance.below(3) {
            0 => chance.below(9),
            1 => (1 + chance.below(4)) * BLOCK + chance.below(7) - 3,
            _ => chance.below(4 * BLOCK),
        };
        let (a, b) = (path(chance), path(chance));
        match chance.below(30) {
            0..=3 => Self::Create(a, chance.below(0o1000) as u32 | 0o600),
            4..=6 => Self::Mkdir(a),
            7 => Self::Symlink(a, b),
            8..=9 => Self::Link(a, b),
            10 => Self::Unlink(a),
            11 => Self::Rmdir(a),
            12..=15 => Self::Rename(a, b, *chance.of(&[0, 0, 0, 1, 2])),
            16..=20 => Self::Write(
                a,
                offset(chance),
                chance.below(2 * BLOCK) as usize,
                chance.below(256) as u8,
            ),
            21 => Self::Append(a, chance.below(BLOCK) as usize),
            22 => Self::Truncate(a, offset(chance)),
            23..=24 => Self::Fallocate(
                a,
                *chance.of(&[0, 1, 3, 16, 17]),
                offset(chance),
                1 + chance.below(2 * BLOCK),
            ),
            25 => Self::Mode(a, chance.below(0o2000) as u32 | 0o700),
            26 => Self::Time(
                a,
                chance.below(2 * LONG_AGO as u64) as i64 - LONG_AGO,
                chance.below(1_000_000_000) as i64,
            ),
            27 => Self::Xattr(
                a,
                ["user.a", "user.b"][chance.below(2) as usize],
                [None, Some(0), Some(300)][chance.below(3) as usize],
            ),
            28 => Self::WriteNameless(a, b),
            _ => Self::Copy(a, b),
        }
    }

    /// Does it below a directory.
    fn act(&self, root: &Path) -> io::Result<()> {
        let at = |path: &Path| root.join(path);
        match self {
            Self::Create(path, mode) => {
                let file = File::options()
                    .write(true)
                    .create_new(true)
                    .open(at(path))?;
                file.set_permissions(fs::Permissions::from_mode(*mode))
            }
            Self::Mkdir(path) => fs::create_dir(at(path)),
            Self::Symlink(path, target) => symlink(target, at(path)),
            Self::Link(from, to) => {
                // Links to links become links when they are sealed.
                if fs::symlink_metadata(at(from))?.is_symlink() {
                    return Ok(());
                }
                fs::hard_link(at(from), at(to))
            }
            Self::Unlink(path) => fs::remove_file(at(path)),
            Self::Rmdir(path) => fs::remove_dir(at(path)),
            Self::Rename(from, to, flags) => {
                let flags = RenameFlags::from_bits_retain(*flags);
                Ok(renameat2(AT_FDCWD, &at(from), AT_FDCWD, &at(to), flags)?)
            }
            _ => self.act_on_bytes(root),
        }
    }

    fn act_on_bytes(&self, root: &Path) -> io::Result<()> {
        let at = |path: &Path| root.join(path);
        match self {
            Self::Write(path, offset, len, byte) => {
                opened(&at(path))?.write_all_at(&vec![*byte; *len], *offset)
            }
            Self::Append(path, len) => {
                let mut file = File::options().append(true).open(at(path))?;
                io::Write::write_all(&mut file, &vec![b'+'; *len])
            }
            Self::Truncate(path, len) => opened(&at(path))?.set_len(*len),
            Self::Fallocate(path, mode, offset, len) => {
                let mode = FallocateFlags::from_bits_retain(*mode);
                Ok(fallocate(
                    &opened(&at(path))?,
                    mode,
                    *offset as i64,
                    *len as i64,
                )?)
            }
            Self::Mode(path, mode) => {
                fs::set_permissions(at(path), fs::Permissions::from_mode(*mode))
            }
            Self::Time(path, seconds, nanoseconds) => {
                let time = TimeSpec::new(*seconds, *nanoseconds);
                Ok(utimensat(
                    AT_FDCWD,
                    &at(path),
                    &time,
                    &time,
                    UtimensatFlags::NoFollowSymlink,
                )?)
            }
            Self::Xattr(path, name, len) => xattr(&at(path), name, *len),
            Self::WriteNameless(path, other) => {
                let file = opened(&at(path))?;
                fs::rename(at(other), at(path))?;
                file.write_all_at(&[9; 5000], 60_000)
            }
            Self::Copy(from, to) => fs::copy(at(from), at(to)).map(drop),
            _ => Ok(()),
        }
    }
}

/// What is there at first, the same in both places.
fn begin(view: &Path, plain: &Path) {
    let start = ["a/b/c", "a/a.b", "b", "c/a"];
    for path in start {
        for root in [view, plain] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(
                root.join(path),
                vec![path.len() as u8; 3 * BLOCK as usize - 100],
            )
            .unwrap();
        }
    }
    for path in ["a/b/c", "a/a.b", "a/b", "a", "b", "c/a", "c", ""] {
        let time = TimeSpec::new(1_000, 5);
        for root in [view, plain] {
            utimensat(
                AT_FDCWD,
                &root.join(path),
                &time,
                &time,
                UtimensatFlags::NoFollowSymlink,
            )
            .unwrap();
        }
    }
}

/// Steps in several views, each with what the ones before left as its lower layers.
fn walk(seed: u64, views: u64, steps: u64) {
    println!("seed {seed}");
    let mut chance = Chance::new(seed);
    let bench = Bench::new();
    let plain = bench.at("copy");
    begin(&bench.at("in"), &plain);
    let mut layers: Vec<Vec<Entry>> = vec![bench.pack()];
    for number in 0..views {
        let below: Vec<&[Entry]> = layers.iter().map(Vec::as_slice).collect();
        let mounted = bench.mount("mount", &below, true, &[]);
        fs::set_permissions(&plain, fs::metadata(&mounted.at).unwrap().permissions()).unwrap();
        let watchdog = Watchdog::over(&mounted, "a view beside a plain directory");
        compare(
            &mounted.at,
            &plain,
            &format!("seed {seed}, view {number} was mounted"),
        );
        for step in 0..steps {
            let act = Step::any(&mut chance);
            let outcome = [&mounted.at, &plain]
                .map(|root| act.act(root).map_err(|error| error.raw_os_error()));
            let which = format!("seed {seed}, view {number}, step {step}: {act:?}");
            assert_eq!(outcome[0], outcome[1], "{which}");
            compare(&mounted.at, &plain, &which);
            watchdog
                .beats()
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        assert!(!watchdog.end(), "seed {seed} hung");
        let view = mounted.end();
        layers.push(bench.seal(&view));
    }
    let below: Vec<&[Entry]> = layers.iter().map(Vec::as_slice).collect();
    let sealed = bench.mount("again", &below, false, &[]);
    compare(
        &sealed.at,
        &plain,
        &format!("seed {seed}: everything was sealed"),
    );
    sealed.end();
}

#[test]
fn a_mounted_view_does_what_a_plain_directory_does() {
    if can_mount("a_mounted_view_does_what_a_plain_directory_does") {
        (1..4).for_each(|seed| walk(seed, 3, 30));
    }
}

#[test]
#[ignore = "long: a hundred walks"]
fn a_mounted_view_does_what_a_plain_directory_does_for_long() {
    if can_mount("a_mounted_view_does_what_a_plain_directory_does_for_long") {
        (100..200).for_each(|seed| walk(seed, 4, 100));
    }
}
