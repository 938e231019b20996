//! Makes the golden area: every kind of thing that format 1 can say, sealed with fixed randomness, so that it is the same bytes for ever.

use std::{collections::BTreeMap, fs, path::Path, sync::Mutex};

use safelight_bundle::{BlobList, Envelope, Load, Packed, PackedResult};
use safelight_policies::{
    cause::Cause,
    id::{
        ClientAlias, Fence, JobId, KemKey, ObjectId, PolicyDigest, PolicyName, SessionId, TaskId,
        VerifyKey,
    },
    outline::{Batch, Outline, StepOutline, Wishes},
};
use safelight_seal::{
    blob::Purpose,
    identity::{KemSecret, SigningSecret},
    job_key::{JobKey, TO_WARDEN},
    job_keys::JobKeys,
    key_file::ClientSecret,
    manifest::{Entry, EntryKind, Kind, Manifest, SegmentRef, Tree},
    random::Random,
    segment::{BLOCK, SEGMENT_MAX, SegmentKey, seal_segment},
};
use safelight_vfs::area::Area;

/// The job.
pub(super) const JOB: JobId = JobId::from_random(*b"golden job");
/// The attempt that wrote something.
pub(super) const SESSION: SessionId = SessionId::from_random(*b"2nd try ok");
const FIRST: SessionId = SessionId::from_random(*b"1st failed");

/// The bytes of BLAKE3 keyed by nothing over a counter: nobody's secret, and the same everywhere.
pub(super) struct Counter(Mutex<u64>);

impl Counter {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed << 32))
    }
}

impl Random for Counter {
    fn fill(&self, out: &mut [u8]) -> Result<(), safelight_seal::Error> {
        let mut at = self.0.lock().expect("no panic holds it");
        for part in out.chunks_mut(32) {
            part.copy_from_slice(&blake3::hash(&at.to_le_bytes()).as_bytes()[..part.len()]);
            *at += 1;
        }
        Ok(())
    }
}

/// A plain entry: what the golden area is made from and must open to.
pub(super) struct Plain {
    pub(super) path: Vec<u8>,
    pub(super) what: What,
    pub(super) mode: u32,
    pub(super) mtime_ns: i64,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What it is.
pub(super) enum What {
    Directory { opaque: bool },
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Link(Vec<u8>),
    Whiteout,
}

fn plain(path: impl AsRef<[u8]>, what: What, mode: u32, mtime_ns: i64) -> Plain {
    Plain {
        path: path.as_ref().to_vec(),
        what,
        mode,
        mtime_ns,
        xattrs: Vec::new(),
    }
}

/// Bytes without a zero block, the same for the same seed.
fn data(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    Counter::new(seed).fill(&mut out).expect("a counter");
    out
}

fn directory() -> What {
    What::Directory { opaque: false }
}

/// What the client packed.
pub(super) fn inputs() -> Vec<(&'static str, Vec<Plain>)> {
    let mut holes = vec![0; 4 * BLOCK];
    holes[BLOCK..2 * BLOCK].copy_from_slice(&data(BLOCK, 70));
    holes.extend(data(100, 71));
    // Three segments: one of zeros, one with one block of data, one of five bytes.
    let mut large = vec![0; 2 * SEGMENT_MAX];
    large[SEGMENT_MAX + 9 * BLOCK + 5..][..200].copy_from_slice(&data(200, 72));
    large.extend(b"frame");
    let mut scene = plain(
        "a/scene.pov",
        What::File(b"sphere { 0, 1 }\n".to_vec()),
        0o640,
        1_700_000_000_123_456_789,
    );
    scene.xattrs = vec![
        (b"user.empty".to_vec(), vec![]),
        (b"user.sum".to_vec(), vec![0, 0xff, b'\n']),
    ];
    let show = vec![
        plain("", directory(), 0o755, 1_600_000_000_000_000_000),
        plain(b"\x01 \\\xff\n", What::File(b"odd".to_vec()), 0o400, -1),
        plain("a", directory(), 0o1777, 5),
        // Sorts between a directory and what is in it.
        plain("a-b", What::Symlink(b"../\xff/nowhere".to_vec()), 0o777, 6),
        scene,
        plain("empty", What::File(vec![]), 0o644, 0),
        plain("holes", What::File(holes), 0o644, i64::MAX),
        plain("large", What::File(large), 0o644, i64::MIN),
        plain("n".repeat(255), What::File(vec![7]), 0o000, 7),
        plain("z", What::Link(b"a/scene.pov".to_vec()), 0o640, 8),
    ];
    let textures = vec![plain("", directory(), 0o700, 9)];
    vec![("/mnt/show", show), ("/mnt/textures", textures)]
}

/// What the second attempt left above them.
pub(super) fn outputs() -> Vec<(&'static str, Vec<Plain>)> {
    let frame = data(BLOCK + 1, 80);
    let show = vec![
        plain("", directory(), 0o755, 1_700_000_100_000_000_000),
        plain("a", What::Directory { opaque: true }, 0o755, 10),
        plain("a/frame.png", What::File(frame), 0o644, 11),
        plain("a/same.png", What::Link(b"a/frame.png".to_vec()), 0o644, 11),
        plain("empty", What::Whiteout, 0, 0),
    ];
    vec![("/mnt/show", show)]
}

/// What the task printed, and what it was to run: to this test both are bytes.
pub(super) const PRINTED: &[u8] = b"Fra:1 Mem:2\nSaved: /mnt/show/a/frame.png\n";
pub(super) const RECIPE: &[u8] = b"the recipe of a golden job";

struct Maker<'a> {
    area: &'a Area,
    random: &'a Counter,
    blobs: BTreeMap<ObjectId, u32>,
}

impl Maker<'_> {
    fn keep(&mut self, bytes: &[u8]) -> ObjectId {
        let id = safelight_bundle::object_id(bytes);
        self.area.put(id, bytes).expect("an object");
        let len = u32::try_from(bytes.len()).expect("a small object");
        self.blobs.insert(id, len);
        id
    }

    fn segment(&mut self, plain: &[u8]) -> SegmentRef {
        let len = u32::try_from(plain.len()).expect("a segment");
        if plain.iter().all(|byte| *byte == 0) {
            return SegmentRef::zero(len);
        }
        let key = SegmentKey::generate(self.random).expect("a key");
        let sealed = seal_segment(key, plain).expect("a sealed segment");
        let object = Some(self.keep(&sealed.bytes));
        SegmentRef {
            object,
            len,
            key: sealed.key,
        }
    }

    fn entry(&mut self, plain: Plain) -> Entry {
        let kind = match plain.what {
            What::Directory { opaque } => EntryKind::Directory { opaque },
            What::Symlink(target) => EntryKind::Symlink { target },
            What::Link(to) => EntryKind::Link { to },
            What::Whiteout => EntryKind::Whiteout,
            What::File(bytes) => EntryKind::File {
                len: bytes.len() as u64,
                segments: bytes
                    .chunks(SEGMENT_MAX)
                    .map(|part| self.segment(part))
                    .collect(),
            },
        };
        Entry {
            path: plain.path,
            kind,
            mode: plain.mode,
            mtime_ns: plain.mtime_ns,
            xattrs: plain.xattrs,
        }
    }

    fn manifest(&mut self, kind: Kind, trees: Vec<(&str, Vec<Plain>)>) -> Manifest {
        let tree = |(path, plains): (&str, Vec<Plain>)| Tree {
            path: path.parse().expect("a central path"),
            entries: plains.into_iter().map(|it| self.entry(it)).collect(),
        };
        Manifest {
            job: JOB,
            kind,
            trees: trees.into_iter().map(tree).collect(),
        }
    }
}

/// The parties: client (who rotated once), reader, stranger.
pub(super) fn parties() -> [ClientSecret; 3] {
    let party = |seed| ClientSecret::generate(&Counter::new(seed)).expect("keys");
    let mut client = party(1);
    client
        .rotate(true, &Counter::new(2))
        .expect("room for a former key");
    [client, party(3), party(4)]
}

/// What was made, for what else refers to it.
pub(super) struct Made {
    /// The site that the job was addressed to.
    pub(super) site: SigningSecret,
    /// Its warden's one-time key.
    pub(super) prekey: KemKey,
    pub(super) job_key: JobKey,
    pub(super) envelope: ObjectId,
    pub(super) inputs: ObjectId,
    pub(super) recipe: ObjectId,
    pub(super) result: ObjectId,
    pub(super) log: ObjectId,
}

/// Writes the bundle, and the key files of the three.
pub(super) fn make(to: &Path) -> Made {
    let area = Area::open(to.join("bundle/blobs")).expect("an area");
    let random = &Counter::new(10);
    let mut maker = Maker {
        area: &area,
        random,
        blobs: BTreeMap::new(),
    };
    let [client, reader, stranger] = parties();
    let key = JobKey::generate(random).expect("a key");
    let seal = |purpose, context: &[u8], bytes: &[u8]| {
        key.seal_blob(purpose, context, bytes, random)
            .expect("a sealed blob")
    };
    let manifest = maker.manifest(Kind::Inputs, inputs());
    let sealed = manifest.sign_and_seal(&client.sign, &key, random);
    let inputs = maker.keep(&sealed.expect("inputs"));
    let recipe = maker.keep(&seal(Purpose::Recipe, JOB.as_bytes(), RECIPE));
    let kind = kind();
    let manifest = maker.manifest(kind, outputs());
    let sealed = manifest.sign_and_seal(&key.attest_key(), &key, random);
    let result = maker.keep(&sealed.expect("a result"));
    let log = maker.keep(&seal(Purpose::TaskLog, &kind.place(JOB), PRINTED));
    let prekey = KemSecret::generate(random).expect("a prekey").public();
    let stanza = key.wrap(&prekey, TO_WARDEN, JOB, random).expect("a stanza");
    let site = SigningSecret::generate(random).expect("a site");
    let stanza = stanza.to_bytes().to_vec();
    let envelope = Envelope {
        inputs,
        recipe,
        site: site.public(),
        stanza_for_site: stanza,
        ..envelope(&client.sign, &key)
    };
    let envelope = maker.keep(&sign(&client.sign, &envelope));
    let blobs = BlobList::new(std::mem::take(&mut maker.blobs)).expect("a list");
    let list = maker.keep(&blobs.encode().expect("a list's bytes"));
    let left =
        |session, attempt, fence, sealed: Option<(ObjectId, ObjectId)>, cause| PackedResult {
            task: TaskId { step: 0, task: 3 },
            session,
            attempt,
            fence: Fence(fence),
            manifest: sealed.map(|it| it.0),
            log: sealed.map(|it| it.1),
            audit: vec![],
            cause,
        };
    let packed = Packed {
        job: JOB,
        envelope,
        results: vec![
            left(FIRST, 1, 6, None, Cause::OutOfMemory),
            left(
                SESSION,
                2,
                7,
                Some((result, log)),
                Cause::Exited { code: 0 },
            ),
        ],
        load: Load {
            list,
            bytes: blobs.bytes(),
        },
        issued: 1_700_000_200,
    };
    let readers = [reader.kem.public()];
    let keys = JobKeys::wrap(&key, JOB, &client.kem.public(), &readers, random);
    let write = |name: &str, bytes: &[u8]| fs::write(to.join(name), bytes).expect("a file");
    write("bundle/bundle", &sign(&client.sign, &packed));
    write("bundle/keys", &keys.expect("wrapped keys").to_file_bytes());
    write("client.key", &client.to_file_bytes());
    write("reader.key", &reader.to_file_bytes());
    write("stranger.key", &stranger.to_file_bytes());
    Made {
        site,
        prekey,
        job_key: key,
        envelope,
        inputs,
        recipe,
        result,
        log,
    }
}

/// What the second attempt's objects are bound to.
pub(super) fn kind() -> Kind {
    Kind::Result {
        session: SESSION,
        attempt: 2,
        fence: Fence(7),
    }
}

/// The one-time key's name.
pub(super) const PREKEY: [u8; 16] = *b"a one-time key..";

/// The envelope without its objects and its site.
fn envelope(client: &SigningSecret, key: &JobKey) -> Envelope {
    let step = StepOutline {
        tasks: 10,
        depends_on: vec![],
        amounts: BTreeMap::from([("amount.worker.vcpu".to_owned(), 2.5)]),
        attributes: BTreeMap::from([(
            "attr.worker.os.family".to_owned(),
            vec!["linux".to_owned()],
        )]),
        timeout: 3600,
        batch: Some(Batch {
            size: 4,
            target: 60,
        }),
    };
    let later = StepOutline {
        tasks: 1,
        depends_on: vec![0],
        amounts: BTreeMap::new(),
        attributes: BTreeMap::new(),
        timeout: 60,
        batch: None,
    };
    Envelope {
        version: safelight_bundle::ENVELOPE_VERSION,
        outline: Outline {
            job: JOB,
            client: ClientAlias::new("river").expect("an alias"),
            priority: 50,
            policy: PolicyName::new("blender").expect("a policy"),
            policy_digest: PolicyDigest([5; 32]),
            steps: vec![step, later],
            expires: 1_700_900_000,
            central: vec![
                ("/mnt/show".parse().expect("a path"), true),
                ("/mnt/textures".parse().expect("a path"), false),
            ],
            retries: Some(2),
            wishes: Wishes {
                failures: Some(3),
                ..Wishes::default()
            },
        },
        client_verify: client.public(),
        attest: key.attest_key().public(),
        inputs: ObjectId([0; 32]),
        recipe: ObjectId([0; 32]),
        prekey: PREKEY,
        site: VerifyKey([0; 32]),
        stanza_for_site: Vec::new(),
        issued: 1_700_000_000,
        expires: 1_700_900_000,
    }
}

pub(super) fn sign<T: safelight_bundle::Document>(by: &SigningSecret, document: &T) -> Vec<u8> {
    safelight_bundle::seal(document, &by.public(), |context, body| {
        by.sign(context, body)
    })
    .expect("a signed document")
}
