//! How a site is, for who asks: what its hot folders do, and what goes wrong. Kept in a file, which `site status` reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use safelight_bundle::{Alarm, Pushed, Report, Waiting, Why};
use safelight_policies::id::SiteName;
use serde::{Deserialize, Serialize};

use super::link::Link;
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs,
    state::State,
};

/// How old the file may get while nothing changes, in seconds: its age shows that the site lives.
const FRESH: u64 = 5;
/// How many of a kind are shown of what another site brings about.
const SHOWN_MAX: usize = 20;

/// How a link to another site is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkStatus {
    /// When its folder was last read, in seconds since 1970.
    pub(crate) read_at: u64,
    /// Letters that were accepted since the site began.
    pub(crate) accepted: u64,
    /// Letters that came and wait, each with what for.
    pub(crate) waiting: Vec<String>,
    /// Letters of ours on their way.
    pub(crate) going: usize,
    /// Letters of ours that were refused there, or not answered, and are kept back.
    #[serde(default)]
    pub(crate) held: usize,
    /// Bytes of sealed objects that were written into our hot folder since the site began.
    #[serde(default)]
    pub(crate) sent_bytes: u64,
    /// What was refused since the site began: the last few.
    pub(crate) refused: Vec<String>,
    /// What somebody should look at.
    pub(crate) alarms: Vec<String>,
    /// Why the folder cannot be read or written.
    pub(crate) stopped: Option<String>,
}

impl LinkStatus {
    /// Everything that somebody should know of at once.
    fn wrong(&self) -> impl Iterator<Item = String> {
        let all = self.stopped.iter().chain(&self.alarms);
        all.chain(&self.waiting).chain(&self.refused).cloned()
    }
}

/// How a site is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The site's process.
    pub(crate) pid: u32,
    /// When this was written, in seconds since 1970.
    pub(crate) at: u64,
    /// Its links, by the other site's name.
    pub(crate) links: BTreeMap<String, LinkStatus>,
    /// What failed in the last turn.
    pub(crate) troubles: BTreeSet<String>,
    /// What was wrong with the links when this was written.
    #[serde(skip)]
    told: Vec<String>,
    /// Something was sent since this was written.
    #[serde(skip)]
    moved: bool,
}

impl Status {
    fn path(state: &State) -> PathBuf {
        state.root().join("status.json")
    }

    /// What the site said last.
    pub(crate) fn read(state: &State) -> Result<Option<Self>, Failure> {
        let path = Self::path(state);
        if !path.exists() {
            return Ok(None);
        }
        serde_json::from_slice(&jobs::read(&path)?)
            .map(Some)
            .or_fail(Kind::Internal)
    }

    /// A folder was read.
    pub(super) fn scanned(
        &mut self,
        site: &SiteName,
        report: &Report,
        restored: Option<String>,
        now: u64,
    ) {
        let link = self.links.entry(site.to_string()).or_default();
        link.read_at = now;
        link.accepted += report.accepted;
        link.waiting = few(report.waiting.iter().map(waits));
        link.alarms = few(restored.into_iter().chain(report.alarms.iter().map(alarm)));
        link.stopped = report.stopped.as_ref().map(|error| said(error));
        for refused in &report.refused {
            let text = format!("{}", refused.refusal);
            tracing::warn!("{site}: refused a letter: {text}");
            link.refused.push(text);
        }
        let old = link.refused.len().saturating_sub(10);
        link.refused.drain(..old);
    }

    /// A link is no more.
    pub(super) fn forget(&mut self, site: &SiteName) {
        self.links.remove(site.as_str());
    }

    /// A folder was written.
    pub(super) fn pushed(&mut self, link: &Link, pushed: &Pushed) {
        let site = &link.peer.card.site;
        let (going, held, sent) = (link.waiting(), link.held(), link.sent);
        let link = self.links.entry(site.to_string()).or_default();
        self.moved |= link.sent_bytes != sent;
        (link.going, link.held, link.sent_bytes) = (going, held, sent);
        if let Some(error) = &pushed.stopped {
            link.stopped = Some(said(error));
        }
        for lapsed in pushed.lapsed.iter().chain(&pushed.held) {
            tracing::error!("{site}: the letter {lapsed} ended without a receipt");
        }
    }

    /// Writes down how the site is, and tells the operator what is new.
    pub(super) fn report(&mut self, state: &State, troubles: Vec<String>, now: u64) {
        let troubles: BTreeSet<String> = troubles.into_iter().collect();
        for trouble in troubles.difference(&self.troubles) {
            tracing::error!("{trouble}");
        }
        for over in self.troubles.difference(&troubles) {
            tracing::info!("no more: {over}");
        }
        let told = self.links.values().flat_map(LinkStatus::wrong).collect();
        let changed = troubles != self.troubles || told != self.told;
        (self.troubles, self.told) = (troubles, told);
        if !changed && !self.moved && now < self.at + FRESH {
            return;
        }
        self.moved = false;
        self.at = now;
        self.pid = std::process::id();
        let written = serde_json::to_vec_pretty(self)
            .or_fail(Kind::Internal)
            .and_then(|bytes| jobs::write_private(&Self::path(state), &bytes));
        if let Err(failure) = written {
            tracing::error!("{}", failure.message());
        }
    }
}

/// The first few, and how many more: whoever writes the folder decides how many there are.
fn few(mut all: impl Iterator<Item = String>) -> Vec<String> {
    let mut few: Vec<String> = all.by_ref().take(SHOWN_MAX).collect();
    match all.count() {
        0 => {}
        more => few.push(format!("and {more} more")),
    }
    few
}

fn said(error: &dyn std::error::Error) -> String {
    Failure::from_error(Kind::Environment, error).message()
}

fn waits(waiting: &Waiting) -> String {
    let name = &waiting.name;
    format!(
        "{} {}: {}",
        name.kind.as_str(),
        name.seq.number,
        for_what(&waiting.why)
    )
}

fn for_what(why: &Why) -> String {
    match why {
        Why::Blobs(count) => format!("at least {count} blobs are missing"),
        Why::Room { needed, free } => format!("{needed} bytes are needed and {free} are free"),
        Why::Later(later) => format!("{later:?}"),
        Why::Unsettled(refusal) => format!("it is still arriving, or was changed: {refusal}"),
        Why::Medium(error) => said(error),
        Why::NoArea => "its sender has no area here".to_owned(),
        Why::Another => "a letter before it has not come".to_owned(),
    }
}

fn alarm(alarm: &Alarm) -> String {
    match alarm {
        Alarm::Gap { numbers, since, .. } => format!(
            "letters {} to {} are missing since {}",
            numbers.start(),
            numbers.end(),
            crate::records::utc(*since)
        ),
        Alarm::Silent { since, .. } => {
            format!("nothing was heard since {}", crate::records::utc(*since))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_site_brings_about_is_shown_up_to_a_number() {
        let all = |count: usize| few((0..count).map(|it| it.to_string()));
        assert_eq!(all(0), [""; 0]);
        assert_eq!(all(SHOWN_MAX).len(), SHOWN_MAX);
        let many = all(1_000_000);
        assert_eq!(many.len(), SHOWN_MAX + 1);
        assert_eq!(many.last().map(String::as_str), Some("and 999980 more"));
    }
}
