//! The other contenders: the plain disk, and the encrypted file systems that people use instead.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::failure::{Failure, Kind, OrFail};

/// The plain disk.
pub(super) const DISK: &str = "disk";
/// The file systems that we are compared with, as Debian has them and with their own defaults.
pub(super) const GOCRYPTFS: &str = "gocryptfs";
/// See [`GOCRYPTFS`].
pub(super) const SECUREFS: &str = "securefs";

/// How long a mount may take to come.
const MOUNTS_IN: Duration = Duration::from_secs(30);

/// What no secret is kept behind.
const PASSWORD: &str = "bench";

/// A peer's mount. It goes when this is dropped.
pub(super) struct Mounted {
    at: PathBuf,
}

/// Makes a new store below `directory` and mounts it at `at`.
pub(super) fn mount(peer: &str, directory: &Path, at: &Path) -> Result<Mounted, Failure> {
    let store = directory.join(format!("{peer}.store"));
    for made in [&store, at] {
        fs::create_dir_all(made).or_fail(Kind::Environment)?;
    }
    let (store, text) = (store.as_path(), |path: &Path| path.as_os_str().to_owned());
    let word = |word: &str| std::ffi::OsString::from(word);
    let echo = word(&format!("echo {PASSWORD}"));
    let (make, serve) = match peer {
        GOCRYPTFS => (
            vec![
                word("-init"),
                word("-q"),
                word("-extpass"),
                echo.clone(),
                text(store),
            ],
            vec![word("-q"), word("-extpass"), echo, text(store), text(at)],
        ),
        _ => (
            vec![word("create"), word("--pass"), word(PASSWORD), text(store)],
            vec![
                word("mount"),
                word("-b"),
                word("--pass"),
                word(PASSWORD),
                text(store),
                text(at),
            ],
        ),
    };
    run(peer, &make)?;
    run(peer, &serve)?;
    let mounted = Mounted { at: at.to_owned() };
    let begun = Instant::now();
    while !is_mounted(at) {
        if begun.elapsed() > MOUNTS_IN {
            return Err(Failure::new(
                Kind::Environment,
                format!("{peer} did not mount at {}", at.display()),
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(mounted)
}

fn run(program: &str, arguments: &[std::ffi::OsString]) -> Result<(), Failure> {
    let failed = |why: String| {
        let what = format!("{program} does not do what the bench needs of it: {why}");
        Failure::new(Kind::Environment, what)
    };
    // It may go into the background and keep what it was given: no pipe, or we would wait for its end.
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| failed(error.to_string()))?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(status.to_string()))
    }
}

fn is_mounted(at: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let at = at.display().to_string();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(at.as_str()))
}

impl Drop for Mounted {
    fn drop(&mut self) {
        crate::mounting::unmount(&self.at);
    }
}
