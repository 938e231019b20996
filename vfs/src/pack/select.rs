//! Which part of a directory is packed: chosen paths, the directories above them, and the links on the way to them.
//!
//! A path is looked up here as the session will: part by part, below the root. A link on the way is packed as it is and so is what it
//! names, since the session follows the one to the other; one that leads out of the root leads nowhere there, and is refused.

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::{OsStr, OsString},
    fs, io,
    path::{Component, Path, PathBuf},
};

/// The most links on the way to one path, as the kernel has it (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Why a path cannot be chosen.
#[derive(Debug, thiserror::Error)]
pub enum NotChosen {
    /// It is not there.
    #[error("there is nothing")]
    Missing,
    /// A link on the way to it is absolute or leads above the root.
    #[error("a symbolic link on the way leads out of the directory")]
    LeadsOut,
    /// Links lead to links without end.
    #[error("too many symbolic links are on the way")]
    Loop,
    /// The path is not one below the root.
    #[error("it is no path below the directory")]
    NotBelow,
    /// Something that was to be a directory is not, or the other way round.
    #[error("it is {found}")]
    Other {
        /// What it is.
        found: &'static str,
    },
    /// It cannot be looked at.
    #[error("cannot look at it")]
    Failed {
        /// Why.
        source: io::Error,
    },
}

/// What of a chosen path is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It and all that is below it.
    Whole,
    /// The file, link or directory alone.
    Alone,
    /// A directory that is not there, but will be in the session.
    New,
}

/// The part of a directory that is packed.
#[derive(Debug, Clone)]
pub struct Selection {
    root: PathBuf,
    parts: BTreeMap<PathBuf, Part>,
}

impl Selection {
    /// Nothing of this directory but itself.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            parts: [(PathBuf::new(), Part::Alone)].into(),
        }
    }

    /// Chooses a file.
    pub fn file(&mut self, path: &Path) -> Result<(), NotChosen> {
        let walk = self.reach(path)?;
        if !walk.at_file {
            let found = "a directory";
            return Err(NotChosen::Other { found });
        }
        let passed = walk.passed;
        self.take(passed);
        Ok(())
    }

    /// Chooses what is there, and if it is a directory all that is below it.
    pub fn whole(&mut self, path: &Path) -> Result<(), NotChosen> {
        let Walk { at, mut passed, .. } = self.reach(path)?;
        passed.push((at, Part::Whole));
        self.take(passed);
        Ok(())
    }

    /// Chooses a directory alone. It and the directories above it need not be there.
    pub fn directory(&mut self, path: &Path) -> Result<(), NotChosen> {
        let mut walk = Walk::begin(&self.root, path)?;
        loop {
            match walk.step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(NotChosen::Missing) => {
                    walk.make()?;
                    break;
                }
                Err(other) => return Err(other),
            }
        }
        if walk.at_file {
            let found = "not a directory";
            return Err(NotChosen::Other { found });
        }
        let passed = walk.passed;
        self.take(passed);
        Ok(())
    }

    /// Walks to something that must be there.
    fn reach(&self, path: &Path) -> Result<Walk<'_>, NotChosen> {
        let mut walk = Walk::begin(&self.root, path)?;
        while walk.step()? {}
        Ok(walk)
    }

    fn take(&mut self, passed: Vec<(PathBuf, Part)>) {
        for (path, part) in passed {
            let known = self.parts.entry(path).or_insert(part);
            if part == Part::Whole {
                *known = part;
            }
        }
    }

    /// The directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// What is packed, by path: each whole part once, and nothing below it.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&Path, Part)> {
        let mut whole: Option<&Path> = None;
        self.parts.iter().filter_map(move |(path, part)| {
            // Paths sort by their parts, so all that is below one comes right after it.
            if whole.is_some_and(|whole| path.starts_with(whole)) {
                return None;
            }
            whole = (*part == Part::Whole).then_some(path);
            Some((path.as_path(), *part))
        })
    }
}

/// A walk from the root to a path.
struct Walk<'a> {
    root: &'a Path,
    /// Where it is: no link.
    at: PathBuf,
    at_file: bool,
    /// What is still to be walked.
    ahead: VecDeque<OsString>,
    passed: Vec<(PathBuf, Part)>,
    links: usize,
}

impl<'a> Walk<'a> {
    fn begin(root: &'a Path, path: &Path) -> Result<Self, NotChosen> {
        let part = |part: Component<'_>| match part {
            Component::Normal(name) => Ok(name.to_owned()),
            _ => Err(NotChosen::NotBelow),
        };
        Ok(Self {
            root,
            at: PathBuf::new(),
            at_file: false,
            ahead: path.components().map(part).collect::<Result<_, _>>()?,
            passed: Vec::new(),
            links: 0,
        })
    }

    /// Goes one part further; false at the end.
    fn step(&mut self) -> Result<bool, NotChosen> {
        let Some(name) = self.ahead.pop_front() else {
            return Ok(false);
        };
        if name == OsStr::new("..") {
            // Only a link has these, and what it was found in is no link.
            return match self.at.pop() {
                true => Ok(true),
                false => Err(NotChosen::LeadsOut),
            };
        }
        let next = self.at.join(&name);
        let metadata = match fs::symlink_metadata(self.root.join(&next)) {
            Ok(metadata) => metadata,
            Err(error) if missing(&error) => {
                self.ahead.push_front(name);
                return Err(NotChosen::Missing);
            }
            Err(source) => return Err(NotChosen::Failed { source }),
        };
        self.passed.push((next.clone(), Part::Alone));
        if metadata.is_symlink() {
            return self.follow(&next).map(|()| true);
        }
        self.at_file = !metadata.is_dir();
        self.at = next;
        if self.at_file && !self.ahead.is_empty() {
            return Err(NotChosen::Missing);
        }
        Ok(true)
    }

    fn follow(&mut self, link: &Path) -> Result<(), NotChosen> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(NotChosen::Loop);
        }
        let target =
            fs::read_link(self.root.join(link)).map_err(|source| NotChosen::Failed { source })?;
        for part in target.components().rev() {
            match part {
                Component::Normal(name) => self.ahead.push_front(name.to_owned()),
                Component::ParentDir => self.ahead.push_front("..".into()),
                Component::CurDir => {}
                Component::RootDir | Component::Prefix(_) => return Err(NotChosen::LeadsOut),
            }
        }
        Ok(())
    }

    /// Goes on through directories that are not there.
    fn make(&mut self) -> Result<(), NotChosen> {
        if self.at_file {
            return Err(NotChosen::Other {
                found: "not a directory",
            });
        }
        for name in std::mem::take(&mut self.ahead) {
            if name == OsStr::new("..") {
                // A link through something that is not there.
                return Err(NotChosen::Missing);
            }
            self.at.push(name);
            self.passed.push((self.at.clone(), Part::New));
        }
        Ok(())
    }
}

fn missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests;
