//! What the sealed layers of one central path show together: one sorted index over their entries, of which none is unfolded.
//!
//! A row is a name that shows. Rows never change, so the number of a row makes the number of its node, and a node is made only when the
//! session does something with it. A row costs sixteen bytes beside the manifest's own. Manifests are valid when they are opened (sorted,
//! unique, parents first), so a violation here is a defect of ours and answers an error number like any other.

mod index;
mod links;

use nix::errno::Errno;
use safelight_seal::manifest::{Entries, EntryRef, KindRef};

use self::links::Links;
use crate::{
    lower::LowerFile,
    tree::{Answer, Ino},
};

/// What the layers show.
pub(crate) struct Layers {
    trees: Vec<Entries>,
    /// Sorted by path.
    rows: Vec<Row>,
    /// Sorted by row.
    directories: Vec<Directory>,
    links: Links,
}

/// A name: which entry of which layer says what it is, and the row of its directory.
#[derive(Debug, Clone, Copy)]
struct Row {
    layer: u32,
    at: u32,
    parent: u32,
}

/// How many entries a directory has, and how many of them are directories.
#[derive(Debug, Clone, Copy)]
struct Directory {
    row: u32,
    entries: u32,
    subdirectories: u32,
}

impl std::fmt::Debug for Layers {
    /// Entries hold keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows = self.rows.len();
        f.debug_struct("Layers")
            .field("rows", &rows)
            .finish_non_exhaustive()
    }
}

impl Layers {
    /// How many names show, the root among them.
    pub(crate) fn names_len(&self) -> usize {
        self.rows.len()
    }

    /// How many nodes have them.
    pub(crate) fn nodes_len(&self) -> usize {
        self.rows.len() - self.links.spare()
    }

    /// True if a node of this number is one of the layers', whatever became of it since.
    pub(crate) fn has(&self, ino: Ino) -> bool {
        self.row_of(ino).is_some()
    }

    fn row_of(&self, ino: Ino) -> Option<usize> {
        let row = usize::try_from(ino.checked_sub(1)?).ok()?;
        let leads = |row: usize| self.links.leader(row).is_none_or(|leader| leader == row);
        (row < self.rows.len() && leads(row)).then_some(row)
    }

    fn node_of(&self, row: usize) -> Ino {
        self.links.leader(row).unwrap_or(row) as Ino + 1
    }

    fn row_path(&self, row: usize) -> &[u8] {
        path(&self.trees, &self.rows, row)
    }

    fn find(&self, path: &[u8]) -> Option<usize> {
        find(&self.trees, &self.rows, path)
    }

    /// What a node is.
    pub(crate) fn entry(&self, ino: Ino) -> Option<EntryRef<'_>> {
        let row = self.row_of(ino)?;
        let (layer, at) = match self.links.file(row) {
            Some(file) => file,
            None => (self.rows[row].layer, self.rows[row].at),
        };
        self.trees.get(layer as usize)?.get(at as usize)
    }

    /// The path of a node, by its first name.
    pub(crate) fn path(&self, ino: Ino) -> &[u8] {
        self.row_of(ino).map_or(b"", |row| self.row_path(row))
    }

    /// The first name of a node, with its directory; none of the root, and none of a node that is not of the layers.
    pub(crate) fn first_name(&self, ino: Ino) -> Option<(Ino, &[u8])> {
        let row = self.row_of(ino).filter(|row| *row > 0)?;
        Some(self.name(row))
    }

    fn name(&self, row: usize) -> (Ino, &[u8]) {
        let path = self.row_path(row);
        let name = path.rsplit(|byte| *byte == b'/').next();
        (Ino::from(self.rows[row].parent) + 1, name.unwrap_or(path))
    }

    /// Every name of a node, with its directory.
    pub(crate) fn names(&self, ino: Ino) -> Vec<(Ino, Vec<u8>)> {
        let owned = |(parent, name): (Ino, &[u8])| (parent, name.to_vec());
        let Some(row) = self.row_of(ino).filter(|row| *row > 0) else {
            return Vec::new();
        };
        match self.links.file(row) {
            Some(_) => {
                let rows = self.links.rows(row);
                rows.map(|row| owned(self.name(row))).collect()
            }
            None => vec![owned(self.name(row))],
        }
    }

    /// True if the layers have this node at this path.
    pub(crate) fn is_at(&self, ino: Ino, path: &[u8]) -> bool {
        self.find(path).is_some_and(|row| self.node_of(row) == ino)
    }

    /// How many entries a directory has, and how many of them are directories. None if it is no directory.
    pub(crate) fn counts(&self, ino: Ino) -> Option<(usize, u32)> {
        let row = self.row_of(ino)? as u32;
        let at = self.directories.binary_search_by_key(&row, |it| it.row);
        let it = &self.directories[at.ok()?];
        Some((it.entries as usize, it.subdirectories))
    }

    /// The node of a name in a directory.
    pub(crate) fn child(&self, directory: Ino, name: &[u8]) -> Option<Ino> {
        let row = self.row_of(directory)?;
        let mut path = within(self.row_path(row));
        path.extend_from_slice(name);
        self.find(&path).map(|row| self.node_of(row))
    }

    /// True if a node's first name is this one, which takes no search. False says nothing.
    pub(crate) fn is_first(&self, ino: Ino, directory: Ino, name: &[u8]) -> bool {
        self.first_name(ino) == Some((directory, name))
    }

    /// The names in a directory with their nodes, sorted.
    pub(crate) fn children(&self, directory: Ino) -> impl Iterator<Item = (&[u8], Ino)> {
        let row = self.row_of(directory);
        let prefix = row.map_or(Vec::new(), |row| within(self.row_path(row)));
        let mut next = match row {
            Some(0) => 1,
            Some(_) => lower_bound(&self.trees, &self.rows, &prefix),
            None => self.rows.len(),
        };
        std::iter::from_fn(move || {
            while next < self.rows.len() {
                let at = next;
                let rest = self.row_path(at).strip_prefix(&prefix[..])?;
                if Some(self.rows[at].parent as usize) == row {
                    next = at + 1;
                    return Some((rest, self.node_of(at)));
                }
                // What is below one of the entries lies in one piece: over it.
                let slash = rest.iter().position(|byte| *byte == b'/')?;
                let below = [&prefix, &rest[..slash], &[b'/' + 1]].concat();
                next = lower_bound(&self.trees, &self.rows, &below);
            }
            None
        })
    }

    /// The bytes of a file.
    pub(crate) fn file(&self, ino: Ino) -> Answer<LowerFile> {
        match self.entry(ino).map(|entry| entry.kind) {
            Some(KindRef::File { len, segments }) => Ok(LowerFile {
                len,
                segments: segments.iter().collect(),
            }),
            _ => Err(Errno::EIO),
        }
    }
}

fn path<'a>(trees: &'a [Entries], rows: &[Row], row: usize) -> &'a [u8] {
    let row = rows.get(row);
    let found = row.and_then(|row| Some((trees.get(row.layer as usize)?, row.at)));
    found.map_or(b"", |(tree, at)| tree.path(at as usize))
}

/// The first row whose path is not before this one.
fn lower_bound(trees: &[Entries], rows: &[Row], wanted: &[u8]) -> usize {
    let (mut low, mut high) = (0, rows.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match path(trees, rows, middle) < wanted {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

fn find(trees: &[Entries], rows: &[Row], wanted: &[u8]) -> Option<usize> {
    let at = lower_bound(trees, rows, wanted);
    (at < rows.len() && path(trees, rows, at) == wanted).then_some(at)
}

/// What the paths of all that is below a directory begin with.
fn within(directory: &[u8]) -> Vec<u8> {
    match directory {
        b"" => Vec::new(),
        path => [path, b"/"].concat(),
    }
}

#[cfg(test)]
mod tests;
