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
    /// True if samples of one round belong together, and are compared with each other before anything else.
    paired: bool,
}

/// A goal and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Judged {
    /// The goal in words.
    pub(super) goal: String,
    /// The value that is compared with it; none if it was not measured.
    pub(super) measured: Option<f64>,
    pub(super) met: Option<bool>,
    /// Between which two values what was measured is with 95 %; of pairs only, and of no fewer than can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) between: Option<(f64, f64)>,
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
            paired: false,
        }
    }

    /// Compares what each round measured by itself: the ratio is the middle of the rounds' ratios.
    pub(crate) fn paired(mut self) -> Self {
        self.paired = true;
        self
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
        let ratio = match self.paired {
            true => median(&self.ratios(contender)?)?,
            false => self.times(self.median(OURS)?, self.median(contender)?),
        };
        ratio.is_finite().then_some(ratio)
    }

    fn times(&self, ours: f64, theirs: f64) -> f64 {
        match self.better {
            Better::More => ours / theirs,
            Better::Less => theirs / ours,
        }
    }

    /// The ratio of each round.
    fn ratios(&self, contender: &str) -> Option<Vec<f64>> {
        let of = |name: &str| self.samples.iter().find(|(who, _)| *who == name);
        let ((_, ours), (_, theirs)) = (of(OURS)?, of(contender)?);
        let pairs = ours.iter().zip(theirs);
        Some(
            pairs
                .map(|(ours, theirs)| self.times(*ours, *theirs))
                .collect(),
        )
    }

    /// Each goal, and what came of it.
    pub(super) fn judged(&self) -> Vec<Judged> {
        self.goals.iter().map(|goal| self.judge(goal)).collect()
    }

    fn judge(&self, goal: &Goal) -> Judged {
        let ours = self.median(OURS);
        let between = match goal {
            Goal::Times(_, [only]) if self.paired => {
                self.ratios(only).and_then(|ratios| between(&ratios))
            }
            _ => None,
        };
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
            between,
        }
    }
}

/// Between which two of the samples their true middle is with at least 95 %, whatever they are spread like: so many of them are below it as
/// heads come up in as many throws. `None` if there are too few to tell.
fn between(samples: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    // The chance of so many heads, and of so many or fewer.
    let mut chance = 0.5_f64.powi(i32::try_from(count).ok()?);
    let (mut fewer, mut outside) = (chance, None);
    for heads in 0..count / 2 {
        if 2.0 * fewer > 0.05 {
            break;
        }
        outside = Some(heads);
        chance *= (count - heads) as f64 / (heads + 1) as f64;
        fewer += chance;
    }
    let outside = outside?;
    Some((sorted[outside], sorted[count - 1 - outside]))
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

    /// The numbers of the two samples are those of the tables of the sign test (for example Conover, table A3).
    #[test]
    fn between_is_as_the_tables_have_it() {
        let numbers = |count: u32| -> Vec<f64> { (1..=count).map(f64::from).rev().collect() };
        for (count, expected) in [
            (0, None),
            (5, None),
            (6, Some((1.0, 6.0))),
            (8, Some((1.0, 8.0))),
            (9, Some((2.0, 8.0))),
            (15, Some((4.0, 12.0))),
            (20, Some((6.0, 15.0))),
            (25, Some((8.0, 18.0))),
        ] {
            assert_eq!(between(&numbers(count)), expected, "{count}");
        }
    }

    /// Rounds differ by far more than the contenders do, and still each round says which is the faster.
    #[test]
    fn pairs_tell_what_medians_do_not() {
        let mut row = Row::new("frame", "s", Better::Less)
            .paired()
            .goal(Goal::Times(0.99, &["no log"]));
        for round in 0..15 {
            let theirs = if round < 8 { 2.0 } else { 4.0 };
            let cost = 1.02 + f64::from(round % 5) / 1000.0;
            row.sample("no log", theirs);
            row.sample(OURS, theirs * cost);
        }
        let judged = row.judged().remove(0);
        let (low, high) = judged.between.expect("enough pairs");
        assert!(0.97 < low && low < high && high < 0.99, "{judged:?}");
        assert_eq!(judged.met, Some(false));
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(json["goals"][0]["between"][0], low);
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
