//! `safelight view`: standing where the job stood, with the client's own key.
//!
//! The mount is served by a process of its own, so that the command returns; every access goes on the job's log as a debug access,
//! before the answer, like the job's own.

mod diff;
mod exchange;
mod grant;
mod guard;
mod layers;
mod serve;
mod shell;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Subcommand};
use safelight_channel::Channel;
use safelight_policies::id::{JobId, SessionId};
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    layers::Layers,
    serve::{ServeArgs, serve},
};
use super::{
    chosen::{self, ChosenTask},
    view_ls,
};
use crate::{
    cli::StateArgs,
    failure::{Failure, Kind, OrFail},
    jobs::Left,
    look::{Seen, operator},
    process,
    results::{self, Wanted, task_name},
    run::{self, Books},
    state::State,
    terminal,
};

/// How many sessions are told at a time: far less than a message holds.
const AT_A_TIME: usize = 1000;

/// Look at a job's files as the job saw them
#[derive(Debug, Subcommand)]
pub(crate) enum ViewCommand {
    /// Mount a job's view as the job saw it; unmount with `fusermount3 -u DIR` or `umount DIR`
    Mount(MountArgs),
    /// List what the job had and what it wrote
    Ls(view_ls::LsArgs),
    /// Stand where a task stood: its sandbox, environment and view, with a shell in place of its command
    Shell(shell::ShellArgs),
    /// Show which files two jobs had or wrote otherwise
    Diff(diff::DiffArgs),
    /// Let one person look at a job at the site that renders it, for a while
    Grant(grant::GrantArgs),
    /// List the grants that were given for a job
    Grants(grant::GrantsArgs),
    /// Take a grant back
    Revoke(grant::RevokeArgs),
}

/// Which files of a job.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// The job: its id, the beginning of it, or `last`
    job: String,
    #[command(flatten)]
    task: ChosenTask,
    /// With what this attempt wrote, failed ones too: a number or `last` [default: what was accepted]
    #[arg(long, value_name = "N")]
    attempt: Option<Wanted>,
    /// Only what the client sent in, and nothing that the job wrote
    #[arg(long = "without-outputs", alias = "inputs", conflicts_with_all = ["attempt", "task"])]
    inputs: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Mount a job's view as the job saw it
///
/// Read-only, unless what is written is to be thrown away. Every access is on the log, as a look from outside. A job with one central path shows that path's tree at DIR; with several, each tree below DIR at its own path.
#[derive(Debug, Args)]
pub(crate) struct MountArgs {
    #[command(flatten)]
    which: Which,
    /// An empty directory
    directory: PathBuf,
    /// Let files be changed; what is written is encrypted on disk, seen here only, and gone with the mount
    #[arg(long)]
    writable: bool,
    /// Take the mount away after this time (90s, 15m, 2h, 1d)
    #[arg(long = "for", value_name = "TIME", value_parser = run::duration, default_value = "8h")]
    limit: Duration,
    /// Mount it at the site that renders it, by a grant of its client's: read-only, as long as the grant holds
    #[arg(long, value_name = "FILE", conflicts_with_all = ["writable", "limit"])]
    grant: Option<PathBuf>,
    /// With --grant: the state directory of the site
    #[arg(long, value_name = "DIR", requires = "grant", default_value = operator::SITE)]
    at: PathBuf,
}

/// What the serving process is told by the command that started it.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    /// Show also what these wrote, in order.
    With(Vec<SessionId>),
    /// That is all: mount it.
    Mount {
        /// With a layer for what is written.
        writable: bool,
        /// For so many seconds.
        seconds: u64,
    },
}

/// What the serving process says to it.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Mounted,
    Failed { message: String },
}

pub(crate) fn run(command: ViewCommand) -> Result<ExitCode, Failure> {
    match command {
        ViewCommand::Mount(arguments) => mount(&arguments)?,
        ViewCommand::Ls(arguments) => view_ls::run(&arguments)?,
        ViewCommand::Diff(arguments) => diff::run(&arguments)?,
        ViewCommand::Grant(arguments) => grant::grant(&arguments)?,
        ViewCommand::Grants(arguments) => grant::grants(&arguments)?,
        ViewCommand::Revoke(arguments) => grant::revoke(&arguments)?,
        ViewCommand::Shell(arguments) => return shell::run(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts the serving process and waits until the view stands.
fn mount(arguments: &MountArgs) -> Result<(), Failure> {
    let shown = &arguments.directory;
    let directory = std::fs::canonicalize(shown).map_err(|error| {
        Failure::new(
            Kind::User,
            format!("cannot mount at {}: {error}", shown.display()),
        )
        .hint("make an empty directory first")
    })?;
    if let Some(grant) = &arguments.grant {
        return by_grant(arguments, grant, directory);
    }
    let chosen = arguments.which.find()?;
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::new(Kind::User, "the directory's name is not UTF-8"))
    };
    let (directory, state) = (text(&directory)?, text(chosen.state.root())?);
    let job = chosen.job.to_string();
    let words = ["--job", &job, "--directory", &directory, "--state", &state];
    let server = process::start("__mount", &words, None, None)?;
    let mount = Told::Mount {
        writable: arguments.writable,
        seconds: arguments.limit.as_secs(),
    };
    tell(&server.channel, &chosen.written, &mount)?;
    let said = server.channel.expect::<Said>().or_fail(Kind::Internal)?;
    match said.message {
        Said::Mounted => {
            let what = match written_by(&chosen.written, chosen.many) {
                Some(by) => format!("its inputs and what {by} wrote"),
                None => "its inputs".to_owned(),
            };
            let how = match arguments.writable {
                true => "writable, to be thrown away,",
                false => "read-only",
            };
            let (at, seconds) = (shown.display(), arguments.limit.as_secs());
            terminal::say(format!("{job}: {what}, {how} at {at} for {seconds} s"));
            terminal::say(format!("unmount with: fusermount3 -u {}", shown.display()));
            Ok(())
        }
        Said::Failed { message } => Err(Failure::new(Kind::Environment, message)),
    }
}

/// Has a site mount it, which asks for proof that the grant is ours.
fn by_grant(arguments: &MountArgs, grant: &Path, directory: PathBuf) -> Result<(), Failure> {
    let which = &arguments.which;
    let seen = match which.attempt {
        _ if which.inputs => Seen::Inputs,
        None | Some(Wanted::Counting) => Seen::Counting,
        Some(Wanted::Last) => Seen::Last,
        Some(Wanted::Number(number)) => Seen::Attempt(number),
    };
    let site = std::fs::canonicalize(&arguments.at).map_err(|error| {
        let message = format!("no site at {}: {error}", arguments.at.display());
        Failure::new(Kind::User, message).hint("name its state directory with --at DIR")
    })?;
    operator::mount(&operator::Wish {
        grant: operator::read(grant)?,
        job: which.job.clone(),
        task: which.task.any(),
        seen,
        directory,
        site,
        state: State::open(which.state.state.as_deref())?.root().to_owned(),
    })
}

/// Tells the serving process what it shows. A job may have more results than a message holds.
fn tell(server: &Channel, written: &[Left], mount: &Told) -> Result<(), Failure> {
    for some in written.chunks(AT_A_TIME) {
        let sessions = some.iter().map(|left| left.session).collect();
        server.send(&Told::With(sessions)).or_fail(Kind::Internal)?;
    }
    server.send(mount).or_fail(Kind::Internal)
}

/// Who wrote what is shown, in words; nobody if it is the inputs alone.
fn written_by(written: &[Left], many: bool) -> Option<String> {
    match written {
        [] => None,
        [one] if many => Some(format!(
            "task {} in attempt {}",
            task_name(one.task),
            one.attempt
        )),
        [one] => Some(format!("attempt {}", one.attempt)),
        all => Some(format!("{} tasks", all.len())),
    }
}

/// A job and what is shown of it.
pub(super) struct Shown {
    pub(super) state: State,
    pub(super) job: JobId,
    /// What was written, in order; nothing for the inputs alone.
    pub(super) written: Vec<Left>,
    many: bool,
}

impl Which {
    /// The job that is meant, and what of it.
    pub(super) fn find(&self) -> Result<Shown, Failure> {
        let state = State::open(self.state.state.as_deref())?;
        let books = Books::open(&state)?;
        let job = books.find(&self.job)?;
        let overview = books.wait(books.ledger().overview(job))?;
        let task = self.task.of(&overview.job.outline)?;
        let results = chosen::results(&state, job)?;
        let chosen = match self.attempt {
            _ if self.inputs => Vec::new(),
            Some(number @ Wanted::Number(_)) => chosen::choose(&results, job, task, number)?,
            Some(wanted) => results.choose(task, wanted),
            None => results.choose(task, Wanted::Counting),
        };
        Ok(Shown {
            written: chosen.into_iter().map(|it| it.left.clone()).collect(),
            state,
            job,
            many: results::tasks(&overview.job.outline) > 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use safelight_policies::cause::Cause;

    use super::*;
    use crate::results::tests::left;

    #[test]
    fn who_wrote_it_is_said_as_it_helps() {
        let one = left((0, 12), 2, 1, Cause::Exited { code: 0 });
        let by = |written: &[Left], many| written_by(written, many);
        assert_eq!(by(&[], true), None);
        let of_one = by(std::slice::from_ref(&one), false);
        assert_eq!(of_one.as_deref(), Some("attempt 2"));
        let of_many = by(std::slice::from_ref(&one), true);
        assert_eq!(of_many.as_deref(), Some("task 0/12 in attempt 2"));
        let all = by(&[one.clone(), one], true);
        assert_eq!(all.as_deref(), Some("2 tasks"));
    }

    /// More sessions than a message or a buffer holds, to a process that hears them only later.
    #[test]
    fn ten_thousand_sessions_are_told() {
        let (ours, theirs) = Channel::pair().unwrap();
        let one = left((0, 0), 1, 1, Cause::Exited { code: 0 });
        let all: Vec<Left> = (0..10_000u32)
            .map(|number| {
                let mut id = [0; 10];
                id[..4].copy_from_slice(&number.to_be_bytes());
                Left {
                    session: SessionId::from_random(id),
                    ..one.clone()
                }
            })
            .collect();
        let expected: Vec<_> = all.iter().map(|left| left.session).collect();
        let mount = Told::Mount {
            writable: true,
            seconds: 9,
        };
        let teller = std::thread::spawn(move || tell(&ours, &all, &mount).unwrap());
        let heard = serve::hear(&theirs).unwrap();
        teller.join().unwrap();
        assert_eq!(heard.sessions, expected);
        assert!(heard.writable);
        assert_eq!(heard.limit, Duration::from_secs(9));
    }
}
