//! `safelight job`: which jobs there are, how their attempts ended, what they printed and wrote.
//!
//! What the books hold may be shown to anyone who may read them; what a job printed and wrote opens with its client's key only.

use std::{
    io::{self, IsTerminal, Write},
    str::FromStr,
};

use clap::{Args, Subcommand};
use safelight_policies::id::JobId;
use safelight_scheduler::{AttemptEntry, AttemptState, JobEntry};
use safelight_seal::manifest::{Entry, EntryKind, Manifest};
use safelight_vfs::console;

use super::{
    chosen::ChosenJob,
    control::{self, Act},
    watch,
};
use crate::{
    cli::StateArgs,
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left, Order},
    records::{Line, utc},
    run::Books,
    state::State,
    terminal::{self, print, print_json, say, shown, table},
};

/// What is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// List the jobs of this host, newest first
    List(ListArgs),
    /// Show a job: its policy, its state, and how its attempts ended
    Show(ShowArgs),
    /// Print what a job's command printed
    ///
    /// On a terminal, characters that could do more than be read are replaced; elsewhere the bytes are as they came.
    Logs(LogsArgs),
    /// List what an attempt of a job wrote
    Outputs(OutputsArgs),
    /// Tell what happens to a job, down to each frame, from submission to storage, until it is over
    Watch(watch::WatchArgs),
    /// Tell where a job was placed and why, and what keeps it from running
    Why(control::WhyArgs),
    /// Begin nothing more of a job until it is resumed; what runs goes on
    Pause(control::ActArgs),
    /// Let a paused job go on
    Resume(control::ActArgs),
    /// End a job, here and where it was sent
    Cancel(control::ActArgs),
    /// Try the tasks of a failed job again that were given up
    Retry(control::ActArgs),
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    job: ChosenJob,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    job: ChosenJob,
    /// The attempt: a number, or `last`
    #[arg(long, value_name = "N", default_value = "last")]
    attempt: Wanted,
}

/// Arguments of `outputs`.
#[derive(Debug, Args)]
pub(crate) struct OutputsArgs {
    #[command(flatten)]
    job: ChosenJob,
    /// The attempt: a number, or `last`
    #[arg(long, value_name = "N", default_value = "last")]
    attempt: Wanted,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Which attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The last that left something.
    Last,
    /// This one.
    Number(u32),
}

impl FromStr for Wanted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("last", _) => Ok(Self::Last),
            (_, Ok(number)) if number > 0 => Ok(Self::Number(number)),
            _ => Err("expected a number from 1, or last"),
        }
    }
}

/// Answers.
pub(crate) fn run(command: JobCommand) -> Result<(), Failure> {
    match command {
        JobCommand::List(arguments) => list(&arguments),
        JobCommand::Show(arguments) => show(&arguments),
        JobCommand::Logs(arguments) => logs(&arguments),
        JobCommand::Outputs(arguments) => outputs(&arguments),
        JobCommand::Watch(arguments) => watch::run(&arguments).map(drop),
        JobCommand::Why(arguments) => control::why(&arguments),
        JobCommand::Pause(arguments) => control::act(&arguments, Act::Pause),
        JobCommand::Resume(arguments) => control::act(&arguments, Act::Resume),
        JobCommand::Cancel(arguments) => control::act(&arguments, Act::Cancel),
        JobCommand::Retry(arguments) => control::act(&arguments, Act::Retry),
    }
}

fn list(arguments: &ListArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let jobs = Books::open(&state)?.jobs()?;
    if arguments.json {
        return jobs.iter().try_for_each(|job| print_json(&summary(job)));
    }
    if jobs.is_empty() {
        say("no job has run on this host yet");
        return Ok(());
    }
    let cells = |job: &JobEntry| {
        vec![
            job.id().to_string(),
            job.state.to_string(),
            utc(job.submitted_at),
            job.outline.policy.to_string(),
            job.outline.client.to_string(),
        ]
    };
    let rows: Vec<_> = jobs.iter().map(cells).collect();
    table(&["JOB", "STATE", "SUBMITTED", "POLICY", "CLIENT"], &rows)
}

/// What the books say of a job.
fn summary(job: &JobEntry) -> Line {
    let outline = &job.outline;
    Line::default()
        .with("job", job.id().to_string())
        .with("state", job.state.to_string())
        .with("submitted", utc(job.submitted_at))
        .with("expires", utc(outline.expires))
        .with("policy", outline.policy.to_string())
        .with("policy_digest", outline.policy_digest.to_string())
        .with("client", outline.client.to_string())
        .with("audit_records", job.anchor.map(|anchor| anchor.records))
}

fn show(arguments: &ShowArgs) -> Result<(), Failure> {
    let (state, job) = arguments.job.find()?;
    let books = Books::open(&state)?;
    let row = books.jobs()?.into_iter().find(|row| row.id() == job);
    let row = row.ok_or_else(|| Failure::new(Kind::User, format!("the books have no {job}")))?;
    let mut line = summary(&row);
    if let Some(order) = order(&state, job)? {
        line = line.with("files", order.files).with("bytes", order.bytes);
    }
    let mut attempts = Vec::new();
    for attempt in books.attempts(job)? {
        let left = jobs::left(&state, job, attempt.session)?;
        attempts.push((attempt, left));
    }
    if arguments.json {
        let attempts: Vec<_> = attempts.iter().map(attempt_line).collect();
        let attempts = serde_json::to_value(attempts).or_fail(Kind::Internal)?;
        return print_json(&line.with("attempts", attempts));
    }
    for (name, value) in line.fields(0).filter(|(_, value)| !value.is_null()) {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        print(format!("{name:<13}  {}", shown(text.as_bytes())))?;
    }
    for (attempt, left) in &attempts {
        let number = attempt.attempt;
        print(format!(
            "attempt {number:<4}   {}",
            ending(attempt, left.as_ref())
        ))?;
    }
    Ok(())
}

/// What was packed. A job that this host only carries has no order here.
fn order(state: &State, job: JobId) -> Result<Option<Order>, Failure> {
    let path = state.job(job)?.join("order.json");
    if !path.exists() {
        return Ok(None);
    }
    serde_json::from_slice(&jobs::read(&path)?)
        .map(Some)
        .or_fail(Kind::Config)
}

fn attempt_line((attempt, left): &(AttemptEntry, Option<Left>)) -> Line {
    let cause = attempt.cause.as_ref().map(ToString::to_string);
    let line = Line::default()
        .with("attempt", attempt.attempt)
        .with("state", attempt.state.to_string())
        .with("cause", cause)
        .with("session", attempt.session.to_string())
        .with("fence", attempt.fence.0)
        .with("node", attempt.place.node.to_string())
        .with("slot", attempt.place.slot.0)
        .with("leased", utc(attempt.leased_at))
        .with("ended", attempt.ended_at.map(utc));
    match left {
        None => line,
        Some(left) => line.with("files", left.files).with("bytes", left.bytes),
    }
}

fn ending(attempt: &AttemptEntry, left: Option<&Left>) -> String {
    let mut text = attempt.state.to_string();
    // What the session left says why it ended even if the ledger was never told.
    if let Some(cause) = attempt.cause.as_ref().or(left.map(|left| &left.cause)) {
        text.push_str(&format!(": {cause}"));
    }
    match left {
        Some(left) => format!(
            "{text}; wrote {} files, {}",
            left.files,
            terminal::bytes(left.bytes)
        ),
        None => format!("{text}; nothing sealed"),
    }
}

/// The attempt that is meant, and what it left.
fn left(state: &State, job: JobId, wanted: Wanted) -> Result<(AttemptEntry, Left), Failure> {
    let fits = |attempt: &&AttemptEntry| match wanted {
        Wanted::Last => true,
        Wanted::Number(number) => attempt.attempt == number,
    };
    let attempts = Books::open(state)?.attempts(job)?;
    for attempt in attempts.iter().filter(fits).rev() {
        if let Some(left) = jobs::left(state, job, attempt.session)? {
            return Ok((attempt.clone(), left));
        }
    }
    let message = match wanted {
        Wanted::Last => format!("no attempt of {job} left anything"),
        Wanted::Number(number) => format!("attempt {number} of {job} left nothing"),
    };
    Err(Failure::new(Kind::User, message).hint(format!("safelight job show {job}")))
}

fn logs(arguments: &LogsArgs) -> Result<(), Failure> {
    let (state, opened) = arguments.job.open()?;
    let (_, left) = left(&state, opened.job(), arguments.attempt)?;
    let text = opened.log(&left)?;
    if text.is_empty() {
        say(format!("{}: the command printed nothing", opened.job()));
    }
    let mut out = io::stdout().lock();
    let written = if out.is_terminal() {
        out.write_all(console::harmless(&text).as_bytes())
    } else {
        out.write_all(&text)
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Kind::Environment,
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

fn outputs(arguments: &OutputsArgs) -> Result<(), Failure> {
    let (state, opened) = arguments.job.open()?;
    let job = opened.job();
    let (entry, left) = left(&state, job, arguments.attempt)?;
    let results = opened.results(&left)?;
    let rows: Vec<_> = written(&results).collect();
    if entry.state != AttemptState::Committed {
        let (attempt, cause) = (left.attempt, &left.cause);
        say(format!(
            "{job}: attempt {attempt} was not accepted ({cause}); this is set apart"
        ));
    }
    if rows.is_empty() {
        say(format!("{job}: the command wrote no file"));
        return Ok(());
    }
    if arguments.json {
        return rows.iter().try_for_each(|row| print_json(&row.line()));
    }
    let cells: Vec<_> = rows.iter().map(Output::cells).collect();
    table(&["KIND", "BYTES", "PATH"], &cells)
}

/// One entry of a result.
struct Output<'a> {
    path: Vec<u8>,
    entry: &'a Entry,
}

/// The entries of a result by their full paths. A tree's root and the directories that only lead to an entry are no result.
fn written(results: &Manifest) -> impl Iterator<Item = Output<'_>> {
    results.trees.iter().flat_map(|tree| {
        let central = tree.path.as_str().as_bytes();
        let is_result =
            |entry: &&Entry| !matches!(entry.kind, EntryKind::Directory { opaque: false });
        tree.entries.iter().filter(is_result).map(move |entry| {
            let path = match entry.path.as_slice() {
                [] => central.to_vec(),
                path => [central, path].join(&b'/'),
            };
            Output { path, entry }
        })
    })
}

impl Output<'_> {
    fn kind(&self) -> &'static str {
        match self.entry.kind {
            EntryKind::Directory { .. } => "directory",
            EntryKind::File { .. } => "file",
            EntryKind::Symlink { .. } => "symlink",
            EntryKind::Link { .. } => "link",
            EntryKind::Whiteout => "removed",
        }
    }

    fn bytes(&self) -> Option<u64> {
        match self.entry.kind {
            EntryKind::File { len, .. } => Some(len),
            _ => None,
        }
    }

    fn cells(&self) -> Vec<String> {
        let bytes = self
            .bytes()
            .map_or("-".to_owned(), |bytes| bytes.to_string());
        vec![self.kind().to_owned(), bytes, shown(&self.path)]
    }

    fn line(&self) -> Line {
        Line::default()
            .with("kind", self.kind())
            .with("bytes", self.bytes())
            .with_path(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use safelight_policies::{
        cause::Cause,
        id::{Fence, ObjectId, SlotIndex, TaskId},
    };
    use safelight_scheduler::Place;
    use safelight_seal::manifest::{Kind as ManifestKind, Tree};

    use super::*;
    use crate::records::samples::SESSION;

    fn left() -> Left {
        Left {
            task: TaskId { step: 0, task: 0 },
            manifest: Some(ObjectId([0; 32])),
            log: Some(ObjectId([0; 32])),
            session: SESSION,
            attempt: 1,
            fence: Fence(9),
            cause: Cause::Exited { code: 0 },
            files: 2,
            bytes: 2048,
            audit: vec![],
            list: None,
            site: None,
            at: 2,
        }
    }

    fn attempt(state: AttemptState, cause: Option<Cause>) -> AttemptEntry {
        AttemptEntry {
            task: TaskId { step: 0, task: 0 },
            attempt: 1,
            fence: Fence(9),
            session: SESSION,
            place: Place {
                node: "localhost".parse().unwrap(),
                slot: SlotIndex(3),
            },
            leased_at: 1,
            lease_until: 90,
            state,
            ended_at: cause.as_ref().map(|_| 2),
            cause,
            result: None,
            anchor: None,
        }
    }

    #[test]
    fn an_attempt_is_a_number_or_the_last() {
        assert_eq!("last".parse(), Ok(Wanted::Last));
        assert_eq!("3".parse(), Ok(Wanted::Number(3)));
        for text in ["0", "-1", "", "first", "4294967296"] {
            assert!(text.parse::<Wanted>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_ending_says_whether_it_counts_and_why() {
        let running = attempt(AttemptState::Running, None);
        let accepted = attempt(AttemptState::Committed, None);
        let failed = attempt(AttemptState::Failed, Some(Cause::OutOfMemory));
        for (attempt, left, text) in [
            (
                &accepted,
                Some(&left()),
                "committed: exited with code 0; wrote 2 files, 2.0 KiB",
            ),
            (
                &failed,
                Some(&left()),
                "failed: out of memory; wrote 2 files, 2.0 KiB",
            ),
            (&failed, None, "failed: out of memory; nothing sealed"),
            (&running, None, "running; nothing sealed"),
        ] {
            assert_eq!(ending(attempt, left), text);
        }
        let json = |attempt| serde_json::to_string(&attempt_line(&attempt)).unwrap();
        assert_eq!(
            json((running, None)),
            r#"{"attempt":1,"state":"running","cause":null,"session":"ses-0000000000000000","fence":9,"node":"localhost","slot":3,"leased":"1970-01-01T00:00:01Z","ended":null}"#
        );
        assert_eq!(
            json((failed, Some(left()))),
            r#"{"attempt":1,"state":"failed","cause":"out of memory","session":"ses-0000000000000000","fence":9,"node":"localhost","slot":3,"leased":"1970-01-01T00:00:01Z","ended":"1970-01-01T00:00:02Z","files":2,"bytes":2048}"#
        );
    }

    #[test]
    fn outputs_are_what_was_written_and_not_what_leads_there() {
        let entry = |path: &[u8], kind| Entry {
            path: path.to_vec(),
            kind,
            mode: 0o644,
            mtime_ns: 0,
            xattrs: Vec::new(),
        };
        let directory = |opaque| EntryKind::Directory { opaque };
        let file = EntryKind::File {
            len: 7,
            segments: Vec::new(),
        };
        let results = Manifest {
            job: JobId::from_random([0; 10]),
            kind: ManifestKind::Inputs,
            trees: vec![Tree {
                path: "/mnt/c".parse().unwrap(),
                entries: vec![
                    entry(b"", directory(false)),
                    entry(b"new", directory(true)),
                    entry(b"new/\xff\x1b", file),
                    entry(b"old", directory(false)),
                    entry(b"old/gone", EntryKind::Whiteout),
                ],
            }],
        };
        let rows: Vec<_> = written(&results).collect();
        let cells: Vec<_> = rows.iter().map(Output::cells).collect();
        assert_eq!(
            cells,
            [
                ["directory", "-", "/mnt/c/new"],
                ["file", "7", "/mnt/c/new/\u{fffd}\\u{1b}"],
                ["removed", "-", "/mnt/c/old/gone"],
            ]
        );
        assert_eq!(
            serde_json::to_string(&rows[1].line()).unwrap(),
            "{\"kind\":\"file\",\"bytes\":7,\"path\":\"/mnt/c/new/\u{fffd}\\u001b\",\"path_hex\":\"2f6d6e742f632f6e65772fff1b\"}"
        );
        assert!(
            serde_json::to_string(&rows[0].line())
                .unwrap()
                .contains("\"bytes\":null")
        );
    }
}
