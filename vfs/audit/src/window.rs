//! A bounded look-ahead over a stream, so that a log of any size is read in the same memory.

use std::io::{self, Read};

use crate::format::FRAME_MAX;

/// At least one whole frame, and enough that moving the rest to the front is rare.
const CAPACITY: usize = 4 * FRAME_MAX;

pub(crate) struct Window<R> {
    source: R,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> Window<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            bytes: vec![0; CAPACITY],
            start: 0,
            end: 0,
        }
    }

    /// The bytes that come next: at least `want` of them (at most [`FRAME_MAX`]) unless the stream ends before.
    pub(crate) fn peek(&mut self, want: usize) -> io::Result<&[u8]> {
        if self.end - self.start < want {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < want {
                match self.source.read(&mut self.bytes[self.end..]) {
                    Ok(0) => break,
                    Ok(count) => self.end += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(&self.bytes[self.start..self.end])
    }

    /// The bytes of the frame that comes next, or all that are left of it.
    pub(crate) fn peek_frame(&mut self) -> io::Result<&[u8]> {
        let head = self.peek(4)?;
        let len = head
            .first_chunk::<4>()
            .map_or(0, |len| u32::from_le_bytes(*len) as usize);
        self.peek(len.saturating_add(4 + 32).min(FRAME_MAX))
    }

    /// Steps over `count` bytes that were seen.
    pub(crate) fn advance(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Reads to the end: how many bytes were left, and whether all of them are zero.
    pub(crate) fn drain(&mut self) -> io::Result<(u64, bool)> {
        let (mut count, mut zero) = (0, true);
        loop {
            let seen = self.peek(1)?;
            if seen.is_empty() {
                return Ok((count, zero));
            }
            zero &= seen.iter().all(|byte| *byte == 0);
            let len = seen.len();
            count += len as u64;
            self.advance(len);
        }
    }

    pub(crate) fn into_inner(self) -> R {
        self.source
    }
}
