//! The worked example of `docs/format.md`, recomputed by our code and, from the page alone, by the independent reader.

use std::fmt::Write;

use data_encoding::HEXLOWER;
use safelight_policies::id::{JobId, SessionId};
use safelight_seal::{
    blob::Purpose,
    identity::{KemSecret, SigningSecret},
    job_key::{JobKey, TO_CLIENT},
    manifest::{Entry, EntryKind, Kind, Manifest, SegmentRef, Tree},
    random::Random,
    segment::{HEADER_LEN, SegmentKey, seal_segment},
};

/// Bytes that count up from a first one, in one draw or several.
struct From(std::cell::Cell<u8>);

impl Random for From {
    fn fill(&self, out: &mut [u8]) -> Result<(), safelight_seal::Error> {
        for byte in out {
            *byte = self.0.get();
            self.0.set(byte.wrapping_add(1));
        }
        Ok(())
    }
}

fn from(first: u8) -> From {
    From(std::cell::Cell::new(first))
}

fn bytes(first: u8) -> [u8; 32] {
    let mut out = [0; 32];
    from(first).fill(&mut out).expect("bytes");
    out
}

/// The example as the page has it: a name, then hexadecimal digits in lines of 48 bytes.
fn example() -> String {
    let mut out = String::new();
    let mut show = |name: &str, value: &[u8]| {
        let hex = HEXLOWER.encode(value);
        for (at, line) in hex.as_bytes().chunks(96).enumerate() {
            let line = str::from_utf8(line).expect("digits");
            match at {
                0 => writeln!(out, "{name} = {line}"),
                _ => writeln!(out, "  {line}"),
            }
            .expect("a string");
        }
    };
    let job = JobId::from_random(*b"an example");
    show("job", job.as_bytes());
    show("plaintext", b"safelight\n");
    show("segment key", &bytes(0));
    let key = SegmentKey::generate(&from(0)).expect("a key");
    let sealed = seal_segment(key, b"safelight\n").expect("a segment");
    show("segment, first 80 bytes", &sealed.bytes[..80]);
    show("segment, stored block and tag", &sealed.bytes[HEADER_LEN..]);
    show("object", &sealed.id.0);
    show("job key", &bytes(0x20));
    let key = JobKey::generate(&from(0x20)).expect("a key");
    show("recipe", b"a recipe");
    let blob = key.seal_blob(Purpose::Recipe, job.as_bytes(), b"a recipe", &from(0x40));
    show("blob", &blob.expect("a blob"));
    show("attest key", &key.attest_key().public().0);
    show("x25519 secret", &bytes(0x60));
    let to = KemSecret::from_bytes(&bytes(0x60)).public();
    let stanza = key
        .wrap(&to, TO_CLIENT, job, &from(0x80))
        .expect("a stanza");
    show("stanza", &stanza.to_bytes());
    let entry = |path: &[u8], kind, mode| Entry {
        path: path.to_vec(),
        kind,
        mode,
        mtime_ns: 1_700_000_000_000_000_000,
        xattrs: vec![(b"user.a".to_vec(), vec![1])],
    };
    let file = EntryKind::File {
        len: 10,
        segments: vec![SegmentRef {
            object: Some(sealed.id),
            len: 10,
            key: sealed.key,
        }],
    };
    let manifest = Manifest {
        job,
        kind: Kind::Inputs,
        trees: vec![Tree {
            path: "/mnt".parse().expect("a path"),
            entries: vec![
                entry(b"", EntryKind::Directory { opaque: false }, 0o755),
                entry(b"scene", file, 0o644),
            ],
        }],
    };
    let body = manifest.encode().expect("a manifest");
    show("manifest body", &body);
    show("signing seed", &bytes(0xa0));
    let client = SigningSecret::from_bytes(&bytes(0xa0));
    show("signing key", &client.public().0);
    show("signature", &client.sign("input manifest", &body));
    let session = SessionId::from_random(*b"one try it");
    show("session", session.as_bytes());
    show("record's plaintext", b"open");
    let record = key.audit_key(session).seal(7, b"open").expect("a record");
    show("record", &record);
    out
}

#[test]
fn the_example_of_the_format_is_what_the_code_makes() {
    let page = include_str!("../../../docs/format.md");
    let (_, below) = page
        .split_once("## Worked example")
        .expect("a worked example");
    let block = below.split("```").nth(1).expect("a block");
    let expected = example();
    assert_eq!(block.trim(), expected.trim(), "it should be:\n{expected}");
}
