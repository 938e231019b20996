//! Packing several directories with one progress.

use indicatif::ProgressBar;
use safelight_seal::manifest::Entry;
use safelight_vfs::pack::{self, Progress};

use crate::{
    failure::{Failure, Kind},
    terminal,
};

/// What was packed so far.
pub(crate) struct Packing {
    spinner: ProgressBar,
    files: u64,
    bytes: u64,
}

impl Packing {
    /// Nothing so far.
    pub(crate) fn begin() -> Self {
        Self {
            spinner: terminal::spinner("sealing"),
            files: 0,
            bytes: 0,
        }
    }

    /// Packs one directory.
    pub(crate) fn one(
        &mut self,
        pack: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<Vec<Entry>, pack::Error>,
    ) -> Result<Vec<Entry>, Failure> {
        let mut last = Progress::default();
        let entries = pack(&mut |progress| {
            last = progress;
            self.spinner.set_message(format!(
                "{} files, {}",
                self.files + progress.files,
                terminal::bytes(self.bytes + progress.bytes)
            ));
        });
        self.files += last.files;
        self.bytes += last.bytes;
        entries.map_err(|error| unpacked(&error))
    }

    /// The files that were packed, and their bytes.
    pub(crate) fn finish(self) -> (u64, u64) {
        self.spinner.finish_and_clear();
        (self.files, self.bytes)
    }
}

fn unpacked(error: &pack::Error) -> Failure {
    match error {
        pack::Error::Store { .. } => Failure::from_error(Kind::Environment, error)
            .hint("look at the space there, or name another place with --state DIR"),
        _ => Failure::from_error(Kind::User, error),
    }
}
