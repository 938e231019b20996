//! The parameter space of a step: how many tasks, and the values of the one that is asked for.
//!
//! A space keeps ranges as ranges, so a step of a million frames is a few bytes and its last task is found as fast as its first. The
//! library does the arithmetic; this is the form that is sealed, and it is bounded before the library sees it.

use openjd_expr::{ExprValue, RangeExpr, range_expr::IntRange};
use openjd_model::{
    StepParameterSpaceIterator,
    job::{ResolvedChunks, StepParameterSpace, TaskParamRange, TaskParameter},
    template::RangeConstraint,
};
use serde::{Deserialize, Serialize};

use crate::{place::Places, source::TASKS_MAX};

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
    /// Several of its values make one task.
    pub(crate) chunk: Option<Chunk>,
}

/// How values are put together.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// How many; 0 leaves it to who gives them out, and a task is one value then.
    pub(crate) size: u32,
    /// Only values that follow each other.
    pub(crate) contiguous: bool,
}

/// The values of a parameter, in order.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Values {
    /// First, last, step: ascending and apart.
    Ranges(Vec<(i64, i64, i64)>),
    /// Integers in the client's order.
    Integers(Vec<i64>),
    /// Texts, and numbers with fractions as they were written.
    Texts(Vec<String>),
    /// Paths: as written, and as the session sees them.
    Paths(Vec<(String, String)>),
}

/// The value of one parameter of one task.
#[derive(Clone, PartialEq)]
pub(crate) struct Value {
    pub(crate) name: String,
    /// As written.
    pub(crate) raw: String,
    /// As the session sees it, if that is another text.
    pub(crate) mapped: Option<String>,
    /// The integers of a chunk.
    pub(crate) chunk: Option<RangeExpr>,
}

/// What the author of an adaptive space asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How many values one chunk has at first.
    pub(crate) size: u32,
    /// How many seconds it should take.
    pub(crate) seconds: u64,
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

/// The pace that an adaptive space asks for.
pub(crate) fn pace(resolved: Option<&StepParameterSpace>) -> Option<Pace> {
    let definitions = &resolved?.task_parameter_definitions;
    definitions.values().find_map(|parameter| match parameter {
        TaskParameter::ChunkInt { chunks, .. } => {
            let seconds = chunks.target_runtime_seconds.filter(|it| *it > 0)?;
            Some(Pace {
                size: u32::try_from(chunks.default_task_count).unwrap_or(u32::MAX),
                seconds: seconds as u64,
            })
        }
        _ => None,
    })
}

impl Space {
    /// Takes over a space that the library has resolved.
    pub(crate) fn take(resolved: Option<&StepParameterSpace>, places: &Places<'_>) -> Self {
        let Some(resolved) = resolved else {
            return Self::default();
        };
        let definitions = &resolved.task_parameter_definitions;
        let mut parameters: Vec<Parameter> = definitions
            .iter()
            .map(|(name, parameter)| Parameter::take(name, parameter, places))
            .collect();
        let mut combination = resolved.combination.clone();
        // Who gives out values one by one gives out neighbours: those of the chunk must be the fastest to change.
        let adaptive = parameters.iter().position(Parameter::is_adaptive);
        if let Some(index) = adaptive {
            let name = parameters[index].name.clone();
            match combination.as_deref().map(|it| innermost(it, &name)) {
                None => {
                    let last = parameters.remove(index);
                    parameters.push(last);
                }
                Some(Some(reordered)) => combination = Some(reordered),
                // Deep inside something else: then the size is what the author named.
                Some(None) => {
                    let size = pace(Some(resolved)).map_or(1, |pace| pace.size.max(1));
                    parameters[index].chunk =
                        parameters[index].chunk.map(|it| Chunk { size, ..it });
                }
            }
        }
        Self {
            parameters,
            combination,
        }
    }

    /// True if a task is one value, and who gives tasks out says how many make a chunk.
    pub(crate) fn is_adaptive(&self) -> bool {
        self.parameters.iter().any(Parameter::is_adaptive)
    }

    /// The number of tasks.
    pub(crate) fn tasks(&self) -> Result<u64, Error> {
        self.iterator().map(|(_, tasks)| tasks)
    }

    /// The values of one task by parameter, or `None` beyond the last; and how many tasks they are: of an adaptive space as many as
    /// belong into one chunk, but at most `most`.
    pub(crate) fn run(&self, task: u64, most: u32) -> Result<Option<(Vec<Value>, u32)>, Error> {
        let (iterator, tasks) = self.iterator()?;
        if task >= tasks {
            return Ok(None);
        }
        let mut first = self.values(&iterator, task)?;
        let Some(at) = self.parameters.iter().position(Parameter::is_adaptive) else {
            return Ok(Some((first, 1)));
        };
        let contiguous = self.parameters[at].chunk.is_some_and(|it| it.contiguous);
        let mut integers: Vec<i64> = first[at].integers().collect();
        let mut taken = 1;
        while taken < most.min(LIST_MAX as u32) && task + u64::from(taken) < tasks {
            let next = self.values(&iterator, task + u64::from(taken))?;
            let same = |index: usize| index == at || next[index] == first[index];
            let follows = next[at].integers().next().zip(integers.last().copied());
            let fits = follows.is_some_and(|(next, last)| {
                !integers.contains(&next) && (!contiguous || last.checked_add(1) == Some(next))
            });
            if !fits || !(0..next.len()).all(same) {
                break;
            }
            integers.extend(next[at].integers());
            taken += 1;
        }
        let range = RangeExpr::from_values(integers).map_err(|_| Error::Shape)?;
        let range = range.with_contiguous(contiguous);
        first[at].raw = range.to_string();
        first[at].chunk = Some(range);
        Ok(Some((first, taken)))
    }

    fn values(
        &self,
        iterator: &StepParameterSpaceIterator,
        task: u64,
    ) -> Result<Vec<Value>, Error> {
        let index = usize::try_from(task).map_err(|_| Error::Size)?;
        let values = iterator.get(index).ok_or(Error::Shape)?;
        let of = |parameter: &Parameter| {
            let value = &values.get(&parameter.name).ok_or(Error::Shape)?.value;
            let raw = value.to_display_string();
            let mapped = match &parameter.values {
                Values::Paths(list) => list.iter().find(|(written, _)| *written == raw),
                _ => None,
            };
            Ok(Value {
                name: parameter.name.clone(),
                mapped: mapped.map(|(_, seen)| seen.clone()),
                chunk: match value {
                    ExprValue::RangeExpr(range) => Some(range.clone()),
                    _ => None,
                },
                raw,
            })
        };
        self.parameters.iter().map(of).collect()
    }

    /// The parameter that counts frames: the only integer, or the one of several that is called `Frame`.
    pub(crate) fn frame(&self) -> Option<&str> {
        let integers = || {
            let integer =
                |it: &&Parameter| matches!(it.values, Values::Ranges(_) | Values::Integers(_));
            self.parameters.iter().filter(integer)
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
        let definitions = self
            .parameters
            .iter()
            .map(|parameter| Ok((parameter.name.clone(), parameter.to_library()?)));
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

impl Value {
    /// What the session sees.
    pub(crate) fn seen(&self) -> &str {
        self.mapped.as_deref().unwrap_or(&self.raw)
    }

    /// The integers that it stands for.
    pub(crate) fn integers(&self) -> impl Iterator<Item = i64> {
        let one = match self.chunk {
            Some(_) => None,
            None => self.raw.parse().ok(),
        };
        self.chunk.iter().flat_map(RangeExpr::iter).chain(one)
    }
}

impl Parameter {
    fn is_adaptive(&self) -> bool {
        self.chunk.is_some_and(|chunk| chunk.size == 0)
    }

    fn take(name: &str, parameter: &TaskParameter, places: &Places<'_>) -> Self {
        let integers = |range: &TaskParamRange<i64>| match range {
            TaskParamRange::RangeExpr(range) => {
                let of = |it: &IntRange| (it.start(), it.end(), it.step());
                Values::Ranges(range.ranges().iter().map(of).collect())
            }
            TaskParamRange::List(list) => Values::Integers(list.clone()),
        };
        let path = |path: &String| {
            let seen = places.find(path).map(|place| place.path);
            (path.clone(), seen.unwrap_or_else(|| path.clone()))
        };
        let (values, chunk) = match parameter {
            TaskParameter::Int { range, .. } => (integers(range), None),
            TaskParameter::ChunkInt { range, chunks } => (integers(range), Some(chunks)),
            TaskParameter::Float { range } => {
                let texts = range.iter().map(|it| it.to_display_string()).collect();
                (Values::Texts(texts), None)
            }
            TaskParameter::String { range } => (Values::Texts(range.clone()), None),
            TaskParameter::Path { range } => {
                (Values::Paths(range.iter().map(path).collect()), None)
            }
        };
        Self {
            name: name.to_owned(),
            values,
            chunk: chunk.map(Chunk::take),
        }
    }

    fn to_library(&self) -> Result<TaskParameter, Error> {
        let range = match &self.values {
            Values::Ranges(ranges) => {
                let ranges = ranges
                    .iter()
                    .map(|(first, last, step)| IntRange::new(*first, *last, *step))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|_| Error::Shape)?;
                let range = RangeExpr::from_ranges(ranges).map_err(|_| Error::Shape)?;
                TaskParamRange::RangeExpr(range)
            }
            Values::Integers(list) if list.len() <= LIST_MAX => TaskParamRange::List(list.clone()),
            Values::Texts(list) if list.len() <= LIST_MAX => {
                let range = list.clone();
                return Ok(TaskParameter::String { range });
            }
            Values::Paths(list) if list.len() <= LIST_MAX => {
                let range = list.iter().map(|(raw, _)| raw.clone()).collect();
                return Ok(TaskParameter::String { range });
            }
            _ => return Err(Error::Size),
        };
        Ok(match self.chunk {
            None => TaskParameter::Int {
                range,
                chunks: None,
            },
            Some(chunk) => TaskParameter::ChunkInt {
                range,
                chunks: chunk.to_library(),
            },
        })
    }
}

impl Chunk {
    fn take(written: &ResolvedChunks) -> Self {
        let adaptive = written.target_runtime_seconds.is_some_and(|it| it > 0);
        let size = u32::try_from(written.default_task_count).unwrap_or(u32::MAX);
        Self {
            size: if adaptive { 0 } else { size.max(1) },
            contiguous: written.range_constraint == RangeConstraint::Contiguous,
        }
    }

    fn to_library(self) -> ResolvedChunks {
        ResolvedChunks {
            default_task_count: self.size.max(1) as usize,
            target_runtime_seconds: None,
            range_constraint: if self.contiguous {
                RangeConstraint::Contiguous
            } else {
                RangeConstraint::Noncontiguous
            },
        }
    }
}

/// The same product with this factor last; `None` if it is not one of the outermost factors.
fn innermost(combination: &str, name: &str) -> Option<String> {
    let (mut depth, mut start) = (0i32, 0);
    let mut factors = Vec::new();
    for (at, character) in combination.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            '*' if depth == 0 => {
                factors.push(combination[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    factors.push(combination[start..].trim());
    let at = factors.iter().position(|factor| *factor == name)?;
    let last = factors.remove(at);
    factors.push(last);
    Some(factors.join(" * "))
}

#[cfg(test)]
mod tests;
