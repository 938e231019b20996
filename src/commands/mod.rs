//! The commands, one file each.

pub(crate) mod area;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod bundle;
mod chosen;
pub(crate) mod control;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod follow;
pub(crate) mod hotfolder;
pub(crate) mod job;
pub(crate) mod key;
pub(crate) mod node;
pub(crate) mod policy;
pub(crate) mod queue;
pub(crate) mod site;
pub(crate) mod slot;
pub(crate) mod submit;
pub(crate) mod view;
mod view_ls;
pub(crate) mod watch;
