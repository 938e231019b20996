//! Reads an object, and goes on where it breaks off.

use std::io::{self, Read};

use ureq::Body;

use super::wire::Wire;

/// How often one object may break off without a byte in between.
const BREAKS_MAX: u32 = 3;

/// An object that is being read. What is read is judged by its hash, so it need not be one version of it.
pub(super) struct Resuming<'a> {
    wire: &'a Wire,
    key: String,
    len: u64,
    at: u64,
    body: Box<dyn Read + 'a>,
    breaks: u32,
}

impl<'a> Resuming<'a> {
    pub(super) fn new(wire: &'a Wire, key: String, len: u64, body: Body) -> Self {
        Self {
            wire,
            key,
            len,
            at: 0,
            body: Box::new(body.into_reader()),
            breaks: 0,
        }
    }

    fn again(&mut self, why: io::Error) -> io::Result<()> {
        self.breaks += 1;
        if self.breaks > BREAKS_MAX {
            return Err(why);
        }
        let got = self.wire.get(&self.key, self.at);
        match got.map_err(io::Error::other)? {
            Some((rest, body)) if self.at + rest == self.len => {
                self.body = Box::new(body.into_reader());
                Ok(())
            }
            // It is another by now, or gone.
            _ => Err(why),
        }
    }
}

impl Read for Resuming<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.at >= self.len {
            return Ok(0);
        }
        loop {
            let most = usize::try_from(self.len - self.at).unwrap_or(out.len());
            let most = most.min(out.len());
            match self.body.read(&mut out[..most]) {
                Ok(0) => self.again(io::ErrorKind::UnexpectedEof.into())?,
                Ok(count) => {
                    self.at += count as u64;
                    self.breaks = 0;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.again(error)?,
            }
        }
    }
}
