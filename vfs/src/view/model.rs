//! A view against a plain model: random operations, everything compared after each, then sealed, merged and compared again.

use std::collections::BTreeMap;

use nix::errno::Errno;
use proptest::{prelude::*, sample::Index};
use safelight_seal::manifest::Entry;

use super::{
    Attributes, OpenMode, Renaming, SetAttributes, View,
    testing::{ANYONE, Bench, What, set_now},
};
use crate::{
    content::Part,
    tree::{Answer, Ino, Kind, ROOT, Special},
};

/// Names that are below, beside and, as bytes, between each other.
const NAMES: [&str; 5] = ["a", "a.b", "b", "a-", "\u{e9}"];
const BLOCK: usize = 64 * 1024;

#[derive(Debug, Clone)]
enum Step {
    Create(Index, Index, u32),
    Mkdir(Index, Index, u32),
    Symlink(Index, Index),
    Pipe(Index, Index, u32),
    Link(Index, Index, Index),
    Unlink(Index, Index),
    Rmdir(Index, Index),
    Rename([Index; 4], Renaming),
    Open(Index, bool),
    Close(Index),
    Write(Index, usize, usize, u8),
    Read(Index, usize, usize),
    Truncate(Index, usize),
    Punch(Index, usize, usize),
    Grow(Index, usize, usize),
    Seek(Index, usize),
    Mode(Index, u32),
    Time(Index, i64),
    Xattr(Index, &'static str, Option<u8>, i32),
    List(Index),
}

fn offset() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..8usize,
        (1..4usize, 0..7usize).prop_map(|(block, near)| block * BLOCK + near - 3),
        0..3 * BLOCK,
    ]
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..4usize,
        (0..5usize).prop_map(|near| BLOCK + near - 2),
        0..2 * BLOCK
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let at = any::<Index>;
    let how = prop::sample::select(vec![Renaming::Replace, Renaming::Keep, Renaming::Exchange]);
    let key = prop::sample::select(vec!["user.a", "user.b", "user.", "trusted.a"]);
    let flags = prop::sample::select(vec![0, 0, libc::XATTR_CREATE, libc::XATTR_REPLACE]);
    prop_oneof![
        3 => (at(), at(), 0..0o7777u32).prop_map(|(d, n, m)| Step::Create(d, n, m)),
        3 => (at(), at(), 0..0o7777u32).prop_map(|(d, n, m)| Step::Mkdir(d, n, m)),
        1 => (at(), at()).prop_map(|(d, n)| Step::Symlink(d, n)),
        1 => (at(), at(), 0..0o7777u32).prop_map(|(d, n, m)| Step::Pipe(d, n, m)),
        3 => (at(), at(), at()).prop_map(|(f, d, n)| Step::Link(f, d, n)),
        3 => (at(), at()).prop_map(|(d, n)| Step::Unlink(d, n)),
        2 => (at(), at()).prop_map(|(d, n)| Step::Rmdir(d, n)),
        8 => ([at(), at(), at(), at()], how).prop_map(|(i, h)| Step::Rename(i, h)),
        4 => (at(), any::<bool>()).prop_map(|(f, w)| Step::Open(f, w)),
        1 => at().prop_map(Step::Close),
        8 => (at(), offset(), length(), any::<u8>()).prop_map(|(h, o, l, b)| Step::Write(h, o, l, b)),
        2 => (at(), offset(), length()).prop_map(|(h, o, l)| Step::Read(h, o, l)),
        3 => (at(), offset()).prop_map(|(f, l)| Step::Truncate(f, l)),
        3 => (at(), offset(), length()).prop_map(|(h, o, l)| Step::Punch(h, o, l)),
        1 => (at(), offset(), length()).prop_map(|(h, o, l)| Step::Grow(h, o, l)),
        1 => (at(), offset()).prop_map(|(f, o)| Step::Seek(f, o)),
        1 => (at(), 0..0o7777u32).prop_map(|(n, m)| Step::Mode(n, m)),
        1 => (at(), any::<i64>()).prop_map(|(n, t)| Step::Time(n, t)),
        1 => (at(), key, any::<Option<u8>>(), flags).prop_map(|(n, k, v, f)| Step::Xattr(n, k, v, f)),
        1 => at().prop_map(Step::List),
    ]
}

type Path = Vec<u8>;

/// What a name shows. `same` is the first path of the same node.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    kind: SeenKind,
    mode: u32,
    mtime: i64,
    links: u32,
    same: Path,
    xattrs: BTreeMap<Path, Path>,
}

#[derive(PartialEq, Eq)]
enum SeenKind {
    Directory,
    Symlink(Path),
    File(Vec<u8>),
    Pipe,
}

impl std::fmt::Debug for SeenKind {
    /// A file of 200 KiB explains nothing.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory => f.write_str("directory"),
            Self::Symlink(_) => f.write_str("symlink"),
            Self::Pipe => f.write_str("pipe"),
            Self::File(bytes) => {
                write!(f, "file of {} bytes, {}", bytes.len(), blake3::hash(bytes))
            }
        }
    }
}

/// The model: nodes are never removed, names are.
#[derive(Default)]
struct Model {
    nodes: Vec<ModelNode>,
}

struct ModelNode {
    kind: ModelKind,
    mode: u32,
    mtime: i64,
    xattrs: BTreeMap<Path, Path>,
}

enum ModelKind {
    Directory(BTreeMap<Path, usize>),
    File(Vec<u8>),
    Symlink(Path),
    Pipe,
}

impl ModelKind {
    fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }
}

fn join(path: &[u8], name: &[u8]) -> Path {
    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
    [path, slash, name].concat()
}

impl Model {
    fn of(list: &[(&str, What<'_>)]) -> Self {
        let mut model = Self::default();
        model.node(ModelKind::Directory(BTreeMap::new()), 0o750, 1_000);
        for (index, (path, what)) in list.iter().enumerate() {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = model.paths()[parent.as_bytes()];
            let (mode, mtime) = (0o640, 1_001 + index as i64);
            let node = match what {
                What::Directory => {
                    let kind = ModelKind::Directory(BTreeMap::new());
                    model.node(kind, 0o750, mtime)
                }
                What::File(bytes) => model.node(ModelKind::File(bytes.to_vec()), mode, mtime),
                What::Symlink(target) => {
                    let kind = ModelKind::Symlink(target.as_bytes().to_vec());
                    model.node(kind, mode, mtime)
                }
                What::Link(to) => model.paths()[to.as_bytes()],
            };
            model.entries(parent).insert(name.as_bytes().to_vec(), node);
        }
        model
    }

    fn node(&mut self, kind: ModelKind, mode: u32, mtime: i64) -> usize {
        self.nodes.push(ModelNode {
            kind,
            mode,
            mtime,
            xattrs: BTreeMap::new(),
        });
        self.nodes.len() - 1
    }

    fn entries(&mut self, directory: usize) -> &mut BTreeMap<Path, usize> {
        match &mut self.nodes[directory].kind {
            ModelKind::Directory(entries) => entries,
            _ => panic!("not a directory"),
        }
    }

    fn bytes(&mut self, file: usize) -> &mut Vec<u8> {
        match &mut self.nodes[file].kind {
            ModelKind::File(bytes) => bytes,
            _ => panic!("not a file"),
        }
    }

    fn child(&self, directory: usize, name: &[u8]) -> Answer<usize> {
        match &self.nodes[directory].kind {
            ModelKind::Directory(entries) => entries.get(name).copied().ok_or(Errno::ENOENT),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Every path with its node.
    fn paths(&self) -> BTreeMap<Path, usize> {
        let mut all = BTreeMap::new();
        let mut stack = vec![(Path::new(), 0)];
        while let Some((path, node)) = stack.pop() {
            if let ModelKind::Directory(entries) = &self.nodes[node].kind {
                stack.extend(
                    entries
                        .iter()
                        .map(|(name, node)| (join(&path, name), *node)),
                );
            }
            all.insert(path, node);
        }
        all
    }

    fn is_below(&self, node: usize, above: usize) -> bool {
        node == above
            || match &self.nodes[above].kind {
                ModelKind::Directory(entries) => {
                    entries.values().any(|entry| self.is_below(node, *entry))
                }
                _ => false,
            }
    }

    fn add(&mut self, parent: usize, name: &[u8], node: usize, now: i64) -> Answer<()> {
        if self.child(parent, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.entries(parent).insert(name.to_vec(), node);
        self.nodes[parent].mtime = now;
        Ok(())
    }

    fn remove(&mut self, parent: usize, name: &[u8], directory: bool, now: i64) -> Answer<()> {
        let node = self.child(parent, name)?;
        match (&self.nodes[node].kind, directory) {
            (ModelKind::Directory(_), false) => return Err(Errno::EISDIR),
            (ModelKind::Directory(entries), true) if !entries.is_empty() => {
                return Err(Errno::ENOTEMPTY);
            }
            (ModelKind::Directory(_), true) | (_, false) => {}
            (_, true) => return Err(Errno::ENOTDIR),
        }
        self.entries(parent).remove(name);
        self.nodes[parent].mtime = now;
        Ok(())
    }

    fn rename(
        &mut self,
        from: (usize, &[u8]),
        to: (usize, &[u8]),
        how: Renaming,
        now: i64,
    ) -> Answer<()> {
        let moved = self.child(from.0, from.1)?;
        let target = self.child(to.0, to.1);
        if how == Renaming::Exchange {
            target?;
        }
        if self.is_below(to.0, moved) {
            return Err(Errno::EINVAL);
        }
        match (how, target) {
            (Renaming::Keep, Ok(_)) => return Err(Errno::EEXIST),
            (Renaming::Exchange, Ok(target)) if self.is_below(from.0, target) => {
                return Err(Errno::EINVAL);
            }
            (_, Ok(target)) if target == moved => return Ok(()),
            (Renaming::Exchange, Ok(target)) => {
                self.entries(from.0).insert(from.1.to_vec(), target);
                self.entries(to.0).insert(to.1.to_vec(), moved);
            }
            (_, target) => {
                if let Ok(target) = target {
                    let moves_directory = self.nodes[moved].kind.is_directory();
                    match &self.nodes[target].kind {
                        ModelKind::Directory(_) if !moves_directory => return Err(Errno::EISDIR),
                        ModelKind::Directory(entries) if !entries.is_empty() => {
                            return Err(Errno::ENOTEMPTY);
                        }
                        ModelKind::Directory(_) => {}
                        _ if moves_directory => return Err(Errno::ENOTDIR),
                        _ => {}
                    }
                }
                self.entries(from.0).remove(from.1);
                self.entries(to.0).insert(to.1.to_vec(), moved);
            }
        }
        self.nodes[from.0].mtime = now;
        self.nodes[to.0].mtime = now;
        Ok(())
    }

    fn xattr(&mut self, node: usize, name: &str, value: Option<u8>, flags: i32) -> Answer<()> {
        let xattrs = &mut self.nodes[node].xattrs;
        let exists = xattrs.contains_key(name.as_bytes());
        match (name, value) {
            ("trusted.a", _) => Err(Errno::EOPNOTSUPP),
            ("user.", _) => Err(Errno::EINVAL),
            (_, None) => xattrs
                .remove(name.as_bytes())
                .map(drop)
                .ok_or(Errno::ENODATA),
            (_, Some(_)) if exists && flags == libc::XATTR_CREATE => Err(Errno::EEXIST),
            (_, Some(_)) if !exists && flags == libc::XATTR_REPLACE => Err(Errno::ENODATA),
            (_, Some(value)) => {
                xattrs.insert(name.as_bytes().to_vec(), vec![value; value.into()]);
                Ok(())
            }
        }
    }

    /// What is left of it when it is sealed: no pipe, no set-user-id and no set-group-id, and a link of several names is several links.
    fn seal(&mut self) {
        let mut split = std::collections::BTreeSet::new();
        for directory in self.paths().into_values() {
            self.nodes[directory].mode &= 0o1777;
            let ModelKind::Directory(entries) = &self.nodes[directory].kind else {
                continue;
            };
            for (name, node) in entries.clone() {
                let of = &self.nodes[node];
                match &of.kind {
                    ModelKind::Pipe => drop(self.entries(directory).remove(&name)),
                    ModelKind::Symlink(target) if !split.insert(node) => {
                        let kind = ModelKind::Symlink(target.clone());
                        let (mode, mtime, xattrs) = (of.mode, of.mtime, of.xattrs.clone());
                        let copy = self.node(kind, mode, mtime);
                        self.nodes[copy].xattrs = xattrs;
                        self.entries(directory).insert(name, copy);
                    }
                    _ => {}
                }
            }
        }
    }

    fn seen(&self) -> BTreeMap<Path, Seen> {
        let paths = self.paths();
        let mut first = BTreeMap::new();
        let mut names = BTreeMap::new();
        for (path, node) in &paths {
            first.entry(*node).or_insert_with(|| path.clone());
            *names.entry(*node).or_insert(0) += 1;
        }
        let one = |(path, index): (&Path, &usize)| {
            let node = &self.nodes[*index];
            let (kind, links) = match &node.kind {
                ModelKind::Directory(entries) => {
                    let directories = entries
                        .values()
                        .filter(|node| self.nodes[**node].kind.is_directory());
                    (SeenKind::Directory, 2 + directories.count() as u32)
                }
                ModelKind::File(bytes) => (SeenKind::File(bytes.clone()), names[index]),
                ModelKind::Symlink(target) => (SeenKind::Symlink(target.clone()), names[index]),
                ModelKind::Pipe => (SeenKind::Pipe, names[index]),
            };
            let seen = Seen {
                kind,
                links,
                mode: node.mode,
                mtime: node.mtime,
                same: first[index].clone(),
                xattrs: node.xattrs.clone(),
            };
            (path.clone(), seen)
        };
        paths.iter().map(one).collect()
    }
}

/// Everything that a view shows.
fn seen(view: &View) -> BTreeMap<Path, Seen> {
    let mut all = BTreeMap::new();
    let mut nodes: BTreeMap<Ino, Path> = BTreeMap::new();
    let mut stack = vec![(Path::new(), ROOT)];
    while let Some((path, ino)) = stack.pop() {
        let of = view.attributes(ino).unwrap();
        let content = view.tree.write().unwrap().content(ino, view.store());
        let tree = view.tree();
        let node = tree.node(ino).unwrap();
        let kind = match &node.kind {
            Kind::Directory(_) => {
                let children = tree.children(ino).unwrap();
                stack.extend(children.map(|(name, ino)| (join(&path, name), ino)));
                SeenKind::Directory
            }
            Kind::Symlink(target) => SeenKind::Symlink(target.clone()),
            Kind::Special(_) => SeenKind::Pipe,
            Kind::File(_) => {
                let mut bytes = Vec::new();
                content
                    .unwrap()
                    .read(view.store(), 0, of.size as usize + 1, &mut bytes)
                    .unwrap();
                SeenKind::File(bytes)
            }
        };
        let same = nodes.entry(ino).or_insert_with(|| path.clone());
        *same = path.clone().min(same.clone());
        let seen = Seen {
            kind,
            mode: of.mode,
            mtime: of.mtime,
            links: of.links,
            same: Path::new(),
            xattrs: node.xattrs.clone(),
        };
        all.insert(path, (ino, seen));
    }
    let named = |(path, (ino, seen)): (Path, (Ino, Seen))| {
        let same = nodes[&ino].clone();
        (path, Seen { same, ..seen })
    };
    all.into_iter().map(named).collect()
}

/// Says where a view and the model differ.
fn compare(view: &View, model: &Model, after: &dyn std::fmt::Debug) {
    let (mut real, mut model) = (seen(view), model.seen());
    let same: Vec<Path> = real
        .keys()
        .filter(|path| real.get(*path) == model.get(*path))
        .cloned()
        .collect();
    for path in same {
        real.remove(&path);
        model.remove(&path);
    }
    let text = |seen: BTreeMap<Path, Seen>| -> Vec<String> {
        let line =
            |(path, seen): (Path, Seen)| format!("{:?}: {seen:?}", String::from_utf8_lossy(&path));
        seen.into_iter().map(line).collect()
    };
    assert!(
        real.is_empty() && model.is_empty(),
        "after {after:?}:\nview {:#?}\nmodel {:#?}",
        text(real),
        text(model)
    );
}

/// A view and its model, side by side.
struct Pair {
    view: View,
    model: Model,
    /// Open handles: the view's number, the model's node, whether it may write.
    handles: Vec<(u64, usize, bool)>,
    now: i64,
}

impl Pair {
    fn known(&self, outcome: Answer<Attributes>) -> Answer<()> {
        outcome.map(|of| self.view.forget(of.ino, 1))
    }

    fn ino(&self, path: &[u8]) -> Ino {
        self.view.tree().resolve(path).unwrap()
    }

    /// A directory by its index: node of the view and of the model.
    fn directory(&self, index: &Index) -> (Ino, usize) {
        self.pick(index, ModelKind::is_directory).unwrap()
    }

    fn file(&self, index: &Index) -> Option<(Ino, usize)> {
        self.pick(index, |kind| matches!(kind, ModelKind::File(_)))
    }

    fn pick(&self, index: &Index, wanted: impl Fn(&ModelKind) -> bool) -> Option<(Ino, usize)> {
        let paths = self.model.paths();
        let fit: Vec<_> = paths
            .iter()
            .filter(|(_, node)| wanted(&self.model.nodes[**node].kind))
            .collect();
        let (path, node) = fit.get(index.index(fit.len().max(1)))?;
        Some((self.ino(path), **node))
    }

    fn handle(&self, index: &Index) -> Option<(u64, usize, bool)> {
        let at = index.index(self.handles.len().max(1));
        self.handles.get(at).copied()
    }

    fn name(index: &Index) -> &'static [u8] {
        NAMES[index.index(NAMES.len())].as_bytes()
    }

    /// Does a step on both sides; answers what each answered.
    fn step(&mut self, step: &Step) -> (Answer<()>, Answer<()>) {
        self.now += 1;
        set_now(self.now as u64);
        match step {
            Step::Create(..)
            | Step::Mkdir(..)
            | Step::Symlink(..)
            | Step::Pipe(..)
            | Step::Link(..)
            | Step::Unlink(..)
            | Step::Rmdir(..)
            | Step::Rename(..) => self.step_names(step),
            Step::Mode(..) | Step::Time(..) | Step::Xattr(..) => self.step_attributes(step),
            Step::List(directory) => self.list(directory),
            _ => self.step_bytes(step),
        }
    }

    fn step_names(&mut self, step: &Step) -> (Answer<()>, Answer<()>) {
        let now = self.now;
        match step {
            Step::Create(at, name, mode) => {
                let ((ino, directory), name) = (self.directory(at), Self::name(name));
                let access = OpenMode {
                    read: true,
                    write: true,
                };
                let real = self.view.create(ANYONE, ino, name, *mode, access);
                let real = real.map(|(of, number)| (self.view.forget(of.ino, 1), number));
                let node = self.model.node(ModelKind::File(Vec::new()), *mode, now);
                let model = self.model.add(directory, name, node, now);
                self.handles
                    .extend(real.map(|(_, number)| (number, node, true)));
                (real.map(drop), model)
            }
            Step::Mkdir(at, name, mode) => {
                let ((ino, directory), name) = (self.directory(at), Self::name(name));
                let real = self.known(self.view.make_directory(ANYONE, ino, name, *mode));
                // In a directory with set-group-id a directory is one too.
                let mode = mode | self.model.nodes[directory].mode & 0o2000;
                let node = self
                    .model
                    .node(ModelKind::Directory(BTreeMap::new()), mode, now);
                (real, self.model.add(directory, name, node, now))
            }
            Step::Symlink(at, name) => {
                let ((ino, directory), name) = (self.directory(at), Self::name(name));
                let real = self.known(self.view.make_symlink(ANYONE, ino, name, b"../x"));
                let node = self
                    .model
                    .node(ModelKind::Symlink(b"../x".to_vec()), 0o777, now);
                (real, self.model.add(directory, name, node, now))
            }
            Step::Pipe(at, name, mode) => {
                let ((ino, directory), name) = (self.directory(at), Self::name(name));
                let pipe = Special::Pipe;
                let real = self.known(self.view.make_special(ANYONE, ino, name, *mode, pipe));
                let node = self.model.node(ModelKind::Pipe, *mode, now);
                (real, self.model.add(directory, name, node, now))
            }
            Step::Link(of, at, name) => {
                let ((ino, directory), name) = (self.directory(at), Self::name(name));
                let Some((file, node)) = self.pick(of, |_| true) else {
                    return (Ok(()), Ok(()));
                };
                let real = self.known(self.view.link(ANYONE, file, ino, name));
                let model = match self.model.nodes[node].kind {
                    ModelKind::Directory(_) => Err(Errno::EPERM),
                    _ => self.model.add(directory, name, node, now),
                };
                (real, model)
            }
            _ => self.step_away(step),
        }
    }

    fn step_away(&mut self, step: &Step) -> (Answer<()>, Answer<()>) {
        let now = self.now;
        match step {
            Step::Unlink(at, name) => {
                let ((ino, directory), name) = (self.directory(at), Self::name(name));
                let real = self.view.unlink(ANYONE, ino, name);
                (real, self.model.remove(directory, name, false, now))
            }
            Step::Rmdir(at, name) => {
                let ((ino, directory), name) = (self.directory(at), Self::name(name));
                let real = self.view.remove_directory(ANYONE, ino, name);
                (real, self.model.remove(directory, name, true, now))
            }
            Step::Rename([from, name, to, new], how) => {
                let ((from, old_parent), (to, new_parent)) =
                    (self.directory(from), self.directory(to));
                let (name, new) = (Self::name(name), Self::name(new));
                let real = self.view.rename(ANYONE, (from, name), (to, new), *how);
                let model = self
                    .model
                    .rename((old_parent, name), (new_parent, new), *how, now);
                (real, model)
            }
            _ => unreachable!(),
        }
    }

    fn step_attributes(&mut self, step: &Step) -> (Answer<()>, Answer<()>) {
        let (Step::Mode(at, _) | Step::Time(at, _) | Step::Xattr(at, ..)) = step else {
            unreachable!()
        };
        let Some((ino, node)) = self.pick(at, |kind| !matches!(kind, ModelKind::Symlink(_))) else {
            return (Ok(()), Ok(()));
        };
        let mut set = SetAttributes::default();
        match step {
            Step::Mode(_, mode) => {
                set.mode = Some(*mode);
                self.model.nodes[node].mode = *mode;
            }
            Step::Time(_, time) => {
                set.mtime = Some(Ok(*time));
                self.model.nodes[node].mtime = *time;
            }
            Step::Xattr(_, name, value, flags) => {
                let bytes = value.map(|value| vec![value; value.into()]);
                let real =
                    self.view
                        .set_xattr(ANYONE, ino, name.as_bytes(), bytes.as_deref(), *flags);
                return (real, self.model.xattr(node, name, *value, *flags));
            }
            _ => unreachable!(),
        }
        (self.view.set_attributes(ANYONE, ino, set).map(drop), Ok(()))
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each kind of step")]
    fn step_bytes(&mut self, step: &Step) -> (Answer<()>, Answer<()>) {
        const NOTHING: (Answer<()>, Answer<()>) = (Ok(()), Ok(()));
        match step {
            Step::Open(at, write) => {
                let Some((ino, node)) = self.file(at) else {
                    return NOTHING;
                };
                let access = OpenMode {
                    read: true,
                    write: *write,
                };
                let real = self.view.open(ANYONE, ino, access);
                self.handles
                    .extend(real.map(|number| (number, node, *write)));
                (real.map(drop), Ok(()))
            }
            Step::Close(at) => {
                let Some((number, ..)) = self.handle(at) else {
                    return NOTHING;
                };
                self.handles.retain(|(other, ..)| *other != number);
                (self.view.close(ANYONE, number), Ok(()))
            }
            Step::Truncate(at, len) => {
                let Some((ino, node)) = self.file(at) else {
                    return NOTHING;
                };
                let set = SetAttributes {
                    size: Some(*len as u64),
                    ..SetAttributes::default()
                };
                self.model.bytes(node).resize(*len, 0);
                let cut = &mut self.model.nodes[node];
                cut.mtime = self.now;
                // Set-user-id goes, and set-group-id of what a group may execute.
                cut.mode &= if cut.mode & 0o010 == 0 {
                    0o3777
                } else {
                    0o1777
                };
                (self.view.set_attributes(ANYONE, ino, set).map(drop), Ok(()))
            }
            Step::Seek(at, offset) => {
                let Some((ino, node)) = self.file(at) else {
                    return NOTHING;
                };
                (self.seek(ino, node, *offset), Ok(()))
            }
            Step::Read(at, offset, len) => {
                let Some((number, node, _)) = self.handle(at) else {
                    return NOTHING;
                };
                let mut out = vec![1; 9];
                let real = self
                    .view
                    .read(ANYONE, number, *offset as u64, *len, &mut out)
                    .map(|answer| out = out[answer].to_vec());
                let bytes = self.model.bytes(node);
                let end = (offset + len).min(bytes.len());
                assert_eq!(out, bytes.get(*offset..end).unwrap_or_default());
                (real, Ok(()))
            }
            Step::Write(at, ..) | Step::Punch(at, ..) | Step::Grow(at, ..) => {
                self.step_change(step, at)
            }
            _ => unreachable!(),
        }
    }

    fn step_change(&mut self, step: &Step, at: &Index) -> (Answer<()>, Answer<()>) {
        let Some((number, node, writes)) = self.handle(at) else {
            return (Ok(()), Ok(()));
        };
        let real = self.change(step, number);
        if !writes {
            return (real, Err(Errno::EBADF));
        }
        change(self.model.bytes(node), step);
        (real, Ok(()))
    }

    fn change(&self, step: &Step, number: u64) -> Answer<()> {
        const PUNCH: i32 = libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE;
        match step {
            Step::Write(_, offset, len, byte) => {
                let data = vec![*byte; *len];
                self.view.write(ANYONE, number, *offset as u64, &data)
            }
            Step::Punch(_, offset, len) => {
                self.view
                    .allocate(ANYONE, number, *offset as u64, *len as u64, PUNCH)
            }
            Step::Grow(_, offset, len) => {
                self.view
                    .allocate(ANYONE, number, *offset as u64, *len as u64, 0)
            }
            _ => unreachable!(),
        }
    }

    /// What is skipped as a hole is zero; a hole is looked for within the file only.
    fn seek(&mut self, ino: Ino, node: usize, offset: usize) -> Answer<()> {
        let number = self.view.open(
            ANYONE,
            ino,
            OpenMode {
                read: true,
                write: false,
            },
        )?;
        let find = |part| self.view.seek(number, offset as u64, &part);
        let (data, hole) = (find(Part::Data), find(Part::Hole));
        let written = self
            .handles
            .iter()
            .any(|(_, other, writes)| *other == node && *writes);
        let bytes = self.model.bytes(node);
        match (data, hole) {
            (Err(Errno::EINVAL), Err(Errno::EINVAL)) => assert!(written),
            (Err(Errno::ENXIO), Err(Errno::ENXIO)) => assert!(offset >= bytes.len()),
            (data, Ok(hole)) => {
                assert!((offset as u64..=bytes.len() as u64).contains(&hole));
                let end = match data {
                    Ok(data) => data as usize,
                    Err(errno) => {
                        assert_eq!(errno, Errno::ENXIO);
                        bytes.len()
                    }
                };
                assert!(bytes[offset..end].iter().all(|byte| *byte == 0));
            }
            other => panic!("{other:?}"),
        }
        self.view.close(ANYONE, number)
    }

    fn list(&mut self, at: &Index) -> (Answer<()>, Answer<()>) {
        let (ino, directory) = self.directory(at);
        let number = self.view.open_directory(ANYONE, ino).unwrap();
        let mut names = Vec::new();
        let mut offset = 0;
        // One at a time, as if every answer were full after one.
        loop {
            let (before, from) = (names.len(), offset);
            let each = |next: u64, name: &[u8], _: &Attributes| {
                if names.len() > before {
                    return false;
                }
                names.push(name.to_vec());
                offset = next;
                true
            };
            self.view.entries(number, from, true, each).unwrap();
            let Some(name) = names.get(before) else { break };
            if !matches!(&name[..], b"." | b"..") {
                let ino = self.view.tree().child(ino, name).unwrap();
                self.view.forget(ino, 1);
            }
        }
        self.view.close(ANYONE, number).unwrap();
        let expected = [b".".to_vec(), b"..".to_vec()].into_iter();
        let expected: Vec<_> = expected
            .chain(self.model.entries(directory).keys().cloned())
            .collect();
        assert_eq!(names, expected);
        (Ok(()), Ok(()))
    }

    fn close(&mut self) {
        for (number, ..) in self.handles.drain(..) {
            self.view.close(ANYONE, number).unwrap();
        }
    }
}

fn change(bytes: &mut Vec<u8>, step: &Step) {
    match *step {
        Step::Write(_, offset, len, byte) if len > 0 => {
            let end = bytes.len().max(offset + len);
            bytes.resize(end, 0);
            bytes[offset..offset + len].fill(byte);
        }
        Step::Punch(_, offset, len) => {
            let end = bytes.len().min(offset + len);
            if offset < end {
                bytes[offset..end].fill(0);
            }
        }
        Step::Grow(_, offset, len) => {
            let end = bytes.len().max(offset + len);
            bytes.resize(end, 0);
        }
        _ => {}
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7) as u8 | 1).collect()
}

/// Removes everything; nothing may be left of it.
fn empty(view: &View) {
    let paths: Vec<Path> = seen(view).into_keys().rev().collect();
    for path in paths.iter().filter(|path| !path.is_empty()) {
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], &path[..]),
        };
        let parent = view.tree().resolve(parent).unwrap();
        match view.remove_directory(ANYONE, parent, name) {
            Err(Errno::ENOTDIR) => view.unlink(ANYONE, parent, name).unwrap(),
            outcome => outcome.unwrap(),
        }
    }
    let space = view.space();
    assert_eq!(
        (space.used, space.nodes),
        (0, 1),
        "bytes and nodes are left over"
    );
}

fn run(steps: &[Vec<Step>]) {
    let bench = Bench::new();
    let mut sparse = vec![0; 3 * BLOCK + 5];
    sparse[BLOCK + 1] = 9;
    let (long, short) = (pattern(2 * BLOCK + 77), pattern(3));
    let list = [
        ("a", What::Directory),
        ("a/a", What::File(&long)),
        ("a/a.b", What::Directory),
        ("a/a.b/b", What::File(&short)),
        ("a/b", What::Link("a/a")),
        ("a.b", What::File(&short)),
        ("a-", What::Symlink("a/b")),
        ("b", What::Directory),
        ("b/a", What::File(&sparse)),
        ("b/b", What::Link("a.b")),
        ("b/a-", What::File(&[])),
    ];
    let mut layers: Vec<Vec<Entry>> = vec![bench.layer(&list)];
    let mut model = Model::of(&list);
    let mut now = 1_000_000;
    for steps in steps {
        let refs: Vec<&[Entry]> = layers.iter().map(Vec::as_slice).collect();
        let mut pair = Pair {
            view: bench.view(&refs),
            model,
            handles: Vec::new(),
            now,
        };
        compare(&pair.view, &pair.model, &"the beginning");
        for step in steps {
            let (real, model) = pair.step(step);
            assert_eq!(real, model, "{step:?}");
            compare(&pair.view, &pair.model, step);
        }
        pair.close();
        let reachable: std::collections::BTreeSet<usize> =
            pair.model.paths().into_values().collect();
        assert_eq!(pair.view.tree().len(), reachable.len());
        layers.push(bench.commit(&pair.view));
        let refs: Vec<&[Entry]> = layers.iter().map(Vec::as_slice).collect();
        let merged = bench.view(&refs);
        let mut sealed = pair.model;
        sealed.seal();
        compare(&merged, &sealed, &"sealing");
        // Nothing was changed in the merged view: its root is all that a result would have.
        assert_eq!(bench.commit(&merged).len(), 1);
        empty(&pair.view);
        (model, now) = (sealed, pair.now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_view_is_what_the_model_says_before_and_after_it_is_sealed(
        steps in prop::collection::vec(prop::collection::vec(step(), 1..40), 1..4),
    ) {
        run(&steps);
    }
}
