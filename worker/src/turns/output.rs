//! What the actions of a session print, on its way out: read for what an environment says of variables, and rid of secrets.
//!
//! A pipe may outlive its action: what an environment left running goes on printing. So all pipes are kept until they end, and none of them is
//! ever waited for.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};

use super::words::{self, Change};

/// The longest line that is read as a whole.
const LINE_MAX: usize = 128 * 1024;

/// The most variables and secrets that are remembered.
const HEARD_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct Output {
    streams: Vec<Stream>,
    secrets: Vec<Vec<u8>>,
    heard: Vec<Change>,
}

struct Stream {
    from: OwnedFd,
    /// 1 or 2.
    to: u8,
    /// What it says of variables is heard.
    speaks: bool,
    /// The line so far.
    line: Vec<u8>,
}

impl Output {
    pub(super) fn add(&mut self, from: OwnedFd, to: u8, speaks: bool) -> io::Result<()> {
        fcntl_setfl(&from, fcntl_getfl(&from)? | OFlags::NONBLOCK)?;
        self.streams.push(Stream {
            from,
            to,
            speaks,
            line: Vec::new(),
        });
        Ok(())
    }

    /// What may have something to say.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.streams.iter().map(|stream| stream.from.as_fd())
    }

    /// Passes on what is there now; what has ended is let go.
    pub(super) fn pass(&mut self) {
        let mut streams = std::mem::take(&mut self.streams);
        streams.retain_mut(|stream| self.drain(stream));
        self.streams = streams;
    }

    /// False at its end.
    fn drain(&mut self, stream: &mut Stream) -> bool {
        let mut buffer = [0; 16 * 1024];
        loop {
            match rustix::io::read(&stream.from, &mut buffer) {
                Ok(0) => break,
                Ok(count) => self.take(stream, &buffer[..count]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => break,
            }
        }
        let rest = std::mem::take(&mut stream.line);
        self.line(stream, &rest);
        false
    }

    fn take(&mut self, stream: &mut Stream, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            stream.line.extend_from_slice(part);
            if part.ends_with(b"\n") || stream.line.len() >= LINE_MAX {
                let line = std::mem::take(&mut stream.line);
                self.line(stream, &line);
            }
        }
        // Nothing is held back where nothing has to be.
        if self.secrets.is_empty() && !stream.speaks {
            let line = std::mem::take(&mut stream.line);
            self.line(stream, &line);
        }
    }

    fn line(&mut self, stream: &Stream, line: &[u8]) {
        let said = if stream.speaks {
            words::read(line)
        } else {
            None
        };
        if let Some(said) = said
            && self.heard.len() < HEARD_MAX
        {
            if let (true, Change::Set { value, .. }) = (said.secret, &said.change)
                && self.secrets.len() < HEARD_MAX
            {
                words::keep_secret(&mut self.secrets, value);
            }
            self.heard.push(said.change);
        }
        write(stream.to, &words::redact(line, &self.secrets));
    }

    /// What was said of variables since this was last asked.
    pub(super) fn heard(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.heard)
    }

    /// Our own word, on standard error.
    pub(super) fn say(&self, text: &str) {
        write(2, text.as_bytes());
    }

    /// The last of what is there.
    pub(super) fn finish(&mut self) {
        self.pass();
        for mut stream in std::mem::take(&mut self.streams) {
            let rest = std::mem::take(&mut stream.line);
            self.line(&stream, &rest);
        }
    }
}

/// A reader that is gone takes nothing, and that is no failure of the action.
fn write(to: u8, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let written = if to == 1 {
            rustix::io::write(rustix::stdio::stdout(), bytes)
        } else {
            rustix::io::write(rustix::stdio::stderr(), bytes)
        };
        match written {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
