//! Measuring side by side: what every `safelight bench` has in common, whatever it measures.
//!
//! A bench is a list of [`Row`]s. A row is measured in rounds; in each round every contender has one turn, and who begins changes from
//! round to round, so that whatever else the machine does hits all of them. What counts is the ratio of medians. A contender that is not
//! there is named with the reason, and a goal that could not be measured is never shown as met.

pub(crate) mod audit;
pub(crate) mod bundle;
pub(crate) mod dispatch;
mod host;
pub(crate) mod launch;
mod report;
mod row;
pub(crate) mod vfs;

pub(crate) use self::{
    host::{HostFacts, version_of},
    report::Report,
    row::{Better, Goal, Row},
};
use crate::failure::Failure;

/// The name of our own contender in every row.
pub(crate) const OURS: &str = "safelight";

/// The order of turns in a round: everybody once, each round another one first.
pub(crate) fn order(round: usize, contenders: usize) -> impl Iterator<Item = usize> {
    (0..contenders).map(move |turn| (round + turn) % contenders)
}

/// Gives every contender one turn in each round.
pub(crate) fn rounds<C>(
    count: usize,
    contenders: &mut [C],
    mut turn: impl FnMut(usize, &mut C) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for round in 0..count {
        for at in order(round, contenders.len()) {
            turn(round, &mut contenders[at])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_one_turn_a_round_and_begins_in_turn() {
        let mut seen = Vec::new();
        rounds(3, &mut ["a", "b", "c"], |round, who| {
            seen.push((round, *who));
            Ok(())
        })
        .unwrap();
        let expected = [
            [(0, "a"), (0, "b"), (0, "c")],
            [(1, "b"), (1, "c"), (1, "a")],
            [(2, "c"), (2, "a"), (2, "b")],
        ];
        assert_eq!(seen, expected.concat());
    }
}
