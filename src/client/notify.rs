//! Telling: a command of the client's own is run, an address of the client's own is posted to.
//!
//! Both are the client's secrets, like the job's title, so an answer says why telling failed and not whom it failed to reach. The command
//! gets no shell, no terminal and little environment; what it prints goes to the operator's log.

use std::{
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, User, geteuid},
};
use safelight_policies::id::JobId;
use serde::Serialize;

use super::protocol::NotifiedReport;
use crate::{failure::Failure, jobs::Notify, opened::OpenedJob, state::State};

/// How long a command may take.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// How long an address may take to answer.
const POST_MAX: Duration = Duration::from_secs(10);

/// Where commands are looked for.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What is posted.
#[derive(Serialize)]
struct Told<'a> {
    job: JobId,
    title: &'a str,
    state: &'a str,
    at: u64,
}

/// Tells whom the job's author wants told.
pub(super) fn tell(
    state: &State,
    job: JobId,
    word: &str,
    at: u64,
) -> Result<NotifiedReport, Failure> {
    let homeward = OpenedJob::open(state, job)?.homeward(state)?;
    let Notify { command, url } = &homeward.notify;
    let told = Told {
        job,
        title: &homeward.title,
        state: word,
        at,
    };
    Ok(NotifiedReport {
        command: run(state, command, &told, COMMAND_MAX).err(),
        url: url
            .as_deref()
            .and_then(|url| post(url, &told, POST_MAX).err()),
    })
}

/// Runs a command; an empty one is none. Answers why it failed.
fn run(state: &State, words: &[String], told: &Told<'_>, limit: Duration) -> Result<(), String> {
    let Some((program, arguments)) = words.split_first() else {
        return Ok(());
    };
    let log = || {
        let log = io::stderr().as_fd().try_clone_to_owned();
        log.map_or_else(|_| Stdio::null(), Stdio::from)
    };
    let home = User::from_uid(geteuid()).ok().flatten();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", home.map_or_else(|| "/".into(), |user| user.dir))
        .env("SAFELIGHT_JOB", told.job.to_string())
        .env("SAFELIGHT_JOB_STATE", told.state)
        // So that the command can ask Safelight about the job.
        .env("SAFELIGHT_STATE", state.root())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log())
        .stderr(log())
        .process_group(0);
    let child = command
        .spawn()
        .map_err(|error| format!("it cannot be started: {}", error.kind()))?;
    match wait(child, limit) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(status.to_string()),
        Ok(None) => Err(format!("it took longer than {} s", limit.as_secs())),
        Err(error) => Err(error.kind().to_string()),
    }
}

/// Waits for a child; after the limit it is killed with all of its process group.
fn wait(mut child: Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(20));
    }
    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    child.wait().map(|_| None)
}

/// Posts to an address. Answers why it failed.
fn post(url: &str, told: &Told<'_>, limit: Duration) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(limit))
        // Whoever answers may not send the job's title elsewhere.
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    match agent.post(url).send_json(told) {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("the answer was {}", answer.status().as_u16())),
        Err(ureq::Error::StatusCode(code)) => Err(format!("the answer was {code}")),
        Err(ureq::Error::Timeout(_)) => Err("no answer in time".to_owned()),
        Err(ureq::Error::Io(error)) => Err(error.kind().to_string()),
        Err(_) => Err("it cannot be reached".to_owned()),
    }
}
