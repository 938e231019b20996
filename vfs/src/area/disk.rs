//! Everything that an area changes on a disk, behind one door, so that a test can stand between: it records what is asked for, and shows
//! an area what a crash would have left of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

/// The mode of new directories: the owner writes, the view servers' group reads.
const DIRECTORY: u32 = 0o750;
/// The mode of new objects.
const OBJECT: u32 = 0o640;

/// What a disk's own blocks are counted in, at most.
const ALIGNED: usize = 4096;
/// So much is handed to a disk at once.
const STRETCH: usize = 4 << 20;

/// What changes a disk. Nothing is durable before it is synced: bytes by [`Disk::sync`], names by [`Disk::sync_directory`], both by
/// [`Disk::sync_all`].
pub(crate) trait Disk: std::fmt::Debug + Send + Sync {
    /// Makes a directory and those above it, if they are not there.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes a file that is not there.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes at the end of what was written.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()>;
    /// Writes as [`Disk::write`] does, past the kernel's memory where that can be. Whoever needs it on the disk still has to say so.
    fn write_past(&self, file: &mut File, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's bytes durable.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Gives a file another name, in place of what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a name away.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes everything durable that was written on the file system of this directory.
    fn sync_all(&self, path: &Path) -> io::Result<()>;
}

/// The file system.
#[derive(Debug)]
pub(crate) struct Real;

impl Disk for Real {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY)
            .create(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(OBJECT)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn write_past(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let whole = bytes.len() / ALIGNED * ALIGNED;
        let written = direct(file, &bytes[..whole])?;
        file.write_all(&bytes[written..])?;
        if written < whole {
            // The kernel writes back what it is told will not be read soon; what is being written stays in memory meanwhile.
            let _ = rustix::fs::fadvise(&*file, 0, None, rustix::fs::Advice::DontNeed);
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        Ok(nix::unistd::syncfs(File::open(path)?)?)
    }
}

/// Writes whole blocks from one's own memory to the disk: half of what sealing cost was copying into the kernel's, where nothing reads it
/// soon. Answers how much was written; less than all where a file system cannot do it.
fn direct(file: &mut File, bytes: &[u8]) -> io::Result<usize> {
    let flags = rustix::fs::fcntl_getfl(&*file)?;
    if rustix::fs::fcntl_setfl(&*file, flags | OFlags::DIRECT).is_err() {
        return Ok(0);
    }
    // Memory has to begin where a block could.
    let mut buffer = vec![0; bytes.len().min(STRETCH) + ALIGNED];
    let skip = buffer.as_ptr().align_offset(ALIGNED).min(ALIGNED);
    let buffer = &mut buffer[skip..];
    let mut written = 0;
    let stopped = loop {
        let rest = &bytes[written..];
        let stretch = &mut buffer[..rest.len().min(STRETCH)];
        if stretch.is_empty() || written % ALIGNED != 0 {
            break Ok(());
        }
        stretch.copy_from_slice(&rest[..stretch.len()]);
        match file.write(stretch) {
            Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // It said that it could, and cannot.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    rustix::fs::fcntl_setfl(&*file, flags)?;
    stopped.map(|()| written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_past_the_kernels_memory_is_what_was_given() {
        let place = std::env::current_exe().unwrap();
        // A disk, and a file system in memory, which may not be able to.
        for at in [place.parent().unwrap(), Path::new("/dev/shm")] {
            let Ok(directory) = tempfile::tempdir_in(at) else {
                println!("skipped: nothing can be written in {}", at.display());
                continue;
            };
            for len in [
                0,
                1,
                ALIGNED - 1,
                ALIGNED,
                STRETCH,
                STRETCH + 1,
                2 * STRETCH + 3 * ALIGNED + 5,
            ] {
                let bytes: Vec<u8> = (0..len).map(|at| (at / 7 + at / 4099) as u8).collect();
                let path = directory.path().join(len.to_string());
                let mut file = Real.create(&path).unwrap();
                Real.write_past(&mut file, &bytes).unwrap();
                Real.write(&mut file, b"and more").unwrap();
                let there = fs::read(&path).unwrap();
                assert!(
                    there == [&bytes[..], b"and more"].concat(),
                    "{len} in {at:?}"
                );
            }
        }
    }
}
