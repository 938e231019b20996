//! What a plan needs to know about the host, gathered before it is made, so that making it is pure.

use std::{collections::BTreeMap, fs, io::ErrorKind};

use safelight_policies::grant::Terms;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The newest Landlock ABI whose rights this crate uses; what a newer kernel adds has not been tried with our rules.
pub const LANDLOCK_TRIED: u32 = 7;

/// Directories that are symbolic links into `/usr` on hosts with a merged `/usr`.
pub const MERGED: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What there is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Nothing.
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
    pub fn read(terms: &Terms) -> Result<Self, Error> {
        let named = terms.root.iter().map(|root| root.at.as_str());
        let devices: Vec<_> = terms
            .devices
            .iter()
            .map(|name| format!("/dev/{name}"))
            .collect();
        let paths = named
            .chain(MERGED)
            .chain(devices.iter().map(String::as_str))
            .map(|path| Ok((path.to_owned(), look(path)?)))
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            landlock_abi: landlock_abi(),
            paths,
        })
    }

    /// What there is at a path.
    pub fn kind(&self, path: &str) -> &Kind {
        self.paths.get(path).unwrap_or(&Kind::Missing)
    }
}

fn look(path: &str) -> Result<Kind, Error> {
    let failed = |source| Error::Look {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Kind::Missing)
        }
        Err(error) => Err(failed(error)),
        Ok(found) if found.is_dir() => Ok(Kind::Directory),
        Ok(found) if found.is_symlink() => {
            let target = fs::read_link(path).map_err(failed)?;
            let target = target.into_os_string().into_string();
            Ok(Kind::Symlink(
                target.map_err(|_| failed(ErrorKind::InvalidData.into()))?,
            ))
        }
        Ok(_) => Ok(Kind::File),
    }
}

/// The kernel's Landlock ABI, at most [`LANDLOCK_TRIED`]; 0 without Landlock.
pub fn landlock_abi() -> u32 {
    crate::sys::landlock_abi().unwrap_or(0).min(LANDLOCK_TRIED)
}
