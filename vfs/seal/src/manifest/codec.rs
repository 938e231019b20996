//! Manifest bytes: magic, version, then postcard of the types below, which nobody outside this file sees.
//!
//! A file's segments are one run of 64-byte records, object then key, all zero for a segment of zeros; their lengths follow from the
//! file's. So what is decoded is never much larger than what was received. Encoding allocates once, so that no reallocation leaves keys
//! in memory.

use std::sync::Arc;

use safelight_policies::{id::JobId, path::CentralPath};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor},
    ser::SerializeSeq,
};
use zeroize::Zeroizing;

use super::{
    ENTRIES_MAX, Entry, EntryKind, EntryRef, Kind, KindRef, Manifest, SegmentRef, Segments,
    TREES_MAX, WHAT, XATTRS_MAX,
    check::{self, malformed},
};
use crate::{Error, segment::SEGMENT_MAX};

const MAGIC: [u8; 7] = *b"SLMANIF";
const VERSION: u8 = 1;
/// Object, then key.
pub(super) const RECORD_LEN: usize = 64;

/// On its way out. On its way in it is read piece by piece, so that nothing has to be held but the bytes.
#[derive(Serialize)]
struct WireManifest<'a> {
    job: JobId,
    kind: Kind,
    trees: Vec<WireTree<'a>>,
}

#[derive(Serialize)]
struct WireTree<'a> {
    path: CentralPath,
    entries: Vec<WireEntry<'a, Records<'a>>>,
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
        let trees = self.trees.iter();
        let trees: Vec<_> = trees
            .map(|tree| (&tree.path, tree.entries.as_slice()))
            .collect();
        check::trees(&self.kind, &trees)?;
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
            let entries = tree.entries.iter().map(encoded_len_max);
            16 + tree.path.as_str().len() + entries.sum::<usize>()
        });
        128 + trees.sum::<usize>()
    }

    /// Reads bytes that [`Manifest::encode`] made. They are whole, or an error; what comes out is valid.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let parsed = parse(bytes, 0)?;
        Ok(parsed
            .held(Arc::new(Zeroizing::new(bytes.to_vec())))
            .unfold())
    }

    fn to_wire(&self) -> WireManifest<'_> {
        let trees = self.trees.iter().map(|tree| WireTree {
            path: tree.path.clone(),
            entries: tree.entries.iter().map(to_wire).collect(),
        });
        WireManifest {
            job: self.job,
            kind: self.kind,
            trees: trees.collect(),
        }
    }
}

fn to_wire(entry: &Entry) -> WireEntry<'_, Records<'_>> {
    let Entry {
        path,
        kind,
        mode,
        mtime_ns,
        xattrs,
    } = entry;
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
}

fn encoded_len_max(entry: &Entry) -> usize {
    let xattrs = entry.xattrs.iter();
    let xattrs = xattrs.map(|(name, value)| 10 + name.len() + value.len());
    let kind = match &entry.kind {
        EntryKind::File { segments, .. } => RECORD_LEN * segments.len(),
        EntryKind::Symlink { target: bytes } | EntryKind::Link { to: bytes } => bytes.len(),
        EntryKind::Directory { .. } | EntryKind::Whiteout => 0,
    };
    64 + entry.path.len() + kind + xattrs.sum::<usize>()
}

/// Entries one behind the other, and where each begins.
pub(super) fn write(list: &[Entry]) -> Result<(Zeroizing<Vec<u8>>, Vec<u32>), Error> {
    let room = list.iter().map(encoded_len_max).sum();
    let (mut bytes, mut starts) = (Vec::with_capacity(room), Vec::with_capacity(list.len()));
    for entry in list {
        starts.push(place(bytes.len())?);
        bytes = postcard::to_extend(&to_wire(entry), bytes)
            .map_err(|_| malformed("it does not encode"))?;
    }
    Ok((Zeroizing::new(bytes), starts))
}

fn place(at: usize) -> Result<u32, Error> {
    u32::try_from(at).map_err(|_| malformed("it is longer than 4 GiB"))
}

/// What is in the bytes of a manifest, and where.
pub(super) struct Parsed {
    pub(super) job: JobId,
    pub(super) kind: Kind,
    pub(super) trees: Vec<(CentralPath, Vec<u32>)>,
}

/// Reads the bytes of a manifest, which begin at `from` and end with `bytes`. They are whole and valid, or an error.
pub(super) fn parse(bytes: &[u8], from: usize) -> Result<Parsed, Error> {
    let rest = bytes.get(from..).unwrap_or_default();
    let rest = rest
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
    place(bytes.len())?;
    let mut reader = Reader { rest: body };
    let (job, kind) = (reader.take()?, reader.take()?);
    let count: usize = reader.take()?;
    let mut trees = Vec::new();
    for _ in 0..count {
        if trees.len() == TREES_MAX {
            return Err(malformed("it has too many trees"));
        }
        let path = reader.take()?;
        let count: usize = reader.take()?;
        if count > ENTRIES_MAX {
            return Err(malformed("it has too many entries"));
        }
        // Nothing is allocated on the word of a length alone: no entry is shorter than this.
        let mut starts = Vec::with_capacity(count.min(reader.rest.len() / ENTRY_LEN_MIN));
        for _ in 0..count {
            starts.push(place(bytes.len() - reader.rest.len())?);
            reader.entry()?;
        }
        trees.push((path, starts));
    }
    if !reader.rest.is_empty() {
        return Err(malformed("something follows it"));
    }
    let rows = trees
        .iter()
        .map(|(path, starts)| (path, Rows { bytes, starts }));
    check::trees(&kind, &rows.collect::<Vec<_>>())?;
    Ok(Parsed { job, kind, trees })
}

/// Bytes of the shortest entry there is: an empty path, its kind and what goes with that, mode, time, no attributes.
const ENTRY_LEN_MIN: usize = 5;

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next value. Postcard reads numbers that are longer than they need be. Every such spelling is longer, so one length is one spelling.
    fn take<T: Deserialize<'a> + Serialize>(&mut self) -> Result<T, Error> {
        let (value, rest) =
            postcard::take_from_bytes(self.rest).map_err(|_| malformed("it does not decode"))?;
        let shortest = postcard::experimental::serialized_size(&value);
        if shortest.ok() != Some(self.rest.len() - rest.len()) {
            return Err(malformed("it is not in its shortest form"));
        }
        self.rest = rest;
        Ok(value)
    }

    fn entry(&mut self) -> Result<(), Error> {
        let wire: WireEntry<'_, &[u8]> = self.take()?;
        entry(wire).map(drop).ok_or(malformed(
            "a file has another number of segments than its length needs",
        ))
    }
}

/// The entries of a tree, as bytes that were read once already.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) starts: &'a [u32],
}

impl<'a> Rows<'a> {
    fn at(self, at: usize) -> Option<&'a [u8]> {
        self.bytes.get(*self.starts.get(at)? as usize..)
    }

    pub(super) fn entry(self, at: usize) -> Option<EntryRef<'a>> {
        let (wire, _) = postcard::take_from_bytes(self.at(at)?).ok()?;
        entry(wire)
    }

    pub(super) fn path(self, at: usize) -> &'a [u8] {
        let path = self
            .at(at)
            .and_then(|bytes| postcard::take_from_bytes::<&[u8]>(bytes).ok());
        path.map_or(b"", |(path, _)| path)
    }
}

impl check::Source for Rows<'_> {
    fn count(&self) -> usize {
        self.starts.len()
    }
    fn entry(&self, at: usize) -> Option<EntryRef<'_>> {
        Rows::entry(*self, at)
    }
    fn path(&self, at: usize) -> &[u8] {
        Rows::path(*self, at)
    }
}

/// None if a file has another number of segments than its length needs.
fn entry<'a>(wire: WireEntry<'a, &'a [u8]>) -> Option<EntryRef<'a>> {
    Some(EntryRef {
        path: wire.path,
        kind: match wire.kind {
            WireKind::Directory { opaque } => KindRef::Directory { opaque },
            WireKind::File { len, records } => {
                let (records, rest) = records.as_chunks::<RECORD_LEN>();
                let fit =
                    rest.is_empty() && records.len() as u64 == len.div_ceil(SEGMENT_MAX as u64);
                let segments = fit.then(|| Segments::records(len, records))?;
                KindRef::File { len, segments }
            }
            WireKind::Symlink { target } => KindRef::Symlink { target },
            WireKind::Link { to } => KindRef::Link { to },
            WireKind::Whiteout => KindRef::Whiteout,
        },
        mode: wire.mode,
        mtime_ns: wire.mtime_ns,
        xattrs: wire.xattrs,
    })
}
