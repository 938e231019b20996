//! Collection: objects that nobody refers to are removed, while others put objects.
//!
//! Who refers to an object is the caller's to know. What it cannot know is who is about to: objects come before what names them. So what
//! is young stays, and whoever puts or claims an object that is there already makes it young, under the lock that a removal needs alone.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use nix::fcntl::FlockArg;
use safelight_policies::id::ObjectId;

use super::{Area, Error, list};

/// What a collection did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects removed.
    pub removed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Leftovers of writes that never ended, removed as well.
    pub leftovers: u64,
    /// Objects that stay because they are referred to.
    pub needed: u64,
    /// Objects that nobody refers to, but that are too young.
    pub young: u64,
}

/// What one name of an area is.
enum What {
    Needed,
    Young,
    Garbage(u64),
    Leftover,
    Foreign,
}

impl Area {
    /// Removes every object that is not `needed` and was neither put nor claimed since `before`. With `only_look`, says what it would do.
    pub fn collect(
        &self,
        needed: &HashSet<ObjectId>,
        before: SystemTime,
        only_look: bool,
    ) -> Result<Collected, Error> {
        let mut done = Collected::default();
        for fan in list(&self.root)? {
            if !is_fan(&fan) {
                continue;
            }
            let removed = self.locked(&fan, FlockArg::LockExclusive, || {
                collect_fan(self, &fan, needed, before, only_look, &mut done)
            })??;
            if removed {
                self.sync_directory(&fan)?;
            }
        }
        Ok(done)
    }
}

fn collect_fan(
    area: &Area,
    fan: &Path,
    needed: &HashSet<ObjectId>,
    before: SystemTime,
    only_look: bool,
    done: &mut Collected,
) -> Result<bool, Error> {
    let mut any = false;
    for path in list(fan)? {
        match what(&path, needed, before)? {
            What::Foreign => continue,
            What::Needed => {
                done.needed += 1;
                continue;
            }
            What::Young => {
                done.young += 1;
                continue;
            }
            What::Leftover => done.leftovers += 1,
            What::Garbage(bytes) => {
                done.removed += 1;
                done.bytes += bytes;
            }
        }
        if !only_look {
            let failed = |source| Error::Write {
                path: path.clone(),
                source,
            };
            area.disk.remove(&path).map_err(failed)?;
            any = true;
        }
    }
    Ok(any)
}

/// Looked at under the lock: what was old a moment ago may have been claimed.
fn what(path: &Path, needed: &HashSet<ObjectId>, before: SystemTime) -> Result<What, Error> {
    let name = path.file_name().and_then(|name| name.to_str());
    let id = name.and_then(|name| name.parse::<ObjectId>().ok());
    let temporary = name.is_some_and(|name| name.starts_with('.'));
    if id.is_some_and(|id| needed.contains(&id)) {
        return Ok(What::Needed);
    }
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        // A batch that gave up removes what it had written without a lock.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(What::Foreign),
        Err(error) => return Err(failed(error)),
    };
    if !about.is_file() || (id.is_none() && !temporary) {
        return Ok(What::Foreign);
    }
    Ok(match about.modified().map_err(failed)? >= before {
        true if temporary => What::Foreign,
        true => What::Young,
        false if temporary => What::Leftover,
        false => What::Garbage(about.len()),
    })
}

/// One of the 256 directories of objects.
fn is_fan(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let digits = |name: &str| name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.is_some_and(digits) && PathBuf::from(path).is_dir()
}
