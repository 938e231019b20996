//! The client at home: jobs are sealed here before anything leaves, and opened here when it is back.
//!
//! The client's key is in two programs only: in the one that a person starts ([`mod@submit`], `safelight run`), for as long as it packs, and
//! in the client's process ([`process`], `__client`), which signs, addresses, delivers and tells for a site that holds no key.

mod addressing;
mod bundle;
pub(crate) mod delivery;
mod earlier;
mod notify;
mod packing;
pub(crate) mod process;
mod protocol;
mod remembered;
pub(crate) mod rotation;
mod sealing;
mod serve;
pub(crate) mod submit;

pub(crate) use self::{
    packing::Packing,
    process::ClientProcess,
    protocol::DeliveredReport,
    sealing::{Goods, Sealing},
    serve::{ClientArgs, run as serve},
};
