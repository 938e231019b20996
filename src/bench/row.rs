//! One row of a bench: samples of each contender, their medians and ratios, and whether the goals are met. Pure.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::OURS;

/// Which of two values is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    /// The larger: a rate.
    More,
    /// The smaller: a time, or memory.
    Less,
}

/// What a row is to come to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Goal {
    /// At least so many times as good as the best of these contenders.
    Times(f64, &'static [&'static str]),
    /// Our own median is at least this.
    AtLeast(f64),
    /// Our own median is at most this.
    AtMost(f64),
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    name: &'static str,
    unit: &'static str,
    better: Better,
    goals: Vec<Goal>,
    samples: Vec<(&'static str, Vec<f64>)>,
    absent: Vec<(&'static str, String)>,
}

/// A goal and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Judged {
    /// The goal in words.
    pub(super) goal: String,
    /// The value that is compared with it; none if it was not measured.
    pub(super) measured: Option<f64>,
    pub(super) met: Option<bool>,
}

impl Row {
    /// A row without samples. The name is stable: scripts ask for it.
    pub(crate) fn new(name: &'static str, unit: &'static str, better: Better) -> Self {
        Self {
            name,
            unit,
            better,
            goals: Vec::new(),
            samples: Vec::new(),
            absent: Vec::new(),
        }
    }

    /// Adds a goal.
    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        self.goals.push(goal);
        self
    }

    /// True if there is something that it is to come to.
    #[cfg(test)]
    pub(crate) fn has_goal(&self) -> bool {
        !self.goals.is_empty()
    }

    /// The row's name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The row's unit.
    pub(super) fn unit(&self) -> &'static str {
        self.unit
    }

    /// Adds a sample of a contender's.
    pub(crate) fn sample(&mut self, contender: &'static str, value: f64) {
        match self.samples.iter_mut().find(|(who, _)| *who == contender) {
            Some((_, samples)) => samples.push(value),
            None => self.samples.push((contender, vec![value])),
        }
    }

    /// Says why there are no samples of a contender's.
    pub(crate) fn absent(&mut self, contender: &'static str, why: impl Into<String>) {
        if !self.absent.iter().any(|(who, _)| *who == contender) {
            self.absent.push((contender, why.into()));
        }
    }

    /// Why a contender has no samples here.
    pub(super) fn why_absent(&self, contender: &str) -> Option<&str> {
        let absent = self.absent.iter().find(|(who, _)| *who == contender);
        absent.map(|(_, why)| why.as_str())
    }

    /// Every contender, ours first, then as they came.
    pub(super) fn contenders(&self) -> Vec<&'static str> {
        let measured = self.samples.iter().map(|(who, _)| *who);
        let absent = self.absent.iter().map(|(who, _)| *who);
        let mut all: Vec<_> = measured.chain(absent).collect();
        all.sort_by_key(|who| *who != OURS);
        all
    }

    /// The middle of a contender's samples.
    pub(super) fn median(&self, contender: &str) -> Option<f64> {
        let (_, samples) = self.samples.iter().find(|(who, _)| *who == contender)?;
        median(samples)
    }

    /// How many times as good we are as a contender: above 1 we are better, whatever the unit.
    pub(super) fn ratio(&self, contender: &str) -> Option<f64> {
        let (ours, theirs) = (self.median(OURS)?, self.median(contender)?);
        let ratio = match self.better {
            Better::More => ours / theirs,
            Better::Less => theirs / ours,
        };
        ratio.is_finite().then_some(ratio)
    }

    /// Each goal, and what came of it.
    pub(super) fn judged(&self) -> Vec<Judged> {
        self.goals.iter().map(|goal| self.judge(goal)).collect()
    }

    fn judge(&self, goal: &Goal) -> Judged {
        let ours = self.median(OURS);
        let (goal, measured, met) = match *goal {
            Goal::Times(least, others) => {
                // The best of them is the one that we are least far ahead of. All must have been measured.
                let ratios: Option<Vec<f64>> = others.iter().map(|who| self.ratio(who)).collect();
                let nearest = ratios.and_then(|ratios| ratios.into_iter().reduce(f64::min));
                let goal = format!(">= {least} times {}", others.join(", "));
                (goal, nearest, nearest.map(|is| is >= least))
            }
            Goal::AtLeast(least) => {
                let goal = format!(">= {least} {}", self.unit);
                (goal, ours, ours.map(|is| is >= least))
            }
            Goal::AtMost(most) => {
                let goal = format!("<= {most} {}", self.unit);
                (goal, ours, ours.map(|is| is <= most))
            }
        };
        Judged {
            goal,
            measured,
            met,
        }
    }
}

/// The middle of some samples, or the mean of the two in the middle.
fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Names and values as a JSON object, in this order.
struct Object<'a, T>(&'a [(&'static str, T)]);

impl<T: Serialize> Serialize for Object<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of_each = |value: &dyn Fn(&str) -> Option<f64>| -> BTreeMap<&str, f64> {
            let all = self.samples.iter();
            all.filter_map(|(who, _)| Some((*who, value(who)?)))
                .collect()
        };
        let mut ratios = of_each(&|who| self.ratio(who));
        ratios.remove(OURS);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.name)?;
        map.serialize_entry("unit", self.unit)?;
        map.serialize_entry("better", &self.better)?;
        map.serialize_entry("samples", &Object(&self.samples))?;
        map.serialize_entry("median", &of_each(&|who| self.median(who)))?;
        map.serialize_entry("ratio", &ratios)?;
        map.serialize_entry("absent", &Object(&self.absent))?;
        map.serialize_entry("goals", &self.judged())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 100.0, 2.0]), Some(3.0));
    }

    fn row(better: Better, ours: f64, theirs: f64) -> Row {
        let mut row = Row::new("write", "MB/s", better);
        row.sample("disk", theirs);
        row.sample(OURS, ours);
        row
    }

    #[test]
    fn above_one_is_better_whatever_the_unit() {
        assert_eq!(row(Better::More, 300.0, 100.0).ratio("disk"), Some(3.0));
        assert_eq!(row(Better::Less, 100.0, 300.0).ratio("disk"), Some(3.0));
        assert_eq!(row(Better::Less, 0.0, 0.0).ratio("disk"), None);
        assert_eq!(row(Better::More, 1.0, 1.0).ratio("nobody"), None);
    }

    #[test]
    fn a_goal_is_met_missed_or_not_measured() {
        let judge = |row: Row, goal| {
            let judged = row.goal(goal).judged().remove(0);
            (judged.goal, judged.met)
        };
        let times = |wanted| Goal::Times(wanted, &["disk"]);
        let measured = || row(Better::More, 95.0, 100.0);
        assert_eq!(
            judge(measured(), times(0.9)),
            (">= 0.9 times disk".to_owned(), Some(true))
        );
        assert_eq!(judge(measured(), times(0.96)).1, Some(false));
        // The best of two counts, and both must be there.
        let mut both = measured();
        both.sample("gocryptfs", 190.0);
        let best = || Goal::Times(0.6, &["disk", "gocryptfs"]);
        assert_eq!(judge(both, best()).1, Some(false));
        let mut one = measured();
        one.absent("gocryptfs", "not installed");
        assert_eq!(
            judge(one, best()),
            (">= 0.6 times disk, gocryptfs".to_owned(), None)
        );
        assert_eq!(
            judge(measured(), Goal::AtLeast(10_000.0)),
            (">= 10000 MB/s".to_owned(), Some(false))
        );
        assert_eq!(judge(measured(), Goal::AtMost(95.0)).1, Some(true));
        assert_eq!(judge(measured(), Goal::AtMost(94.0)).1, Some(false));
    }

    #[test]
    fn a_row_as_a_script_reads_it() {
        let mut row = row(Better::More, 100.0, 50.0).goal(Goal::Times(2.0, &["disk"]));
        row.sample(OURS, 300.0);
        row.absent("securefs", "not installed");
        let expected = serde_json::json!({
            "name": "write", "unit": "MB/s", "better": "more",
            "samples": {"safelight": [100.0, 300.0], "disk": [50.0]},
            "median": {"safelight": 200.0, "disk": 50.0},
            "ratio": {"disk": 4.0},
            "absent": {"securefs": "not installed"},
            "goals": [{"goal": ">= 2 times disk", "measured": 4.0, "met": true}],
        });
        assert_eq!(serde_json::to_value(&row).unwrap(), expected);
    }
}
