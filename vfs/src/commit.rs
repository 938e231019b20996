//! What a session changed, sealed: new segments into the attempt's area, and the entries of the result manifest.
//!
//! Called when the mount is gone and every handle with it, so the tree stands still. Blocks that were not changed keep their segment: a
//! rename or a changed mode costs an entry, not a copy. Nothing here is accepted until the ledger accepts the fence.

use std::collections::{BTreeMap, BTreeSet};

use safelight_policies::id::ObjectId;
use safelight_seal::{
    manifest::{Entry, EntryKind, SegmentRef},
    random::Random,
    segment::{SEGMENT_MAX, SegmentKey, seal_segment_into},
};

use crate::{
    area::{self, Area, Batch},
    content::{Sealing as Todo, SharedContent, Store},
    lower::Unreadable,
    spread::{Room, spread},
    tree::{Answer, Bytes, Ino, Kind, ROOT, Tree},
    view::View,
};

/// What can go wrong while sealing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The area does not take an object.
    #[error("cannot store an output")]
    Store {
        /// Why.
        #[from]
        source: area::Error,
    },
    /// What was written cannot be read back.
    #[error("an output cannot be read back: error {errno}")]
    ReadBack {
        /// The error number.
        errno: i32,
    },
    /// An input that an output shares bytes with does not verify.
    #[error("object {id} is not authentic")]
    NotAuthentic {
        /// The object.
        id: ObjectId,
    },
    /// The files are larger than a manifest can say.
    #[error("the outputs are larger than 256 TiB, holes included")]
    TooLarge,
    /// The cipher failed.
    #[error("cannot seal an output")]
    Seal {
        /// Why.
        #[from]
        source: safelight_seal::Error,
    },
}

impl From<nix::errno::Errno> for Error {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::ReadBack {
            errno: errno as i32,
        }
    }
}

impl From<Unreadable> for Error {
    fn from(why: Unreadable) -> Self {
        match why {
            Unreadable::NotAuthentic(id) => Self::NotAuthentic { id },
            Unreadable::Failed(errno) => Self::from(errno),
        }
    }
}

/// What a session changed at one central path.
#[derive(Default)]
pub struct Outputs {
    /// Entries of the result manifest, sorted by path.
    pub entries: Vec<Entry>,
    /// Files among them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The most segments of all files together that are sealed: a terabyte of holes costs a job nothing, but every segment costs the manifest
/// 64 bytes. This many are 256 TiB.
const SEGMENTS_MAX: u64 = 1 << 24;

/// Seals what changed in a view; the objects are in `to` afterwards.
pub fn seal(view: &View, to: &Area, random: &dyn Random) -> Result<Outputs, Error> {
    let tree = view.tree();
    let mut sealing = Sealing {
        view,
        tree: &tree,
        outputs: Outputs::default(),
        parts: Vec::new(),
        moved: BTreeSet::new(),
        touched: BTreeSet::new(),
        linked: BTreeMap::new(),
        segments: 0,
    };
    sealing.touch(tree.touched().collect());
    sealing.find_moved(ROOT, &mut Vec::new(), false)?;
    // Where the other names of what was moved are has to be looked at too.
    sealing.touch(sealing.moved.iter().copied().collect());
    sealing.visit(ROOT, Vec::new(), false)?;
    sealing.seal_parts(to, random)?;
    sealing.whiteouts();
    let mut outputs = sealing.outputs;
    with_parents(&tree, &mut outputs.entries)?;
    Ok(outputs)
}

struct Sealing<'a> {
    view: &'a View,
    tree: &'a Tree,
    outputs: Outputs,
    /// Segments that are to be sealed; their places in the entries are kept.
    parts: Vec<Part>,
    /// Files with several names, one of which is not where the lower layers have it.
    moved: BTreeSet<Ino>,
    /// Nodes that may differ from what the layers say, and every directory above them. Nothing else has to be looked at: what a session
    /// costs to seal follows from what it did, not from how much it was shown.
    touched: BTreeSet<Ino>,
    /// Nodes that were written already, with the path under which they were.
    linked: BTreeMap<Ino, Vec<u8>>,
    segments: u64,
}

/// One segment that has to be read and sealed.
struct Part {
    /// Which entry it is of, and which of its segments.
    place: (usize, usize),
    content: SharedContent,
    size: u32,
}

impl Sealing<'_> {
    /// Notes nodes, and all that is above each of their names.
    fn touch(&mut self, mut nodes: Vec<Ino>) {
        while let Some(ino) = nodes.pop() {
            if self.touched.insert(ino) {
                nodes.extend(self.tree.parents(ino));
            }
        }
    }

    /// A name of a file can only be written together with all others: a manifest's hard link names a file of the same manifest.
    fn find_moved(&mut self, ino: Ino, path: &mut Vec<u8>, inside_new: bool) -> Result<(), Error> {
        if !inside_new && !self.touched.contains(&ino) {
            return Ok(());
        }
        let tree = self.tree;
        let is_new = inside_new || !tree.is_from(ino, path);
        if is_new && tree.node(ino)?.names.len() > 1 {
            self.moved.insert(ino);
        }
        for (name, child) in tree.children(ino).into_iter().flatten() {
            let len = path.len();
            *path = join(path, name);
            self.find_moved(child, path, is_new)?;
            path.truncate(len);
        }
        Ok(())
    }

    fn visit(&mut self, ino: Ino, path: Vec<u8>, inside_new: bool) -> Result<(), Error> {
        if !inside_new && !self.touched.contains(&ino) {
            return Ok(());
        }
        let tree = self.tree;
        let is_new = inside_new || !tree.is_from(ino, &path);
        let is_changed = !tree.is_untouched(ino) && tree.node(ino)?.dirty;
        if is_new || is_changed || self.moved.contains(&ino) {
            let kind = self.kind(ino, &path, is_new)?;
            let entry = kind.map(|kind| entry(self.tree, ino, path.clone(), kind));
            self.outputs.entries.extend(entry.transpose()?);
        }
        for (name, child) in tree.children(ino).into_iter().flatten() {
            self.visit(child, join(&path, name), is_new)?;
        }
        Ok(())
    }

    /// What a manifest says a node is; nothing of one that is not sealed.
    fn kind(&mut self, ino: Ino, path: &[u8], is_new: bool) -> Result<Option<EntryKind>, Error> {
        if let Some(first) = self.linked.get(&ino) {
            return Ok(Some(EntryKind::Link { to: first.clone() }));
        }
        let tree = self.tree;
        Ok(Some(match &tree.node(ino)?.kind {
            // An opaque directory hides whatever the lower layers have at its place.
            Kind::Directory(_) => EntryKind::Directory { opaque: is_new },
            // With several names it becomes several links: a manifest knows hard links to files only.
            Kind::Symlink(target) => EntryKind::Symlink {
                target: target.clone(),
            },
            Kind::Special(_) => return Ok(None),
            Kind::File(bytes) => {
                self.linked.insert(ino, path.to_vec());
                let (len, segments) = match bytes {
                    Bytes::Own(content) => (content.len(), self.segments(content)?),
                    Bytes::Sealed { len, .. } => (*len, self.same(ino)?),
                };
                self.outputs.files += 1;
                self.outputs.bytes += len;
                EntryKind::File { len, segments }
            }
        }))
    }

    /// The segments of a file that nobody opened.
    fn same(&mut self, ino: Ino) -> Result<Vec<SegmentRef>, Error> {
        let segments = self.tree.layers().file(ino)?.segments.to_vec();
        self.count(segments.len() as u64)?;
        Ok(segments)
    }

    fn count(&mut self, segments: u64) -> Result<(), Error> {
        self.segments += segments;
        if self.segments > SEGMENTS_MAX {
            return Err(Error::TooLarge);
        }
        Ok(())
    }

    /// The segments of a file that is about to become the next entry. Those that are to be sealed are of zeros until they are.
    fn segments(&mut self, content: &SharedContent) -> Result<Vec<SegmentRef>, Error> {
        let len = content.len();
        let count = len.div_ceil(SEGMENT_MAX as u64);
        self.count(count)?;
        let mut segments = Vec::with_capacity(count as usize);
        for index in 0..count as usize {
            let start = index as u64 * SEGMENT_MAX as u64;
            let size = (len - start).min(SEGMENT_MAX as u64) as u32;
            segments.push(match content.sealing(index, size) {
                Todo::Same(reference) => reference,
                Todo::Zero => SegmentRef::zero(size),
                Todo::Changed => {
                    self.parts.push(Part {
                        place: (self.outputs.entries.len(), index),
                        content: content.clone(),
                        size,
                    });
                    SegmentRef::zero(size)
                }
            });
        }
        Ok(segments)
    }

    /// Seals what was found, each segment under a key of its own.
    fn seal_parts(&mut self, to: &Area, random: &dyn Random) -> Result<(), Error> {
        let store = self.view.store();
        let parts = std::mem::take(&mut self.parts);
        if parts.is_empty() {
            return Ok(());
        }
        let batch = to.batch();
        let sealed = spread(
            |hand| {
                for part in parts {
                    if !hand((part, SegmentKey::generate(random)?)) {
                        break;
                    }
                }
                Ok(())
            },
            |room, (part, key)| {
                let sealed = seal_one(store, &batch, &part, key, room)?;
                Ok::<_, Error>((part.place, sealed))
            },
        )?;
        batch.settle()?;
        for ((entry, segment), sealed) in sealed {
            if let EntryKind::File { segments, .. } = &mut self.outputs.entries[entry].kind {
                segments[segment] = sealed;
            }
        }
        Ok(())
    }

    /// True if there is something that outlives the session.
    fn is_sealed(&self, path: &[u8]) -> bool {
        let node = self.tree.resolve(path).and_then(|ino| self.tree.node(ino));
        node.is_ok_and(|node| !node.is_special())
    }

    /// What the lower layers have and the session does not have any more. What is below something gone or replaced is gone with it. Names go
    /// in directories, so no others need be looked at.
    fn whiteouts(&mut self) {
        let replaced: BTreeSet<&[u8]> = (self.outputs.entries.iter())
            .filter(|entry| !matches!(entry.kind, EntryKind::Directory { opaque: false }))
            .map(|entry| entry.path.as_slice())
            .collect();
        let layers = self.tree.layers();
        let mut changed = BTreeSet::new();
        for (directory, children) in self.tree.changed_directories() {
            let names = children.changes().keys();
            let below = names.filter(|name| layers.child(directory, name).is_some());
            changed.extend(below.map(|name| join(layers.path(directory), name)));
        }
        let mut gone: BTreeSet<Vec<u8>> = BTreeSet::new();
        for path in changed {
            // By path, what is below a directory does not follow it directly: "a", "a.b", "a/b".
            let is_hidden = |above: &[u8]| gone.contains(above) || replaced.contains(above);
            let covered = replaced.contains(path.as_slice()) || above(&path).any(is_hidden);
            if !covered && !self.is_sealed(&path) {
                gone.insert(path);
            }
        }
        let whiteout = |path| Entry {
            path,
            kind: EntryKind::Whiteout,
            mode: 0,
            mtime_ns: 0,
            xattrs: Vec::new(),
        };
        self.outputs.entries.extend(gone.into_iter().map(whiteout));
    }
}

/// Seals one segment's plaintext under a fresh key into the batch. All zeros need no object.
fn seal_one(
    store: &Store,
    batch: &Batch<'_>,
    part: &Part,
    key: SegmentKey,
    room: &mut Room,
) -> Result<SegmentRef, Error> {
    let start = part.place.1 as u64 * SEGMENT_MAX as u64;
    room.make(part.size as usize);
    let Room { plain, sealed } = room;
    let answer = part
        .content
        .read_into(store, start, part.size as usize, plain)?;
    let plaintext = &plain[answer];
    if plaintext.iter().all(|byte| *byte == 0) {
        return Ok(SegmentRef::zero(part.size));
    }
    let (id, key) = seal_segment_into(key, plaintext, sealed)?;
    batch.put(id, sealed)?;
    Ok(SegmentRef {
        object: Some(id),
        len: plaintext.len() as u32,
        key,
    })
}

/// A manifest has the directories above each of its entries, and its root even if there is nothing else.
fn with_parents(tree: &Tree, entries: &mut Vec<Entry>) -> Answer<()> {
    let known: BTreeSet<&[u8]> = entries.iter().map(|entry| entry.path.as_slice()).collect();
    let needed = known.iter().flat_map(|path| above(path));
    let missing: BTreeSet<Vec<u8>> = needed
        .chain([&b""[..]])
        .filter(|path| !known.contains(path))
        .map(<[u8]>::to_vec)
        .collect();
    for path in missing {
        let ino = tree.resolve(&path)?;
        let kind = EntryKind::Directory { opaque: false };
        entries.push(entry(tree, ino, path, kind)?);
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(())
}

/// The paths of the directories above a path, but for the root.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(slash, _)| &path[..slash])
}

fn entry(tree: &Tree, ino: Ino, path: Vec<u8>, kind: EntryKind) -> Answer<Entry> {
    let node = tree.node(ino)?;
    let xattrs = node
        .xattrs
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Ok(Entry {
        path,
        kind,
        mode: node.sealed_mode(),
        mtime_ns: node.mtime,
        xattrs,
    })
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        name.to_vec()
    } else {
        [path, name].join(&b'/')
    }
}
