//! What a node asks the warden for, by way of its site.

use safelight_policies::id::KemKey;
use serde::{Deserialize, Serialize};

/// A request for a job's key. Nothing in it is believed before its signature holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The envelope, signed by the client.
    pub(crate) envelope: Vec<u8>,
    /// The lease, signed by the schedule server.
    pub(crate) lease: Vec<u8>,
    /// The node's signature over [`Request::message`], made for [`NODE_CONTEXT`].
    pub(crate) node_signature: Vec<u8>,
    /// The ephemeral public key of the view server that serves the lease.
    pub(crate) view_key: KemKey,
}

/// What a node's signature under a request is made for.
pub(crate) const NODE_CONTEXT: &str = "view key";

impl Request {
    /// What the node signs: the view key has a fixed length, so the lease's end is clear.
    pub(crate) fn message(lease: &[u8], view_key: &KemKey) -> Vec<u8> {
        [lease, &view_key.0].concat()
    }
}
