//! One pass over a whole log, by as many threads as there are processors.
//!
//! A record's link depends on the *stored* link before it, so whether each record follows can be judged for all at once. One thread cuts the
//! file into blocks of whole frames, which takes no more than stepping from length to length; the others hash, parse and whatever else is
//! asked of them. Answers come in the order of the blocks.
//!
//! A pass says only whether everything is as it should be. What is wrong where, [`crate::verify`] says.

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use crate::{
    Error, Header,
    format::{Chain, FRAME_MAX, Frame, HEADER_MAX, Linker, Split, split},
    record::{Checkpoint, RecordRef},
};

/// The most records of a block.
pub const BLOCK_RECORDS: u64 = 65_536;

/// A block ends with the frame that reaches this many bytes.
pub const BLOCK_BYTES: usize = 16 << 20;

/// How many bytes are asked of the file at once.
const READ: usize = 1 << 20;

/// The most threads; more than memory can feed would be of no use.
const WORKERS_MAX: usize = 16;

/// A place between two records of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// In bytes from the beginning.
    pub offset: u64,
    /// The records before it.
    pub at: Checkpoint,
}

/// Whole frames of a log that follow each other.
pub struct Block {
    bytes: Vec<u8>,
    /// Where the first of them begins.
    pub from: Position,
    /// Where the last of them ends, by what is stored there.
    pub to: Position,
}

/// A record of a block.
pub struct Entry<'a> {
    /// Where its frame begins, in bytes from the beginning of the block.
    pub offset: usize,
    /// The encoded record: a leaf of the tree.
    pub encoded: &'a [u8],
    /// The record.
    pub record: RecordRef<'a>,
    /// Its link.
    pub link: Chain,
}

impl Block {
    /// The block between two places of a log that were noted when a pass was over it.
    pub fn read<R: Read + Seek>(
        mut source: R,
        (from, to): (Position, Position),
    ) -> Result<Self, Error> {
        let read = |source| Error::Read { source };
        source.seek(SeekFrom::Start(from.offset)).map_err(read)?;
        let len = to.offset.saturating_sub(from.offset);
        let mut bytes = Vec::new();
        source.take(len).read_to_end(&mut bytes).map_err(read)?;
        Ok(Self { bytes, from, to })
    }

    /// The records. The first that does not follow from the one before, or has another number, is `None` and the last.
    pub fn records(&self) -> Entries<'_> {
        Entries {
            block: self,
            linker: Linker::new(),
            offset: 0,
            number: self.from.at.records,
            link: self.from.at.chain,
            ended: false,
        }
    }

    /// The frames, one upon the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The records of a block; see [`Block::records`].
pub struct Entries<'a> {
    block: &'a Block,
    linker: Linker,
    offset: usize,
    number: u64,
    link: Chain,
    ended: bool,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Option<Entry<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let Split::Frame(frame) = split(self.block.bytes.get(self.offset..)?) else {
            return None;
        };
        if self.ended {
            return None;
        }
        let offset = self.offset;
        let entry = self.judge(&frame, offset);
        self.ended = entry.is_none();
        self.offset += frame.size();
        self.number += 1;
        self.link = frame.stored;
        Some(entry)
    }
}

impl<'a> Entries<'a> {
    fn judge(&self, frame: &Frame<'a>, offset: usize) -> Option<Entry<'a>> {
        let record = RecordRef::read(frame.body)?;
        let follows = record.seq == self.number + 1
            && self.linker.link(&self.link, frame.body) == frame.stored;
        follows.then_some(Entry {
            offset,
            encoded: frame.body,
            record,
            link: frame.stored,
        })
    }
}

/// The encoded record in the frame at the beginning of these bytes; otherwise how many are needed at least.
pub fn encoded(bytes: &[u8]) -> Result<&[u8], usize> {
    match split(bytes) {
        Split::Frame(frame) => Ok(frame.body),
        _ => Err(bytes
            .first_chunk::<4>()
            .map_or(4, |len| 4 + u32::from_le_bytes(*len) as usize + 32)
            .min(FRAME_MAX)),
    }
}

/// How a pass went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Whose log it is.
    pub header: Header,
    /// The end of the last whole frame.
    pub end: Position,
    /// True if every byte of the file was in a whole frame and every answer was taken.
    pub complete: bool,
}

/// Where a log's records begin, and whose it is. The header must be as it was written.
pub fn begin<R: Read + Seek>(mut source: R) -> Result<(Header, Position), Error> {
    let read = |source| Error::Read { source };
    source.seek(SeekFrom::Start(0)).map_err(read)?;
    let mut bytes = Vec::new();
    (&mut source)
        .take(HEADER_MAX as u64)
        .read_to_end(&mut bytes)
        .map_err(read)?;
    let found = Header::find(&bytes)?;
    if found.stored != found.computed {
        return Err(Error::NotALog);
    }
    let position = Position {
        offset: found.size as u64,
        at: Checkpoint {
            records: 0,
            chain: found.stored,
        },
    };
    Ok((found.header, position))
}

/// Steps over a log by its lengths alone and shows the ends of each block of about so many bytes to `each`.
pub(crate) fn blocks<R: Read + Seek>(
    mut source: R,
    bytes: usize,
    mut each: impl FnMut(&Header, Position, Position) -> Result<(), Error>,
) -> Result<(), Error> {
    let (header, from) = begin(&mut source)?;
    source
        .seek(SeekFrom::Start(from.offset))
        .map_err(|source| Error::Read { source })?;
    let mut cutter = Cutter {
        source,
        rest: Vec::new(),
        at: from,
        bytes,
    };
    while let Some(block) = cutter.next()? {
        each(&header, block.from, block.to)?;
    }
    Ok(())
}

/// Goes over a log from its beginning: `each` is asked of every block by some thread, and its answers go to `take` in order until that is
/// false.
pub fn pass<R, T>(
    mut source: R,
    each: impl Fn(&Block) -> T + Sync,
    mut take: impl FnMut(T) -> bool,
) -> Result<Passed, Error>
where
    R: Read + Seek,
    T: Send,
{
    let (header, from) = begin(&mut source)?;
    source
        .seek(SeekFrom::Start(from.offset))
        .map_err(|source| Error::Read { source })?;
    let mut cutter = Cutter {
        source,
        rest: Vec::new(),
        at: from,
        bytes: BLOCK_BYTES,
    };
    let workers = thread::available_parallelism().map_or(1, |count| count.get().min(WORKERS_MAX));
    let all = thread::scope(|scope| {
        // Blocks that wait and answers that wait are few, so a log of any size takes the same memory.
        let (give, blocks) = mpsc::sync_channel::<(u64, Block)>(workers);
        let (answer, answers) = mpsc::channel();
        let (blocks, each) = (Arc::new(Mutex::new(blocks)), &each);
        for _ in 0..workers {
            let (blocks, answer) = (Arc::clone(&blocks), answer.clone());
            scope.spawn(move || {
                loop {
                    let next = blocks.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((number, block)) = next else { return };
                    if answer.send((number, each(&block))).is_err() {
                        return;
                    }
                }
            });
        }
        // Only the workers hold these ends now: without workers nobody waits for them.
        drop((blocks, answer));
        cutter.feed(give, &answers, workers, &mut take)
    })?;
    let complete = all && cutter.rest.is_empty();
    Ok(Passed {
        header,
        end: cutter.at,
        complete,
    })
}

/// Cuts a log into blocks.
struct Cutter<R> {
    source: R,
    /// Bytes that were read and are in no block yet.
    rest: Vec<u8>,
    at: Position,
    /// A block ends with the frame that reaches this many bytes.
    bytes: usize,
}

impl<R: Read> Cutter<R> {
    /// Hands out all blocks and takes the answers in order; false if `take` wanted no more.
    fn feed<T>(
        &mut self,
        give: mpsc::SyncSender<(u64, Block)>,
        answers: &mpsc::Receiver<(u64, T)>,
        workers: usize,
        take: &mut impl FnMut(T) -> bool,
    ) -> Result<bool, Error> {
        let (mut given, mut taken) = (0, 0);
        let mut early = BTreeMap::new();
        let mut more = true;
        while more || taken < given {
            if more && given - taken < 2 * workers as u64 {
                match self.next()? {
                    Some(block) => match give.send((given, block)) {
                        Ok(()) => given += 1,
                        // Every worker has panicked, and the scope says so.
                        Err(_) => return Ok(false),
                    },
                    None => more = false,
                }
                continue;
            }
            let Ok((number, answer)) = answers.recv() else {
                return Ok(false);
            };
            early.insert(number, answer);
            while let Some(answer) = early.remove(&taken) {
                taken += 1;
                if !take(answer) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The next block; `None` if no whole frame is left.
    fn next(&mut self) -> Result<Option<Block>, Error> {
        let mut bytes = std::mem::take(&mut self.rest);
        let (from, mut end, mut to) = (self.at, 0, self.at);
        while end < self.bytes && to.at.records - from.at.records < BLOCK_RECORDS {
            match split(&bytes[end..]) {
                Split::Frame(frame) => {
                    end += frame.size();
                    to.at.records += 1;
                    to.at.chain = frame.stored;
                }
                Split::NoFrame => break,
                Split::End | Split::Short => {
                    if !self.read(&mut bytes)? {
                        break;
                    }
                }
            }
        }
        to.offset += end as u64;
        self.rest = bytes.split_off(end);
        self.at = to;
        Ok((end > 0).then_some(Block { bytes, from, to }))
    }

    fn read(&mut self, bytes: &mut Vec<u8>) -> Result<bool, Error> {
        (&mut self.source)
            .take(READ as u64)
            .read_to_end(bytes)
            .map(|count| count > 0)
            .map_err(|source| Error::Read { source })
    }
}
