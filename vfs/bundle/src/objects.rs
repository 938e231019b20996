//! Where a site keeps what it received, and takes what it sends: sealed objects by the hash of their bytes.

use std::{
    fs::File,
    io::{self, Read},
};

use safelight_policies::id::{ObjectId, VerifyKey};

/// A store of sealed objects, such as a client's secure area.
pub trait Objects {
    /// The length of the object in bytes, if it is here whole and with the right hash.
    fn len(&self, id: ObjectId) -> io::Result<Option<u64>>;

    /// Stores `len` bytes under their hash and makes them durable. `source` verifies itself: it ends only after `len` bytes that hash to `id`,
    /// and fails otherwise. So read it to its end, and let the object appear only then.
    fn put(&self, id: ObjectId, len: u64, source: &mut dyn Read) -> io::Result<()>;

    /// Begins to store many objects: a wait for the disk for each of many small ones would take longer than bringing them.
    fn batch(&self) -> Box<dyn Batch + '_>;

    /// Opens an object to read it.
    fn open(&self, id: ObjectId) -> io::Result<Box<dyn Read + '_>>;

    /// The object's own file, if it has one that a medium may give another name instead of copying it: nobody else may write it.
    fn file(&self, _: ObjectId) -> io::Result<Option<File>> {
        Ok(None)
    }

    /// How many bytes may still be put.
    fn room(&self) -> io::Result<u64>;
}

/// Objects on their way into a store. What is put is there, and durable, once it is settled.
pub trait Batch {
    /// Takes `len` bytes, as [`Objects::put`] does.
    fn put(&mut self, id: ObjectId, len: u64, source: &mut dyn Read) -> io::Result<()>;

    /// Makes all of it durable, under its names.
    fn settle(self: Box<Self>) -> io::Result<()>;
}

/// A store for each sender. Stores are apart so that no client learns, by announcing a blob that it does not bring, whether another client has it.
pub trait Areas {
    /// The store of this sender, if it has one.
    fn area(&self, from: &VerifyKey) -> Option<&dyn Objects>;
}

/// Why a [`Verified`] source failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The medium could not be read.
    Read(io::ErrorKind),
    /// It ended too early.
    Short,
    /// Other bytes than announced; their hash.
    Other([u8; 32]),
}

/// A source that ends only after the bytes that were announced. Reads one byte past them at most.
pub(crate) struct Verified<'a> {
    source: &'a mut dyn Read,
    hasher: blake3::Hasher,
    id: ObjectId,
    left: u64,
    ended: bool,
    pub(crate) fault: Option<Fault>,
}

impl<'a> Verified<'a> {
    pub(crate) fn new(source: &'a mut dyn Read, id: ObjectId, len: u64) -> Self {
        let hasher = blake3::Hasher::new();
        Self {
            source,
            hasher,
            id,
            left: len,
            ended: false,
            fault: None,
        }
    }

    /// True once all was read and is what it should be.
    pub(crate) fn is_whole(&self) -> bool {
        self.ended
    }

    fn end(&mut self) -> Result<usize, Fault> {
        let found: [u8; 32] = self.hasher.finalize().into();
        if self.left > 0 {
            return Err(Fault::Short);
        }
        if found != self.id.0 {
            return Err(Fault::Other(found));
        }
        self.ended = true;
        Ok(0)
    }

    fn step(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        if self.left == 0 {
            // More than announced is told from the end by one byte.
            let more = read(self.source, &mut [0])?;
            if more > 0 {
                self.hasher.update(&[0]);
                return Err(Fault::Other(self.hasher.finalize().into()));
            }
            return self.end();
        }
        let most = usize::try_from(self.left).map_or(out.len(), |left| left.min(out.len()));
        let count = read(self.source, &mut out[..most])?;
        if count == 0 {
            return self.end();
        }
        self.hasher.update(&out[..count]);
        self.left -= count as u64;
        Ok(count)
    }
}

fn read(source: &mut dyn Read, out: &mut [u8]) -> Result<usize, Fault> {
    loop {
        match source.read(out) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A source that claims to have read more than there is room for is broken.
            Ok(count) if count <= out.len() => return Ok(count),
            Ok(_) => return Err(Fault::Read(io::ErrorKind::Other)),
            Err(error) => return Err(Fault::Read(error.kind())),
        }
    }
}

impl Read for Verified<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.ended {
            return Ok(0);
        }
        let step = match self.fault {
            Some(fault) => Err(fault),
            None => self.step(out),
        };
        step.map_err(|fault| {
            self.fault = Some(fault);
            match fault {
                Fault::Read(kind) => kind.into(),
                Fault::Short => io::ErrorKind::UnexpectedEof.into(),
                Fault::Other(_) => io::ErrorKind::InvalidData.into(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object_id;

    fn drain(bytes: &[u8], id: ObjectId, len: u64) -> (Option<Vec<u8>>, Option<Fault>) {
        let mut source = bytes;
        let mut verified = Verified::new(&mut source, id, len);
        let mut out = Vec::new();
        let whole = verified.read_to_end(&mut out).is_ok();
        assert_eq!(whole, verified.is_whole());
        (whole.then_some(out), verified.fault)
    }

    #[test]
    fn a_source_ends_only_after_what_was_announced() {
        let id = object_id(b"blob");
        assert_eq!(drain(b"blob", id, 4), (Some(b"blob".to_vec()), None));
        assert_eq!(drain(b"blo", id, 4), (None, Some(Fault::Short)));
        assert_eq!(drain(b"", id, 4), (None, Some(Fault::Short)));
        assert!(matches!(
            drain(b"blob!", id, 4),
            (None, Some(Fault::Other(_)))
        ));
        assert!(matches!(
            drain(b"blog", id, 4),
            (None, Some(Fault::Other(_)))
        ));
        assert!(matches!(
            drain(b"blob", id, 3),
            (None, Some(Fault::Other(_)))
        ));
        assert_eq!(drain(b"blob", id, 5), (None, Some(Fault::Short)));
    }

    #[test]
    fn a_source_that_failed_stays_failed() {
        let mut source = &b"blo"[..];
        let mut verified = Verified::new(&mut source, object_id(b"blob"), 4);
        let mut out = [0; 8];
        assert_eq!(verified.read(&mut out).unwrap(), 3);
        assert!(verified.read(&mut out).is_err());
        assert!(verified.read(&mut out).is_err());
    }
}
