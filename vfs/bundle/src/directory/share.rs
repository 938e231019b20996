//! One file under two names: in our own store and in the hot folder, where both are on one file system. It is written, and takes room, once.
//!
//! It has one owner and one mode, so it is shared only if that changes nothing for whoever carries it:
//! - it is ours, and nobody else may write it: a carrier replaces or removes its name, and cannot change the bytes under ours;
//! - whoever could read a copy can read it: a folder that gives what is made in it to a group of carriers gets copies.
//!
//! Root, on this host, may write any file. A carrier that runs as root and changes files in place can damage what is shared while it is on its
//! way. That is found out whenever it is read, as with any other damage of the store.

use std::{fs::File, os::fd::AsRawFd, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Stat},
    io::Errno,
    process::{getegid, geteuid},
};

use super::{clear, door::Door};
use crate::MediumError;

/// Where a directory says who else may use what is made in it.
const DEFAULT_ACL: &str = "system.posix_acl_default";

/// Gives a file another name. False if it cannot have it, or should not.
pub(super) fn share(door: &Door<'_>, path: &Path, file: &File) -> Result<bool, MediumError> {
    let name = path.file_name().unwrap_or_default();
    let directory = door.make_directory(path.parent().unwrap_or(Path::new(".")))?;
    let failed = |act| move |errno| door.fault(act, path, errno);
    let about = rustix::fs::fstat(file).map_err(failed("look at"))?;
    let there = rustix::fs::fstat(&directory).map_err(failed("look at"))?;
    let us = (geteuid().as_raw(), getegid().as_raw());
    if !is_same_for_others(&about, &there, us) || has_rules_of_its_own(&directory) {
        return Ok(false);
    }
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link =
        |name: &_| rustix::fs::linkat(CWD, &*opened, &directory, name, AtFlags::SYMLINK_FOLLOW);
    let linked = match link(name) {
        Err(Errno::EXIST) => {
            // What has the name is not taken for the blob by anybody, or is this file already.
            let hidden: std::ffi::OsString =
                [std::ffi::OsStr::new(".part-"), name].into_iter().collect();
            clear(&directory, &hidden)
                .and_then(|()| link(&hidden))
                .and_then(|()| rustix::fs::renameat(&directory, &*hidden, &directory, name))
                // Of two names of one file a rename leaves both.
                .and(clear(&directory, &hidden))
        }
        linked => linked,
    };
    match linked {
        Ok(()) => Ok(true),
        Err(Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO) => {
            linked.map(|()| true).map_err(failed("write"))
        }
        // No such thing here, too many names, nothing that shows descriptors: whatever it is, bytes can be copied.
        Err(_) => Ok(false),
    }
}

/// True if others can do with this file what they could do with one that `us`, user and group, made in that directory: read it if they are of
/// its group, and nothing else.
fn is_same_for_others(file: &Stat, directory: &Stat, us: (u32, u32)) -> bool {
    let sticks = directory.st_mode & 0o2000 != 0;
    let is_plain = file.st_mode & 0o170_000 == 0o100_000;
    let is_ours = file.st_dev == directory.st_dev && file.st_uid == us.0;
    let only_read = file.st_mode & 0o077 == 0o040;
    // Where neither the directory's group nor ours is meant to carry, nobody is but us.
    let group = match (sticks, directory.st_gid) {
        (true, group) => Some(group),
        (false, group) if group == us.1 => Some(group),
        (false, _) => None,
    };
    let reads = group.is_some_and(|group| group == file.st_gid || (us.0 == 0 && group == 0));
    is_plain && is_ours && only_read && reads
}

/// True if an access control list, which a file with another name here would not have, may say more than modes do.
fn has_rules_of_its_own(directory: impl std::os::fd::AsFd) -> bool {
    let mut some = [0_u8; 1024];
    match rustix::fs::fgetxattr(directory, DEFAULT_ACL, &mut some) {
        Ok(len) => len > 0,
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => false,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn stats() -> (Stat, Stat) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("object");
        fs::write(&path, "sealed").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let stat = |path: &Path| rustix::fs::stat(path).unwrap();
        (stat(&path), stat(directory.path()))
    }

    #[test]
    fn it_is_shared_only_where_that_changes_nothing_for_others() {
        let (mut file, mut directory) = stats();
        file.st_uid = 7;
        (file.st_gid, directory.st_gid) = (8, 8);
        directory.st_mode &= !0o2000;
        let may = |file: &Stat, directory: &Stat| is_same_for_others(file, directory, (7, 8));
        assert!(may(&file, &directory));
        let file_with = |change: &dyn Fn(&mut Stat)| {
            let mut other = file;
            change(&mut other);
            may(&other, &directory)
        };
        assert!(!file_with(&|it| it.st_mode |= 0o020), "the group writes it");
        assert!(!file_with(&|it| it.st_mode |= 0o004), "others read it");
        assert!(!file_with(&|it| it.st_mode &= !0o040), "the group may not");
        assert!(!file_with(&|it| it.st_uid = 9), "another's");
        assert!(!file_with(&|it| it.st_gid = 9), "another group's");
        assert!(!file_with(&|it| it.st_dev += 1), "elsewhere");
        assert!(!file_with(&|it| it.st_mode ^= 0o110_000), "no plain file");
        let directory_with = |change: &dyn Fn(&mut Stat)| {
            let mut other = directory;
            change(&mut other);
            may(&file, &other)
        };
        assert!(directory_with(&|it| it.st_mode |= 0o2000));
        // Carriers of their own group, whose files would be made for them.
        assert!(!directory_with(&|it| it.st_gid = 9));
        assert!(!directory_with(
            &|it| (it.st_gid, it.st_mode) = (9, it.st_mode | 0o2000)
        ));
        // Root's own group has nobody in it who could not read everything.
        let mut root = file;
        (root.st_uid, directory.st_gid) = (0, 0);
        assert!(is_same_for_others(&root, &directory, (0, 0)));
        assert!(!is_same_for_others(&file, &directory, (7, 0)));
    }

    #[test]
    fn a_list_of_who_may_use_it_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let opened = fs::File::open(directory.path()).unwrap();
        assert!(!has_rules_of_its_own(&opened));
        // Version 2; owner, group and others: tag, permissions, nobody in particular.
        let entry = |tag: u8| [tag, 0, 7, 0, 0xff, 0xff, 0xff, 0xff];
        let list = [&[2, 0, 0, 0][..], &entry(1), &entry(4), &entry(0x20)].concat();
        let set =
            rustix::fs::fsetxattr(&opened, DEFAULT_ACL, &list, rustix::fs::XattrFlags::empty());
        match set {
            Err(Errno::OPNOTSUPP) => eprintln!("skipped: this file system has no such lists"),
            set => {
                set.unwrap();
                assert!(has_rules_of_its_own(&opened));
            }
        }
    }
}
