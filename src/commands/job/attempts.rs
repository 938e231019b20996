//! How the attempts of a job ended: what the ledger has of them, and what they left. Pure.

use std::collections::BTreeMap;

use safelight_policies::id::{SessionId, TaskId};
use safelight_scheduler::AttemptEntry;

use crate::{
    jobs::Left,
    records::{Line, utc},
    results::{Chosen, Results, task_name},
    terminal,
};

/// An attempt by everything that is known of it here: one at least is there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attempt {
    entry: Option<AttemptEntry>,
    left: Option<Chosen>,
}

/// All attempts of a job, by task. What ran at another site the ledger does not know.
pub(super) fn attempts(entries: Vec<AttemptEntry>, results: &Results) -> Vec<Attempt> {
    let mut left: BTreeMap<SessionId, Chosen> = results
        .all()
        .iter()
        .map(|it| (it.left.session, it.clone()))
        .collect();
    let mut all: Vec<Attempt> = entries
        .into_iter()
        .map(|entry| Attempt {
            left: left.remove(&entry.session),
            entry: Some(entry),
        })
        .collect();
    all.extend(left.into_values().map(|left| Attempt {
        entry: None,
        left: Some(left),
    }));
    all.sort_by_key(|it| (it.task(), it.number()));
    all
}

impl Attempt {
    fn left(&self) -> Option<&Left> {
        self.left.as_ref().map(|it| &it.left)
    }

    /// What it left that was sealed.
    fn sealed(&self) -> Option<&Left> {
        self.left().filter(|left| left.manifest.is_some())
    }

    /// What it wrote, if this site knows: another tells only of what it sealed.
    fn wrote(&self) -> Option<&Left> {
        self.sealed().filter(|left| left.site.is_none())
    }

    /// Its task.
    pub(super) fn task(&self) -> TaskId {
        let left = self.left().map(|left| left.task);
        let none = TaskId { step: 0, task: 0 };
        let entry = self.entry.as_ref().map(|entry| entry.task);
        entry.or(left).unwrap_or(none)
    }

    /// Its number.
    pub(super) fn number(&self) -> u32 {
        let left = self.left().map(|left| left.attempt);
        let entry = self.entry.as_ref().map(|entry| entry.attempt);
        entry.or(left).unwrap_or_default()
    }

    fn state(&self) -> &'static str {
        match (&self.entry, &self.left) {
            (Some(entry), _) => entry.state.as_str(),
            (None, Some(it)) if it.counts => "committed",
            _ => "failed",
        }
    }

    /// What the session left says why it ended even if the ledger was never told.
    fn cause(&self) -> Option<String> {
        let told = self.entry.as_ref().and_then(|entry| entry.cause.as_ref());
        told.or(self.left().map(|left| &left.cause))
            .map(ToString::to_string)
    }

    fn place(&self) -> String {
        let site = self.left().and_then(|left| left.site.as_ref());
        match (&self.entry, site) {
            (Some(entry), _) => format!("{}/{}", entry.place.node, entry.place.slot.0),
            (None, Some(site)) => site.to_string(),
            (None, None) => "-".to_owned(),
        }
    }

    /// In words.
    pub(super) fn ending(&self) -> String {
        let mut text = self.state().to_owned();
        if let Some(cause) = self.cause() {
            text.push_str(&format!(": {cause}"));
        }
        match (self.wrote(), self.sealed()) {
            (Some(left), _) => format!(
                "{text}; wrote {} files, {}",
                left.files,
                terminal::bytes(left.bytes)
            ),
            (None, Some(_)) => format!("{text}; its results are here"),
            (None, None) => format!("{text}; nothing sealed"),
        }
    }

    /// As a row of [`Attempt::HEAD`].
    pub(super) fn cells(&self) -> Vec<String> {
        let wrote = self.wrote();
        let or = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            task_name(self.task()),
            self.number().to_string(),
            self.state().to_owned(),
            or(self.cause()),
            or(wrote.map(|left| left.files.to_string())),
            or(wrote.map(|left| left.bytes.to_string())),
            self.place(),
        ]
    }

    pub(super) const HEAD: [&'static str; 7] = [
        "TASK", "ATTEMPT", "STATE", "CAUSE", "FILES", "BYTES", "WHERE",
    ];

    /// As JSON, with its task if that says something.
    pub(super) fn line(&self, names_tasks: bool) -> Line {
        let mut line = Line::default();
        if names_tasks {
            line = line.with("task", task_name(self.task()));
        }
        line = line.with("attempt", self.number());
        match &self.entry {
            Some(entry) => {
                let cause = entry.cause.as_ref().map(ToString::to_string);
                line = line
                    .with("state", self.state())
                    .with("cause", cause)
                    .with("session", entry.session.to_string())
                    .with("fence", entry.fence.0)
                    .with("node", entry.place.node.to_string())
                    .with("slot", entry.place.slot.0)
                    .with("leased", utc(entry.leased_at))
                    .with("ended", entry.ended_at.map(utc));
            }
            None => {
                let left = self.left();
                line = line
                    .with("state", self.state())
                    .with("cause", self.cause())
                    .with("session", left.map(|left| left.session.to_string()))
                    .with("fence", left.map(|left| left.fence.0))
                    .with(
                        "site",
                        left.and_then(|left| left.site.as_ref())
                            .map(ToString::to_string),
                    )
                    .with("ended", left.map(|left| utc(left.at)));
            }
        }
        match self.wrote() {
            None => line,
            Some(left) => line.with("files", left.files).with("bytes", left.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use safelight_policies::cause::Cause;
    use safelight_scheduler::AttemptState;

    use super::*;
    use crate::results::tests::{left, told};

    const DONE: Cause = Cause::Exited { code: 0 };

    fn one(left: Option<Left>, told: Option<AttemptEntry>) -> Attempt {
        let results = Results::new(left.into_iter().collect(), told.as_slice());
        let all = attempts(told.into_iter().collect(), &results);
        assert_eq!(all.len(), 1);
        all[0].clone()
    }

    #[test]
    fn an_ending_says_whether_it_counts_and_why() {
        let good = left((0, 0), 1, 9, DONE);
        let bad = left((0, 0), 1, 9, Cause::OutOfMemory);
        let mut running = told(&good, AttemptState::Running);
        (running.cause, running.ended_at) = (None, None);
        let mut nothing = bad.clone();
        nothing.manifest = None;
        let failed = told(&bad, AttemptState::Failed);
        let committed = told(&good, AttemptState::Committed);
        for (left, told, text) in [
            (
                Some(&good),
                Some(&committed),
                "committed: exited with code 0; wrote 2 files, 2.0 KiB",
            ),
            (
                Some(&bad),
                Some(&failed),
                "failed: out of memory; wrote 2 files, 2.0 KiB",
            ),
            (None, Some(&failed), "failed: out of memory; nothing sealed"),
            (
                Some(&nothing),
                None,
                "failed: out of memory; nothing sealed",
            ),
            (
                Some(&good),
                None,
                "committed: exited with code 0; wrote 2 files, 2.0 KiB",
            ),
            (None, Some(&running), "running; nothing sealed"),
        ] {
            let attempt = one(left.cloned(), told.cloned());
            assert_eq!(attempt.ending(), text);
        }
        let json = |left: Option<&Left>, told: &AttemptEntry| {
            let attempt = one(left.cloned(), Some(told.clone()));
            serde_json::to_string(&attempt.line(false)).unwrap()
        };
        let session = good.session;
        assert_eq!(
            json(None, &running),
            format!(
                r#"{{"attempt":1,"state":"running","cause":null,"session":"{session}","fence":9,"node":"localhost","slot":3,"leased":"1970-01-01T00:00:01Z","ended":null}}"#
            )
        );
        assert_eq!(
            json(Some(&bad), &failed),
            format!(
                r#"{{"attempt":1,"state":"failed","cause":"out of memory","session":"{session}","fence":9,"node":"localhost","slot":3,"leased":"1970-01-01T00:00:01Z","ended":"1970-01-01T00:00:02Z","files":2,"bytes":2048}}"#
            )
        );
    }

    #[test]
    fn attempts_of_here_and_elsewhere_are_told_together() {
        let mut there = left((1, 0), 2, 7, DONE);
        there.site = Some("north".parse().unwrap());
        let here = left((0, 12), 1, 8, DONE);
        let results = Results::new(vec![there, here.clone()], &[]);
        let all = attempts(vec![told(&here, AttemptState::Committed)], &results);
        let cells: Vec<_> = all.iter().map(|it| it.cells().join(" ")).collect();
        assert_eq!(
            cells,
            [
                "0/12 1 committed exited with code 0 2 2048 localhost/3",
                "1/0 2 committed exited with code 0 - - north",
            ]
        );
        assert_eq!(
            all[1].ending(),
            "committed: exited with code 0; its results are here"
        );
        let json = serde_json::to_value(all[1].line(true)).unwrap();
        assert!(json.get("files").is_none());
        assert_eq!(
            (&json["task"], &json["site"], &json["ended"]),
            (
                &"1/0".into(),
                &"north".into(),
                &"1970-01-01T00:00:02Z".into()
            )
        );
    }
}
