//! Manifest bytes: magic, version, then postcard of the types below, which nobody outside this file sees.
//!
//! A file's segments are one run of 64-byte records, object then key, all zero for a segment of zeros; their lengths follow from the
//! file's. So what is decoded is never much larger than what was received. Encoding allocates once, so that no reallocation leaves keys
//! in memory.

use safelight_policies::{
    id::{JobId, ObjectId},
    path::CentralPath,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor},
    ser::SerializeSeq,
};
use zeroize::Zeroizing;

use super::{
    ENTRIES_MAX, Entry, EntryKind, Kind, Manifest, SegmentRef, TREES_MAX, Tree, WHAT, XATTRS_MAX,
    check::{self, malformed},
};
use crate::{
    Error,
    segment::{OpenKey, SEGMENT_MAX},
};

const MAGIC: [u8; 7] = *b"SLMANIF";
const VERSION: u8 = 1;
const RECORD_LEN: usize = 64;

#[derive(Serialize, Deserialize)]
#[serde(bound(deserialize = "'de: 'a, S: Deserialize<'de>"))]
struct WireManifest<'a, S> {
    job: JobId,
    kind: Kind,
    #[serde(borrow, deserialize_with = "bounded::<_, _, TREES_MAX>")]
    trees: Vec<WireTree<'a, S>>,
}

#[derive(Serialize, Deserialize)]
#[serde(bound(deserialize = "'de: 'a, S: Deserialize<'de>"))]
struct WireTree<'a, S> {
    path: CentralPath,
    #[serde(borrow, deserialize_with = "bounded::<_, _, ENTRIES_MAX>")]
    entries: Vec<WireEntry<'a, S>>,
}

#[derive(Serialize, Deserialize)]
#[serde(bound(deserialize = "'de: 'a, S: Deserialize<'de>"))]
struct WireEntry<'a, S> {
    path: &'a [u8],
    #[serde(borrow)]
    kind: WireKind<'a, S>,
    mode: u32,
    mtime_ns: i64,
    #[serde(borrow, deserialize_with = "bounded::<_, _, XATTRS_MAX>")]
    xattrs: Vec<(&'a [u8], &'a [u8])>,
}

#[derive(Serialize, Deserialize)]
#[serde(bound(deserialize = "'de: 'a, S: Deserialize<'de>"))]
enum WireKind<'a, S> {
    Directory { opaque: bool },
    File { len: u64, records: S },
    Symlink { target: &'a [u8] },
    Link { to: &'a [u8] },
    Whiteout,
}

/// Segments on their way out: byte for byte what `&[u8]` is on its way in.
struct Records<'a>(&'a [SegmentRef]);

impl Serialize for Records<'_> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len() * RECORD_LEN))?;
        for segment in self.0 {
            let object = segment.object.map_or([0; 32], |object| object.0);
            for byte in object.iter().chain(segment.key.bytes()) {
                seq.serialize_element(byte)?;
            }
        }
        seq.end()
    }
}

/// A list that is refused as soon as it is longer than `MAX`, and for which nothing is allocated on the word of its length alone.
fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct List<T, const MAX: usize>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "at most {MAX} items")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut out = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(1024));
            while let Some(item) = seq.next_element()? {
                if out.len() == MAX {
                    return Err(A::Error::invalid_length(MAX + 1, &self));
                }
                out.push(item);
            }
            Ok(out)
        }
    }

    deserializer.deserialize_seq(List::<T, MAX>(std::marker::PhantomData))
}

impl Manifest {
    /// The manifest's bytes after `space` zero bytes.
    pub(super) fn encode_after(&self, space: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
        check::manifest(self)?;
        let mut out = Vec::with_capacity(space + self.encoded_len_max());
        out.resize(space, 0);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        let room = out.capacity();
        let out = postcard::to_extend(&self.to_wire(), out)
            .map_err(|_| malformed("it does not encode"))?;
        debug_assert_eq!(room, out.capacity(), "a copy of the keys stayed behind");
        Ok(Zeroizing::new(out))
    }

    /// An upper bound: postcard spends at most 5 bytes on a length of ours and 10 on a number.
    fn encoded_len_max(&self) -> usize {
        let trees = self.trees.iter().map(|tree| {
            let entries = tree.entries.iter().map(|entry| {
                let xattrs = entry
                    .xattrs
                    .iter()
                    .map(|(name, value)| 10 + name.len() + value.len());
                let kind = match &entry.kind {
                    EntryKind::File { segments, .. } => RECORD_LEN * segments.len(),
                    EntryKind::Symlink { target: bytes } | EntryKind::Link { to: bytes } => {
                        bytes.len()
                    }
                    EntryKind::Directory { .. } | EntryKind::Whiteout => 0,
                };
                64 + entry.path.len() + kind + xattrs.sum::<usize>()
            });
            16 + tree.path.as_str().len() + entries.sum::<usize>()
        });
        128 + trees.sum::<usize>()
    }

    /// Reads bytes that [`Manifest::encode`] made. They are whole, or an error; what comes out is valid.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let rest = bytes
            .strip_prefix(&MAGIC)
            .ok_or(malformed("it does not begin like one"))?;
        let (&version, body) = rest.split_first().ok_or(malformed("it is too short"))?;
        if version != VERSION {
            return Err(Error::Version {
                what: WHAT,
                found: version,
                known: VERSION,
            });
        }
        let (wire, rest) = postcard::take_from_bytes::<WireManifest<'_, &[u8]>>(body)
            .map_err(|_| malformed("it does not decode"))?;
        if !rest.is_empty() {
            return Err(malformed("something follows it"));
        }
        // Postcard reads numbers that are longer than they need be. Every such spelling is longer, so one length is one spelling.
        let shortest = postcard::experimental::serialized_size(&wire);
        if shortest.ok() != Some(body.len()) {
            return Err(malformed("it is not in its shortest form"));
        }
        let manifest = from_wire(wire)?;
        check::manifest(&manifest)?;
        Ok(manifest)
    }

    fn to_wire(&self) -> WireManifest<'_, Records<'_>> {
        let entry = |entry| {
            let Entry {
                path,
                kind,
                mode,
                mtime_ns,
                xattrs,
            }: &Entry = entry;
            WireEntry {
                path,
                kind: match kind {
                    EntryKind::Directory { opaque } => WireKind::Directory { opaque: *opaque },
                    EntryKind::File { len, segments } => WireKind::File {
                        len: *len,
                        records: Records(segments),
                    },
                    EntryKind::Symlink { target } => WireKind::Symlink { target },
                    EntryKind::Link { to } => WireKind::Link { to },
                    EntryKind::Whiteout => WireKind::Whiteout,
                },
                mode: *mode,
                mtime_ns: *mtime_ns,
                xattrs: xattrs
                    .iter()
                    .map(|(name, value)| (&name[..], &value[..]))
                    .collect(),
            }
        };
        let trees = self.trees.iter().map(|tree| WireTree {
            path: tree.path.clone(),
            entries: tree.entries.iter().map(entry).collect(),
        });
        WireManifest {
            job: self.job,
            kind: self.kind,
            trees: trees.collect(),
        }
    }
}

fn from_wire(wire: WireManifest<'_, &[u8]>) -> Result<Manifest, Error> {
    let trees = wire.trees.into_iter().map(|tree| {
        let entries = tree.entries.into_iter().map(from_wire_entry);
        Ok(Tree {
            path: tree.path,
            entries: entries.collect::<Result<_, Error>>()?,
        })
    });
    Ok(Manifest {
        job: wire.job,
        kind: wire.kind,
        trees: trees.collect::<Result<_, Error>>()?,
    })
}

fn from_wire_entry(wire: WireEntry<'_, &[u8]>) -> Result<Entry, Error> {
    Ok(Entry {
        path: wire.path.to_vec(),
        kind: match wire.kind {
            WireKind::Directory { opaque } => EntryKind::Directory { opaque },
            WireKind::File { len, records } => EntryKind::File {
                len,
                segments: segments(len, records)?,
            },
            WireKind::Symlink { target } => EntryKind::Symlink {
                target: target.to_vec(),
            },
            WireKind::Link { to } => EntryKind::Link { to: to.to_vec() },
            WireKind::Whiteout => EntryKind::Whiteout,
        },
        mode: wire.mode,
        mtime_ns: wire.mtime_ns,
        xattrs: (wire.xattrs.into_iter())
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect(),
    })
}

fn segments(len: u64, records: &[u8]) -> Result<Vec<SegmentRef>, Error> {
    let wrong = malformed("a file has another number of segments than its length needs");
    let (records, rest) = records.as_chunks::<RECORD_LEN>();
    if !rest.is_empty() || records.len() as u64 != len.div_ceil(SEGMENT_MAX as u64) {
        return Err(wrong);
    }
    let mut left = len;
    let segments = records.iter().map(|record| {
        let this = left.min(SEGMENT_MAX as u64);
        left -= this;
        let (object, key) = record.split_at(32);
        let mut id = [0; 32];
        id.copy_from_slice(object);
        let mut open = Zeroizing::new([0; 32]);
        open.copy_from_slice(key);
        SegmentRef {
            object: (id != [0; 32]).then_some(ObjectId(id)),
            len: this as u32,
            key: OpenKey::from_bytes(&open),
        }
    });
    Ok(segments.collect())
}
