//! `safelight view`: standing where the job stood, with the client's own key.
//!
//! The mount is served by a process of its own, so that the command returns; every access goes on the job's log as a debug access,
//! before the answer, like the job's own.

use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
};

use clap::{Args, Subcommand};
use safelight_audit::{Recorder, Source};
use safelight_channel::Channel;
use safelight_policies::{
    event::Control,
    grant::{CentralGrant, CentralRule, CentralRules},
    id::{JobId, SessionId},
};
use safelight_scheduler::AttemptState;
use safelight_seal::{
    manifest::{Entry, EntryKind},
    random::{Random, SystemRandom},
};
use safelight_vfs::{content::Store, lower::Segments, server::sealed_log::SealedLog, view};
use serde::{Deserialize, Serialize};

use super::view_ls;
use crate::{
    cli::StateArgs,
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    mounting,
    opened::OpenedJob,
    process,
    run::{AuditWriter, Books},
    state::{LogOf, State},
    terminal,
};

/// Look at a job's files as the job saw them
#[derive(Debug, Subcommand)]
pub(crate) enum ViewCommand {
    /// Mount a finished job's view, read-only; unmount with `fusermount3 -u DIR` or `umount DIR`
    Mount(MountArgs),
    /// List what the job had and what it wrote
    Ls(view_ls::LsArgs),
}

/// Which files of a job.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// The job: its id, the beginning of it, or `last`
    job: String,
    /// With what this attempt wrote, failed ones too: a number or `last` [default: the one that was accepted]
    #[arg(long, value_name = "N")]
    attempt: Option<String>,
    /// Only what the client sent in
    #[arg(long, conflicts_with = "attempt")]
    inputs: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Mount a finished job's view, read-only
///
/// A job with one central path shows that path's tree at DIR; with several, each tree below DIR at its own path.
#[derive(Debug, Args)]
pub(crate) struct MountArgs {
    #[command(flatten)]
    which: Which,
    /// An empty directory
    directory: PathBuf,
}

/// What the serving process is started with.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[arg(long)]
    job: JobId,
    /// 0 for the inputs alone.
    #[arg(long)]
    attempt: u32,
    #[arg(long)]
    directory: PathBuf,
    #[command(flatten)]
    state: StateArgs,
}

/// What the serving process says to the command that started it.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Mounted,
    Failed { message: String },
}

pub(crate) fn run(command: ViewCommand) -> Result<(), Failure> {
    match command {
        ViewCommand::Mount(arguments) => mount(&arguments),
        ViewCommand::Ls(arguments) => view_ls::run(&arguments),
    }
}

/// Starts the serving process and waits until the view stands.
fn mount(arguments: &MountArgs) -> Result<(), Failure> {
    let (state, job) = arguments.which.find()?;
    let attempt = arguments
        .which
        .attempt(&state, job)?
        .map_or(0, |left| left.attempt);
    let shown = &arguments.directory;
    let directory = std::fs::canonicalize(shown).map_err(|error| {
        Failure::new(
            Kind::User,
            format!("cannot mount at {}: {error}", shown.display()),
        )
        .hint("make an empty directory first")
    })?;
    let (job_text, attempt_text) = (job.to_string(), attempt.to_string());
    let text = |path: &std::path::Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::new(Kind::User, "the directory's name is not UTF-8"))
    };
    let (directory_text, state_text) = (text(&directory)?, text(state.root())?);
    let words = [
        "--job",
        &job_text,
        "--attempt",
        &attempt_text,
        "--directory",
        &directory_text,
        "--state",
        &state_text,
    ];
    let server = process::start("__mount", &words, None, None)?;
    match server
        .channel
        .expect::<Said>()
        .or_fail(Kind::Internal)?
        .message
    {
        Said::Mounted => {
            let what = if attempt == 0 {
                "its inputs".to_owned()
            } else {
                format!("its inputs and what attempt {attempt} wrote")
            };
            terminal::say(format!("{job}: {what}, read-only at {}", shown.display()));
            terminal::say(format!("unmount with: fusermount3 -u {}", shown.display()));
            Ok(())
        }
        Said::Failed { message } => Err(Failure::new(Kind::Environment, message)),
    }
}

impl Which {
    /// The job that is meant.
    pub(super) fn find(&self) -> Result<(State, JobId), Failure> {
        let state = State::open(self.state.state.as_deref())?;
        let job = Books::open(&state)?.find(&self.job)?;
        Ok((state, job))
    }

    /// The attempt whose outputs are shown; `None` for the inputs alone.
    pub(super) fn attempt(&self, state: &State, job: JobId) -> Result<Option<Left>, Failure> {
        if self.inputs {
            return Ok(None);
        }
        let wanted = self.attempt.as_deref();
        for attempt in Books::open(state)?.attempts(job)?.iter().rev() {
            let Some(left) = jobs::left(state, job, attempt.session)? else {
                continue;
            };
            let fits = match wanted {
                None => attempt.state == AttemptState::Committed,
                Some("last") => true,
                Some(number) => number.parse() == Ok(left.attempt),
            };
            if fits {
                return Ok(Some(left));
            }
        }
        match wanted {
            None | Some("last") => Ok(None),
            Some(number) => {
                let failure =
                    Failure::new(Kind::User, format!("{job} has no sealed attempt {number}"));
                Err(failure.hint(format!("safelight job show {job}")))
            }
        }
    }
}

/// The serving process: mounts, says so, and serves until the mount is gone.
pub(crate) fn serve(arguments: &ServeArgs) -> Result<(), Failure> {
    let parent = Channel::to_parent().or_fail(Kind::Internal)?;
    crate::run::stay_on_hang_up()?;
    match stand(arguments) {
        Ok(standing) => {
            let _ = parent.send(&Said::Mounted);
            drop(parent);
            standing.serve()
        }
        Err(failure) => {
            let _ = parent.send(&Said::Failed {
                message: failure.message(),
            });
            Ok(())
        }
    }
}

/// A mounted view that is not served yet.
struct Standing {
    view: Arc<view::View>,
    device: std::os::fd::OwnedFd,
    directory: PathBuf,
    audit: AuditWriter,
    state: State,
    job: JobId,
    _trouble: mpsc::Receiver<safelight_policies::cause::Cause>,
}

fn stand(arguments: &ServeArgs) -> Result<Standing, Failure> {
    safelight_seal::harden::harden().or_fail(Kind::Environment)?;
    let state = State::open(arguments.state.state.as_deref())?;
    let opened = OpenedJob::open(&state, arguments.job)?;
    let layers = layers(&state, &opened, arguments.attempt)?;
    let (audit, mut others) = AuditWriter::start(
        &state,
        (&opened.envelope.outline.client, opened.job(), LogOf::Job),
        Source::Debug,
        &[Source::Debug],
    )?;
    let how = if arguments.attempt == 0 {
        "mount of the inputs".to_owned()
    } else {
        format!("mount as of attempt {}", arguments.attempt)
    };
    audit.note(Control::DebugAccess {
        uid: nix::unistd::getuid().as_raw(),
        how,
    })?;
    // No record, no view.
    audit.sync()?;
    let own = others
        .pop()
        .ok_or_else(|| Failure::new(Kind::Internal, "the audit writer has too few channels"))?;
    let mut id = [0; 10];
    SystemRandom::new().fill(&mut id).or_fail(Kind::Internal)?;
    let session = SessionId::from_random(id);
    let (tell, trouble) = mpsc::channel();
    let log = Arc::new(SealedLog::new(
        Recorder::new(own).or_fail(Kind::Environment)?,
        opened.key.audit_key(session),
        session,
        tell,
    ));
    let store = Arc::new(Store::new(Segments::new(opened.area), None));
    let references: Vec<&[Entry]> = layers.entries.iter().map(Vec::as_slice).collect();
    let setup = view::Setup {
        central: layers.central.path.clone(),
        judge: safelight_policies::central::Judge::for_grant(&layers.central)
            .or_fail(Kind::Internal)?,
        writable: false,
        owner: (
            nix::unistd::getuid().as_raw(),
            nix::unistd::getgid().as_raw(),
        ),
        clock: process::now,
    };
    let view = view::View::of_layers(setup, &references, store, log).map_err(|errno| {
        Failure::new(Kind::Internal, format!("the layers do not merge: {errno}"))
    })?;
    let device = mounting::mount_at(&arguments.directory)?;
    let directory = arguments.directory.clone();
    Ok(Standing {
        view: Arc::new(view),
        device,
        directory,
        audit,
        state,
        job: arguments.job,
        _trouble: trouble,
    })
}

impl Standing {
    fn serve(self) -> Result<(), Failure> {
        let Self {
            view,
            device,
            directory,
            audit,
            state,
            job,
            _trouble,
        } = self;
        let served = safelight_vfs::serve(view, device, 2);
        mounting::unmount(&directory);
        let checkpoint = audit.finish()?;
        Books::open(&state)?.anchor(job, checkpoint)?;
        served.or_fail(Kind::Environment)
    }
}

/// The layers of what is shown, lowest first, and the grant that a person at home has: everything may be read.
struct Layers {
    central: CentralGrant,
    entries: Vec<Vec<Entry>>,
}

fn layers(state: &State, opened: &OpenedJob, attempt: u32) -> Result<Layers, Failure> {
    let mut manifests = vec![opened.inputs()?];
    if attempt > 0 {
        let mut all = jobs::all_left(state, opened.job())?.into_iter();
        let left = all.find(|left| left.attempt == attempt);
        let left = left
            .ok_or_else(|| Failure::new(Kind::User, format!("attempt {attempt} left nothing")))?;
        manifests.push(opened.results(&left)?);
    }
    let Some(first) = manifests[0].trees.first() else {
        return Err(Failure::new(
            Kind::User,
            format!(
                "{} had no central path: there is nothing to look at",
                opened.job()
            ),
        ));
    };
    let rule = CentralRule {
        glob: "**".to_owned(),
        origin: "at home".to_owned(),
    };
    let rules = CentralRules {
        read: vec![rule],
        write: Vec::new(),
        deny: Vec::new(),
    };
    let central = CentralGrant {
        path: first.path.clone(),
        write: false,
        rules,
    };
    let single = manifests[0].trees.len() == 1;
    let entries = manifests
        .into_iter()
        .map(|mut manifest| {
            if single {
                return manifest
                    .trees
                    .pop()
                    .map(|tree| tree.entries)
                    .unwrap_or_default();
            }
            manifest
                .trees
                .into_iter()
                .flat_map(|tree| below(tree.path.as_str(), tree.entries))
                .collect()
        })
        .collect();
    Ok(Layers { central, entries })
}

/// A tree moved below its own central path, with the directories above it.
fn below(central: &str, entries: Vec<Entry>) -> Vec<Entry> {
    let central = central.trim_start_matches('/').as_bytes();
    let above = central
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(slash, _)| central[..slash].to_vec());
    let directory = |path: Vec<u8>| Entry {
        path,
        kind: EntryKind::Directory { opaque: false },
        mode: 0o755,
        mtime_ns: 0,
        xattrs: Vec::new(),
    };
    let mut moved: Vec<Entry> = above.map(directory).collect();
    let place = |path: &[u8]| {
        if path.is_empty() {
            central.to_vec()
        } else {
            [central, path].join(&b'/')
        }
    };
    moved.extend(entries.into_iter().map(|mut entry| {
        entry.path = place(&entry.path);
        if let EntryKind::Link { to } = &mut entry.kind {
            *to = place(to);
        }
        entry
    }));
    moved
}
