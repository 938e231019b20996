//! `safelight audit prove`: that a record is on a log, for somebody who has neither the log nor a key.

use std::path::{Path, PathBuf};

use clap::Args;
use safelight_policies::id::SessionId;

use crate::{
    commands::{chosen::ChosenJob, key::certificate::Certificate},
    failure::{Failure, Kind, OrFail},
    jobs,
    records::{Logs, Name},
    registers::{self, Proof},
    state::State,
    terminal::{print, print_json, say},
};

/// Arguments of `prove`.
#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    #[command(flatten)]
    job: ChosenJob,
    /// The record, by its number on its log (`seq` in `audit show --json`)
    #[arg(long, value_name = "NUMBER")]
    seq: u64,
    /// On the log of this session, or of this look (`log_session`) [default: the job's own log]
    #[arg(long, value_name = "SESSION")]
    session: Option<SessionId>,
    /// Write the proof to this file
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

pub(super) fn run(arguments: &ProveArgs) -> Result<(), Failure> {
    let (state, opened) = arguments.job.open()?;
    let logs = Logs::of(&state, &opened)?;
    let meant = |name: Name| match (arguments.session, name) {
        (None, name) => name == Name::Job,
        (Some(_), Name::Job | Name::Release(_)) => false,
        (Some(session), name) => name.run().is_some_and(|run| run.session == session),
    };
    let log = logs.iter().find(|log| meant(log.name)).ok_or_else(|| {
        let message = format!("{} has no such log here", opened.job());
        Failure::new(Kind::User, message).hint("name a session with --session SESSION")
    })?;
    let proof = registers::prove(&state, &opened, (&logs, log), arguments.seq)?;
    match &arguments.to {
        None => print_json(&proof),
        Some(path) => {
            let text = serde_json::to_vec_pretty(&proof).or_fail(Kind::Internal)?;
            jobs::write_private(&std::path::absolute(path).or_fail(Kind::User)?, &text)?;
            say(format!(
                "record {} is proved in {}",
                arguments.seq,
                path.display()
            ));
            Ok(())
        }
    }
}

/// `safelight audit verify --proof`.
pub(super) fn verify(state: &State, path: &Path) -> Result<(), Failure> {
    let bytes = jobs::read(path)?;
    if let Some(certificate) = Certificate::read(&bytes) {
        return certificate.verify(state);
    }
    let proof: Proof = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(Kind::User, format!("{}: {error}", path.display())))?;
    let statement = registers::verify(state, &proof)?;
    print(format!(
        "record {} of {} is on the log as the register's entry {} has it",
        proof.seq, statement.job, proof.entry
    ))
}
