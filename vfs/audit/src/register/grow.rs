//! How a register grows: the tiles at the end of each row, then the checkpoint, by one writer at a time.

use std::{
    cell::RefCell,
    fs::{self, DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use nix::fcntl::{Flock, FlockArg};

use super::{ROW, Register, WIDTH, write_whole};
use crate::{
    Error,
    note::{Head, Signer},
    statement::STATEMENT_MAX,
    tree::{self, Frontier, Hash},
};

impl Register {
    /// Appends entries, and the note that `sign` answers for the new head. When this returns it is on the disk; if `sign` fails, the
    /// register is as it was.
    pub fn append_checked(
        directory: &Path,
        origin: &str,
        entries: &[Vec<u8>],
        sign: impl FnOnce(&Head) -> Result<String, Error>,
    ) -> Result<Self, Error> {
        let _lock = lock(directory)?;
        let register = Self::open(directory)?;
        if entries.is_empty() && register.size() > 0 {
            return Ok(register);
        }
        let nodes = |level, index| register.node(level, index);
        let mut frontier = Frontier::of(register.size(), &nodes)?;
        let mut rows = Rows::of(&register)?;
        for entry in entries {
            if entry.len() > STATEMENT_MAX {
                return Err(Error::TooLong { len: entry.len() });
            }
            let leaf = tree::leaf(entry);
            frontier.push(leaf);
            rows.push(entry, leaf);
        }
        rows.write(&register)?;
        let head = Head {
            origin: origin.to_owned(),
            size: frontier.size(),
            root: frontier.root(),
        };
        let note = sign(&head)?;
        write_whole(&directory.join("checkpoint"), note.as_bytes())?;
        // What the narrower tiles held is in the wider ones.
        rows.sweep(&register);
        Ok(Self {
            directory: register.directory,
            head: Some(head),
            note,
            tiles: RefCell::default(),
        })
    }

    /// The same, with this signer.
    pub fn append_signed(
        directory: &Path,
        origin: &str,
        entries: &[Vec<u8>],
        signer: &Signer,
    ) -> Result<Self, Error> {
        Self::append_checked(directory, origin, entries, |head| Ok(signer.sign(head, 0)))
    }
}

fn lock(directory: &Path) -> Result<Flock<File>, Error> {
    let failed = |source| Error::Open {
        path: directory.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(directory.join("lock"))
        .map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| failed(errno.into()))
}

/// The tiles at the end of each row, which is where a register grows.
struct Rows {
    begin: u64,
    entries: Vec<u8>,
    leaves: Vec<Hash>,
}

impl Rows {
    fn of(register: &Register) -> Result<Self, Error> {
        let size = register.size();
        let begin = size / WIDTH * WIDTH;
        let mut rows = Self {
            begin,
            entries: Vec::new(),
            leaves: Vec::new(),
        };
        for entry in register.entries(begin, size)? {
            rows.push(&entry, tree::leaf(&entry));
        }
        Ok(rows)
    }

    fn push(&mut self, entry: &[u8], leaf: Hash) {
        let len = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        self.entries.extend_from_slice(&len.to_be_bytes());
        self.entries.extend_from_slice(entry);
        self.leaves.push(leaf);
    }

    /// Writes every tile that is another than before.
    fn write(&self, register: &Register) -> Result<(), Error> {
        let mut rest = self.entries.as_slice();
        for (tile, some) in (self.begin / WIDTH..).zip(self.leaves.chunks(WIDTH as usize)) {
            let mut len = 0;
            for _ in some {
                let entry = rest.get(len..).and_then(|rest| rest.first_chunk::<2>());
                len += 2 + entry.map_or(0, |len| usize::from(u16::from_be_bytes(*len)));
            }
            let (these, others) = rest.split_at(len.min(rest.len()));
            rest = others;
            write_whole(&register.path("entries", tile, some.len() as u64), these)?;
        }
        let (mut row, mut first, mut hashes) = (0_u32, self.begin, self.leaves.clone());
        // Full tiles make the hashes of the row above, whose last tile may have begun before.
        while !hashes.is_empty() {
            let mut above = Vec::new();
            for (tile, some) in (first / WIDTH..).zip(hashes.chunks(WIDTH as usize)) {
                let bytes: Vec<u8> = some.concat();
                write_whole(
                    &register.path(&row.to_string(), tile, some.len() as u64),
                    &bytes,
                )?;
                if some.len() as u64 == WIDTH {
                    let mut level = some.to_vec();
                    while level.len() > 1 {
                        level = level
                            .chunks_exact(2)
                            .map(|pair| tree::node(&pair[0], &pair[1]))
                            .collect();
                    }
                    above.extend(level);
                }
            }
            if above.is_empty() {
                break;
            }
            row += 1;
            let next = first / WIDTH;
            first = next / WIDTH * WIDTH;
            let mut before = Vec::new();
            for index in first..next {
                before.push(register.node(row * ROW, index)?);
            }
            before.extend(above);
            hashes = before;
        }
        Ok(())
    }

    /// Removes the partial tiles of the register as it was. That one is left does no harm.
    fn sweep(&self, register: &Register) {
        let mut count = register.size();
        for row in 0..8_u32 {
            let width = count % WIDTH;
            if width > 0 {
                let names = match row {
                    0 => vec!["entries".to_owned(), "0".to_owned()],
                    row => vec![row.to_string()],
                };
                for name in names {
                    let path = register.path(&name, count / WIDTH, width);
                    let grown = register.size()
                        + (self.leaves.len() as u64 - (register.size() - self.begin));
                    // The row did not grow: its tile is still needed.
                    if (grown >> (ROW * row)) != count {
                        let _ = fs::remove_file(path);
                    }
                }
            }
            count >>= ROW;
        }
    }
}
