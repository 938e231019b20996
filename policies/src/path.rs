//! Central paths: where a job believes that shared storage is mounted.
//!
//! A central path is absolute, normal (no `.`, `..`, `//` or trailing `/`), and printable UTF-8 of at most 1,024 bytes: it ends up in
//! mount tables and plans. Names *below* a central path are a client's bytes and never pass through this type.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A path that cannot be a central path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} cannot be a central path: {reason}")]
pub struct NotCentral {
    /// What was given.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Where the view is mounted inside the session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CentralPath(String);

/// Directories that the system itself needs: a view over one of them, or over a parent of one, would hide the renderer from itself.
const SYSTEM: [&str; 18] = [
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/proc",
    "/root", "/run", "/sbin", "/sys", "/tmp", "/usr", "/var", "/opt",
];

/// System directories in which a farm may well keep its central storage, below but not at the directory itself.
const SHARED: [&str; 2] = ["/home", "/opt"];

impl CentralPath {
    /// Checks a path.
    pub fn new(path: impl Into<String>) -> Result<Self, NotCentral> {
        let path = path.into();
        let refuse = |reason| {
            Err(NotCentral {
                path: path.clone(),
                reason,
            })
        };
        if !path.starts_with('/') {
            return refuse("it is not absolute");
        }
        if path.len() > 1024 {
            return refuse("it is longer than 1,024 bytes");
        }
        if path == "/" {
            return refuse("it is the root directory");
        }
        if path[1..]
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == "..")
        {
            return refuse("it has an empty, '.' or '..' part");
        }
        if path.chars().any(char::is_control) {
            return refuse("it has a control character");
        }
        for system in SYSTEM {
            let at = path == system;
            let below = path
                .strip_prefix(system)
                .is_some_and(|rest| rest.starts_with('/'));
            if at || (below && !SHARED.contains(&system)) {
                return refuse("it lies on a system directory");
            }
        }
        Ok(Self(path))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if one of the two paths lies at or below the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        let below = |a: &str, b: &str| {
            a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'))
        };
        below(&self.0, &other.0) || below(&other.0, &self.0)
    }
}

impl fmt::Display for CentralPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for CentralPath {
    type Err = NotCentral;
    fn from_str(text: &str) -> Result<Self, NotCentral> {
        Self::new(text)
    }
}
impl TryFrom<String> for CentralPath {
    type Error = NotCentral;
    fn try_from(text: String) -> Result<Self, NotCentral> {
        Self::new(text)
    }
}
impl From<CentralPath> for String {
    fn from(path: CentralPath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_where_farms_keep_their_storage_are_central_paths() {
        for path in [
            "/mnt/central",
            "/srv/farm/projects",
            "/projects",
            "/home/show",
            "/opt/farm/data",
            "/média",
        ] {
            assert_eq!(
                CentralPath::new(path).map(String::from).as_deref(),
                Ok(path)
            );
        }
    }

    #[test]
    fn each_refusal_says_why() {
        for (path, reason) in [
            ("projects", "it is not absolute"),
            ("/", "it is the root directory"),
            ("/a//b", "it has an empty, '.' or '..' part"),
            ("/a/", "it has an empty, '.' or '..' part"),
            ("/a/../etc", "it has an empty, '.' or '..' part"),
            ("/usr", "it lies on a system directory"),
            ("/usr/share/central", "it lies on a system directory"),
            ("/etc", "it lies on a system directory"),
            ("/home", "it lies on a system directory"),
            ("/proc/self", "it lies on a system directory"),
            ("/a\nb", "it has a control character"),
        ] {
            assert_eq!(
                CentralPath::new(path).unwrap_err(),
                NotCentral {
                    path: path.into(),
                    reason
                },
                "{path:?}"
            );
        }
    }

    #[test]
    fn overlap_is_by_component() {
        let path = |text: &str| CentralPath::new(text).unwrap();
        assert!(path("/a/b").overlaps(&path("/a")));
        assert!(path("/a").overlaps(&path("/a")));
        assert!(!path("/a/b").overlaps(&path("/a/bc")));
    }
}
