//! From a recipe to the command of one task.
//!
//! This runs where the recipe is open, next to the job key, and the recipe may have been written by anyone. So format strings are names
//! in braces and nothing else (no expression reaches the evaluator), every length is bounded, and no error repeats what it is about.

use std::{collections::BTreeMap, fmt};

use openjd_expr::SymbolTable;
use serde::{Deserialize, Serialize};

use crate::{
    job_recipe::{JOB_RECIPE_MAX, JobRecipe, MAGIC, StepRecipe, TASK_MAX},
    place::is_normal,
    recipe::{self, Recipe},
    space,
};

mod text;

use text::{Budget, numbered, resolve};

/// The session's private home in memory: a task's working directory, where its embedded files are.
pub const SESSION_DIRECTORY: &str = "/home/render";

/// The longest path in bytes, as the kernel counts them.
const PATH_MAX: usize = 4095;

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
    #[error("a file's name has a '/', is too long, or is there twice")]
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

/// What to run for one task.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCommand {
    /// The program and its arguments.
    pub command: Vec<Vec<u8>>,
    /// The working directory inside the session: absolute.
    pub directory: Vec<u8>,
    /// Variables that the job sets for itself.
    pub env: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Outputs that must exist afterwards: absolute paths below central paths.
    pub expect: Vec<Vec<u8>>,
    /// Files to write first.
    pub files: Vec<EmbeddedFile>,
}

/// A file that the job carries in its template. The launcher writes it into the session's private home before it runs the command, so it
/// is in memory only, seen by nobody else, and gone with the session. Private directories are never executable: a file that is run is
/// run by the interpreter in its first line, which [`JobRecipe::task`] has put before it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddedFile {
    /// Where: directly in [`SESSION_DIRECTORY`]. To be created, never followed or replaced.
    pub path: Vec<u8>,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// True for mode 0700 instead of 0600.
    pub executable: bool,
}

/// Expands one task of any recipe: of a job, or of the single command that is its own step 0 and task 0.
pub fn task(recipe: &[u8], step: u32, task: u64) -> Result<TaskCommand, Error> {
    if recipe.starts_with(&MAGIC) {
        return JobRecipe::decode(recipe)?.task(step, task);
    }
    let single = Recipe::decode(recipe).map_err(|source| Error::Recipe { source })?;
    if (step, task) != (0, 0) {
        return Err(Error::NoTask { step, task });
    }
    Ok(TaskCommand {
        command: single.command,
        directory: single.directory,
        env: single.env,
        expect: single.expect,
        files: Vec::new(),
    })
}

impl JobRecipe {
    /// The values of one task's parameters, by name, as texts.
    pub fn values(&self, step: u32, task: u64) -> Result<Vec<(String, String)>, Error> {
        let none = Error::NoTask { step, task };
        let recipe = self.steps.get(step as usize).ok_or_else(|| none.clone())?;
        recipe.space.task(task)?.ok_or(none)
    }

    /// The command of one task.
    pub fn task(&self, step: u32, task: u64) -> Result<TaskCommand, Error> {
        let values = self.values(step, task)?;
        let recipe = &self.steps[step as usize];
        let symbols = self.symbols(recipe, &values).ok_or(Error::BadName)?;
        let mut budget = Budget(TASK_MAX);
        let mut command = Vec::with_capacity(recipe.command.len());
        for word in &recipe.command {
            let word = resolve(word, &symbols, &mut budget)?;
            if word.contains('\0') {
                return Err(Error::Nul);
            }
            command.push(word.into_bytes());
        }
        if command.first().is_none_or(Vec::is_empty) {
            return Err(Error::NoCommand);
        }
        let files = self.files(recipe, &symbols, &mut budget)?;
        interpret(&mut command, &files)?;
        let frame = recipe.space.frame();
        let frame = values.iter().find(|(name, _)| Some(name.as_str()) == frame);
        let frame = frame.map(|(_, value)| value.as_str());
        let expect = self.outputs(recipe, frame, &symbols, &mut budget)?;
        Ok(TaskCommand {
            command,
            directory: SESSION_DIRECTORY.as_bytes().to_vec(),
            env: BTreeMap::new(),
            expect,
            files,
        })
    }

    fn symbols(&self, step: &StepRecipe, values: &[(String, String)]) -> Option<SymbolTable> {
        let mut symbols = SymbolTable::new();
        let mut set = |key: String, value: &str| symbols.set_string(&key, value).ok();
        for it in &self.parameters {
            set(format!("RawParam.{}", it.name), &it.raw)?;
            let seen = it.mapped.as_ref().unwrap_or(&it.raw);
            set(format!("Param.{}", it.name), seen)?;
        }
        for (name, value) in values {
            set(format!("Task.Param.{name}"), value)?;
            set(format!("Task.RawParam.{name}"), value)?;
        }
        for file in &step.files {
            set(format!("Task.File.{}", file.name), &at_home(&file.filename))?;
        }
        let mapped = if self.rules.is_empty() {
            "false"
        } else {
            "true"
        };
        set("Session.WorkingDirectory".to_owned(), SESSION_DIRECTORY)?;
        set("Session.HasPathMappingRules".to_owned(), mapped)?;
        set(
            "Session.PathMappingRulesFile".to_owned(),
            &at_home(&rules_file(step)),
        )?;
        Some(symbols)
    }

    fn files(
        &self,
        step: &StepRecipe,
        symbols: &SymbolTable,
        budget: &mut Budget,
    ) -> Result<Vec<EmbeddedFile>, Error> {
        let mut files = Vec::with_capacity(step.files.len());
        for file in &step.files {
            let path = at_home(&file.filename).into_bytes();
            budget.spend(path.len())?;
            files.push(EmbeddedFile {
                path,
                bytes: resolve(&file.data, symbols, budget)?.into_bytes(),
                executable: file.runnable,
            });
        }
        let texts = step
            .command
            .iter()
            .chain(step.files.iter().map(|it| &it.data));
        if texts
            .into_iter()
            .any(|it| it.contains("Session.PathMappingRulesFile"))
        {
            let rules = serde_json::json!({
                "version": "pathmapping-1.0",
                "path_mapping_rules": self.mapping(),
            });
            let bytes = rules.to_string().into_bytes();
            budget.spend(bytes.len())?;
            files.push(EmbeddedFile {
                path: at_home(&rules_file(step)).into_bytes(),
                bytes,
                executable: false,
            });
        }
        Ok(files)
    }

    fn outputs(
        &self,
        step: &StepRecipe,
        frame: Option<&str>,
        symbols: &SymbolTable,
        budget: &mut Budget,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let mut outputs: Vec<Vec<u8>> = Vec::with_capacity(step.expect.len());
        for pattern in &step.expect {
            let path = resolve(&numbered(pattern, frame)?, symbols, budget)?;
            let writable = self.writable.iter().any(|central| {
                path.strip_prefix(central.as_str())
                    .is_some_and(|below| below.starts_with('/'))
            });
            if !writable || !is_normal(&path) || path.len() > PATH_MAX {
                return Err(Error::OutsideOutput);
            }
            outputs.push(path.into_bytes());
        }
        let mut sorted: Vec<_> = outputs.iter().collect();
        sorted.sort();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::ExpectedTwice);
        }
        Ok(outputs)
    }
}

fn at_home(filename: &str) -> String {
    format!("{SESSION_DIRECTORY}/{filename}")
}

/// A name for the file of path mapping rules that no file of the step has.
fn rules_file(step: &StepRecipe) -> String {
    let mut name = "path_mapping.json".to_owned();
    while step.files.iter().any(|file| file.filename == name) {
        name.insert(0, '_');
    }
    name
}

/// Does what the kernel does with `#!`, since it cannot be asked to: the session's private directories are never executable.
fn interpret(command: &mut Vec<Vec<u8>>, files: &[EmbeddedFile]) -> Result<(), Error> {
    let Some(file) = files
        .iter()
        .find(|file| Some(&file.path) == command.first())
    else {
        return Ok(());
    };
    let line = file.bytes.split(|it| *it == b'\n').next();
    let words = line
        .and_then(|line| line.strip_prefix(b"#!"))
        .map(<[u8]>::trim_ascii)
        .filter(|words| file.executable && !words.is_empty() && !words.contains(&0))
        .ok_or(Error::NoInterpreter)?;
    let end = words.iter().position(u8::is_ascii_whitespace);
    let (interpreter, argument) = words.split_at(end.unwrap_or(words.len()));
    let argument = argument.trim_ascii();
    let before = [interpreter, argument]
        .into_iter()
        .filter(|it| !it.is_empty());
    command.splice(0..0, before.map(<[u8]>::to_vec));
    Ok(())
}

/// Says how much there is, never what.
impl fmt::Debug for TaskCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskCommand")
            .field("words", &self.command.len())
            .field("files", &self.files.len())
            .field("expected", &self.expect.len())
            .finish_non_exhaustive()
    }
}

/// Says how much there is, never what.
impl fmt::Debug for EmbeddedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedFile")
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
