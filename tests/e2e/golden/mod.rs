//! Golden areas: what an earlier version of Safelight sealed, opened by today's; and made again, the same to the last byte.
//!
//! A format is frozen when these files are. They are never made anew: a change that needs other bytes is another version, with a folder
//! of its own beside these. To make a new one: `SAFELIGHT_GOLDEN=new cargo test golden`, which replaces nothing.

mod crossing;
mod example;
mod make;
mod reader;
mod recipes;

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use safelight_bundle::{BlobList, Envelope, Packed};
use safelight_seal::{
    blob::Purpose,
    job_keys::JobKeys,
    key_file::ClientSecret,
    manifest::{Entry, EntryKind, Kind, Manifest},
};
use safelight_vfs::{area::Area, whole::Whole};

use make::{JOB, PRINTED, Plain, RECIPE, What};

/// The golden area of format 1.
pub(crate) fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vfs/tests/golden/1")
}

/// All files below a directory, by their path in it.
pub(crate) fn files(below: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![below.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = fs::read(&path).expect("a file");
                let name = path.strip_prefix(below).expect("a path below");
                found.insert(name.to_owned(), bytes);
            }
        }
    }
    found
}

/// A name as a listing has it: visible ASCII but for the backslash as it is, any other byte by its number.
fn shown(name: &[u8]) -> String {
    let mut out = String::new();
    for byte in name {
        match byte {
            b'\\' => out.push_str("\\x5c"),
            0x21..=0x7e => out.push(char::from(*byte)),
            _ => write!(out, "\\x{byte:02x}").expect("a string"),
        }
    }
    out
}

fn line(tree: &str, path: &[u8], mode: u32, time: i64, what: &str, xattrs: &str) -> String {
    format!(
        "{tree}\t{}\t{mode:04o}\t{time}\t{what}\t{xattrs}\n",
        shown(path)
    )
}

fn listed_xattrs(xattrs: &[(Vec<u8>, Vec<u8>)]) -> String {
    let hex = data_encoding::HEXLOWER;
    let one = |(name, value): &(Vec<u8>, Vec<u8>)| format!("{}={}", shown(name), hex.encode(value));
    xattrs.iter().map(one).collect::<Vec<_>>().join(",")
}

fn listed_file(bytes: &[u8]) -> String {
    format!("file {} {}", bytes.len(), blake3::hash(bytes).to_hex())
}

/// The listing that must come out, from what went in.
fn listing_of_plain() -> String {
    let mut out = String::new();
    let mut add = |title: &str, trees: Vec<(&str, Vec<Plain>)>| {
        out.push_str(title);
        for (tree, plains) in trees {
            for it in plains {
                let what = match &it.what {
                    What::Directory { opaque: false } => "directory".to_owned(),
                    What::Directory { opaque: true } => "directory opaque".to_owned(),
                    What::File(bytes) => listed_file(bytes),
                    What::Symlink(target) => format!("symlink {}", shown(target)),
                    What::Link(to) => format!("link {}", shown(to)),
                    What::Whiteout => "whiteout".to_owned(),
                };
                let xattrs = listed_xattrs(&it.xattrs);
                out += &line(tree, &it.path, it.mode, it.mtime_ns, &what, &xattrs);
            }
        }
    };
    add("inputs\n", make::inputs());
    add("result 0.3 attempt 2\n", make::outputs());
    for (name, bytes) in [("log", PRINTED), ("recipe", RECIPE)] {
        out += &format!("{name} {} {}\n", bytes.len(), blake3::hash(bytes).to_hex());
    }
    out
}

/// The listing that comes out of an opened manifest.
fn list(out: &mut String, area: &Area, manifest: &Manifest) {
    for tree in &manifest.trees {
        for entry in &tree.entries {
            let what = match &entry.kind {
                EntryKind::Directory { opaque: false } => "directory".to_owned(),
                EntryKind::Directory { opaque: true } => "directory opaque".to_owned(),
                EntryKind::File { .. } => listed_file(&whole(area, entry)),
                EntryKind::Symlink { target } => format!("symlink {}", shown(target)),
                EntryKind::Link { to } => format!("link {}", shown(to)),
                EntryKind::Whiteout => "whiteout".to_owned(),
            };
            let xattrs = listed_xattrs(&entry.xattrs);
            let (mode, time) = (entry.mode, entry.mtime_ns);
            *out += &line(tree.path.as_str(), &entry.path, mode, time, &what, &xattrs);
        }
    }
}

fn whole(area: &Area, entry: &Entry) -> Vec<u8> {
    let file = Whole::new(area, entry).expect("a file");
    let (mut all, mut part) = (Vec::new(), Vec::new());
    while (all.len() as u64) < file.len() {
        file.read(all.len() as u64, 1 << 20, &mut part)
            .expect("authentic bytes");
        all.extend_from_slice(&part);
    }
    all
}

/// Opens a golden bundle with a key file, as a careful reader does; the client, its own way, with the whole job key.
fn listing_of(golden: &Path, key_file: &str) -> Result<String, safelight_seal::Error> {
    let secret = fs::read(golden.join(key_file)).expect("a key file");
    let secret = ClientSecret::from_file_bytes(&secret)?;
    let client = fs::read(golden.join("client.key")).expect("a key file");
    let client = ClientSecret::from_file_bytes(&client)?.sign.public();
    let bundle = golden.join("bundle");
    let area = Area::open(bundle.join("blobs")).expect("an area");
    let signed = fs::read(bundle.join("bundle")).expect("a file");
    let packed: Packed = safelight_bundle::open(&signed, &client).expect("an authentic bundle");
    let read = |id| area.read(id).expect("an object");
    let envelope: Envelope =
        safelight_bundle::open(&read(packed.envelope), &client).expect("an authentic envelope");
    let blobs = BlobList::decode(&read(packed.load.list)).expect("a list");
    assert_eq!(packed.disagreement(&envelope, &blobs), None);
    for (id, len) in blobs.entries() {
        assert_eq!(read(*id).len(), *len as usize);
    }
    let keys = fs::read(bundle.join("keys")).expect("a file");
    let keys = JobKeys::from_file_bytes(&keys)?;
    let key = keys.open_to_read(JOB, &secret.kem)?;
    let inputs = Manifest::open(&read(envelope.inputs), &key, JOB, &Kind::Inputs, &client)?;
    let mut out = String::from("inputs\n");
    list(&mut out, &area, &inputs);
    let mut blobs = String::new();
    for left in &packed.results {
        let (Some(manifest), Some(log)) = (left.manifest, left.log) else {
            continue;
        };
        let kind = Kind::Result {
            session: left.session,
            attempt: left.attempt,
            fence: left.fence,
        };
        let result = Manifest::open(&read(manifest), &key, JOB, &kind, &envelope.attest)?;
        out += &format!("result {} attempt {}\n", left.task, left.attempt);
        list(&mut out, &area, &result);
        let log = key.open_blob(Purpose::TaskLog, &kind.place(JOB), &read(log))?;
        blobs += &format!("log {} {}\n", log.len(), blake3::hash(&log).to_hex());
    }
    let recipe = key.open_blob(Purpose::Recipe, JOB.as_bytes(), &read(envelope.recipe))?;
    let hash = blake3::hash(&recipe).to_hex();
    blobs += &format!("recipe {} {hash}\n", recipe.len());
    Ok(out + &blobs)
}

#[test]
fn a_golden_area_opens_to_what_it_was_made_from() {
    let listing = fs::read_to_string(golden().join("listing.txt")).expect("a listing");
    assert_eq!(listing, listing_of_plain(), "the listing is another job's");
    for key in ["client.key", "reader.key"] {
        assert_eq!(
            listing_of(&golden(), key).as_deref(),
            Ok(&listing[..]),
            "{key}"
        );
    }
    assert!(listing_of(&golden(), "stranger.key").is_err());
}

#[test]
fn the_same_job_is_sealed_to_the_same_bytes() {
    let temp = tempfile::tempdir().expect("a directory");
    let made = make::make(temp.path());
    crossing::make(temp.path(), &made);
    recipes::make(temp.path());
    let letters = crossing::listing(&temp.path().join("folder"));
    fs::write(temp.path().join("letters.txt"), letters).expect("a file");
    fs::write(temp.path().join("listing.txt"), listing_of_plain()).expect("a file");
    let made = files(temp.path());
    if std::env::var_os("SAFELIGHT_GOLDEN").is_some_and(|it| it == "new") {
        for (name, bytes) in &made {
            let path = golden().join(name);
            if path.exists() {
                continue;
            }
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, bytes).expect("a file");
        }
    }
    let kept = files(&golden());
    assert!(
        made.keys().eq(kept.keys()),
        "{:?}\n{:?}",
        made.keys(),
        kept.keys()
    );
    for (name, bytes) in &made {
        assert!(kept[name] == *bytes, "{} has other bytes", name.display());
    }
}
