//! A site: the schedule server with its queues and its resource database, the desk of its nodes, and its hot folders.
//!
//! One daemon for both roles. A local site is a client's own: it holds the client's keys, in a process of their own, and delivers what
//! comes back. A remote site renders for others: it holds no key but its warden's, and knows outlines only.

mod arrivals;
mod backup;
mod bell;
mod card;
mod chores;
mod config;
mod desk;
pub(crate) mod errand;
mod folders;
mod holdings;
mod home;
mod init;
mod link;
mod look_logs;
mod looks;
mod media;
mod post;
mod render;
mod restored;
mod serve;
mod status;
mod teller;
mod turn;
mod voice;
mod window;

pub(crate) use self::{
    backup::{backup, restore},
    bell::ring,
    card::{Card, Peer, Role},
    config::Config,
    folders::{Folder, Folders, Refused},
    init::{enroll, enroll_node, init, revoke, revoke_node},
    restored::restored,
    serve::serve,
    status::Status,
};
