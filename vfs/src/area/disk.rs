//! Everything that an area changes on a disk, behind one door, so that a test can stand between: it records what is asked for, and shows
//! an area what a crash would have left of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// The mode of new directories: the owner writes, the view servers' group reads.
const DIRECTORY: u32 = 0o750;
/// The mode of new objects.
const OBJECT: u32 = 0o640;

/// What changes a disk. Nothing is durable before it is synced: bytes by [`Disk::sync`], names by [`Disk::sync_directory`], both by
/// [`Disk::sync_all`].
pub(crate) trait Disk: std::fmt::Debug + Send + Sync {
    /// Makes a directory and those above it, if they are not there.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes a file that is not there.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes at the end of what was written.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()>;
    /// Begins to bring a file's bytes to the disk, and does not wait. Whoever needs them there still has to say so.
    fn hurry(&self, file: &File);
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

    fn hurry(&self, file: &File) {
        // The kernel writes back what it is told will not be read soon; what is being written stays in memory meanwhile.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
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
