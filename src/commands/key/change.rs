//! `safelight key rotate` and `safelight key erase`: what cannot be undone is said before it is done.

use std::{
    io::{BufRead, IsTerminal, Write},
    path::PathBuf,
};

use clap::Args;
use safelight_policies::id::JobId;
use safelight_scheduler::{JobEntry, JobState};
use safelight_seal::random::SystemRandom;

use super::certificate::Certificate;
use crate::{
    cli::StateArgs,
    client::rotation::{self, KeysLock, key_files, shred},
    failure::{Failure, Kind, OrFail},
    jobs, process,
    records::{Line, utc},
    run::Books,
    state::State,
    terminal::{print_json, say},
    warden,
};

/// Arguments of `rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `erase`.
#[derive(Debug, Args)]
pub(crate) struct EraseArgs {
    /// The job whose keys are to be erased
    #[arg(required_unless_present = "client", conflicts_with = "client")]
    job: Option<JobId>,
    /// Erase the keys of all jobs, and this client's own
    #[arg(long)]
    client: bool,
    /// Write the certificate of what was erased, which anybody can verify
    ///
    /// It is signed by this site and this client, by way of the register; without one nothing is erased. `audit certificate` writes it
    /// again, `audit verify --proof FILE` checks it.
    #[arg(long, value_name = "FILE", conflicts_with = "client")]
    certificate: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Makes new keys and wraps every job to them.
pub(super) fn rotate(arguments: &RotateArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    require_keys(&state)?;
    let done = rotation::rotate(&state, &SystemRandom::new(), &mut || Ok(()))?;
    if arguments.json {
        return print_json(
            &Line::default()
                .with("jobs", done.jobs)
                .with("finished_earlier", done.finished),
        );
    }
    if done.finished {
        say("an earlier rotation was cut short; it is finished now, and made no other keys");
    }
    say(format!(
        "{} jobs are wrapped to the new key; nothing was sealed or sent again",
        done.jobs
    ));
    say(
        "who signs is the same, so no site has to enroll anything. Unchanged files will be sealed and sent once more, since \
         equal files are found by a new secret",
    );
    say(
        "bundles that were packed before open with the old key only: pack anew what you want to open",
    );
    say(format!(
        "keep a new copy of {}; copies of the old one open nothing that is here, but everything that was copied from here before",
        state.identity().display()
    ));
    Ok(())
}

/// Erases what opens a job, or all of them.
pub(super) fn erase(arguments: &EraseArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    require_keys(&state)?;
    match arguments.job {
        Some(job) => erase_job(arguments, &state, job),
        None => erase_client(arguments, &state),
    }
}

fn require_keys(state: &State) -> Result<(), Failure> {
    if state.identity().try_exists().or_fail(Kind::Environment)? {
        return Ok(());
    }
    Err(Failure::new(Kind::User, "this client has no keys").hint("safelight key new"))
}

fn erase_job(arguments: &EraseArgs, state: &State, job: JobId) -> Result<(), Failure> {
    let keys = state.root().join("jobs").join(job.to_string()).join("keys");
    if !keys.try_exists().or_fail(Kind::Environment)? {
        let message =
            format!("{job} has no keys here: they were erased, or it is not this client's");
        return Err(Failure::new(Kind::User, message).hint("safelight key list"));
    }
    let entries = Books::open(state)?.jobs()?;
    let of_job: Vec<_> = entries.iter().filter(|entry| entry.id() == job).collect();
    require_over(state, &of_job)?;
    let plain = format!("everything of {job} will be unreadable for ever, to you as well");
    confirm(arguments.yes, &plain, &job.to_string())?;
    // No record, no act; and with the keys gone, nobody could write what is to be certified.
    let asked = arguments.certificate.as_deref();
    certify(state, job, None, asked.is_some())?;
    let _alone = KeysLock::alone(state)?;
    let erased = erase_keys(state, job)?;
    if arguments.json {
        print_json(&erased)?;
    }
    say(format!("the keys of {job} are erased"));
    if let Some(path) = asked {
        Certificate::of(state, job)?.write(path)?;
        say(format!("the certificate is in {}", path.display()));
    }
    remains(state);
    Ok(())
}

/// Certifies what is about to be erased. A log or register that is damaged keeps nobody from erasing who asks for no certificate.
fn certify(state: &State, job: JobId, also: Option<&str>, asked: bool) -> Result<(), Failure> {
    match Certificate::prepare(state, job, also) {
        Err(failure) if !asked => {
            say(format!("{job} has no certificate: {}", failure.message()));
            Ok(())
        }
        prepared => prepared,
    }
}

fn erase_client(arguments: &EraseArgs, state: &State) -> Result<(), Failure> {
    let entries = Books::open(state)?.jobs()?;
    let own: Vec<_> = key_files(state)?.into_iter().map(|(job, _)| job).collect();
    let of_own: Vec<_> = (entries.iter().filter(|entry| own.contains(&entry.id()))).collect();
    require_over(state, &of_own)?;
    let secret = jobs::client_secret(state, &SystemRandom::new())?;
    let alias = jobs::alias(&secret.sign.public())?;
    let plain = format!(
        "everything of all {} jobs of {alias} will be unreadable for ever, to you as well, and nobody can sign as {alias} again",
        own.len()
    );
    confirm(arguments.yes, &plain, alias.as_str())?;
    let also = format!("the keys of {alias}, which signed and received everything of this client");
    for (job, _) in key_files(state)? {
        certify(state, job, Some(&also), false)?;
    }
    let _alone = KeysLock::alone(state)?;
    // The jobs first: with the client's key gone, their keys would be noise that still looks like keys.
    for (job, _) in key_files(state)? {
        let erased = erase_keys(state, job)?;
        if arguments.json {
            print_json(&erased)?;
        }
    }
    shred(&state.identity())?;
    say(format!("the keys of {alias} are erased"));
    say("sites that enrolled this client should revoke it: safelight site revoke");
    remains(state);
    Ok(())
}

/// A job that is not over has its key elsewhere, where it is in use; and one of a queue that succeeded has results that are not at home.
fn require_over(state: &State, entries: &[&JobEntry]) -> Result<(), Failure> {
    let queued = |job: JobId| state.root().join("jobs").join(job.to_string()).join("list");
    let over = |entry: &JobEntry| match entry.state {
        JobState::Delivered | JobState::Failed | JobState::Canceled => true,
        // Whoever runs one command takes its results home at once.
        JobState::Succeeded => !queued(entry.id()).exists(),
        _ => false,
    };
    match entries.iter().find(|entry| !over(entry)) {
        None => Ok(()),
        Some(entry) => Err(Failure::new(
            Kind::User,
            format!("{} is {}: its key is in use", entry.id(), entry.state),
        )
        .hint(format!(
            "end it first: safelight job cancel {}; then the site that has it erases its prekey",
            entry.id()
        ))),
    }
}

/// Erases both ends: the prekey here, if this site has it, then the wrapped keys. Says before what it erases, for whoever asks later.
fn erase_keys(state: &State, job: JobId) -> Result<Line, Failure> {
    let directory = state.job(job)?;
    let path = directory.join("keys");
    let readers = jobs::keys(state, job)?.map_or(0, |keys| keys.readers().len());
    let line = Line::default()
        .with("job", job.to_string())
        .with("erased", utc(process::now_seconds()))
        .with("readers", readers as u64);
    let said = serde_json::to_vec(&line).or_fail(Kind::Internal)?;
    jobs::write_private(&directory.join("erased.json"), &said)?;
    if directory.join("envelope").exists() {
        warden::erase(state, job)?;
    }
    shred(&path)?;
    Ok(line)
}

/// What is still there, and for whom.
fn remains(state: &State) {
    say(
        "what is left: sealed objects, until `safelight area collect` removes those that no other job shares;",
    );
    say("  a file that another job has too can be read through that job;");
    say("  bundles that were packed before, and backups of this host's state, open as before;");
    say(format!(
        "  the disk below {} may keep old blocks until they are written over",
        state.root().display()
    ));
}

/// Asks for a word; without a terminal, for `--yes`.
fn confirm(yes: bool, plain: &str, word: &str) -> Result<(), Failure> {
    say(format!("{plain}. This cannot be undone."));
    if yes {
        return Ok(());
    }
    let refused = |why: &str| Failure::new(Kind::User, why).hint("--yes does not ask");
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(refused("nothing was erased: there is nobody to ask"));
    }
    let mut talk = std::io::stderr();
    let asked = write!(talk, "type {word} to go on: ").and_then(|()| talk.flush());
    asked.or_fail(Kind::Environment)?;
    let mut line = String::new();
    input.lock().read_line(&mut line).or_fail(Kind::User)?;
    if line.trim() == word {
        return Ok(());
    }
    Err(refused("nothing was erased"))
}
