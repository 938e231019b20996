//! The files that a task carries with it, written into the session's private home.
//!
//! It is done by the job's own process, behind every wall and before its first instruction, so it can do no more than the job can. The home
//! is a directory in memory that is empty and nobody else's. No failure names a file: the names are the client's.

use std::{fs::File, io::Write};

use rustix::fs::{CWD, Mode, OFlags, openat};
use safelight_job::expand::SESSION_DIRECTORY;
use safelight_vfs::session::SessionFile;

use super::{At, failed};
use crate::{
    message::Failed,
    plan::{Mount, Plan},
};

const STEP: &str = "files";

/// Writes the files, each of which must be new.
pub(crate) fn write(plan: &Plan, files: &[SessionFile]) -> Result<(), Failed> {
    if files.is_empty() {
        return Ok(());
    }
    if !SessionFile::are_fit(files) {
        return Err(failed(STEP, "", libc::EINVAL));
    }
    let in_memory =
        |mount: &Mount| matches!(mount, Mount::Tmp { at, .. } if at == SESSION_DIRECTORY);
    if !plan.mounts.iter().any(in_memory) {
        return Err(failed(STEP, "", libc::ENOENT));
    }
    let place = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let home = openat(CWD, SESSION_DIRECTORY, place, Mode::empty()).at(STEP)?;
    let create =
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for file in files {
        let mode = Mode::RUSR | Mode::WUSR;
        let mode = if file.runnable {
            mode | Mode::XUSR
        } else {
            mode
        };
        let made = openat(&home, file.name.as_slice(), create, mode).at(STEP)?;
        File::from(made).write_all(&file.bytes).at(STEP)?;
    }
    Ok(())
}
