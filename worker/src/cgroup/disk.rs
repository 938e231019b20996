//! How fast a session may read from disks and write to them, by the io controller of cgroup v2.
//!
//! A session's own reads are those of the host's programs and data; what it reads and writes in its view, the view server does for it. So the
//! server has a group beside the session's, with the same limit and no other: it is not killed with the session, whose outputs it has yet to seal.

use std::{fs, io, path::Path};

use safelight_policies::id::SessionId;

use super::{Groups, Locked, create};
use crate::error::Error;

/// Where the kernel lists whole disks; it takes no limit for a part of one.
pub(super) const DISKS: &str = "/sys/block";

/// The group of a view server. Dropped after the server has ended, it is removed.
#[derive(Debug)]
pub struct Bound {
    group: Locked,
}

impl Bound {
    /// A group in which one process reads and writes at most so many bytes a second; `None` if this host cannot hold it to that.
    pub fn of(
        groups: &Groups,
        session: &SessionId,
        rate: u64,
        pid: u32,
    ) -> Result<Option<Self>, Error> {
        let Some(ours) = &groups.unified else {
            return Ok(None);
        };
        let bound = Self {
            group: create(&ours.join(format!("{session}-view")))?,
        };
        let path = &bound.group.path;
        if !limit(path, Path::new(DISKS), rate)? {
            return Ok(None);
        }
        let procs = path.join("cgroup.procs");
        fs::write(&procs, pid.to_string()).map_err(|source| Error::Group {
            act: "fill",
            path: procs,
            source,
        })?;
        Ok(Some(bound))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.group.path);
    }
}

/// Limits a group on every disk; false if it has no such limit, or there is no disk that takes one.
pub(super) fn limit(group: &Path, disks: &Path, rate: u64) -> Result<bool, Error> {
    let path = group.join("io.max");
    if !path.exists() {
        return Ok(false);
    }
    let mut limited = false;
    for disk in fs::read_dir(disks).into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(disk.path().join(name)).unwrap_or_default();
        let (number, size) = (read("dev"), read("size"));
        // One without a medium has nothing to read.
        if number.is_empty() || size.trim() == "0" {
            continue;
        }
        let line = format!("{} rbps={rate} wbps={rate}", number.trim());
        match fs::write(&path, line) {
            Ok(()) => limited = true,
            // It went away, or is of a kind that cannot be held: memory, mostly.
            Err(error) if is_not_a_disk(&error) => {}
            Err(source) => {
                return Err(Error::Group {
                    act: "set",
                    path,
                    source,
                });
            }
        }
    }
    Ok(limited)
}

fn is_not_a_disk(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENODEV | libc::ENXIO | libc::EOPNOTSUPP)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_disk_with_a_medium_is_limited() {
        let (group, disks) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, number, size) in [
            ("nvme0n1", "259:0\n", "6291456\n"),
            ("loop0", "7:0\n", "0\n"),
        ] {
            let disk = disks.path().join(name);
            fs::create_dir(&disk).unwrap();
            fs::write(disk.join("dev"), number).unwrap();
            fs::write(disk.join("size"), size).unwrap();
        }
        assert!(
            !limit(group.path(), disks.path(), 7).unwrap(),
            "no such limit"
        );
        fs::write(group.path().join("io.max"), "").unwrap();
        assert!(limit(group.path(), disks.path(), 7).unwrap());
        let said = fs::read_to_string(group.path().join("io.max")).unwrap();
        assert_eq!(said, "259:0 rbps=7 wbps=7");
        fs::remove_dir_all(disks.path().join("nvme0n1")).unwrap();
        assert!(!limit(group.path(), disks.path(), 7).unwrap(), "no disk");
    }
}
