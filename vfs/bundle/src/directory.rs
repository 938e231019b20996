//! A hot folder that is a directory, on any file system: a disk, a share, a stick, what a synchroniser keeps.
//!
//! ```text
//! safelight-hotfolder                     the marker
//! blobs/<2 digits>/<64 digits>            blobs
//! ready/<recipient>/<letter>              letters
//! aside/<recipient>/<number>.{entry,json} what was refused, and why
//! ```
//! Files are written under a hidden name, then renamed, where the file system can; letters are durable before they have their name, and
//! blobs before a letter names them. No reader relies on it.

mod aside;
mod door;
mod share;

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    ops::ControlFlow,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FallocateFlags, FileType, OFlags},
    io::Errno,
};
use safelight_policies::id::{ObjectId, VerifyKey};

use crate::{
    BLOB_MAX, Blob, Entry, EntryName, Medium, MediumError, ReadyName, Reason, What, medium::MARKED,
    name::mailbox,
};
pub use aside::Aside;
pub(crate) use aside::{ASIDE_MAX, REASON_MAX};
use door::Door;
pub use door::MARKER;

/// What stays free on a medium, in bytes: others write to it too.
const KEEP_FREE: u64 = 16 << 20;
/// The shortest file whose room is reserved before it is written, in bytes.
const RESERVE_MIN: u64 = 1 << 20;
/// The most entries of a recipient's folder that are looked at in one listing.
const ENTRIES_MAX: usize = 1_000_000;

/// A directory that carries letters and blobs.
#[derive(Debug, Clone)]
pub struct Directory {
    folder: PathBuf,
}

impl Directory {
    /// Makes a directory, which must be there, a hot folder.
    pub fn create(folder: impl Into<PathBuf>) -> Result<Self, MediumError> {
        let folder = folder.into();
        let door = Door::open_any(&folder)?;
        for name in ["blobs", "ready", "aside"] {
            door.make_directory(Path::new(name))?;
        }
        write(&door, Path::new(MARKER), MARKED)?;
        drop(door);
        Ok(Self { folder })
    }

    /// The hot folder at a path. Whether it is there is found out by every act anew.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a recipient's letters lie, for whoever wants to be told of changes there. It need not be there.
    pub fn mailbox(&self, to: &VerifyKey) -> PathBuf {
        self.folder.join("ready").join(mailbox(to))
    }

    fn door(&self) -> Result<Door<'_>, MediumError> {
        Door::open(&self.folder)
    }

    /// Refuses to begin what will not fit.
    fn reserve(&self, door: &Door<'_>, len: u64) -> Result<(), MediumError> {
        let (needed, free) = (len.saturating_add(KEEP_FREE), door.free()?);
        if needed <= free {
            return Ok(());
        }
        Err(MediumError::Full {
            folder: self.folder.clone(),
            needed,
            free,
        })
    }
}

impl Medium for Directory {
    fn put_blob(&self, id: ObjectId, len: u64, source: &mut dyn Read) -> Result<(), MediumError> {
        let door = self.door()?;
        self.reserve(&door, len)?;
        put(&door, &blob(id), len, source, Durable::Later)
    }

    fn share_blob(&self, id: ObjectId, file: &File) -> Result<bool, MediumError> {
        share::share(&self.door()?, &blob(id), file)
    }

    /// One for all that was put: a wait for each of many small blobs would take longer than carrying them.
    fn settle(&self) -> Result<(), MediumError> {
        let door = self.door()?;
        let path = Path::new("blobs");
        let Some(directory) = door.directory(path)? else {
            return Ok(());
        };
        match rustix::fs::syncfs(&directory) {
            Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => {
                Err(door.fault("make durable", path, errno))
            }
            // What cannot be told to make anything durable is not waited for.
            _ => Ok(()),
        }
    }

    fn blob_len(&self, id: ObjectId) -> Result<Option<u64>, MediumError> {
        let path = blob(id);
        let door = self.door()?;
        match door.what(&path)? {
            None => Ok(None),
            Some((What::File, stat)) => Ok(Some(u64::try_from(stat.st_size).unwrap_or(u64::MAX))),
            Some((what, _)) => Err(door.irregular(&path, what)),
        }
    }

    fn open_blob(&self, id: ObjectId) -> Result<Option<Blob<'_>>, MediumError> {
        let opened = self.door()?.file(&blob(id), BLOB_MAX)?;
        // One byte more than it is long: a file that grows meanwhile is noticed, and not read for ever.
        Ok(opened.map(|(file, len)| Blob {
            len,
            source: Box::new(file.take(len + 1)),
        }))
    }

    fn remove_blob(&self, id: ObjectId) -> Result<(), MediumError> {
        self.door()?.remove(&blob(id))
    }

    fn room(&self) -> Result<u64, MediumError> {
        Ok(self.door()?.free()?.saturating_sub(KEEP_FREE))
    }

    fn place(&self) -> PathBuf {
        self.folder.clone()
    }

    fn put_ready(&self, name: &ReadyName, bytes: &[u8]) -> Result<(), MediumError> {
        let door = self.door()?;
        self.reserve(&door, bytes.len() as u64)?;
        write(&door, &letter(&name.to, &name.entry()), bytes)
    }

    fn list_ready(
        &self,
        to: &VerifyKey,
        visit: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), MediumError> {
        let door = self.door()?;
        let path = Path::new("ready").join(mailbox(to));
        let Some(directory) = door.directory(&path)? else {
            return Ok(());
        };
        let failed = |errno| door.fault("list", &path, errno);
        for entry in Dir::new(directory).map_err(failed)?.take(ENTRIES_MAX) {
            let entry = entry.map_err(failed)?;
            let name = std::os::unix::ffi::OsStrExt::from_bytes(entry.file_name().to_bytes());
            let name: &std::ffi::OsStr = name;
            let Some(name) = EntryName::new(name) else {
                continue; // `.` and `..`
            };
            let what = match entry.file_type() {
                FileType::Unknown => match door.what(&path.join(name.as_os_str()))? {
                    Some((what, _)) => what,
                    None => continue,
                },
                known => door::what(known),
            };
            if visit(Entry { name, what }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn read_ready(
        &self,
        to: &VerifyKey,
        name: &EntryName,
        max: u64,
    ) -> Result<Option<Vec<u8>>, MediumError> {
        read_file(&self.door()?, &letter(to, name), max)
    }

    fn remove_ready(&self, to: &VerifyKey, name: &EntryName) -> Result<(), MediumError> {
        self.door()?.remove(&letter(to, name))
    }

    fn set_aside(
        &self,
        to: &VerifyKey,
        name: &EntryName,
        reason: &Reason,
    ) -> Result<(), MediumError> {
        aside::set_aside(&self.door()?, to, name, reason)
    }

    fn aside(&self, to: &VerifyKey) -> Result<Vec<Aside>, MediumError> {
        aside::list(&self.door()?, to)
    }

    fn put_back(&self, to: &VerifyKey, aside: &Aside) -> Result<bool, MediumError> {
        aside::put_back(&self.door()?, to, aside)
    }

    fn discard(&self, to: &VerifyKey, stem: &str) -> Result<bool, MediumError> {
        aside::discard(&self.door()?, to, stem)
    }
}

/// Reads a small file, if it is there.
fn read_file(door: &Door<'_>, path: &Path, max: u64) -> Result<Option<Vec<u8>>, MediumError> {
    let Some((file, len)) = door.file(path, max)? else {
        return Ok(None);
    };
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    let read = file.take(max).read_to_end(&mut bytes);
    read.map_err(|error| door.fault("read", path, errno(&error)))?;
    Ok(Some(bytes))
}

/// Writes a small file.
fn write(door: &Door<'_>, path: &Path, bytes: &[u8]) -> Result<(), MediumError> {
    put(
        door,
        path,
        bytes.len() as u64,
        &mut &bytes[..],
        Durable::Now,
    )
}

/// When a file is to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durable {
    /// Before it has its name.
    Now,
    /// When somebody settles what was put.
    Later,
}

/// Writes a file under a hidden name, makes it durable if that is wanted, and gives it its name.
fn put(
    door: &Door<'_>,
    path: &Path,
    len: u64,
    source: &mut dyn Read,
    durable: Durable,
) -> Result<(), MediumError> {
    let name = path.file_name().unwrap_or_default();
    let parent = path.parent().unwrap_or(Path::new(""));
    let here = parent.as_os_str().is_empty();
    let directory = door.make_directory(if here { Path::new(".") } else { parent })?;
    let hidden: std::ffi::OsString = [std::ffi::OsStr::new(".part-"), name].into_iter().collect();
    let failed = |act| move |errno| door.fault(act, path, errno);
    // What an interrupted write left goes first. Two writers of one name disturb each other, find out, and try again.
    clear(&directory, &hidden).map_err(failed("remove what was left of"))?;
    let mut file = door.create(&directory, &hidden).map_err(failed("create"))?;
    let filled = fill(&mut file, len, source, durable).and_then(|()| {
        match rustix::fs::renameat(&directory, &*hidden, &directory, name) {
            Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM | Errno::XDEV) => {
                again(door, &directory, &hidden, name, len, durable)
            }
            other => other,
        }
    });
    if let Err(errno) = filled {
        let _ = clear(&directory, &hidden);
        return Err(match errno {
            Errno::ISDIR | Errno::NOTEMPTY => door.irregular(path, What::Directory),
            Errno::NOSPC | Errno::DQUOT => door.full(len.saturating_add(KEEP_FREE)),
            errno => door.fault("write", path, errno),
        });
    }
    match durable {
        Durable::Now => sync(&directory).map_err(failed("make durable")),
        Durable::Later => Ok(()),
    }
}

/// Where nothing can be renamed: copies what was written to its name.
fn again(
    door: &Door<'_>,
    directory: &OwnedFd,
    hidden: &std::ffi::OsStr,
    name: &std::ffi::OsStr,
    len: u64,
    durable: Durable,
) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut written = File::from(rustix::fs::openat(
        directory,
        hidden,
        flags,
        rustix::fs::Mode::empty(),
    )?);
    written.rewind().map_err(|error| errno(&error))?;
    clear(directory, name)?;
    fill(
        &mut door.create(directory, name)?,
        len,
        &mut written,
        durable,
    )?;
    clear(directory, hidden)
}

fn fill(file: &mut File, len: u64, source: &mut dyn Read, durable: Durable) -> Result<(), Errno> {
    // A small file says soon enough that there is no room for it.
    if len >= RESERVE_MIN {
        match rustix::fs::fallocate(&*file, FallocateFlags::empty(), 0, len) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    io::copy(source, file)
        .and_then(|_| file.flush())
        .map_err(|error| errno(&error))?;
    match durable {
        Durable::Now => sync(&*file),
        Durable::Later => Ok(()),
    }
}

/// Some file systems of other hosts cannot be told to make anything durable; no reader relies on it.
fn sync(file: impl std::os::fd::AsFd) -> Result<(), Errno> {
    match rustix::fs::fsync(file) {
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        other => other,
    }
}

fn clear(directory: &OwnedFd, name: &std::ffi::OsStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// The error number of an error. One without, such as a source that does not verify, is an input error.
fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn blob(id: ObjectId) -> PathBuf {
    let name = id.to_string();
    Path::new("blobs").join(&name[..2]).join(name)
}

fn letter(to: &VerifyKey, name: &EntryName) -> PathBuf {
    Path::new("ready").join(mailbox(to)).join(name.as_os_str())
}
