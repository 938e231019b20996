//! `safelight key`: this client's own keys. The secret halves are never shown.

pub(super) mod certificate;
mod change;

use clap::{Args, Subcommand};
use safelight_policies::id::{ClientAlias, KemKey, VerifyKey};
use safelight_seal::random::SystemRandom;

use crate::{
    cli::StateArgs,
    failure::{Failure, Kind, OrFail},
    jobs,
    opened::OpenedJob,
    records::{Line, utc},
    run::Books,
    state::State,
    terminal::{print, print_json, say, shown, table},
};

/// What to do with the keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make this client's keys; refuses to replace keys that are there
    ///
    /// Whoever loses these keys loses all jobs that were sealed with them, so keep a copy of the file somewhere safe.
    New(KeyArgs),
    /// Show who this client is: alias, fingerprint, public keys
    Show(KeyArgs),
    /// List the jobs that this client's keys open
    List(KeyArgs),
    /// Make new keys, and wrap every job to them; the old ones open nothing any more
    ///
    /// Who signs stays the same. May be ended at any time: the next call finishes it.
    Rotate(change::RotateArgs),
    /// Erase what opens a job, or everything of this client, for ever
    Erase(change::EraseArgs),
}

/// Arguments of every command.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Does what was asked.
pub(crate) fn run(command: KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::New(arguments) => new(&arguments),
        KeyCommand::Show(arguments) => show(&arguments),
        KeyCommand::List(arguments) => list(&arguments),
        KeyCommand::Rotate(arguments) => change::rotate(&arguments),
        KeyCommand::Erase(arguments) => change::erase(&arguments),
    }
}

fn new(arguments: &KeyArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let path = state.identity();
    // A dangling link counts: what it points to may come back.
    if std::fs::symlink_metadata(&path).is_ok() {
        let message = format!("this client has keys already, in {}", path.display());
        return Err(Failure::new(Kind::User, message).hint("safelight key show"));
    }
    let own = Own::load(&state)?;
    say(format!(
        "keep a copy of {} somewhere safe: without it the results of your jobs are lost",
        path.display()
    ));
    own.print(arguments.json)
}

fn show(arguments: &KeyArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    existing(&state)?.print(arguments.json)
}

fn list(arguments: &KeyArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let own = existing(&state)?;
    let mut rows = Vec::new();
    let mut shut = 0_u64;
    for job in Books::open(&state)?.jobs()? {
        match OpenedJob::open(&state, job.id()) {
            Ok(opened) => rows.push((job, opened.envelope)),
            Err(failure) if job.outline.client == own.alias => {
                shut += 1;
                say(format!("{}: {failure}", job.id()));
            }
            Err(_) => {}
        }
    }
    if rows.is_empty() && shut == 0 {
        say("no job was sealed with these keys yet");
    }
    if arguments.json {
        return rows.iter().try_for_each(|(job, envelope)| {
            let line = Line::default()
                .with("job", job.id().to_string())
                .with("state", job.state.to_string())
                .with("issued", utc(envelope.issued))
                .with("expires", utc(envelope.expires))
                .with("site", envelope.site.fingerprint());
            print_json(&line)
        });
    }
    if rows.is_empty() {
        return Ok(());
    }
    let cells = rows.iter().map(|(job, envelope)| {
        vec![
            job.id().to_string(),
            job.state.to_string(),
            utc(envelope.issued),
            utc(envelope.expires),
            envelope.site.fingerprint(),
        ]
    });
    let cells: Vec<_> = cells.collect();
    table(&["JOB", "STATE", "ISSUED", "EXPIRES", "SITE"], &cells)
}

/// This client, without its secrets.
struct Own {
    alias: ClientAlias,
    verify: VerifyKey,
    kem: KemKey,
    file: String,
}

impl Own {
    /// Reads the keys, making them if there are none.
    fn load(state: &State) -> Result<Self, Failure> {
        let secret = jobs::client_secret(state, &SystemRandom::new())?;
        let verify = secret.sign.public();
        Ok(Self {
            alias: jobs::alias(&verify)?,
            verify,
            kem: secret.kem.public(),
            file: state.identity().display().to_string(),
        })
    }

    fn print(&self, json: bool) -> Result<(), Failure> {
        let line = self.line();
        if json {
            return print_json(&line);
        }
        line.fields(0).try_for_each(|(name, value)| {
            let text = value.as_str().unwrap_or_default();
            print(format!("{name:<11}  {}", shown(text.as_bytes())))
        })
    }

    fn line(&self) -> Line {
        let hex = |key: &[u8; 32]| data_encoding::HEXLOWER.encode(key);
        Line::default()
            .with("alias", self.alias.to_string())
            .with("fingerprint", self.verify.fingerprint())
            .with("verify_key", hex(&self.verify.0))
            .with("kem_key", hex(&self.kem.0))
            .with("file", self.file.as_str())
    }
}

/// The keys of a client who has some.
fn existing(state: &State) -> Result<Own, Failure> {
    let path = state.identity();
    if path.try_exists().or_fail(Kind::Environment)? {
        return Own::load(state);
    }
    let message = format!(
        "this client has no keys yet: there is no {}",
        path.display()
    );
    Err(Failure::new(Kind::User, message).hint("safelight key new"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_shown_without_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let arguments = KeyArgs {
            json: true,
            state: StateArgs {
                state: Some(directory.path().to_owned()),
            },
        };
        let none = show(&arguments).unwrap_err().to_string();
        assert!(
            none.starts_with("error: this client has no keys yet"),
            "{none}"
        );
        new(&arguments).unwrap();
        let file = State::open(Some(directory.path())).unwrap().identity();
        let before = std::fs::read(&file).unwrap();
        let again = new(&arguments).unwrap_err().to_string();
        assert!(
            again.starts_with("error: this client has keys already"),
            "{again}"
        );
        assert_eq!(std::fs::read(&file).unwrap(), before);
        let own = existing(&State::open(Some(directory.path())).unwrap()).unwrap();
        let text = serde_json::to_string(&own.line()).unwrap();
        // The file is a header of 16 bytes, then three secrets of 32 bytes.
        for secret in before[16..16 + 96].chunks(32) {
            let hex = data_encoding::HEXLOWER.encode(secret);
            assert!(!text.contains(&hex), "a secret is shown");
        }
        assert!(text.contains(own.alias.as_str()));
    }
}
