//! The recipe of a whole job: everything that is needed to make the command of any of its tasks.
//!
//! It is the client's secret. It is sealed on the client's site as one object, which may be far larger than a message
//! ([`JOB_RECIPE_MAX`]), and is opened where a task is expanded; only the expanded task travels in a message, so it is bounded by
//! [`TASK_MAX`]. It may have been written by anyone: decoding bounds it before it looks at it, and it has no `Debug` that prints contents.

use std::{collections::HashSet, fmt};

use openjd_expr::PathMappingRule;
use safelight_policies::path::CentralPath;
use serde::{Deserialize, Serialize};

use crate::{
    expand::{Error, RULES},
    source::STEPS_MAX,
    space::Space,
};

/// The longest encoded recipe of a job in bytes. It is an object of its own, never a message.
pub const JOB_RECIPE_MAX: usize = 8 << 20;

/// The most bytes of one expanded task, its embedded files included: it travels in one message.
pub const TASK_MAX: usize = crate::recipe::RECIPE_MAX;

/// The first bytes of an encoded recipe of a job; the last is the version.
pub(crate) const MAGIC: [u8; 8] = *b"SLJOBRC\x02";

/// The longest value of a parameter in bytes.
pub const VALUE_MAX: usize = 16 * 1024;

/// The most parameters, words, files and outputs of a step.
const LIST_MAX: usize = 1024;

/// The most environments around a task.
const ENVIRONMENTS_MAX: usize = 64;

/// The longest file name in bytes, as the kernel counts them.
const NAME_MAX: usize = 255;

/// The sealed half of a job.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecipe {
    /// What the client calls the job.
    pub(crate) title: String,
    /// Parameters of the job.
    pub(crate) parameters: Vec<JobParameter>,
    /// What stands around every session, the outermost first.
    pub(crate) environments: Vec<EnvironmentRecipe>,
    /// Steps, in the outline's order.
    pub(crate) steps: Vec<StepRecipe>,
    /// Central paths that may be written.
    pub(crate) writable: Vec<CentralPath>,
    /// How other systems spell central paths: format, source, destination.
    pub(crate) rules: Vec<(Spelling, String, String)>,
}

/// Whose spelling a rule reads.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Spelling {
    Posix,
    Windows,
}

/// A parameter of the job.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobParameter {
    pub(crate) name: String,
    /// As written.
    pub(crate) raw: String,
    /// As the session sees it, if that is another text: a path below its central path.
    pub(crate) mapped: Option<String>,
}

/// One step. The texts are format strings.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepRecipe {
    pub(crate) name: String,
    pub(crate) space: Space,
    pub(crate) run: ActionRecipe,
    pub(crate) files: Vec<FileRecipe>,
    /// Outputs, in which a run of `#` is the number of the frame.
    pub(crate) expect: Vec<String>,
    /// What stands around a session of this step, inside the job's own.
    pub(crate) environments: Vec<EnvironmentRecipe>,
    /// Something in the session runs its actions in turn, with their limits; otherwise the session is the one command.
    pub(crate) in_turn: bool,
}

/// Something to run. The texts are format strings.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ActionRecipe {
    /// The program and its arguments.
    pub(crate) words: Vec<String>,
    /// Its limit in seconds.
    pub(crate) timeout: Option<String>,
    /// What comes before it is killed.
    pub(crate) cancel: Cancel,
}

/// How an action is ended before its time.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cancel {
    /// At once.
    #[default]
    Terminate,
    /// After a notice, and so many seconds if it says how many.
    Notify(Option<String>),
}

/// What stands around tasks.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EnvironmentRecipe {
    pub(crate) name: String,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) enter: Option<ActionRecipe>,
    pub(crate) exit: Option<ActionRecipe>,
    pub(crate) files: Vec<FileRecipe>,
}

/// A file that the job carries in its template.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRecipe {
    pub(crate) name: String,
    pub(crate) filename: String,
    pub(crate) data: String,
    pub(crate) runnable: bool,
}

impl JobRecipe {
    /// The bytes to seal: magic with version, then postcard. Only a valid recipe has any.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        self.check()?;
        let bytes = postcard::to_extend(self, MAGIC.to_vec())
            .map_err(|source| Error::Damaged { source })?;
        if bytes.len() > JOB_RECIPE_MAX {
            return Err(Error::TooLong { len: bytes.len() });
        }
        Ok(bytes)
    }

    /// Reads what [`JobRecipe::encode`] wrote, and checks it again.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > JOB_RECIPE_MAX {
            return Err(Error::TooLong { len: bytes.len() });
        }
        let body = bytes.strip_prefix(&MAGIC).ok_or(Error::NotARecipe)?;
        let (recipe, rest): (Self, _) =
            postcard::take_from_bytes(body).map_err(|source| Error::Damaged { source })?;
        if !rest.is_empty() {
            return Err(Error::Trailing { len: rest.len() });
        }
        recipe.check()?;
        Ok(recipe)
    }

    /// What the client calls the job.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The number of steps.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// What the client calls a step.
    pub fn step_name(&self, step: u32) -> Option<&str> {
        let step = self.steps.get(step as usize)?;
        Some(&step.name)
    }

    /// The rules in the library's form.
    pub(crate) fn mapping(&self) -> Vec<PathMappingRule> {
        let rule = |(spelling, source, destination): &(Spelling, String, String)| PathMappingRule {
            source_path_format: match spelling {
                Spelling::Posix => openjd_expr::PathFormat::Posix,
                Spelling::Windows => openjd_expr::PathFormat::Windows,
            },
            source_path: source.clone(),
            destination_path: destination.clone(),
        };
        self.rules.iter().map(rule).collect()
    }

    fn check(&self) -> Result<(), Error> {
        let too_many = Err(Error::TooMany);
        if self.title.len() > 512 || self.title.chars().any(char::is_control) {
            return Err(Error::BadTitle);
        }
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            return too_many;
        }
        if self.parameters.len() > LIST_MAX || self.rules.len() > 2 * LIST_MAX {
            return too_many;
        }
        check_names(self.parameters.iter().map(|it| &it.name))?;
        for parameter in &self.parameters {
            let mapped = parameter.mapped.as_deref().unwrap_or_default();
            if parameter.raw.len().max(mapped.len()) > VALUE_MAX {
                return Err(Error::LongValue);
            }
        }
        self.environments
            .iter()
            .try_for_each(EnvironmentRecipe::check)?;
        for step in &self.steps {
            if self.environments.len() + step.environments.len() > ENVIRONMENTS_MAX {
                return too_many;
            }
            step.check()?;
        }
        Ok(())
    }
}

impl ActionRecipe {
    fn check(&self) -> Result<(), Error> {
        match self.words.len() {
            0 => Err(Error::NoCommand),
            1..=LIST_MAX => Ok(()),
            _ => Err(Error::TooMany),
        }
    }
}

impl EnvironmentRecipe {
    fn check(&self) -> Result<(), Error> {
        if self.variables.len() > LIST_MAX {
            return Err(Error::TooMany);
        }
        check_names(self.variables.iter().map(|(name, _)| name))?;
        let actions = self.enter.iter().chain(&self.exit);
        actions.into_iter().try_for_each(ActionRecipe::check)?;
        check_files(&self.files)
    }
}

fn check_files(files: &[FileRecipe]) -> Result<(), Error> {
    if files.len() > LIST_MAX {
        return Err(Error::TooMany);
    }
    check_names(files.iter().map(|it| &it.name))?;
    let mut filenames = HashSet::new();
    for file in files {
        let name = file.filename.as_str();
        let one_part = !matches!(name, "" | "." | "..")
            && name.len() <= NAME_MAX
            && !name.contains(['/', '\0']);
        if !one_part || name == RULES || !filenames.insert(name) {
            return Err(Error::BadFileName);
        }
    }
    Ok(())
}

impl StepRecipe {
    fn check(&self) -> Result<(), Error> {
        self.run.check()?;
        if self.expect.len() > LIST_MAX {
            return Err(Error::TooMany);
        }
        check_files(&self.files)?;
        check_names(self.space.parameters.iter().map(|it| &it.name))?;
        self.environments
            .iter()
            .try_for_each(EnvironmentRecipe::check)?;
        self.space.tasks().map(|_| ()).map_err(Error::from)
    }
}

/// Names become symbols, so they must be identifiers and each its own.
fn check_names<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for name in names {
        let fits = (1..=NAME_MAX).contains(&name.len())
            && name
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || it == b'_');
        if !fits || !seen.insert(name) {
            return Err(Error::BadName);
        }
    }
    Ok(())
}

/// Says how much there is, never what.
impl fmt::Debug for JobRecipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobRecipe")
            .field("parameters", &self.parameters.len())
            .field("steps", &self.steps.len())
            .finish_non_exhaustive()
    }
}
