//! Making the index: all entries of all layers in the order of their paths, of each path the topmost, and who is whose parent.
//!
//! A directory over a directory keeps what is below it, unless it is opaque. Everything else hides whatever has its name, and what is
//! below that. A whiteout does nothing but hide. So each directory has a *floor*: the highest layer that hid something at its place or
//! above, below which nothing in it shows.

use nix::errno::Errno;
use safelight_seal::manifest::{ENTRIES_MAX, Entries, EntryRef, KindRef};

use super::{Directory, Layers, Links, Row, find};
use crate::tree::Answer;

impl Layers {
    /// What these layers show together, lowest first.
    pub(crate) fn of(trees: Vec<Entries>) -> Answer<Self> {
        let sweep = Sweep::over(&trees)?;
        if sweep.rows.is_empty() {
            return Err(Errno::EINVAL);
        }
        if sweep.rows.len() > ENTRIES_MAX {
            return Err(Errno::ENOSPC);
        }
        let (rows, directories) = (sweep.rows, sweep.directories);
        let links = find_links(&trees, &rows)?;
        Ok(Self {
            trees,
            rows,
            directories,
            links,
        })
    }
}

/// A layer, and the number of an entry in it.
type Place = (u32, u32);

fn entry(trees: &[Entries], (layer, at): Place) -> Answer<EntryRef<'_>> {
    let tree = trees.get(layer as usize).ok_or(Errno::EIO)?;
    tree.get(at as usize).ok_or(Errno::EIO)
}

/// Every entry, sorted by path, and of one path the topmost first.
fn sorted(trees: &[Entries]) -> Vec<Place> {
    let mut all = Vec::with_capacity(trees.iter().map(Entries::len).sum());
    for (layer, tree) in (0..).zip(trees) {
        all.extend((0..tree.len() as u32).map(|at| (layer, at)));
    }
    if trees.len() > 1 {
        let path = |(layer, at): &Place| trees[*layer as usize].path(*at as usize);
        all.sort_by(|a, b| path(a).cmp(path(b)).then(b.0.cmp(&a.0)));
    }
    all
}

/// What shows so far of the entries in the order of their paths.
#[derive(Default)]
struct Sweep<'a> {
    rows: Vec<Row>,
    directories: Vec<Directory>,
    /// For each of the directories.
    floors: Vec<u32>,
    /// The directory of the entry before, and its place among those that show: most entries lie in the same one.
    parent: &'a [u8],
    place: Option<usize>,
}

impl<'a> Sweep<'a> {
    fn over(trees: &'a [Entries]) -> Answer<Self> {
        let mut sweep = Self::default();
        let all = sorted(trees);
        let path = |(layer, at): &Place| trees[*layer as usize].path(*at as usize);
        // One layer has each path once.
        let same = |a: &Place, b: &Place| trees.len() > 1 && path(a) == path(b);
        for places in all.chunk_by(same) {
            sweep.see(trees, places)?;
        }
        Ok(sweep)
    }

    /// The entries of one path, the topmost first.
    fn see(&mut self, trees: &'a [Entries], places: &[Place]) -> Answer<()> {
        let top = entry(trees, places[0])?;
        let is_root = top.path.is_empty();
        let parent = match is_root {
            true => None,
            false => match self.find_parent(trees, top.path) {
                Some(place) if places[0].0 >= self.floors[place] => Some(place),
                _ => return Ok(()),
            },
        };
        if matches!(top.kind, KindRef::Whiteout) {
            return Ok(());
        }
        let is_directory = matches!(top.kind, KindRef::Directory { .. });
        if let Some(place) = parent {
            let directory = &mut self.directories[place];
            directory.entries += 1;
            directory.subdirectories += u32::from(is_directory);
        }
        if is_directory {
            let above = parent.map_or(0, |place| self.floors[place]);
            let own = match is_root {
                true => 0,
                false => highest_hiding(trees, places)?,
            };
            self.floors.push(above.max(own));
            self.directories.push(Directory {
                row: self.rows.len() as u32,
                entries: 0,
                subdirectories: 0,
            });
        }
        self.rows.push(Row {
            layer: places[0].0,
            at: places[0].1,
            parent: parent.map_or(0, |place| self.directories[place].row),
        });
        Ok(())
    }

    /// The directory that a path lies in, if it shows.
    fn find_parent(&mut self, trees: &'a [Entries], path: &'a [u8]) -> Option<usize> {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let above = &path[..slash.unwrap_or(0)];
        if above != self.parent || self.place.is_none() {
            let row = find(trees, &self.rows, above).map(|row| row as u32);
            let place = row.map(|row| {
                self.directories
                    .binary_search_by_key(&row, |it| it.row)
                    .ok()
            });
            (self.parent, self.place) = (above, place.flatten());
        }
        self.place
    }
}

/// The highest of the layers that hide what is below this path in those under them.
fn highest_hiding(trees: &[Entries], places: &[Place]) -> Answer<u32> {
    for place in places {
        let is_plain = matches!(
            entry(trees, *place)?.kind,
            KindRef::Directory { opaque: false }
        );
        if !is_plain {
            return Ok(place.0);
        }
    }
    Ok(0)
}

fn find_links(trees: &[Entries], rows: &[Row]) -> Answer<Links> {
    let mut found = Vec::new();
    for (at, row) in (0..).zip(rows) {
        let KindRef::Link { to } = entry(trees, (row.layer, row.at))?.kind else {
            continue;
        };
        let file = trees[row.layer as usize].find(to).ok_or(Errno::EIO)? as u32;
        found.push((row.layer, file, at));
        // The file's own name, if nothing above has taken its place.
        if let Some(own) = find(trees, rows, to)
            && (rows[own].layer, rows[own].at) == (row.layer, file)
        {
            found.push((row.layer, file, own as u32));
        }
    }
    Ok(Links::of(found))
}
