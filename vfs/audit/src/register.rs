//! A client's register at a site: a log of statements on the disk, in the layout of C2SP `tlog-tiles`.
//!
//! ```text
//! checkpoint                  the newest head, a signed note
//! tile/<L>/<N>[.p/<W>]        256 hashes of level 8·L, or the first W of them
//! tile/entries/<N>[.p/<W>]    the entries themselves, each with its length before it (u16, big-endian)
//! ```
//! Tiles reach the disk before the checkpoint that needs them, so what a crash leaves is a register as it was, with more tiles than it
//! needs. One writer at a time holds the lock; readers need none.

mod grow;

use std::{
    cell::RefCell,
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{
    Error,
    note::{Head, NOTE_MAX},
    statement::STATEMENT_MAX,
    tree::{self, Frontier, Hash},
};

/// Hashes, or entries, of a full tile.
const WIDTH: u64 = 256;

/// Levels of the tree from one row of tiles to the next.
const ROW: u32 = 8;

/// A register on the disk.
pub struct Register {
    directory: PathBuf,
    head: Option<Head>,
    note: String,
    /// Tiles that were read, since a proof asks for a few of them again and again.
    tiles: RefCell<HashMap<(u32, u64), Vec<Hash>>>,
}

impl Register {
    /// Opens a register as its checkpoint has it; empty if there is none. Whether the checkpoint is signed by whom it should be, and
    /// whether the tiles fit it, is for [`Register::check`].
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("checkpoint");
        let note = match read_bounded(&path, NOTE_MAX) {
            Ok(bytes) => {
                String::from_utf8(bytes).map_err(|_| Error::Register { path: path.clone() })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(Error::Open { path, source }),
        };
        let head = match note.is_empty() {
            true => None,
            false => Some(Head::read(&note).ok_or(Error::Register { path })?),
        };
        Ok(Self {
            directory: directory.to_owned(),
            head,
            note,
            tiles: RefCell::default(),
        })
    }

    /// The number of entries.
    pub fn size(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.size)
    }

    /// The newest checkpoint, a signed note; empty if there is none.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// A complete subtree of the tree.
    pub fn node(&self, level: u32, index: u64) -> Result<Hash, Error> {
        let row = level / ROW;
        // The subtree is so high within its tile's row, and covers so many of the tile's hashes.
        let height = level % ROW;
        let first = index << height;
        let (tile, from) = (first / WIDTH, first % WIDTH);
        let mut level_hashes = Vec::new();
        self.tile(row, tile, |hashes| {
            let to = from + (1 << height);
            level_hashes = hashes
                .get(from as usize..to as usize)
                .unwrap_or_default()
                .to_vec();
        })?;
        while level_hashes.len() > 1 {
            level_hashes = level_hashes
                .chunks_exact(2)
                .map(|pair| tree::node(&pair[0], &pair[1]))
                .collect();
        }
        level_hashes
            .first()
            .copied()
            .ok_or_else(|| self.broken(row, tile))
    }

    fn broken(&self, row: u32, tile: u64) -> Error {
        Error::Register {
            path: self.directory.join(format!("tile/{row}/{}", number(tile))),
        }
    }

    fn tile(&self, row: u32, tile: u64, look: impl FnOnce(&[Hash])) -> Result<(), Error> {
        if let Some(known) = self.tiles.borrow().get(&(row, tile)) {
            look(known);
            return Ok(());
        }
        let bytes = self.stored(
            &row.to_string(),
            tile,
            self.size() >> (ROW * row),
            (WIDTH * 32) as usize,
        )?;
        let hashes: Vec<Hash> = bytes
            .chunks_exact(32)
            .filter_map(|hash| hash.try_into().ok())
            .collect();
        look(&hashes);
        let mut tiles = self.tiles.borrow_mut();
        if tiles.len() > 1024 {
            tiles.clear();
        }
        tiles.insert((row, tile), hashes);
        Ok(())
    }

    /// The bytes of a tile in a row of `count` hashes or entries.
    fn stored(&self, row: &str, tile: u64, count: u64, max: usize) -> Result<Vec<u8>, Error> {
        let path = self.path(row, tile, (count.saturating_sub(tile * WIDTH)).min(WIDTH));
        read_bounded(&path, max).map_err(|source| Error::Open { path, source })
    }

    fn path(&self, row: &str, tile: u64, width: u64) -> PathBuf {
        let name = number(tile);
        self.directory.join("tile").join(row).join(match width {
            WIDTH => name,
            width => format!("{name}.p/{width}"),
        })
    }

    /// The entries from one number up to another.
    pub fn entries(&self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, Error> {
        let mut all = Vec::new();
        let to = to.min(self.size());
        for tile in from / WIDTH..to.div_ceil(WIDTH) {
            let bytes = self.stored(
                "entries",
                tile,
                self.size(),
                WIDTH as usize * (2 + STATEMENT_MAX),
            )?;
            let entries = split_entries(&bytes).ok_or_else(|| Error::Register {
                path: self
                    .directory
                    .join(format!("tile/entries/{}", number(tile))),
            })?;
            let numbered = (tile * WIDTH..).zip(entries);
            all.extend(
                numbered
                    .filter(|(at, _)| (from..to).contains(at))
                    .map(|(_, entry)| entry),
            );
        }
        Ok(all)
    }

    /// Proves that an entry is in the register as it is.
    pub fn inclusion(&self, index: u64) -> Result<Vec<Hash>, Error> {
        tree::inclusion(index, self.size(), &|level, index| self.node(level, index))
    }

    /// Proves that the register begins as it was with `old` entries.
    pub fn consistency(&self, old: u64) -> Result<Vec<Hash>, Error> {
        tree::consistency(old, self.size(), &|level, index| self.node(level, index))
    }

    /// The head that the register had with `size` entries, by its tiles.
    pub fn head_at(&self, size: u64) -> Result<Option<Head>, Error> {
        let Some(head) = self.head.as_ref().filter(|head| size <= head.size) else {
            return Ok(None);
        };
        let frontier = Frontier::of(size, &|level, index| self.node(level, index))?;
        Ok(Some(Head {
            origin: head.origin.clone(),
            size,
            root: frontier.root(),
        }))
    }

    /// The root as the first `size` entries themselves have it: what the tiles say is not believed.
    pub fn root_of_entries(&self, size: u64) -> Result<Option<Hash>, Error> {
        let mut frontier = Frontier::default();
        for tile in 0..size.div_ceil(WIDTH) {
            let from = tile * WIDTH;
            for entry in self.entries(from, (from + WIDTH).min(size))? {
                frontier.push(tree::leaf(&entry));
            }
        }
        Ok((frontier.size() == size).then(|| frontier.root()))
    }
}

/// The number of a tile as a path: groups of three digits, all but the last with an `x` before them.
fn number(tile: u64) -> String {
    let mut name = format!("{:03}", tile % 1000);
    let mut rest = tile / 1000;
    while rest > 0 {
        name = format!("x{:03}/{name}", rest % 1000);
        rest /= 1000;
    }
    name
}

fn split_entries(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (len, rest) = bytes.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        all.push(entry.to_vec());
        bytes = rest;
    }
    Some(all)
}

fn read_bounded(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    File::open(path)?
        .take(max as u64 + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() {
        len if len > max => Err(io::ErrorKind::InvalidData.into()),
        _ => Ok(bytes),
    }
}

/// Writes a file whole and durably, with the directories above it.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Open {
        path: path.to_owned(),
        source,
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed)?;
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&beside)
        .map_err(failed)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::{Role, Signer};

    fn entry(number: u64) -> Vec<u8> {
        format!("entry {number}").into_bytes()
    }

    #[test]
    fn tiles_are_numbered_in_groups_of_three() {
        for (tile, name) in [
            (0, "000"),
            (999, "999"),
            (1000, "x001/000"),
            (1_234_067, "x001/x234/067"),
        ] {
            assert_eq!(number(tile), name);
        }
    }

    /// Grown in steps that end within, at and beyond the end of tiles of two rows.
    #[test]
    #[expect(clippy::too_many_lines, reason = "one register, from its beginning on")]
    fn a_register_grows_and_proves_what_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("register");
        let signer = Signer::new("site", Role::Log, &[1; 32]).unwrap();
        let (mut frontier, mut heads, mut size) = (Frontier::default(), Vec::new(), 0);
        for step in [1, 1, 5, 249, 1, 255, 256, 700, 3, 65_536 - 1471, 2, 300] {
            let new: Vec<_> = (size..size + step).map(entry).collect();
            new.iter()
                .for_each(|entry| frontier.push(tree::leaf(entry)));
            size += step;
            let grown = Register::append_signed(&at, "o", &new, &signer).unwrap();
            assert_eq!(grown.size(), size);
            let (head, _) = signer.verifier().open(grown.note()).unwrap();
            assert_eq!((head.size, head.root), (size, frontier.root()));
            heads.push(head);
        }
        let register = Register::open(&at).unwrap();
        let last = heads.last().unwrap();
        assert_eq!(register.root_of_entries(size).unwrap(), Some(last.root));
        for old in &heads {
            let path = register.consistency(old.size).unwrap();
            assert!(
                tree::extends((old.size, &old.root), (size, &last.root), &path),
                "{}",
                old.size
            );
            let mut wrong = old.root;
            wrong[0] ^= 1;
            assert!(!tree::extends(
                (old.size, &wrong),
                (size, &last.root),
                &path
            ));
            assert_eq!(register.root_of_entries(old.size).unwrap(), Some(old.root));
        }
        for index in [0, 1, 255, 256, 65_535, 65_536, size - 1] {
            let path = register.inclusion(index).unwrap();
            let leaf = tree::leaf(&entry(index));
            assert!(
                tree::includes(leaf, index, size, &path, &last.root),
                "{index}"
            );
            assert!(!tree::includes(
                tree::leaf(b"x"),
                index,
                size,
                &path,
                &last.root
            ));
            assert_eq!(register.entries(index, index + 1).unwrap(), [entry(index)]);
        }
        // No partial tile is left but those at the end.
        let partial = |row: &str| {
            fs::read_dir(at.join("tile").join(row))
                .unwrap()
                .filter(|it| {
                    let name = it.as_ref().unwrap().file_name();
                    let parts = fs::read_dir(at.join("tile").join(row).join(&name))
                        .map_or(0, Iterator::count);
                    name.to_string_lossy().ends_with(".p") && parts > 0
                })
                .count()
        };
        assert_eq!((partial("entries"), partial("0")), (1, 1));
    }

    #[test]
    fn tiles_without_their_checkpoint_are_as_if_they_were_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let signer = Signer::new("site", Role::Log, &[1; 32]).unwrap();
        let grow = |from, to| {
            let new: Vec<_> = (from..to).map(entry).collect();
            Register::append_signed(directory.path(), "o", &new, &signer).unwrap()
        };
        let before = grow(0, 200);
        let checkpoint = fs::read(directory.path().join("checkpoint")).unwrap();
        let tile = directory.path().join("tile/0/000.p/200");
        let entries = directory.path().join("tile/entries/000.p/200");
        let (old, old_entries) = (fs::read(&tile).unwrap(), fs::read(&entries).unwrap());
        grow(200, 300);
        // The machine stopped before the checkpoint was renamed, and so before anything was swept.
        fs::write(directory.path().join("checkpoint"), &checkpoint).unwrap();
        fs::write(&tile, old).unwrap();
        fs::write(&entries, old_entries).unwrap();
        let again = Register::open(directory.path()).unwrap();
        assert_eq!((again.size(), again.note()), (200, before.note()));
        let other = grow(200, 201);
        assert_eq!(other.size(), 201);
        let (head, _) = signer.verifier().open(other.note()).unwrap();
        assert_eq!(other.root_of_entries(201).unwrap(), Some(head.root));
    }
}
