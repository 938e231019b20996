//! The golden hot folder, and what else of format 1 is kept beside a bundle: a lease, a log, its register and the client's note.
//!
//! Everything is about the golden job, signed by the parties of the golden bundle, and the same bytes for ever.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER as HEX;
use safelight_audit::{
    Body, Log, Register, Source, Statement,
    note::{Role, Signer},
    open_file, tree,
};
use safelight_bundle::{
    Announcement, AnyLetter, BlobList, Cancel, Code, DebugGrant, Document, EntryName, Epoch,
    Heartbeat, JobEnded, Kind, Letter, Load, LookNotice, MARKER, Outcome, Prekey, PrekeyBatch,
    ReadyName, Receipt, RegisterNotice, ResultNotice, Revocation, Seq, Stamp, Verdict, object_id,
};
use safelight_policies::{
    cause::Cause,
    event::Control,
    id::{
        ClientAlias, Fence, GrantId, KemKey, NodeName, ObjectId, PolicyDigest, PolicyName,
        SlotIndex, TaskId, VerifyKey,
    },
    lease::{Lease, Wrapper},
};
use safelight_seal::identity::SigningSecret;

use super::{
    files, golden,
    make::{JOB, Made, PREKEY, SESSION, parties, sign},
};

/// When the folder was as it is.
const NOW: u64 = 1_700_000_100;
const TASK: TaskId = TaskId { step: 0, task: 3 };
const LOG: [u8; 16] = *b"2nd try ok\0\0\0\0\0\x01";
const SCHEDULE: [u8; 32] = [0x53; 32];
const ORIGIN: &str = "safelight/0123456789abcdef/river";

struct Folder<'a> {
    to: &'a Path,
    client: SigningSecret,
    site: &'a SigningSecret,
    numbers: [u64; 2],
}

impl Folder<'_> {
    fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) {
        let path = self.to.join("folder").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, bytes).expect("a file");
    }

    fn blob(&self, bytes: &[u8]) -> ObjectId {
        let id = object_id(bytes);
        let name = id.to_string();
        self.write(format!("blobs/{}/{name}", &name[..2]), bytes);
        id
    }

    /// Puts objects of the bundle into the folder, with a list of them.
    fn load(&self, objects: &[&[u8]]) -> Load {
        let named = objects.iter().map(|bytes| {
            let len = u32::try_from(bytes.len()).expect("a small object");
            (self.blob(bytes), len)
        });
        let list = BlobList::new(named.collect::<Vec<_>>()).expect("a list");
        Load {
            list: self.blob(&list.encode().expect("a list's bytes")),
            bytes: list.bytes(),
        }
    }

    /// Signs the next letter of one of the two and puts it into the other's folder.
    fn post<T: Letter>(&mut self, by_site: bool, letter: impl FnOnce(Stamp) -> T) -> Vec<u8> {
        let (from, to) = match by_site {
            true => (self.site, &self.client),
            false => (&self.client, self.site),
        };
        let number = &mut self.numbers[usize::from(by_site)];
        *number += 1;
        let seq = Seq {
            epoch: Epoch::new(1_700_000_000, [1, 2, 3 + u8::from(by_site)]),
            number: *number,
        };
        let stamp = Stamp {
            to: to.public(),
            seq,
            issued: NOW,
            expires: NOW + 86_400,
        };
        let bytes = sign(from, &letter(stamp));
        let name = ReadyName {
            to: stamp.to,
            from: from.public(),
            seq,
            kind: T::KIND,
        };
        let folder = format!("ready/{}", HEX.encode(&stamp.to.0));
        let entry = name.entry();
        self.write(Path::new(&folder).join(entry.as_os_str()), &bytes);
        bytes
    }
}

fn lease(node: &SigningSecret) -> Lease {
    Lease {
        client: ClientAlias::new("river").expect("an alias"),
        job: JOB,
        task: TASK,
        tasks: 4,
        attempt: 2,
        fence: Fence(7),
        session: SESSION,
        node: NodeName::new("node-1").expect("a name"),
        node_key: node.public(),
        slot: SlotIndex(3),
        expires: NOW + 3600,
        wrapper: Wrapper {
            policy: PolicyName::new("blender").expect("a policy"),
            digest: PolicyDigest([5; 32]),
        },
    }
}

/// The log of the golden session, as its object, and what the site states of it.
fn log(to: &Path, made: &Made) -> (Vec<u8>, Statement) {
    let path = to.join("session.log");
    let header = safelight_audit::Header {
        job: JOB,
        client: ClientAlias::new("river").expect("an alias"),
        log: LOG,
    };
    let mut log = Log::open(open_file(&path).expect("a file"), &header, 1).expect("a log");
    let started = Control::Leased {
        session: SESSION,
        task: TASK,
        attempt: 2,
        fence: 7,
        node: NodeName::new("node-1").expect("a name"),
        slot: SlotIndex(3),
    };
    let sealed = made.job_key.audit_key(SESSION).seal(0, b"a touch");
    let sealed = Body::Sealed {
        session: SESSION,
        index: 0,
        bytes: sealed.expect("a record"),
    };
    for (at, source, body) in [
        (2, Source::Agent, Body::Control(started)),
        (3, Source::View, sealed),
    ] {
        log.append(source, at, body).expect("a record");
    }
    let chain = log.sync().expect("a log on the disk").chain;
    let bytes = fs::read(&path).expect("a log");
    let mut frontier = tree::Frontier::default();
    let reader = safelight_audit::Reader::open(&bytes[..]).expect("a log");
    reader
        .leaves(|_, leaf| frontier.push(leaf))
        .expect("records");
    let statement = Statement {
        job: JOB,
        log: LOG,
        records: frontier.size(),
        root: frontier.root(),
        chain,
    };
    (bytes, statement)
}

/// Writes the folder and what is beside it.
pub(super) fn make(to: &Path, made: &Made) {
    let [client, ..] = parties();
    let kept = |id: ObjectId| {
        let name = id.to_string();
        fs::read(to.join(format!("bundle/blobs/{}/{name}", &name[..2]))).expect("an object")
    };
    let (log, statement) = log(to, made);
    let (site, witness) = signers();
    let entry = statement.text().into_bytes();
    let register = Register::append_signed(
        &to.join("register"),
        ORIGIN,
        std::slice::from_ref(&entry),
        &site,
    )
    .expect("a register");
    fs::remove_file(to.join("register/lock")).expect("the register's lock");
    let head = register.head_at(1).expect("a head").expect("a head");
    let seen = format!(
        "{}{}",
        register.note(),
        witness.line(&head.text(), NOW + 50)
    );
    fs::write(to.join("seen.note"), seen).expect("a file");
    let schedule = SigningSecret::from_bytes(&SCHEDULE);
    let node = SigningSecret::from_bytes(&[0x54; 32]);
    fs::write(to.join("lease"), sign(&schedule, &lease(&node))).expect("a file");

    let mut folder = Folder {
        to,
        client: client.sign,
        site: &made.site,
        numbers: [0, 0],
    };
    folder.write(MARKER, b"");
    letters(&mut folder, made, &kept, &log);
    register_notice(&mut folder, entry, register.note().to_owned(), &site);
    looks(&mut folder, &log);
    let client = &parties()[0].sign;
    let grant = sign(client, &grant(client, made.site.public()));
    fs::write(to.join("grant"), grant).expect("a file");
}

/// A look at the golden job, and the end of the grant that it was by.
fn looks(folder: &mut Folder<'_>, log: &[u8]) {
    let load = folder.load(&[log]);
    folder.post(true, |stamp| LookNotice {
        stamp,
        job: JOB,
        session: SESSION,
        audit: vec![object_id(log)],
        load,
    });
    let number = GRANT;
    folder.post(false, |stamp| Revocation {
        stamp,
        job: JOB,
        number,
    });
}

/// The number of the golden grant.
const GRANT: GrantId = GrantId::from_random([0x47; 10]);

fn grant(client: &SigningSecret, site: VerifyKey) -> DebugGrant {
    DebugGrant {
        version: 1,
        number: GRANT,
        client: ClientAlias::new("river").expect("an alias"),
        client_verify: client.public(),
        job: JOB,
        task: Some(TASK),
        site,
        operator: SigningSecret::from_bytes(&[0x4f; 32]).public(),
        issued: NOW,
        from: NOW + 60,
        expires: NOW + 7200,
        prekey: PREKEY,
        stanza: vec![1; 81],
    }
}

fn letters(folder: &mut Folder<'_>, made: &Made, kept: &impl Fn(ObjectId) -> Vec<u8>, log: &[u8]) {
    let one_time = |id, key| {
        let prekey = Prekey {
            id,
            key,
            site: made.site.public(),
            issued: NOW - 50,
        };
        sign(&made.site, &prekey)
    };
    let prekeys = vec![
        one_time(PREKEY, made.prekey),
        one_time([8; 16], KemKey([9; 32])),
    ];
    folder.post(true, |stamp| PrekeyBatch { stamp, prekeys });
    let [envelope, inputs, recipe] = [made.envelope, made.inputs, made.recipe].map(kept);
    let load = folder.load(&[&envelope, &inputs, &recipe]);
    let announced = folder.post(false, |stamp| Announcement {
        stamp,
        job: JOB,
        envelope: made.envelope,
        load,
    });
    let receipt = |of, verdict| move |stamp| Receipt { stamp, of, verdict };
    folder.post(true, receipt(object_id(&announced), Verdict::Accepted));
    let load = folder.load(&[&kept(made.result), &kept(made.log), log]);
    let result = ResultNotice {
        stamp: Stamp {
            to: VerifyKey([0; 32]),
            seq: Seq {
                epoch: Epoch([0; 8]),
                number: 0,
            },
            issued: 0,
            expires: 0,
        },
        job: JOB,
        task: TASK,
        session: SESSION,
        attempt: 2,
        fence: Fence(7),
        manifest: Some(made.result),
        log: Some(made.log),
        audit: vec![object_id(log)],
        cause: Cause::Exited { code: 0 },
        load,
    };
    let told = folder.post(true, |stamp| ResultNotice { stamp, ..result });
    let code = Code::LyingSizes;
    folder.post(false, receipt(object_id(&told), Verdict::Refused { code }));
    folder.post(false, |stamp| Cancel { stamp, job: JOB });
    folder.post(true, |stamp| JobEnded {
        stamp,
        job: JOB,
        outcome: Outcome::Canceled,
        results: 1,
    });
    let last_seen = Some(Seq {
        epoch: Epoch::new(1_700_000_000, [1, 2, 3]),
        number: 3,
    });
    folder.post(true, |stamp| Heartbeat { stamp, last_seen });
    let last_seen = None;
    folder.post(false, |stamp| Heartbeat { stamp, last_seen });
}

fn register_notice(folder: &mut Folder<'_>, entry: Vec<u8>, checkpoint: String, site: &Signer) {
    let key = site.verifier().key;
    folder.post(true, |stamp| RegisterNotice {
        stamp,
        first: 0,
        entries: vec![entry],
        checkpoint,
        key,
    });
}

/// A line for what a letter says, in the words in which the independent reader says it too.
fn said(letter: &AnyLetter) -> String {
    let hex = |bytes: &[u8]| HEX.encode(bytes);
    let load = |it: &Load| format!("list={} bytes={}", it.list, it.bytes);
    let some = |id: &Option<ObjectId>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    match letter {
        AnyLetter::Job(it) => format!(
            "job={} envelope={} {}",
            hex(it.job.as_bytes()),
            it.envelope,
            load(&it.load)
        ),
        AnyLetter::Cancel(it) => format!("job={}", hex(it.job.as_bytes())),
        AnyLetter::Result(it) => {
            let audit: Vec<_> = it.audit.iter().map(ToString::to_string).collect();
            let cause = match it.cause {
                Cause::Exited { code } => format!("exited {code}"),
                ref other => panic!("no golden letter says {other:?}"),
            };
            format!(
                "job={} task={}.{} session={} attempt={} fence={} manifest={} log={} audit={} cause={cause} {}",
                hex(it.job.as_bytes()),
                it.task.step,
                it.task.task,
                hex(it.session.as_bytes()),
                it.attempt,
                it.fence.0,
                some(&it.manifest),
                some(&it.log),
                audit.join(","),
                load(&it.load)
            )
        }
        AnyLetter::Prekeys(it) => {
            let one = |signed: &Vec<u8>| {
                let signer = safelight_bundle::claimed_signer(signed).expect("a signer");
                let prekey: Prekey = safelight_bundle::open(signed, &signer).expect("a prekey");
                let (id, key) = (hex(&prekey.id), hex(&prekey.key.0));
                format!("{id}:{key}:{}", prekey.issued)
            };
            it.prekeys.iter().map(one).collect::<Vec<_>>().join(",")
        }
        AnyLetter::Receipt(it) => {
            let verdict = match it.verdict {
                Verdict::Accepted => "accepted".to_owned(),
                Verdict::Refused { code } => format!("refused {}", code as u32),
            };
            format!("of={} {verdict}", it.of)
        }
        AnyLetter::Heartbeat(it) => match it.last_seen {
            Some(seq) => format!("last={}-{}", hex(&seq.epoch.0), seq.number),
            None => "last=-".to_owned(),
        },
        AnyLetter::Ended(it) => {
            let outcome = ["succeeded", "failed", "canceled"][it.outcome as usize];
            format!(
                "job={} {outcome} results={}",
                hex(it.job.as_bytes()),
                it.results
            )
        }
        AnyLetter::Look(it) => {
            let audit: Vec<_> = it.audit.iter().map(ToString::to_string).collect();
            format!(
                "job={} session={} audit={} {}",
                hex(it.job.as_bytes()),
                hex(it.session.as_bytes()),
                audit.join(","),
                load(&it.load)
            )
        }
        AnyLetter::Revocation(it) => format!(
            "job={} grant={}",
            hex(it.job.as_bytes()),
            hex(it.number.as_bytes())
        ),
        AnyLetter::Register(it) => {
            let entries: Vec<_> = it.entries.iter().map(|it| object_id(it)).collect();
            let entries: Vec<_> = entries.iter().map(ToString::to_string).collect();
            format!(
                "first={} entries={} checkpoint={} key={}",
                it.first,
                entries.join(","),
                object_id(it.checkpoint.as_bytes()),
                hex(&it.key)
            )
        }
    }
}

/// What the letters of the folder say, in the order of their names; opened as any reader opens them.
pub(super) fn listing(folder: &Path) -> String {
    let mut out = String::new();
    for (name, bytes) in files(&folder.join("ready")) {
        let (letter, from) = open(&name, &bytes);
        let stamp = letter.stamp();
        writeln!(
            out,
            "{} from={} to={} epoch={} number={} issued={} expires={} {}",
            letter.kind().as_str(),
            HEX.encode(&from.0),
            HEX.encode(&stamp.to.0),
            HEX.encode(&stamp.seq.epoch.0),
            stamp.seq.number,
            stamp.issued,
            stamp.expires,
            said(&letter)
        )
        .expect("a string");
    }
    out
}

fn open(name: &Path, bytes: &[u8]) -> (AnyLetter, VerifyKey) {
    let part = |at: usize| name.components().nth(at).expect("a name").as_os_str();
    let to = HEX.decode(part(0).as_encoded_bytes()).expect("a key");
    let to = VerifyKey(to.try_into().expect("32 bytes"));
    let entry = EntryName::new(part(1)).expect("a name");
    let name = ReadyName::parse(to, &entry).expect("a letter's name");
    let letter = AnyLetter::open(name.kind, bytes, &name.from).expect("an authentic letter");
    let stamp = letter.stamp();
    assert_eq!(
        (letter.kind(), stamp.to, stamp.seq),
        (name.kind, to, name.seq)
    );
    (letter, name.from)
}

#[test]
fn golden_letters_open_and_are_of_every_kind() {
    let folder = golden().join("folder");
    let listing = listing(&folder);
    let kept = fs::read_to_string(golden().join("letters.txt")).expect("a listing");
    assert_eq!(listing, kept);
    let kinds: Vec<&str> = listing
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    for kind in Kind::ALL {
        assert!(
            kinds.contains(&kind.as_str()),
            "{} is missing",
            kind.as_str()
        );
    }
}

#[test]
fn a_golden_grant_is_read() {
    let bytes = fs::read(golden().join("grant")).expect("a grant");
    let [client, ..] = parties();
    let opened: DebugGrant =
        safelight_bundle::open(&bytes, &client.sign.public()).expect("a grant");
    assert_eq!(opened, grant(&client.sign, opened.site));
}

#[test]
fn a_golden_lease_log_and_register_are_read() {
    let read = |name: &str| fs::read(golden().join(name)).expect("a golden file");
    let opened: Lease = safelight_bundle::open(&read("lease"), &schedule()).expect("a lease");
    assert_eq!(opened, lease(&SigningSecret::from_bytes(&[0x54; 32])));
    assert_eq!(Lease::CONTEXT, "lease");

    let bytes = read("session.log");
    let report = safelight_audit::verify(std::io::Cursor::new(&bytes), None).expect("a log");
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.records, 2);

    let (site, witness) = signers();
    let register = Register::open(&golden().join("register")).expect("a register");
    let (head, _) = site
        .verifier()
        .open(register.note())
        .expect("a signed head");
    assert_eq!(
        (head.origin.as_str(), head.size, Some(head.root)),
        (ORIGIN, 1, register.root_of_entries(1).expect("its entries"))
    );
    let entries = register.entries(0, 1).expect("an entry");
    let statement = Statement::read(&entries[0]).expect("a statement");
    assert_eq!(
        (statement.records, statement.chain),
        (report.records, report.chain)
    );
    let seen = String::from_utf8(read("seen.note")).expect("text");
    assert_eq!(witness.verifier().open(&seen), Some((head, NOW + 50)));
}

/// Where the folder is, for who else reads it.
pub(super) fn folder() -> PathBuf {
    golden().join("folder")
}

/// Who signed the lease.
pub(super) fn schedule() -> VerifyKey {
    SigningSecret::from_bytes(&SCHEDULE).public()
}

/// Who signed the grant.
pub(super) fn client() -> VerifyKey {
    parties()[0].sign.public()
}

/// Who signed the register and who saw it, as other programs take it.
pub(super) fn verifiers() -> (String, String) {
    let (site, witness) = signers();
    (site.verifier().text(), witness.verifier().text())
}

fn signers() -> (Signer, Signer) {
    let site = Signer::new("safelight-site", Role::Log, &[0x51; 32]).expect("a key");
    let witness = Signer::new("safelight-client", Role::Witness, &[0x52; 32]).expect("a key");
    (site, witness)
}
