//! The Landlock rules that follow from the mounts: a second wall with the same shape as the first.
//!
//! A view gets one rule, at its root: the view server decides below it and logs every refusal, and Landlock would lose a rule on a
//! directory whose inode the server issues anew.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Mount;

/// What Landlock enforces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landlock {
    /// The ABI whose rights are all handled.
    pub abi: u32,
    /// The paths that stay reachable.
    pub rules: Vec<Rule>,
    /// The TCP ports that may be connected to.
    pub ports: Vec<u16>,
    /// True if the kernel is to write what it refuses to the job into the host's audit log.
    pub log: bool,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The path inside the session.
    pub at: String,
    /// What may be done there and below.
    pub access: Access,
}

/// What may be done at a path and below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Read files and directories.
    Read,
    /// And execute.
    ReadExecute,
    /// Read and write a device node.
    Device,
    /// Everything but executing and making device nodes.
    Scratch,
    /// Everything but making device nodes.
    ScratchExecute,
    /// Everything: the view server decides.
    View,
}

pub(super) fn landlock(abi: u32, mounts: &[Mount], reach: &[SocketAddr]) -> Landlock {
    let rules = mounts
        .iter()
        .filter_map(|mount| {
            let access = match mount {
                Mount::Bind { exec: false, .. } | Mount::File { .. } | Mount::Proc => Access::Read,
                Mount::Bind { exec: true, .. } => Access::ReadExecute,
                Mount::Device { .. } => Access::Device,
                Mount::Tmp { exec: false, .. } => Access::Scratch,
                Mount::Tmp { exec: true, .. } => Access::ScratchExecute,
                Mount::View { .. } => Access::View,
                Mount::Symlink { .. } => return None,
            };
            Some(Rule {
                at: mount.at().to_owned(),
                access,
            })
        })
        .collect();
    let ports = reach.iter().map(SocketAddr::port).collect();
    Landlock {
        abi,
        rules,
        ports,
        log: false,
    }
}
