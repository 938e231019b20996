//! One attempt at a task, up to its sealed outputs. It holds no key and reads nothing of the client's.
//!
//! Read it top to bottom: start the view server; have the key released into it; launch the sandbox; wait for the end; have the outputs
//! sealed. Whatever fails in between ends the session, and leaves nothing running, mounted or readable. Whether what was sealed counts is
//! decided by whoever gave the lease: [`super::settle`] on one host, the site for a node.

use std::{
    fs::File,
    os::fd::{BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use safelight_bundle::Envelope;
use safelight_channel::Channel;
use safelight_policies::{
    Grant,
    cause::Cause,
    event::Control,
    grant::{Feature, Requirement, Terms},
    id::{KemKey, ObjectId},
    lease::Lease,
};
use safelight_seal::job_key::Stanza;
use safelight_vfs::{
    area::Area,
    protocol::{Layer, Order as ViewOrder, Sealed},
};
use safelight_worker::{
    cgroup::{Bound, Groups, Leaf, Usage},
    facts::HostFacts,
    launch::Launcher,
    message::Failed,
    plan::{Identity, Plan},
    supervise::{Ended, Session, Watch},
};

use super::{
    doors::{Proxy, Recorded},
    servers::{AuditWriter, ViewIo, ViewServer},
    slot::Slot,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    lacks::Lacks,
    process,
    state::{State, user},
};

/// How long the walls may take to stand.
const LAUNCH: Duration = Duration::from_secs(60);

/// User and group of a session inside its user namespace.
const INSIDE: (u32, u32) = (1000, 1000);

/// How an attempt ended.
pub(crate) struct Ending {
    pub(crate) cause: Cause,
    /// What was sealed, if the view server lived to seal it.
    pub(crate) sealed: Option<Sealed>,
    /// What a person should know besides the cause.
    pub(crate) failure: Option<Failure>,
}

/// What an attempt is made of.
pub(crate) struct Attempt<'a> {
    pub(crate) state: &'a State,
    pub(crate) envelope: &'a Envelope,
    pub(crate) lease: &'a Lease,
    /// What the steps before left, lowest first.
    pub(crate) layers: Vec<Layer>,
    /// The slot of this host: on a node it may have another number than the slot of the lease.
    pub(crate) slot: &'a Slot,
    pub(crate) audit: &'a AuditWriter,
    /// Each becomes readable when the session must end, and what its end is put down to then; the first counts.
    pub(crate) stop: &'a [(BorrowedFd<'a>, Cause)],
    /// Where what the task prints is shown, besides its log.
    pub(crate) shown: [BorrowedFd<'a>; 2],
    /// What it is known by that the task lacked something.
    pub(crate) lacks: &'a Lacks,
    /// What to run instead of the task, for somebody who looks where it stood; nothing for the task. Then nothing is sealed.
    pub(crate) instead: Vec<Vec<u8>>,
    /// At most this long, if that is less than the policy allows.
    pub(crate) wall: Option<Duration>,
    /// Has the job's key released into a view server.
    pub(crate) release: &'a dyn Fn(KemKey) -> Result<Stanza, Failure>,
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
    pub(crate) fn never_ran(failure: Failure) -> Self {
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
    pub(crate) fn run(&self, grant: Grant, recorded: Recorded) -> Result<Ending, Failure> {
        let terms = grant.terms().clone();
        let (launcher, session_end) = Channel::pair().or_fail(Kind::Environment)?;
        let proxy = recorded
            .proxy
            .map(|audit| Proxy::start(self.state, self.lease.session, terms.reach.clone(), &audit));
        let proxy = proxy.transpose()?;
        let view = self.start_view(&terms, recorded.view, launcher)?;
        let bound = self.bound(&terms, &view)?;
        let ending = self.run_session(grant, &terms, session_end, (&view, proxy.as_ref()));
        // What went over its connections is on the log before its end is.
        if let Some(proxy) = proxy {
            proxy.finish();
        }
        view.finish();
        drop(bound);
        ending
    }

    /// Starts the view server and has the warden release the key into it.
    fn start_view(
        &self,
        terms: &Terms,
        audit: Channel,
        launcher: Channel,
    ) -> Result<ViewServer, Failure> {
        let open = |path: std::path::PathBuf| {
            File::open(path)
                .map(OwnedFd::from)
                .or_fail(Kind::Environment)
        };
        let lease = self.lease;
        let area = open(self.state.area(&lease.client)?)?;
        let attempt = open(
            self.state
                .session(lease.job, lease.session, self.slot.index.0)?,
        )?;
        let io = ViewIo {
            audit,
            launcher,
            shown: self.shown,
            area: &area,
            attempt: &attempt,
        };
        let (view, key) =
            ViewServer::start(self.state, self.slot.index.0, self.view_order(terms), &io)?;
        drop(io);
        let stanza = (self.release)(key)?;
        view.unlock(stanza)?;
        Ok(view)
    }

    fn view_order(&self, terms: &Terms) -> ViewOrder {
        let Lease {
            job,
            session,
            attempt,
            fence,
            task,
            tasks,
            expires,
            ..
        } = *self.lease;
        ViewOrder {
            job,
            session,
            attempt,
            fence,
            task,
            tasks,
            client: self.envelope.client_verify,
            inputs: self.envelope.inputs,
            recipe: self.envelope.recipe,
            layers: self.layers.clone(),
            central: terms.central.clone(),
            env: terms.env.clone().into_iter().collect(),
            env_pass: terms.env_pass.clone(),
            quota: terms.limits.quota,
            entries: terms.limits.entries,
            output: terms.limits.output,
            records: terms.limits.records,
            owner: INSIDE,
            deadline: expires,
            lacks: self.lacks.to_order(),
            instead: self.instead.clone(),
        }
    }

    /// Holds the view server to the session's rate of disk, if the policy sets one.
    fn bound(&self, terms: &Terms, view: &ViewServer) -> Result<Option<Bound>, Failure> {
        let Some(rate) = terms.limits.io else {
            return Ok(None);
        };
        let bound = Bound::of(&Groups::find(), &self.lease.session, rate, view.pid());
        let bound = bound.or_fail(Kind::Environment)?;
        let required = terms.features.get(&Feature::CgroupLimits) == Some(&Requirement::Require);
        if bound.is_none() && required {
            return Err(Failure::new(
                Kind::Environment,
                "the policy limits how fast disks are read and written, and this host cannot: there is no io controller of cgroup v2 that we may use",
            )
            .hint("safelight doctor"));
        }
        Ok(bound)
    }

    /// The walls stand: the view is served, what the policy names is connected, and that the session began is on the log.
    fn begun(
        &self,
        landlock_abi: u32,
        (view, proxy): (&ViewServer, Option<&Proxy>),
        doors: &[OwnedFd],
    ) -> Result<(), Failure> {
        view.serving()?;
        if let Some(proxy) = proxy {
            proxy.carry(doors)?;
        }
        let Lease {
            session, wrapper, ..
        } = self.lease;
        self.audit.note(Control::Started {
            session: *session,
            policy: wrapper.digest.0,
            landlock_abi,
        })
    }

    /// Launches the sandbox and stays with it until nothing of it is left; then has its outputs sealed.
    fn run_session(
        &self,
        grant: Grant,
        terms: &Terms,
        view_end: Channel,
        (view, proxy): (&ViewServer, Option<&Proxy>),
    ) -> Result<Ending, Failure> {
        let begun = Instant::now();
        let mut sandbox = self.launch(grant, terms, view_end)?;
        if let Ok(report) = sandbox.wait_until_running(LAUNCH) {
            let doors = sandbox.take_doors();
            self.begun(report.landlock_abi, (view, proxy), &doors)?;
        }
        let stops = self.stop.iter().map(|(on, cause)| Watch {
            on: *on,
            cause: cause.clone(),
        });
        let ours = [
            Watch {
                on: view.watch(),
                cause: Cause::ViewLost,
            },
            Watch {
                on: self.audit.watch(),
                cause: Cause::AuditLost,
            },
        ];
        let watches: Vec<Watch<'_>> = stops.chain(ours).collect();
        let ended = sandbox
            .wait(self.wall, &watches)
            .or_fail(Kind::Environment)?;
        tracing::debug!(
            target: "safelight::launch",
            session_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            "the session is over"
        );
        self.note_held(&ended)?;
        if ended.stuck {
            tracing::error!(
                "something of {} still lives; its slot must not be used again",
                self.lease.session
            );
        }
        let cause = if ended.cause == Cause::ViewLost {
            view.trouble()
        } else {
            ended.cause
        };
        if !self.instead.is_empty() {
            return Ok(Ending {
                cause,
                sealed: None,
                failure: ended.failed.map(|failed| {
                    let message = format!("the command did not start: {failed}");
                    Failure::new(Kind::Environment, message)
                }),
            });
        }
        let sealed = view.seal(&cause);
        Ok(Ending::of(cause, ended.failed, sealed))
    }

    /// Puts on the log what held the session to its limits. Without a log there is nothing to be put, and the end says so.
    fn note_held(&self, ended: &Ended) -> Result<(), Failure> {
        if ended.cause == Cause::AuditLost || ended.failed.is_some() {
            return Ok(());
        }
        let Usage {
            memory,
            processes,
            processors,
            disk,
        } = ended.usage;
        self.audit.note(Control::Held {
            session: self.lease.session,
            memory,
            processes,
            processors,
            disk,
        })
    }

    /// The plan is made while the launcher becomes a program: both take about as long.
    fn launch(&self, grant: Grant, terms: &Terms, view_end: Channel) -> Result<Session, Failure> {
        let group = Leaf::create(self.lease.session, &terms.limits).or_fail(Kind::Environment)?;
        let launcher = Launcher::start(&process::executable()?, group, false);
        let launcher = launcher.or_fail(Kind::Environment)?;
        let facts = HostFacts::read(terms).or_fail(Kind::Environment)?;
        let plan = Plan::new(grant, &facts, self.identity()).or_fail(Kind::Environment)?;
        launcher
            .build(&plan, view_end.into_descriptor())
            .or_fail(Kind::Environment)
    }

    /// The attempt's sealed objects become the area's, and its directory goes. Answers their names and lengths.
    pub(crate) fn adopt(&self) -> Result<Vec<(ObjectId, u64)>, Failure> {
        let lease = self.lease;
        let path = self
            .state
            .session(lease.job, lease.session, self.slot.index.0)?;
        let area = Area::open(self.state.area(&lease.client)?).or_fail(Kind::Environment)?;
        let attempt = Area::open(&path).or_fail(Kind::Environment)?;
        let adopted = area.adopt(&attempt).or_fail(Kind::Environment)?;
        std::fs::remove_dir_all(&path).or_fail(Kind::Environment)?;
        Ok(adopted)
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
}
