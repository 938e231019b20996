//! What can be wrong with a log, and how the order of its records tells it. Pure.

use std::fmt;

/// One thing that is wrong. Records count from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// The header was changed.
    HeaderChanged,
    /// A record was changed, or its length or its link.
    Changed {
        /// The record.
        record: u64,
    },
    /// Records are not there, but later ones are.
    Missing {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// Records stand after records that were written later.
    OutOfOrder {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// Records are there twice.
    Repeated {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// The log ends before the anchor: its end was removed.
    CutOff {
        /// The last record that is there.
        after: u64,
        /// The number of records that were there when the anchor was noted.
        anchored: u64,
    },
    /// The log is whole in itself but is not the one that the anchor was noted for: records up to the anchor were rewritten.
    Rewritten {
        /// The anchored record.
        record: u64,
    },
    /// The log ends with an incomplete record. A crash does this, to bytes that were never anchored.
    Torn {
        /// The last whole record.
        after: u64,
        /// The bytes after it.
        bytes: u64,
    },
    /// Bytes that are no records follow.
    Garbage {
        /// The last record before them.
        after: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// So much is wrong that the rest was not looked at.
    TooMany {
        /// The last record that was looked at.
        after: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::HeaderChanged => f.write_str("the header was changed"),
            Self::Changed { record } => write!(f, "record {record} was changed"),
            Self::Missing { first, last } if first == last => {
                write!(f, "record {first} is missing")
            }
            Self::Missing { first, last } => write!(f, "records {first} to {last} are missing"),
            Self::OutOfOrder { first, last } if first == last => {
                write!(f, "record {first} is out of order")
            }
            Self::OutOfOrder { first, last } => {
                write!(f, "records {first} to {last} are out of order")
            }
            Self::Repeated { first, last } if first == last => {
                write!(f, "record {first} is there twice")
            }
            Self::Repeated { first, last } => {
                write!(f, "records {first} to {last} are there twice")
            }
            Self::CutOff { after, anchored } => write!(
                f,
                "the log was cut off after record {after}; there were {anchored}"
            ),
            Self::Rewritten { record } => {
                write!(f, "the log was rewritten at or before record {record}")
            }
            Self::Torn { after, bytes } => write!(
                f,
                "an incomplete record of {bytes} bytes follows record {after}"
            ),
            Self::Garbage { after, bytes } => {
                write!(f, "{bytes} bytes that are no records follow record {after}")
            }
            Self::TooMany { after } => write!(
                f,
                "too much is wrong: nothing after record {after} was looked at"
            ),
        }
    }
}

/// Records that follow each other in the file and in number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// What the order of the runs in the file tells.
pub(crate) fn order(runs: &[Run]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen: Vec<Run> = Vec::new();
    let mut highest = 0;
    for run in runs {
        let mut next = run.first;
        // `seen` is sorted and disjoint: walk the parts of the run that were there before and those that were not.
        for old in seen
            .iter()
            .filter(|old| old.last >= run.first && old.first <= run.last)
        {
            if old.first > next {
                findings.extend(late(next, old.first - 1, highest));
            }
            let (first, last) = (old.first.max(run.first), old.last.min(run.last));
            findings.push(Finding::Repeated { first, last });
            next = last.saturating_add(1);
        }
        if next <= run.last {
            findings.extend(late(next, run.last, highest));
        }
        highest = highest.max(run.last);
        insert(&mut seen, *run);
    }
    let mut next = 1;
    for run in &seen {
        if run.first > next {
            findings.push(Finding::Missing {
                first: next,
                last: run.first - 1,
            });
        }
        next = run.last.saturating_add(1);
    }
    findings
}

/// Records that come after a higher one.
fn late(first: u64, last: u64, highest: u64) -> Option<Finding> {
    (first < highest).then_some(Finding::OutOfOrder {
        first,
        last: last.min(highest),
    })
}

/// Adds a run to sorted, disjoint, non-touching runs.
fn insert(seen: &mut Vec<Run>, run: Run) {
    let mut merged = run;
    seen.retain(|old| {
        let apart =
            old.last.saturating_add(1) < merged.first || merged.last.saturating_add(1) < old.first;
        if !apart {
            merged.first = merged.first.min(old.first);
            merged.last = merged.last.max(old.last);
        }
        apart
    });
    let at = seen.partition_point(|old| old.first < merged.first);
    seen.insert(at, merged);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_tells_what_happened() {
        use Finding::{Missing, OutOfOrder, Repeated};
        type Row = (&'static [(u64, u64)], Vec<Finding>);
        let table: [Row; 9] = [
            (&[(1, 50)], vec![]),
            (&[(1, 9), (10, 50)], vec![]),
            (&[], vec![]),
            (
                &[(1, 9), (11, 50)],
                vec![Missing {
                    first: 10,
                    last: 10,
                }],
            ),
            (&[(3, 50)], vec![Missing { first: 1, last: 2 }]),
            (
                &[(1, 9), (11, 11), (10, 10), (12, 50)],
                vec![OutOfOrder {
                    first: 10,
                    last: 10,
                }],
            ),
            (
                &[(1, 10), (10, 50)],
                vec![Repeated {
                    first: 10,
                    last: 10,
                }],
            ),
            (&[(1, 10), (5, 50)], vec![Repeated { first: 5, last: 10 }]),
            (
                &[(1, 5), (u64::MAX, u64::MAX)],
                vec![Missing {
                    first: 6,
                    last: u64::MAX - 1,
                }],
            ),
        ];
        for (runs, expected) in table {
            let runs: Vec<Run> = runs
                .iter()
                .map(|(first, last)| Run {
                    first: *first,
                    last: *last,
                })
                .collect();
            assert_eq!(order(&runs), expected, "{runs:?}");
        }
    }

    #[test]
    fn findings_are_sentences() {
        assert_eq!(
            Finding::Missing { first: 3, last: 3 }.to_string(),
            "record 3 is missing"
        );
        assert_eq!(
            Finding::CutOff {
                after: 40,
                anchored: 50
            }
            .to_string(),
            "the log was cut off after record 40; there were 50"
        );
    }
}
