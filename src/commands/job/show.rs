//! `safelight job show`: where a job stands and why, how far it is, and how its attempts ended.

use clap::Args;
use safelight_policies::id::JobId;
use safelight_scheduler::{
    Overview, Placement,
    placement::{Reason, Target},
};

use super::{
    attempts::{self, Attempt},
    list::summary,
    progress::{self, Progress, Step},
};
use crate::{
    commands::chosen::ChosenJob,
    failure::{Failure, Kind, OrFail},
    jobs::{self, Order},
    opened::{OpenedJob, OpenedRecipe},
    records::Line,
    results::{self, Results},
    run::Books,
    state::State,
    terminal::{print, print_json, shown, table},
};

/// Arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    job: ChosenJob,
    /// With every attempt of every task
    #[arg(long)]
    tasks: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Everything that is known of a job here.
struct Known {
    overview: Overview,
    order: Option<Order>,
    /// Opens only with the client's key.
    recipe: Option<OpenedRecipe>,
    progress: Progress,
    /// At home, of a job in a queue: results that count, and those of them that are where the client wants them.
    delivered: Option<(u64, u64)>,
    attempts: Vec<Attempt>,
}

/// Shows it.
pub(super) fn run(arguments: &ShowArgs) -> Result<(), Failure> {
    let (state, job) = arguments.job.find()?;
    let known = Known::gather(&state, job)?;
    // The attempts of one task are few; those of many are asked for.
    let all_attempts = arguments.tasks || !known.has_many();
    if arguments.json {
        print_json(&known.line(all_attempts)?)
    } else {
        known.print(all_attempts)
    }
}

impl Known {
    fn gather(state: &State, job: JobId) -> Result<Self, Failure> {
        let books = Books::open(state)?;
        let overview = books.wait(books.ledger().overview(job))?;
        let entries = books.attempts(job)?;
        let results = Results::new(jobs::all_left(state, job)?, &entries);
        let progress = match overview.site {
            Some(_) => Progress::elsewhere(&overview.job.outline, &results),
            None => Progress::here(&overview.steps),
        };
        let recipe = OpenedJob::open(state, job).and_then(|opened| opened.recipe());
        Ok(Self {
            order: order(state, job)?,
            recipe: recipe.ok(),
            progress,
            delivered: delivered(state, &overview, &results)?,
            attempts: attempts::attempts(entries, &results),
            overview,
        })
    }

    fn has_many(&self) -> bool {
        results::tasks(&self.overview.job.outline) > 1
    }

    fn title(&self) -> Option<&str> {
        let title = self.recipe.as_ref().map(OpenedRecipe::title);
        title.filter(|title| !title.is_empty())
    }

    fn line(&self, all_attempts: bool) -> Result<Line, Failure> {
        let json = |value: serde_json::Result<_>| value.or_fail(Kind::Internal);
        let mut line = summary(&self.overview).with("done", self.progress.done());
        if let Some(title) = self.title() {
            line = line.with("title", title);
        }
        if let Some(order) = &self.order {
            line = line.with("files", order.files).with("bytes", order.bytes);
        }
        if let Some(placement) = &self.overview.placement {
            let reasons: Vec<_> = placement.reasons.iter().map(Reason::to_string).collect();
            line = line
                .with("placement", target(placement))
                .with("reasons", reasons);
        }
        if let Some((counting, home)) = self.delivered {
            line = line.with("results", counting).with("delivered", home);
        }
        let steps: Vec<_> = self
            .progress
            .steps()
            .iter()
            .zip(0u32..)
            .map(|(step, number)| {
                Line::default()
                    .with("step", number)
                    .with("name", self.step_name(number))
                    .with("tasks", step.tasks)
                    .with("done", step.done)
                    .with("running", step.running)
                    .with("failed", step.failed)
            })
            .collect();
        line = line.with("steps", json(serde_json::to_value(steps))?);
        if all_attempts {
            let many = self.has_many();
            let attempts: Vec<_> = self.attempts.iter().map(|it| it.line(many)).collect();
            line = line.with("attempts", json(serde_json::to_value(attempts))?);
        }
        Ok(line)
    }

    fn step_name(&self, step: u32) -> Option<&str> {
        self.recipe.as_ref().and_then(|recipe| recipe.step(step))
    }

    fn print(&self, all_attempts: bool) -> Result<(), Failure> {
        for (name, text) in self.facts() {
            print(format!("{name:<13}  {text}"))?;
        }
        let many = self.has_many();
        match (many, all_attempts) {
            (false, _) => self.attempts.iter().try_for_each(|it| {
                let (number, ending) = (it.number(), it.ending());
                print(format!("attempt {number:<4}   {ending}"))
            }),
            (true, true) if !self.attempts.is_empty() => self.table(),
            _ => Ok(()),
        }
    }

    /// What there is to know, in the order in which people ask.
    fn facts(&self) -> Vec<(String, String)> {
        let line = summary(&self.overview);
        let fact = |name: &str, text: String| (name.to_owned(), text);
        let mut facts = Vec::new();
        for (name, value) in line.fields(0) {
            let text = match value {
                serde_json::Value::Null => continue,
                serde_json::Value::String(text) => shown(text.as_bytes()),
                value => value.to_string(),
            };
            // What follows says these better.
            match name {
                "site" | "tasks" | "paused" => {}
                "queue" if self.overview.paused => {
                    facts.push(fact(name, format!("{text}, paused")))
                }
                _ => facts.push(fact(name, text)),
            }
            if let ("job", Some(title)) = (name, self.title()) {
                facts.push(fact("title", shown(title.as_bytes())));
            }
        }
        if let Some(placement) = &self.overview.placement {
            facts.push(fact("placement", placed(placement)));
        }
        if let Some(order) = &self.order {
            facts.push(fact("files", order.files.to_string()));
            facts.push(fact("bytes", order.bytes.to_string()));
        }
        if self.overview.farm || self.has_many() {
            let steps = self.progress.steps().iter().zip(0u32..);
            facts.extend(steps.map(|(step, number)| self.step(step, number)));
        }
        if let Some((counting, home)) = self.delivered {
            let text = format!("{home} of {counting} results are at home");
            facts.push(fact("delivered", text));
        }
        facts
    }

    fn step(&self, step: &Step, number: u32) -> (String, String) {
        let text = match self.step_name(number) {
            Some(name) => format!("{}: {}", shown(name.as_bytes()), step.text()),
            None => step.text(),
        };
        (format!("step {number}"), text)
    }

    fn table(&self) -> Result<(), Failure> {
        let parameters = |it: &Attempt| {
            let recipe = self.recipe.as_ref();
            recipe.map(|recipe| shown(recipe.parameters(it.task()).as_bytes()))
        };
        let rows: Vec<Vec<String>> = self
            .attempts
            .iter()
            .map(|it| it.cells().into_iter().chain(parameters(it)).collect())
            .collect();
        let named = self.recipe.is_some().then_some("PARAMETERS");
        let head: Vec<_> = Attempt::HEAD.into_iter().chain(named).collect();
        table(&head, &rows)
    }
}

/// What was packed. A job that this host only carries has no order here.
fn order(state: &State, job: JobId) -> Result<Option<Order>, Failure> {
    let path = state.job(job)?.join("order.json");
    if !path.exists() {
        return Ok(None);
    }
    serde_json::from_slice(&jobs::read(&path)?)
        .map(Some)
        .or_fail(Kind::Config)
}

/// Where a job is not at home, nothing of it is delivered; what ran at once was when it ended.
fn delivered(
    state: &State,
    overview: &Overview,
    results: &Results,
) -> Result<Option<(u64, u64)>, Failure> {
    let job = overview.job.id();
    if !overview.farm || !state.job(job)?.join("home").exists() {
        return Ok(None);
    }
    let delivered = jobs::all_delivered(state, job)?;
    Ok(Some(progress::delivered(results, &delivered)))
}

fn target(placement: &Placement) -> String {
    match &placement.target {
        Target::Here => "here".to_owned(),
        Target::There(site) => site.to_string(),
        Target::Nowhere => "undecided".to_owned(),
    }
}

fn placed(placement: &Placement) -> String {
    let reasons: Vec<_> = placement.reasons.iter().map(Reason::to_string).collect();
    match reasons.as_slice() {
        [] => target(placement),
        reasons => format!("{}: {}", target(placement), reasons.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::progress::tests::overview, *};

    fn known(steps: &[u64]) -> Known {
        let overview = overview(steps);
        Known {
            progress: Progress::here(&overview.steps),
            overview,
            order: None,
            recipe: None,
            delivered: Some((2, 1)),
            attempts: Vec::new(),
        }
    }

    fn facts(known: &Known) -> Vec<String> {
        let facts = known.facts().into_iter();
        facts
            .map(|(name, text)| format!("{name}: {text}"))
            .collect()
    }

    #[test]
    fn a_job_of_a_farm_says_where_it_stands_and_why() {
        let mut it = known(&[3, 1]);
        it.overview.paused = true;
        it.overview.placement = Some(Placement {
            target: Target::There("north".parse().unwrap()),
            reasons: vec![Reason::NothingFits { step: 1 }, Reason::NoSiteOpen],
        });
        let said = facts(&it);
        for fact in [
            "state: waiting",
            "queue: active, paused",
            "placement: north: no slot here fits step 1; no other site takes jobs now",
            "step 0: 0 of 3 done",
            "step 1: 0 of 1 done",
            "delivered: 1 of 2 results are at home",
        ] {
            assert!(said.iter().any(|said| said == fact), "{fact:?} in {said:?}");
        }
        let json = serde_json::to_value(it.line(false).unwrap()).unwrap();
        assert_eq!(json["placement"], "north");
        assert_eq!(json["reasons"][0], "no slot here fits step 1");
        assert_eq!(
            (&json["results"], &json["delivered"]),
            (&2.into(), &1.into())
        );
        assert_eq!(json["steps"][0]["tasks"], 3);
        assert!(json.get("attempts").is_none());
    }

    #[test]
    fn a_single_command_says_nothing_of_queues_and_steps() {
        let mut it = known(&[1]);
        (it.overview.farm, it.overview.queue) = (false, None);
        it.delivered = None;
        for fact in facts(&it) {
            let name = fact.split(':').next().unwrap();
            let farm = ["queue", "placement", "delivered", "step 0", "site", "tasks"];
            assert!(!farm.contains(&name), "{fact}");
        }
        let json = serde_json::to_value(it.line(true).unwrap()).unwrap();
        assert_eq!(json["attempts"], serde_json::json!([]));
        assert!(json.get("delivered").is_none());
    }
}
