//! Between the words of `fuser` and ours.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, OpenAccMode, OpenFlags, TimeOrNow};
use nix::errno::Errno;

use crate::{
    tree::Special,
    view::{Now, OpenMode, What},
};

/// Node number 0 with a lifetime is how FUSE says "not there, and you may remember it".
pub(super) fn absent() -> FileAttr {
    let never = UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: never,
        mtime: never,
        ctime: never,
        crtime: never,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 512,
        flags: 0,
    }
}

pub(super) fn kind(what: What) -> FileType {
    match what {
        What::Directory => FileType::Directory,
        What::File => FileType::RegularFile,
        What::Symlink => FileType::Symlink,
        What::Special(Special::Pipe) => FileType::NamedPipe,
        What::Special(Special::Socket) => FileType::Socket,
        What::Special(Special::CharDevice(_)) => FileType::CharDevice,
        What::Special(Special::BlockDevice(_)) => FileType::BlockDevice,
    }
}

/// The device number that `stat` shows.
pub(super) fn device(what: What) -> u32 {
    match what {
        What::Special(Special::CharDevice(device) | Special::BlockDevice(device)) => device,
        _ => 0,
    }
}

/// What `mknod` is asked for; none if it is nothing that is made that way.
pub(super) fn special(mode: u32, device: u32) -> Option<Special> {
    match mode & libc::S_IFMT {
        libc::S_IFIFO => Some(Special::Pipe),
        libc::S_IFSOCK => Some(Special::Socket),
        libc::S_IFCHR => Some(Special::CharDevice(device)),
        libc::S_IFBLK => Some(Special::BlockDevice(device)),
        _ => None,
    }
}

pub(super) fn time(nanoseconds: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanoseconds.unsigned_abs());
    if nanoseconds >= 0 {
        UNIX_EPOCH + distance
    } else {
        UNIX_EPOCH - distance
    }
}

/// A time that a request brought. Of one before 1970 `fuser` takes the nanoseconds away, where the kernel means them to be added: a second
/// and a half before is -2 s and 500,000,000 ns in the request, and 2.5 s before as it comes here.
pub(super) fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            let whole = seconds.saturating_mul(-1_000_000_000);
            whole.saturating_add(before.subsec_nanos().into())
        }
    }
}

pub(super) fn moment(time: TimeOrNow) -> Result<i64, Now> {
    match time {
        TimeOrNow::SpecificTime(time) => Ok(nanoseconds(time)),
        TimeOrNow::Now => Err(Now),
    }
}

pub(super) fn mode_of(flags: i32) -> OpenMode {
    match OpenFlags(flags).acc_mode() {
        OpenAccMode::O_RDONLY => OpenMode {
            read: true,
            write: false,
        },
        OpenAccMode::O_WRONLY => OpenMode {
            read: false,
            write: true,
        },
        OpenAccMode::O_RDWR => OpenMode {
            read: true,
            write: true,
        },
    }
}

pub(super) fn code(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_is_what_the_kernel_meant() {
        let as_it_comes = |seconds, nanos| nanoseconds(UNIX_EPOCH - Duration::new(seconds, nanos));
        assert_eq!(as_it_comes(2, 500_000_000), -1_500_000_000);
        assert_eq!(as_it_comes(1, 0), -1_000_000_000);
        assert_eq!(
            as_it_comes(u64::MAX >> 1, 999_999_999),
            i64::MIN + 999_999_999
        );
        assert_eq!(nanoseconds(UNIX_EPOCH + Duration::new(1, 5)), 1_000_000_005);
    }
}
