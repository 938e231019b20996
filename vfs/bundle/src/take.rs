//! Takes the blobs that a letter brings: each is copied once, and is in the store only if it has the hash that is its name.
//!
//! Space is reserved before a byte is taken. What is missing may still come; what is wrong gets time, and then ends the letter.

use std::io;

use safelight_policies::id::ObjectId;

use crate::{
    Batch, BlobList, LIST_BYTES_MAX, Limits, ListError, Load, Medium, MediumError, Objects,
    Refusal,
    objects::{Fault, Verified},
    patience::{Patience, Subject},
};

/// The most missing blobs that one scan looks for on behalf of one letter.
const MISSING_MAX: u64 = 1_000;

/// Why a letter's blobs are not all here.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Some are missing, cut off, or look wrong for now.
    Missing { blobs: u64 },
    /// There is no room for what is missing.
    NoRoom { needed: u64, free: u64 },
    /// They never will be.
    Refused(Refusal),
    /// The medium fails.
    Medium(MediumError),
    /// The store fails.
    Objects(io::Error),
}

/// What taking needs to know.
pub(crate) struct Taker<'a> {
    pub(crate) medium: &'a dyn Medium,
    pub(crate) objects: &'a dyn Objects,
    pub(crate) patience: &'a mut Patience,
    /// What letters before this one were promised, in bytes.
    pub(crate) reserved: &'a mut u64,
    pub(crate) limits: Limits,
    pub(crate) now: u64,
}

impl Taker<'_> {
    /// Takes what is there. Returns the list once all of it is.
    pub(crate) fn take(&mut self, load: &Load) -> Result<BlobList, Stop> {
        if self.stored(load.list)?.is_none() {
            self.copy_list(load.list)?;
        }
        let list = match self.list(load) {
            // Our own copy is spoilt: what the medium has takes its place, and no other letter is held up by it.
            Err(Stop::Objects(error)) if is_spoilt(&error) => {
                self.copy_list(load.list)?;
                self.list(load)?
            }
            list => list?,
        };
        let missing = self.missing(&list)?;
        self.reserve(&missing)?;
        let objects = self.objects;
        let mut batch = objects.batch();
        let copied = self.copy_all(missing, &mut *batch);
        // What came is kept, whatever became of the rest.
        batch.settle().map_err(Stop::Objects)?;
        match copied? {
            0 => Ok(list),
            blobs => Err(Stop::Missing { blobs }),
        }
    }

    /// Copies what is there of these blobs; answers how many are not.
    fn copy_all(
        &mut self,
        missing: Vec<(ObjectId, u64)>,
        batch: &mut dyn Batch,
    ) -> Result<u64, Stop> {
        let mut lacking = 0;
        for (id, len) in missing {
            match self.copy(id, Some(len), &mut |len, source| batch.put(id, len, source)) {
                Ok(()) => *self.reserved = self.reserved.saturating_sub(len),
                Err(Stop::Missing { .. }) => lacking += 1,
                Err(stop) => return Err(stop),
            }
            if lacking >= MISSING_MAX {
                break;
            }
        }
        Ok(lacking)
    }

    /// Copies a list, which is read at once.
    fn copy_list(&mut self, id: ObjectId) -> Result<(), Stop> {
        let objects = self.objects;
        self.copy(id, None, &mut |len, source| objects.put(id, len, source))
    }

    fn list(&self, load: &Load) -> Result<BlobList, Stop> {
        let refused = |refusal| Err(Stop::Refused(refusal));
        let list = listed(self.objects, load.list)?;
        let (blobs, max) = (list.entries().len() as u64, self.limits.blobs);
        if blobs > max {
            return refused(Refusal::TooManyBlobs { blobs, max });
        }
        if list.bytes() != load.bytes {
            let (object, said, found) = (load.list, load.bytes, list.bytes());
            return refused(Refusal::LyingSizes {
                object,
                said,
                found,
            });
        }
        Ok(list)
    }

    fn missing(&self, list: &BlobList) -> Result<Vec<(ObjectId, u64)>, Stop> {
        let mut missing = Vec::new();
        for (object, said) in list
            .entries()
            .iter()
            .map(|(id, len)| (*id, u64::from(*len)))
        {
            match self.stored(object)? {
                // A disk may have cut or lengthened what we had: that is no fault of the sender's, and is taken once more.
                Some(found) if found != said && !self.is_itself(object, found)? => {
                    missing.push((object, said));
                }
                Some(found) if found != said => {
                    return Err(Stop::Refused(Refusal::LyingSizes {
                        object,
                        said,
                        found,
                    }));
                }
                Some(_) => {}
                None => missing.push((object, said)),
            }
        }
        Ok(missing)
    }

    /// True if a stored object of this length has the bytes of its name.
    fn is_itself(&self, id: ObjectId, len: u64) -> Result<bool, Stop> {
        let mut source = self.objects.open(id).map_err(Stop::Objects)?;
        let mut verified = Verified::new(&mut *source, id, len);
        match io::copy(&mut verified, &mut io::sink()) {
            Ok(_) => Ok(true),
            Err(error) if is_spoilt(&error) => Ok(false),
            Err(error) => Err(Stop::Objects(error)),
        }
    }

    fn reserve(&mut self, missing: &[(ObjectId, u64)]) -> Result<(), Stop> {
        let needed: u64 = missing.iter().map(|(_, len)| len).sum();
        let room = self.objects.room().map_err(Stop::Objects)?;
        let free = room.saturating_sub(*self.reserved);
        if needed > free {
            return Err(Stop::NoRoom { needed, free });
        }
        *self.reserved += needed;
        Ok(())
    }

    fn stored(&self, id: ObjectId) -> Result<Option<u64>, Stop> {
        self.objects.len(id).map_err(Stop::Objects)
    }

    /// Copies one blob of a length that is known, or of any that a list may have.
    fn copy(
        &mut self,
        id: ObjectId,
        said: Option<u64>,
        put: &mut dyn FnMut(u64, &mut dyn io::Read) -> io::Result<()>,
    ) -> Result<(), Stop> {
        let missing = Err(Stop::Missing { blobs: 1 });
        let blob = match self.medium.open_blob(id) {
            Ok(blob) => blob,
            // Whoever put it there, the sender's next try replaces it.
            Err(MediumError::Irregular { what, .. }) => {
                return self.doubt(id, [0; 32], Refusal::BlobNotAFile { object: id, what });
            }
            Err(MediumError::TooLong { len, max, .. }) => {
                let (said, found) = (said.unwrap_or(max), len);
                return self.doubt(
                    id,
                    [0; 32],
                    Refusal::LyingSizes {
                        object: id,
                        said,
                        found,
                    },
                );
            }
            Err(error) => return Err(Stop::Medium(error)),
        };
        let Some(mut blob) = blob else {
            return missing;
        };
        let len = said.unwrap_or(blob.len);
        if blob.len < len || len == 0 {
            return missing;
        }
        if blob.len > said.unwrap_or(LIST_BYTES_MAX) {
            let found = blob.len;
            let said = said.unwrap_or(LIST_BYTES_MAX);
            let digest = blake3::hash(&found.to_le_bytes()).into();
            return self.doubt(
                id,
                digest,
                Refusal::LyingSizes {
                    object: id,
                    said,
                    found,
                },
            );
        }
        let mut source = Verified::new(&mut *blob.source, id, len);
        let stored = put(len, &mut source);
        match (stored, source.fault) {
            (Ok(()), None) if source.is_whole() => Ok(()),
            (_, Some(Fault::Read(_) | Fault::Short)) => missing,
            (_, Some(Fault::Other(digest))) => {
                self.doubt(id, digest, Refusal::HashMismatch { object: id })
            }
            (Err(error), None) => Err(Stop::Objects(error)),
            // A store that does not read to the end cannot know what it stored.
            (Ok(()), None) => Err(Stop::Objects(io::ErrorKind::InvalidData.into())),
        }
    }

    fn doubt(&mut self, id: ObjectId, digest: [u8; 32], refusal: Refusal) -> Result<(), Stop> {
        let over = self.patience.is_over(Subject::Blob(id), digest, self.now);
        Err(if over {
            Stop::Refused(refusal)
        } else {
            Stop::Missing { blobs: 1 }
        })
    }
}

/// True if a store has an object, but not with the bytes of its name.
fn is_spoilt(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

/// Reads a list. A letter may name any object that is there already as its list: one that is too long for a list is none, and no fault of
/// the store's, which would stop the reading of all other letters.
fn listed(objects: &dyn Objects, id: ObjectId) -> Result<BlobList, Stop> {
    let decoded = match read(objects, id, LIST_BYTES_MAX) {
        Ok(bytes) => BlobList::decode(&bytes),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(ListError::TooMany),
        Err(error) => return Err(Stop::Objects(error)),
    };
    decoded.map_err(|source| Stop::Refused(Refusal::BadList { source }))
}

/// Reads an object of at most `max` bytes and checks it against its name.
pub(crate) fn read(objects: &dyn Objects, id: ObjectId, max: u64) -> io::Result<Vec<u8>> {
    let len = objects.len(id)?.ok_or(io::ErrorKind::NotFound)?;
    if len > max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut source = objects.open(id)?;
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    io::Read::read_to_end(&mut Verified::new(&mut *source, id, len), &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store with one object, which is as long as it says.
    struct One(u64, Vec<u8>);

    impl Objects for One {
        fn len(&self, _: ObjectId) -> io::Result<Option<u64>> {
            Ok(Some(self.0))
        }
        fn put(&self, _: ObjectId, _: u64, _: &mut dyn io::Read) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn batch(&self) -> Box<dyn Batch + '_> {
            unreachable!("a list is read, and nothing is taken")
        }
        fn open(&self, _: ObjectId) -> io::Result<Box<dyn io::Read + '_>> {
            Ok(Box::new(&self.1[..]))
        }
        fn room(&self) -> io::Result<u64> {
            Ok(0)
        }
    }

    #[test]
    fn an_object_that_is_too_long_for_a_list_is_none_and_stops_nothing_else() {
        let list = BlobList::new([(ObjectId([1; 32]), 5)]).unwrap();
        let bytes = list.encode().unwrap();
        let id = crate::object_id(&bytes);
        let good = One(bytes.len() as u64, bytes.clone());
        assert_eq!(listed(&good, id).ok(), Some(list));
        let long = One(LIST_BYTES_MAX + 1, bytes);
        let refused = listed(&long, id).err();
        assert!(matches!(
            refused,
            Some(Stop::Refused(Refusal::BadList { .. }))
        ));
        // A store that fails is another thing.
        let cut = One(9, vec![]);
        assert!(matches!(listed(&cut, id).err(), Some(Stop::Objects(_))));
    }
}
