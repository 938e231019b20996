//! Where a word of a policy stands, so that every answer can name its line.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

/// A line of a policy file, shown as `file:line`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    file: Arc<str>,
    line: usize,
}

impl Origin {
    /// The line of `file` in which the byte `offset` of `text` lies. Lines count from one.
    pub(crate) fn of(file: &Arc<str>, text: &str, offset: usize) -> Self {
        let before = text.as_bytes().iter().take(offset);
        Self {
            file: Arc::clone(file),
            line: before.filter(|byte| **byte == b'\n').count() + 1,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A value and the line that it was written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// An allowance or a denial: a value, its line, and why it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
    pub(crate) reason: String,
}
