//! A log in parts, each of which fits a sealed object.
//!
//! The first part is the log from its header on. Every other begins with a header of its own, which says whose log it continues, as which
//! part, and after which record. Parts are cut between records, so each can be checked by itself as far as it goes.
//!
//! ```text
//! part   = continued frame*
//! continued = "SLAUDITC" | version u16 | len u16 | postcard(Continued) | link
//! link   = BLAKE3 derive_key("safelight v1 audit continuation", all bytes before it)
//! ```

use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Header, VERSION,
    format::HEADER_MAX,
    pass::{BLOCK_BYTES, Position, blocks},
    record::Checkpoint,
};

/// The first eight bytes of a part that is not the first.
pub const CONTINUED: &[u8; 8] = b"SLAUDITC";

/// The longest header of a part: that of a log and a checkpoint.
const BEGIN_MAX: usize = HEADER_MAX + 64;

/// What a part continues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Continued {
    header: Header,
    /// The first part is 0.
    part: u32,
    after: Checkpoint,
}

fn link(bytes: &[u8]) -> [u8; 32] {
    blake3::derive_key("safelight v1 audit continuation", bytes)
}

impl Continued {
    fn encode(&self) -> Result<Vec<u8>, Error> {
        let body = postcard::to_stdvec(self).map_err(|source| Error::Encode { source })?;
        let len = u16::try_from(body.len()).map_err(|_| Error::TooLong { len: body.len() })?;
        let mut bytes = CONTINUED.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&body);
        let link = link(&bytes);
        bytes.extend_from_slice(&link);
        Ok(bytes)
    }

    /// Reads the header at the beginning of a part, and how many bytes it takes.
    fn find(bytes: &[u8]) -> Option<(Self, usize)> {
        let (fixed, rest) = bytes.split_first_chunk::<12>()?;
        let known = &fixed[..8] == CONTINUED && fixed[8..10] == VERSION.to_le_bytes();
        let len = usize::from(u16::from_le_bytes([fixed[10], fixed[11]]));
        let (body, rest) = rest.split_at_checked(len).filter(|_| known)?;
        let stored = rest.first_chunk::<32>()?;
        match postcard::take_from_bytes(body) {
            Ok((continued, [])) if link(&bytes[..12 + len]) == *stored => {
                Some((continued, 12 + len + 32))
            }
            _ => None,
        }
    }
}

/// True if these are the first bytes of a part that is not the first.
pub fn is_continued(begin: &[u8]) -> bool {
    begin.starts_with(CONTINUED)
}

/// A part that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What it begins with and is not in the file.
    begin: Vec<u8>,
    /// What it has of the file.
    range: Range<u64>,
}

impl Piece {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.begin.len() as u64 + (self.range.end - self.range.start)
    }

    /// True if there is nothing in it, which is so of no part of a log.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes.
    pub fn read<'a, R: Read + Seek + 'a>(&'a self, mut file: R) -> io::Result<impl Read + 'a> {
        file.seek(SeekFrom::Start(self.range.start))?;
        Ok(self
            .begin
            .as_slice()
            .chain(file.take(self.range.end - self.range.start)))
    }
}

/// Cuts a log into parts of at most `most` bytes, or of one record if that is more. One part is the log itself, whatever it is.
pub fn cut<R: Read + Seek>(mut log: R, most: u64) -> Result<Vec<Piece>, Error> {
    let read = |source| Error::Read { source };
    let len = log.seek(SeekFrom::End(0)).map_err(read)?;
    let whole = |range| Piece {
        begin: Vec::new(),
        range,
    };
    if len <= most {
        return Ok(vec![whole(0..len)]);
    }
    let mut pieces = Vec::new();
    let mut current = whole(0..0);
    let step = (most / 16).clamp(1, BLOCK_BYTES as u64) as usize;
    blocks(&mut log, step, |header, from: Position, to: Position| {
        let grown = current.begin.len() as u64 + (to.offset - current.range.start);
        if grown > most && current.range.end > current.range.start {
            let continued = Continued {
                header: header.clone(),
                part: pieces.len() as u32 + 1,
                after: from.at,
            };
            let next = Piece {
                begin: continued.encode()?,
                range: from.offset..from.offset,
            };
            pieces.push(std::mem::replace(&mut current, next));
        }
        current.range.end = to.offset;
        Ok(())
    })?;
    // What a crash left behind the last record goes with it.
    current.range.end = len;
    pieces.push(current);
    Ok(pieces)
}

/// A log that was cut into parts, as it was before.
#[derive(Debug)]
pub struct Joined<S> {
    parts: Vec<Part<S>>,
    at: u64,
}

#[derive(Debug)]
struct Part<S> {
    source: S,
    /// Where what it has of the log begins in it.
    skip: u64,
    /// Where that is in the log.
    range: Range<u64>,
}

impl<S: Read + Seek> Joined<S> {
    /// Puts parts together. Each must continue the one before it, of the same log.
    pub fn new(sources: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let read = |source| Error::Read { source };
        let mut parts: Vec<Part<S>> = Vec::new();
        let mut first = None;
        for (number, mut source) in sources.into_iter().enumerate() {
            let wrong = || Error::Part {
                part: number as u64 + 1,
            };
            let len = source.seek(SeekFrom::End(0)).map_err(read)?;
            let begin = begin_of(&mut source).map_err(read)?;
            let skip = match parts.last_mut() {
                None => {
                    first = Some(Header::find(&begin)?.header);
                    0
                }
                Some(before) => {
                    let (continued, skip) = Continued::find(&begin).ok_or_else(wrong)?;
                    let fits = Some(&continued.header) == first.as_ref()
                        && continued.part as usize == number
                        && last_link(&mut before.source).map_err(read)? == continued.after.chain;
                    if !fits {
                        return Err(wrong());
                    }
                    skip as u64
                }
            };
            let start = parts.last().map_or(0, |part| part.range.end);
            let range = start..start + (len - skip);
            parts.push(Part {
                source,
                skip,
                range,
            });
        }
        Ok(Self { parts, at: 0 })
    }
}

fn begin_of<S: Read + Seek>(source: &mut S) -> io::Result<Vec<u8>> {
    source.seek(SeekFrom::Start(0))?;
    let mut begin = Vec::new();
    source.take(BEGIN_MAX as u64).read_to_end(&mut begin)?;
    Ok(begin)
}

/// The link of the last record: a part ends with it.
fn last_link<S: Read + Seek>(source: &mut S) -> io::Result<[u8; 32]> {
    source.seek(SeekFrom::End(-32))?;
    let mut link = [0; 32];
    source.read_exact(&mut link)?;
    Ok(link)
}

impl<S: Read + Seek> Read for Joined<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = self.at;
        let part = self.parts.iter_mut().find(|part| part.range.contains(&at));
        let Some(part) = part else { return Ok(0) };
        part.source
            .seek(SeekFrom::Start(part.skip + (at - part.range.start)))?;
        let count = (&mut part.source).take(part.range.end - at).read(buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl<S> Seek for Joined<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let end = self.parts.last().map_or(0, |part| part.range.end);
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(step) => end.checked_add_signed(step),
            SeekFrom::Current(step) => self.at.checked_add_signed(step),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
