//! One step: its command, its embedded files, its outputs and what stands around it, as the recipe has them.

use openjd_model::{job, types::EndOfLine};

use crate::{
    error::Error,
    job_recipe::{ActionRecipe, Cancel, EnvironmentRecipe, FileRecipe, StepRecipe},
    place::Places,
    settings::Settings,
    source::{SETTINGS, TEMPLATE},
    space::Space,
};

/// Takes over a step. `at` is its place in the template; `expect` its outputs as written; `around` says that the job has environments.
pub(crate) fn recipe(
    at: &str,
    written: &job::Step,
    expect: &[String],
    around: bool,
    settings: &Settings,
    places: &Places<'_>,
) -> Result<StepRecipe, Error> {
    let mut run = action(&written.script.actions.on_run);
    let space = Space::take(written.parameter_space.as_ref(), places);
    let environments = environments(written.step_environments.as_deref());
    // What only something inside the session can do. Everything else is one command, and the session is its process.
    let in_turn = around
        || !environments.is_empty()
        || run.cancel != Cancel::Terminate
        || space.is_adaptive()
        || run.timeout.as_deref().is_some_and(|it| it.contains("{{"));
    if let Some(text) = &run.timeout
        && !text.contains("{{")
    {
        seconds(&format!("{at}.script.actions.onRun.timeout"), text)?;
    }
    if in_turn && run.timeout.is_none() {
        run.timeout = settings.timeout.map(|it| it.to_string());
    }
    Ok(StepRecipe {
        name: written.name.clone(),
        space,
        run,
        files: files(written.script.embedded_files.as_deref()),
        expect: expect
            .iter()
            .map(|pattern| output(pattern, settings, places))
            .collect::<Result<_, _>>()?,
        environments,
        in_turn,
    })
}

/// Takes over what stands around tasks.
pub(crate) fn environments(written: Option<&[job::Environment]>) -> Vec<EnvironmentRecipe> {
    written.into_iter().flatten().map(environment).collect()
}

fn environment(written: &job::Environment) -> EnvironmentRecipe {
    let variables = written.variables.iter().flatten();
    let mut variables: Vec<_> = variables
        .map(|(name, value)| (name.clone(), value.raw().to_owned()))
        .collect();
    variables.sort();
    let script = written.script.as_ref();
    let of = |one: fn(&job::EnvironmentActions) -> Option<&job::Action>| {
        script.and_then(|script| one(&script.actions)).map(action)
    };
    EnvironmentRecipe {
        name: written.name.clone(),
        variables,
        enter: of(|actions| actions.on_enter.as_ref()),
        exit: of(|actions| actions.on_exit.as_ref()),
        files: files(script.and_then(|script| script.embedded_files.as_deref())),
    }
}

fn action(written: &job::Action) -> ActionRecipe {
    let words = std::iter::once(&written.command).chain(written.args.iter().flatten());
    let raw = |text: &openjd_expr::FormatString| text.raw().to_owned();
    ActionRecipe {
        words: words.map(raw).collect(),
        timeout: written.timeout.as_ref().map(raw),
        cancel: match &written.cancelation {
            Some(job::CancelationMode::NotifyThenTerminate {
                notify_period_in_seconds: period,
            }) => Cancel::Notify(period.as_ref().map(raw)),
            // A mode that is a text was refused before.
            _ => Cancel::Terminate,
        },
    }
}

/// The step's own limit in seconds, where it is the same for all of its tasks.
pub(crate) fn timeout(at: &str, step: &StepRecipe) -> Result<Option<u64>, Error> {
    match &step.run.timeout {
        Some(text) if !text.contains("{{") => {
            seconds(&format!("{at}.script.actions.onRun.timeout"), text).map(Some)
        }
        _ => Ok(None),
    }
}

fn seconds(at: &str, text: &str) -> Result<u64, Error> {
    match text.trim().parse() {
        Ok(seconds) if seconds > 0 => Ok(seconds),
        _ => Err(Error::invalid(
            TEMPLATE,
            at,
            "it is no positive number of seconds",
        )),
    }
}

fn files(written: Option<&[job::EmbeddedFile]>) -> Vec<FileRecipe> {
    written.into_iter().flatten().map(file).collect()
}

fn file(written: &job::EmbeddedFile) -> FileRecipe {
    let data = written.data.as_ref().map(|it| it.raw().to_owned());
    let data = data.unwrap_or_default();
    let unix = || data.replace("\r\n", "\n");
    FileRecipe {
        name: written.name.clone(),
        filename: written.filename.as_ref().unwrap_or(&written.name).clone(),
        data: match written.end_of_line {
            Some(EndOfLine::Crlf) => unix().replace('\n', "\r\n"),
            Some(EndOfLine::Lf | EndOfLine::Auto) => unix(),
            None => data,
        },
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
