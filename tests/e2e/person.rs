//! A throw-away user of a number that nobody has, for what is done without root.
//!
//! The suite runs as root. The user's processes live in a mount namespace of their own, with an account of that number and a `/dev/fuse` as it
//! is on most hosts, or as it is where it is root's alone.

#![allow(dead_code, reason = "each suite uses the part that it needs")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    process::Command,
};

use crate::harness::{Ended, Host, SAFELIGHT, clean, end};

/// Makes the place, then becomes the user. `$1` its number, `$2` its home, `$3` the rights of `/dev/fuse`; then the command.
const BECOME: &str = r#"
set -e
uid=$1 home=$2 rights=$3; shift 3
mkdir -p "$home/.place"
mount -t tmpfs -o mode=755 none "$home/.place"
mknod -m "$rights" "$home/.place/fuse" c 10 229
cp /etc/passwd "$home/.place/passwd"
echo "tester:x:$uid:$uid::$home:/bin/sh" >> "$home/.place/passwd"
mount --bind "$home/.place/fuse" /dev/fuse
mount --bind "$home/.place/passwd" /etc/passwd
cd "$home"
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"
"#;

/// A user that nobody is, with a home and a program of its own.
pub(crate) struct Person {
    pub(crate) host: Host,
    pub(crate) uid: u32,
}

impl Person {
    pub(crate) fn new() -> Self {
        let host = Host::new();
        let uid = 1_610_000_000 + std::process::id() % 100_000;
        // The home is the user's own, and so is what the tests put into it.
        let program = host.path("safelight");
        fs::copy(SAFELIGHT, &program).expect("program");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("program");
        let person = Self { host, uid };
        person.own(&[""]);
        person
    }

    /// Gives things of this test to the user.
    pub(crate) fn own(&self, names: &[&str]) {
        for name in names {
            chown(self.host.path(name), Some(self.uid), Some(self.uid)).expect("chown");
        }
    }

    /// A directory of the user's with a file in it.
    pub(crate) fn show(&self) -> PathBuf {
        self.host.write("show/board.txt", "a storyboard");
        self.host.write("secret.txt", "not for the job");
        self.own(&["show", "show/board.txt", "secret.txt"]);
        self.host.path("show")
    }

    /// A command of the user's. `fuse` is the rights of `/dev/fuse`.
    pub(crate) fn command(&self, fuse: &str, command: &[&str]) -> Command {
        let mut become_user = clean(
            Command::new("unshare"),
            &self.host.state(),
            self.host.root(),
        );
        become_user.env_remove("SAFELIGHT_STATE");
        become_user.args(["--mount", "--", "sh", "-c", BECOME, "become"]);
        become_user.arg(self.uid.to_string()).arg(self.host.root());
        become_user.arg(fuse).args(command);
        become_user
    }

    /// A script of the user's, with the program on its path.
    pub(crate) fn sh(&self, fuse: &str, script: &str) -> Ended {
        let script = format!("PATH=$HOME:$PATH; cd; {script}");
        end(&mut self.command(fuse, &["sh", "-c", &script]))
    }
}
