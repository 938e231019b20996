//! A site that misbehaves in every way we could think of, byte by byte, on a real socket.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
};

use safelight_bundle::object_id;
use safelight_seal::identity;

use super::*;
use crate::state::State;

/// A request as it came over the wire.
struct Seen {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// A site that gives one scripted answer for each connection, in order, then listens no more.
fn site(script: Vec<Vec<u8>>) -> (Site, Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, seen) = channel();
    thread::spawn(move || {
        for answer in script {
            let (mut stream, _) = listener.accept().unwrap();
            sender.send(read(&stream)).unwrap();
            // A client that has had enough hangs up.
            let _ = stream.write_all(&answer);
        }
    });
    (Site::new(&address, &"n-one".parse().unwrap(), key()), seen)
}

fn key() -> Arc<SigningSecret> {
    Arc::new(SigningSecret::from_bytes(&[3; 32]))
}

fn read(stream: &TcpStream) -> Seen {
    let mut reader = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let line = next();
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = next().split_once(": ") {
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let len = headers
        .get("content-length")
        .map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    reader.read_exact(&mut body).unwrap();
    Seen {
        line,
        headers,
        body,
    }
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn good(answer_: &Answer) -> Vec<u8> {
    answer("200 OK", "", &postcard::to_stdvec(answer_).unwrap())
}

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(Some(directory.path())).unwrap();
    let store = Store::open(&state, &"c-one".parse().unwrap()).unwrap();
    (directory, store)
}

const SECOND: Duration = Duration::from_secs(1);
const JOB: JobId = JobId::from_random([1; 10]);

fn beat(site: &Site) -> Result<Answer, Error> {
    site.call(&Call::Beat { held: vec![] }, SECOND, &|_| false)
}

/// What there is of an object after an attempt to fetch it, and how often the site may be asked.
fn fetch(script: Vec<Vec<u8>>, object: ObjectId, most: u64) -> Result<u64, Error> {
    let (_directory, store) = store();
    let tries = script.len();
    let (site, seen) = site(script);
    let keep_on = |elapsed| elapsed < 5 * SECOND;
    let fetched = site.fetch((JOB, object), most, &store, &keep_on);
    assert_eq!(seen.try_iter().count(), tries);
    let there = store.area().read(object).is_ok();
    assert_eq!(there, fetched.is_ok());
    fetched
}

#[test]
fn a_request_is_signed_for_what_it_asks_and_when() {
    let (site, seen) = site(vec![good(&Answer::Left), answer("200 OK", "", b"blob")]);
    assert!(matches!(beat(&site), Ok(Answer::Left)));
    let (_directory, store) = store();
    let object = object_id(b"blob");
    site.fetch((JOB, object), 4, &store, &|_| true).unwrap();
    let path = object_path(JOB, object);
    for (method, path) in [("POST", CALL_PATH), ("GET", &*path)] {
        let request = seen.recv().unwrap();
        assert_eq!(request.line, format!("{method} {path} HTTP/1.1"));
        assert_eq!(request.headers[NODE], "n-one");
        let time: u64 = request.headers[TIME].parse().unwrap();
        assert!(time.abs_diff(process::now_seconds()) < 5);
        let signature = HEXLOWER
            .decode(request.headers[SIGNATURE].as_bytes())
            .unwrap();
        let signature: [u8; 64] = signature.try_into().unwrap();
        let signed = message(method, path, time, &request.body);
        identity::verify(CONTEXT, &key().public(), &signed, &signature).unwrap();
    }
}

#[test]
fn an_object_is_what_its_name_says_or_it_is_not_kept() {
    let object = object_id(b"an object");
    let whole = || answer("200 OK", "", b"an object");
    assert_eq!(fetch(vec![whole()], object, 9).unwrap(), 9);
    let other = fetch(vec![answer("200 OK", "", b"an abject")], object, 9);
    assert!(matches!(other, Err(Error::NotAuthentic { id }) if id == object));
    let shorter = fetch(vec![answer("200 OK", "", b"an obj")], object, 9);
    assert!(matches!(shorter, Err(Error::NotAuthentic { .. })));
    let longer = fetch(vec![answer("200 OK", "", b"an object!")], object, 9);
    assert!(matches!(longer, Err(Error::TooLong { most: 9 })));
    // An answer that ends when it likes, and does not.
    let endless = [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec(),
        vec![b'x'; 4 << 20],
    ];
    let endless = fetch(vec![endless.concat()], object, 9);
    assert!(matches!(endless, Err(Error::TooLong { most: 9 })));
}

#[test]
fn what_breaks_off_is_tried_again_and_what_is_refused_is_not() {
    let object = object_id(b"an object");
    let whole = answer("200 OK", "", b"an object");
    let cut = whole[..whole.len() - 3].to_vec();
    let silence = Vec::new();
    let failure = answer("500 Internal Server Error", "", b"disk");
    let script = vec![cut, silence, failure, whole];
    assert_eq!(fetch(script, object, 9).unwrap(), 9);
    for status in ["301 Moved Permanently", "404 Not Found", "401 Unauthorized"] {
        let refused = fetch(
            vec![answer(
                status,
                "location: http://127.0.0.1:1/\r\n",
                b"no\x1b[2J",
            )],
            object,
            9,
        );
        let error = refused.unwrap_err();
        let expected = format!("the site answered {}: no\\u{{1b}}[2J", &status[..3]);
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn patience_ends() {
    let (site, seen) = site(vec![answer("503 Service Unavailable", "", b"later"); 2]);
    let began = Instant::now();
    let keep_on = |elapsed| elapsed < Duration::from_millis(150);
    let error = site.call(&Call::Leave, SECOND, &keep_on).unwrap_err();
    // The second try may be the last, or find nobody listening any more.
    assert!(error.is_transient(), "{error}");
    assert!(seen.try_iter().count() <= 2);
    assert!(began.elapsed() < SECOND);
    let (_directory, store) = store();
    let object = object_id(b"x");
    let (site, _seen) = self::site(vec![answer("200 OK", "", b"x")]);
    let stopped = site.fetch((JOB, object), 1, &store, &|_| false);
    assert!(matches!(stopped, Err(Error::Stopped)));
}

#[test]
fn answers_are_bounded_and_decode_whole() {
    let words = vec![b'w'; 1 << 20];
    let big = [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec(),
        vec![0; ANSWER_MAX as usize + 1],
    ];
    let mut trailing = postcard::to_stdvec(&Answer::Settled).unwrap();
    trailing.push(0);
    let (site, _seen) = site(vec![
        answer("403 Forbidden", "", &words),
        big.concat(),
        answer("200 OK", "", &trailing),
        answer("200 OK", "", b"\xff"),
        answer("200 OK", "", b""),
        good(&Answer::Settled),
    ]);
    match beat(&site) {
        Err(Error::Refused { status: 403, words }) => assert_eq!(words.len() as u64, WORDS_MAX),
        other => panic!("{other:?}"),
    }
    assert!(matches!(beat(&site), Err(Error::TooLong { .. })));
    for _ in 0..3 {
        assert!(matches!(beat(&site), Err(Error::NotUnderstood { .. })));
    }
    assert!(matches!(beat(&site), Ok(Answer::Settled)));
}

#[test]
fn a_clock_that_is_wrong_is_named() {
    let with = |ahead: u64| {
        let header = format!("{TIME}: {}\r\n", process::now_seconds() + ahead);
        answer("401 Unauthorized", &header, b"too old")
    };
    let (site, _seen) = site(vec![with(3600), with(10)]);
    match beat(&site) {
        Err(Error::Clock {
            seconds,
            status: 401,
            words,
        }) => assert!((3590..=3600).contains(&seconds) && words == "too old"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(beat(&site), Err(Error::Refused { .. })));
}

#[test]
fn a_release_is_repeated_only_if_nobody_saw_it() {
    let tried = std::sync::atomic::AtomicUsize::new(0);
    let keep_on = |_| tried.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 20;
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gone = Site::new(
        &format!("http://{closed}"),
        &"n-one".parse().unwrap(),
        key(),
    );
    let error = gone
        .call_unrepeated(&Call::Leave, SECOND, &keep_on)
        .unwrap_err();
    assert!(error.is_unsent() && tried.into_inner() > 2, "{error}");
    // Seen, and the answer lost.
    let (site, seen) = site(vec![Vec::new(), good(&Answer::Left)]);
    let error = site
        .call_unrepeated(&Call::Leave, SECOND, &|_| true)
        .unwrap_err();
    assert!(error.is_transient() && !error.is_unsent(), "{error}");
    assert_eq!(seen.try_iter().count(), 1);
}

#[test]
fn what_is_sent_is_the_object() {
    let (_directory, store) = store();
    let object = store.put_bytes(b"left").unwrap();
    let (site, seen) = site(vec![
        answer("500 Internal Server Error", "", b""),
        answer("204 No Content", "", b""),
        answer("507 Insufficient Storage", "", b"full"),
    ]);
    let keep_on = |elapsed| elapsed < SECOND;
    site.send((JOB, object), &store, &keep_on).unwrap();
    for _ in 0..2 {
        let request = seen.recv().unwrap();
        assert_eq!(
            request.line,
            format!("PUT {} HTTP/1.1", object_path(JOB, object))
        );
        assert_eq!(request.body, b"left");
    }
    assert!(site.send((JOB, object), &store, &|_| false).is_err());
    let missing = site.send((JOB, object_id(b"?")), &store, &keep_on);
    assert!(matches!(missing, Err(Error::Area { .. })));
}
