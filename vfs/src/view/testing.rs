//! What the tests of a view share: a clock that stands still, a log that can be read, layers made from a list.

use std::{
    cell::Cell,
    fs::File,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use safelight_policies::{
    central::Judge,
    event::{Access, Op, Verdict},
    grant::{CentralGrant, CentralRule, CentralRules},
    id::{JobId, ObjectId, SessionId},
};
use safelight_seal::{
    manifest::{Entries, Entry, EntryKind, Kind, Manifest, SegmentRef, Tree as ManifestTree},
    random::SystemRandom,
    segment::{DedupKey, SEGMENT_MAX, seal_segment},
    working::WorkingKey,
};
use tempfile::TempDir;

use super::{Caller, Setup, View};
use crate::{
    area::Area,
    commit,
    content::Store,
    log::{Log, Lost},
    lower::Segments,
    upper::{Quota, Upper},
};

pub(super) const ANYONE: Caller = Caller::KERNEL;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(1) };
}

/// The clock of the view, per test.
pub(super) fn now() -> u64 {
    NOW.get()
}

pub(super) fn set_now(now: u64) {
    NOW.set(now);
}

/// A log that keeps records, until it is broken.
#[derive(Debug, Default)]
pub(super) struct Kept {
    records: Mutex<Vec<Access>>,
    forged: Mutex<Vec<ObjectId>>,
    broken: AtomicBool,
}

impl Log for Kept {
    fn record(&self, access: Access) -> Result<(), Lost> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(Lost);
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.push(access);
        Ok(())
    }

    fn not_authentic(&self, object: ObjectId) {
        self.forged.lock().unwrap().push(object);
    }
}

impl Kept {
    pub(super) fn break_down(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    pub(super) fn forged(&self) -> Vec<ObjectId> {
        self.forged.lock().unwrap().clone()
    }

    /// The bytes of each record since the last call of `take`.
    pub(super) fn bytes(&self) -> Vec<u64> {
        let records = self.records.lock().unwrap();
        records.iter().map(|access| access.bytes).collect()
    }

    /// What was recorded since the last call: operation, path inside the session, verdict.
    pub(super) fn take(&self) -> Vec<(Op, String, Verdict)> {
        let taken = std::mem::take(&mut *self.records.lock().unwrap());
        let path = |path: Vec<u8>| String::from_utf8_lossy(&path).into_owned();
        taken
            .into_iter()
            .map(|access| (access.op, path(access.path), access.verdict))
            .collect()
    }
}

/// An area, and views over it.
pub(super) struct Bench {
    pub(super) directory: TempDir,
    pub(super) area: Area,
    pub(super) log: Arc<Kept>,
    pub(super) quota: Quota,
    pub(super) read: Vec<&'static str>,
    pub(super) write: Vec<&'static str>,
    pub(super) deny: Vec<&'static str>,
    pub(super) writable: bool,
}

impl Bench {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path().join("area")).unwrap();
        Self {
            directory,
            area,
            log: Arc::default(),
            quota: Quota {
                bytes: 1 << 30,
                entries: 1 << 20,
            },
            read: vec!["**"],
            write: vec!["**"],
            deny: Vec::new(),
            writable: true,
        }
    }

    pub(super) fn setup(&self) -> Setup {
        let rules = |globs: &[&str]| {
            let rule = |(index, glob): (usize, &&str)| CentralRule {
                glob: (*glob).to_owned(),
                origin: format!("test.toml:{}", index + 1),
            };
            globs.iter().enumerate().map(rule).collect()
        };
        let grant = CentralGrant {
            path: "/mnt/show".parse().unwrap(),
            write: self.writable,
            rules: CentralRules {
                read: rules(&self.read),
                write: rules(&self.write),
                deny: rules(&self.deny),
            },
        };
        Setup {
            judge: Judge::for_grant(&grant).unwrap(),
            writable: grant.write,
            central: grant.path,
            owner: (0, 0),
            clock: now,
        }
    }

    pub(super) fn view(&self, layers: &[&[Entry]]) -> View {
        self.view_on(layers, tempfile::tempfile().unwrap())
    }

    /// A view whose own blocks go to `file`.
    pub(super) fn view_on(&self, layers: &[&[Entry]], file: File) -> View {
        let key = WorkingKey::generate(&SystemRandom::new()).unwrap();
        let upper = Upper::new(file, key, self.quota);
        let store = Store::new(Segments::new(self.area.again()), Some(upper));
        let layers = layers.iter().map(|layer| Entries::of(layer).unwrap());
        View::of_layers(
            self.setup(),
            layers.collect(),
            Arc::new(store),
            self.log.clone(),
        )
        .unwrap()
    }

    /// Entries of a manifest from a list of paths with what they are; directories above must be in the list, but for the root.
    pub(super) fn layer(&self, list: &[(&str, What<'_>)]) -> Vec<Entry> {
        let root = [("", What::Directory)];
        let entries = root.iter().chain(list).enumerate();
        let entries = entries.map(|(index, (path, what))| Entry {
            path: path.as_bytes().to_vec(),
            kind: self.kind(what),
            mode: if matches!(what, What::Directory) {
                0o750
            } else {
                0o640
            },
            mtime_ns: 1_000 + index as i64,
            xattrs: Vec::new(),
        });
        ManifestTree::new(self.setup().central, entries.collect()).entries
    }

    fn kind(&self, what: &What<'_>) -> EntryKind {
        match what {
            What::Directory => EntryKind::Directory { opaque: false },
            What::Symlink(target) => EntryKind::Symlink {
                target: target.as_bytes().to_vec(),
            },
            What::Link(to) => EntryKind::Link {
                to: to.as_bytes().to_vec(),
            },
            What::File(bytes) => EntryKind::File {
                len: bytes.len() as u64,
                segments: bytes
                    .chunks(SEGMENT_MAX)
                    .map(|plain| self.seal(plain))
                    .collect(),
            },
        }
    }

    fn seal(&self, plain: &[u8]) -> SegmentRef {
        let len = plain.len() as u32;
        if plain.iter().all(|byte| *byte == 0) {
            return SegmentRef::zero(len);
        }
        let key = DedupKey::from_bytes(&[7; 32]).segment_key(plain);
        let sealed = seal_segment(key, plain).unwrap();
        self.area.put(sealed.id, &sealed.bytes).unwrap();
        SegmentRef {
            object: Some(sealed.id),
            len,
            key: sealed.key,
        }
    }

    /// Seals what changed in a view, and takes the result through its manifest, which must accept it.
    pub(super) fn commit(&self, view: &View) -> Vec<Entry> {
        let outputs = commit::seal(view, &self.area, &SystemRandom::new()).unwrap();
        let tree = ManifestTree::new(self.setup().central, outputs.entries);
        let kind = Kind::Result {
            session: SessionId::from_random([1; 10]),
            attempt: 1,
            fence: safelight_policies::id::Fence(1),
        };
        let manifest = Manifest {
            job: JobId::from_random([2; 10]),
            kind,
            trees: vec![tree],
        };
        let bytes = manifest.encode().unwrap();
        let mut read_back = Manifest::decode(&bytes).unwrap();
        read_back.trees.remove(0).entries
    }
}

/// What a path of a layer is.
pub(super) enum What<'a> {
    Directory,
    File(&'a [u8]),
    Symlink(&'a str),
    Link(&'a str),
}
