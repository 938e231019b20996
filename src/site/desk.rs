//! The desk: where nodes ask for work and hand in results. HTTP, one signed call at a time.
//!
//! A node is believed when its key was enrolled and its signature holds; and then only about its own slots and sessions. What it hands in
//! is sealed: the desk checks names and lengths, and that the ledger accepts the fence.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, State as With},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use data_encoding::HEXLOWER;
use safelight_bundle::BLOB_MAX;
use safelight_policies::id::{JobId, NodeName, ObjectId};
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
mod work;

/// What every request works with.
pub(super) struct Desk {
    pub(super) state: State,
    pub(super) config: Config,
    pub(super) ledger: SqliteLedger,
    pub(super) schedule: SigningSecret,
}

/// The desk's routes.
pub(super) fn routes(desk: Arc<Desk>) -> Router {
    let objects = get(fetch).put(store);
    Router::new()
        .route(
            protocol::CALL_PATH,
            post(answer).layer(DefaultBodyLimit::max(CALL_MAX)),
        )
        .route(
            "/v0/object/{job}/{object}",
            objects.layer(DefaultBodyLimit::max(
                usize::try_from(BLOB_MAX).unwrap_or(usize::MAX),
            )),
        )
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
        tracing::warn!("{}", failure.message());
        Self(StatusCode::INTERNAL_SERVER_ERROR, failure.message())
    }
}

/// Who asks, if it may: the node that signed the request.
fn node(
    desk: &Desk,
    headers: &HeaderMap,
    method: &Method,
    uri: &Uri,
    body: &[u8],
) -> Result<NodeName, Refused> {
    let no = |why: String| Refused(StatusCode::UNAUTHORIZED, why);
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(name), Some(time), Some(signature)) = (
        header(protocol::NODE),
        header(protocol::TIME),
        header(protocol::SIGNATURE),
    ) else {
        return Err(no("the request is not signed by a node".to_owned()));
    };
    let name: NodeName = name
        .parse()
        .map_err(|_| no("not a node's name".to_owned()))?;
    let time: u64 = time.parse().map_err(|_| no("not a time".to_owned()))?;
    let key = warden::enrolled_node(&desk.state, &name)?.ok_or_else(|| {
        no(format!(
            "the node {name} is not enrolled here: safelight node enroll {name} KEY"
        ))
    })?;
    let signature = HEXLOWER.decode(signature.as_bytes()).ok();
    let signature: Option<[u8; 64]> = signature.and_then(|it| it.try_into().ok());
    let message = protocol::message(method.as_str(), uri.path(), time, body);
    signature
        .filter(|it| identity::verify(protocol::CONTEXT, &key, &message, it).is_ok())
        .ok_or_else(|| {
            no(format!(
                "the request is not signed by {name}'s enrolled key"
            ))
        })?;
    window::within(time, process::now_seconds()).map_err(no)?;
    Ok(name)
}

async fn answer(
    With(desk): With<Arc<Desk>>,
    headers: HeaderMap,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Result<Vec<u8>, Refused> {
    let node = node(&desk, &headers, &method, &uri, &body)?;
    let call: Call = match postcard::take_from_bytes(&body) {
        Ok((call, [])) => call,
        _ => {
            let why = "the call is of another version".to_owned();
            return Err(Refused(StatusCode::BAD_REQUEST, why));
        }
    };
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

/// The area of a job's client, for a node that works for the job or did so a moment ago.
async fn area(desk: &Desk, job: JobId) -> Result<Store, Refused> {
    let missing = |_| Refused(StatusCode::NOT_FOUND, format!("no {job} here"));
    let entry = desk.ledger.job(&job.to_string()).await.map_err(missing)?;
    Ok(Store::open(&desk.state, &entry.outline.client)?)
}

async fn fetch(
    With(desk): With<Arc<Desk>>,
    Path(named): Path<(String, String)>,
    headers: HeaderMap,
    method: Method,
    uri: Uri,
) -> Result<Vec<u8>, Refused> {
    node(&desk, &headers, &method, &uri, &[])?;
    let (job, object) = parse(&named)?;
    let store = area(&desk, job).await?;
    let read = move || match store.area().len(object) {
        Ok(Some(_)) => store
            .area()
            .read(object)
            .or_fail(Kind::Environment)
            .map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(Failure::from_error(Kind::Environment, &error)),
    };
    let read = tokio::task::spawn_blocking(read)
        .await
        .or_fail(Kind::Internal)?;
    read?.ok_or_else(|| Refused(StatusCode::NOT_FOUND, format!("no object {object} here")))
}

async fn store(
    With(desk): With<Arc<Desk>>,
    Path(named): Path<(String, String)>,
    headers: HeaderMap,
    method: Method,
    uri: Uri,
    body: Body,
) -> Result<StatusCode, Refused> {
    node(&desk, &headers, &method, &uri, &[])?;
    let (job, object) = parse(&named)?;
    let store = area(&desk, job).await?;
    let bad = |why: String| Refused(StatusCode::BAD_REQUEST, why);
    let most = usize::try_from(BLOB_MAX).unwrap_or(usize::MAX);
    let bytes = axum::body::to_bytes(body, most)
        .await
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
