//! A hot folder in a bucket, against a server that speaks the protocol: whole names, damage, strangers' keys, refusals, and what breaks off.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::ControlFlow,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use safelight_bundle::{Bucket, EntryName, Medium, MediumError, ReadyName, Store, object_id};
use safelight_policies::id::{ObjectId, VerifyKey};

use crate::parties::{START, pair};

const NOW: u64 = START + 1_000;

/// Ends with the test's process, whose pipe it reads; says where it is.
const SERVE: &str = "import os, sys, threading
def end():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=end, daemon=True).start()
from moto.server import main
main(['-H', '127.0.0.1', '-p', sys.argv[1]])";

/// An interpreter that has the server: beside what is built of ours, or the host's.
fn interpreter() -> Option<PathBuf> {
    let built = std::env::current_exe().unwrap();
    let beside = built.ancestors().map(|at| at.join("python/bin/python3"));
    let mut all = beside
        .filter(|path| path.exists())
        .chain(["python3".into()]);
    all.find(|python| {
        let mut asked = Command::new(python);
        asked
            .args(["-c", "import moto.server"])
            .stderr(Stdio::null());
        asked.status().is_ok_and(|status| status.success())
    })
}

/// Starts the one server of all these tests. None, said by name, if the host has none; that fails where it is required.
fn start() -> Option<(Child, SocketAddr)> {
    let Some(python) = interpreter() else {
        let required = std::env::var("SAFELIGHT_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|need| need == "moto"),
            "SAFELIGHT_REQUIRE says that this machine has moto"
        );
        return None;
    };
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = free.local_addr().unwrap();
    drop(free);
    let mut command = Command::new(python);
    command.args(["-c", SERVE, &at.port().to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(process.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("Running on")));
    // It says every request, and nobody may keep it waiting.
    std::thread::spawn(move || said.for_each(drop));
    Some((process, at))
}

/// An object store on this machine, and a bucket of the test's own.
struct Server {
    at: SocketAddr,
    name: &'static str,
}

impl Server {
    fn start(name: &'static str) -> Option<Self> {
        static RUNS: std::sync::OnceLock<Option<(Child, SocketAddr)>> = std::sync::OnceLock::new();
        let Some((_, at)) = RUNS.get_or_init(start) else {
            eprintln!("skipped: {name} needs moto");
            return None;
        };
        let server = Self { at: *at, name };
        assert_eq!(server.raw("PUT", "", b""), 200);
        Some(server)
    }

    /// A request by whoever knows no signature: the server takes it, as a store does from a carrier that may write.
    fn raw(&self, method: &str, key: &str, body: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(self.at).unwrap();
        let len = body.len();
        let head = format!(
            "{method} /{}{key} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request\r\nContent-Length: {len}\r\n\r\n",
            self.name, self.at
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn bucket(&self) -> Bucket {
        open(self.name, self.at)
    }
}

fn open(bucket: &str, at: SocketAddr) -> Bucket {
    let store = Store {
        endpoint: format!("http://{at}"),
        region: "us-east-1".to_owned(),
        http: false,
        key: "key".to_owned(),
        secret: "secret".to_owned().into(),
    };
    Bucket::at(bucket, "from/home", store).unwrap()
}

fn put(bucket: &Bucket, bytes: &[u8]) -> ObjectId {
    let id = object_id(bytes);
    bucket
        .put_blob(id, bytes.len() as u64, &mut &bytes[..])
        .unwrap();
    id
}

fn read(bucket: &Bucket, id: ObjectId) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut blob = bucket.open_blob(id).unwrap()?;
    blob.source.read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

fn listed(bucket: &Bucket, to: &VerifyKey) -> Vec<String> {
    let mut names = Vec::new();
    let mut visit = |entry: safelight_bundle::Entry| {
        names.push(entry.name.to_string());
        ControlFlow::Continue(())
    };
    bucket.list_ready(to, &mut visit).unwrap();
    names.sort();
    names
}

#[test]
fn a_job_crosses_a_bucket_and_leaves_nothing_there() {
    let Some(server) = Server::start("crossing") else {
        return;
    };
    let bucket = server.bucket();
    let missing = bucket.put_blob(object_id(b"x"), 1, &mut &b"x"[..]);
    assert!(matches!(missing, Err(MediumError::NotAHotFolder { .. })));
    bucket.create().unwrap();
    bucket.create().unwrap();
    let (mut client, mut site) = pair();
    let blobs: Vec<Vec<u8>> = (0..40_u8)
        .map(|n| vec![n; 1 + usize::from(n) * 999])
        .collect();
    let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    let (job, _) = client.announce(1, site.signer.key(), &blobs, NOW);
    // Killed when all is there and nothing of it is noted: what is there is neither brought nor read again.
    client.ledger.broken = true;
    let pushed = client.push(&bucket, NOW);
    assert_eq!((pushed.sent.0, pushed.skipped), (44, 0), "{pushed:?}");
    client.ledger.broken = false;
    client.restart(NOW);
    let pushed = client.push(&bucket, NOW);
    assert_eq!((pushed.sent.0, pushed.skipped), (0, 44), "{pushed:?}");
    site.turn(&bucket, NOW);
    assert_eq!(site.ledger.jobs(), [job]);
    // The receipt comes back the same way, and what was brought is taken away.
    client.turn(&bucket, NOW);
    assert_eq!(read(&bucket, object_id(blobs[39])), None);
    assert!(listed(&bucket, &site.signer.key()).is_empty());
}

/// One that was put by somebody else under the name of ours: nobody takes it, and the second offer replaces it.
#[test]
fn a_blob_that_was_changed_in_a_bucket_is_replaced_when_nobody_answers() {
    let Some(server) = Server::start("changed") else {
        return;
    };
    let bucket = server.bucket();
    bucket.create().unwrap();
    let (mut client, mut site) = pair();
    let (job, _) = client.announce(1, site.signer.key(), &[b"blob"], NOW);
    client.push(&bucket, NOW);
    let id = object_id(b"blob").to_string();
    let key = format!("/from/home/blobs/{}/{id}", &id[..2]);
    assert_eq!(server.raw("PUT", &key, b"blot"), 200);
    site.turn(&bucket, NOW);
    assert!(site.ledger.jobs().is_empty() && !site.store.has(object_id(b"blob")));
    let pushed = client.push(&bucket, NOW + 600);
    assert_eq!(pushed.sent.0, 1, "{pushed:?}");
    site.turn(&bucket, NOW + 600);
    assert_eq!(site.ledger.jobs(), [job]);
}

#[test]
fn a_bucket_keeps_what_a_medium_promises() {
    let Some(server) = Server::start("promises") else {
        return;
    };
    let bucket = server.bucket();
    bucket.create().unwrap();
    let ids: Vec<ObjectId> = (0..20_u8).map(|n| put(&bucket, &[n; 100])).collect();
    bucket.settle().unwrap();
    let none = object_id(b"none");
    let found = bucket.blob_lens(&[&ids[..], &[none]].concat()).unwrap();
    assert_eq!(found.len(), 20);
    assert_eq!(bucket.blob_lens(&[ids[0], none]).unwrap().len(), 1);
    assert_eq!(
        (bucket.blob_len(ids[3]).unwrap(), read(&bucket, none)),
        (Some(100), None)
    );
    // A source that does not verify is put under no name.
    let torn = bucket.put_blob(none, 4, &mut Torn);
    assert!(torn.is_err());
    bucket.settle().unwrap();
    assert_eq!(bucket.blob_len(none).unwrap(), None);
    bucket.remove_blob(ids[0]).unwrap();
    bucket.remove_blob(ids[0]).unwrap();
    assert_eq!(bucket.blob_len(ids[0]).unwrap(), None);
}

struct Torn;

impl Read for Torn {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::InvalidData.into())
    }
}

#[test]
fn strangers_keys_in_a_bucket_hide_no_letter_and_lead_nowhere() {
    let Some(server) = Server::start("strangers") else {
        return;
    };
    let bucket = server.bucket();
    bucket.create().unwrap();
    let (mut client, mut site) = pair();
    let me = site.signer.key();
    let mailbox = data_encoding::HEXLOWER.encode(&me.0);
    for name in [
        "..",
        ".",
        "a/b",
        "%2e%2e",
        "a%0ab",
        "%20",
        "../../secret",
        "/",
        "x".repeat(300).as_str(),
    ] {
        server.raw(
            "PUT",
            &format!("/from/home/ready/{mailbox}/{name}"),
            b"mine",
        );
    }
    server.raw("PUT", "/secret", b"secret");
    let (job, _) = client.announce(1, me, &[b"blob"], NOW);
    client.push(&bucket, NOW);
    site.turn(&bucket, NOW);
    assert_eq!(site.ledger.jobs(), [job]);
    for name in ["..", "../../../secret", "a/b"] {
        assert!(EntryName::new(name).is_none());
    }
    let read = |name: &str| {
        bucket
            .read_ready(&me, &EntryName::new(name).unwrap(), 100)
            .unwrap()
    };
    assert_eq!(read("%2e%2e"), None, "an escape is a name, and no way out");
    assert_eq!(read("..%2f..%2f..%2fsecret"), None);
    // One that is longer than it may be is not read.
    let name = "long";
    server.raw(
        "PUT",
        &format!("/from/home/ready/{mailbox}/{name}"),
        &[0; 101],
    );
    let long = bucket.read_ready(&me, &EntryName::new(name).unwrap(), 100);
    assert!(
        matches!(
            long,
            Err(MediumError::TooLong {
                len: 101,
                max: 100,
                ..
            })
        ),
        "{long:?}"
    );
}

#[test]
fn what_is_refused_is_set_aside_put_back_and_discarded() {
    let Some(server) = Server::start("refused") else {
        return;
    };
    let bucket = server.bucket();
    bucket.create().unwrap();
    let (client, site) = pair();
    let me = site.signer.key();
    let seq = safelight_bundle::Seq {
        epoch: safelight_bundle::Epoch::new(NOW, [1; 3]),
        number: 1,
    };
    let name = ReadyName {
        to: me,
        from: client.signer.key(),
        seq,
        kind: safelight_bundle::Kind::Job,
    };
    bucket.put_ready(&name, b"letter").unwrap();
    let entry = name.entry();
    assert_eq!(listed(&bucket, &me), [entry.to_string()]);
    let reason = safelight_bundle::Reason {
        code: safelight_bundle::Code::Expired,
        reason: "it is over".to_owned(),
        name: entry.to_string(),
        from: None,
        at: NOW,
    };
    for _ in 0..2 {
        bucket.set_aside(&me, &entry, &reason).unwrap();
        assert!(listed(&bucket, &me).is_empty());
        let [aside] = &bucket.aside(&me).unwrap()[..] else {
            panic!("one")
        };
        assert_eq!(aside.reason.as_ref(), Some(&reason));
        assert!(bucket.put_back(&me, aside).unwrap());
        assert!(!bucket.put_back(&me, aside).unwrap(), "it is back");
        assert_eq!(
            bucket.read_ready(&me, &entry, 100).unwrap().unwrap(),
            b"letter"
        );
        assert!(bucket.aside(&me).unwrap().is_empty());
    }
    bucket.set_aside(&me, &entry, &reason).unwrap();
    let stem = bucket.aside(&me).unwrap()[0].stem.clone();
    assert!(bucket.discard(&me, &stem).unwrap());
    assert!(!bucket.discard(&me, &stem).unwrap());
    assert!(!bucket.discard(&me, "../x").unwrap());
    // What is gone is refused by nobody any more.
    bucket.set_aside(&me, &entry, &reason).unwrap();
    assert!(bucket.aside(&me).unwrap().is_empty());
}

#[test]
fn a_store_that_is_away_or_has_no_such_bucket_is_told_as_the_folder_that_is_gone() {
    let Some(server) = Server::start("away") else {
        return;
    };
    let other = open("other", server.at);
    let gone = other.list_ready(&VerifyKey([1; 32]), &mut |_| ControlFlow::Continue(()));
    assert!(gone.unwrap_err().is_of_the_folder());
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = free.local_addr().unwrap();
    drop(free);
    let gone = open("hot", at).room().unwrap_err();
    assert!(matches!(gone, MediumError::Gone { .. }), "{gone}");
    assert!(
        gone.to_string()
            .starts_with("the hot folder s3://hot/from/home"),
        "{gone}"
    );
    let source = std::error::Error::source(&gone).unwrap().to_string();
    assert!(!source.contains("Signature"), "{source}");
}

/// Between us and the store: ends each answer after so many bytes of it.
fn cutting(to: SocketAddr, after: u64) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let passed = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&passed);
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (mut near, mut far) = (near.unwrap(), TcpStream::connect(to).unwrap());
            let (mut asks, mut asked) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut asks, &mut asked));
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                let passed = std::io::copy(&mut (&mut far).take(after), &mut near);
                counted.fetch_add(passed.unwrap_or(0), Ordering::Relaxed);
                let _ = near.shutdown(std::net::Shutdown::Both);
                let _ = far.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (at, passed)
}

#[test]
fn a_blob_that_breaks_off_again_and_again_goes_on_where_it_was() {
    let Some(server) = Server::start("broken") else {
        return;
    };
    server.bucket().create().unwrap();
    let bytes: Vec<u8> = (0..900_000_u32).map(|at| (at % 251) as u8).collect();
    let id = put(&server.bucket(), &bytes);
    let direct = server.bucket();
    direct.settle().unwrap();
    while direct.blob_len(id).unwrap().is_none() {
        std::thread::yield_now();
    }
    let (at, passed) = cutting(server.at, 200_000);
    assert_eq!(read(&open(server.name, at), id).unwrap(), bytes);
    let passed = passed.load(Ordering::Relaxed);
    assert!(
        passed < 1_000_000,
        "it began anew: {passed} bytes for {}",
        bytes.len()
    );
    // A link that brings no more than the head of an answer brings nothing, and is given up.
    let (at, _) = cutting(server.at, 100);
    let stuck = open(server.name, at);
    assert!(stuck.open_blob(id).is_err());
}

/// A server that gives every request the same answer; counts them.
fn answering(answer: &'static str) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            counted.fetch_add(1, Ordering::Relaxed);
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (at, asked)
}

#[test]
fn a_store_that_refuses_is_told_as_that_and_one_that_sends_elsewhere_is_not_followed() {
    let nobody = &VerifyKey([1; 32]);
    let ask = |at| {
        let mut seen = |_| ControlFlow::Continue(());
        open("hot", at).list_ready(nobody, &mut seen).unwrap_err()
    };
    let (at, _) =
        answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let denied = ask(at);
    assert!(matches!(denied, MediumError::Denied { .. }), "{denied}");
    assert!(
        denied.to_string().contains("s3://hot/from/home"),
        "{denied}"
    );

    let marker = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n";
    let (elsewhere, asked) = answering(marker);
    let leads = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{elsewhere}/hot/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let (at, _) = answering(Box::leak(leads.into_boxed_str()));
    let led = ask(at);
    assert!(matches!(led, MediumError::Io { .. }), "{led}");
    assert_eq!(asked.load(Ordering::Relaxed), 0, "it was followed");
    // The same question, asked there, is answered.
    assert_eq!(open("hot", elsewhere).room().unwrap(), u64::MAX);

    // What is no listing, and one without end, end.
    let (at, _) =
        answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nnot a list");
    assert!(matches!(ask(at), MediumError::Io { .. }));
}
