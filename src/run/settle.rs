//! How an attempt on this host is settled: adopted, committed under the fence, on the log.

use safelight_policies::event::Control;
use safelight_vfs::protocol::Sealed;

use super::{
    attempt::{Attempt, Ending},
    books::Books,
};
use crate::{failure::Failure, jobs, process, terminal};

/// An attempt that is over, and the books that it is written into.
pub(super) struct Settlement<'a> {
    pub(super) attempt: &'a Attempt<'a>,
    pub(super) books: &'a Books,
}

impl Settlement<'_> {
    /// Commits a success under the fence, sets anything else apart, and puts on the log what was done.
    ///
    /// Whatever fails before the ledger has the commit means that there is none; what fails after it cannot take it back.
    pub(super) fn settle(&self, ending: &Ending) -> Result<(), Failure> {
        let lease = self.attempt.lease;
        let session = lease.session;
        let cause = ending.cause.clone();
        let mut noted = Ok(());
        if let Some(sealed) = &ending.sealed {
            self.keep(ending, sealed)?;
            let refused = self.commit(ending, sealed)?;
            let (manifest, files, bytes) = (sealed.manifest.0, sealed.files, sealed.bytes);
            let Some(reason) = refused else {
                let committed = Control::Committed {
                    session,
                    manifest,
                    files,
                    bytes,
                };
                let ended = Control::Ended { session, cause };
                let noted = self
                    .attempt
                    .audit
                    .note(committed)
                    .and_then(|()| self.attempt.audit.note(ended));
                return noted.or_else(|failure| {
                    terminal::complain(&failure);
                    Ok(())
                });
            };
            noted = self
                .attempt
                .audit
                .note(Control::SetApart { session, reason });
        }
        self.books.end(lease, &cause)?;
        noted?;
        self.attempt.audit.note(Control::Ended { session, cause })
    }

    /// Has the ledger accept a success; answers why not.
    fn commit(&self, ending: &Ending, sealed: &Sealed) -> Result<Option<String>, Failure> {
        if !ending.cause.is_success() {
            return Ok(Some(ending.cause.to_string()));
        }
        let at = self.attempt.audit.sync()?;
        self.books.commit(self.attempt.lease, sealed.manifest, at)
    }

    /// What was sealed enters the area, and what there is to know of it the job's directory, before anybody may count on it.
    fn keep(&self, ending: &Ending, sealed: &Sealed) -> Result<(), Failure> {
        let lease = self.attempt.lease;
        self.attempt.adopt()?;
        let left = jobs::Left {
            task: lease.task,
            manifest: Some(sealed.manifest),
            log: Some(sealed.log),
            session: lease.session,
            attempt: lease.attempt,
            fence: lease.fence,
            cause: ending.cause.clone(),
            files: sealed.files,
            bytes: sealed.bytes,
            audit: Vec::new(),
            list: None,
            site: None,
            at: process::now_seconds(),
        };
        jobs::write_left(self.attempt.state, lease.job, &left)
    }
}
