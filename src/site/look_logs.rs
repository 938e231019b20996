//! The logs of looks at jobs here: each goes home when it is whole, also that of a look that was refused.

use safelight_bundle::{BlobList, LookNotice};
use safelight_policies::id::{ClientAlias, JobId, SessionId};
use safelight_scheduler::Errand;

use super::{
    errand,
    turn::{LETTER_LIFE, Site},
};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs, registers,
    run::AuditWriter,
    state::LogOf,
    store::Store,
};

impl Site {
    /// Looks that are over.
    pub(super) fn looked(&mut self, now: u64) -> Result<(), Failure> {
        self.each(
            errand::LOOK,
            now,
            |site, Errand { subject, job, .. }, now| {
                let session: SessionId = subject.parse().or_fail(Kind::Internal)?;
                match site.standing.has(session) {
                    true => Ok(false),
                    false => site.send_look(*job, session, now).map(|()| true),
                }
            },
        )
    }

    fn send_look(&mut self, job: JobId, session: SessionId, now: u64) -> Result<(), Failure> {
        let entry = self.job(job)?;
        let client = &entry.outline.client;
        let which = LogOf::Look(session);
        let path = self.state.audit_log(client, job, which)?;
        if !path.metadata().is_ok_and(|file| file.len() > 0) {
            // Whoever asked was gone before there was anything to record.
            return Ok(());
        }
        let statement = self.look_statement(client, job, session)?;
        let store = Store::open(&self.state, client)?;
        let bytes = jobs::read(&path)?;
        let len = u32::try_from(bytes.len()).or_fail(Kind::Internal)?;
        let object = store.put_bytes(&bytes)?;
        let list = BlobList::new(vec![(object, len)]).or_fail(Kind::Internal)?;
        let list = store.put_list(&list)?;
        registers::register(&self.state, client, &[statement])?;
        let Some(index) = self.client_of(&entry) else {
            // Its client was revoked: nobody is to be told.
            return Ok(());
        };
        let load = self.links[index].load(list)?;
        let letter = |stamp| LookNotice {
            stamp,
            job,
            session,
            audit: vec![object],
            load,
        };
        let times = (now, now + LETTER_LIFE);
        let posted = self.links[index].post(&self.books, &self.voice, times, letter)?;
        self.await_receipt(errand::LETTER, posted.of, job, now)
    }

    /// The state of a look's log. A record that a crash cut short is cut off first, and that is recorded.
    fn look_statement(
        &self,
        client: &ClientAlias,
        job: JobId,
        session: SessionId,
    ) -> Result<safelight_audit::Statement, Failure> {
        let which = LogOf::Look(session);
        let found = registers::statement(&self.state, client, job, which);
        let found = match found {
            Err(failure) if failure.kind() == Kind::Denied => {
                let log = (client, job, which);
                let (writer, _) =
                    AuditWriter::start(&self.state, log, safelight_audit::Source::Agent, &[])?;
                writer.finish()?;
                registers::statement(&self.state, client, job, which)
            }
            found => found,
        };
        let none = || Failure::new(Kind::Internal, format!("the log of {session} is gone"));
        found?.ok_or_else(none)
    }
}
