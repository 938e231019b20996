//! What every contender is made to do: the same bytes, the same calls, the same clock.
//!
//! Bytes are random, so that nothing can be compressed, and each page of 4 KiB begins with its own number, so that no two segments are
//! equal and whoever reads can tell that it reads what was written.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Bytes of one call.
const CALL: usize = 1 << 20;

/// Bytes of a page, and of a random write.
pub(super) const PAGE: usize = 4096;

/// A generator of numbers that look random (xorshift64, Marsaglia 2003). Not for secrets.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Random bytes of one call, whose pages are numbered anew for each.
pub(super) struct Data {
    bytes: Vec<u8>,
}

impl Data {
    pub(super) fn new() -> Self {
        let mut numbers = Numbers::new(20);
        let words = (0..CALL / 8).flat_map(|_| numbers.next().to_le_bytes());
        Self {
            bytes: words.collect(),
        }
    }

    /// The bytes from `offset` on, which is a multiple of a page.
    fn at(&mut self, offset: u64, len: usize) -> &[u8] {
        for (index, page) in self.bytes[..len].chunks_mut(PAGE).enumerate() {
            let number = offset / PAGE as u64 + index as u64;
            let count = page.len().min(8);
            page[..count].copy_from_slice(&number.to_le_bytes()[..count]);
        }
        &self.bytes[..len]
    }
}

/// Writes a new file from beginning to end and has it made durable.
pub(super) fn write(path: &Path, len: u64, data: &mut Data) -> io::Result<Duration> {
    let begun = Instant::now();
    let mut file = File::create(path)?;
    let mut at = 0;
    while at < len {
        let count = (len - at).min(CALL as u64) as usize;
        file.write_all(data.at(at, count))?;
        at += count as u64;
    }
    file.sync_all()?;
    Ok(begun.elapsed())
}

/// Reads a file from beginning to end; fails if a page is not what was written there.
pub(super) fn read(path: &Path) -> io::Result<(u64, Duration)> {
    let mut buffer = vec![0; CALL];
    let begun = Instant::now();
    let mut file = File::open(path)?;
    let mut at = 0;
    loop {
        let count = fill(&mut file, &mut buffer)?;
        for (index, page) in buffer[..count].chunks(PAGE).enumerate() {
            let number = at / PAGE as u64 + index as u64;
            if page.len() >= 8 && page[..8] != number.to_le_bytes() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("page {number} is not what was written"),
                ));
            }
        }
        at += count as u64;
        if count < CALL {
            return Ok((at, begun.elapsed()));
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Writes every page of a file once, in an order of no order, and has it made durable.
pub(super) fn write_pages(path: &Path, seed: u64) -> io::Result<Duration> {
    let file = File::options().write(true).open(path)?;
    let pages = file.metadata()?.len() / PAGE as u64;
    let mut order: Vec<u64> = (0..pages).collect();
    let mut numbers = Numbers::new(seed);
    for at in (1..order.len()).rev() {
        order.swap(at, (numbers.next() % (at as u64 + 1)) as usize);
    }
    let mut page = [0; PAGE];
    for word in page.chunks_mut(8) {
        word.copy_from_slice(&numbers.next().to_le_bytes());
    }
    let begun = Instant::now();
    for number in order {
        page[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all_at(&page, number * PAGE as u64)?;
    }
    file.sync_all()?;
    Ok(begun.elapsed())
}

/// Files of a small tree: this many in each directory.
const IN_ONE: usize = 100;

/// Makes a tree of small files, as a source archive has them: most of a few KiB, a few larger. Answers their bytes.
pub(super) fn make_tree(root: &Path, files: usize) -> io::Result<u64> {
    let mut numbers = Numbers::new(7);
    let mut total = 0;
    for number in 0..files {
        let directory = root.join(format!("d{:03}", number / IN_ONE));
        if number % IN_ONE == 0 {
            fs::create_dir_all(&directory)?;
        }
        let largest = if number % 10 == 0 {
            32 * 1024
        } else {
            8 * 1024
        };
        let len = 1 + (numbers.next() % largest) as usize;
        let bytes: Vec<u8> = (0..len.div_ceil(8))
            .flat_map(|_| numbers.next().to_le_bytes())
            .take(len)
            .collect();
        fs::write(directory.join(format!("file-{number:05}.txt")), bytes)?;
        total += len as u64;
    }
    Ok(total)
}

/// Every file below a directory, with its length as `stat` has it.
pub(super) fn list(root: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut next = vec![root.to_owned()];
    while let Some(directory) = next.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                next.push(entry.path());
            } else {
                found.push((entry.path(), metadata.len()));
            }
        }
    }
    Ok(found)
}

/// Reads every one of these files whole. Answers the bytes.
pub(super) fn read_all(files: &[(PathBuf, u64)]) -> io::Result<u64> {
    let mut buffer = Vec::new();
    let mut total = 0;
    for (path, len) in files {
        buffer.clear();
        File::open(path)?.read_to_end(&mut buffer)?;
        if buffer.len() as u64 != *len {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} has another length than it said", path.display()),
            ));
        }
        total += len;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_told_from_what_was_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let len = 3 * CALL as u64 + 5;
        write(&path, len, &mut Data::new()).unwrap();
        assert_eq!(read(&path).unwrap().0, len);
        write_pages(&path, 3).unwrap();
        assert_eq!(read(&path).unwrap().0, len);
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[7; 8], 2 * PAGE as u64).unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.to_string(), "page 2 is not what was written");
    }

    #[test]
    fn a_tree_is_the_same_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        assert_eq!(make_tree(&a, 250).unwrap(), make_tree(&b, 250).unwrap());
        let files = list(&a).unwrap();
        assert_eq!(files.len(), 250);
        let total: u64 = files.iter().map(|(_, len)| len).sum();
        assert_eq!(read_all(&files).unwrap(), total);
    }
}
