//! Home again: the client opens what came back, stores it, and says what happened.
//!
//! A result lands in the directory that its central path was packed from. What stands there already is never replaced silently: if it is
//! what was sent, and `--overwrite` was not asked for, or if it is something else, the new file is stored beside it under a name that
//! says so. The names and trees of a job are hostile here too: nothing is followed, nothing is created outside.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use safelight_policies::{
    cause::Cause,
    event::{Control, Hold},
    id::{JobId, TaskId},
};
use safelight_scheduler::AttemptState;
use safelight_seal::manifest::EntryKind;

use super::{arguments::HomeArgs, books::Books};
use crate::{
    client::delivery::{self, Delivered},
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    opened::OpenedJob,
    records::{self, OpenedRecord, Summary, What},
    registers,
    state::{LogOf, State},
    terminal,
};

/// Stores the results and says what happened.
pub(crate) fn run(arguments: &HomeArgs) -> Result<ExitCode, Failure> {
    super::signals::release()?;
    let state = State::open(arguments.agent.state.state.as_deref())?;
    let opened = OpenedJob::open(&state, arguments.agent.job)?;
    let left = left(&state, arguments)?;
    let (committed, cause) = ending(&state, arguments)?;
    let homeward = opened.homeward(&state)?;
    let delivered = match &left {
        Some(left) if committed => {
            let delivered = delivery::deliver(
                &opened,
                left,
                &homeward,
                Vec::new(),
                arguments.agent.overwrite,
            )?;
            let note = Control::Delivered {
                files: delivered.stored.len() as u64,
                kept_aside: delivered.aside.len() as u64,
            };
            records::note(&state, &opened, safelight_audit::Source::Home, note)?;
            delivered
        }
        _ => {
            let client = &opened.envelope.outline.client;
            match registers::note(&state, client, opened.job(), LogOf::Job) {
                // What ended the job is said even if the register cannot be written: the same disk may be full.
                Err(failure) if !cause.is_success() => terminal::complain(&failure),
                noted => noted?,
            }
            Delivered::default()
        }
    };
    match records::read(&state, &opened) {
        Ok(records) => {
            if let Some(path) = &homeward.audit {
                records::export(&records, Path::new(OsStr::from_bytes(path)))?;
            }
            let summary = records::summary(&records);
            if arguments.agent.json {
                say_json(&opened, &cause, &delivered, &records, &summary)?;
            } else if !arguments.agent.quiet {
                let wrote_nothing = committed && left.as_ref().is_some_and(|left| left.files == 0);
                say(&opened, wrote_nothing, &delivered, &summary);
            }
        }
        // What ended the job is said even if the log cannot be read.
        Err(failure) if !cause.is_success() => terminal::complain(&failure),
        Err(failure) => return Err(failure),
    }
    delivered.complete()?;
    conclude(&opened, &cause, left.is_some())
}

/// What the attempt left.
fn left(state: &State, arguments: &HomeArgs) -> Result<Option<Left>, Failure> {
    let all = jobs::all_left(state, arguments.agent.job)?;
    Ok(all
        .into_iter()
        .find(|left| left.attempt == arguments.attempt))
}

/// How the attempt ended, which the ledger alone decides: a success is one that it accepted.
fn ending(state: &State, arguments: &HomeArgs) -> Result<(bool, Cause), Failure> {
    let attempts = Books::open(state)?.attempts(arguments.agent.job)?;
    let entry = attempts
        .iter()
        .find(|entry| entry.attempt == arguments.attempt);
    let committed = entry.is_some_and(|entry| entry.state == AttemptState::Committed);
    let cause = entry.and_then(|entry| entry.cause.clone());
    Ok((committed, cause.unwrap_or(Cause::NodeLost)))
}

fn say(opened: &OpenedJob, wrote_nothing: bool, delivered: &Delivered, summary: &Summary) {
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
    for path in &delivered.leading_out {
        let path = terminal::shown(path.as_os_str().as_bytes());
        terminal::say(format!(
            "{job}: {path} is a link that leads out of its directory; not stored"
        ));
    }
    if wrote_nothing {
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
    leading_out: Vec<String>,
    failed: Vec<String>,
    /// What held the session to its limits; nothing if it never ran.
    held: Option<Holds>,
    audit: &'a Summary,
}

/// What held a session to its limits.
#[derive(serde::Serialize)]
struct Holds {
    memory: Hold,
    processes: Hold,
    processors: Hold,
    disk: Hold,
}

impl Holds {
    /// Of the last session on the log.
    fn of(records: &[OpenedRecord]) -> Option<Self> {
        records.iter().rev().find_map(|record| match record.what {
            What::Control(Control::Held {
                memory,
                processes,
                processors,
                disk,
                ..
            }) => Some(Self {
                memory,
                processes,
                processors,
                disk,
            }),
            _ => None,
        })
    }
}

fn say_json(
    opened: &OpenedJob,
    cause: &Cause,
    delivered: &Delivered,
    records: &[OpenedRecord],
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
        leading_out: delivered.leading_out.iter().map(text).collect(),
        failed: delivered
            .failed
            .iter()
            .map(|(path, _)| text(path))
            .collect(),
        held: Holds::of(records),
        audit: summary,
    };
    terminal::say(serde_json::to_string(&said).or_fail(Kind::Internal)?);
    Ok(())
}

/// The exit code, and what to do next.
fn conclude(opened: &OpenedJob, cause: &Cause, sealed: bool) -> Result<ExitCode, Failure> {
    let job = opened.job();
    if cause.is_success() {
        return Ok(ExitCode::SUCCESS);
    }
    let why = match cause {
        Cause::NotStarted { step, errno } => not_started(opened, step, *errno),
        Cause::NotAuthentic => not_authentic(opened),
        other => other.to_string(),
    };
    let mut failure = Failure::new(Kind::JobFailed, format!("{job} failed: {why}"));
    for hint in hints(job, cause) {
        failure = failure.hint(hint);
    }
    let ran = !matches!(cause, Cause::NotStarted { .. });
    if sealed && ran {
        failure = failure.hint(format!("safelight view mount {job} DIR --attempt last"));
    }
    Err(failure)
}

/// What the render site may not know, the client may: which program, which directory.
fn not_started(opened: &OpenedJob, step: &str, errno: i32) -> String {
    let first = TaskId { step: 0, task: 0 };
    let task = opened
        .recipe()
        .ok()
        .and_then(|recipe| recipe.task(first).ok());
    let what = match (step, &task) {
        ("exec", Some(task)) => task.command.first().map(|program| ("the program", program)),
        ("directory", Some(task)) => Some(("the working directory", &task.directory)),
        _ => None,
    };
    let why = std::io::Error::from_raw_os_error(errno);
    match what {
        Some((what, name)) => format!("{what} {}: {why}", terminal::shown(name)),
        None if errno == 0 => format!("not started: {step} failed"),
        None => format!("not started: {step}: {why}"),
    }
}

/// Which of the client's files were changed.
fn not_authentic(opened: &OpenedJob) -> String {
    let Ok(inputs) = opened.inputs() else {
        return "the sealed list of its inputs is not authentic".to_owned();
    };
    let mut changed = Vec::new();
    for (tree, entry) in inputs
        .trees
        .iter()
        .flat_map(|tree| tree.entries.iter().map(move |entry| (tree, entry)))
    {
        let EntryKind::File { segments, .. } = &entry.kind else {
            continue;
        };
        let mut objects = segments.iter().filter_map(|segment| segment.object);
        let differs = |object| {
            let read = opened.area.read(object);
            read.is_err_and(|error| error.is_not_authentic())
        };
        if objects.any(differs) {
            changed.push(format!("{}/{}", tree.path, terminal::shown(&entry.path)));
        }
    }
    match changed.as_slice() {
        [] => Cause::NotAuthentic.to_string(),
        [first] => format!("{first} is not authentic"),
        [first, rest @ ..] => format!("{first} and {} more files are not authentic", rest.len()),
    }
}

/// The next steps.
fn hints(job: JobId, cause: &Cause) -> Vec<String> {
    let one = |text: &str| vec![text.to_owned()];
    match cause {
        Cause::NotAuthentic => one(
            "the secure area was changed behind Safelight's back; run the job again to seal its inputs again",
        ),
        Cause::Poisoned => one("look at the disk's space and at the policy's quota"),
        Cause::AuditLost => {
            one("look at the disk's space and at the audit directory below the state directory")
        }
        Cause::Flooded => vec![
            format!("safelight audit missing {job}"),
            format!("safelight audit files {job}"),
        ],
        Cause::TimedOut { .. } => {
            one("give it more time with --timeout, or a policy with a higher limit")
        }
        Cause::OutOfMemory => one("give it more memory: a policy with a higher limit"),
        Cause::NoOutput => vec![format!("safelight audit missing {job}")],
        Cause::Lacked { .. } => vec![format!("safelight job logs {job}")],
        Cause::Exited { .. } | Cause::Killed { .. } => {
            vec![
                format!("safelight audit missing {job}"),
                format!("safelight audit denied {job}"),
            ]
        }
        Cause::NotStarted { step, .. } if step == "exec" => one(
            "the program must be in the session's PATH or below a central path, and executable: safelight policy show POLICY",
        ),
        Cause::NotStarted { step, .. } if step == "directory" => {
            one("name a directory that is there with --workdir")
        }
        Cause::NotStarted { step, .. } if step == "files" => one(
            "the files that the task carries with it must fit the policy's /home/render: safelight policy show POLICY",
        ),
        Cause::NotStarted { .. } => one("safelight doctor"),
        Cause::ViewLost | Cause::NodeLost | Cause::NoKey => {
            one("run the job again; nothing of this attempt was kept")
        }
        Cause::Canceled => Vec::new(),
    }
}
