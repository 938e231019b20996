//! Packing several directories with one progress.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar};
use safelight_vfs::pack::{self, Progress};

use crate::{
    failure::{Failure, Kind},
    terminal,
};

/// No time left is said before so much time passed: a rate is not one yet.
const RATE_AFTER: Duration = Duration::from_secs(1);

/// What was packed so far.
pub(crate) struct Packing {
    spinner: ProgressBar,
    began: Instant,
    files: u64,
    bytes: u64,
    expected: Arc<Expected>,
}

/// How much there is in all.
#[derive(Default)]
struct Expected {
    /// Bytes; 0 until it is known.
    bytes: AtomicU64,
    /// Nobody wants to know any more.
    over: AtomicBool,
}

impl Packing {
    /// Nothing so far.
    pub(crate) fn begin() -> Self {
        Self {
            spinner: terminal::spinner("sealing"),
            began: Instant::now(),
            files: 0,
            bytes: 0,
            expected: Arc::default(),
        }
    }

    /// Finds out beside the work how much there is in all, if anybody looks.
    pub(crate) fn expect(&self, measure: impl FnOnce(&AtomicBool) -> Option<u64> + Send + 'static) {
        if self.spinner.is_hidden() {
            return;
        }
        let expected = Arc::clone(&self.expected);
        std::thread::spawn(move || {
            if let Some(bytes) = measure(&expected.over) {
                expected.bytes.store(bytes, Ordering::Relaxed);
            }
        });
    }

    /// Packs one directory.
    pub(crate) fn one<T>(
        &mut self,
        pack: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<T, pack::Error>,
    ) -> Result<T, Failure> {
        let mut last = Progress::default();
        let packed = pack(&mut |progress| {
            last = progress;
            let done = Progress {
                files: self.files + progress.files,
                bytes: self.bytes + progress.bytes,
            };
            let expected = self.expected.bytes.load(Ordering::Relaxed);
            self.spinner
                .set_message(said(done, self.began.elapsed(), expected));
        });
        self.files += last.files;
        self.bytes += last.bytes;
        packed.map_err(|error| unpacked(&error))
    }

    /// The files that were packed, and their bytes.
    pub(crate) fn finish(self) -> (u64, u64) {
        (self.files, self.bytes)
    }
}

impl Drop for Packing {
    fn drop(&mut self) {
        self.expected.over.store(true, Ordering::Relaxed);
        self.spinner.finish_and_clear();
    }
}

/// How far it is, how fast, and for how long, if it goes on so.
fn said(done: Progress, elapsed: Duration, expected: u64) -> String {
    let rate = rate(done.bytes, elapsed);
    let sofar = format!(
        "{} files, {}, {}/s",
        done.files,
        terminal::bytes(done.bytes),
        terminal::bytes(rate)
    );
    let left = expected.saturating_sub(done.bytes);
    if left == 0 || rate == 0 || elapsed < RATE_AFTER {
        return sofar;
    }
    let left = Duration::from_secs(left.div_ceil(rate));
    format!("{sofar}, {} left", HumanDuration(left))
}

/// Bytes in a second, on average.
fn rate(bytes: u64, elapsed: Duration) -> u64 {
    (bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64
}

fn unpacked(error: &pack::Error) -> Failure {
    match error {
        pack::Error::Store { .. } => Failure::from_error(Kind::Environment, error)
            .hint("look at the space there, or name another place with --state DIR"),
        _ => Failure::from_error(Kind::User, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_said_when_it_is_known() {
        let done = Progress {
            files: 3,
            bytes: 4 << 20,
        };
        let said = |seconds, expected| said(done, Duration::from_secs(seconds), expected);
        assert_eq!(
            said(2, 34 << 20),
            "3 files, 4.0 MiB, 2.0 MiB/s, 15 seconds left"
        );
        let sofar = "3 files, 4.0 MiB, 2.0 MiB/s";
        // Nobody counted, or more came than was counted.
        assert_eq!((said(2, 0), said(2, 1 << 20)), (sofar.into(), sofar.into()));
        assert!(!said(0, 34 << 20).contains("left"), "no rate yet");
    }
}
