//! What OpenJD has and this version does not: refused by name, with the place.
//!
//! This looks at the document before anything else does, so that the message names the feature and not a symptom. What neither this nor
//! the library knows, the library refuses as an unknown field. `docs/job.md` holds the same list for people.

use serde_json::Value;

use crate::{error::Error, source::TEMPLATE};

/// The extensions that are understood.
pub(crate) const EXTENSIONS: [&str; 3] = ["TASK_CHUNKING", "REDACTED_ENV_VARS", "FEATURE_BUNDLE_1"];

/// Short forms of a script that only another system could run.
const OTHERS_FORMS: [&str; 2] = ["cmd", "powershell"];

/// Types of job parameters that are understood.
const JOB_PARAMETERS: [&str; 4] = ["STRING", "INT", "FLOAT", "PATH"];

/// Types of task parameters that are understood.
const TASK_PARAMETERS: [&str; 5] = ["INT", "FLOAT", "STRING", "PATH", "CHUNK[INT]"];

/// Refuses the first thing of a job template that is not supported.
pub(crate) fn check(document: &Value) -> Result<(), Error> {
    check_head(document)?;
    for (index, environment) in list(&document["jobEnvironments"]).enumerate() {
        check_environment(&format!("jobEnvironments[{index}]"), environment)?;
    }
    list(&document["steps"])
        .enumerate()
        .try_for_each(|(index, step)| check_step(&format!("steps[{index}]"), step))
}

/// Refuses the first thing of an environment template that is not supported.
pub(crate) fn check_outer(file: &'static str, document: &Value) -> Result<(), Error> {
    let checked = check_head(document);
    let checked = checked.and_then(|()| check_environment("environment", &document["environment"]));
    checked.map_err(|error| match error {
        Error::Unsupported { at, thing, .. } => Error::Unsupported { file, at, thing },
        other => other,
    })
}

/// What both kinds of template have: extensions and parameters.
fn check_head(document: &Value) -> Result<(), Error> {
    for (index, name) in list(&document["extensions"]).enumerate() {
        let name = name.as_str().unwrap_or("?");
        if EXTENSIONS.contains(&name) {
            continue;
        }
        refuse(
            format!("extensions[{index}]"),
            format!("the extension {name} is"),
        )?;
    }
    for (index, parameter) in list(&document["parameterDefinitions"]).enumerate() {
        let at = format!("parameterDefinitions[{index}].type");
        check_type(at, "job", parameter, &JOB_PARAMETERS)?;
    }
    Ok(())
}

fn check_step(at: &str, step: &Value) -> Result<(), Error> {
    for (index, environment) in list(&step["stepEnvironments"]).enumerate() {
        check_environment(&format!("{at}.stepEnvironments[{index}]"), environment)?;
    }
    for form in OTHERS_FORMS {
        if is_there(&step[form]) {
            refuse(format!("{at}.{form}"), "a script for another system is")?;
        }
    }
    let script = &step["script"];
    for (part, value) in [(".let", &step["let"]), (".script.let", &script["let"])] {
        if is_there(value) {
            refuse(format!("{at}{part}"), "let bindings are")?;
        }
    }
    let space = &step["parameterSpace"]["taskParameterDefinitions"];
    for (index, parameter) in list(space).enumerate() {
        let at = format!("{at}.parameterSpace.taskParameterDefinitions[{index}].type");
        check_type(at, "task", parameter, &TASK_PARAMETERS)?;
    }
    check_action(
        &format!("{at}.script.actions.onRun"),
        &script["actions"]["onRun"],
    )
}

fn check_environment(at: &str, environment: &Value) -> Result<(), Error> {
    let script = &environment["script"];
    if is_there(&script["let"]) {
        refuse(format!("{at}.script.let"), "let bindings are")?;
    }
    for action in ["onEnter", "onExit"] {
        let at = format!("{at}.script.actions.{action}");
        check_action(&at, &script["actions"][action])?;
    }
    Ok(())
}

/// The mode of a cancelation decides what else it has; one that is only known in the session is for wrapped actions.
fn check_action(at: &str, action: &Value) -> Result<(), Error> {
    match action["cancelation"]["mode"].as_str() {
        Some(mode) if mode.contains("{{") => refuse(
            format!("{at}.cancelation.mode"),
            "a cancelation method that is a text is",
        ),
        _ => Ok(()),
    }
}

fn check_type(at: String, whose: &str, parameter: &Value, known: &[&str]) -> Result<(), Error> {
    match parameter["type"].as_str() {
        Some(name) if !known.contains(&name) => {
            refuse(at, format!("a {whose} parameter of type {name} is"))
        }
        // A missing type is the library's to explain.
        _ => Ok(()),
    }
}

fn refuse(at: impl Into<String>, thing: impl Into<String>) -> Result<(), Error> {
    Err(Error::Unsupported {
        file: TEMPLATE,
        at: at.into(),
        thing: thing.into(),
    })
}

fn is_there(value: &Value) -> bool {
    !value.is_null()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
