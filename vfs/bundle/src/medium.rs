//! What carries letters and blobs from one site to another. Never trusted: it may lose, delay, repeat, cut, change and invent.
//!
//! A medium need not rename, nor keep any order, nor tell when a file is whole. What it gives back is judged by hash and signature alone.

use std::{collections::BTreeMap, fmt, fs::File, io::Read, ops::ControlFlow, path::PathBuf};

use safelight_policies::id::{ObjectId, VerifyKey};

use crate::{Aside, EntryName, ReadyName};

/// What the marker of a hot folder has, for people.
pub(crate) const MARKED: &[u8] = b"Letters and sealed blobs. See docs/format.md.\n";

/// What an entry of a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the file system's")]
pub enum What {
    File,
    Symlink,
    Directory,
    Pipe,
    Socket,
    Device,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a file",
            Self::Symlink => "a symbolic link",
            Self::Directory => "a directory",
            Self::Pipe => "a pipe",
            Self::Socket => "a socket",
            Self::Device => "a device",
        })
    }
}

/// An entry of a recipient's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, as somebody wrote it.
    pub name: EntryName,
    /// What it is.
    pub what: What,
}

/// A blob, opened. Its length is the medium's word.
pub struct Blob<'a> {
    /// The length in bytes.
    pub len: u64,
    /// The bytes.
    pub source: Box<dyn Read + 'a>,
}

/// Carries letters and blobs.
pub trait Medium {
    /// Puts a blob, replacing what has its name. `source` verifies itself, see [`crate::Batch::put`]. It need not be durable before
    /// [`Medium::settle`].
    fn put_blob(&self, id: ObjectId, len: u64, source: &mut dyn Read) -> Result<(), MediumError>;
    /// Puts a blob by giving a file of ours another name, in place of what has it. False if that cannot be, or would let others do more, or less,
    /// with it than with what [`Medium::put_blob`] writes.
    fn share_blob(&self, _: ObjectId, _: &File) -> Result<bool, MediumError> {
        Ok(false)
    }
    /// Makes what was put durable, before a letter names it. Nobody relies on it: what a crash takes back all the same is missing, and is put
    /// again.
    fn settle(&self) -> Result<(), MediumError>;
    /// The length of a blob, if there is something with its name.
    fn blob_len(&self, id: ObjectId) -> Result<Option<u64>, MediumError>;
    /// The lengths of those blobs that are there; what has a blob's name and is no file is not.
    fn blob_lens(&self, ids: &[ObjectId]) -> Result<BTreeMap<ObjectId, u64>, MediumError> {
        let mut found = BTreeMap::new();
        for id in ids {
            match self.blob_len(*id) {
                Ok(len) => found.extend(len.map(|len| (*id, len))),
                Err(MediumError::Irregular { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
    /// True if reading what is there costs as much as bringing it: then a blob of the right length is believed, until nobody answers.
    fn is_far(&self) -> bool {
        false
    }
    /// Opens a blob, if there is something with its name.
    fn open_blob(&self, id: ObjectId) -> Result<Option<Blob<'_>>, MediumError>;
    /// Removes a blob; one that is not there is removed already.
    fn remove_blob(&self, id: ObjectId) -> Result<(), MediumError>;
    /// How many bytes may still be put.
    fn room(&self) -> Result<u64, MediumError>;
    /// Where it is, for messages.
    fn place(&self) -> PathBuf;

    /// Puts a letter into its recipient's folder, replacing what has its name.
    fn put_ready(&self, name: &ReadyName, bytes: &[u8]) -> Result<(), MediumError>;
    /// Shows the entries of a recipient's folder, in any order, until `visit` breaks. May lag behind what was put.
    fn list_ready(
        &self,
        to: &VerifyKey,
        visit: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), MediumError>;
    /// Reads a letter of at most `max` bytes, if it is there.
    fn read_ready(
        &self,
        to: &VerifyKey,
        name: &EntryName,
        max: u64,
    ) -> Result<Option<Vec<u8>>, MediumError>;
    /// Removes a letter; one that is not there is removed already.
    fn remove_ready(&self, to: &VerifyKey, name: &EntryName) -> Result<(), MediumError>;

    /// Moves an entry of a recipient's folder out of the way, and puts the reason beside it. Nothing is followed and nothing is deleted.
    fn set_aside(
        &self,
        to: &VerifyKey,
        name: &EntryName,
        reason: &Reason,
    ) -> Result<(), MediumError>;
    /// What is set aside of a recipient's folder.
    fn aside(&self, to: &VerifyKey) -> Result<Vec<Aside>, MediumError>;
    /// Puts a letter back that was set aside, to be read again, and removes the reason beside it. False if it is none, or gone.
    fn put_back(&self, to: &VerifyKey, aside: &Aside) -> Result<bool, MediumError>;
    /// Deletes what was set aside, with the reason beside it. False if there is nothing of that name.
    fn discard(&self, to: &VerifyKey, stem: &str) -> Result<bool, MediumError>;
}

/// Why something was set aside, for people and for programs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reason {
    /// The reason in one word.
    pub code: crate::Code,
    /// The reason in a sentence.
    pub reason: String,
    /// Its name, with escapes for what is not printable.
    pub name: String,
    /// Whom it is said to be from: the fingerprint of the key, if the name has one.
    pub from: Option<String>,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// What can go wrong with a medium.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// The folder is not there.
    #[error("the hot folder {} is not there", folder.display())]
    Gone {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder is there, and is not the hot folder: nothing is mounted on it, say.
    #[error("{} is not a hot folder: it has no file {marker}", folder.display())]
    NotAHotFolder {
        /// The folder.
        folder: PathBuf,
        /// What every hot folder has.
        marker: &'static str,
    },
    /// No room.
    #[error("the hot folder {} is full: {needed} bytes are needed, {free} are free", folder.display())]
    Full {
        /// The folder.
        folder: PathBuf,
        /// How much is needed, with what must stay free.
        needed: u64,
        /// How much there is.
        free: u64,
    },
    /// It can only be read.
    #[error("the hot folder {} is read-only", folder.display())]
    ReadOnly {
        /// The folder.
        folder: PathBuf,
    },
    /// We may not.
    #[error("no permission for {} in the hot folder {}", path.display(), folder.display())]
    Denied {
        /// The folder.
        folder: PathBuf,
        /// What we may not touch.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A symbolic link, or something else that leads elsewhere, is on the way. It was not followed.
    #[error("{} in the hot folder {} leads elsewhere", path.display(), folder.display())]
    Escapes {
        /// The folder.
        folder: PathBuf,
        /// What leads elsewhere.
        path: PathBuf,
    },
    /// Something that is no file has the name of one, or something that is no directory.
    #[error("{} in the hot folder {} is {what}", path.display(), folder.display())]
    Irregular {
        /// The folder.
        folder: PathBuf,
        /// What it is called.
        path: PathBuf,
        /// What it is.
        what: What,
    },
    /// Longer than it may be.
    #[error("{} in the hot folder {} has {len} bytes, and may have at most {max}", path.display(), folder.display())]
    TooLong {
        /// The folder.
        folder: PathBuf,
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
        /// The limit.
        max: u64,
    },
    /// Too much was set aside already. Nothing of it is deleted by us.
    #[error("{count} entries are set aside in the hot folder {}", folder.display())]
    AsideFull {
        /// The folder.
        folder: PathBuf,
        /// How many.
        count: usize,
    },
    /// Anything else.
    #[error("cannot {act} {} in the hot folder {}", path.display(), folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl MediumError {
    /// What is wrong, in one word.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Gone { .. } => "gone",
            Self::NotAHotFolder { .. } => "not-a-hot-folder",
            Self::Full { .. } => "full",
            Self::ReadOnly { .. } => "read-only",
            Self::Denied { .. } => "denied",
            Self::Escapes { .. } => "escapes",
            Self::Irregular { .. } => "irregular",
            Self::TooLong { .. } => "too-long",
            Self::AsideFull { .. } => "aside-full",
            Self::Io { .. } => "failing",
        }
    }

    /// What to do next, as a sentence for whoever runs the site.
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::Gone { .. } => {
                "mount it, or name the right folder in the configuration; work goes on when it is back"
            }
            Self::NotAHotFolder { .. } => {
                "mount the medium there, or make the folder a hot folder first"
            }
            Self::Full { .. } => "free space on it; nothing is lost, and sending goes on by itself",
            Self::ReadOnly { .. } => {
                "mount it writable, or look for the disk error that made it read-only"
            }
            Self::Denied { .. } => "give the site's user the right to read and write in it",
            Self::Escapes { .. } | Self::Irregular { .. } => {
                "find out who put it there, and remove it"
            }
            Self::TooLong { .. } => "find out who put it there, and remove it",
            Self::AsideFull { .. } => "look through what is set aside, and remove it",
            Self::Io { .. } => "check the medium; it is tried again by itself",
        }
    }

    /// True if the whole folder is out of reach, not one entry of it.
    pub const fn is_of_the_folder(&self) -> bool {
        matches!(
            self,
            Self::Gone { .. }
                | Self::NotAHotFolder { .. }
                | Self::Full { .. }
                | Self::ReadOnly { .. }
        )
    }
}
