//! One attempt at a task: from the key's release to the commit. It holds no key and reads nothing of the client's.
//!
//! Read it top to bottom: start the warden and the view server; have the key released into the view server; launch the sandbox; wait for
//! the end; have the outputs sealed; commit under the fence. Whatever fails in between ends the session, and leaves nothing running,
//! mounted or readable.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use safelight_bundle::Envelope;
use safelight_channel::Channel;
use safelight_policies::{Grant, cause::Cause, event::Control, grant::Terms, lease::Lease};
use safelight_vfs::{
    area::Area,
    protocol::{Order as ViewOrder, Sealed},
};
use safelight_worker::{
    cgroup::Leaf,
    facts::HostFacts,
    launch::{self, LaunchIo},
    message::Failed,
    plan::{Identity, Plan},
    supervise::{Session, Watch},
};

use super::{
    books::{Books, Leased},
    servers::{AuditWriter, KeyWarden, ViewIo, ViewServer},
    signals::Signals,
    slot::Slot,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs, process,
    state::{State, user},
    terminal,
    warden::Ask,
};

/// How long the walls may take to stand.
const LAUNCH: Duration = Duration::from_secs(60);

/// User and group of a session inside its user namespace.
const INSIDE: (u32, u32) = (1000, 1000);

/// How an attempt ended.
pub(super) struct Ending {
    pub(super) cause: Cause,
    /// What was sealed, if the view server lived to seal it.
    pub(super) sealed: Option<Sealed>,
    /// What a person should know besides the cause.
    pub(super) failure: Option<Failure>,
}

/// What an attempt is made of.
pub(super) struct Attempt<'a> {
    pub(super) state: &'a State,
    pub(super) envelope: &'a Envelope,
    pub(super) signed: &'a [u8],
    pub(super) leased: &'a Leased,
    pub(super) slot: &'a Slot,
    pub(super) books: &'a Books,
    pub(super) audit: &'a AuditWriter,
    pub(super) signals: &'a Signals,
}

impl Ending {
    /// The session's end and what the view server says of it: the server may know worse, and what it could not seal is lost.
    fn of(cause: Cause, failed: Option<Failed>, sealed: Result<Sealed, Failure>) -> Self {
        // The cause holds all of it but a path of the host's.
        let failure = failed
            .filter(|failed| !failed.path.is_empty())
            .map(|failed| {
                Failure::new(
                    Kind::Environment,
                    format!("the command did not start: {failed}"),
                )
            });
        match sealed {
            Ok(sealed) => Self {
                cause: sealed.cause.clone(),
                sealed: Some(sealed),
                failure,
            },
            Err(lost) => {
                let cause = if cause.is_success() {
                    lost.cause().cloned().unwrap_or(Cause::ViewLost)
                } else {
                    cause
                };
                Self {
                    cause,
                    sealed: None,
                    failure: failure.or(Some(lost)),
                }
            }
        }
    }

    /// Something failed before there was a session to speak of.
    pub(super) fn never_ran(failure: Failure) -> Self {
        let unknown = || Cause::NotStarted {
            step: "preparation".to_owned(),
            errno: 0,
        };
        Self {
            cause: failure.cause().cloned().unwrap_or_else(unknown),
            sealed: None,
            failure: Some(failure),
        }
    }
}

impl Attempt<'_> {
    /// Runs the attempt; always answers how it ended, if it began at all.
    pub(super) fn run(
        &self,
        grant: Grant,
        audit_of_warden: Channel,
        audit_of_view: Channel,
    ) -> Result<Ending, Failure> {
        let terms = grant.terms().clone();
        let warden = KeyWarden::start(self.state, audit_of_warden)?;
        let (launcher, session_end) = Channel::pair().or_fail(Kind::Environment)?;
        let view = self.start_view(&terms, audit_of_view, launcher, &warden)?;
        let ending = self.run_session(grant, &terms, session_end, &view);
        view.finish();
        // One command, one attempt: from here on this site has no way into the job any more.
        let (job, prekey) = (self.leased.lease.job, self.envelope.prekey);
        if let Err(failure) = warden.erase(&Ask::Erase { job, prekey }) {
            tracing::error!("{failure}");
        }
        warden.finish();
        ending
    }

    /// Starts the view server and has the warden release the key into it.
    fn start_view(
        &self,
        terms: &Terms,
        audit: Channel,
        launcher: Channel,
        warden: &KeyWarden,
    ) -> Result<ViewServer, Failure> {
        let open = |path: std::path::PathBuf| {
            File::open(path)
                .map(OwnedFd::from)
                .or_fail(Kind::Environment)
        };
        let lease = &self.leased.lease;
        let area = open(self.state.area(&lease.client)?)?;
        let attempt = open(
            self.state
                .attempt(lease.job, lease.attempt, self.slot.index.0)?,
        )?;
        let (out, err) = (io::stdout(), io::stderr());
        let shown = [out.as_fd(), err.as_fd()];
        let io = ViewIo {
            audit,
            launcher,
            shown,
            area: &area,
            attempt: &attempt,
        };
        let (view, key) =
            ViewServer::start(self.state, self.slot.index.0, self.view_order(terms), &io)?;
        drop(io);
        let stanza = warden.release(&self.leased.ask(self.signed, key, self.books))?;
        view.unlock(stanza)?;
        Ok(view)
    }

    fn view_order(&self, terms: &Terms) -> ViewOrder {
        let Lease {
            job,
            session,
            attempt,
            fence,
            expires,
            ..
        } = self.leased.lease;
        ViewOrder {
            job,
            session,
            attempt,
            fence,
            client: self.envelope.client_verify,
            inputs: self.envelope.inputs,
            recipe: self.envelope.recipe,
            central: terms.central.clone(),
            env: terms.env.clone().into_iter().collect(),
            env_pass: terms.env_pass.clone(),
            quota: terms.limits.quota,
            output: terms.limits.output,
            owner: INSIDE,
            deadline: expires,
        }
    }

    /// Launches the sandbox and stays with it until nothing of it is left; then has its outputs sealed.
    fn run_session(
        &self,
        grant: Grant,
        terms: &Terms,
        view_end: Channel,
        view: &ViewServer,
    ) -> Result<Ending, Failure> {
        let mut sandbox = self.launch(grant, terms, view_end)?;
        if let Ok(report) = sandbox.wait_until_running(LAUNCH) {
            view.serving()?;
            let Lease {
                session, wrapper, ..
            } = &self.leased.lease;
            let (policy, landlock_abi) = (wrapper.digest.0, report.landlock_abi);
            self.audit.note(Control::Started {
                session: *session,
                policy,
                landlock_abi,
            })?;
        }
        let watches = [
            Watch {
                on: view.watch(),
                cause: Cause::ViewLost,
            },
            Watch {
                on: self.signals.watch(),
                cause: Cause::Canceled,
            },
            Watch {
                on: self.audit.watch(),
                cause: Cause::AuditLost,
            },
        ];
        let ended = sandbox.wait(None, &watches).or_fail(Kind::Environment)?;
        if ended.stuck {
            tracing::error!(
                "something of {} still lives; its slot must not be used again",
                self.leased.lease.session
            );
        }
        let cause = if ended.cause == Cause::ViewLost {
            view.trouble()
        } else {
            ended.cause
        };
        let sealed = view.seal(&cause);
        Ok(Ending::of(cause, ended.failed, sealed))
    }

    fn launch(&self, grant: Grant, terms: &Terms, view_end: Channel) -> Result<Session, Failure> {
        let facts = HostFacts::read(terms).or_fail(Kind::Environment)?;
        let plan = Plan::new(grant, &facts, self.identity()).or_fail(Kind::Environment)?;
        let group =
            Leaf::create(self.leased.lease.session, &terms.limits).or_fail(Kind::Environment)?;
        let io = LaunchIo {
            view: view_end.into_descriptor(),
            group,
            complain: false,
        };
        launch::spawn(&process::executable()?, &plan, io).or_fail(Kind::Environment)
    }

    fn identity(&self) -> Identity {
        if self.state.is_privileged() {
            let uid = user::session(self.slot.index.0);
            Identity::Root { uid, gid: uid }
        } else {
            Identity::Rootless {
                uid: nix::unistd::getuid().as_raw(),
                gid: nix::unistd::getgid().as_raw(),
            }
        }
    }

    /// Commits a success under the fence, sets anything else apart, and puts on the log what was done.
    ///
    /// Whatever fails before the ledger has the commit means that there is none; what fails after it cannot take it back.
    pub(super) fn settle(&self, ending: &Ending) -> Result<(), Failure> {
        let lease = &self.leased.lease;
        let session = lease.session;
        let cause = ending.cause.clone();
        let mut noted = Ok(());
        if let Some(sealed) = &ending.sealed {
            self.keep(ending, sealed)?;
            let refused = self.commit(ending, sealed)?;
            let (manifest, files, bytes) = (sealed.manifest.0, sealed.files, sealed.bytes);
            let Some(reason) = refused else {
                let committed = Control::Committed {
                    session,
                    manifest,
                    files,
                    bytes,
                };
                let ended = Control::Ended { session, cause };
                let noted = self
                    .audit
                    .note(committed)
                    .and_then(|()| self.audit.note(ended));
                return noted.or_else(|failure| {
                    terminal::complain(&failure);
                    Ok(())
                });
            };
            noted = self.audit.note(Control::SetApart { session, reason });
        }
        self.books.end(lease, &cause)?;
        noted?;
        self.audit.note(Control::Ended { session, cause })
    }

    /// Has the ledger accept a success; answers why not.
    fn commit(&self, ending: &Ending, sealed: &Sealed) -> Result<Option<String>, Failure> {
        if !ending.cause.is_success() {
            return Ok(Some(ending.cause.to_string()));
        }
        let at = self.audit.sync()?;
        self.books.commit(&self.leased.lease, sealed.manifest, at)
    }

    /// What was sealed enters the area, and what there is to know of it the job's directory, before anybody may count on it.
    fn keep(&self, ending: &Ending, sealed: &Sealed) -> Result<(), Failure> {
        let lease = &self.leased.lease;
        self.adopt(lease)?;
        let left = jobs::Left {
            manifest: sealed.manifest,
            log: sealed.log,
            session: lease.session,
            attempt: lease.attempt,
            fence: lease.fence,
            cause: ending.cause.clone(),
            files: sealed.files,
            bytes: sealed.bytes,
        };
        jobs::write_left(self.state, lease.job, lease.attempt, &left)
    }

    /// The attempt's sealed objects become the area's, and its directory goes.
    fn adopt(&self, lease: &Lease) -> Result<(), Failure> {
        let path = self
            .state
            .attempt(lease.job, lease.attempt, self.slot.index.0)?;
        let area = Area::open(self.state.area(&lease.client)?).or_fail(Kind::Environment)?;
        let attempt = Area::open(&path).or_fail(Kind::Environment)?;
        area.adopt(&attempt).or_fail(Kind::Environment)?;
        std::fs::remove_dir_all(&path).or_fail(Kind::Environment)
    }
}
