//! One step: its command, its embedded files and its outputs, as the recipe has them.

use openjd_model::job;

use crate::{
    error::Error,
    job_recipe::{FileRecipe, StepRecipe},
    place::Places,
    settings::Settings,
    source::{SETTINGS, TEMPLATE},
    space::Space,
};

/// Takes over a step. `at` is its place in the template; `expect` its outputs as written.
pub(crate) fn recipe(
    at: &str,
    written: &job::Step,
    expect: &[String],
    settings: &Settings,
    places: &Places<'_>,
) -> Result<StepRecipe, Error> {
    let action = &written.script.actions.on_run;
    let words = std::iter::once(&action.command).chain(action.args.iter().flatten());
    let files = written.script.embedded_files.iter().flatten();
    let space = Space::take(written.parameter_space.as_ref());
    Ok(StepRecipe {
        name: written.name.clone(),
        space: space.ok_or_else(|| Error::Unsupported {
            file: TEMPLATE,
            at: format!("{at}.parameterSpace"),
            thing: "a task parameter of this type is".to_owned(),
        })?,
        command: words.map(|word| word.raw().to_owned()).collect(),
        files: files.map(file).collect(),
        expect: expect
            .iter()
            .map(|pattern| output(pattern, settings, places))
            .collect::<Result<_, _>>()?,
    })
}

/// The step's own limit in seconds.
pub(crate) fn timeout(at: &str, written: &job::Step) -> Result<Option<u64>, Error> {
    let Some(text) = &written.script.actions.on_run.timeout else {
        return Ok(None);
    };
    match text.raw().trim().parse() {
        Ok(seconds) if seconds > 0 => Ok(Some(seconds)),
        _ => Err(Error::invalid(
            TEMPLATE,
            format!("{at}.script.actions.onRun.timeout"),
            "it is no positive number of seconds",
        )),
    }
}

fn file(written: &job::EmbeddedFile) -> FileRecipe {
    FileRecipe {
        name: written.name.clone(),
        filename: written.filename.as_ref().unwrap_or(&written.name).clone(),
        data: written
            .data
            .as_ref()
            .map(|it| it.raw().to_owned())
            .unwrap_or_default(),
        runnable: written.runnable == Some(true),
    }
}

/// An expected output in the session's spelling; relative ones begin at the first central path that may be written.
fn output(pattern: &str, settings: &Settings, places: &Places<'_>) -> Result<String, Error> {
    // A path that begins with a parameter's value is known when the value is.
    if pattern.starts_with("{{") {
        return Ok(pattern.to_owned());
    }
    let (file, at) = (SETTINGS, "expect".to_owned());
    let absolute = pattern.starts_with(['/', '\\']) || pattern.as_bytes().get(1) == Some(&b':');
    if absolute {
        let path = pattern.to_owned();
        return match places.find(pattern) {
            None => Err(Error::Outside { file, at, path }),
            Some(place) if !place.write => Err(Error::ReadOnly { file, at, path }),
            Some(place) => Ok(place.path),
        };
    }
    match settings.central.iter().find(|it| it.write) {
        Some(central) => Ok(format!("{}/{pattern}", central.path)),
        None => Err(Error::invalid(file, at, "no central path may be written")),
    }
}
