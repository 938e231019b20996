//! A crash after every act: a recorder stands between an area and its disk, and what a power loss may leave after each prefix of what was
//! asked for is built in a directory of its own and opened.
//!
//! What may be lost is what was not synced: bytes of a file (all, none, torn at 512 or 4,096 bytes, or zeros in their place, as when the
//! length was written and the data was not), and each name that was made, moved or taken away since its directory was synced.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use safelight_policies::id::ObjectId;

use super::{
    Area,
    disk::{Disk, Real},
};

/// One act on the disk. A file is its inode, as long as the recorded directory lives: none is used twice, since all are kept open.
#[derive(Debug, Clone)]
enum Act {
    Directory(PathBuf),
    Create(PathBuf, u64),
    Write(u64, Vec<u8>),
    Sync(u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDirectory(PathBuf),
    SyncAll,
    /// Whoever asked was told that this object is there.
    Said(ObjectId),
}

/// A real disk that remembers.
#[derive(Debug, Default)]
struct Recorder {
    acts: Mutex<Vec<Act>>,
    /// Keeps inodes from being used again.
    kept: Mutex<Vec<File>>,
}

impl Recorder {
    fn note(&self, act: Act) {
        self.acts.lock().unwrap().push(act);
    }

    fn said(&self, bytes: &[u8]) {
        self.note(Act::Said(id(bytes)));
    }
}

impl Disk for Recorder {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        if !path.exists() {
            self.note(Act::Directory(path.to_owned()));
        }
        Real.make_directory(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let file = Real.create(path)?;
        self.note(Act::Create(path.to_owned(), file.metadata()?.ino()));
        self.kept.lock().unwrap().push(file.try_clone()?);
        Ok(file)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        self.note(Act::Write(file.metadata()?.ino(), bytes.to_vec()));
        Real.write(file, bytes)
    }

    fn write_past(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        self.write(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.note(Act::Sync(file.metadata()?.ino()));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(Act::Rename(from.to_owned(), to.to_owned()));
        Real.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.note(Act::Remove(path.to_owned()));
        Real.remove(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.note(Act::SyncDirectory(path.to_owned()));
        Ok(())
    }

    fn sync_all(&self, _: &Path) -> io::Result<()> {
        self.note(Act::SyncAll);
        Ok(())
    }
}

/// What happens to bytes that were not synced.
#[derive(Debug, Clone, Copy)]
enum Bytes {
    Kept,
    Lost,
    Torn(usize),
    Zeros,
}

static BYTES: [Bytes; 5] = [
    Bytes::Kept,
    Bytes::Lost,
    Bytes::Torn(512),
    Bytes::Torn(4096),
    Bytes::Zeros,
];

/// Which changes of names survive that no directory was synced after.
#[derive(Debug, Clone, Copy)]
enum Names {
    All,
    None,
    /// All but this one, counted from the last.
    Without(usize),
    /// None but this one.
    Only(usize),
}

/// A file as a crash may find it.
#[derive(Debug, Default, Clone)]
struct Contents {
    bytes: Vec<u8>,
    synced: usize,
}

/// What the acts came to: files, and changes of names with whether they are durable.
#[derive(Debug, Default)]
struct Model {
    files: BTreeMap<u64, Contents>,
    names: Vec<(Act, bool)>,
    said: BTreeSet<ObjectId>,
}

impl Model {
    fn after(acts: &[Act]) -> Self {
        let mut model = Self::default();
        for act in acts {
            model.apply(act);
        }
        model
    }

    fn apply(&mut self, act: &Act) {
        match act {
            Act::Directory(_) | Act::Rename(..) | Act::Remove(_) => {
                self.names.push((act.clone(), false));
            }
            Act::Create(_, inode) => {
                self.files.insert(*inode, Contents::default());
                self.names.push((act.clone(), false));
            }
            Act::Write(inode, bytes) => {
                let file = self.files.get_mut(inode).unwrap();
                file.bytes.extend_from_slice(bytes);
            }
            Act::Sync(inode) => {
                let file = self.files.get_mut(inode).unwrap();
                file.synced = file.bytes.len();
            }
            Act::SyncDirectory(path) => {
                for (act, durable) in &mut self.names {
                    *durable |= act.changes(path);
                }
            }
            Act::SyncAll => {
                self.names
                    .iter_mut()
                    .for_each(|(_, durable)| *durable = true);
                for file in self.files.values_mut() {
                    file.synced = file.bytes.len();
                }
            }
            Act::Said(id) => {
                self.said.insert(*id);
            }
        }
    }

    /// Builds what a crash may leave, below `to` instead of `from`.
    fn build(&self, from: &Path, to: &Path, names: Names, bytes: Bytes) {
        let open = self.names.iter().filter(|(_, durable)| !durable).count();
        let survives = |index: usize| match names {
            Names::All => true,
            Names::None => false,
            Names::Without(other) => open - 1 - index != other,
            Names::Only(this) => open - 1 - index == this,
        };
        let (mut tree, mut directories): (BTreeMap<&Path, u64>, BTreeSet<&Path>) = <_>::default();
        directories.insert(from);
        let mut index = 0;
        for (act, durable) in &self.names {
            let here = *durable || survives(index);
            index += usize::from(!durable);
            match act {
                Act::Directory(path) if here => drop(directories.insert(path)),
                Act::Create(path, inode) if here => drop(tree.insert(path, *inode)),
                // A rename that survives takes its file along, wherever the crash left that.
                Act::Rename(old, new) if here => {
                    let inode = tree.remove(old.as_path()).or_else(|| self.created(old));
                    tree.insert(new, inode.unwrap());
                }
                Act::Remove(path) if here => drop(tree.remove(path.as_path())),
                _ => {}
            }
        }
        let place = |path: &Path| to.join(path.strip_prefix(from).unwrap());
        for path in &directories {
            fs::create_dir_all(place(path)).unwrap();
        }
        for (path, inode) in tree {
            // A name in a directory whose own name was lost is lost with it.
            if directories.contains(path.parent().unwrap()) {
                let mut file = File::create(place(path)).unwrap();
                file.write_all(&self.files[&inode].after_crash(bytes))
                    .unwrap();
            }
        }
    }

    /// What may happen to bytes, if there are any to which something may happen.
    fn fates(&self) -> &'static [Bytes] {
        let open = self.files.values().any(|it| it.synced < it.bytes.len());
        if open { &BYTES } else { &BYTES[..1] }
    }

    /// The file that was made under a name.
    fn created(&self, name: &Path) -> Option<u64> {
        self.names.iter().rev().find_map(|(act, _)| match act {
            Act::Create(path, inode) if path == name => Some(*inode),
            _ => None,
        })
    }
}

impl Act {
    /// True if this changes a name in that directory.
    fn changes(&self, directory: &Path) -> bool {
        let within = |path: &Path| path.parent() == Some(directory);
        match self {
            Self::Directory(path) | Self::Create(path, _) | Self::Remove(path) => within(path),
            // One entry of a journal: whichever directory is synced, both names are.
            Self::Rename(old, new) => within(old) || within(new),
            _ => false,
        }
    }
}

impl Contents {
    fn after_crash(&self, fate: Bytes) -> Vec<u8> {
        let (synced, rest) = self.bytes.split_at(self.synced);
        let rest = match fate {
            Bytes::Kept => rest.to_vec(),
            Bytes::Lost => Vec::new(),
            // The first sector came through, and the length is anyone's guess: it is kept, and the rest is zeros.
            Bytes::Torn(sector) => {
                let mut torn = rest.to_vec();
                let from = (self.synced + 1).next_multiple_of(sector) - self.synced;
                torn.iter_mut().skip(from).for_each(|byte| *byte = 0);
                torn
            }
            Bytes::Zeros => vec![0; rest.len()],
        };
        [synced, &rest].concat()
    }
}

fn id(bytes: &[u8]) -> ObjectId {
    ObjectId(*blake3::hash(bytes).as_bytes())
}

/// Runs `story` on a recorded area, then crashes after each of its acts in every way. Answers how many crashes there were.
fn crash_everywhere(story: impl FnOnce(&Path, &Arc<Recorder>), goods: &[Vec<u8>]) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Arc::new(Recorder::default());
    story(directory.path(), &recorder);
    let acts = recorder.acts.lock().unwrap().clone();
    let mut crashes = 0;
    for end in 0..=acts.len() {
        let model = Model::after(&acts[..end]);
        let open = model.names.iter().filter(|(_, durable)| !durable).count();
        let each = |kind: fn(usize) -> Names| (0..open.min(4)).map(kind);
        let names = [Names::All, Names::None].into_iter();
        for names in names.chain(each(Names::Without)).chain(each(Names::Only)) {
            for bytes in model.fates() {
                let after = tempfile::tempdir().unwrap();
                model.build(directory.path(), after.path(), names, *bytes);
                let when = || format!("after {end}: {:?}: {names:?} {bytes:?}", acts.get(end - 1));
                check(after.path(), &model.said, goods, &when);
                crashes += 1;
            }
        }
    }
    crashes
}

/// No name without its bytes; and what somebody was told is there is there.
fn check(root: &Path, said: &BTreeSet<ObjectId>, goods: &[Vec<u8>], when: &dyn Fn() -> String) {
    let area = Area::open(root.join("area")).unwrap();
    for bytes in goods {
        let id = id(bytes);
        match area.len(id).unwrap() {
            Some(_) => assert_eq!(area.read(id).unwrap(), *bytes, "{}", when()),
            None => assert!(!said.contains(&id), "{id} is gone {}", when()),
        }
    }
}

/// Objects of several sizes around what is torn, two of them in one directory of the 256.
fn goods() -> Vec<Vec<u8>> {
    let sized = |(seed, len): (usize, usize)| {
        let mut out = vec![0; len];
        let mut reader = blake3::Hasher::new()
            .update(&seed.to_le_bytes())
            .finalize_xof();
        reader.fill(&mut out);
        out
    };
    let mut goods: Vec<_> = [1, 511, 4096, 5000]
        .into_iter()
        .enumerate()
        .map(sized)
        .collect();
    let first = id(&goods[0]).0[0];
    let neighbour = (10..).map(|seed| sized((seed, 600)));
    goods.extend(neighbour.filter(|it| id(it).0[0] == first).take(1));
    goods
}

fn area(root: &Path, recorder: &Arc<Recorder>, name: &str) -> Area {
    Area::open_on(root.join(name), recorder.clone()).unwrap()
}

#[test]
fn an_object_that_was_put_or_received_survives_every_crash() {
    let goods = goods();
    let story = |root: &Path, recorder: &Arc<Recorder>| {
        let area = area(root, recorder, "area");
        recorder.sync_directory(root).unwrap();
        for (number, bytes) in goods.iter().enumerate() {
            if number % 2 == 0 {
                area.put(id(bytes), bytes).unwrap();
            } else {
                area.receive(id(bytes), 1 << 20, &mut &bytes[..]).unwrap();
            }
            recorder.said(bytes);
        }
        // Somebody else puts what is there already, and is told so.
        let other = self::area(root, recorder, "area");
        for bytes in &goods {
            other.put(id(bytes), bytes).unwrap();
            recorder.said(bytes);
        }
    };
    let crashes = crash_everywhere(story, &goods);
    assert!(crashes > 200, "{crashes}");
}

#[test]
fn what_another_put_a_moment_ago_is_there_for_good_when_it_is_put_again() {
    let goods = goods();
    let story = |root: &Path, recorder: &Arc<Recorder>| {
        let area = area(root, recorder, "area");
        recorder.sync_directory(root).unwrap();
        // Another process was about to sync the directories when it died.
        let before = recorder.acts.lock().unwrap().len();
        for bytes in &goods {
            area.put(id(bytes), bytes).unwrap();
        }
        let mut acts = recorder.acts.lock().unwrap();
        let kept = acts.split_off(before);
        let unsynced = |act: &Act| !matches!(act, Act::SyncDirectory(_));
        acts.extend(kept.into_iter().filter(unsynced));
        drop(acts);
        let other = self::area(root, recorder, "area");
        let batch = other.batch();
        for (number, bytes) in goods.iter().enumerate() {
            if number % 2 == 0 {
                other.put(id(bytes), bytes).unwrap();
                recorder.said(bytes);
            } else {
                batch.put(id(bytes), bytes).unwrap();
            }
        }
        batch.settle().unwrap();
        goods.iter().for_each(|bytes| recorder.said(bytes));
    };
    crash_everywhere(story, &goods);
}

#[test]
fn a_batch_is_named_when_it_is_whole_and_survives_when_it_is_settled() {
    let goods = goods();
    let story = |root: &Path, recorder: &Arc<Recorder>| {
        let area = area(root, recorder, "area");
        recorder.sync_directory(root).unwrap();
        let batch = area.batch();
        for bytes in goods.iter().chain(&goods) {
            batch.put(id(bytes), bytes).unwrap();
        }
        assert_eq!(area.len(id(&goods[0])).unwrap(), None, "not yet");
        batch.settle().unwrap();
        goods.iter().for_each(|bytes| recorder.said(bytes));
    };
    let crashes = crash_everywhere(story, &goods);
    assert!(crashes > 200, "{crashes}");
}

#[test]
fn a_batch_that_is_dropped_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let area = Area::open(directory.path()).unwrap();
    let goods = goods();
    let batch = area.batch();
    for bytes in &goods {
        batch.put(id(bytes), bytes).unwrap();
    }
    drop(batch);
    for fan in super::list(area.root()).unwrap() {
        assert_eq!(super::list(&fan).unwrap(), [] as [PathBuf; 0]);
    }
}

#[test]
fn what_an_attempt_left_is_the_areas_whole_through_every_crash() {
    let goods = goods();
    let story = |root: &Path, recorder: &Arc<Recorder>| {
        let (site, attempt) = (
            area(root, recorder, "area"),
            area(root, recorder, "attempt"),
        );
        recorder.sync_directory(root).unwrap();
        for bytes in &goods {
            attempt.put(id(bytes), bytes).unwrap();
        }
        site.adopt(&attempt).unwrap();
        goods.iter().for_each(|bytes| recorder.said(bytes));
    };
    crash_everywhere(story, &goods);
}

#[test]
fn a_collection_takes_nothing_that_is_needed_through_every_crash() {
    let goods = goods();
    let story = |root: &Path, recorder: &Arc<Recorder>| {
        let area = area(root, recorder, "area");
        recorder.sync_directory(root).unwrap();
        for bytes in &goods {
            area.put(id(bytes), bytes).unwrap();
        }
        let needed: HashSet<_> = goods[..2].iter().map(|bytes| id(bytes)).collect();
        goods[..2].iter().for_each(|bytes| recorder.said(bytes));
        let later = SystemTime::now() + Duration::from_secs(60);
        let done = area.collect(&needed, later, false).unwrap();
        assert_eq!((done.removed, done.needed), (3, 2));
        // What is put after it was removed is there again.
        area.put(id(&goods[4]), &goods[4]).unwrap();
        recorder.said(&goods[4]);
    };
    crash_everywhere(story, &goods);
}

/// The simulator finds what it is there to find: an area that names before it syncs, and one that never syncs names.
#[test]
fn an_area_on_a_disk_that_does_not_sync_is_found_out() {
    let goods = goods();
    for forgotten in ["bytes", "names"] {
        let story = |root: &Path, recorder: &Arc<Recorder>| {
            let area = area(root, recorder, "area");
            recorder.sync_directory(root).unwrap();
            let before = recorder.acts.lock().unwrap().len();
            area.put(id(&goods[3]), &goods[3]).unwrap();
            recorder.said(&goods[3]);
            let mut acts = recorder.acts.lock().unwrap();
            let rest = acts.split_off(before);
            acts.extend(rest.into_iter().filter(|act| match act {
                Act::Sync(_) => forgotten != "bytes",
                Act::SyncDirectory(_) => forgotten != "names",
                _ => true,
            }));
        };
        let goods = &goods;
        let found = std::panic::catch_unwind(|| crash_everywhere(story, goods));
        assert!(found.is_err(), "{forgotten}");
    }
}
