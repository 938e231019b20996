//! Which mounts, files, links and devices make up the session's root, in the order in which they are put there.
//!
//! Everything is sorted by path, so a parent always comes before its children; the views come last, in the order of the grant, because their
//! descriptors are handed over in that order.

use std::collections::BTreeMap;

use safelight_policies::grant::{Missing, Rights, Terms};
use serde::{Deserialize, Serialize};

use super::INSIDE;
use crate::{
    error::Error,
    facts::{HostFacts, Kind, MERGED},
};

/// Devices that a session can have: they hold no state and reach no hardware.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// One step of building the session's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// A host path, read-only.
    Bind {
        /// Where, on the host and inside.
        at: String,
        /// True for a directory, with everything mounted below it.
        directory: bool,
        /// True if its files may be executed.
        exec: bool,
    },
    /// A symbolic link as the host has it.
    Symlink {
        /// Where.
        at: String,
        /// What it says.
        target: String,
    },
    /// A device node of the host.
    Device {
        /// Where, below `/dev`.
        at: String,
    },
    /// A private directory in memory.
    Tmp {
        /// Where.
        at: String,
        /// Its size in bytes.
        bytes: u64,
        /// Its number of files.
        inodes: u64,
        /// True if its files may be executed.
        exec: bool,
    },
    /// A file that is made up, the same in every session.
    File {
        /// Where.
        at: String,
        /// What it holds.
        content: String,
    },
    /// A view, at its central path.
    View {
        /// The central path.
        at: String,
    },
    /// The process table of the session, where each process sees only its own user's.
    Proc,
}

impl Mount {
    /// Where it is.
    pub fn at(&self) -> &str {
        match self {
            Self::Bind { at, .. }
            | Self::Symlink { at, .. }
            | Self::Device { at }
            | Self::Tmp { at, .. }
            | Self::File { at, .. }
            | Self::View { at } => at,
            Self::Proc => "/proc",
        }
    }

    /// What it is, in a word.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "a host path",
            Self::Symlink { .. } => "a symbolic link",
            Self::Device { .. } => "a device",
            Self::Tmp { .. } => "a private directory",
            Self::File { .. } => "a made-up file",
            Self::View { .. } => "a view",
            Self::Proc => "the process table",
        }
    }
}

/// The root of a session.
pub(super) fn mounts(
    terms: &Terms,
    facts: &HostFacts,
    notes: &mut Vec<String>,
) -> Result<Vec<Mount>, Error> {
    let mut claims = Claims::default();
    claims.add(Mount::Proc)?;
    for central in &terms.central {
        claims.add(Mount::View {
            at: central.path.as_str().to_owned(),
        })?;
    }
    for tmp in &terms.tmp {
        claims.add(Mount::Tmp {
            at: tmp.at.clone(),
            bytes: tmp.bytes,
            inodes: tmp.inodes,
            exec: tmp.exec,
        })?;
    }
    for name in &terms.devices {
        claims.add(device(name, facts)?)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        claims.add(Mount::Symlink {
            at: format!("/dev/{name}"),
            target: target.to_owned(),
        })?;
    }
    for (at, content) in made_up() {
        claims.add(Mount::File {
            at: at.to_owned(),
            content,
        })?;
    }
    for root in &terms.root {
        match (facts.kind(&root.at), root.missing) {
            (Kind::Missing, Missing::Error) => {
                return Err(Error::Missing {
                    path: root.at.clone(),
                    origin: root.origin.clone(),
                });
            }
            (Kind::Missing, Missing::Skip) => {
                notes.push(format!("{} does not exist here", root.at))
            }
            (kind, _) => claims.add(host(&root.at, kind, root.rights))?,
        }
    }
    for at in MERGED {
        if let Kind::Symlink(target) = facts.kind(at)
            && !claims.0.contains_key(&parts(at))
        {
            claims.add(Mount::Symlink {
                at: at.to_owned(),
                target: target.clone(),
            })?;
        }
    }
    claims.finish(terms)
}

fn host(at: &str, kind: &Kind, rights: Rights) -> Mount {
    match kind {
        Kind::Symlink(target) => Mount::Symlink {
            at: at.to_owned(),
            target: target.clone(),
        },
        kind => Mount::Bind {
            at: at.to_owned(),
            directory: *kind == Kind::Directory,
            exec: rights == Rights::ReadExecute,
        },
    }
}

fn device(name: &str, facts: &HostFacts) -> Result<Mount, Error> {
    let at = format!("/dev/{name}");
    if !DEVICES.contains(&name) {
        return Err(Error::Device {
            name: name.to_owned(),
        });
    }
    if *facts.kind(&at) != Kind::File {
        return Err(Error::Missing {
            path: at,
            origin: "devices".to_owned(),
        });
    }
    Ok(Mount::Device { at })
}

/// Files that programs look for, without a word about the host or the client.
fn made_up() -> [(&'static str, String); 5] {
    [
        (
            "/etc/passwd",
            format!(
                "render:x:{INSIDE}:{INSIDE}:render:/home/render:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            ),
        ),
        (
            "/etc/group",
            format!("render:x:{INSIDE}:\nnogroup:x:65534:\n"),
        ),
        (
            "/etc/hosts",
            "127.0.0.1 localhost safelight\n::1 localhost safelight\n".to_owned(),
        ),
        (
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\n".to_owned(),
        ),
        ("/etc/machine-id", format!("{}\n", "0".repeat(32))),
    ]
}

/// A path as its parts, which sorts parents before children.
fn parts(at: &str) -> Vec<String> {
    at.split('/').skip(1).map(str::to_owned).collect()
}

/// Every path has one owner.
#[derive(Default)]
struct Claims(BTreeMap<Vec<String>, Mount>);

impl Claims {
    fn add(&mut self, mount: Mount) -> Result<(), Error> {
        let at = mount.at();
        let parts = parts(at);
        let normal = at.starts_with('/')
            && parts
                .iter()
                .all(|part| !part.is_empty() && part != "." && part != "..")
            && !at.contains('\0');
        if !normal {
            return Err(Error::NotAPath {
                path: at.to_owned(),
            });
        }
        if let Some(first) = self.0.get(&parts) {
            return Err(Error::Claimed {
                path: at.to_owned(),
                first: first.noun(),
                second: mount.noun(),
            });
        }
        self.0.insert(parts, mount);
        Ok(())
    }

    /// In order: everything else by path, then the views as the grant has them. Nothing lies below a view: it would be hidden.
    fn finish(mut self, terms: &Terms) -> Result<Vec<Mount>, Error> {
        for central in &terms.central {
            let view = parts(central.path.as_str());
            let hidden = self
                .0
                .iter()
                .find(|(at, _)| at.len() > view.len() && at.starts_with(&view));
            if let Some((_, mount)) = hidden {
                return Err(Error::Claimed {
                    path: mount.at().to_owned(),
                    first: "a part of a view",
                    second: mount.noun(),
                });
            }
        }
        let views: Vec<_> = terms
            .central
            .iter()
            .filter_map(|central| self.0.remove(&parts(central.path.as_str())))
            .collect();
        Ok(self.0.into_values().chain(views).collect())
    }
}
