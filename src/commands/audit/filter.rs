//! Which records are shown. Pure.
//!
//! What is asked for joins: a record is shown if it fits all of it. A record that is wrong could be about anything, and is always shown.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use globset::{GlobBuilder, GlobMatcher};
use safelight_policies::{
    event::Op,
    id::{NodeName, TaskId},
};

use super::asked::More;
use crate::{
    failure::{Failure, Kind},
    records::{OpenedRecord, Span, What, action},
};

/// Which records are shown.
#[derive(Debug, Default)]
pub(super) struct Filter {
    actions: Vec<String>,
    path: Option<GlobMatcher>,
    task: Option<TaskId>,
    node: Option<NodeName>,
    since: Option<u64>,
    until: Option<u64>,
}

/// Compiles a glob over whole paths.
pub(super) fn glob(text: &str) -> Result<GlobMatcher, Failure> {
    GlobBuilder::new(text)
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| Failure::new(Kind::User, error))
}

/// True if a path of a job's fits.
pub(super) fn fits(glob: &GlobMatcher, path: &[u8]) -> bool {
    glob.is_match(Path::new(OsStr::from_bytes(path)))
}

impl Filter {
    /// What was asked for, at a time.
    pub(super) fn new(more: &More, task: Option<TaskId>, now_ns: u64) -> Result<Self, Failure> {
        Ok(Self {
            actions: more.action.clone(),
            path: more.path.as_deref().map(glob).transpose()?,
            task,
            node: more.node.clone(),
            since: more.since.map(|moment| moment.ns(now_ns)),
            until: more.until.map(|moment| moment.ns(now_ns)),
        })
    }

    /// The time that is asked about.
    pub(super) fn span(&self) -> Span {
        Span {
            since: self.since,
            until: self.until,
        }
    }

    /// True if nothing is asked for, so that every record is shown.
    pub(super) fn is_none(&self) -> bool {
        self.actions.is_empty()
            && self.path.is_none()
            && self.task.is_none()
            && self.node.is_none()
            && self.span() == Span::default()
    }

    /// True if the record is shown.
    pub(super) fn keeps(&self, record: &OpenedRecord) -> bool {
        record.what.is_wrong() || (self.span().holds(record.at_ns) && self.keeps_kind(record))
    }

    /// The same, whenever it was: for records of one kind together.
    pub(super) fn keeps_kind(&self, record: &OpenedRecord) -> bool {
        record.what.is_wrong()
            || (self.keeps_by_all_but_path(record)
                && self
                    .path
                    .as_ref()
                    .is_none_or(|glob| names(&record.what, glob)))
    }

    /// The same, whatever path it names and whenever it was: for answers with a row for each path.
    pub(super) fn keeps_by_all_but_path(&self, record: &OpenedRecord) -> bool {
        if record.what.is_wrong() {
            return true;
        }
        let name = action(&record.what);
        let node = || record.place.as_ref().map(|place| &place.node);
        (self.actions.is_empty() || self.actions.iter().any(|asked| asked == name))
            && self.task.is_none_or(|task| record.task == Some(task))
            && self.node.as_ref().is_none_or(|asked| node() == Some(asked))
    }

    /// True if a row about this path is shown.
    pub(super) fn shows(&self, path: &[u8]) -> bool {
        self.path.as_ref().is_none_or(|glob| fits(glob, path))
    }
}

fn names(what: &What, glob: &GlobMatcher) -> bool {
    match what {
        What::Access { access, .. } => {
            if access.op == Op::Program {
                return false;
            }
            let second = access.to.as_deref().filter(|_| access.op != Op::Exec);
            fits(glob, &access.path) || second.is_some_and(|to| fits(glob, to))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use safelight_policies::{event::Control, id::SlotIndex};

    use super::*;
    use crate::records::{Place, samples::*};

    fn filter(actions: &[&str], path: Option<&str>) -> Filter {
        Filter {
            actions: actions.iter().map(|name| (*name).to_owned()).collect(),
            path: path.map(|path| glob(path).unwrap()),
            ..Filter::default()
        }
    }

    fn kept(filter: &Filter, all: &[OpenedRecord]) -> Vec<usize> {
        let kept = all.iter().enumerate();
        kept.filter(|(_, record)| filter.keeps(record))
            .map(|(index, _)| index)
            .collect()
    }

    #[test]
    fn filters_join_and_never_hide_what_is_wrong() {
        let all = [
            read("/c/a.png"),
            read("/c/deep/a.png"),
            allowed(Op::OpenWrite, "/c/a.png"),
            renamed("/c/tmp", "/c/b.png"),
            control(Control::Recovered { bytes: 1 }),
            unreadable(),
            out_of_turn(),
        ];
        for (actions, path, expected) in [
            (&[][..], None, vec![0, 1, 2, 3, 4, 5, 6]),
            (&["open-read"], None, vec![0, 1, 5, 6]),
            (&["open-read", "recovered"], None, vec![0, 1, 4, 5, 6]),
            (&[], Some("/c/*.png"), vec![0, 2, 3, 5, 6]),
            (&[], Some("/c/**/*.png"), vec![0, 1, 2, 3, 5, 6]),
            (&["open-read"], Some("/c/deep/*"), vec![1, 5, 6]),
        ] {
            assert_eq!(kept(&filter(actions, path), &all), expected);
        }
        assert!(glob("[").is_err());
    }

    #[test]
    fn times_and_places_narrow() {
        let mut all = [read("/c/a"), read("/c/b"), read("/c/c"), unreadable()];
        for (number, record) in all.iter_mut().enumerate() {
            record.at_ns = 10 * number as u64;
            let task = Some(TaskId {
                step: 0,
                task: number as u64,
            });
            record.task = task;
            let node = format!("node-{number}").parse().unwrap();
            let (site, slot) = (None, SlotIndex(0));
            record.place = Some(Arc::new(Place { site, node, slot }));
        }
        let since = Filter {
            since: Some(10),
            ..Filter::default()
        };
        assert_eq!(kept(&since, &all), [1, 2, 3]);
        let until = Filter {
            until: Some(10),
            ..Filter::default()
        };
        assert_eq!(kept(&until, &all), [0, 3]);
        let node = Filter {
            node: Some("node-2".parse().unwrap()),
            ..Filter::default()
        };
        assert_eq!(kept(&node, &all), [2, 3]);
        let task = Filter {
            task: all[1].task,
            ..Filter::default()
        };
        assert_eq!(kept(&task, &all), [1, 3]);
        // Nobody knows where it was.
        all[2].place = None;
        assert_eq!(kept(&node, &all), [3]);
    }

    #[test]
    fn the_arguments_of_a_command_are_no_path() {
        let mut exec = allowed(Op::Exec, "/usr/bin/povray");
        access_of(&mut exec).to = Some(b"/c/secret".to_vec());
        assert!(!filter(&[], Some("/c/*")).keeps(&exec));
    }
}
