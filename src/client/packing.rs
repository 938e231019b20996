//! Packing several directories with one progress.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use safelight_vfs::pack::{self, Progress};

use crate::{
    failure::{Failure, Kind},
    terminal,
};

/// What was packed so far.
pub(crate) struct Packing {
    spinner: ProgressBar,
    began: Instant,
    files: u64,
    bytes: u64,
}

impl Packing {
    /// Nothing so far.
    pub(crate) fn begin() -> Self {
        Self {
            spinner: terminal::spinner("sealing"),
            began: Instant::now(),
            files: 0,
            bytes: 0,
        }
    }

    /// Packs one directory.
    pub(crate) fn one<T>(
        &mut self,
        pack: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<T, pack::Error>,
    ) -> Result<T, Failure> {
        let mut last = Progress::default();
        let packed = pack(&mut |progress| {
            last = progress;
            let (files, bytes) = (self.files + progress.files, self.bytes + progress.bytes);
            self.spinner.set_message(format!(
                "{files} files, {}, {}/s",
                terminal::bytes(bytes),
                terminal::bytes(rate(bytes, self.began.elapsed()))
            ));
        });
        self.files += last.files;
        self.bytes += last.bytes;
        packed.map_err(|error| unpacked(&error))
    }

    /// The files that were packed, and their bytes.
    pub(crate) fn finish(self) -> (u64, u64) {
        self.spinner.finish_and_clear();
        (self.files, self.bytes)
    }
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
