//! The working file on its disk: long pieces past the kernel's page cache, short ones through it.
//!
//! What a session wrote lately is in the page cache of its mount already, as plaintext. Ciphertext beside it would cost memory, a copy on
//! the way out and another on the way back. So long pieces go straight between our memory and the disk, where the file system can do that.
//! Short ones are rewritten and read back in parts: those stay in the page cache.

use std::{
    fs::File,
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
};

/// The least bytes that go past the page cache.
const LONG: usize = 128 << 10;

/// What begin, end and memory of such a piece must be multiples of: as much as any disk of today asks for.
pub(crate) const ALIGNMENT: usize = 4096;

/// The file, open in both ways.
pub(super) struct WorkingFile {
    cached: File,
    direct: Option<File>,
}

impl WorkingFile {
    /// Of a file that is open for reading and writing.
    pub(super) fn new(file: File) -> Self {
        let direct = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT | libc::O_CLOEXEC)
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let direct =
            direct.inspect_err(|error| tracing::debug!(%error, "the working file is cached twice"));
        Self {
            cached: file,
            direct: direct.ok(),
        }
    }

    /// Writes whole blocks. True if they went past the page cache, which is how they are to be read.
    pub(super) fn write(&self, bytes: &[u8], at: u64) -> io::Result<bool> {
        if let Some(direct) = self.direct.as_ref().filter(|_| is_long(bytes)) {
            match direct.write_all_at(bytes, at) {
                // A file system may take the flag and refuse the piece.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                written => return written.map(|()| true),
            }
        }
        self.cached.write_all_at(bytes, at).map(|()| false)
    }

    /// Reads all of `out`; with `past`, all of it was written past the page cache.
    pub(super) fn read(&self, out: &mut [u8], at: u64, past: bool) -> io::Result<()> {
        if let Some(direct) = self.direct.as_ref().filter(|_| past && is_long(out)) {
            return direct.read_exact_at(out, at);
        }
        self.cached.read_exact_at(out, at)
    }
}

fn is_long(bytes: &[u8]) -> bool {
    let fits = bytes.len().is_multiple_of(ALIGNMENT) && bytes.as_ptr().align_offset(ALIGNMENT) == 0;
    fits && bytes.len() >= LONG
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a buffer that lie as a disk wants them.
    fn piece(room: &mut Vec<u8>, len: usize) -> &mut [u8] {
        room.resize(len + ALIGNMENT, 0);
        let skip = room.as_ptr().align_offset(ALIGNMENT);
        &mut room[skip..skip + len]
    }

    #[test]
    fn long_and_short_pieces_read_back_whichever_way_they_went() {
        let (mut room, mut back) = (Vec::new(), Vec::new());
        for directory in [std::env::temp_dir(), "/dev/shm".into()] {
            let file = WorkingFile::new(tempfile::tempfile_in(&directory).unwrap());
            for (at, len) in [
                (0, LONG),
                (1 << 20, 512),
                (2 << 20, 4 * LONG),
                (3 << 20, LONG + 7),
            ] {
                let bytes = piece(&mut room, len);
                for (index, byte) in bytes.iter_mut().enumerate() {
                    *byte = (index / 3 + len) as u8;
                }
                let past = file.write(bytes, at).unwrap();
                assert!(!past || is_long(bytes), "{len}");
                for past in [past, false] {
                    let out = piece(&mut back, len);
                    out.fill(0);
                    file.read(out, at, past).unwrap();
                    assert!(out == bytes, "{len} {past}");
                }
            }
            // Where a disk cannot reach it, memory goes through the cache.
            let bytes = &piece(&mut room, 2 * LONG)[1..=LONG];
            assert!(!file.write(bytes, 0).unwrap());
        }
    }

    #[test]
    fn beyond_the_end_there_is_nothing() {
        let file = WorkingFile::new(tempfile::tempfile().unwrap());
        let mut room = Vec::new();
        let past = file.write(piece(&mut room, LONG), 0).unwrap();
        let ended = file.read(piece(&mut room, 2 * LONG), 0, past).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }
}
