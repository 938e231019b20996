//! A client's secure area as the hot folders and the nodes use it: sealed objects by name, with room and lengths.

use std::io::{self, Read};

use safelight_bundle::{Batch, BlobList, Objects};
use safelight_policies::id::{ClientAlias, ObjectId};
use safelight_vfs::area::{Area, Error};

use crate::{
    failure::{Failure, Kind, OrFail},
    state::State,
};

/// The most that is kept free, in bytes: a fiftieth of what there is, but no more than this.
const KEPT_MAX: u64 = 4 << 30;

/// An area that objects come into and leave from.
pub(crate) struct Store(Area);

impl Store {
    /// Opens a client's area.
    pub(crate) fn open(state: &State, client: &ClientAlias) -> Result<Self, Failure> {
        let area = Area::open(state.area(client)?).or_fail(Kind::Environment)?;
        Ok(Self(area))
    }

    /// The area itself.
    pub(crate) fn area(&self) -> &Area {
        &self.0
    }

    /// Stores a list of blobs; answers its name.
    pub(crate) fn put_list(&self, list: &BlobList) -> Result<ObjectId, Failure> {
        let bytes = list.encode().or_fail(Kind::Internal)?;
        self.put_bytes(&bytes)
    }

    /// Stores bytes under their hash; answers it.
    pub(crate) fn put_bytes(&self, bytes: &[u8]) -> Result<ObjectId, Failure> {
        let id = safelight_bundle::object_id(bytes);
        self.0.put(id, bytes).or_fail(Kind::Environment)?;
        Ok(id)
    }

    /// Reads a list of blobs.
    pub(crate) fn list(&self, id: ObjectId) -> Result<BlobList, Failure> {
        let bytes = self.0.read(id).or_fail(Kind::Environment)?;
        BlobList::decode(&bytes).or_fail(Kind::Internal)
    }
}

impl Objects for Store {
    fn len(&self, id: ObjectId) -> io::Result<Option<u64>> {
        // Whoever asks is about to rely on it.
        self.0.claim(id).map_err(into_io)
    }

    fn put(&self, id: ObjectId, len: u64, source: &mut dyn Read) -> io::Result<()> {
        let came = self.0.receive(id, len, source).map_err(into_io)?;
        if came == len {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    fn batch(&self) -> Box<dyn Batch + '_> {
        Box::new(Arriving {
            batch: self.0.batch(),
            bytes: Vec::new(),
        })
    }

    fn open(&self, id: ObjectId) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0.object(id).map_err(into_io)?))
    }

    fn file(&self, id: ObjectId) -> io::Result<Option<std::fs::File>> {
        self.0.object(id).map(Some).map_err(into_io)
    }

    fn room(&self) -> io::Result<u64> {
        let at = nix::sys::statvfs::statvfs(self.0.root())?;
        let bytes = |blocks: u64| blocks.saturating_mul(at.fragment_size());
        Ok(usable(bytes(at.blocks_available()), bytes(at.blocks())))
    }
}

/// Objects that come together.
struct Arriving<'a> {
    batch: safelight_vfs::area::Batch<'a>,
    /// The present one, whole: none is longer than a blob may be.
    bytes: Vec<u8>,
}

impl Batch for Arriving<'_> {
    fn put(&mut self, id: ObjectId, len: u64, source: &mut dyn Read) -> io::Result<()> {
        if len > safelight_bundle::BLOB_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.clear();
        source.read_to_end(&mut self.bytes)?;
        if self.bytes.len() as u64 != len {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.batch.put(id, &self.bytes).map_err(into_io)
    }

    fn settle(self: Box<Self>) -> io::Result<()> {
        self.batch.settle().map_err(into_io)
    }
}

/// How much of what is free others may fill: the ledger and the logs must go on whatever comes from a client, a node or another site.
fn usable(free: u64, all: u64) -> u64 {
    free.saturating_sub((all / 50).min(KEPT_MAX))
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Read { source, .. } | Error::Write { source, .. } | Error::Source { source, .. } => {
            source
        }
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_fills_the_disk_to_the_brim() {
        let gib = 1 << 30;
        for (free, all, expected) in [
            (50 * gib, 50 * gib, 49 * gib),
            (gib, 50 * gib, 0),
            (gib / 2, 50 * gib, 0),
            (100 * gib, 9_000 * gib, 96 * gib),
            (0, 0, 0),
        ] {
            assert_eq!(usable(free, all), expected);
        }
    }
}
