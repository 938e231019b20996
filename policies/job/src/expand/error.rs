//! What can be wrong with a recipe that was opened. Others than its client see these messages, so they repeat none of it.

use crate::{
    job_recipe::{JOB_RECIPE_MAX, TASK_MAX},
    recipe, space,
};

/// A recipe that is none, or a task that is none. The messages repeat no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is larger than any object of its kind.
    #[error("a job's recipe of {len} bytes is too long (at most {JOB_RECIPE_MAX})")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The bytes do not begin like a recipe of this version.
    #[error("not a job's recipe, or one of another version")]
    NotARecipe,
    /// The bytes after the beginning are damaged.
    #[error("a job's recipe does not decode")]
    Damaged {
        /// Why.
        source: postcard::Error,
    },
    /// More bytes follow the recipe.
    #[error("a job's recipe is followed by {len} more bytes")]
    Trailing {
        /// How many.
        len: usize,
    },
    /// The recipe of a single command is none.
    #[error("a recipe cannot be used")]
    Recipe {
        /// Why.
        source: recipe::Error,
    },
    /// Something has no or too many parts.
    #[error("a recipe has no steps, or too many steps, parameters, words, files or outputs")]
    TooMany,
    /// A parameter's value is too long.
    #[error(
        "a parameter's value is too long (at most {} bytes)",
        crate::job_recipe::VALUE_MAX
    )]
    LongValue,
    /// A name is no identifier, or is there twice.
    #[error("a name is not an identifier, or is there twice")]
    BadName,
    /// A file's name is not one part of a path, or is there twice.
    #[error("a file's name has a '/', is too long, is there twice, or is one of ours")]
    BadFileName,
    /// The title is too long or would move a terminal's cursor.
    #[error("the title is too long or has a control character")]
    BadTitle,
    /// The parameter space is none.
    #[error("a step's tasks cannot be counted")]
    Space {
        /// Why.
        #[from]
        source: space::Error,
    },
    /// There is no such step or task.
    #[error("the job has no task {task} in step {step}")]
    NoTask {
        /// The step's index.
        step: u32,
        /// The task's index.
        task: u64,
    },
    /// A time is none.
    #[error("a time limit or a time of notice is no positive number of seconds")]
    BadTime,
    /// There is nothing to run.
    #[error("the command is empty")]
    NoCommand,
    /// A text has something else in braces than a name that has a value here.
    #[error("a text refers to something that has no value here")]
    Reference,
    /// The kernel takes words that end at a NUL.
    #[error("a word of the command has a NUL")]
    Nul,
    /// The task does not fit a message.
    #[error("a task with its embedded files is too long (at most {TASK_MAX} bytes)")]
    LongTask,
    /// An embedded file is to be run, but says not by what.
    #[error("an embedded file that is run must be runnable and begin with '#!' and an interpreter")]
    NoInterpreter,
    /// A run of `#` stands for nothing.
    #[error(
        "an expected output has '#', but the step has no one integer parameter, or none called Frame"
    )]
    NoFrame,
    /// An output is expected where nothing can be written.
    #[error("an expected output lies below no central path that may be written")]
    OutsideOutput,
    /// An output is expected twice.
    #[error("an output is expected twice")]
    ExpectedTwice,
}
