//! `safelight submit`: a job bundle becomes a sealed job in this site's queue.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
    str::FromStr,
};

use clap::Args;
use safelight_policies::id::SiteName;
use safelight_scheduler::Wanted;

use crate::{
    cli::StateArgs,
    client::submit::{Handed, Submitted, submit},
    failure::{Failure, Kind},
    process,
    reader::Reader,
    records::Line,
    site::{Config, Role},
    state::State,
    terminal,
};

/// Arguments of `submit`.
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// The job bundle: a directory with an Open Job Description template and the files beside it
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The value of a parameter of the job
    #[arg(short, long = "parameter", value_name = "NAME=VALUE")]
    parameter: Vec<Value>,
    /// Where it may be rendered: auto, local, or the name of a site [default: as the job says, or auto]
    #[arg(long = "where", value_name = "PLACE")]
    place: Option<Place>,
    /// From 0 (last) to 100 (first) [default: as the job says, or 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=100))]
    priority: Option<u8>,
    /// What the job may do: a policy's name, or a TOML file [default: as the job says, or generic]
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// The receiving key of somebody who may read the job later, from a bundle of it: `safelight key show` prints theirs
    #[arg(long, value_name = "KEY")]
    reader: Vec<Reader>,
    /// Pack also what an earlier job looked for, by its audit, where it is there now: its id, the beginning of it, or `last`
    ///
    /// That is what it read, and what `audit missing` names. Only what lies below the job's central directories is taken.
    #[arg(long, value_name = "JOB")]
    from_audit: Option<String>,
    /// Read every file, also those that did not change since they were last handed in
    ///
    /// Unchanged is what has the same length, times and number, on a file system that can be believed (ext4, XFS, Btrfs); what changed within
    /// a second before it was read is read again anyway.
    #[arg(long)]
    reread: bool,
    /// Wait until the job's results are at home, and say what happens to it; 10 if there are none
    #[arg(long)]
    wait: bool,
    /// One JSON object instead of the job's id
    #[arg(long)]
    json: bool,
    /// Say nothing but what went wrong
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// One `-p`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Value(String, String);

impl FromStr for Value {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
        if name.is_empty() {
            return Err("the name is empty");
        }
        Ok(Self(name.to_owned(), value.to_owned()))
    }
}

/// One `--where`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place(Wanted);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(match text {
            "auto" => Wanted::Auto,
            "local" => Wanted::Local,
            name => Wanted::Site(
                SiteName::new(name)
                    .map_err(|error| format!("expected auto, local or a site: {error}"))?,
            ),
        }))
    }
}

/// Hands the job in, and follows it if that was asked for.
pub(crate) fn run(arguments: SubmitArgs) -> Result<ExitCode, Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    check_site(&state, arguments.quiet)?;
    let (json, quiet, wait) = (arguments.json, arguments.quiet, arguments.wait);
    let handed = Handed {
        directory: arguments.directory,
        values: arguments
            .parameter
            .into_iter()
            .map(|Value(name, value)| (name, value))
            .collect(),
        place: arguments.place.map(|Place(wanted)| wanted),
        priority: arguments.priority,
        policy: arguments.policy,
        readers: arguments.reader.into_iter().map(|it| it.0).collect(),
        from_audit: arguments.from_audit,
        reread: arguments.reread,
        quiet,
    };
    let submitted = submit(&state, &handed)?;
    say(&submitted, json, quiet)?;
    if wait {
        return follow(&state, &submitted, json, quiet);
    }
    Ok(ExitCode::SUCCESS)
}

/// A site that renders for others has no client of its own; a host that is no site yet keeps the job until it is one.
fn check_site(state: &State, quiet: bool) -> Result<(), Failure> {
    if !Config::path(state).exists() {
        if !quiet {
            terminal::say("this host is no site yet: the job waits until 'safelight serve' runs");
        }
        return Ok(());
    }
    let config = Config::read(state)?;
    match config.role {
        Role::Local => Ok(()),
        Role::Remote => {
            let message = format!("{} renders for other sites", config.name);
            let hint =
                "hand the job in at the client's own site, or name its state with --state DIR";
            Err(Failure::new(Kind::User, message).hint(hint))
        }
    }
}

fn say(submitted: &Submitted, json: bool, quiet: bool) -> Result<(), Failure> {
    let Submitted {
        job,
        policy,
        steps,
        tasks,
        files,
        bytes,
    } = submitted;
    if !quiet {
        terminal::say(format!(
            "{job}: sealed {files} files, {}; {tasks} tasks wait",
            terminal::bytes(*bytes)
        ));
    }
    if !json {
        return terminal::print(job);
    }
    let line = Line::default()
        .with("job", job.to_string())
        .with("policy", policy.to_string())
        .with("steps", *steps)
        .with("tasks", *tasks)
        .with("files", *files)
        .with("bytes", *bytes);
    terminal::print_json(&line)
}

/// Becomes a program that only waits: names and values of the job's are in this one's memory, arguments and environment.
fn follow(
    state: &State,
    submitted: &Submitted,
    json: bool,
    quiet: bool,
) -> Result<ExitCode, Failure> {
    let mut follow = Command::new(process::executable()?);
    follow
        .arg("__follow")
        .arg("--job")
        .arg(submitted.job.to_string())
        .arg("--state")
        .arg(state.root())
        .env_clear();
    for (flag, set) in [("--json", json), ("--quiet", quiet)] {
        if set {
            follow.arg(flag);
        }
    }
    if let Ok(filter) = std::env::var("SAFELIGHT_LOG") {
        follow.env("SAFELIGHT_LOG", filter);
    }
    let _ = std::io::stdout().flush();
    Err(Failure::new(
        Kind::Environment,
        format!("cannot wait: {}", follow.current_dir("/").exec()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_reads_to_the_first_equals_sign() {
        let value = |text: &str| text.parse::<Value>();
        assert_eq!(
            value("Name=a=b"),
            Ok(Value("Name".to_owned(), "a=b".to_owned()))
        );
        assert_eq!(value("Name="), Ok(Value("Name".to_owned(), String::new())));
        assert_eq!(value("Name"), Err("expected NAME=VALUE"));
        assert_eq!(value("=x"), Err("the name is empty"));
    }

    #[test]
    fn a_place_is_a_word_or_a_site() {
        let place = |text: &str| text.parse::<Place>().map(|Place(wanted)| wanted);
        assert_eq!(place("auto"), Ok(Wanted::Auto));
        assert_eq!(place("local"), Ok(Wanted::Local));
        assert_eq!(
            place("cloud-1"),
            Ok(Wanted::Site(SiteName::new("cloud-1").unwrap()))
        );
        assert!(place("").is_err() && place("no such site").is_err());
    }
}
