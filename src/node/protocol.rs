//! What a render server and its site say to each other: signed calls with an answer each, and sealed objects by name.
//!
//! ```text
//! POST /v0/call                  body: postcard(Call); answer: postcard(Answer)
//! GET  /v0/object/<job>/<id>     a sealed object of the job's client
//! PUT  /v0/object/<job>/<id>     one that a session made; the body is checked against its name
//! ```
//! Every request carries the node's name, the time, and the node's signature over method, path, time and the hash of the body (for a PUT
//! the name in the path is that hash). A request is good for [`WINDOW`] seconds either way; calls may be repeated, since sessions and
//! fences make each of them count once. Nothing in an answer is believed for coming from the address that was asked: leases are signed by
//! the schedule server, whose key the node was told when it joined; envelopes by the client; objects are named by their hash; job keys are
//! sealed for one view server.

use safelight_bundle::object_id;
use safelight_policies::{
    cause::Cause,
    id::{Fence, JobId, ObjectId, SessionId, SlotIndex},
};
use safelight_scheduler::{Holding, NodeSpec, Pulse};
use safelight_seal::job_key::Stanza;
use serde::{Deserialize, Serialize};

use crate::warden;

/// How far the clocks of a node and its site may be apart, in seconds.
pub(crate) const WINDOW: u64 = 60;
/// The longest call in bytes.
pub(crate) const CALL_MAX: usize = 4 << 20;
/// How many slots ask with one call.
pub(crate) const ASKS_MAX: usize = 16;
/// What a node's signature under a request is made for.
pub(crate) const CONTEXT: &str = "node request";
/// The headers of a request.
pub(crate) const NODE: &str = "safelight-node";
/// Seconds since 1970, in decimal digits.
pub(crate) const TIME: &str = "safelight-time";
/// In hexadecimal digits.
pub(crate) const SIGNATURE: &str = "safelight-signature";
/// Where calls go.
pub(crate) const CALL_PATH: &str = "/v0/call";

/// Where an object is.
pub(crate) fn object_path(job: JobId, object: ObjectId) -> String {
    format!("/v0/object/{job}/{object}")
}

/// What is signed of a request.
pub(crate) fn message(method: &str, path: &str, time: u64, body: &[u8]) -> Vec<u8> {
    let digest = if method == "POST" {
        object_id(body)
    } else {
        ObjectId([0; 32])
    };
    format!("{method}\n{path}\n{time}\n{digest}").into_bytes()
}

/// What a node asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Call {
    /// It begins, holding nothing.
    Register(NodeSpec),
    /// It lives, and holds these sessions.
    Beat {
        /// The sessions.
        held: Vec<Holding>,
    },
    /// These slots are free.
    Next {
        /// A slot, and the session that would run in it, drawn by the node; good for one lease.
        asks: Vec<(SlotIndex, SessionId)>,
    },
    /// Pass this on to the key warden. A view server waits.
    Release {
        /// The session, which names the log that the release is put on.
        session: SessionId,
        /// What the warden checks.
        request: warden::Request,
    },
    /// A session has ended, and everything that it left is at the site.
    Ended(Box<Ended>),
    /// It stops.
    Leave,
    /// A session goes on, and this is the state of its log.
    Standing(Standing),
}

/// How often a node tells the state of the log of a session that goes on: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Often {
    pub(crate) seconds: u64,
    pub(crate) records: u64,
}

/// The state of the log of a session that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) session: SessionId,
    pub(crate) fence: Fence,
    /// So many records are on the node's disk.
    pub(crate) records: u64,
    /// The root of the tree over them.
    pub(crate) root: [u8; 32],
    /// The last one's link.
    pub(crate) chain: [u8; 32],
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) session: SessionId,
    pub(crate) fence: Fence,
    pub(crate) cause: Cause,
    /// What was sealed, if anything was.
    pub(crate) sealed: Option<Sealed>,
    /// The session's audit log, as an object, or as several that continue each other.
    pub(crate) audit: Vec<ObjectId>,
    /// Everything that it left, by name and length: the manifest, the task's log, the audit log, the segments.
    pub(crate) objects: Vec<(ObjectId, u32)>,
}

/// What a session sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    pub(crate) manifest: ObjectId,
    pub(crate) log: ObjectId,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// What the site answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Welcome.
    Registered {
        /// How often to say that it lives, in seconds.
        beat: u64,
        /// For how long a lease outlives the last beat, in seconds. A node that cannot reach its site for so long ends its sessions.
        lease: u64,
        /// How often to tell the state of the log of a session that goes on.
        often: Often,
    },
    /// What must end.
    Pulse(Pulse),
    /// Work for some of the slots that asked.
    Work(Vec<Work>),
    /// The job's key, for the view server alone.
    Released {
        /// Wrapped to the view server's key.
        stanza: Stanza,
    },
    /// The end, or the state of a log, is written down. For a success that means: this result counts.
    Settled,
    /// No. For a success that ended: the result does not count.
    Refused {
        /// Why.
        reason: String,
    },
    /// Goodbye.
    Left,
}

/// A task to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Work {
    /// The lease, signed by the schedule server.
    pub(crate) lease: Vec<u8>,
    /// The envelope, signed by the client.
    pub(crate) envelope: Vec<u8>,
    /// The object that lists the job's blobs.
    pub(crate) list: ObjectId,
    /// The results of the steps before, lowest first.
    pub(crate) layers: Vec<Before>,
}

/// What a session of a step before left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Before {
    pub(crate) manifest: ObjectId,
    pub(crate) session: SessionId,
    pub(crate) attempt: u32,
    pub(crate) fence: Fence,
    /// The object that lists what it left.
    pub(crate) list: ObjectId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_for_one_method_path_time_and_body() {
        let base = message("POST", CALL_PATH, 7, b"body");
        let others = [
            message("PUT", CALL_PATH, 7, b"body"),
            message("POST", "/v0/other", 7, b"body"),
            message("POST", CALL_PATH, 8, b"body"),
            message("POST", CALL_PATH, 7, b"bodies"),
        ];
        assert!(others.iter().all(|other| *other != base));
    }
}
