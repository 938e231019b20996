//! Sealed things and key files: segments, blobs, audit records, manifests, wrapped keys.

use safelight_policies::id::{JobId, SessionId};
use safelight_seal::{
    Error,
    blob::Purpose,
    job_key::{JobKey, Stanza, TO_CLIENT},
    job_keys::JobKeys,
    key_file::ClientSecret,
    manifest::Manifest,
    random::Random,
    segment::{BLOCK, HEADER_LEN, OpenKey, Place, Segment, SegmentKey, layout, seal_segment},
};

use crate::bounded::decoding;

/// How many parsers this family has.
pub const CHOICES: u8 = 9;

/// The same bytes always, so that what was found can be repeated.
pub struct Fixed;

impl Random for Fixed {
    fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
        out.fill(7);
        Ok(())
    }
}

const JOB: JobId = JobId::from_random([1; 10]);

/// Calls the parser that the first byte chooses; true if it took the rest.
pub fn check(bytes: &[u8]) -> bool {
    let Some((choice, bytes)) = bytes.split_first() else {
        return false;
    };
    match choice % CHOICES {
        0 => header(bytes),
        1 => decoding(bytes, || Manifest::decode(bytes)).is_ok_and(|it| {
            let again = it.encode().expect("what was valid");
            assert!(again[..] == *bytes, "two spellings of a manifest");
            true
        }),
        2 => decoding(bytes, || ClientSecret::from_file_bytes(bytes)).is_ok_and(|it| {
            assert!(
                it.to_file_bytes()[..] == *bytes,
                "two spellings of a key file"
            );
            true
        }),
        3 => decoding(bytes, || JobKeys::from_file_bytes(bytes)).is_ok_and(|it| {
            assert_eq!(it.to_file_bytes(), bytes, "two spellings of a job's keys");
            true
        }),
        4 => Stanza::from_bytes(bytes).is_ok_and(|it| {
            assert_eq!(it.to_bytes()[..], *bytes, "two spellings of a stanza");
            let secret = client().kem;
            let key = JobKey::unwrap(&it, &secret, TO_CLIENT, JOB);
            assert!(
                key.is_err() || *bytes == wrapped().to_bytes(),
                "a forged stanza"
            );
            true
        }),
        5 => blob(bytes),
        6 => segment(bytes),
        7 => record(bytes),
        _ => forged(bytes),
    }
}

/// A header page and a table of tags, as they lie on a disk.
fn header(bytes: &[u8]) -> bool {
    let Some((page, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return false;
    };
    let Ok(layout) = layout(page) else {
        return false;
    };
    let stored = layout.tags_at - HEADER_LEN as u64;
    assert_eq!(layout.file_len, layout.tags_at + layout.tags_len as u64);
    assert!(stored <= u64::from(layout.plaintext_len));
    assert!(layout.tags_len <= 4096 && layout.stored_blocks as usize * 16 == layout.tags_len);
    let tags = &rest[..rest.len().min(layout.tags_len)];
    let opened = decoding(bytes, || Segment::open(&OpenKey::none(), page, tags));
    assert!(opened.is_err(), "a forged segment");
    true
}

/// Applies changes to bytes, three bytes each: where (little-endian), and what to flip there.
pub fn patched(valid: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut out = valid.to_vec();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % out.len();
        out[at] ^= change[2];
    }
    // What is left over cuts it off.
    out.truncate(out.len() - changes.len() % 3);
    out
}

fn client() -> ClientSecret {
    ClientSecret::generate(&Fixed).expect("keys")
}

/// The job's key, wrapped to the client.
pub fn wrapped() -> Stanza {
    let to = client().kem.public();
    job_key()
        .wrap(&to, TO_CLIENT, JOB, &Fixed)
        .expect("a stanza")
}

fn job_key() -> JobKey {
    JobKey::generate(&Fixed).expect("a key")
}

/// A blob opens if nothing of it was changed, and only then.
fn blob(changes: &[u8]) -> bool {
    let key = job_key();
    let sealed = key.seal_blob(Purpose::Recipe, b"here", b"a recipe", &Fixed);
    let sealed = sealed.expect("a blob");
    let spoilt = patched(&sealed, changes);
    let opened = decoding(&spoilt, || key.open_blob(Purpose::Recipe, b"here", &spoilt));
    assert_eq!(opened.is_ok(), spoilt == sealed, "a blob that was changed");
    opened.is_ok()
}

/// The plaintext that is sealed once and changed ever after: a block, a hole, and a rest.
fn plaintext() -> Vec<u8> {
    let mut plain = vec![3; BLOCK];
    plain.resize(2 * BLOCK, 0);
    plain.extend_from_slice(b"rest");
    plain
}

/// A segment's blocks open to what was sealed, or not at all.
fn segment(changes: &[u8]) -> bool {
    let plain = plaintext();
    let key = SegmentKey::generate(&Fixed).expect("a key");
    let sealed = seal_segment(key, &plain).expect("a segment");
    // Changes reach the header, the last stored block and the tags; the first block is like the last.
    let (first, rest) = sealed.bytes.split_at(HEADER_LEN);
    let (block, tail) = rest.split_at(BLOCK);
    let spoilt = patched(&[first, tail].concat(), changes);
    let Some((page, tail)) = spoilt.split_first_chunk::<HEADER_LEN>() else {
        return false;
    };
    let tags = &tail[tail.len().min(4)..];
    let Ok(opened) = decoding(&spoilt, || Segment::open(&sealed.key, page, tags)) else {
        return false;
    };
    assert_eq!(
        opened.plaintext_len(),
        plain.len(),
        "a segment of another length"
    );
    let mut whole = true;
    for index in 0..opened.blocks() {
        let expected = &plain[index * BLOCK..plain.len().min((index + 1) * BLOCK)];
        if matches!(opened.place(index), Some(Place::Hole { .. })) {
            assert!(
                expected.iter().all(|byte| *byte == 0),
                "a hole that was none"
            );
            continue;
        }
        let mut bytes = match index {
            0 => block.to_vec(),
            _ => tail[..tail.len().min(4)].to_vec(),
        };
        match opened.open_block(index, &mut bytes) {
            Ok(()) => assert_eq!(bytes, expected, "wrong bytes"),
            Err(_) => whole = false,
        }
    }
    whole
}

/// An audit record opens if nothing of it was changed, and at its own number only.
fn record(changes: &[u8]) -> bool {
    let key = job_key().audit_key(SessionId::from_random([1; 10]));
    let sealed = key.seal(5, b"a touch").expect("a record");
    let spoilt = patched(&sealed, changes);
    assert!(key.open(6, &spoilt).is_err(), "a record at another's place");
    let opened = decoding(&spoilt, || key.open(5, &spoilt)).is_ok();
    assert_eq!(opened, spoilt == sealed, "a record that was changed");
    opened
}

/// Bytes that nobody with the key sealed.
fn forged(bytes: &[u8]) -> bool {
    let key = job_key();
    let audit = key.audit_key(SessionId::from_random([1; 10]));
    for purpose in [Purpose::InputManifest, Purpose::Recipe, Purpose::TaskLog] {
        let opened = decoding(bytes, || key.open_blob(purpose, b"elsewhere", bytes));
        assert!(opened.is_err(), "a forged blob");
    }
    assert!(
        decoding(bytes, || audit.open(0, bytes)).is_err(),
        "a forged record"
    );
    false
}
