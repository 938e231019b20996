//! The process that serves a view at home: mounts it, says so, and serves until the mount is gone.

use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
};

use clap::Args;
use safelight_audit::{Recorder, Source};
use safelight_channel::Channel;
use safelight_policies::{
    event::Control,
    id::{JobId, SessionId},
};
use safelight_seal::{
    manifest::Entry,
    random::{Random, SystemRandom},
};
use safelight_vfs::{content::Store, lower::Segments, server::sealed_log::SealedLog, view};

use super::{Said, Told, layers::layers, written_by};
use crate::{
    cli::StateArgs,
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    mounting,
    opened::OpenedJob,
    process, results,
    run::{AuditWriter, Books},
    state::{LogOf, State},
};

/// What the serving process is started with.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[arg(long)]
    job: JobId,
    #[arg(long)]
    directory: PathBuf,
    #[command(flatten)]
    state: StateArgs,
}

/// The serving process: mounts, says so, and serves until the mount is gone.
pub(crate) fn serve(arguments: &ServeArgs) -> Result<(), Failure> {
    let parent = Channel::to_parent().or_fail(Kind::Internal)?;
    crate::run::stay_on_hang_up()?;
    match hear(&parent).and_then(|sessions| stand(arguments, &sessions)) {
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

/// What the log says of the view.
fn how(opened: &OpenedJob, written: &[Left]) -> String {
    let many = results::tasks(&opened.envelope.outline) > 1;
    match written_by(written, many) {
        Some(by) => format!("mount as of {by}"),
        None => "mount of the inputs".to_owned(),
    }
}

fn written(state: &State, job: JobId, sessions: &[SessionId]) -> Result<Vec<Left>, Failure> {
    let left = |session: &SessionId| {
        let gone = || Failure::new(Kind::User, format!("{session} of {job} left nothing"));
        jobs::left(state, job, *session)?.ok_or_else(gone)
    };
    sessions.iter().map(left).collect()
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

/// The sessions whose results are shown.
pub(super) fn hear(parent: &Channel) -> Result<Vec<SessionId>, Failure> {
    let mut sessions = Vec::new();
    loop {
        match parent.expect::<Told>().or_fail(Kind::Internal)?.message {
            Told::With(more) => sessions.extend(more),
            Told::Mount => return Ok(sessions),
        }
    }
}

fn stand(arguments: &ServeArgs, sessions: &[SessionId]) -> Result<Standing, Failure> {
    safelight_seal::harden::harden().or_fail(Kind::Environment)?;
    let state = State::open(arguments.state.state.as_deref())?;
    let opened = OpenedJob::open(&state, arguments.job)?;
    let written = written(&state, opened.job(), sessions)?;
    let layers = layers(&opened, &written)?;
    let (audit, mut others) = AuditWriter::start(
        &state,
        (&opened.envelope.outline.client, opened.job(), LogOf::Job),
        Source::Debug,
        &[Source::Debug],
    )?;
    audit.note(Control::DebugAccess {
        uid: nix::unistd::getuid().as_raw(),
        how: how(&opened, &written),
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
