//! What OpenJD has and this version does not: refused by name, with the place.
//!
//! This looks at the document before anything else does, so that the message names the feature and not a symptom. What neither this nor
//! the library knows, the library refuses as an unknown field. `docs/job.md` holds the same list for people.

use serde_json::Value;

use crate::{error::Error, source::TEMPLATE};

/// Short forms of a script, which come with an extension.
const SHORT_FORMS: [&str; 5] = ["bash", "python", "cmd", "powershell", "node"];

/// Types of job parameters that are understood.
const JOB_PARAMETERS: [&str; 4] = ["STRING", "INT", "FLOAT", "PATH"];

/// Types of task parameters that are understood.
const TASK_PARAMETERS: [&str; 2] = ["INT", "STRING"];

/// Refuses the first thing that is not supported.
pub(crate) fn check(document: &Value) -> Result<(), Error> {
    for (index, name) in list(&document["extensions"]).enumerate() {
        let name = name.as_str().unwrap_or("?");
        refuse(
            format!("extensions[{index}]"),
            format!("the extension {name} is"),
        )?;
    }
    if is_there(&document["jobEnvironments"]) {
        refuse("jobEnvironments", "job environments are")?;
    }
    for (index, parameter) in list(&document["parameterDefinitions"]).enumerate() {
        let at = format!("parameterDefinitions[{index}].type");
        check_type(at, "job", parameter, &JOB_PARAMETERS)?;
    }
    list(&document["steps"])
        .enumerate()
        .try_for_each(|(index, step)| check_step(&format!("steps[{index}]"), step))
}

fn check_step(at: &str, step: &Value) -> Result<(), Error> {
    if is_there(&step["stepEnvironments"]) {
        refuse(format!("{at}.stepEnvironments"), "step environments are")?;
    }
    for form in SHORT_FORMS {
        if is_there(&step[form]) {
            refuse(format!("{at}.{form}"), "the short form of a script is")?;
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
    let cancelation = &script["actions"]["onRun"]["cancelation"]["mode"];
    if let Some(mode) = cancelation.as_str()
        && mode != "TERMINATE"
    {
        let at = format!("{at}.script.actions.onRun.cancelation.mode");
        refuse(at, format!("the cancelation method {mode} is"))?;
    }
    for (index, file) in list(&script["embeddedFiles"]).enumerate() {
        if is_there(&file["endOfLine"]) {
            let at = format!("{at}.script.embeddedFiles[{index}].endOfLine");
            refuse(at, "the choice of line ends is")?;
        }
    }
    Ok(())
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
