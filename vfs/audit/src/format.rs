//! The bytes of an audit log, version 1: a header and frames. Pure.
//!
//! ```text
//! file   = header frame*
//! header = "SLAUDIT\0" | version u16 | len u16 | postcard(Header) | chain_0
//! frame  = len u32 | postcard(Record) | chain_i
//! chain_0 = BLAKE3 derive_key("safelight v1 audit header", all header bytes before it)
//! chain_i = BLAKE3 derive_key("safelight v1 audit record", chain_(i-1) | len | postcard(Record))
//! ```
//! Integers are little-endian, a chain value has 32 bytes. `derive_key` is BLAKE3's third mode (BLAKE3 paper, section 2.3), here for
//! domain separation; no secret enters it.

use safelight_policies::id::{ClientAlias, JobId};
use serde::{Deserialize, Serialize};

use crate::{Error, record::Record};

/// The first eight bytes of a log.
pub const MAGIC: &[u8; 8] = b"SLAUDIT\0";

/// The version of the format.
pub const VERSION: u16 = 1;

/// The longest encoded record: a message of the channel and what the writer adds to it.
pub const BODY_MAX: usize = safelight_channel::MESSAGE_MAX + 64;

/// The longest frame.
pub(crate) const FRAME_MAX: usize = 4 + BODY_MAX + 32;

/// The longest encoded header: two ids and a name of at most 63 bytes leave room to spare.
const HEADER_BODY_MAX: usize = 256;

/// The longest header.
pub(crate) const HEADER_MAX: usize = 12 + HEADER_BODY_MAX + 32;

/// A link of the chain.
pub type Chain = [u8; 32];

/// Whose log this is. The first link of the chain, so a log cannot be passed off as another job's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The job.
    pub job: JobId,
    /// The client, by alias.
    pub client: ClientAlias,
    /// Random; tells two logs of one job apart.
    pub log: [u8; 16],
}

/// A header as it was found in a file.
pub(crate) struct Found {
    pub(crate) header: Header,
    /// The first link as it is stored.
    pub(crate) stored: Chain,
    /// The first link as it should be.
    pub(crate) computed: Chain,
    /// The bytes that the header takes.
    pub(crate) size: usize,
}

impl Header {
    /// The header's bytes and the first link of the chain.
    pub(crate) fn encode(&self) -> Result<(Vec<u8>, Chain), Error> {
        let body = postcard::to_stdvec(self).map_err(|source| Error::Encode { source })?;
        let len = u16::try_from(body.len())
            .ok()
            .filter(|len| usize::from(*len) <= HEADER_BODY_MAX)
            .ok_or(Error::TooLong { len: body.len() })?;
        let mut bytes = Vec::with_capacity(12 + body.len() + 32);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&body);
        let chain = header_chain(&bytes);
        bytes.extend_from_slice(&chain);
        Ok((bytes, chain))
    }

    /// Reads the header at the beginning of `bytes`. Whether its link holds is for the caller to compare.
    pub(crate) fn find(bytes: &[u8]) -> Result<Found, Error> {
        let (fixed, rest) = bytes.split_first_chunk::<12>().ok_or(Error::NotALog)?;
        if &fixed[..8] != MAGIC {
            return Err(Error::NotALog);
        }
        let found = u16::from_le_bytes([fixed[8], fixed[9]]);
        if found != VERSION {
            return Err(Error::Version { found });
        }
        let len = usize::from(u16::from_le_bytes([fixed[10], fixed[11]]));
        if len > HEADER_BODY_MAX {
            return Err(Error::NotALog);
        }
        let (body, rest) = rest.split_at_checked(len).ok_or(Error::NotALog)?;
        let (stored, _) = rest.split_first_chunk::<32>().ok_or(Error::NotALog)?;
        let header = match postcard::take_from_bytes(body) {
            Ok((header, [])) => header,
            _ => return Err(Error::NotALog),
        };
        Ok(Found {
            header,
            stored: *stored,
            computed: header_chain(&bytes[..12 + len]),
            size: 12 + len + 32,
        })
    }
}

fn header_chain(bytes: &[u8]) -> Chain {
    blake3::derive_key("safelight v1 audit header", bytes)
}

/// Computes links. Holds the hashed context so that it is not hashed again for each record.
#[derive(Clone)]
pub(crate) struct Linker(blake3::Hasher);

impl Linker {
    pub(crate) fn new() -> Self {
        Self(blake3::Hasher::new_derive_key("safelight v1 audit record"))
    }

    /// The link of a record whose encoded body is `body`, after `previous`.
    pub(crate) fn link(&self, previous: &Chain, body: &[u8]) -> Chain {
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut hasher = self.0.clone();
        hasher
            .update(previous)
            .update(&len.to_le_bytes())
            .update(body);
        hasher.finalize().into()
    }
}

/// Appends the frame of `record` to `out` and returns its link. On an error `out` is as before.
pub(crate) fn frame(
    linker: &Linker,
    previous: &Chain,
    record: &Record,
    out: &mut Vec<u8>,
) -> Result<Chain, Error> {
    let body = postcard::to_stdvec(record).map_err(|source| Error::Encode { source })?;
    let len = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= BODY_MAX)
        .ok_or(Error::TooLong { len: body.len() })?;
    let chain = linker.link(previous, &body);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&body);
    out.extend_from_slice(&chain);
    Ok(chain)
}

/// What the bytes at the beginning of a frame amount to.
pub(crate) enum Split<'a> {
    /// No byte is left.
    End,
    /// Fewer bytes are left than the frame says it has.
    Short,
    /// A length that no record has.
    NoFrame,
    /// A whole frame.
    Frame(Frame<'a>),
}

/// A frame in a buffer.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) stored: Chain,
}

impl<'a> Frame<'a> {
    /// The bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        4 + self.body.len() + 32
    }

    /// The record, if the body is one and nothing else.
    pub(crate) fn record(&self) -> Option<Record> {
        match postcard::take_from_bytes(self.body) {
            Ok((record, [])) => Some(record),
            _ => None,
        }
    }
}

/// Splits off the frame at the beginning of `bytes`, which must hold [`FRAME_MAX`] bytes or all that are left.
pub(crate) fn split(bytes: &[u8]) -> Split<'_> {
    if bytes.is_empty() {
        return Split::End;
    }
    let Some((len, rest)) = bytes.split_first_chunk::<4>() else {
        return Split::Short;
    };
    let len = u32::from_le_bytes(*len) as usize;
    if len == 0 || len > BODY_MAX {
        return Split::NoFrame;
    }
    let Some((body, rest)) = rest.split_at_checked(len) else {
        return Split::Short;
    };
    match rest.split_first_chunk::<32>() {
        Some((stored, _)) => Split::Frame(Frame {
            body,
            stored: *stored,
        }),
        None => Split::Short,
    }
}

/// Looks for a frame whose length field was changed: the record itself tells where it ends, and its link then proves it.
pub(crate) fn split_despite_length<'a>(
    linker: &Linker,
    previous: &Chain,
    bytes: &'a [u8],
) -> Option<Frame<'a>> {
    let rest = bytes.get(4..)?;
    let (_, after) = postcard::take_from_bytes::<Record>(rest).ok()?;
    let body = &rest[..rest.len() - after.len()];
    let (stored, _) = after.split_first_chunk::<32>()?;
    (linker.link(previous, body) == *stored).then_some(Frame {
        body,
        stored: *stored,
    })
}
