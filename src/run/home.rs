//! Home again: the client opens what came back, stores it, and says what happened.
//!
//! A result lands in the directory that its central path was packed from. What stands there already is never replaced silently: if it is
//! what was sent, and `--overwrite` was not asked for, or if it is something else, the new file is stored beside it under a name that
//! says so. The names and trees of a job are hostile here too: nothing is followed, nothing is created outside.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use safelight_policies::{cause::Cause, event::Control};

use super::{
    arguments::HomeArgs,
    delivery::{self, Delivered},
};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    opened::OpenedJob,
    records::{self, Summary},
    state::State,
    terminal,
};

/// Stores the results and says what happened.
pub(crate) fn run(arguments: &HomeArgs) -> Result<ExitCode, Failure> {
    super::signals::release()?;
    let state = State::open(arguments.agent.state.state.as_deref())?;
    let opened = OpenedJob::open(&state, arguments.agent.job)?;
    let left = jobs::left(&state, opened.job(), arguments.attempt)?;
    let homeward = opened.homeward(&state)?;
    let delivered = match &left {
        Some(left) if left.committed => {
            let delivered = delivery::deliver(&opened, left, &homeward, arguments.agent.overwrite)?;
            let note = Control::Delivered {
                files: delivered.stored.len() as u64,
                kept_aside: delivered.aside.len() as u64,
            };
            records::note(&state, &opened, safelight_audit::Source::Home, note)?;
            delivered
        }
        _ => Delivered::default(),
    };
    let records = records::read(&state, &opened)?;
    if let Some(path) = &homeward.audit {
        records::export(&records, Path::new(std::ffi::OsStr::from_bytes(path)))?;
    }
    let summary = records::summary(&records);
    let cause = left
        .as_ref()
        .map_or(Cause::ViewLost, |left| left.cause.clone());
    if arguments.agent.json {
        say_json(&opened, &cause, &delivered, &summary)?;
    } else if !arguments.agent.quiet {
        say(&opened, left.as_ref(), &delivered, &summary);
    }
    conclude(&opened, &cause, left.is_some())
}

fn say(opened: &OpenedJob, left: Option<&Left>, delivered: &Delivered, summary: &Summary) {
    let job = opened.job();
    for path in &delivered.stored {
        terminal::say(format!(
            "{job}: stored {}",
            terminal::shown(path.as_os_str().as_bytes())
        ));
    }
    for (wanted, path) in &delivered.aside {
        let (wanted, path) = (
            terminal::shown(wanted.as_os_str().as_bytes()),
            terminal::shown(path.as_os_str().as_bytes()),
        );
        terminal::say(format!("{job}: {wanted} stands already; stored as {path}"));
    }
    if left.is_some_and(|left| left.committed && left.files == 0) {
        terminal::say(format!("{job}: the command wrote no file"));
    }
    terminal::say(format!("{job}: {summary}"));
}

#[derive(serde::Serialize)]
struct Said<'a> {
    job: String,
    cause: &'a Cause,
    stored: Vec<String>,
    kept_aside: Vec<(String, String)>,
    audit: &'a Summary,
}

fn say_json(
    opened: &OpenedJob,
    cause: &Cause,
    delivered: &Delivered,
    summary: &Summary,
) -> Result<(), Failure> {
    let text = |path: &PathBuf| path.display().to_string();
    let said = Said {
        job: opened.job().to_string(),
        cause,
        stored: delivered.stored.iter().map(text).collect(),
        kept_aside: delivered
            .aside
            .iter()
            .map(|(wanted, path)| (text(wanted), text(path)))
            .collect(),
        audit: summary,
    };
    terminal::say(serde_json::to_string(&said).or_fail(Kind::Internal)?);
    Ok(())
}

/// The exit code: the command's own if it failed by itself, ours otherwise.
fn conclude(opened: &OpenedJob, cause: &Cause, sealed: bool) -> Result<ExitCode, Failure> {
    let job = opened.job();
    if cause.is_success() {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = Failure::new(Kind::JobFailed, format!("{job} failed: {cause}"));
    let failure = match cause {
        Cause::NotAuthentic => failure.hint("the secure area was changed behind Safelight's back; seal the inputs again by running the job again"),
        Cause::Poisoned => failure.hint("a write failed: look at the disk's space and at the policy's quota"),
        Cause::TimedOut { .. } => failure.hint("give it more time with --timeout, or a policy with a higher limit"),
        Cause::NoOutput => failure.hint(format!("safelight audit missing {job}")),
        Cause::Exited { .. } | Cause::Killed { .. } => failure.hint(format!("safelight audit missing {job}")).hint(format!("safelight audit denied {job}")),
        _ => failure,
    };
    let failure = if sealed {
        failure.hint(format!("safelight view mount {job} DIR --attempt last"))
    } else {
        failure
    };
    Err(failure)
}
