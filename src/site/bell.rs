//! Wakes the loop of a site before its time: when a job was handed in, or something came into a hot folder that it reads.
//!
//! It only makes things faster. The kernel does not tell of what another host does to a share, and a bell that cannot be hung is none: the loop
//! looks at everything anyway, as often as the configuration says. And whoever rings all the time, as a carrier may, does not get more than
//! one turn each [`LEAST`].

use std::{
    fs::OpenOptions,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, WatchFlags},
};

use crate::state::State;

/// The least time between two turns.
const LEAST: Duration = Duration::from_millis(20);

/// What rings.
pub(super) struct Bell {
    watches: Option<OwnedFd>,
    place: PathBuf,
}

fn place(state: &State) -> PathBuf {
    state.root().join("bell")
}

/// Tells the site that is served, if there is one, to look now.
pub(crate) fn ring(state: &State) {
    // Closing it after it was open to be written is what is noticed. Nobody misses it but for a moment.
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(place(state));
    drop(file);
}

impl Bell {
    /// Hangs a bell for the site of this state.
    pub(super) fn hang(state: &State) -> Self {
        ring(state);
        let watches = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        Self {
            watches: watches.ok(),
            place: place(state),
        }
    }

    /// Waits until it rings, or so long. What came since the last time counts.
    pub(super) fn wait(&self, pause: Duration, folders: &[PathBuf]) {
        std::thread::sleep(LEAST.min(pause));
        let rest = pause.saturating_sub(LEAST);
        let Some(watches) = &self.watches else {
            std::thread::sleep(rest);
            return;
        };
        self.watch(watches, folders);
        let Ok(rest) = Timespec::try_from(rest) else {
            return;
        };
        let mut waits = [PollFd::new(watches, PollFlags::IN)];
        // Interrupted or not: the next turn finds what there is.
        let _ = poll(&mut waits, Some(&rest));
        let mut said = [0; 4096];
        while rustix::io::read(watches, &mut said).is_ok_and(|count| count > 0) {}
    }

    /// Folders come and go with their media, and a watch that is there already stays: so each time anew.
    fn watch(&self, watches: &OwnedFd, folders: &[PathBuf]) {
        let add = |path: &Path, what| inotify::add_watch(watches, path, what).is_ok();
        add(&self.place, WatchFlags::CLOSE_WRITE);
        let came = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE;
        let came = came | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        for folder in folders {
            if !add(folder, came)
                && let Some(parent) = folder.parent()
            {
                add(parent, came);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    /// Longer than any test runs: whoever waits so long was not woken.
    const LONG: Duration = Duration::from_secs(3600);

    fn wakes(bell: &Bell, folder: &Path, act: impl Fn() + Sync) {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                // Again and again: the first may come before anybody waits.
                while !over.load(Ordering::Relaxed) {
                    act();
                    thread::sleep(Duration::from_millis(5));
                }
            });
            bell.wait(LONG, &[folder.to_owned()]);
            over.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_job_and_a_letter_wake_the_loop() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(Some(directory.path())).unwrap();
        let folder = directory.path().join("ready/me");
        let bell = Bell::hang(&state);
        wakes(&bell, &folder, || ring(&state));
        std::fs::create_dir(directory.path().join("ready")).unwrap();
        wakes(&bell, &folder, || {
            let _ = std::fs::create_dir(&folder);
            let _ = std::fs::remove_dir(&folder);
        });
        let _ = std::fs::create_dir(&folder);
        wakes(&bell, &folder, || {
            std::fs::write(folder.join(".part"), "x").unwrap();
            std::fs::rename(folder.join(".part"), folder.join("letter")).unwrap();
        });
    }

    #[test]
    fn without_a_bell_it_waits_as_long_as_it_is_told() {
        let bell = Bell {
            watches: None,
            place: PathBuf::from("/nowhere"),
        };
        bell.wait(Duration::from_millis(1), &[]);
    }
}
