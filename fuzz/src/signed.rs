//! Signed documents and letters, lists of blobs, names in hot folders.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use safelight_bundle::{
    AnyLetter, BlobList, DebugGrant, Document, EntryName, Envelope, Kind, Packed, Prekey,
    ReadyName, open,
};
use safelight_policies::lease::Lease;
use safelight_seal::identity::SigningSecret;

use crate::{bounded::decoding, sealed::patched};

/// How many parsers this family has.
pub const CHOICES: u8 = 18;

/// The first choice that is a letter; one for each kind follows.
pub const LETTERS: u8 = 7;

/// The debug grant, after the letters.
pub const GRANT: u8 = CHOICES - 1;

/// Calls the parser that the first byte chooses; true if it took the rest.
pub fn check(bytes: &[u8]) -> bool {
    let Some((choice, bytes)) = bytes.split_first() else {
        return false;
    };
    match choice % CHOICES {
        0 => document::<Envelope>(bytes),
        1 => document::<Lease>(bytes),
        2 => document::<Prekey>(bytes),
        3 => document::<Packed>(bytes),
        4 => decoding(bytes, || BlobList::decode(bytes)).is_ok_and(|list| {
            let again = list.encode().expect("what was valid");
            assert_eq!(again, bytes, "two spellings of a list");
            true
        }),
        5 => name(bytes),
        6 => unsigned(bytes),
        GRANT => document::<DebugGrant>(bytes),
        kind => letter(Kind::ALL[usize::from(kind - LETTERS)], bytes),
    }
}

/// Who signs whatever the fuzzer makes up: a signer is no less hostile for having signed.
pub fn signer() -> SigningSecret {
    SigningSecret::from_bytes(&[3; 32])
}

/// A document with this body, rightly signed in this context.
fn as_signed(context: &str, body: &[u8]) -> Vec<u8> {
    let signer = signer();
    let signature = signer.sign(context, body);
    [b"SLSIGNED\x01\0", &signer.public().0[..], &signature, body].concat()
}

fn document<T: Document>(body: &[u8]) -> bool {
    let bytes = as_signed(T::CONTEXT, body);
    let Ok(document) = decoding(&bytes, || open::<T>(&bytes, &signer().public())) else {
        return false;
    };
    let again = postcard::to_stdvec(&document).expect("what was valid");
    assert_eq!(again, body, "two spellings of a document");
    assert!(body.len() <= T::BYTES_MAX);
    true
}

/// The context in which letters of a kind are signed.
fn context(kind: Kind) -> &'static str {
    match kind {
        Kind::Job => "announcement",
        Kind::Result => "result notice",
        Kind::Prekeys => "prekey batch",
        Kind::Receipt => "receipt",
        Kind::Heartbeat => "heartbeat",
        Kind::Cancel => "cancel",
        Kind::Ended => "job ended",
        Kind::Register => "register notice",
        Kind::Look => "look notice",
        Kind::Revocation => "revocation",
    }
}

fn letter(kind: Kind, body: &[u8]) -> bool {
    let bytes = as_signed(context(kind), body);
    let Ok(letter) = decoding(&bytes, || AnyLetter::open(kind, &bytes, &signer().public())) else {
        return false;
    };
    assert_eq!(letter.kind(), kind);
    assert!(body.len() <= kind.bytes_max());
    let stamp = letter.stamp();
    assert!(stamp.seq.number > 0 && stamp.expires > stamp.issued);
    // It is of no other kind, whoever says so.
    for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
        assert!(AnyLetter::open(other, &bytes, &signer().public()).is_err());
    }
    let again = match letter {
        AnyLetter::Job(it) => postcard::to_stdvec(&it),
        AnyLetter::Result(it) => postcard::to_stdvec(&it),
        AnyLetter::Prekeys(it) => postcard::to_stdvec(&it),
        AnyLetter::Receipt(it) => postcard::to_stdvec(&it),
        AnyLetter::Heartbeat(it) => postcard::to_stdvec(&it),
        AnyLetter::Cancel(it) => postcard::to_stdvec(&it),
        AnyLetter::Ended(it) => postcard::to_stdvec(&it),
        AnyLetter::Register(it) => postcard::to_stdvec(&it),
        AnyLetter::Look(it) => postcard::to_stdvec(&it),
        AnyLetter::Revocation(it) => postcard::to_stdvec(&it),
    };
    assert_eq!(
        again.expect("what was valid"),
        body,
        "two spellings of a letter"
    );
    true
}

/// A lease that was changed in one place, or made up: nobody signed it.
fn unsigned(changes: &[u8]) -> bool {
    let signed = as_signed("prekey", b"whatever it says");
    let spoilt = patched(&signed, changes);
    for signer in [
        signer().public(),
        SigningSecret::from_bytes(&[4; 32]).public(),
    ] {
        assert!(open::<Prekey>(&spoilt, &signer).is_err(), "a forged prekey");
        assert!(open::<Lease>(changes, &signer).is_err(), "a forged lease");
    }
    false
}

/// A file's name in a hot folder, as a carrier gave it.
fn name(bytes: &[u8]) -> bool {
    let Some(entry) = EntryName::new(OsString::from_vec(bytes.to_vec())) else {
        return false;
    };
    assert!(!bytes.contains(&b'/') && !bytes.contains(&0) && bytes.len() <= 255);
    let shown = entry.to_string();
    assert!(
        !shown.contains(|c: char| c.is_control()),
        "it moves a cursor"
    );
    let Some(name) = ReadyName::parse(signer().public(), &entry) else {
        return false;
    };
    assert_eq!(name.entry(), entry, "two spellings of a name");
    true
}
