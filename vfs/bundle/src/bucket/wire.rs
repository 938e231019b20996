//! Requests to an object store: signed for one act, bounded in time and length, sent nowhere else than where the configuration says.

use std::{
    io::{self, Read},
    time::Duration,
};

use rusty_s3::{Bucket, Credentials, S3Action, actions::ListObjectsV2};
use ureq::{
    Agent, Body, SendBody,
    http::{Response, StatusCode, header},
};

/// How long a signature is good for.
const SIGNED_FOR: Duration = Duration::from_secs(900);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the store may say and take nothing.
const STALL: Duration = Duration::from_secs(30);
/// The longest page of a listing: 1,000 keys of 1,024 bytes, each byte three, and what is said of each.
const PAGE_MAX: u64 = 8 << 20;
/// How often an act is tried that may be done twice.
const TRIES: u32 = 4;
/// The pause before the second try; each next is twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// The slowest that a body may travel, in bytes a second.
const SLOWEST: u64 = 16 * 1024;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// No connection, or none that lasted.
    #[error("{0}")]
    Unreachable(io::Error),
    /// The store refuses us.
    #[error("the store answered {0}")]
    Denied(u16),
    /// There is no such bucket.
    #[error("the store has no such bucket")]
    NoBucket,
    /// It has no room.
    #[error("the store has no room")]
    Full,
    /// Something else.
    #[error("the store answered {0}")]
    Status(u16),
    /// What it says is not understood.
    #[error("the store's answer is not understood")]
    Unclear,
}

impl Fault {
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Status(status) => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}

/// One page of a listing.
pub(super) struct Page {
    /// Keys and lengths.
    pub(super) keys: Vec<(String, u64)>,
    /// Where the next page begins.
    pub(super) next: Option<String>,
}

/// A bucket, as we reach it.
pub(super) struct Wire {
    agent: Agent,
    pub(super) bucket: Bucket,
    credentials: Credentials,
}

impl Wire {
    pub(super) fn new(bucket: Bucket, credentials: Credentials) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // Requests are signed for one store: nobody may send them elsewhere.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_resolve(Some(CONNECT))
            .timeout_recv_response(Some(STALL))
            .build();
        Self {
            agent: agent.into(),
            bucket,
            credentials,
        }
    }

    fn key(&self) -> Option<&Credentials> {
        Some(&self.credentials)
    }

    /// Puts an object. `only_new`: unless there is one; then the answer is false.
    pub(super) fn put(&self, key: &str, bytes: &[u8], only_new: bool) -> Result<bool, Fault> {
        again(|| {
            let mut act = self.bucket.put_object(self.key(), key);
            if only_new {
                act.headers_mut().insert("if-none-match", "*");
            }
            let mut request = self.agent.put(act.sign(SIGNED_FOR).as_str());
            if only_new {
                request = request.header(header::IF_NONE_MATCH, "*");
            }
            let timed = request
                .config()
                .timeout_send_body(Some(allowance(bytes.len() as u64)));
            let answer = answered(timed.build().send(bytes))?;
            match answer.status() {
                StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT if only_new => Ok(false),
                _ => succeeded(answer).map(|_| true),
            }
        })
    }

    /// An object's length, if it is there.
    pub(super) fn len(&self, key: &str) -> Result<Option<u64>, Fault> {
        again(|| {
            let url = self.bucket.head_object(self.key(), key).sign(SIGNED_FOR);
            let answer = answered(self.agent.head(url.as_str()).call())?;
            match answer.status() {
                StatusCode::NOT_FOUND => Ok(None),
                _ => succeeded(answer).and_then(|answer| length(&answer).map(Some)),
            }
        })
    }

    /// Begins to read an object from a byte on; answers what there is of it from there.
    pub(super) fn get(&self, key: &str, from: u64) -> Result<Option<(u64, Body)>, Fault> {
        again(|| {
            let mut act = self.bucket.get_object(self.key(), key);
            let range = format!("bytes={from}-");
            if from > 0 {
                act.headers_mut().insert("range", range.as_str());
            }
            let mut request = self.agent.get(act.sign(SIGNED_FOR).as_str());
            if from > 0 {
                request = request.header(header::RANGE, &range);
            }
            let timed = request
                .config()
                .timeout_recv_body(Some(allowance(crate::BLOB_MAX.saturating_sub(from))));
            let answer = answered(timed.build().call())?;
            match (answer.status(), from) {
                (StatusCode::NOT_FOUND, _) => Ok(None),
                // One that sends all of it again did not understand.
                (StatusCode::OK, 1..) => Err(Fault::Unclear),
                _ => {
                    let answer = succeeded(answer)?;
                    Ok(Some((length(&answer)?, answer.into_body())))
                }
            }
        })
    }

    /// Removes an object, whether or not it is there.
    pub(super) fn remove(&self, key: &str) -> Result<(), Fault> {
        again(|| {
            let url = self.bucket.delete_object(self.key(), key).sign(SIGNED_FOR);
            let answer = answered(self.agent.delete(url.as_str()).call())?;
            match answer.status() {
                StatusCode::NOT_FOUND => Ok(()),
                _ => succeeded(answer).map(drop),
            }
        })
    }

    /// Makes a second object of one, inside the store; false if that is not there.
    pub(super) fn copy(&self, from: &str, to: &str) -> Result<bool, Fault> {
        again(|| {
            // What needs escapes in a URL needs them here.
            let source = self.bucket.object_url(from);
            let source = match source.path().strip_prefix(self.bucket.base_url().path()) {
                Some(key) => format!("/{}/{key}", self.bucket.name()),
                None => return Err(Fault::Unclear),
            };
            let mut act = self.bucket.put_object(self.key(), to);
            act.headers_mut()
                .insert("x-amz-copy-source", source.as_str());
            let request = self.agent.put(act.sign(SIGNED_FOR).as_str());
            let request = request.header("x-amz-copy-source", &source);
            let answer = answered(request.send(SendBody::none()))?;
            match answer.status() {
                StatusCode::NOT_FOUND => Ok(false),
                _ => succeeded(answer).map(|_| true),
            }
        })
    }

    /// One page of the keys that begin so.
    pub(super) fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, Fault> {
        again(|| {
            let mut act = self.bucket.list_objects_v2(self.key());
            act.with_prefix(prefix);
            if let Some(from) = from {
                act.with_continuation_token(from);
            }
            let url = act.sign(SIGNED_FOR);
            let answer = succeeded(answered(self.agent.get(url.as_str()).call())?);
            let answer = answer.map_err(|fault| match fault {
                Fault::Status(404) => Fault::NoBucket,
                fault => fault,
            })?;
            let mut text = String::new();
            let mut body = answer.into_body().into_reader().take(PAGE_MAX + 1);
            body.read_to_string(&mut text).map_err(Fault::Unreachable)?;
            if text.len() as u64 > PAGE_MAX {
                return Err(Fault::Unclear);
            }
            let page = ListObjectsV2::parse_response(&text).map_err(|_| Fault::Unclear)?;
            let keys = page.contents.into_iter();
            Ok(Page {
                keys: keys.map(|it| (it.key, it.size.unwrap_or(0))).collect(),
                next: page.next_continuation_token,
            })
        })
    }
}

/// How long so many bytes may travel.
fn allowance(bytes: u64) -> Duration {
    STALL + Duration::from_secs(bytes / SLOWEST)
}

/// Tries a few times what fails for reasons that pass.
fn again<T>(mut act: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match act() {
            Err(fault) if fault.is_transient() => std::thread::sleep(pause),
            done => return done,
        }
        pause *= 2;
    }
    act()
}

fn answered(answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Fault> {
    answer.map_err(|error| Fault::Unreachable(into_io(error)))
}

/// What an error is, without the URL: that is signed, and whoever reads a log could use it.
fn into_io(error: ureq::Error) -> io::Error {
    match error {
        ureq::Error::Io(error) => error,
        ureq::Error::Timeout(_) => io::ErrorKind::TimedOut.into(),
        ureq::Error::HostNotFound => {
            io::Error::new(io::ErrorKind::NotFound, "no such host is known")
        }
        ureq::Error::ConnectionFailed => io::ErrorKind::ConnectionRefused.into(),
        ureq::Error::Rustls(error) => io::Error::new(io::ErrorKind::InvalidData, error),
        _ => io::Error::other("the request failed"),
    }
}

fn succeeded(answer: Response<Body>) -> Result<Response<Body>, Fault> {
    match answer.status() {
        status if status.is_success() => Ok(answer),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(Fault::Denied(answer.status().as_u16()))
        }
        StatusCode::INSUFFICIENT_STORAGE => Err(Fault::Full),
        status => Err(Fault::Status(status.as_u16())),
    }
}

fn length(answer: &Response<Body>) -> Result<u64, Fault> {
    let said = answer.headers().get(header::CONTENT_LENGTH);
    let said = said.and_then(|said| said.to_str().ok()?.parse().ok());
    said.ok_or(Fault::Unclear)
}
