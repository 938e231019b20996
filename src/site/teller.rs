//! Tells suppliers how their jobs ended, beside the site's loop: a supplier's command or server that hangs keeps nothing else waiting.
//!
//! It has a client's process of its own, and books of its own. A notice is sent until it was sent once; one that cannot be sent is tried
//! again later, less and less often.

use std::collections::BTreeMap;

use safelight_scheduler::Notice;

use super::config::Config;
use crate::{client::ClientProcess, failure::Failure, run::Books, state::State};

/// How many notices are looked at in one turn.
const BATCH: u32 = 64;
/// How long to wait after the first failure, in seconds. Doubles each time, up to half a day.
const RETRY: u64 = 5;
const RETRY_DOUBLES: u32 = 13;

/// Who tells.
pub(super) struct Teller {
    state: State,
    books: Books,
    client: ClientProcess,
    /// When somebody was last told in vain, in seconds since 1970, and how often: by notice.
    in_vain: BTreeMap<u64, (u64, u32)>,
}

impl Teller {
    /// Begins to tell for a client's own site.
    pub(super) fn open(state: &State, config: &Config) -> Result<Self, Failure> {
        Ok(Self {
            state: state.clone(),
            books: Books::open_with(state, config.rules.clone())?,
            client: ClientProcess::start(state)?,
            in_vain: BTreeMap::new(),
        })
    }

    /// Sends what is due.
    pub(super) fn turn(&mut self, now: u64) -> Result<(), Failure> {
        if !self.client.lives() {
            self.client = ClientProcess::start(&self.state)?;
        }
        for notice in self.books.wait(self.books.ledger().notices(BATCH))? {
            if self.is_due(notice.number, now) {
                self.tell(&notice, now)?;
            }
        }
        Ok(())
    }

    fn is_due(&self, number: u64, now: u64) -> bool {
        self.in_vain
            .get(&number)
            .is_none_or(|(last, tries)| now >= last + (RETRY << (tries - 1).min(RETRY_DOUBLES)))
    }

    fn tell(&mut self, notice: &Notice, now: u64) -> Result<(), Failure> {
        let told = self
            .client
            .notify(notice.job, notice.state.as_str(), notice.at);
        let failed = match told {
            Ok(report) if report.complete() => None,
            Ok(report) => report.command.or(report.url),
            Err(failure) => Some(failure.message()),
        };
        let Some(why) = failed else {
            self.in_vain.remove(&notice.number);
            let sent = self.books.ledger().notice_sent(notice.number, now);
            return self.books.wait(sent).map(drop);
        };
        tracing::warn!("the supplier of {} cannot be told: {why}", notice.job);
        let tries = self
            .in_vain
            .get(&notice.number)
            .map_or(0, |(_, tries)| *tries);
        self.in_vain.insert(notice.number, (now, tries + 1));
        Ok(())
    }
}
