//! A job as its client opens it at home: envelope, key, recipe, manifests, logs.

use safelight_bundle::Envelope;
use safelight_job::{JobRecipe, Recipe, TaskCommand, expand};
use safelight_policies::id::{JobId, ObjectId, TaskId};
use safelight_seal::{
    blob::Purpose,
    job_key::{JobKey, ReadKey},
    manifest::{Kind as ManifestKind, Manifest},
    random::SystemRandom,
};
use safelight_vfs::area::Area;

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Homeward, Left},
    state::State,
};

/// A job, opened with the client's own key.
pub(crate) struct OpenedJob {
    pub(crate) envelope: Envelope,
    pub(crate) key: JobKey,
    pub(crate) area: Area,
}

/// What was to be run, of either kind.
pub(crate) enum OpenedRecipe {
    /// A single command, which is its own step 0 and task 0.
    Command(Recipe),
    /// A job of steps and tasks.
    Job(Box<JobRecipe>),
}

impl OpenedRecipe {
    /// Reads a recipe, whichever kind it says it is.
    fn decode(plain: &[u8]) -> Result<Self, expand::Error> {
        match JobRecipe::decode(plain) {
            Ok(recipe) => Ok(Self::Job(Box::new(recipe))),
            Err(expand::Error::NotARecipe) => Recipe::decode(plain)
                .map(Self::Command)
                .map_err(|source| expand::Error::Recipe { source }),
            Err(error) => Err(error),
        }
    }

    /// What the client calls the job.
    pub(crate) fn title(&self) -> &str {
        match self {
            Self::Command(recipe) => &recipe.title,
            Self::Job(recipe) => recipe.title(),
        }
    }

    /// What the client calls a step; a single command has no name of its own.
    pub(crate) fn step(&self, step: u32) -> Option<&str> {
        match self {
            Self::Command(_) => None,
            Self::Job(recipe) => recipe.step_name(step),
        }
    }

    /// What makes a task another than those of its step: its parameters, as `Frame=12`. Empty if there is nothing to say.
    pub(crate) fn parameters(&self, task: TaskId) -> String {
        let Self::Job(recipe) = self else {
            return String::new();
        };
        let values = recipe.values(task.step, task.task).unwrap_or_default();
        let named: Vec<_> = values
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        named.join(" ")
    }

    /// What one task runs.
    pub(crate) fn task(&self, task: TaskId) -> Result<TaskCommand, expand::Error> {
        match self {
            Self::Job(recipe) => recipe.task(task.step, task.task, 1),
            Self::Command(recipe) if task == (TaskId { step: 0, task: 0 }) => Ok(TaskCommand {
                command: recipe.command.clone(),
                directory: recipe.directory.clone(),
                env: recipe.env.clone(),
                expect: recipe.expect.clone(),
                files: Vec::new(),
                timeout: None,
                notice: None,
                tasks: 1,
            }),
            Self::Command(_) => Err(expand::Error::NoTask {
                step: task.step,
                task: task.task,
            }),
        }
    }
}

impl OpenedJob {
    /// Opens a job.
    pub(crate) fn open(state: &State, job: JobId) -> Result<Self, Failure> {
        if !state.identity().exists() {
            return Err(Failure::new(
                Kind::Denied,
                format!(
                    "no client key in {}: a job is opened where its client is at home",
                    state.root().display()
                ),
            ));
        }
        let secret = jobs::client_secret(state, &SystemRandom::new())?;
        let signed = jobs::read(&state.job(job)?.join("envelope"))?;
        let envelope = jobs::verify_own(&signed, job, &secret)?;
        let key = jobs::job_key(state, &envelope, &secret)?;
        let area = Area::open(state.area(&envelope.outline.client)?).or_fail(Kind::Environment)?;
        Ok(Self {
            envelope,
            key,
            area,
        })
    }

    /// The job's id.
    pub(crate) fn job(&self) -> JobId {
        self.envelope.outline.job
    }

    /// The inputs as the client sealed them.
    pub(crate) fn inputs(&self) -> Result<Manifest, Failure> {
        inputs(&self.area, &self.envelope, &self.key)
    }

    /// What was to be run.
    pub(crate) fn recipe(&self) -> Result<OpenedRecipe, Failure> {
        let sealed = self
            .area
            .read(self.envelope.recipe)
            .or_fail(Kind::Environment)?;
        let plain = self
            .key
            .open_blob(Purpose::Recipe, self.job().as_bytes(), &sealed)
            .or_fail(Kind::Denied)?;
        OpenedRecipe::decode(&plain).or_fail(Kind::Denied)
    }

    /// What an attempt wrote.
    pub(crate) fn results(&self, left: &Left) -> Result<Manifest, Failure> {
        results(&self.area, &self.envelope, &self.key, left)
    }

    /// What a task printed.
    pub(crate) fn log(&self, left: &Left) -> Result<Vec<u8>, Failure> {
        let sealed = read(&self.area, self.job(), left.log, left)?;
        self.key
            .open_blob(Purpose::TaskLog, &kind_of(left).place(self.job()), &sealed)
            .or_fail(Kind::Denied)
    }

    /// Where the results go.
    pub(crate) fn homeward(&self, state: &State) -> Result<Homeward, Failure> {
        let sealed = jobs::read(&state.job(self.job())?.join("home"))?;
        let plain = self
            .key
            .open_blob(Purpose::Home, self.job().as_bytes(), &sealed)
            .or_fail(Kind::Denied)?;
        Homeward::decode(&plain)
    }
}

/// The inputs of a job as the client sealed them, for whoever may read the job.
pub(crate) fn inputs(
    area: &Area,
    envelope: &Envelope,
    key: &impl AsRef<ReadKey>,
) -> Result<Manifest, Failure> {
    let (job, client) = (envelope.outline.job, &envelope.client_verify);
    let sealed = area.read(envelope.inputs).or_fail(Kind::Environment)?;
    Manifest::open(&sealed, key, job, &ManifestKind::Inputs, client).or_fail(Kind::Denied)
}

/// What an attempt wrote, likewise. The envelope names who signs results.
pub(crate) fn results(
    area: &Area,
    envelope: &Envelope,
    key: &impl AsRef<ReadKey>,
    left: &Left,
) -> Result<Manifest, Failure> {
    let job = envelope.outline.job;
    let sealed = read(area, job, left.manifest, left)?;
    Manifest::open(&sealed, key, job, &kind_of(left), &envelope.attest).or_fail(Kind::Denied)
}

fn read(
    area: &Area,
    job: JobId,
    object: Option<ObjectId>,
    left: &Left,
) -> Result<Vec<u8>, Failure> {
    let sealed_nothing = || {
        let message = format!("{} of {job} sealed nothing", left.session);
        Failure::new(Kind::User, message)
    };
    let object = object.ok_or_else(sealed_nothing)?;
    area.read(object).or_fail(Kind::Environment)
}

/// What the objects of an attempt are bound to.
fn kind_of(left: &Left) -> ManifestKind {
    ManifestKind::Result {
        session: left.session,
        attempt: left.attempt,
        fence: left.fence,
    }
}

#[cfg(test)]
mod tests {
    use safelight_job::{JobPlan, Source};
    use safelight_policies::id::{ClientAlias, PolicyDigest};

    use super::*;

    const TEMPLATE: &str = r#"{
        "specificationVersion": "jobtemplate-2023-09",
        "name": "the dragon",
        "steps": [{
            "name": "render",
            "parameterSpace": {"taskParameterDefinitions": [{"name": "Frame", "type": "INT", "range": "10-20"}]},
            "script": {"actions": {"onRun": {"command": "draw", "args": ["{{Task.Param.Frame}}"]}}}
        }]
    }"#;

    fn of_job() -> Vec<u8> {
        let source = Source {
            template: TEMPLATE,
            directory: "/bundle",
            parameter_values: None,
            asset_references: None,
            environments: &[],
            job: None,
            overrides: &[],
        };
        let submission = safelight_job::Submission {
            job: JobId::from_random([1; 10]),
            client: ClientAlias::new("river").unwrap(),
            policy: "generic".parse().unwrap(),
            policy_digest: PolicyDigest([0; 32]),
            wall: 60,
            expires: 9,
        };
        let (_, recipe) = JobPlan::read(&source).unwrap().split(submission).unwrap();
        recipe.encode().unwrap()
    }

    fn of_command() -> Vec<u8> {
        let recipe = Recipe {
            command: vec![b"povray".to_vec()],
            directory: b"/mnt/c".to_vec(),
            env: Default::default(),
            expect: Vec::new(),
            title: "one frame".to_owned(),
        };
        recipe.encode().unwrap()
    }

    #[test]
    fn a_recipe_of_either_kind_is_understood() {
        let first = TaskId { step: 0, task: 0 };
        let third = TaskId { step: 0, task: 2 };
        for (bytes, title, step, parameters, command, has_third) in [
            (of_command(), "one frame", None, "", "povray", false),
            (
                of_job(),
                "the dragon",
                Some("render"),
                "Frame=10",
                "draw",
                true,
            ),
        ] {
            let recipe = OpenedRecipe::decode(&bytes).unwrap();
            assert_eq!((recipe.title(), recipe.step(0)), (title, step));
            assert_eq!(recipe.step(7), None);
            assert_eq!(recipe.parameters(first), parameters);
            let task = recipe.task(first).unwrap();
            assert_eq!(task.command[0], command.as_bytes());
            assert_eq!(recipe.task(third).is_ok(), has_third);
            assert!(OpenedRecipe::decode(&bytes[..bytes.len() - 1]).is_err());
        }
        assert!(OpenedRecipe::decode(b"neither").is_err());
    }
}
