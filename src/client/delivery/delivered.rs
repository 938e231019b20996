//! What a delivery did: what is where it belongs, what is beside, what is not at home.

use std::{io, os::unix::ffi::OsStrExt, path::PathBuf};

use crate::{
    failure::{Failure, Kind},
    terminal,
};

/// What was stored.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    /// Files that were stored where they belong.
    pub(crate) stored: Vec<PathBuf>,
    /// Where something stood already, and where the new file is instead.
    pub(crate) aside: Vec<(PathBuf, PathBuf)>,
    /// Symbolic links that could lead out of the client's directory, and were not stored.
    pub(crate) leading_out: Vec<PathBuf>,
    /// What could not be stored, and why.
    pub(crate) failed: Vec<(PathBuf, io::Error)>,
}

impl Delivered {
    /// A failure if anything could not be stored that should have been.
    pub(crate) fn complete(&self) -> Result<(), Failure> {
        let Some((path, error)) = self.failed.first() else {
            return Ok(());
        };
        let path = terminal::shown(path.as_os_str().as_bytes());
        let others = match self.failed.len() - 1 {
            0 => String::new(),
            count => format!(", and {count} more"),
        };
        Err(Failure::new(
            Kind::Environment,
            format!("cannot store {path}: {error}{others}"),
        )
        .hint("the results are safe in the secure area: safelight view mount JOB DIR"))
    }
}
