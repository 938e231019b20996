//! What people use instead, each as its own manual says: restic and rclone's crypt encrypt, rsync does not.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Contender, Took,
    goods::{Goods, bytes_in, on_disk, walk},
    timed,
};
use crate::{
    bench::version_of,
    failure::{Failure, Kind, OrFail},
};

/// The one that we are compared with.
pub(super) const RESTIC: &str = "restic";
const RCLONE: &str = "rclone crypt";
const RSYNC: &str = "rsync";

/// Everybody.
pub(super) const NAMES: [&str; 3] = [RESTIC, RCLONE, RSYNC];

/// How often it is looked whether half is there.
const LOOK: Duration = Duration::from_millis(100);

/// What a peer says of its version, if it is installed.
pub(super) fn version(name: &str) -> Option<String> {
    match name {
        RESTIC => version_of("restic", "version"),
        RCLONE => version_of("rclone", "version"),
        _ => version_of("rsync", "--version"),
    }
}

/// A peer and the place that it brings files to.
pub(super) struct Peer {
    name: &'static str,
    at: PathBuf,
    /// Counts the places: each beginning has a new one.
    place: usize,
    password: String,
}

impl Peer {
    /// A peer with an empty place.
    pub(super) fn new(name: &'static str, at: PathBuf) -> Result<Self, Failure> {
        let mut peer = Self {
            name,
            at,
            place: 0,
            password: String::new(),
        };
        if name == RCLONE {
            let obscure = Command::new("rclone").args(["obscure", "bench"]).output();
            let said = obscure.or_fail(Kind::Environment)?.stdout;
            peer.password = String::from_utf8_lossy(&said).trim().to_owned();
        }
        peer.begin()?;
        Ok(peer)
    }

    /// A new empty place.
    fn begin(&mut self) -> Result<(), Failure> {
        self.place += 1;
        fs::create_dir_all(self.there()).or_fail(Kind::Environment)?;
        match self.name {
            RESTIC => self.end(self.restic(&["init"]).spawn()),
            _ => Ok(()),
        }
    }

    fn there(&self) -> PathBuf {
        self.at.join(format!("there-{}", self.place))
    }

    fn restic(&self, words: &[&str]) -> Command {
        let mut command = quiet("restic");
        command
            .env("RESTIC_PASSWORD", "bench")
            .env("RESTIC_CACHE_DIR", self.at.join("cache"))
            .arg("--repo")
            .arg(self.there())
            .args(words);
        command
    }

    fn command(&self, goods: &Path) -> Command {
        match self.name {
            RESTIC => {
                let mut command = self.restic(&["backup", "--quiet"]);
                command.arg(goods);
                command
            }
            RCLONE => {
                let mut command = quiet("rclone");
                command
                    .env("RCLONE_CONFIG_THERE_TYPE", "crypt")
                    .env("RCLONE_CONFIG_THERE_REMOTE", self.there())
                    .env("RCLONE_CONFIG_THERE_PASSWORD", &self.password)
                    .env("RCLONE_CONFIG", self.at.join("rclone.conf"))
                    .arg("sync")
                    .arg(goods)
                    .arg("there:");
                command
            }
            _ => {
                let mut command = quiet("rsync");
                let mut from = goods.as_os_str().to_owned();
                from.push("/");
                command
                    .args(["--archive", "--partial"])
                    .arg(from)
                    .arg(self.there());
                command
            }
        }
    }

    fn end(&self, child: std::io::Result<Child>) -> Result<(), Failure> {
        let status = child.and_then(|mut child| child.wait());
        let status = status.or_fail(Kind::Environment)?;
        if status.success() {
            return Ok(());
        }
        let message = format!("{} failed: {status}", self.name);
        Err(Failure::new(Kind::Environment, message))
    }
}

fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Bytes of the files that were made or changed since: a file that is replaced is brought whole.
fn new_in(directory: &Path, since: Duration) -> Result<u64, Failure> {
    let mut bytes = 0;
    walk(directory, &mut |_, about| {
        let changed = Duration::new(about.ctime().max(0) as u64, about.ctime_nsec() as u32);
        bytes += if changed >= since { about.len() } else { 0 };
    })?;
    Ok(bytes)
}

impl Contender for Peer {
    fn bring(&mut self, goods: &Goods) -> Result<Took, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = now.or_fail(Kind::Environment)?;
        let (seconds, ()) = timed(|| {
            self.end(self.command(goods.root()).spawn())?;
            on_disk(&self.at)
        })?;
        Ok(Took {
            seconds,
            bytes: new_in(&self.there(), since)?,
            accepted: None,
        })
    }

    fn resume(&mut self, goods: &Goods) -> Result<Option<Took>, Failure> {
        self.begin()?;
        on_disk(&self.at)?;
        let child = self.command(goods.root()).spawn();
        let mut child = child.or_fail(Kind::Environment)?;
        while bytes_in(&self.there())? < goods.bytes() / 2 {
            if child.try_wait().or_fail(Kind::Environment)?.is_some() {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
        child.kill().or_fail(Kind::Environment)?;
        child.wait().or_fail(Kind::Environment)?;
        on_disk(&self.at)?;
        self.bring(goods).map(Some)
    }
}
