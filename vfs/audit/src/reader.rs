//! Reads the records of a log in order, and stops at the first that does not follow from the one before.

use std::io::Read;

use crate::{
    Error, Header,
    format::{FRAME_MAX, HEADER_MAX, Linker, Split, split, split_despite_length},
    record::{Checkpoint, Record},
    tree::{self, Frontier, Hash},
    window::Window,
};

/// A streaming reader. As an iterator it ends at the end of the log or at an incomplete last record (see [`Reader::torn`]); on a log
/// that is still being written, more may come when it is asked again.
pub struct Reader<R> {
    window: Window<R>,
    linker: Linker,
    header: Header,
    checkpoint: Checkpoint,
    offset: u64,
    torn: u64,
    tree: Option<Frontier>,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub fn open(source: R) -> Result<Self, Error> {
        let mut window = Window::new(source);
        let bytes = window
            .peek(HEADER_MAX)
            .map_err(|source| Error::Read { source })?;
        let found = Header::find(bytes)?;
        if found.stored != found.computed {
            return Err(Error::NotALog);
        }
        window.advance(found.size);
        Ok(Self {
            window,
            linker: Linker::new(),
            header: found.header,
            checkpoint: Checkpoint {
                records: 0,
                chain: found.stored,
            },
            offset: found.size as u64,
            torn: 0,
            tree: None,
        })
    }

    /// Keeps the head of the tree over the records, whose leaves are the encoded records as they stand in the file.
    pub fn with_tree(mut self) -> Self {
        self.tree = Some(Frontier::default());
        self
    }

    /// The root of the tree over the records that were read; `None` if it is not kept.
    pub fn root(&self) -> Option<Hash> {
        self.tree.as_ref().map(Frontier::root)
    }

    /// The encoded records from here on, each a leaf of the tree, until the end or the first that is not authentic.
    pub fn leaves(mut self, mut each: impl FnMut(&Record, Hash)) -> Result<(), Error> {
        loop {
            let leaf = match split(
                self.window
                    .peek_frame()
                    .map_err(|source| Error::Read { source })?,
            ) {
                Split::Frame(frame) => tree::leaf(frame.body),
                _ => return Ok(()),
            };
            match self.step()? {
                Some(record) => each(&record, leaf),
                None => return Ok(()),
            }
        }
    }

    /// Whose log it is.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The state of the log up to the last record that was read.
    pub fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// Where the last record that was read ends, in bytes from the beginning.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes of an incomplete record after the last whole one; zero until the end was reached.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    fn step(&mut self) -> Result<Option<Record>, Error> {
        let read = |source| Error::Read { source };
        let seq = self.checkpoint.records + 1;
        let damaged = Error::Damaged { record: seq };
        let previous = self.checkpoint.chain;
        match split(self.window.peek_frame().map_err(read)?) {
            Split::End => {
                self.torn = 0;
                Ok(None)
            }
            Split::Frame(frame) => {
                let record = frame.record().filter(|record| record.seq == seq);
                let record = record.ok_or(damaged)?;
                if self.linker.link(&previous, frame.body) != frame.stored {
                    return Err(Error::Damaged { record: seq });
                }
                let (stored, size) = (frame.stored, frame.size());
                if let Some(tree) = &mut self.tree {
                    tree.push(tree::leaf(frame.body));
                }
                self.window.advance(size);
                self.offset += size as u64;
                self.torn = 0;
                self.checkpoint = Checkpoint {
                    records: seq,
                    chain: stored,
                };
                Ok(Some(record))
            }
            Split::Short => {
                let rest = self.window.peek(FRAME_MAX).map_err(read)?;
                if split_despite_length(&self.linker, &previous, rest).is_some() {
                    return Err(damaged);
                }
                self.torn = rest.len() as u64;
                Ok(None)
            }
            // A file system may leave zeros where a file had grown and its bytes had not arrived when the machine stopped.
            Split::NoFrame => match self.window.drain().map_err(read)? {
                (bytes, true) => {
                    self.torn = bytes;
                    Ok(None)
                }
                _ => Err(damaged),
            },
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
