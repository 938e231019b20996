//! The walls, one mechanism a file. [`crate::launcher`] puts them up in the order that the kernel needs.
//!
//! All of it runs in the launcher, which has one thread. Every failure names its step; none is passed over.

pub(crate) mod capabilities;
pub(crate) mod devices;
pub(crate) mod files;
pub(crate) mod fuse;
pub(crate) mod ids;
pub(crate) mod landlock;
pub(crate) mod limits;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod network;
pub(crate) mod proc;
pub(crate) mod process;
pub(crate) mod reaper;
pub(crate) mod seccomp;
pub(crate) mod verify;

use std::io;

use crate::message::Failed;

/// Names the step of a system call that may fail.
pub(crate) trait At<T> {
    /// The value, or the step that failed.
    fn at(self, step: &str) -> Result<T, Failed>;
    /// The value, or the step and the path that failed.
    fn at_path(self, step: &str, path: &str) -> Result<T, Failed>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: &str) -> Result<T, Failed> {
        self.at_path(step, "")
    }
    fn at_path(self, step: &str, path: &str) -> Result<T, Failed> {
        self.map_err(|error| failed(step, path, error.into().raw_os_error().unwrap_or(libc::EIO)))
    }
}

/// A failure that no system call reported.
pub(crate) fn failed(step: &str, path: &str, errno: i32) -> Failed {
    Failed {
        step: step.to_owned(),
        path: path.to_owned(),
        errno,
    }
}
