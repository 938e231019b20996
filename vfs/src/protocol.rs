//! What the agent and a view server say to each other. The agent holds no key: it relays the key request and the answer unread.

use std::os::fd::{BorrowedFd, OwnedFd};

use safelight_channel::{Channel, Error};
use safelight_policies::{
    cause::{Cause, Lack},
    grant::CentralGrant,
    id::{Fence, JobId, KemKey, ObjectId, SessionId, TaskId, VerifyKey},
};
use safelight_seal::job_key::Stanza;
use serde::{Deserialize, Serialize};

/// The most results of earlier tasks below one session.
pub const LAYERS_MAX: usize = 4096;

/// How many of them travel in one message: each takes at most 57 bytes.
const LAYERS_AT_ONCE: usize = 1024;

/// How many descriptors come with an order.
const DESCRIPTORS: usize = 6;

/// From the agent.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToView {
    /// The first of the order's layers, where they are too many for its message. Sent before it by [`Order::send`].
    Layers(Vec<Layer>),
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
    /// Which task of the recipe to run; of several, the first.
    pub task: TaskId,
    /// How many, from that one on.
    pub tasks: u32,
    /// Who signed the input manifest.
    pub client: VerifyKey,
    /// The object that holds the input manifest.
    pub inputs: ObjectId,
    /// The object that holds the recipe.
    pub recipe: ObjectId,
    /// What earlier tasks left behind, lowest first, above the inputs; at most [`LAYERS_MAX`]. Which they are is the agent's word; that
    /// each is what that attempt sealed is not, and is checked.
    pub layers: Vec<Layer>,
    /// One view for each, in the order in which the launcher mounts them.
    pub central: Vec<CentralGrant>,
    /// The session's environment, to which the recipe's is added.
    pub env: Vec<(String, String)>,
    /// Bytes that the session may write.
    pub quota: u64,
    /// Names that the session may add.
    pub entries: u64,
    /// Bytes of output that are kept.
    pub output: u64,
    /// Bytes of records that the session may put on the audit log.
    pub records: u64,
    /// Names of variables that the recipe may set.
    pub env_pass: Vec<String>,
    /// User and group of the session inside its user namespace.
    pub owner: (u32, u32),
    /// The end of the lease, in seconds since 1970. The server wipes itself then.
    pub deadline: u64,
    /// What a line of the session's output says that it lacked, if the expression matches it; the first counts. At most
    /// [`LACKS_MAX`](crate::heard::LACKS_MAX).
    pub lacks: Vec<(Lack, String)>,
    /// What to run instead of the task's command, on the descriptors for output themselves; nothing for the task itself. Somebody looks
    /// after the fact where the task stood: the directory, the environment and the files are the task's.
    pub instead: Vec<Vec<u8>>,
}

/// The sealed result of an attempt that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The object that holds its result manifest.
    pub manifest: ObjectId,
    /// The session that made it.
    pub session: SessionId,
    /// That attempt's number.
    pub attempt: u32,
    /// The fence under which it was committed.
    pub fence: Fence,
}

/// An order and its descriptors.
pub(crate) type Received = (Box<Order>, [OwnedFd; DESCRIPTORS]);

impl Order {
    /// Sends the order with its descriptors (see [`ToView::Order`]), in as many messages as its layers need.
    pub fn send(
        mut self,
        to: &Channel,
        descriptors: &[BorrowedFd<'_>; DESCRIPTORS],
    ) -> Result<(), Error> {
        let last = self
            .layers
            .split_off(self.layers.len() / LAYERS_AT_ONCE * LAYERS_AT_ONCE);
        for layers in self.layers.chunks(LAYERS_AT_ONCE) {
            to.send(&ToView::Layers(layers.to_vec()))?;
        }
        self.layers = last;
        to.send_with(&ToView::Order(Box::new(self)), descriptors)
    }

    /// Receives what [`Order::send`] sent; `None` if something else came, or more layers than there may be.
    pub(crate) fn receive(from: &Channel) -> Result<Option<Received>, Error> {
        let mut layers = Vec::new();
        loop {
            let incoming = from.expect()?;
            match incoming.message {
                ToView::Layers(more) if layers.len() + more.len() <= LAYERS_MAX => {
                    layers.extend(more);
                }
                ToView::Order(_) => {
                    let (message, descriptors) = incoming.exactly()?;
                    let ToView::Order(mut order) = message else {
                        return Ok(None);
                    };
                    layers.append(&mut order.layers);
                    order.layers = layers;
                    let fits = order.layers.len() <= LAYERS_MAX;
                    return Ok(fits.then_some((order, descriptors)));
                }
                _ => return Ok(None),
            }
        }
    }
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
