//! The list of a bundle's blobs: names and lengths, in the clear, so that a reader without a key knows what must be there.
//!
//! ```text
//! "SLBLOBS\0" | version u16 | postcard([(object (32), length u32)])
//! ```
//! It is not signed: a signed letter names it by its hash. Entries are sorted and unique, and nothing follows them.

use safelight_policies::id::ObjectId;

/// The first eight bytes.
const MAGIC: &[u8; 8] = b"SLBLOBS\0";
/// The version of the form.
const VERSION: u16 = 1;
/// The bytes in front of the entries.
const HEAD: usize = 10;

/// The longest blob in bytes: a sealed manifest of 256 MiB with its header and tag.
pub const BLOB_MAX: u64 = (256 << 20) + 4096;
/// The most blobs of a bundle.
pub const BLOBS_MAX: usize = 1 << 20;
/// The longest list in bytes: each entry has 32 bytes and a length of at most 5, and their number takes at most 5.
pub const LIST_BYTES_MAX: u64 = HEAD as u64 + 5 + 37 * BLOBS_MAX as u64;

/// Why bytes are no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Another file, another version, cut off, or with something behind it.
    #[error("not a list of blobs")]
    NotAList,
    /// More blobs than a bundle may have.
    #[error("the list has more than 1,048,576 blobs")]
    TooMany,
    /// A blob that no blob can be.
    #[error("the list has a blob of no byte or of more than 256 MiB")]
    Length,
    /// Entries twice or in no order.
    #[error("the list is not sorted")]
    NotSorted,
}

/// The blobs of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobList {
    entries: Vec<(ObjectId, u32)>,
}

impl BlobList {
    /// The list of these blobs with their lengths. Sorts, and drops repetitions.
    pub fn new(blobs: impl IntoIterator<Item = (ObjectId, u32)>) -> Result<Self, ListError> {
        let mut entries: Vec<_> = blobs.into_iter().collect();
        entries.sort_unstable();
        entries.dedup();
        checked(entries)
    }

    /// Reads a list. Allocates no more than a few times what `bytes` has.
    pub fn decode(bytes: &[u8]) -> Result<Self, ListError> {
        if bytes.len() as u64 > LIST_BYTES_MAX {
            return Err(ListError::TooMany);
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or(ListError::NotAList)?;
        let rest = rest
            .strip_prefix(&VERSION.to_le_bytes())
            .ok_or(ListError::NotAList)?;
        match postcard::take_from_bytes(rest) {
            // Every other spelling of a number is longer.
            Ok((entries, [])) => match postcard::experimental::serialized_size(&entries) {
                Ok(shortest) if shortest == rest.len() => checked(entries),
                _ => Err(ListError::NotAList),
            },
            _ => Err(ListError::NotAList),
        }
    }

    /// The bytes that [`BlobList::decode`] reads; their hash names the list.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        let mut bytes = Vec::with_capacity(HEAD + 5 + 37 * self.entries.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        postcard::to_extend(&self.entries, bytes)
    }

    /// The blobs and their lengths, sorted by name.
    pub fn entries(&self) -> &[(ObjectId, u32)] {
        &self.entries
    }

    /// The sum of the lengths.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|(_, len)| u64::from(*len)).sum()
    }

    /// True if the blob is in the list.
    pub fn has(&self, id: ObjectId) -> bool {
        self.len_of(id).is_some()
    }

    /// The length of a blob of the list.
    pub fn len_of(&self, id: ObjectId) -> Option<u64> {
        let found = self.entries.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(u64::from(self.entries[found].1))
    }
}

fn checked(entries: Vec<(ObjectId, u32)>) -> Result<BlobList, ListError> {
    if entries.len() > BLOBS_MAX {
        return Err(ListError::TooMany);
    }
    if !entries.is_sorted_by(|(before, _), (after, _)| before < after) {
        return Err(ListError::NotSorted);
    }
    let fits = |len: u32| (1..=BLOB_MAX).contains(&u64::from(len));
    if !entries.iter().all(|(_, len)| fits(*len)) {
        return Err(ListError::Length);
    }
    Ok(BlobList { entries })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(byte: u8) -> ObjectId {
        ObjectId([byte; 32])
    }

    fn forced(entries: &[(ObjectId, u32)], more: &[u8]) -> Vec<u8> {
        let body = postcard::to_stdvec(entries).unwrap();
        [&MAGIC[..], &[1, 0], &body, more].concat()
    }

    #[test]
    fn a_list_reads_back_sorted_and_once() {
        let list = BlobList::new([(id(3), 7), (id(1), 300), (id(3), 7)]).unwrap();
        assert_eq!(list.entries(), [(id(1), 300), (id(3), 7)]);
        assert_eq!(list.bytes(), 307);
        assert_eq!(list.len_of(id(3)), Some(7));
        assert!(!list.has(id(2)));
        assert_eq!(BlobList::decode(&list.encode().unwrap()), Ok(list));
    }

    #[test]
    fn what_no_list_may_say_is_refused() {
        let limit = u32::try_from(BLOB_MAX).unwrap();
        for (entries, error) in [
            (vec![(id(2), 1), (id(1), 1)], ListError::NotSorted),
            (vec![(id(1), 1), (id(1), 2)], ListError::NotSorted),
            (vec![(id(1), 0)], ListError::Length),
            (vec![(id(1), limit + 1)], ListError::Length),
        ] {
            assert_eq!(BlobList::decode(&forced(&entries, b"")), Err(error));
        }
        assert_eq!(
            BlobList::new([(id(1), 1), (id(1), 2)]),
            Err(ListError::NotSorted)
        );
        assert!(BlobList::decode(&forced(&[(id(1), limit)], b"")).is_ok());
        // The same number, longer than it need be.
        let mut long = forced(&[(id(1), 1)], b"");
        assert_eq!(long.pop(), Some(1));
        long.extend_from_slice(&[0x81, 0]);
        assert_eq!(BlobList::decode(&long), Err(ListError::NotAList));
        let more = forced(&[(id(1), 1)], b"x");
        assert_eq!(BlobList::decode(&more), Err(ListError::NotAList));
    }

    #[test]
    fn a_count_without_entries_allocates_nothing() {
        // Says that four billion entries follow.
        let bytes = [&MAGIC[..], &[1, 0], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
        assert_eq!(BlobList::decode(&bytes), Err(ListError::NotAList));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), magic in any::<bool>()) {
            let bytes = if magic { [&MAGIC[..], &[1, 0], &bytes].concat() } else { bytes };
            if let Ok(list) = BlobList::decode(&bytes) {
                prop_assert!(list.entries().is_sorted());
            }
        }
    }
}
