//! The independent reader, which knows the format's page and not our code: it opens what is golden, with the right key only.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use data_encoding::HEXLOWER;

use super::{crossing, files, golden, make};
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

#[test]
fn an_independent_reader_reads_golden_letters_and_a_lease() {
    if !requires(&["python-packages"]) {
        return;
    }
    let listing = fs::read_to_string(golden().join("letters.txt")).expect("a listing");
    let said = letters(&crossing::folder());
    assert_eq!(said, Ok(listing));
    let schedule = HEXLOWER.encode(&crossing::schedule().0);
    let said = reader(&["lease".as_ref(), &golden().join("lease"), schedule.as_ref()]);
    let text = String::from_utf8(said.stdout).expect("text");
    let words = [
        "lease client=river job=",
        " task=0.3 tasks=4 attempt=2 fence=7 session=",
        " node=node-1 key=",
        " slot=3 expires=1700003700 policy=blender digest=0505",
    ];
    assert!(words.iter().all(|words| text.contains(words)), "{text}");
    let client = HEXLOWER.encode(&crossing::client().0);
    let said = reader(&["grant".as_ref(), &golden().join("grant"), client.as_ref()]);
    let text = String::from_utf8(said.stdout).expect("text");
    let words = [
        "grant number=47474747474747474747 client=river job=",
        " task=0.3 site=",
        " issued=1700000100 from=1700000160 expires=1700007300 prekey=",
    ];
    assert!(words.iter().all(|words| text.contains(words)), "{text}");
    let other = "11".repeat(32);
    let said = reader(&["grant".as_ref(), &golden().join("grant"), other.as_ref()]);
    assert!(!said.status.success());
    let said = reader(&["lease".as_ref(), &golden().join("lease"), other.as_ref()]);
    assert!(!said.status.success());
}

/// What `reader.py letters` says of a folder.
fn letters(folder: &Path) -> Result<String, String> {
    let said = reader(&["letters".as_ref(), folder]);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    match said.status.success() {
        true => Ok(text(said.stdout)),
        false => Err(text(said.stderr)),
    }
}

#[test]
fn an_independent_reader_refuses_letters_that_were_changed_in_one_place() {
    if !requires(&["python-packages"]) {
        return;
    }
    let temp = tempfile::tempdir().expect("a directory");
    let all = files(&crossing::folder());
    for (name, bytes) in &all {
        let path = temp.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, bytes).expect("a file");
    }
    assert!(letters(temp.path()).is_ok());
    let mut tried = 0;
    for (at, (name, bytes)) in all.iter().enumerate().filter(|(_, it)| !it.1.is_empty()) {
        let mut spoilt = bytes.clone();
        // Somewhere else in each: magic, signer, signature, body.
        spoilt[(at * 37) % bytes.len()] ^= 0x20;
        fs::write(temp.path().join(name), spoilt).expect("a file");
        let refused = letters(temp.path()).unwrap_err();
        assert!(refused.starts_with("refused: "), "{refused}");
        fs::write(temp.path().join(name), bytes).expect("a file");
        tried += 1;
    }
    // A letter under another name is another letter.
    let letter = all.keys().find(|name| name.starts_with("ready"));
    let letter = temp.path().join(letter.expect("a letter"));
    let other = letter
        .to_str()
        .expect("text")
        .replacen("00000000", "00000009", 1);
    fs::rename(&letter, &other).expect("another name");
    let refused = letters(temp.path()).unwrap_err();
    assert!(refused.starts_with("refused: "), "{refused}");
    assert!(tried > 15, "{tried}");
    assert!(letters(&golden()).unwrap_err().starts_with("refused: "));
}

#[test]
fn an_independent_verifier_reads_a_golden_register_and_log() {
    if !requires(&["python-packages"]) {
        return;
    }
    let (site, client) = crossing::verifiers();
    let verify = |arguments: &[&std::ffi::OsStr]| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/vfs/audit/verifier/verify.py");
        let said = Command::new(python()).arg(script).args(arguments).output();
        said.expect("an interpreter").status.success()
    };
    let (register, seen) = (golden().join("register"), golden().join("seen.note"));
    let log = golden().join("session.log");
    let as_signed = |site: &str| {
        verify(&[
            "register".as_ref(),
            register.as_os_str(),
            "--site-key".as_ref(),
            site.as_ref(),
            "--seen".as_ref(),
            seen.as_os_str(),
            "--client-key".as_ref(),
            client.as_ref(),
        ])
    };
    assert!(as_signed(&site));
    assert!(!as_signed(&client));
    assert!(verify(&[
        "log".as_ref(),
        log.as_os_str(),
        register.as_os_str()
    ]));
    let temp = tempfile::tempdir().expect("a directory");
    let mut bytes = fs::read(&log).expect("a log");
    let last = bytes.len() - 40;
    bytes[last] ^= 1;
    fs::write(temp.path().join("log"), bytes).expect("a file");
    let changed = temp.path().join("log");
    assert!(!verify(&[
        "log".as_ref(),
        changed.as_os_str(),
        register.as_os_str()
    ]));
}
