//! `safelight policy learn`: runs a command with everything on the log, and writes the policy that it was seen to need.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, ExitStatus},
    time::Instant,
};

use clap::Args;
use safelight_policies::{
    id::PolicyName,
    learn::{Lesson, Seen},
};
use serde::Deserialize;

use crate::{
    failure::{Failure, Kind, OrFail},
    policy_source, process,
    run::Central,
    terminal::{print, say},
};

/// The longest record that is read, in bytes: two paths and what stands around them, escaped.
const RECORD_MAX: u64 = 128 * 1024;

/// Arguments of `learn`.
#[derive(Debug, Args)]
pub(crate) struct LearnArgs {
    /// The policy to learn under, which the new one extends
    #[arg(long, value_name = "POLICY", default_value = "generic")]
    policy: String,
    /// What the new policy calls itself
    #[arg(long, value_name = "NAME", default_value = "learned")]
    name: PolicyName,
    /// A directory of yours and where the command sees it; `:ro` refuses every write
    #[arg(long, value_name = "HOST_DIR:PATH[:ro]")]
    central: Vec<String>,
    /// Where to write the policy [default: standard output, after what the command printed]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<std::ffi::OsString>,
}

/// A record of the log, as far as it matters here.
#[derive(Deserialize)]
struct Record {
    event: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    comm: String,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    call: String,
    #[serde(default)]
    what: String,
    #[serde(default)]
    times: u64,
}

/// Runs the command and writes what was learned.
pub(crate) fn run(arguments: &LearnArgs) -> Result<(), Failure> {
    let (_, base) = policy_source::load(&arguments.policy)?;
    let places = arguments.central.iter().map(|central| {
        let central: Central = central.parse().map_err(|error: String| {
            Failure::new(Kind::User, format!("--central {central}: {error}"))
        })?;
        Ok(central.path.as_str().to_owned())
    });
    let places = places.collect::<Result<Vec<String>, Failure>>()?;
    let directory = tempfile::tempdir().or_fail(Kind::Environment)?;
    let log = directory.path().join("records");
    let begun = Instant::now();
    let status = watch(arguments, &log)?;
    if !status.success() {
        let message = "the command failed, and there is nothing to learn from half a run";
        return Err(Failure::new(Kind::JobFailed, message)
            .hint("see what it was refused: safelight audit denied last"));
    }
    let (lesson, bytes) = study(&log, &places)?;
    let text = lesson.policy(&arguments.name, &base, begun.elapsed().as_secs() + 1, bytes);
    match &arguments.out {
        None => print(text),
        Some(path) => {
            fs::write(path, text).map_err(|error| {
                Failure::new(
                    Kind::User,
                    format!("cannot write {}: {error}", path.display()),
                )
            })?;
            let (path, policy) = (path.display(), &arguments.policy);
            say(format!(
                "what it allows less than {policy}: safelight policy diff {policy} {path}"
            ));
            Ok(())
        }
    }
}

fn watch(arguments: &LearnArgs, log: &std::path::Path) -> Result<ExitStatus, Failure> {
    let mut run = Command::new(process::executable()?);
    run.args(["run", "--quiet", "--policy", &arguments.policy, "--audit"])
        .arg(log);
    for central in &arguments.central {
        run.args(["--central", central]);
    }
    run.arg("--").args(&arguments.command);
    run.status().or_fail(Kind::Environment)
}

/// What the records say, and how many bytes were written.
fn study(log: &std::path::Path, places: &[String]) -> Result<(Lesson, u64), Failure> {
    let (mut lesson, mut bytes) = (Lesson::default(), 0u64);
    let mut records = BufReader::new(File::open(log).or_fail(Kind::Environment)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = std::io::Read::take(&mut records, RECORD_MAX);
        if bounded
            .read_until(b'\n', &mut line)
            .or_fail(Kind::Environment)?
            == 0
        {
            return Ok((lesson, bytes));
        }
        let Ok(record) = serde_json::from_slice::<Record>(&line) else {
            continue;
        };
        if record.event == "call-refused" {
            lesson.call_refused(&record.call, record.times);
            continue;
        }
        if record.event == "path-refused" {
            lesson.path_refused(&record.what, &record.path, record.times);
            continue;
        }
        if record.event == "close-write" {
            bytes = bytes.saturating_add(record.bytes);
        }
        let wrote = !matches!(
            record.event.as_str(),
            "lookup"
                | "open-read"
                | "close-read"
                | "list"
                | "readlink"
                | "getattr"
                | "stat"
                | "access"
        );
        if record.verdict == "denied" || record.event == "exec" {
            continue;
        }
        for path in [&record.path, &record.to] {
            let below = places
                .iter()
                .find_map(|place| path.strip_prefix(place.as_str()));
            if let Some(path) = below.filter(|path| path.is_empty() || path.starts_with('/')) {
                lesson.see(Seen {
                    path: path.trim_start_matches('/'),
                    wrote,
                    program: &record.comm,
                });
            }
        }
    }
}
