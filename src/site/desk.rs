//! The desk: where nodes ask for work and hand in results. HTTP, one signed call at a time.
//!
//! A node is believed when its key was enrolled and its signature holds; and then only about its own slots and sessions. What it hands in
//! is sealed: the desk checks names and lengths, and that the ledger accepts the fence.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, State as With},
    http::{HeaderMap, Method, StatusCode, Uri, header::CONTENT_LENGTH},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use data_encoding::HEXLOWER;
use safelight_bundle::{BLOB_MAX, Objects};
use safelight_policies::id::{JobId, NodeName, ObjectId, VerifyKey};
use safelight_scheduler::SqliteLedger;
use safelight_seal::identity::{self, SigningSecret};

use super::{config::Config, window};
use crate::{
    failure::{Failure, Kind, OrFail},
    node::protocol::{self, Answer, CALL_MAX, Call},
    process,
    state::State,
    store::Store,
    warden,
};

mod call;
pub(super) mod door;
mod guard;
mod standing;
mod work;

pub(super) use guard::Guard;

/// How long a call may take to arrive.
const CALL: Duration = Duration::from_secs(30);
/// The slowest that an object may travel, in bytes a second: as a node has it.
const SLOWEST: u64 = 64 * 1024;

/// What every request works with.
pub(super) struct Desk {
    pub(super) state: State,
    pub(super) config: Config,
    pub(super) ledger: SqliteLedger,
    pub(super) schedule: SigningSecret,
    pub(super) guard: Guard,
}

/// The desk's routes.
pub(super) fn routes(desk: Arc<Desk>) -> Router {
    Router::new()
        .route(protocol::CALL_PATH, post(answer))
        .route("/v0/object/{job}/{object}", get(fetch).put(store))
        .with_state(desk)
}

/// A request that is not answered: what is wrong with it, in words for the node's operator.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        // What went wrong here is the site's own.
        tracing::warn!("{}", failure.message());
        let words = "the site cannot answer now; its log says why".to_owned();
        Self(StatusCode::INTERNAL_SERVER_ERROR, words)
    }
}

/// What a request says of who makes it. Nothing in it is believed yet, but that such a node is enrolled and that the time is now.
struct Claim {
    node: NodeName,
    key: VerifyKey,
    time: u64,
    signature: [u8; 64],
}

fn unknown(why: String) -> Refused {
    Refused(StatusCode::UNAUTHORIZED, why)
}

fn claim(desk: &Desk, headers: &HeaderMap) -> Result<Claim, Refused> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(name), Some(time), Some(signature)) = (
        header(protocol::NODE),
        header(protocol::TIME),
        header(protocol::SIGNATURE),
    ) else {
        return Err(unknown("the request is not signed by a node".to_owned()));
    };
    let node: NodeName = name
        .parse()
        .map_err(|_| unknown("not a node's name".to_owned()))?;
    let time: u64 = time.parse().map_err(|_| unknown("not a time".to_owned()))?;
    let key = warden::enrolled_node(&desk.state, &node)?.ok_or_else(|| {
        unknown(format!(
            "the node {node} is not enrolled here: safelight node enroll {node} KEY"
        ))
    })?;
    let signature = HEXLOWER.decode(signature.as_bytes()).ok();
    let signature = signature
        .and_then(|it| it.try_into().ok())
        .ok_or_else(|| unknown("not a signature".to_owned()))?;
    window::within(time, process::now_seconds()).map_err(unknown)?;
    Ok(Claim {
        node,
        key,
        time,
        signature,
    })
}

impl Claim {
    /// The node, if it signed this.
    fn verify(self, method: &Method, uri: &Uri, body: &[u8]) -> Result<NodeName, Refused> {
        let message = protocol::message(method.as_str(), uri.path(), self.time, body);
        let verified = identity::verify(protocol::CONTEXT, &self.key, &message, &self.signature);
        match verified {
            Ok(()) => Ok(self.node),
            Err(_) => {
                let node = self.node;
                let why = format!("the request is not signed by {node}'s enrolled key");
                Err(unknown(why))
            }
        }
    }
}

async fn answer(
    With(desk): With<Arc<Desk>>,
    headers: HeaderMap,
    method: Method,
    uri: Uri,
    body: Body,
) -> Result<Vec<u8>, Refused> {
    let bad = |why: String| Refused(StatusCode::BAD_REQUEST, why);
    let claim = claim(&desk, &headers)?;
    let body = tokio::time::timeout(CALL, axum::body::to_bytes(body, CALL_MAX))
        .await
        .map_err(|_| bad("the call did not arrive in time".to_owned()))?
        .map_err(|error| bad(format!("the call did not arrive whole: {error}")))?;
    let (signature, time) = (claim.signature, claim.time);
    let node = claim.verify(&method, &uri, &body)?;
    let call: Call = match postcard::take_from_bytes(&body) {
        Ok((call, [])) => call,
        _ => return Err(bad("the call is of another version".to_owned())),
    };
    // These two end sessions, so nobody may say them again in the node's name.
    if matches!(call, Call::Register(_) | Call::Leave)
        && !desk.guard.is_new(signature, time, process::now_seconds())
    {
        return Err(unknown("this was said before".to_owned()));
    }
    let answer: Answer = call::answer(&desk, &node, call).await?;
    let bytes = postcard::to_stdvec(&answer).or_fail(Kind::Internal)?;
    Ok(bytes)
}

fn parse((job, object): &(String, String)) -> Result<(JobId, ObjectId), Refused> {
    let bad = |error: safelight_policies::id::Malformed| {
        Refused(StatusCode::BAD_REQUEST, error.to_string())
    };
    Ok((job.parse().map_err(bad)?, object.parse().map_err(bad)?))
}

/// The area of a job's client, for a node that works for the job now.
async fn area(desk: &Desk, node: &NodeName, job: JobId) -> Result<Store, Refused> {
    let works = desk.ledger.works_for(node, job).await;
    if !works.or_fail(Kind::Environment)? {
        let why = format!("no session of {job} runs on {node}");
        return Err(Refused(StatusCode::FORBIDDEN, why));
    }
    let entry = desk.ledger.job(&job.to_string()).await;
    let client = entry.or_fail(Kind::Environment)?.outline.client;
    Ok(Store::open(&desk.state, &client)?)
}

fn missing(object: ObjectId) -> Refused {
    Refused(StatusCode::NOT_FOUND, format!("no object {object} here"))
}

async fn fetch(
    With(desk): With<Arc<Desk>>,
    Path(named): Path<(String, String)>,
    headers: HeaderMap,
    method: Method,
    uri: Uri,
) -> Result<Body, Refused> {
    let node = claim(&desk, &headers)?.verify(&method, &uri, &[])?;
    let (job, object) = parse(&named)?;
    let store = area(&desk, &node, job).await?;
    let len = store.area().len(object).or_fail(Kind::Environment)?;
    let len = len.ok_or_else(|| missing(object))?;
    let room = desk.guard.room(&node, len).await;
    let room = room.ok_or_else(|| missing(object))?;
    let read = tokio::task::spawn_blocking(move || store.area().read(object))
        .await
        .or_fail(Kind::Internal)?;
    let bytes = read.or_fail(Kind::Environment)?;
    Ok(Body::new(guard::Outgoing::new(bytes, room)))
}

async fn store(
    With(desk): With<Arc<Desk>>,
    Path(named): Path<(String, String)>,
    headers: HeaderMap,
    method: Method,
    uri: Uri,
    body: Body,
) -> Result<StatusCode, Refused> {
    let node = claim(&desk, &headers)?.verify(&method, &uri, &[])?;
    let (job, object) = parse(&named)?;
    let store = area(&desk, &node, job).await?;
    let bad = |why: String| Refused(StatusCode::BAD_REQUEST, why);
    let said = headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
    let said = said.and_then(|it| it.parse().ok()).unwrap_or(BLOB_MAX);
    if said > BLOB_MAX {
        return Err(bad(format!("no object is longer than {BLOB_MAX} bytes")));
    }
    if store.room().or_fail(Kind::Environment)? < said {
        let why = "the site has no room for results".to_owned();
        return Err(Refused(StatusCode::INSUFFICIENT_STORAGE, why));
    }
    let _room = desk.guard.room(&node, said).await;
    let most = usize::try_from(said).unwrap_or(usize::MAX);
    let limit = 2 * CALL + Duration::from_secs(said / SLOWEST);
    let bytes = tokio::time::timeout(limit, axum::body::to_bytes(body, most))
        .await
        .map_err(|_| bad("the object did not arrive in time".to_owned()))?
        .map_err(|error| bad(format!("the object did not arrive whole: {error}")))?;
    let put = move || {
        if safelight_bundle::object_id(&bytes) != object {
            return Ok(false);
        }
        store.put_bytes(&bytes).map(|_| true)
    };
    match tokio::task::spawn_blocking(put)
        .await
        .or_fail(Kind::Internal)??
    {
        true => Ok(StatusCode::CREATED),
        false => Err(bad(format!("the bytes are not those of object {object}"))),
    }
}

#[cfg(test)]
mod tests;
