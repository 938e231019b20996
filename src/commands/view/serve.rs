//! The process that serves a view at home: mounts it, says so, and serves until the mount is gone.

use std::{
    fs::File,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Duration,
};

use clap::Args;
use safelight_audit::{Recorder, Source};
use safelight_channel::Channel;
use safelight_policies::{
    event::Control,
    id::{ClientAlias, JobId, SessionId},
};
use safelight_seal::{random::SystemRandom, working::WorkingKey};
use safelight_vfs::{
    content::Store,
    lower::Segments,
    server::sealed_log::SealedLog,
    upper::{Quota, Upper},
    view,
};

use super::{Said, Told, layers::layers, written_by};
use crate::{
    cli::StateArgs,
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    mounting,
    opened::OpenedJob,
    process, registers, results,
    run::{self, AuditWriter},
    state::{LogOf, State},
};

/// What may be written into a layer that is thrown away.
const QUOTA: Quota = Quota {
    bytes: 1 << 40,
    entries: u32::MAX as u64,
};

/// Bytes of records that a look may put on its log.
const RECORDS: u64 = 2 << 30;

/// How long the kernel may take to let go of a mount that was taken away.
const LET_GO: Duration = Duration::from_secs(2);

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
    match hear(&parent).and_then(|heard| stand(arguments, &heard)) {
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
fn how(opened: &OpenedJob, written: &[Left], heard: &Heard) -> String {
    let many = results::tasks(&opened.envelope.outline) > 1;
    let what = match written_by(written, many) {
        Some(by) => format!("mount as of {by}"),
        None => "mount of the inputs".to_owned(),
    };
    let writable = if heard.writable { ", writable" } else { "" };
    format!("{what}{writable}, for {} s", heard.limit.as_secs())
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
    limit: Duration,
    state: State,
    client: ClientAlias,
    /// The job, and the session id of this look.
    of: (JobId, SessionId),
    _trouble: mpsc::Receiver<safelight_policies::cause::Cause>,
}

/// What is shown, and how.
pub(super) struct Heard {
    /// The sessions whose results are shown.
    pub(super) sessions: Vec<SessionId>,
    pub(super) writable: bool,
    pub(super) limit: Duration,
}

pub(super) fn hear(parent: &Channel) -> Result<Heard, Failure> {
    let mut sessions = Vec::new();
    loop {
        match parent.expect::<Told>().or_fail(Kind::Internal)?.message {
            Told::With(more) => sessions.extend(more),
            Told::Mount { writable, seconds } => {
                return Ok(Heard {
                    sessions,
                    writable,
                    limit: Duration::from_secs(seconds),
                });
            }
        }
    }
}

fn stand(arguments: &ServeArgs, heard: &Heard) -> Result<Standing, Failure> {
    safelight_seal::harden::harden().or_fail(Kind::Environment)?;
    let state = State::open(arguments.state.state.as_deref())?;
    let opened = OpenedJob::open(&state, arguments.job)?;
    let written = written(&state, opened.job(), &heard.sessions)?;
    let layers = layers(&opened, &written, heard.writable)?;
    let session = run::draw_session()?;
    let which = LogOf::Look(session);
    let client = opened.envelope.outline.client.clone();
    let (audit, mut others) = AuditWriter::start(
        &state,
        (&client, opened.job(), which),
        Source::Debug,
        &[Source::Debug],
    )?;
    let uid = nix::unistd::getuid().as_raw();
    audit.note(Control::DebugAccess {
        uid,
        how: how(&opened, &written, heard),
    })?;
    // No record, no view.
    audit.sync()?;
    let own = others
        .pop()
        .ok_or_else(|| Failure::new(Kind::Internal, "the audit writer has too few channels"))?;
    let (tell, trouble) = mpsc::channel();
    let log = Arc::new(SealedLog::new(
        Recorder::new(own).or_fail(Kind::Environment)?,
        opened.key.audit_key(session),
        (session, RECORDS),
        tell,
        process::now,
    ));
    let upper = heard.writable.then(|| upper(&state, opened.job()));
    let store = Store::new(Segments::new(opened.area), upper.transpose()?);
    let store = Arc::new(store);
    let view = layers.view(store, log, (uid, nix::unistd::getgid().as_raw()))?;
    let device = mounting::mount_at(&arguments.directory)?;
    Ok(Standing {
        view: Arc::new(view),
        device,
        directory: arguments.directory.clone(),
        audit,
        limit: heard.limit,
        client,
        of: (arguments.job, session),
        state,
        _trouble: trouble,
    })
}

/// A place for what is written: a file without a name, encrypted with a key that only this process has.
fn upper(state: &State, job: JobId) -> Result<Upper, Failure> {
    let file = File::options()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE)
        .open(state.job(job)?)
        .or_fail(Kind::Environment)?;
    let key = WorkingKey::generate(&SystemRandom::new()).or_fail(Kind::Internal)?;
    Ok(Upper::new(file, key, QUOTA))
}

impl Standing {
    fn serve(self) -> Result<(), Failure> {
        let Self {
            view,
            device,
            directory,
            audit,
            limit,
            state,
            client,
            of,
            _trouble,
        } = self;
        end_after(limit, directory.clone())?;
        let served = safelight_vfs::serve(view, device, 2);
        mounting::unmount(&directory);
        audit.finish()?;
        let (job, session) = of;
        registers::note(&state, &client, job, LogOf::Look(session))?;
        served.or_fail(Kind::Environment)
    }
}

/// Takes the mount away when its time is over. Who holds a file open then holds it no longer: the connection ends with this process.
fn end_after(limit: Duration, directory: PathBuf) -> Result<(), Failure> {
    let end = move || {
        std::thread::sleep(limit);
        mounting::unmount(&directory);
        std::thread::sleep(LET_GO);
        // The audit writer, which is another process, brings what it has to the disk.
        std::process::exit(0);
    };
    let thread = std::thread::Builder::new().name("end".to_owned());
    thread.spawn(end).or_fail(Kind::Environment).map(drop)
}
