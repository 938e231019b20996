//! The logs that a session left as objects: a long one in several that continue each other.

use std::{
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
};

use safelight_audit::parts::{CONTINUED, Joined, is_continued};
use safelight_policies::id::ObjectId;
use safelight_vfs::area::{Area, Error};

use crate::failure::{Failure, Kind};

/// A session's own log and that of the release of its key: with more objects than that, one of them is a part.
const USUAL: usize = 2;

/// Why a log cannot be read.
pub(crate) enum Unfit {
    /// It is not as it was written.
    Changed(String),
    /// Something else.
    Failed(Failure),
}

impl Unfit {
    /// The failure of whoever does not name the log.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Changed(how) => Failure::new(Kind::Denied, how),
            Self::Failed(failure) => failure,
        }
    }
}

/// The bytes of a log.
pub(crate) enum Bytes {
    File(File),
    Object(Cursor<Vec<u8>>),
    Objects(Joined<File>),
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Object(bytes) => bytes.read(buffer),
            Self::Objects(parts) => parts.read(buffer),
        }
    }
}

impl Seek for Bytes {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Object(bytes) => bytes.seek(to),
            Self::Objects(parts) => parts.seek(to),
        }
    }
}

/// The logs among what a session left, each with its parts. One that is not here is a log by itself, and fails when it is opened.
pub(crate) fn logs(area: &Area, left: &[ObjectId]) -> Result<Vec<Vec<ObjectId>>, Failure> {
    let mut logs: Vec<Vec<ObjectId>> = Vec::new();
    for object in left {
        let continues = left.len() > USUAL
            && continues(area, *object)
                .map_err(|error| Failure::from_error(Kind::Environment, &error))?;
        match logs.last_mut().filter(|_| continues) {
            Some(log) => log.push(*object),
            None => logs.push(vec![*object]),
        }
    }
    Ok(logs)
}

fn continues(area: &Area, object: ObjectId) -> io::Result<bool> {
    let mut begin = Vec::new();
    if let Ok(file) = area.object(object) {
        file.take(CONTINUED.len() as u64).read_to_end(&mut begin)?;
    }
    Ok(is_continued(&begin))
}

/// Opens a log by its parts, each of which must be what its name says.
pub(crate) fn open(area: &Area, parts: &[ObjectId]) -> Result<Bytes, Unfit> {
    if let [only] = parts {
        let bytes = area.read(*only).map_err(|error| unfit(&error))?;
        return Ok(Bytes::Object(Cursor::new(bytes)));
    }
    let mut files = Vec::new();
    for part in parts {
        let mut file = area.object(*part).map_err(|error| unfit(&error))?;
        let mut hasher = blake3::Hasher::new();
        let hashed = hasher.update_reader(&mut file);
        hashed.map_err(|error| Unfit::Failed(Failure::from_error(Kind::Environment, &error)))?;
        if hasher.finalize().as_bytes() != &part.0 {
            return Err(unfit(&Error::NotAuthentic { id: *part }));
        }
        files.push(file);
    }
    Joined::new(files)
        .map(Bytes::Objects)
        .map_err(|error| Unfit::Changed(Failure::from_error(Kind::Denied, &error).message()))
}

fn unfit(error: &Error) -> Unfit {
    let failure = Failure::from_error(Kind::Environment, error);
    match error.is_not_authentic() {
        true => Unfit::Changed(failure.message()),
        false => Unfit::Failed(failure),
    }
}
