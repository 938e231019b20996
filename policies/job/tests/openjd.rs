//! The tables of `docs/openjd.md`: each row is tried, and each bundle and template that is there has its row.
#![expect(clippy::unwrap_used, reason = "a test's helpers and tables")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use safelight_job::{
    Action, ENVIRONMENTS_MAX, Error, JobPlan, Settings, Source, Submission,
    settings::DEFAULT_PRIORITY,
};
use safelight_policies::id::{ClientAlias, JobId, PolicyDigest, PolicyName};

const DOCUMENT: &str = include_str!("../../../docs/openjd.md");

fn bundles() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles")
}

/// The rows below a head that begins with this word, and has so many columns.
fn table<const N: usize>(head: &str) -> Vec<[String; N]> {
    let lines = DOCUMENT.lines();
    let below = lines.skip_while(|line| !line.starts_with(&format!("| {head} |")));
    let rows = below.skip(2).take_while(|line| line.starts_with("| "));
    let rows: Vec<[String; N]> = rows
        .map(|row| {
            let cells = row.trim_matches('|').split(" | ");
            let cells: Vec<_> = cells.map(|it| it.trim().to_owned()).collect();
            cells.try_into().unwrap_or_else(|cells| panic!("{cells:?}"))
        })
        .collect();
    assert!(!rows.is_empty(), "{head}");
    rows
}

#[derive(Default)]
struct Changes<'a> {
    values: Option<&'a str>,
    overrides: &'a [(String, String)],
    environments: &'a [(String, String)],
}

fn read(template: &str, changes: &Changes<'_>) -> Result<JobPlan, Error> {
    read_with(template, changes, (None, None))
}

fn read_with(
    template: &str,
    changes: &Changes<'_>,
    (assets, job): (Option<&str>, Option<&str>),
) -> Result<JobPlan, Error> {
    JobPlan::read(&Source {
        directory: "/studio/show/teapot",
        template,
        parameter_values: changes.values,
        asset_references: assets,
        job,
        environments: changes.environments,
        overrides: changes.overrides,
    })
}

/// Reads a bundle, changed.
fn bundle(name: &str, changes: &Changes<'_>) -> Result<JobPlan, Error> {
    let text = |file: &str| {
        let path = |end: &str| bundles().join(name).join(format!("{file}.{end}"));
        let read = |end| fs::read_to_string(path(end)).ok();
        read("yaml").or_else(|| read("json"))
    };
    let values = text("parameter_values");
    let job = fs::read_to_string(bundles().join(name).join("safelight-job.toml")).ok();
    let changes = Changes {
        values: changes.values.or(values.as_deref()),
        ..*changes
    };
    let assets = text("asset_references");
    read_with(
        &text("template").unwrap(),
        &changes,
        (assets.as_deref(), job.as_deref()),
    )
}

fn chain(error: &dyn std::error::Error) -> String {
    let rest = error.source().map(|it| format!(": {}", chain(it)));
    // The library's messages have several lines; a table's cell has one.
    let text = format!("{error}{}", rest.unwrap_or_default());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn said(outcome: Result<JobPlan, Error>) -> String {
    outcome.map_or_else(|error| chain(&error), |_| "it is a job".to_owned())
}

/// A cell without the quotes around all of it.
fn plain(cell: &str) -> &str {
    let inner = cell.strip_prefix('`').and_then(|it| it.strip_suffix('`'));
    inner.unwrap_or(cell)
}

/// Compares all rows before it fails, so that one run says everything.
#[track_caller]
fn all_as_written(rows: impl IntoIterator<Item = (String, String, String)>) {
    let wrong: Vec<String> = rows
        .into_iter()
        .filter(|(_, written, found)| plain(written) != found)
        .map(|(row, written, found)| format!("{row}: {written}\n   it is {found}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_supported_is_in_its_bundle_and_becomes_a_job() {
    let rows = table::<4>("supported");
    assert_eq!(rows.len(), 43);
    let mut seen = BTreeSet::new();
    for [what, _, name, text] in &rows {
        bundle(name, &Changes::default())
            .unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        let files = fs::read_dir(bundles().join(name)).unwrap();
        let mut files = files.map(|it| fs::read_to_string(it.unwrap().path()).unwrap());
        let text = text.trim_matches('`');
        assert!(
            files.any(|it| it.contains(text)),
            "{what}: {text} in {name}"
        );
        seen.insert(name.clone());
    }
    let all = fs::read_dir(bundles()).unwrap();
    let all = all.map(|it| it.unwrap().file_name().into_string().unwrap());
    let others = ["refused", "site-environments"];
    let all: BTreeSet<_> = all.filter(|it| !others.contains(&it.as_str())).collect();
    assert_eq!(seen, all, "each bundle has its row");
}

#[test]
fn what_is_refused_is_named() {
    let rows = table::<3>("refused");
    let path = |name: &str| bundles().join("refused").join(format!("{name}.yaml"));
    all_as_written(rows.iter().map(|[what, name, written]| {
        let template = fs::read_to_string(path(name)).unwrap();
        let found = said(read(&template, &Changes::default()));
        let found = found.strip_prefix("template.yaml: ").unwrap_or(&found);
        (what.clone(), written.clone(), found.to_owned())
    }));
    let seen: BTreeSet<_> = rows.iter().map(|[_, name, _]| path(name)).collect();
    let files = fs::read_dir(bundles().join("refused")).unwrap();
    let files: BTreeSet<_> = files.map(|it| it.unwrap().path()).collect();
    assert_eq!(
        seen, files,
        "each refusal has its row and each row its template"
    );
}

#[test]
fn what_breaks_a_constraint_is_told_so() {
    all_as_written(
        table::<3>("parameter")
            .into_iter()
            .map(|[name, value, written]| {
                let overrides = [(name.clone(), value.clone())];
                let changes = Changes {
                    overrides: &overrides,
                    ..Changes::default()
                };
                let found = said(bundle("parameters", &changes));
                let whole = "template.yaml with its parameter values is not a job: ";
                let found = found.strip_prefix(whole).unwrap_or(&found).to_owned();
                (format!("{name} = {value}"), written, found)
            }),
    );
}

/// What settings have that those of a job without any word have not.
fn differences(settings: &Settings) -> String {
    let priority = (settings.priority != DEFAULT_PRIORITY).then_some(settings.priority);
    let all = [
        priority.map(|it| format!("priority {it}")),
        settings.retries.map(|it| format!("{it} retries")),
        settings.failures.map(|it| format!("{it} failures")),
        settings.held.then(|| "paused".to_owned()),
    ];
    let all: Vec<_> = all.into_iter().flatten().collect();
    match all[..] {
        [] => "nothing".to_owned(),
        _ => all.join(", "),
    }
}

#[test]
fn the_words_of_other_submitters_become_settings() {
    let template = fs::read_to_string(bundles().join("animation/template.yaml")).unwrap();
    all_as_written(
        table::<3>("word")
            .into_iter()
            .map(|[word, value, written]| {
                let values =
                    serde_json::json!({"parameterValues": [{"name": word, "value": value}]});
                let changes = Changes {
                    values: Some(&values.to_string()),
                    ..Changes::default()
                };
                let plan = read(&template, &changes);
                let found = plan.map(|plan| differences(plan.settings()));
                let found = found.unwrap_or_else(|error| chain(&error));
                (format!("{word} = {value}"), written, found)
            }),
    );
}

/// The first words of what is run when a session of the first step is begun, from the outside in.
fn entered(plan: &JobPlan) -> Vec<String> {
    let submission = Submission {
        job: JobId::from_random([7; 10]),
        client: ClientAlias::new("c-1").unwrap(),
        policy: PolicyName::new("blender").unwrap(),
        policy_digest: PolicyDigest([9; 32]),
        wall: 7200,
        expires: 1000,
    };
    let (_, recipe) = plan.split(submission).unwrap();
    let word = |action: &Action| String::from_utf8(action.command[0].clone()).unwrap();
    let around = recipe.around(0).unwrap().unwrap_or_default();
    let entered = around.iter().filter_map(|it| it.enter.as_ref());
    entered.map(word).collect()
}

fn environments(names: &str) -> Vec<(String, String)> {
    let text = |name: &str| fs::read_to_string(bundles().join("site-environments").join(name));
    let names = names.split(", ");
    names.map(|it| (it.to_owned(), text(it).unwrap())).collect()
}

#[test]
fn environments_of_the_site_stand_outside_the_job_s_own() {
    all_as_written(
        table::<3>("template")
            .into_iter()
            .map(|[names, job, written]| {
                let changes = Changes {
                    environments: &environments(&names),
                    ..Changes::default()
                };
                let own = entered(&bundle(&job, &Changes::default()).unwrap());
                let found = match bundle(&job, &changes) {
                    Err(error) => chain(&error),
                    Ok(plan) => {
                        let all = entered(&plan);
                        let outer = all.strip_suffix(&own[..]).unwrap();
                        format!("entered: {}, then the job's", outer.join(", "))
                    }
                };
                (format!("{names} around {job}"), written, found)
            }),
    );
    // A value that the job's own limits allow, and the site's not; and one that both allow.
    let samples = |value: &str| {
        let overrides = [("Samples".to_owned(), value.to_owned())];
        let changes = Changes {
            environments: &environments("10-licence.yaml"),
            overrides: &overrides,
            ..Changes::default()
        };
        bundle("parameters", &changes)
    };
    assert!(samples("9").is_err());
    let plan = samples("8").unwrap();
    assert_eq!(entered(&plan), ["seat-take"]);
}

#[test]
fn a_site_has_no_more_environments_than_it_can_mean() {
    let one = environments("20-cache.yaml").remove(0);
    let many = |count| {
        let many = vec![one.clone(); count];
        let changes = Changes {
            environments: &many,
            ..Changes::default()
        };
        said(bundle("animation", &changes))
    };
    assert_eq!(
        many(ENVIRONMENTS_MAX + 1),
        "the site's environment: *: there are more than 16"
    );
    // Two of one name are not one inside the other: the format wants each name once.
    assert!(many(2).contains("Cache"), "{}", many(2));
}
