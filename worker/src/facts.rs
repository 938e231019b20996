//! What a plan needs to know about the host, gathered before it is made, so that making it is pure.

use std::{collections::BTreeMap, fs, path::Path};

use safelight_policies::grant::Terms;
use serde::{Deserialize, Serialize};

/// The newest Landlock ABI whose rights this crate uses; what a newer kernel adds has not been tried with our rules.
pub const LANDLOCK_TRIED: u32 = 7;

/// Directories that are symbolic links into `/usr` on hosts with a merged `/usr`.
pub const MERGED: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What there is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Nothing, or nothing that we may see.
    Missing,
    /// A directory.
    Directory,
    /// Anything else that can be opened.
    File,
    /// A symbolic link to this.
    Symlink(String),
}

/// What this host is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The kernel's Landlock ABI as far as we use it; 0 if there is none.
    pub landlock_abi: u32,
    /// What there is at each path that a plan may bind.
    pub paths: BTreeMap<String, Kind>,
}

impl HostFacts {
    /// Looks at this host, at the paths that the terms name.
    pub fn gather(terms: &Terms) -> Self {
        let named = terms.root.iter().map(|root| root.at.as_str());
        let devices: Vec<_> = terms
            .devices
            .iter()
            .map(|name| format!("/dev/{name}"))
            .collect();
        let paths = named
            .chain(MERGED)
            .chain(devices.iter().map(String::as_str))
            .map(|path| (path.to_owned(), kind(Path::new(path))))
            .collect();
        Self {
            landlock_abi: landlock_abi(),
            paths,
        }
    }

    /// What there is at a path.
    pub fn kind(&self, path: &str) -> &Kind {
        self.paths.get(path).unwrap_or(&Kind::Missing)
    }
}

fn kind(path: &Path) -> Kind {
    match fs::symlink_metadata(path) {
        Err(_) => Kind::Missing,
        Ok(found) if found.is_dir() => Kind::Directory,
        Ok(found) if found.is_symlink() => fs::read_link(path)
            .ok()
            .and_then(|target| target.into_os_string().into_string().ok())
            .map_or(Kind::Missing, Kind::Symlink),
        Ok(_) => Kind::File,
    }
}

/// The kernel's Landlock ABI, at most [`LANDLOCK_TRIED`]; 0 without Landlock.
pub fn landlock_abi() -> u32 {
    crate::sys::landlock_abi().unwrap_or(0).min(LANDLOCK_TRIED)
}
