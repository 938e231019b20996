//! The client of the node protocol: signed requests, bounded answers, patience with a network and with nothing else.
//!
//! What a site answers is bounded before it is kept and never believed: an object counts if it hashes to its name, a status that is no
//! success is a typed error with the site's own words. A connection that fails, an answer that breaks off and a server's own failure (5xx)
//! are tried again for as long as the caller keeps on; a refusal is not.

use std::{
    io::{self, Read},
    sync::Arc,
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use safelight_policies::id::{JobId, NodeName, ObjectId};
use safelight_seal::identity::SigningSecret;
use safelight_vfs::area;
use ureq::{
    Agent, Body, RequestBuilder,
    http::{HeaderMap, Response},
};

use super::protocol::{
    Answer, CALL_MAX, CALL_PATH, CONTEXT, Call, NODE, SIGNATURE, TIME, WINDOW, message, object_path,
};
use crate::{process, store::Store, terminal};

/// The longest answer to a call in bytes: work for [`super::protocol::ASKS_MAX`] slots, each with an envelope and the layers of its steps.
const ANSWER_MAX: u64 = 16 << 20;
/// How much of the site's words is kept, in bytes.
const WORDS_MAX: u64 = 1024;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a peer may say and take nothing.
const STALL: Duration = Duration::from_secs(30);
/// The slowest that an object may travel, in bytes a second.
const SLOWEST: u64 = 64 * 1024;
/// The pauses between tries: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often a pause looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// Why a call or an object did not come through.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No connection, or none that lasted.
    #[error("cannot reach the site at {site}")]
    Unreachable {
        site: String,
        source: Box<ureq::Error>,
    },
    /// An answer or an object ended before its end.
    #[error("what the site sent broke off")]
    Cut { source: io::Error },
    /// The site answered with something else than success.
    #[error("the site answered {status}: {words}")]
    Refused { status: u16, words: String },
    /// The same, and its clock differs from ours by more than a request may be old.
    #[error(
        "the clocks of this node and its site are {seconds} s apart, and the site answered {status}: {words}"
    )]
    Clock {
        seconds: u64,
        status: u16,
        words: String,
    },
    /// An answer is longer than any may be.
    #[error("what the site sent is longer than {most} bytes")]
    TooLong { most: u64 },
    /// An answer is not one of the protocol's.
    #[error("the site's answer does not decode")]
    NotUnderstood { source: postcard::Error },
    /// A call is longer than any may be.
    #[error("a call of {len} bytes is longer than a call may be")]
    CallTooLong { len: usize },
    /// A call does not encode.
    #[error("a call does not encode")]
    NotEncoded { source: postcard::Error },
    /// An object has another hash than its name.
    #[error("object {id} came with other bytes than its name says")]
    NotAuthentic { id: ObjectId },
    /// The area failed.
    #[error("the area cannot keep or give an object")]
    Area { source: area::Error },
    /// Nobody wants it any more.
    #[error("it was stopped")]
    Stopped,
}

impl Error {
    /// True if the next try may end better.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Cut { .. } => true,
            Self::Refused { status, .. } | Self::Clock { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// True if the site certainly never saw the request.
    pub(super) fn is_unsent(&self) -> bool {
        let Self::Unreachable { source, .. } = self else {
            return false;
        };
        match &**source {
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
            ureq::Error::Timeout(what) => {
                matches!(what, ureq::Timeout::Connect | ureq::Timeout::Resolve)
            }
            ureq::Error::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
            ),
            _ => false,
        }
    }
}

/// Whether to keep on after so long. With no time passed, the answer is whether it is wanted at all.
pub(super) type KeepOn<'a> = &'a (dyn Fn(Duration) -> bool + Sync);

/// A site, as a node reaches it.
pub(super) struct Site {
    agent: Agent,
    address: String,
    node: NodeName,
    key: Arc<SigningSecret>,
    clock: fn() -> u64,
}

impl Site {
    /// The site at an address. Nothing is connected yet.
    pub(super) fn new(address: &str, node: &NodeName, key: Arc<SigningSecret>) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // Requests are signed for one path at one site: nobody may send them elsewhere.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(STALL))
            .timeout_per_write(Some(STALL))
            .user_agent("safelight-node")
            .build()
            .new_agent();
        Self {
            agent,
            address: address.to_owned(),
            node: node.clone(),
            key,
            clock: process::now_seconds,
        }
    }

    /// Asks; each try may take `limit`.
    pub(super) fn call(
        &self,
        call: &Call,
        limit: Duration,
        keep_on: KeepOn<'_>,
    ) -> Result<Answer, Error> {
        let body = encoded(call)?;
        patiently(keep_on, Error::is_transient, || {
            self.call_once(&body, limit)
        })
    }

    /// Asks what must not be asked twice: tries again only what the site certainly never saw.
    pub(super) fn call_unrepeated(
        &self,
        call: &Call,
        limit: Duration,
        keep_on: KeepOn<'_>,
    ) -> Result<Answer, Error> {
        let body = encoded(call)?;
        patiently(keep_on, Error::is_unsent, || self.call_once(&body, limit))
    }

    fn call_once(&self, body: &[u8], limit: Duration) -> Result<Answer, Error> {
        let request = self.agent.post(self.url(CALL_PATH));
        let request = self.signed(request, "POST", CALL_PATH, body);
        let request = request.config().timeout_global(Some(limit)).build();
        let response = self.success(request.send(body))?;
        let mut answer = Vec::new();
        response
            .into_body()
            .into_reader()
            .take(ANSWER_MAX + 1)
            .read_to_end(&mut answer)
            .map_err(|source| Error::Cut { source })?;
        if answer.len() as u64 > ANSWER_MAX {
            return Err(Error::TooLong { most: ANSWER_MAX });
        }
        match postcard::take_from_bytes(&answer) {
            Ok((answer, [])) => Ok(answer),
            Ok(_) => Err(Error::NotUnderstood {
                source: postcard::Error::DeserializeBadEncoding,
            }),
            Err(source) => Err(Error::NotUnderstood { source }),
        }
    }

    /// Brings an object of at most `most` bytes into the store; answers its length.
    pub(super) fn fetch(
        &self,
        (job, object): (JobId, ObjectId),
        most: u64,
        store: &Store,
        keep_on: KeepOn<'_>,
    ) -> Result<u64, Error> {
        let path = object_path(job, object);
        patiently(keep_on, Error::is_transient, || {
            let request = self.signed(self.agent.get(self.url(&path)), "GET", &path, &[]);
            let request = request.config().timeout_global(Some(travel(most))).build();
            let response = self.success(request.call())?;
            let mut wanted = Wanted {
                source: response.into_body().into_reader(),
                keep_on,
            };
            let received = store.area().receive(object, most, &mut wanted);
            received.map_err(|error| match error {
                area::Error::Source { .. } if !keep_on(Duration::ZERO) => Error::Stopped,
                area::Error::Source { source, .. } => Error::Cut { source },
                area::Error::TooLarge { .. } => Error::TooLong { most },
                area::Error::NotAuthentic { id } => Error::NotAuthentic { id },
                source => Error::Area { source },
            })
        })
    }

    /// Brings an object of the store to the site.
    pub(super) fn send(
        &self,
        (job, object): (JobId, ObjectId),
        store: &Store,
        keep_on: KeepOn<'_>,
    ) -> Result<(), Error> {
        let path = object_path(job, object);
        patiently(keep_on, Error::is_transient, || {
            let area = |source| Error::Area { source };
            let file = store.area().object(object).map_err(area)?;
            let len = store.area().len(object).map_err(area)?.unwrap_or(0);
            let request = self.signed(self.agent.put(self.url(&path)), "PUT", &path, &[]);
            let request = request.config().timeout_global(Some(travel(len))).build();
            self.success(request.send(&file)).map(drop)
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    fn signed<B>(
        &self,
        request: RequestBuilder<B>,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> RequestBuilder<B> {
        let time = (self.clock)();
        let signature = self.key.sign(CONTEXT, &message(method, path, time, body));
        request
            .header(NODE, self.node.as_str())
            .header(TIME, time.to_string())
            .header(SIGNATURE, HEXLOWER.encode(&signature))
    }

    /// A response that is a success, or the site's words.
    fn success(
        &self,
        response: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Error> {
        let response = response.map_err(|source| Error::Unreachable {
            site: self.address.clone(),
            source: Box::new(source),
        })?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let apart = apart(response.headers(), (self.clock)());
        let mut words = Vec::new();
        // Words that break off are words.
        let reader = response.into_body().into_reader();
        let _ = reader.take(WORDS_MAX).read_to_end(&mut words);
        let words = terminal::shown(words.trim_ascii());
        Err(match apart {
            Some(seconds) => Error::Clock {
                seconds,
                status,
                words,
            },
            None => Error::Refused { status, words },
        })
    }
}

fn encoded(call: &Call) -> Result<Vec<u8>, Error> {
    let body = postcard::to_stdvec(call).map_err(|source| Error::NotEncoded { source })?;
    if body.len() > CALL_MAX {
        return Err(Error::CallTooLong { len: body.len() });
    }
    Ok(body)
}

/// How far the site's clock is from ours, if it is farther than a request may be old. Nothing is believed of it; it explains a refusal.
fn apart(headers: &HeaderMap, now: u64) -> Option<u64> {
    let theirs: u64 = headers.get(TIME)?.to_str().ok()?.parse().ok()?;
    Some(theirs.abs_diff(now)).filter(|seconds| *seconds > WINDOW)
}

/// How long so many bytes may be under way.
fn travel(bytes: u64) -> Duration {
    2 * STALL + Duration::from_secs(bytes / SLOWEST)
}

/// Tries again what may end better, with longer and longer pauses.
fn patiently<T>(
    keep_on: KeepOn<'_>,
    again: fn(&Error) -> bool,
    mut once: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let began = Instant::now();
    let mut pause = PAUSES.0;
    loop {
        let error = match once() {
            Err(error) if again(&error) => error,
            done => return done,
        };
        tracing::info!("tried again in {} ms: {error}", pause.as_millis());
        let until = Instant::now() + pause;
        while Instant::now() < until && keep_on(began.elapsed()) {
            std::thread::sleep(LOOK.min(pause));
        }
        if !keep_on(began.elapsed()) {
            return Err(error);
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// A source that ends with an error once nobody wants it any more.
struct Wanted<'a, R> {
    source: R,
    keep_on: KeepOn<'a>,
}

impl<R: Read> Read for Wanted<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if (self.keep_on)(Duration::ZERO) {
            self.source.read(out)
        } else {
            Err(io::ErrorKind::ConnectionAborted.into())
        }
    }
}

#[cfg(test)]
mod tests;
