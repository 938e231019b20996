//! What the agent and a view server say to each other. The agent holds no key: it relays the key request and the answer unread.

use safelight_policies::{
    cause::Cause,
    grant::CentralGrant,
    id::{Fence, JobId, KemKey, ObjectId, SessionId, VerifyKey},
};
use safelight_seal::job_key::Stanza;
use serde::{Deserialize, Serialize};

/// From the agent.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToView {
    /// Serve this session. With it come six descriptors: the channel to the audit writer, the channel to the launcher, where the
    /// session's standard output and standard error may be shown, the directory of the site's area, and that of the attempt.
    Order(Box<Order>),
    /// What the warden released.
    Key {
        /// The job key, wrapped to the view server's ephemeral key.
        stanza: Stanza,
    },
    /// The session is over: its processes are gone. Seal what it wrote.
    Ended {
        /// Why, as far as the agent knows.
        cause: Cause,
    },
}

/// What to serve.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// The job.
    pub job: JobId,
    /// The session.
    pub session: SessionId,
    /// The attempt's number.
    pub attempt: u32,
    /// The lease's fence.
    pub fence: Fence,
    /// Who signed the input manifest.
    pub client: VerifyKey,
    /// The object that holds the input manifest.
    pub inputs: ObjectId,
    /// The object that holds the recipe.
    pub recipe: ObjectId,
    /// One view for each, in the order in which the launcher mounts them.
    pub central: Vec<CentralGrant>,
    /// The session's environment, to which the recipe's is added.
    pub env: Vec<(String, String)>,
    /// Bytes that the session may write.
    pub quota: u64,
    /// Bytes of output that are kept.
    pub output: u64,
    /// Names of variables that the recipe may set.
    pub env_pass: Vec<String>,
    /// User and group of the session inside its user namespace.
    pub owner: (u32, u32),
    /// The end of the lease, in seconds since 1970. The server wipes itself then.
    pub deadline: u64,
}

/// From the view server.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromView {
    /// The first word: the server's ephemeral key, made for this session and never written down.
    Asks {
        /// Its public half.
        key: KemKey,
    },
    /// The manifest and the recipe are open; the launcher may mount.
    Ready,
    /// The views are served and the command is handed over.
    Serving,
    /// The session cannot be served.
    Refused {
        /// What the attempt's end is put down to.
        cause: Cause,
        /// Why, without a name of the client's.
        reason: String,
    },
    /// Something happened that ends the session.
    Trouble {
        /// What.
        cause: Cause,
    },
    /// What the session wrote is sealed and durable in the attempt's area.
    Sealed(Sealed),
}

/// A sealed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The object that holds the result manifest.
    pub manifest: ObjectId,
    /// The object that holds the task's log.
    pub log: ObjectId,
    /// Output files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What the server knows of the end: as the agent said, or worse.
    pub cause: Cause,
}
