//! From a recipe to the command of one task.
//!
//! This runs where the recipe is open, next to the job key, and the recipe may have been written by anyone. So format strings are names
//! in braces and nothing else (no expression reaches the evaluator), every length is bounded, and no error repeats what it is about.

use std::{collections::BTreeMap, fmt};

use openjd_expr::SymbolTable;
use serde::{Deserialize, Serialize};

use crate::{
    job_recipe::{
        ActionRecipe, Cancel, EnvironmentRecipe, FileRecipe, JobRecipe, MAGIC, StepRecipe, TASK_MAX,
    },
    place::is_normal,
    recipe::Recipe,
    space::Value,
};

mod error;
mod text;

pub use error::Error;
use text::{Budget, numbered, resolve};

/// The session's private home in memory: a task's working directory, where its embedded files are.
pub const SESSION_DIRECTORY: &str = "/home/render";

/// The longest path in bytes, as the kernel counts them.
const PATH_MAX: usize = 4095;

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
    /// Its limit in seconds, where the session has none for it alone.
    pub timeout: Option<u64>,
    /// How many seconds' notice it has before it is killed; `None` for none.
    pub notice: Option<u64>,
    /// How many of the tasks that were asked for this is.
    pub tasks: u32,
}

/// Something that is run before or after tasks.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The program and its arguments.
    pub command: Vec<Vec<u8>>,
    /// Files to write first.
    pub files: Vec<EmbeddedFile>,
    /// Its limit in seconds.
    pub timeout: Option<u64>,
    /// How many seconds' notice it has before it is killed; `None` for none.
    pub notice: Option<u64>,
}

/// What stands around the tasks of a session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Variables of all that is inside.
    pub variables: Vec<(Vec<u8>, Vec<u8>)>,
    /// Run before.
    pub enter: Option<Action>,
    /// Run after, whatever happened.
    pub exit: Option<Action>,
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

/// Seconds of notice for a task that says none (OpenJD 2023-09, 5.3.2), and for what stands around it.
const NOTICE: [u64; 2] = [120, 30];

/// Expands a task of any recipe: of a job, or of the single command that is its own step 0 and task 0. Of a job that has its frames in
/// chunks, the task may be up to `most` of them.
pub fn task(recipe: &[u8], step: u32, task: u64, most: u32) -> Result<TaskCommand, Error> {
    if recipe.starts_with(&MAGIC) {
        return JobRecipe::decode(recipe)?.task(step, task, most);
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
        timeout: None,
        notice: None,
        tasks: 1,
    })
}

/// What stands around the tasks of a step, the outermost first; `None` if its session is nothing but the one command of its task.
pub fn around(recipe: &[u8], step: u32) -> Result<Option<Vec<Environment>>, Error> {
    if !recipe.starts_with(&MAGIC) {
        return Ok(None);
    }
    JobRecipe::decode(recipe)?.around(step)
}

impl JobRecipe {
    /// The values of one task's parameters, by name, as texts.
    pub fn values(&self, step: u32, task: u64) -> Result<Vec<(String, String)>, Error> {
        let (values, _) = self.run(step, task, 1)?;
        let own = |value: Value| (value.name.clone(), value.seen().to_owned());
        Ok(values.into_iter().map(own).collect())
    }

    fn run(&self, step: u32, task: u64, most: u32) -> Result<(Vec<Value>, u32), Error> {
        let none = Error::NoTask { step, task };
        let recipe = self.steps.get(step as usize).ok_or_else(|| none.clone())?;
        recipe.space.run(task, most)?.ok_or(none)
    }

    /// The command of one task, or of up to `most` that belong into one chunk.
    pub fn task(&self, step: u32, task: u64, most: u32) -> Result<TaskCommand, Error> {
        let (values, tasks) = self.run(step, task, most)?;
        let recipe = &self.steps[step as usize];
        let mut symbols = self.symbols().ok_or(Error::BadName)?;
        let scope = |symbols: &mut SymbolTable| {
            for value in &values {
                let (raw, seen) = (&value.raw, value.seen());
                symbols
                    .set_string(&format!("Task.Param.{}", value.name), seen)
                    .ok()?;
                symbols
                    .set_string(&format!("Task.RawParam.{}", value.name), raw)
                    .ok()?;
            }
            name_files(symbols, "Task", &recipe.files)
        };
        scope(&mut symbols).ok_or(Error::BadName)?;
        let mut budget = Budget(TASK_MAX);
        let action = self.action(&recipe.run, &recipe.files, &symbols, NOTICE[0], &mut budget)?;
        let frame = recipe.space.frame();
        let frame = values
            .iter()
            .find(|value| Some(value.name.as_str()) == frame);
        let expect = self.outputs(recipe, frame, &symbols, &mut budget)?;
        Ok(TaskCommand {
            command: action.command,
            directory: SESSION_DIRECTORY.as_bytes().to_vec(),
            env: BTreeMap::new(),
            expect,
            files: action.files,
            timeout: action.timeout.filter(|_| recipe.in_turn),
            notice: action.notice,
            tasks,
        })
    }

    /// What stands around the tasks of a step; `None` if nothing in their session runs actions in turn.
    pub fn around(&self, step: u32) -> Result<Option<Vec<Environment>>, Error> {
        let none = Error::NoTask { step, task: 0 };
        let recipe = self.steps.get(step as usize).ok_or(none)?;
        if !recipe.in_turn {
            return Ok(None);
        }
        let mut budget = Budget(TASK_MAX);
        let all = self.environments.iter().chain(&recipe.environments);
        let all = all.map(|it| self.environment(it, &mut budget));
        all.collect::<Result<_, _>>().map(Some)
    }

    fn environment(
        &self,
        recipe: &EnvironmentRecipe,
        budget: &mut Budget,
    ) -> Result<Environment, Error> {
        let mut symbols = self.symbols().ok_or(Error::BadName)?;
        name_files(&mut symbols, "Env", &recipe.files).ok_or(Error::BadName)?;
        let mut variables = Vec::with_capacity(recipe.variables.len());
        for (name, value) in &recipe.variables {
            let value = resolve(value, &symbols, budget)?;
            if value.contains('\0') {
                return Err(Error::Nul);
            }
            variables.push((name.clone().into_bytes(), value.into_bytes()));
        }
        let mut action =
            |action: &ActionRecipe| self.action(action, &recipe.files, &symbols, NOTICE[1], budget);
        Ok(Environment {
            variables,
            enter: recipe.enter.as_ref().map(&mut action).transpose()?,
            exit: recipe.exit.as_ref().map(&mut action).transpose()?,
        })
    }

    fn action(
        &self,
        recipe: &ActionRecipe,
        files: &[FileRecipe],
        symbols: &SymbolTable,
        notice: u64,
        budget: &mut Budget,
    ) -> Result<Action, Error> {
        let mut command = Vec::with_capacity(recipe.words.len());
        for word in &recipe.words {
            let word = resolve(word, symbols, budget)?;
            if word.contains('\0') {
                return Err(Error::Nul);
            }
            command.push(word.into_bytes());
        }
        if command.first().is_none_or(Vec::is_empty) {
            return Err(Error::NoCommand);
        }
        let mut seconds = |text: &Option<String>| {
            let text = text.as_ref().map(|text| resolve(text, symbols, budget));
            let seconds = text.transpose()?.map(|text| match text.trim().parse() {
                Ok(seconds @ 1..) => Ok(seconds),
                _ => Err(Error::BadTime),
            });
            seconds.transpose()
        };
        let timeout = seconds(&recipe.timeout)?;
        let notice = match &recipe.cancel {
            Cancel::Terminate => None,
            Cancel::Notify(period) => Some(seconds(period)?.unwrap_or(notice)),
        };
        let files = self.files(&recipe.words, files, symbols, budget)?;
        interpret(&mut command, &files)?;
        Ok(Action {
            command,
            files,
            timeout,
            notice,
        })
    }

    /// What every text of a session may name.
    fn symbols(&self) -> Option<SymbolTable> {
        let mut symbols = SymbolTable::new();
        let mut set = |key: String, value: &str| symbols.set_string(&key, value).ok();
        for it in &self.parameters {
            set(format!("RawParam.{}", it.name), &it.raw)?;
            let seen = it.mapped.as_ref().unwrap_or(&it.raw);
            set(format!("Param.{}", it.name), seen)?;
        }
        let mapped = if self.rules.is_empty() {
            "false"
        } else {
            "true"
        };
        set("Session.WorkingDirectory".to_owned(), SESSION_DIRECTORY)?;
        set("Session.HasPathMappingRules".to_owned(), mapped)?;
        set("Session.PathMappingRulesFile".to_owned(), &at_home(RULES))?;
        Some(symbols)
    }

    fn files(
        &self,
        words: &[String],
        files: &[FileRecipe],
        symbols: &SymbolTable,
        budget: &mut Budget,
    ) -> Result<Vec<EmbeddedFile>, Error> {
        let mut made = Vec::with_capacity(files.len());
        for file in files {
            let path = at_home(&file.filename).into_bytes();
            budget.spend(path.len())?;
            made.push(EmbeddedFile {
                path,
                bytes: resolve(&file.data, symbols, budget)?.into_bytes(),
                executable: file.runnable,
            });
        }
        let mut texts = words.iter().chain(files.iter().map(|it| &it.data));
        if texts.any(|it| it.contains("Session.PathMappingRulesFile")) {
            let rules = serde_json::json!({
                "version": "pathmapping-1.0",
                "path_mapping_rules": self.mapping(),
            });
            let bytes = rules.to_string().into_bytes();
            budget.spend(bytes.len())?;
            made.push(EmbeddedFile {
                path: at_home(RULES).into_bytes(),
                bytes,
                executable: false,
            });
        }
        Ok(made)
    }

    fn outputs(
        &self,
        step: &StepRecipe,
        frame: Option<&Value>,
        symbols: &SymbolTable,
        budget: &mut Budget,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let mut outputs: Vec<Vec<u8>> = Vec::with_capacity(step.expect.len());
        let patterns = step.expect.iter().flat_map(|pattern| {
            // A chunk has an output for each of its frames.
            let frames = frame.filter(|_| pattern.contains('#'));
            let frames =
                frames.map(|frame| frame.integers().take(TASK_MAX / 8).map(Some).collect());
            let frames: Vec<Option<i64>> = frames.unwrap_or_else(|| vec![None]);
            frames.into_iter().map(move |frame| (pattern, frame))
        });
        for (pattern, frame) in patterns {
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

/// The file of path mapping rules. No file of a job's own has this name.
pub(crate) const RULES: &str = "path_mapping.json";

fn name_files(symbols: &mut SymbolTable, scope: &str, files: &[FileRecipe]) -> Option<()> {
    for file in files {
        let key = format!("{scope}.File.{}", file.name);
        symbols.set_string(&key, &at_home(&file.filename)).ok()?;
    }
    Some(())
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
impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Action")
            .field("words", &self.command.len())
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

/// Says how much there is, never what.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.len())
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
