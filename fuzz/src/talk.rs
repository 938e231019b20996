//! What processes and hosts say to each other: agent, view server, launcher, audit writer, client's process, node and site.
//!
//! Messages are postcard. A reader may take longer spellings of a number, but what it understood is one thing: said again and read again it is
//! the same bytes. A message never makes its reader allocate more than its own length accounts for.

use safelight_policies::id::JobId;
use safelight_scheduler::{NodeSpec, Pulse};
use safelight_vfs::{protocol, session};
use safelight_worker::{message, plan::Plan};
use serde::{Serialize, de::DeserializeOwned};

use crate::{bounded::decoding, client_protocol, node_protocol, request};

/// How many parsers this family has.
pub const CHOICES: u8 = 17;

/// Calls the parser that the first byte chooses; true if it took the rest.
pub fn check(bytes: &[u8]) -> bool {
    let Some((choice, bytes)) = bytes.split_first() else {
        return false;
    };
    match choice % CHOICES {
        0 => message::<protocol::ToView>(bytes),
        1 => message::<protocol::FromView>(bytes),
        2 => message::<session::FromLauncher>(bytes),
        3 => message::<session::ToLauncher>(bytes),
        4 => message::<message::ToSession>(bytes),
        5 => message::<message::FromSession>(bytes),
        6 => message::<safelight_audit::Order>(bytes),
        7 => message::<safelight_audit::ToWriter>(bytes),
        8 => message::<safelight_audit::FromWriter>(bytes),
        9 => message::<node_protocol::Call>(bytes),
        10 => message::<node_protocol::Answer>(bytes),
        11 => message::<client_protocol::Ask>(bytes),
        12 => message::<client_protocol::Answer>(bytes),
        13 => message::<request::Request>(bytes),
        14 => message::<NodeSpec>(bytes) | message::<Pulse>(bytes),
        15 => message::<Plan>(bytes),
        _ => object_path(bytes),
    }
}

fn message<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    let Ok(first) = decoding(bytes, || postcard::from_bytes::<T>(bytes)) else {
        return false;
    };
    let said = postcard::to_stdvec(&first).expect("what was read");
    assert!(said.len() <= bytes.len(), "it grew by being read");
    let again: T = postcard::from_bytes(&said).expect("what was said");
    let again = postcard::to_stdvec(&again).expect("what was read");
    assert!(again == said, "said twice it is not the same");
    true
}

/// Where an object is at a site: the two names in a path lead to one path again.
fn object_path(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Some((job, object)) = text.split_once('/') else {
        return false;
    };
    let (Ok(job), Ok(object)) = (job.parse::<JobId>(), object.parse()) else {
        return false;
    };
    let path = node_protocol::object_path(job, object);
    assert_eq!(
        path.strip_prefix("/v0/object/"),
        Some(text),
        "two spellings of a path"
    );
    true
}
