//! The parameter space of a step: how many tasks, and the values of the one that is asked for.
//!
//! A space keeps ranges as ranges, so a step of a million frames is a few bytes and its last task is found as fast as its first. The
//! library does the arithmetic; this is the form that is sealed, and it is bounded before the library sees it.

use openjd_expr::{RangeExpr, range_expr::IntRange};
use openjd_model::{
    StepParameterSpaceIterator,
    job::{StepParameterSpace, TaskParamRange, TaskParameter},
};
use serde::{Deserialize, Serialize};

use crate::source::TASKS_MAX;

/// The most parameters of a step.
const PARAMETERS_MAX: usize = 16;

/// The longest combination expression in bytes (OpenJD 3.4.2 has 1,280).
const COMBINATION_MAX: usize = 1280;

/// The most values of a list (OpenJD 3.4.1 has 1,024).
const LIST_MAX: usize = 1024;

/// Parameters of tasks and how they combine.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Space {
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) combination: Option<String>,
}

/// One parameter of tasks.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) values: Values,
}

/// The values of a parameter, in order.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Values {
    /// First, last, step: ascending and apart.
    Ranges(Vec<(i64, i64, i64)>),
    /// Integers in the client's order.
    Integers(Vec<i64>),
    /// Texts.
    Texts(Vec<String>),
}

/// A space that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is too large, or empty.
    #[error("a step has no task, or too many")]
    Size,
    /// Its parts do not fit together.
    #[error("a step's parameters do not combine")]
    Shape,
}

impl Space {
    /// Takes over a space that the library has resolved. `None` if it has a type of parameter that is not supported.
    pub(crate) fn take(resolved: Option<&StepParameterSpace>) -> Option<Self> {
        let Some(resolved) = resolved else {
            return Some(Self::default());
        };
        let definitions = &resolved.task_parameter_definitions;
        let parameters = definitions.iter().map(|(name, parameter)| {
            let values = match parameter {
                TaskParameter::Int {
                    range: TaskParamRange::RangeExpr(range),
                    chunks: None,
                } => {
                    let of = |it: &IntRange| (it.start(), it.end(), it.step());
                    Values::Ranges(range.ranges().iter().map(of).collect())
                }
                TaskParameter::Int {
                    range: TaskParamRange::List(list),
                    chunks: None,
                } => Values::Integers(list.clone()),
                TaskParameter::String { range } => Values::Texts(range.clone()),
                _ => return None,
            };
            let name = name.clone();
            Some(Parameter { name, values })
        });
        Some(Self {
            parameters: parameters.collect::<Option<Vec<_>>>()?,
            combination: resolved.combination.clone(),
        })
    }

    /// The number of tasks.
    pub(crate) fn tasks(&self) -> Result<u64, Error> {
        self.iterator().map(|(_, tasks)| tasks)
    }

    /// The values of one task by parameter, or `None` beyond the last.
    pub(crate) fn task(&self, task: u64) -> Result<Option<Vec<(String, String)>>, Error> {
        let (iterator, tasks) = self.iterator()?;
        if task >= tasks {
            return Ok(None);
        }
        let index = usize::try_from(task).map_err(|_| Error::Size)?;
        let values = iterator.get(index).ok_or(Error::Shape)?;
        let mut texts = Vec::with_capacity(self.parameters.len());
        for Parameter { name, .. } in &self.parameters {
            let value = values.get(name).ok_or(Error::Shape)?;
            texts.push((name.clone(), value.value.to_display_string()));
        }
        Ok(Some(texts))
    }

    /// The parameter that counts frames: the only integer, or the one of several that is called `Frame`.
    pub(crate) fn frame(&self) -> Option<&str> {
        let integers = || {
            let texts = |it: &&Parameter| !matches!(it.values, Values::Texts(_));
            self.parameters.iter().filter(texts)
        };
        let only = integers().next().filter(|_| integers().count() == 1);
        only.or_else(|| integers().find(|it| it.name == "Frame"))
            .map(|it| it.name.as_str())
    }

    /// The library's view of the space, which makes no task before it is asked for, and the number of tasks.
    fn iterator(&self) -> Result<(StepParameterSpaceIterator, u64), Error> {
        let combination = self.combination.as_deref().unwrap_or_default();
        if self.parameters.len() > PARAMETERS_MAX || combination.len() > COMBINATION_MAX {
            return Err(Error::Size);
        }
        let definitions = self.parameters.iter().map(|parameter| {
            let values = parameter.values.to_library()?;
            Ok((parameter.name.clone(), values))
        });
        let space = StepParameterSpace {
            task_parameter_definitions: definitions.collect::<Result<_, Error>>()?,
            combination: self.combination.clone(),
        };
        if space.task_parameter_definitions.len() != self.parameters.len() {
            return Err(Error::Shape);
        }
        let iterator = StepParameterSpaceIterator::new(&space).map_err(|_| Error::Shape)?;
        let tasks = iterator.len() as u64;
        if tasks == 0 || tasks > TASKS_MAX {
            return Err(Error::Size);
        }
        Ok((iterator, tasks))
    }
}

impl Values {
    fn to_library(&self) -> Result<TaskParameter, Error> {
        Ok(match self {
            Self::Ranges(ranges) => {
                let ranges = ranges
                    .iter()
                    .map(|(first, last, step)| IntRange::new(*first, *last, *step))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|_| Error::Shape)?;
                let range = RangeExpr::from_ranges(ranges).map_err(|_| Error::Shape)?;
                TaskParameter::Int {
                    range: TaskParamRange::RangeExpr(range),
                    chunks: None,
                }
            }
            Self::Integers(list) if list.len() <= LIST_MAX => TaskParameter::Int {
                range: TaskParamRange::List(list.clone()),
                chunks: None,
            },
            Self::Texts(list) if list.len() <= LIST_MAX => TaskParameter::String {
                range: list.clone(),
            },
            Self::Integers(_) | Self::Texts(_) => return Err(Error::Size),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space(parameters: Vec<(&str, Values)>, combination: Option<&str>) -> Space {
        let parameter = |(name, values): (&str, Values)| Parameter {
            name: name.to_owned(),
            values,
        };
        Space {
            parameters: parameters.into_iter().map(parameter).collect(),
            combination: combination.map(str::to_owned),
        }
    }

    fn row(values: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Some(values.iter().map(own).collect())
    }

    #[test]
    fn the_last_of_very_many_tasks_is_found_at_once() {
        let frames = space(
            vec![("Frame", Values::Ranges(vec![(1, 16_000_000, 1)]))],
            None,
        );
        assert_eq!(frames.tasks(), Ok(16_000_000));
        assert_eq!(frames.task(15_999_999), Ok(row(&[("Frame", "16000000")])));
        assert_eq!(frames.task(16_000_000), Ok(None));
        assert_eq!(frames.task(u64::MAX), Ok(None));
    }

    #[test]
    fn parameters_combine_as_written() {
        let parameters = || {
            vec![
                ("Frame", Values::Ranges(vec![(1, 10, 3), (20, 20, 1)])),
                (
                    "Eye",
                    Values::Texts(vec!["left".to_owned(), "right".to_owned()]),
                ),
            ]
        };
        let product = space(parameters(), None);
        assert_eq!(product.tasks(), Ok(10));
        assert_eq!(product.task(0), Ok(row(&[("Frame", "1"), ("Eye", "left")])));
        assert_eq!(
            product.task(3),
            Ok(row(&[("Frame", "4"), ("Eye", "right")]))
        );
        assert_eq!(
            product.task(9),
            Ok(row(&[("Frame", "20"), ("Eye", "right")]))
        );
        let pairs = vec![
            ("Frame", Values::Integers(vec![9, -3])),
            parameters().remove(1),
        ];
        let pairs = space(pairs, Some("(Frame, Eye)"));
        assert_eq!(pairs.tasks(), Ok(2));
        assert_eq!(pairs.task(1), Ok(row(&[("Frame", "-3"), ("Eye", "right")])));
        assert_eq!(space(vec![], None).task(0), Ok(Some(vec![])));
        assert_eq!(space(vec![], None).task(1), Ok(None));
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn a_hostile_space_is_refused() {
        let huge = || Values::Ranges(vec![(0, 1 << 60, 1)]);
        for (bad, error) in [
            (space(vec![("A", huge())], None), Error::Size),
            (
                space(vec![("A", huge()), ("B", huge())], None),
                Error::Shape,
            ),
            (
                space(vec![("A", Values::Ranges(vec![]))], None),
                Error::Shape,
            ),
            (
                space(vec![("A", Values::Integers(vec![]))], None),
                Error::Size,
            ),
            (
                space(vec![("A", Values::Ranges(vec![(1, 5, 0)]))], None),
                Error::Shape,
            ),
            (
                space(vec![("A", Values::Ranges(vec![(5, 1, 1)]))], None),
                Error::Shape,
            ),
            (
                space(
                    vec![("A", Values::Ranges(vec![(1, 5, 1), (3, 9, 1)]))],
                    None,
                ),
                Error::Shape,
            ),
            (
                space(vec![("A", Values::Integers(vec![1; 1025]))], None),
                Error::Size,
            ),
            (
                space(vec![("A", huge()), ("A", huge())], None),
                Error::Shape,
            ),
            (
                space(vec![("A", Values::Integers(vec![1]))], Some("B")),
                Error::Shape,
            ),
            (
                space(vec![("A", Values::Integers(vec![1]))], Some("(A")),
                Error::Shape,
            ),
            (
                space(
                    vec![("A", Values::Integers(vec![1]))],
                    Some(&"(".repeat(1280)),
                ),
                Error::Shape,
            ),
            (
                space(
                    vec![("A", Values::Integers(vec![1]))],
                    Some(&"(".repeat(1281)),
                ),
                Error::Size,
            ),
            (
                space(
                    vec![
                        ("A", Values::Integers(vec![1])),
                        ("B", Values::Integers(vec![1, 2])),
                    ],
                    Some("(A, B)"),
                ),
                Error::Shape,
            ),
        ] {
            assert_eq!(bad.tasks(), Err(error));
        }
    }

    #[test]
    fn the_frame_is_the_integer_that_nobody_doubts() {
        let one = || Values::Integers(vec![1]);
        let text = || Values::Texts(vec!["x".to_owned()]);
        for (parameters, frame) in [
            (vec![("N", one())], Some("N")),
            (vec![("N", one()), ("Eye", text())], Some("N")),
            (vec![("N", one()), ("Frame", one())], Some("Frame")),
            (vec![("N", one()), ("M", one())], None),
            (vec![("Frame", text())], None),
        ] {
            assert_eq!(space(parameters, None).frame(), frame);
        }
    }

    proptest! {
        #[test]
        fn no_space_breaks_the_library(
            ranges in prop::collection::vec((any::<i64>(), any::<i64>(), any::<i64>()), 0..4),
            list in prop::collection::vec(any::<i64>(), 0..4),
            combination in prop::option::of("[AB(),* ]{0,12}"),
            task in any::<u64>(),
        ) {
            let all = space(
                vec![("A", Values::Ranges(ranges)), ("B", Values::Integers(list))],
                combination.as_deref(),
            );
            let _ = all.tasks();
            let _ = all.task(task);
            let _ = all.task(0);
        }
    }
}
