//! A job as its author meant it: read once, whole, on the client's site.
//!
//! Everything that can be wrong is found here, before anything is sealed: each step's first and last task are expanded once. What comes
//! out is split in two: the [`Outline`], in which no text of the client's is left, and the [`JobRecipe`], which is sealed.

use std::{collections::BTreeMap, fmt};

use openjd_model::{
    PathParameterOptions, StepDependencyGraph, ValidationContext, create_job, decode_job_template,
    job::Job, preprocess_job_parameters,
};
use safelight_policies::{
    id::{ClientAlias, JobId, PolicyDigest, PolicyName},
    outline::{BATCH_MAX, Batch, Outline, StepOutline, Wishes},
};

use crate::{
    asset::{self, Asset},
    error::Error,
    job_recipe::{JobRecipe, Spelling, StepRecipe},
    needs::Needs,
    outer::Outer,
    place::{Places, is_normal},
    settings::Settings,
    source::{SETTINGS, Source, TEMPLATE, document, limits},
    space::{self, Pace},
    step, support,
};

/// How many seconds a session should take whose environment is dear to begin, if nothing else says it.
const SITTING: u64 = 60;

/// A job that can be submitted.
pub struct JobPlan {
    settings: Settings,
    assets: Vec<Asset>,
    steps: Vec<Step>,
    recipe: JobRecipe,
}

/// A step, in an order in which each comes after those it depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What the client calls it.
    pub name: String,
    /// Indices of the steps that must be done before, ascending.
    pub depends_on: Vec<u32>,
    /// The number of tasks.
    pub tasks: u64,
    /// The limit of one task in seconds, if the job says one.
    pub timeout: Option<u64>,
    pub(crate) needs: Needs,
    /// Its session runs actions in turn, so only they have limits, and not the session.
    in_turn: bool,
    /// How its chunks are to be made, if that is left to who gives them out.
    pace: Option<Pace>,
    /// Something stands around its tasks.
    around: bool,
}

/// What a plan does not know by itself: for whom it runs, and under which policy.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The job's id.
    pub job: JobId,
    /// The client's alias.
    pub client: ClientAlias,
    /// The policy that was resolved.
    pub policy: PolicyName,
    /// And its digest.
    pub policy_digest: PolicyDigest,
    /// How long the policy lets a session run, in seconds.
    pub wall: u64,
    /// When the job may no longer start, in seconds since 1970.
    pub expires: u64,
}

impl JobPlan {
    /// Reads a bundle. Pure: what the texts name is not looked at.
    pub fn read(source: &Source<'_>) -> Result<Self, Error> {
        if !is_normal(source.directory) {
            let reason = "the bundle's directory is not absolute and normal";
            return Err(Error::invalid(TEMPLATE, "directory", reason));
        }
        let (values, scheduling) = source.values()?;
        let settings = Settings::read(source.job, source.directory, scheduling)?;
        let places = Places::new(source.directory, &settings.central)
            .map_err(|_| Error::invalid(SETTINGS, "central", "two are spelled alike"))?;

        let outer = Outer::read(source.environments)?;
        let mut document = document(TEMPLATE, source.template)?;
        support::check(&document)?;
        outer.put_around(&mut document);
        let template = decode_job_template(document, Some(&support::EXTENSIONS), &limits())
            .map_err(Error::document(TEMPLATE))?;
        let mut options = PathParameterOptions::new(source.directory, "");
        options.path_format = openjd_expr::PathFormat::Posix;
        let values = preprocess_job_parameters(&template, &values, &outer.templates, &options)
            .map_err(Error::job)?;
        let context =
            ValidationContext::from_profile(template.profile()).with_caller_limits(limits());
        let job = create_job(&template, &values, &context).map_err(Error::job)?;

        let mut assets = asset::references(&source.assets()?, &places)?;
        let parameters = asset::parameters(&template, &values, &places, &mut assets)?;
        let (steps, recipes) = read_steps(&job, &settings, &places)?;
        let recipe = JobRecipe {
            title: job.name,
            parameters,
            environments: step::environments(job.job_environments.as_deref()),
            steps: recipes,
            writable: settings
                .central
                .iter()
                .filter(|it| it.write)
                .map(|it| it.path.clone())
                .collect(),
            rules: rules(&places),
        };
        let plan = Self {
            settings,
            assets,
            steps,
            recipe,
        };
        plan.try_tasks()?;
        Ok(plan)
    }

    /// What the client calls the job.
    pub fn name(&self) -> &str {
        self.recipe.title()
    }

    /// What OpenJD leaves out.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What is read and what is written, each path once.
    pub fn assets(&self) -> &[Asset] {
        &self.assets
    }

    /// The values of one task's parameters, by name, without making the others.
    pub fn values(
        &self,
        step: u32,
        task: u64,
    ) -> Result<Vec<(String, String)>, crate::expand::Error> {
        self.recipe.values(step, task)
    }

    /// The clear half and the secret half.
    pub fn split(&self, submission: Submission) -> Result<(Outline, JobRecipe), Error> {
        let mut steps = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let timeout = step.timeout.unwrap_or(submission.wall);
            if timeout > submission.wall {
                return Err(Error::TooSlow {
                    step: step.name.clone(),
                    timeout,
                    wall: submission.wall,
                });
            }
            steps.push(step.outline(timeout, submission.wall));
        }
        let outline = Outline {
            job: submission.job,
            client: submission.client,
            priority: self.settings.priority,
            policy: submission.policy,
            policy_digest: submission.policy_digest,
            steps,
            expires: submission.expires,
            central: self
                .settings
                .central
                .iter()
                .map(|it| (it.path.clone(), it.write))
                .collect(),
            retries: self.settings.retries,
            wishes: Wishes {
                failures: self.settings.failures,
                not_before: self.settings.not_before,
                held: self.settings.held,
                trial: self.settings.trial,
            },
        };
        Ok((outline, self.recipe.clone()))
    }

    /// Expands each step's first and last task, so that what cannot be expanded is never sealed.
    fn try_tasks(&self) -> Result<(), Error> {
        for (index, step) in (0..).zip(&self.steps) {
            let refuse = |source| Error::Expand {
                step: step.name.clone(),
                source,
            };
            self.recipe.around(index).map_err(refuse)?;
            self.recipe.task(index, 0, 1).map_err(refuse)?;
            self.recipe.task(index, step.tasks - 1, 1).map_err(refuse)?;
        }
        let whole = |source| Error::Expand {
            step: "*".to_owned(),
            source,
        };
        self.recipe.encode().map(|_| ()).map_err(whole)
    }
}

impl Step {
    /// Minimum amounts by OpenJD capability name.
    pub fn amounts(&self) -> BTreeMap<String, f64> {
        self.needs.amounts.clone()
    }

    /// Required attributes by OpenJD capability name: any of the values.
    pub fn attributes(&self) -> BTreeMap<String, Vec<String>> {
        self.needs.attributes.clone()
    }

    fn outline(&self, timeout: u64, wall: u64) -> StepOutline {
        StepOutline {
            tasks: self.tasks,
            depends_on: self.depends_on.clone(),
            amounts: self.amounts(),
            attributes: self.attributes(),
            timeout: if self.in_turn { wall } else { timeout },
            batch: self.batch(wall),
        }
    }

    /// How many tasks a session may have: never so many that its time might be over before they are.
    fn batch(&self, wall: u64) -> Option<Batch> {
        let longest = (wall / 4).max(1);
        match self.pace {
            Some(Pace { size, seconds }) => Some(Batch {
                size: size.clamp(1, BATCH_MAX),
                target: seconds.min(longest),
            }),
            None => self.around.then_some(Batch {
                size: 1,
                target: SITTING.min(longest),
            }),
        }
    }
}

/// Reads the steps and puts them in order.
fn read_steps(
    job: &Job,
    settings: &Settings,
    places: &Places<'_>,
) -> Result<(Vec<Step>, Vec<StepRecipe>), Error> {
    let graph = StepDependencyGraph::new(job).map_err(Error::job)?;
    let order = graph.topo_sorted().map_err(Error::job)?;
    let names: Vec<_> = job.steps.iter().map(|step| step.name.as_str()).collect();
    let expected = settings.expected(&names)?;
    let mut position = BTreeMap::new();
    let (mut steps, mut recipes) = (Vec::new(), Vec::new());
    for (new, old) in (0u32..).zip(order) {
        let written = &job.steps[old];
        position.insert(written.name.as_str(), new);
        let at = format!("steps[{old}]");
        let outer = job.job_environments.iter().flatten().next().is_some();
        let recipe = step::recipe(&at, written, &expected[old], outer, settings, places)?;
        let mut depends_on: Vec<u32> = written
            .dependencies
            .iter()
            .flatten()
            .filter_map(|it| position.get(it.depends_on.as_str()).copied())
            .collect();
        depends_on.sort_unstable();
        depends_on.dedup();
        steps.push(Step {
            name: written.name.clone(),
            depends_on,
            tasks: recipe.space.tasks().map_err(|source| Error::Expand {
                step: written.name.clone(),
                source: source.into(),
            })?,
            timeout: step::timeout(&at, &recipe)?.or(settings.timeout),
            needs: Needs::read(&at, written.host_requirements.as_ref(), settings)?,
            in_turn: recipe.in_turn,
            pace: space::pace(written.parameter_space.as_ref())
                .filter(|_| recipe.space.is_adaptive()),
            around: outer || !recipe.environments.is_empty(),
        });
        recipes.push(recipe);
    }
    Ok((steps, recipes))
}

fn rules(places: &Places<'_>) -> Vec<(Spelling, String, String)> {
    let own = |rule: openjd_expr::PathMappingRule| {
        let spelling = match rule.source_path_format {
            openjd_expr::PathFormat::Windows => Spelling::Windows,
            _ => Spelling::Posix,
        };
        (spelling, rule.source_path, rule.destination_path)
    };
    places.rules().into_iter().map(own).collect()
}

/// Says how much there is, never what.
impl fmt::Debug for JobPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobPlan")
            .field("steps", &self.steps.len())
            .field("assets", &self.assets.len())
            .finish_non_exhaustive()
    }
}
