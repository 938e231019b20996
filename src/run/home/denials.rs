//! What a session's walls refused besides its view, as `run --json` says it.

use std::collections::BTreeMap;

use safelight_policies::event::Control;
use serde::Serialize;

use crate::records::{OpenedRecord, What};

/// Wall by wall.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Denials {
    seccomp: Calls,
    landlock: Paths,
}

/// The system calls that the filter refused.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Calls {
    /// Why they were not recorded; nothing if they were.
    not_recorded: Option<String>,
    /// Each, and how often.
    refused: BTreeMap<String, u64>,
}

/// What Landlock refused.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Paths {
    /// Why it was not recorded, or not all of it; nothing if it was.
    not_recorded: Option<String>,
    /// Each kind.
    refused: Vec<Path>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Path {
    what: String,
    path: String,
    times: u64,
}

impl Denials {
    /// Of the last session on the log; nothing if it never ran.
    pub(super) fn of(records: &[OpenedRecord]) -> Option<Self> {
        let controls = || {
            records.iter().filter_map(|record| match &record.what {
                What::Control(control) => Some(control),
                _ => None,
            })
        };
        let last = controls().rev().find_map(|control| match control {
            Control::Heard { session, .. } => Some(*session),
            _ => None,
        })?;
        let mut denials = Self::default();
        for control in controls() {
            match control {
                Control::CallRefused {
                    session,
                    call,
                    times,
                } if *session == last => {
                    denials.seccomp.refused.insert(call.clone(), *times);
                }
                Control::PathRefused {
                    session,
                    what,
                    path,
                    times,
                } if *session == last => denials.landlock.refused.push(Path {
                    what: what.clone(),
                    path: path.clone(),
                    times: *times,
                }),
                Control::Heard {
                    session,
                    calls,
                    paths,
                } if *session == last => {
                    let why = |why: &String| (!why.is_empty()).then(|| why.clone());
                    denials.seccomp.not_recorded = why(calls);
                    denials.landlock.not_recorded = why(paths);
                }
                _ => {}
            }
        }
        Some(denials)
    }
}

#[cfg(test)]
mod tests {
    use safelight_policies::id::SessionId;

    use super::*;
    use crate::records::samples::{SESSION, control};

    #[test]
    fn the_last_word_on_each_call_counts_and_only_of_the_last_session() {
        let refused = |session, call: &str, times| {
            control(Control::CallRefused {
                session,
                call: call.to_owned(),
                times,
            })
        };
        let heard = |session| {
            control(Control::Heard {
                session,
                calls: String::new(),
                paths: "it is off".to_owned(),
            })
        };
        let before = SessionId::from_random([9; 10]);
        assert_eq!(Denials::of(&[refused(SESSION, "bpf", 1)]), None);
        let records = [
            refused(before, "ptrace", 1),
            heard(before),
            refused(SESSION, "bpf", 1),
            refused(SESSION, "unshare", 1),
            refused(SESSION, "bpf", 7),
            heard(SESSION),
        ];
        let expected = Denials {
            seccomp: Calls {
                not_recorded: None,
                refused: [("bpf".to_owned(), 7), ("unshare".to_owned(), 1)].into(),
            },
            landlock: Paths {
                not_recorded: Some("it is off".to_owned()),
                refused: Vec::new(),
            },
        };
        assert_eq!(Denials::of(&records), Some(expected));
    }
}
