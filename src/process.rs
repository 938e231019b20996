//! Our own processes: how each is started, with what user, and where its main function is.
//!
//! A process gets a clean environment, a channel on standard input and nothing else: no secret travels in arguments or environment. It
//! leads a process group of its own, so that Ctrl-C reaches the agent alone, which then ends everything in order.

use std::{
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use safelight_channel::Channel;
use safelight_job::{
    EmbeddedFile,
    expand::{self, SESSION_DIRECTORY},
};
use safelight_policies::id::TaskId;
use safelight_seal::random::SystemRandom;
use safelight_vfs::session::{Action, Environment, Expand, SessionFile, Task};

use crate::failure::{Failure, Kind, OrFail};

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds since 1970.
pub(crate) fn now_seconds() -> u64 {
    now() / 1_000_000_000
}

/// A process of ours and the channel to it.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) channel: Channel,
}

/// The user and group of a process; `None` is ours.
pub(crate) type Identity = Option<(u32, u32)>;

/// Starts this program again as `command`. `directory` becomes its working directory, even if its user could not reach it by its path.
pub(crate) fn start(
    command: &str,
    arguments: &[&str],
    identity: Identity,
    directory: Option<&OwnedFd>,
) -> Result<Process, Failure> {
    let (ours, theirs) = Channel::pair().or_fail(Kind::Environment)?;
    let mut process = Command::new(executable()?);
    process
        .arg(command)
        .args(arguments)
        .env_clear()
        .process_group(0);
    process
        .stdin(Stdio::from(theirs.into_descriptor()))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    if let Ok(filter) = std::env::var("SAFELIGHT_LOG") {
        process.env("SAFELIGHT_LOG", filter);
    }
    match directory {
        Some(directory) => process.current_dir(format!("/proc/self/fd/{}", directory.as_raw_fd())),
        None => process.current_dir("/"),
    };
    if let Some((uid, gid)) = identity {
        process.uid(uid).gid(gid);
    }
    let child = process.spawn().map_err(|error| {
        Failure::new(
            Kind::Environment,
            format!("cannot start {command}: {error}"),
        )
    })?;
    Ok(Process {
        child,
        channel: ours,
    })
}

/// This program's own file.
pub(crate) fn executable() -> Result<PathBuf, Failure> {
    std::env::current_exe().or_fail(Kind::Environment)
}

/// Runs a hidden command if that is what was asked for. Each of these has its story in its own crate.
pub(crate) fn internal_main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next()?;
    match command.to_str()? {
        safelight_worker::launch::COMMAND => Some(safelight_worker::launcher::main()),
        "__view" => {
            crate::terminal::start_logging();
            Some(safelight_vfs::server::main(
                &SystemRandom::new(),
                now,
                EXPAND,
            ))
        }
        crate::proxy::COMMAND => {
            crate::terminal::start_logging();
            Some(crate::proxy::main())
        }
        crate::look::operator::COMMAND => {
            crate::terminal::start_logging();
            Some(crate::look::operator::main())
        }
        crate::look::COMMAND => {
            crate::terminal::start_logging();
            Some(crate::look::main())
        }
        "__audit" => {
            crate::terminal::start_logging();
            Some(audit_main())
        }
        _ => None,
    }
}

fn audit_main() -> ExitCode {
    let outcome = Channel::to_parent()
        .map_err(|error| error.to_string())
        .and_then(|parent| {
            safelight_audit::writer::serve(&parent, now).map_err(|error| {
                crate::failure::Failure::from_error(Kind::Internal, &error).to_string()
            })
        });
    match outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("audit writer: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the view server needs of a recipe.
const EXPAND: Expand = Expand { task, around };

/// One task, of a whole job or of the single command that is its own first task; of frames in chunks, up to so many.
fn task(bytes: &[u8], TaskId { step, task }: TaskId, most: u32) -> Option<Task> {
    let task = expand::task(bytes, step, task, most).ok()?;
    Some(Task {
        files: files(task.files)?,
        command: task.command,
        directory: task.directory,
        env: task.env.into_iter().collect(),
        expect: task.expect,
        timeout: task.timeout,
        notice: task.notice,
        tasks: task.tasks,
    })
}

/// What stands around the tasks of a step.
fn around(bytes: &[u8], step: u32) -> Option<Option<Vec<Environment>>> {
    let Some(all) = expand::around(bytes, step).ok()? else {
        return Some(None);
    };
    let action = |action: Option<expand::Action>| match action {
        None => Some(None),
        Some(action) => Some(Some(Action {
            files: files(action.files)?,
            command: action.command,
            timeout: action.timeout,
            notice: action.notice,
        })),
    };
    let environment = |it: expand::Environment| {
        Some(Environment {
            variables: it.variables,
            enter: action(it.enter)?,
            exit: action(it.exit)?,
        })
    };
    let all: Option<Vec<_>> = all.into_iter().map(environment).collect();
    all.map(Some)
}

fn files(files: Vec<EmbeddedFile>) -> Option<Vec<SessionFile>> {
    let files = files.into_iter().map(|file| {
        let below = file.path.strip_prefix(SESSION_DIRECTORY.as_bytes())?;
        Some(SessionFile {
            name: below.strip_prefix(b"/")?.to_vec(),
            bytes: file.bytes,
            runnable: file.executable,
        })
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use safelight_job::{JobPlan, Recipe, Source};

    use super::*;

    const TEMPLATE: &str = r##"
specificationVersion: jobtemplate-2023-09
name: frames
steps:
  - name: render
    parameterSpace:
      taskParameterDefinitions:
        - {name: Frame, type: INT, range: "1-9"}
    script:
      embeddedFiles:
        - {name: Run, type: TEXT, filename: run.sh, runnable: true, data: "#!/bin/sh\necho {{Task.Param.Frame}}"}
      actions:
        onRun: {command: "{{Task.File.Run}}", args: ["-f", "{{Task.Param.Frame}}"]}
"##;

    #[test]
    fn a_task_of_a_job_comes_with_its_files() {
        let plan = JobPlan::read(&Source {
            directory: "/studio",
            template: TEMPLATE,
            parameter_values: None,
            asset_references: None,
            environments: &[],
            job: None,
            overrides: &[],
        });
        let (_, recipe) = plan.unwrap().split(submission()).unwrap();
        let bytes = recipe.encode().unwrap();
        let made = task(&bytes, TaskId { step: 0, task: 4 }, 1).unwrap();
        let words = [&b"/bin/sh"[..], b"/home/render/run.sh", b"-f", b"5"];
        assert_eq!(made.command, words);
        assert_eq!(made.directory, b"/home/render");
        let file = SessionFile {
            name: b"run.sh".to_vec(),
            bytes: b"#!/bin/sh\necho 5".to_vec(),
            runnable: true,
        };
        assert_eq!(made.files, [file]);
        assert!(task(&bytes, TaskId { step: 0, task: 9 }, 1).is_none());
        assert!(task(&bytes, TaskId { step: 1, task: 0 }, 1).is_none());
    }

    #[test]
    fn a_single_command_is_its_own_first_task() {
        let recipe = Recipe {
            command: vec![b"povray".to_vec()],
            directory: b"/mnt/show".to_vec(),
            env: BTreeMap::from([(b"TZ".to_vec(), b"UTC".to_vec())]),
            expect: vec![b"/mnt/show/a.png".to_vec()],
            title: "dragon".to_owned(),
        };
        let bytes = recipe.encode().unwrap();
        let made = task(&bytes, TaskId { step: 0, task: 0 }, 1).unwrap();
        assert_eq!(made.command, recipe.command);
        assert_eq!(made.directory, recipe.directory);
        assert_eq!(made.env, [(b"TZ".to_vec(), b"UTC".to_vec())]);
        assert_eq!(made.expect, recipe.expect);
        assert!(made.files.is_empty());
        assert!(task(&bytes, TaskId { step: 0, task: 1 }, 1).is_none());
        assert!(task(b"neither", TaskId { step: 0, task: 0 }, 1).is_none());
    }

    fn submission() -> safelight_job::Submission {
        use safelight_policies::id::{ClientAlias, JobId, PolicyDigest, PolicyName};
        safelight_job::Submission {
            job: JobId::from_random([7; 10]),
            client: ClientAlias::new("c-1").unwrap(),
            policy: PolicyName::new("generic").unwrap(),
            policy_digest: PolicyDigest([9; 32]),
            wall: 7200,
            expires: 1000,
        }
    }
}
