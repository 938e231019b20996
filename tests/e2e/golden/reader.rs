//! The independent reader, which knows the format's page and not our code: it opens what is golden, with the right key only.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use data_encoding::HEXLOWER;

use super::{files, golden, make};
use crate::harness::{python, requires};

fn reader(arguments: &[&Path]) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/vfs/tests/reader.py");
    let mut command = Command::new(python());
    command.arg(script).args(arguments);
    command.output().expect("an interpreter")
}

fn signer() -> String {
    let [client, ..] = make::parties();
    HEXLOWER.encode(&client.sign.public().0)
}

/// What `reader.py list` says of a bundle.
fn list(bundle: &Path, key: &str) -> Result<String, String> {
    let key = golden().join(key);
    let said = reader(&["list".as_ref(), bundle, signer().as_ref(), &key]);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    if said.status.success() {
        return Ok(text(said.stdout));
    }
    // A refusal is a line, not an accident.
    let error = text(said.stderr);
    assert!(error.starts_with("refused: "), "{error}");
    assert!(
        said.stdout.is_empty(),
        "something was shown before the refusal"
    );
    Err(error)
}

#[test]
fn an_independent_reader_opens_a_golden_area_with_its_key_only() {
    if !requires(&["python-packages"]) {
        return;
    }
    let listing = fs::read_to_string(golden().join("listing.txt")).expect("a listing");
    let bundle = golden().join("bundle");
    for key in ["client.key", "reader.key"] {
        assert_eq!(list(&bundle, key).as_ref(), Ok(&listing), "{key}");
    }
    let refused = list(&bundle, "stranger.key").unwrap_err();
    assert!(refused.contains("not sealed to this key"), "{refused}");
    let stranger = "11".repeat(32);
    let said = reader(&["check".as_ref(), &bundle, stranger.as_ref()]);
    assert!(!said.status.success());
    let said = reader(&["check".as_ref(), &bundle, signer().as_ref()]);
    assert!(said.status.success(), "{said:?}");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/format.md");
    let said = reader(&["example".as_ref(), page.as_ref()]);
    assert!(said.status.success(), "{said:?}");
}

#[test]
fn an_independent_reader_refuses_tampered_bytes() {
    refuses_tampered_bytes(29);
}

#[test]
#[ignore = "long: ten thousand areas"]
fn an_independent_reader_refuses_every_tampered_byte() {
    refuses_tampered_bytes(1);
}

/// One in `step` of the places worth trying.
fn refuses_tampered_bytes(step: usize) {
    if !requires(&["python-packages"]) {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/vfs/tests/reader_tamper.py");
    let said = Command::new(python())
        .arg(script)
        .arg(golden())
        .arg(step.to_string())
        .output()
        .expect("an interpreter");
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(
        said.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&said.stderr)
    );
    // It says how many it tried: as many as there are bytes worth trying.
    let tried: usize = text.trim().parse().expect("a number");
    let small: usize = files(&golden().join("bundle")).len();
    assert!(tried > 500 * small / step, "{tried}");
}
