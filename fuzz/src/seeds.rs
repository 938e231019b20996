//! Where the corpus begins: valid bytes for every parser, from the golden area and from what our own code writes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use safelight_audit::Source;
use safelight_bundle::{
    AnyLetter, BlobList, DebugGrant, Document, Envelope, Kind, Packed, Prekey, PrekeyBatch,
    ReadyName, claimed_signer, object_id, open,
};
use safelight_policies::{
    cause::Cause,
    id::{ClientAlias, Fence, JobId, SessionId, SlotIndex},
    lease::Lease,
};
use safelight_seal::{job_keys::JobKeys, key_file::ClientSecret, manifest::Manifest};
use safelight_vfs::{
    protocol::{FromView, ToView},
    session::{Action, Environment, FromLauncher, SessionFile, ToLauncher},
};
use serde::Serialize;

use crate::{
    client_protocol::{Answer, DeliveredReport},
    node_protocol::{Call, Ended},
    sealed, signed,
};

/// Bytes that a parser takes.
pub struct Seed {
    pub target: &'static str,
    pub name: String,
    pub bytes: Vec<u8>,
}

/// The repository.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = here.strip_prefix("fuzz").unwrap_or(here);
    here.to_owned()
}

fn golden(name: &str) -> Vec<u8> {
    let path = root().join("vfs/tests/golden/1").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn object(id: safelight_policies::id::ObjectId) -> Vec<u8> {
    let name = id.to_string();
    golden(&format!("bundle/blobs/{}/{name}", &name[..2]))
}

/// All of them.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |target, choice: u8, name: &str, bytes: &[u8]| {
        seeds.push(Seed {
            target,
            name: format!("seed-{choice:02}-{name}"),
            bytes: [&[choice][..], bytes].concat(),
        });
    };
    of_sealed(&mut |choice, name, bytes| add("sealed", choice, name, bytes));
    of_documents(&mut |choice, name, bytes| add("signed", choice, name, bytes));
    of_letters(&mut |choice, name, bytes| add("signed", choice, name, bytes));
    of_logs(&mut |choice, name, bytes| add("logs", choice, name, bytes));
    of_jobs(&mut |choice, name, bytes| add("jobs", choice, name, bytes));
    of_talk(&mut |choice, name, bytes| add("talk", choice, name, bytes));
    seeds
}

type Add<'a> = &'a mut dyn FnMut(u8, &str, &[u8]);

/// The client of the golden area, its bundle and its envelope.
fn bundle() -> (ClientSecret, Packed, Envelope) {
    let client = ClientSecret::from_file_bytes(&golden("client.key")).unwrap();
    let signer = client.sign.public();
    let packed: Packed = open(&golden("bundle/bundle"), &signer).unwrap();
    let envelope = open(&object(packed.envelope), &signer).unwrap();
    (client, packed, envelope)
}

fn of_sealed(add: Add<'_>) {
    let (client, packed, envelope) = bundle();
    let list = BlobList::decode(&object(packed.load.list)).unwrap();
    let segments = list.entries().iter().map(|(id, _)| object(*id));
    let smallest = segments
        .filter(|bytes| bytes.starts_with(b"SLSEGMNT"))
        .min_by_key(Vec::len);
    add(0, "segment", &smallest.unwrap());
    let keys = golden("bundle/keys");
    let key = JobKeys::from_file_bytes(&keys).unwrap();
    let key = key.open_to_read(packed.job, &client.kem).unwrap();
    let kind = safelight_seal::manifest::Kind::Inputs;
    let signer = client.sign.public();
    let inputs = Manifest::open(&object(envelope.inputs), &key, packed.job, &kind, &signer);
    add(1, "inputs", &inputs.unwrap().encode().unwrap());
    let left = packed.results.iter().find(|it| it.manifest.is_some());
    let left = left.unwrap();
    let kind = safelight_seal::manifest::Kind::Result {
        session: left.session,
        attempt: left.attempt,
        fence: left.fence,
    };
    let sealed = object(left.manifest.unwrap());
    let result = Manifest::open(&sealed, &key, packed.job, &kind, &envelope.attest);
    add(1, "result", &result.unwrap().encode().unwrap());
    add(2, "client", &golden("client.key"));
    add(2, "reader", &golden("reader.key"));
    add(3, "keys", &keys);
    add(4, "stanza", &sealed::wrapped().to_bytes());
    for (choice, name) in [(5, "blob"), (6, "segment"), (7, "record")] {
        add(choice, &format!("{name}-as-it-is"), &[]);
        add(choice, &format!("{name}-back-again"), &[1, 0, 9, 1, 0, 9]);
    }
}

fn ours() -> safelight_policies::id::VerifyKey {
    signed::signer().public()
}

fn prekey(id: u8) -> Prekey {
    Prekey {
        id: [id; 16],
        key: safelight_policies::id::KemKey([9; 32]),
        site: ours(),
        issued: 1_700_000_000,
    }
}

fn body<T: Serialize>(document: &T) -> Vec<u8> {
    postcard::to_stdvec(document).unwrap()
}

fn of_documents(add: Add<'_>) {
    let (_, packed, envelope) = bundle();
    let envelope = Envelope {
        client_verify: ours(),
        ..envelope
    };
    add(0, "envelope", &body(&envelope));
    let lease = golden("lease");
    let lease: Lease = open(&lease, &claimed_signer(&lease).unwrap()).unwrap();
    add(1, "lease", &body(&lease));
    add(2, "prekey", &body(&prekey(1)));
    add(3, "bundle", &body(&packed));
    add(4, "list", &object(packed.load.list));
    let grant = golden("grant");
    let grant: DebugGrant = open(&grant, &claimed_signer(&grant).unwrap()).unwrap();
    let grant = DebugGrant {
        client_verify: ours(),
        ..grant
    };
    add(signed::GRANT, "grant", &body(&grant));
}

fn of_letters(add: Add<'_>) {
    let ready = root().join("vfs/tests/golden/1/folder/ready");
    let mut letters = Vec::new();
    for folder in fs::read_dir(ready).unwrap() {
        for letter in fs::read_dir(folder.unwrap().path()).unwrap() {
            letters.push(letter.unwrap().path());
        }
    }
    letters.sort();
    for (number, path) in letters.into_iter().enumerate() {
        let entry = safelight_bundle::EntryName::new(path.file_name().unwrap()).unwrap();
        let name = ReadyName::parse(ours(), &entry).unwrap();
        add(
            5,
            &format!("name-{number}"),
            entry.as_os_str().as_encoded_bytes(),
        );
        let bytes = fs::read(&path).unwrap();
        let at = Kind::ALL
            .iter()
            .position(|kind| *kind == name.kind)
            .unwrap();
        let choice = signed::LETTERS + u8::try_from(at).unwrap();
        let letter = match AnyLetter::open(name.kind, &bytes, &name.from).unwrap() {
            AnyLetter::Prekeys(batch) => {
                let signer = signed::signer();
                let sign = |prekey: &Prekey| {
                    safelight_bundle::seal(prekey, &ours(), |it, body| signer.sign(it, body))
                };
                let prekeys = [1, 2].map(|id| sign(&prekey(id)).unwrap()).to_vec();
                body(&PrekeyBatch { prekeys, ..batch })
            }
            _ => bytes[106..].to_vec(),
        };
        add(choice, &format!("{}-{number}", name.kind.as_str()), &letter);
    }
    assert_eq!(<Lease as Document>::CONTEXT, "lease");
}

/// A part with its length before it.
fn part(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap().to_le_bytes();
    [&len[..], bytes].concat()
}

fn of_logs(add: Add<'_>) {
    use safelight_audit::tree::{self, Forest};
    let log = golden("session.log");
    add(0, "log", &log);
    let header = usize::from(u16::from_le_bytes([log[10], log[11]]));
    let mut records = part(&log[12..12 + header]);
    let mut rest = &log[12 + header + 32..];
    while let Some((len, more)) = rest.split_first_chunk::<4>() {
        let len = u32::from_le_bytes(*len) as usize;
        records.extend(part(&more[..len]));
        rest = &more[len + 32..];
    }
    add(1, "records", &records);
    let checkpoint = golden("register/checkpoint");
    add(2, "checkpoint", &checkpoint);
    add(2, "seen", &golden("seen.note"));
    let entries = golden("register/tile/entries/000.p/1");
    add(3, "statement", &entries[2..]);
    let mut forest = Forest::default();
    for leaf in 0..12_u64 {
        forest.push(tree::leaf(&leaf.to_be_bytes()));
    }
    let nodes = |level, index| forest.node(level, index).ok_or(());
    for index in [0, 6, 11] {
        let path = tree::inclusion(index, 12, &nodes).unwrap().concat();
        let index = u8::try_from(index).unwrap();
        add(
            4,
            &format!("leaf-{index}"),
            &[&[11, index][..], &path].concat(),
        );
        let path = tree::consistency(u64::from(index) + 1, 12, &nodes).unwrap();
        let path = path.concat();
        add(
            5,
            &format!("old-{index}"),
            &[&[11, index][..], &path].concat(),
        );
    }
    let hashes = golden("register/tile/0/000.p/1");
    let parts = [checkpoint, entries, hashes].map(|bytes| part(&bytes));
    add(6, "register", &parts.concat());
}

fn of_jobs(add: Add<'_>) {
    let bundles = root().join("policies/job/tests/bundles");
    for name in ["sitting", "chunks", "turntable", "animation"] {
        let read = |file: &str| fs::read_to_string(bundles.join(name).join(file));
        let texts = [
            "template.yaml",
            "parameter_values.yaml",
            "asset_references.yaml",
            "safelight-job.toml",
        ];
        let texts = texts.map(|file| read(file).unwrap_or_default());
        add(0, name, texts.join("\0").as_bytes());
    }
    add(1, "command", &golden("recipes/command"));
    for name in ["sitting", "chunks", "turntable"] {
        add(2, name, &golden(&format!("recipes/{name}")));
    }
    for name in ["generic", "strict", "python"] {
        let path = root().join(format!("policies/profiles/{name}.toml"));
        let text = fs::read_to_string(path).unwrap();
        let line = format!("name = \"{name}\"");
        assert!(text.contains(&line));
        let text = text.replacen(&line, "name = \"mine\"", 1);
        add(3, name, text.as_bytes());
    }
    add(4, "below", b"a/**\0a/secret/**\0a/b/c.exr");
    add(4, "frames", b"shot/*/frame.????.exr\0**/tmp\0shot/7");
    add(5, "job", JobId::from_random([1; 10]).to_string().as_bytes());
    add(5, "object", object_id(b"x").to_string().as_bytes());
    add(5, "alias", b"c-river");
    add(5, "path", b"/mnt/show");
    add(6, "env", b"openjd_env: SEAT=3\n");
    add(6, "json", b"openjd_env: \"A=two\\nlines\"\n");
    add(6, "redacted", b"openjd_redacted_env: TOKEN=sesame\n");
    add(6, "unset", b"openjd_unset_env: SEAT\n");
}

fn action() -> Action {
    Action {
        command: vec![b"render".to_vec(), vec![0xff]],
        files: vec![SessionFile {
            name: b"scene".to_vec(),
            bytes: b"sphere".to_vec(),
            runnable: true,
        }],
        timeout: Some(60),
        notice: None,
    }
}

fn of_talk(add: Add<'_>) {
    let cause = Cause::NotStarted {
        step: "mount".to_owned(),
        errno: 13,
    };
    let stanza = sealed::wrapped();
    add(0, "ended", &body(&ToView::Ended { cause }));
    add(0, "key", &body(&ToView::Key { stanza }));
    add(1, "ready", &body(&FromView::Ready));
    add(2, "next", &body(&FromLauncher::Next));
    add(3, "act", &body(&ToLauncher::Act(action())));
    let sit = ToLauncher::Sit {
        directory: b"/mnt/show".to_vec(),
        env: vec![(b"A".to_vec(), b"1".to_vec())],
        around: vec![Environment {
            variables: vec![(b"B".to_vec(), vec![])],
            enter: Some(action()),
            exit: None,
        }],
    };
    add(3, "sit", &body(&sit));
    // Nothing in every field, as far as that is something: the shortest message of each kind.
    for choice in 0..crate::talk::CHOICES - 1 {
        add(choice, "zeros", &[0; 256]);
    }
    let order = safelight_audit::Order {
        job: JobId::from_random([1; 10]),
        client: ClientAlias::new("river").unwrap(),
        log: [7; 16],
        sources: vec![Source::Agent, Source::View],
    };
    add(6, "order", &body(&order));
    let session = SessionId::from_random([2; 10]);
    let asks = vec![(SlotIndex(0), session), (SlotIndex(1), session)];
    add(9, "next", &body(&Call::Next { asks }));
    let ended = Ended {
        session,
        fence: Fence(7),
        cause: Cause::Exited { code: 0 },
        sealed: None,
        audit: vec![object_id(b"log")],
        objects: vec![(object_id(b"log"), 3)],
    };
    add(9, "ended", &body(&Call::Ended(Box::new(ended))));
    let files = DeliveredReport {
        stored: 3,
        failed: vec!["the disk is full".to_owned()],
        ..DeliveredReport::default()
    };
    add(12, "delivered", &body(&Answer::Delivered(files)));
    let path = format!("{}/{}", JobId::from_random([1; 10]), object_id(b"x"));
    add(16, "path", path.as_bytes());
}
