//! The files that a task carries with it, written into the session's private home.
//!
//! It is done by the job's own process, behind every wall and before its first instruction, so it can do no more than the job can. The home
//! is a directory in memory that is empty and nobody else's. No failure names a file: the names are the client's.

use std::{fs::File, io::Write};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat},
    io::Errno,
};
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
    check(plan, files)?;
    each(files, false)
}

/// Writes the files; what has the name of one goes first.
pub(crate) fn replace(plan: &Plan, files: &[SessionFile]) -> Result<(), Failed> {
    check(plan, files)?;
    each(files, true)
}

/// The same, in a session whose home was looked at before.
pub(crate) fn put(files: &[SessionFile]) -> Result<(), Failed> {
    each(files, true)
}

fn check(plan: &Plan, files: &[SessionFile]) -> Result<(), Failed> {
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
    Ok(())
}

fn each(files: &[SessionFile], replace: bool) -> Result<(), Failed> {
    if files.is_empty() {
        return Ok(());
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
        if replace {
            // A link goes, and not what it names.
            match unlinkat(&home, file.name.as_slice(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error).at(STEP),
            }
        }
        let made = openat(&home, file.name.as_slice(), create, mode).at(STEP)?;
        File::from(made).write_all(&file.bytes).at(STEP)?;
    }
    Ok(())
}
