//! Who the session is: a user of the host that is never root, mapped to one user inside, once for each of the two user namespaces.
//!
//! A process may write its own map if the map is one line that maps its own user, and its group after it gave up setgroups
//! (user_namespaces(7)). So nothing privileged takes part in it.

use std::fs;

use nix::unistd::{Gid, Uid, getegid, geteuid, setgroups, setresgid, setresuid};

use super::At;
use crate::{
    message::Failed,
    plan::{INSIDE, Identity},
};

/// Becomes the session's user for good. Rootless, it already is.
pub(crate) fn become_session(identity: Identity) -> Result<(), Failed> {
    let Identity::Root { uid, gid } = identity else {
        return Ok(());
    };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setgroups(&[]).at("groups")?;
    setresgid(gid, gid, gid).at("group")?;
    setresuid(uid, uid, uid).at("user")
}

/// Maps our user and group to the session's in the user namespace that we have just entered. `outer` is who we are outside.
pub(crate) fn map(outer: (u32, u32)) -> Result<(), Failed> {
    let write = |path: &str, text: String| fs::write(path, text).at_path("id map", path);
    write("/proc/self/uid_map", format!("{INSIDE} {} 1", outer.0))?;
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/gid_map", format!("{INSIDE} {} 1", outer.1))
}

/// Who we are in the present user namespace.
pub(crate) fn current() -> (u32, u32) {
    (geteuid().as_raw(), getegid().as_raw())
}
