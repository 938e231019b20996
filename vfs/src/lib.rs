//! The secure area, its overlay view, and the view server.
//!
//! Sealed objects lie in the *area*. A *view* merges sealed layers and the session's own encrypted upper into the tree that a job sees
//! at a central path, decides every access by the grant's rules, and puts it on the log before it answers. The *server* is the process
//! that does this for one session; when it dies, nothing of the session can be read any more.
#![forbid(unsafe_code)]

pub mod area;
pub mod commit;
pub mod console;
pub mod content;
mod fuse;
pub mod heard;
mod layers;
pub mod log;
pub mod lower;
pub mod pack;
pub mod protocol;
mod room;
pub mod server;
pub mod session;
mod spread;
mod tree;
pub mod upper;
pub mod view;
pub mod whole;

pub use fuse::serve;
