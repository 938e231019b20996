//! The agent's part: a session from lease to commit. It holds no key and reads nothing of the client's.
//!
//! Read it top to bottom: verify what the client signed; judge again; claim a slot; lease; start the audit writer, the warden and the
//! view server; have the key released into the view server; launch the sandbox; wait for the end; have the outputs sealed; commit under
//! the fence; put it all on the log; let the client take its results home. Whatever fails in between ends the session and leaves
//! nothing running, mounted or readable.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, ExitCode},
    time::Duration,
};

use safelight_audit::Source;
use safelight_bundle::Envelope;
use safelight_channel::Channel;
use safelight_policies::{
    Grant, cause::Cause, event::Control, grant::Terms, id::SessionId, judge::Request, lease::Lease,
};
use safelight_seal::random::{Random, SystemRandom};
use safelight_vfs::{
    area::Area,
    protocol::{Order as ViewOrder, Sealed},
};
use safelight_worker::{
    cgroup::Leaf,
    facts::HostFacts,
    launch::{self, LaunchIo},
    plan::{Identity, Plan},
    probe,
    supervise::Watch,
};

use super::{
    arguments::AgentArgs,
    books::{Books, Leased},
    servers::{AuditWriter, KeyWarden, ViewIo, ViewServer},
    signals::Signals,
    slot::{self, Slot},
};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Order},
    policy_source, process,
    state::{State, user},
    terminal,
    warden::{self, Ask},
};

/// How long the walls may take to stand.
const LAUNCH: Duration = Duration::from_secs(60);

/// User and group of a session inside its user namespace.
const INSIDE: (u32, u32) = (1000, 1000);

/// How an attempt ended.
struct Ending {
    cause: Cause,
    /// What was sealed, if the view server lived to seal it.
    sealed: Option<Sealed>,
    /// What a person should know besides the cause.
    failure: Option<Failure>,
}

/// What an attempt is made of.
struct Attempt<'a> {
    state: &'a State,
    envelope: &'a Envelope,
    signed: &'a [u8],
    leased: &'a Leased,
    slot: &'a Slot,
    books: &'a Books,
    audit: &'a AuditWriter,
    signals: &'a Signals,
}

/// Runs the job and becomes the client again.
pub(crate) fn run(arguments: &AgentArgs) -> Result<ExitCode, Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let signals = Signals::hold()?;
    let order: Order =
        serde_json::from_slice(&jobs::read(&state.job(arguments.job)?.join("order.json"))?)
            .or_fail(Kind::Config)?;
    let client = warden::enrolled_client(&state, &order.client)?;
    let signed = jobs::read(&state.job(arguments.job)?.join("envelope"))?;
    let envelope = jobs::verify(&signed, arguments.job, &client)?;
    let grant = judge_again(&order, &envelope)?;
    check_host(&grant)?;

    let slot = slot::claim(&state)?;
    let books = Books::open(&state)?;
    books.enroll(&state)?;
    books.admit(&envelope, &signed)?;
    let leased = books.lease(
        &envelope,
        slot.index,
        grant.terms().limits.wall,
        draw_session()?,
    )?;

    let (audit, mut channels) = AuditWriter::start(
        &state,
        &envelope,
        Source::Agent,
        &[Source::Warden, Source::View],
    )?;
    audit.note(Control::Packed {
        files: order.files,
        bytes: order.bytes,
    })?;
    let (session, attempt) = (leased.lease.session, leased.lease.attempt);
    audit.note(Control::Leased {
        session,
        attempt,
        fence: leased.lease.fence.0,
    })?;
    let parts = Attempt {
        state: &state,
        envelope: &envelope,
        signed: &signed,
        leased: &leased,
        slot: &slot,
        books: &books,
        audit: &audit,
        signals: &signals,
    };
    let (view, warden) = (channels.pop(), channels.pop());
    let ending = match (warden, view) {
        (Some(warden), Some(view)) => parts.run(grant, warden, view),
        _ => Err(Failure::new(
            Kind::Internal,
            "the audit writer has too few channels",
        )),
    };
    let ending = ending.unwrap_or_else(|failure| Ending {
        cause: Cause::ViewLost,
        sealed: None,
        failure: Some(failure),
    });
    let settled = parts.settle(&ending);
    let anchor = audit.finish();
    settled?;
    books.anchor(arguments.job, anchor?)?;
    if let Some(failure) = &ending.failure {
        terminal::complain(failure);
    }
    become_client(&state, arguments, attempt)
}

/// The client's judge said yes; only our own answer counts.
fn judge_again(order: &Order, envelope: &Envelope) -> Result<Grant, Failure> {
    let (catalogue, name) = policy_source::load(&order.policy)?;
    let policy = catalogue.resolve(&name).or_fail(Kind::Config)?;
    if policy.digest() != envelope.outline.policy_digest {
        return Err(Failure::new(
            Kind::Denied,
            format!("the policy {name} is not the one that the client signed"),
        )
        .hint("run the job again"));
    }
    let request = Request {
        central: order.central.clone(),
        timeout: order.timeout,
        env: std::collections::BTreeMap::new(),
    };
    policy.admit(&request).map_err(|denied| {
        Failure::from_error(Kind::Denied, &denied)
            .hint(format!("safelight policy show {}", order.policy))
    })
}

impl Attempt<'_> {
    fn run(
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
        let erased = warden.erase(&Ask::Erase {
            job: self.leased.lease.job,
            prekey: self.envelope.prekey,
        });
        warden.finish();
        erased?;
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
            terminal: io::IsTerminal::is_terminal(&io::stdout()),
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
        let session = self.leased.lease.session;
        let facts = HostFacts::read(terms).or_fail(Kind::Environment)?;
        let plan = Plan::new(grant, &facts, self.identity()).or_fail(Kind::Environment)?;
        let group = Leaf::create(session, &terms.limits).or_fail(Kind::Environment)?;
        let io = LaunchIo {
            view: view_end.into_descriptor(),
            group,
            complain: false,
        };
        let mut sandbox =
            launch::spawn(&process::executable()?, &plan, io).or_fail(Kind::Environment)?;
        if let Ok(report) = sandbox.wait_until_running(LAUNCH) {
            view.serving()?;
            let landlock_abi = report.landlock_abi;
            self.audit.note(Control::Started {
                session,
                policy: self.leased.lease.wrapper.digest.0,
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
        let cause = if ended.cause == Cause::ViewLost {
            view.trouble()
        } else {
            ended.cause
        };
        let failure = ended.failed.map(|failed| {
            Failure::new(
                Kind::Environment,
                format!("the command did not start: {failed}"),
            )
        });
        if ended.stuck {
            tracing::error!(%session, "something of the session still lives; its slot must not be used again");
        }
        Ok(match view.seal(&cause) {
            Ok(sealed) => Ending {
                cause: sealed.cause.clone(),
                sealed: Some(sealed),
                failure,
            },
            Err(lost) => Ending {
                cause: if cause.is_success() {
                    Cause::ViewLost
                } else {
                    cause
                },
                sealed: None,
                failure: failure.or(Some(lost)),
            },
        })
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
    fn settle(&self, ending: &Ending) -> Result<(), Failure> {
        let lease = &self.leased.lease;
        let session = lease.session;
        let mut committed = false;
        if let Some(sealed) = &ending.sealed {
            self.adopt(lease)?;
            let refused = if ending.cause.is_success() {
                let refused = self
                    .books
                    .commit(lease, sealed.manifest, self.audit.sync()?)?;
                committed = refused.is_none();
                refused
            } else {
                Some(ending.cause.to_string())
            };
            self.audit.note(match refused {
                None => Control::Committed {
                    session,
                    manifest: sealed.manifest.0,
                    files: sealed.files,
                    bytes: sealed.bytes,
                },
                Some(reason) => Control::SetApart { session, reason },
            })?;
            let left = jobs::Left {
                manifest: sealed.manifest,
                log: sealed.log,
                committed,
                session,
                attempt: lease.attempt,
                fence: lease.fence,
                cause: ending.cause.clone(),
                files: sealed.files,
                bytes: sealed.bytes,
            };
            jobs::write_left(self.state, lease.job, lease.attempt, &left)?;
        }
        self.audit.note(Control::Ended {
            session,
            cause: ending.cause.clone(),
        })?;
        if !committed {
            self.books.end(lease, &ending.cause)?;
        }
        Ok(())
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

/// What the kernel cannot enforce, this host must not run.
pub(super) fn check_host(grant: &Grant) -> Result<(), Failure> {
    let report = probe::probe();
    let warnings = probe::check(grant.terms(), &report).map_err(|lacking| {
        Failure::from_error(Kind::Environment, &lacking).hint("safelight doctor")
    })?;
    for warning in warnings {
        tracing::info!(feature = %warning.feature, "{}: {}", warning.why, warning.remedy);
    }
    Ok(())
}

/// Prints what would be done.
pub(super) fn print_plan(grant: Grant) -> Result<(), Failure> {
    let facts = HostFacts::read(grant.terms()).or_fail(Kind::Environment)?;
    let uid = nix::unistd::geteuid();
    let identity = if uid.is_root() {
        Identity::Root {
            uid: user::session(0),
            gid: user::session(0),
        }
    } else {
        Identity::Rootless {
            uid: uid.as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        }
    };
    let plan = Plan::new(grant, &facts, identity).or_fail(Kind::Environment)?;
    terminal::print(plan)
}

fn draw_session() -> Result<SessionId, Failure> {
    let mut bytes = [0; 10];
    SystemRandom::new()
        .fill(&mut bytes)
        .or_fail(Kind::Internal)?;
    Ok(SessionId::from_random(bytes))
}

/// Replaces this program by the client's, which takes the results home.
fn become_client(state: &State, arguments: &AgentArgs, attempt: u32) -> Result<ExitCode, Failure> {
    let mut home = Command::new(process::executable()?);
    home.arg("__home")
        .arg("--job")
        .arg(arguments.job.to_string())
        .arg("--attempt")
        .arg(attempt.to_string());
    home.arg("--state").arg(state.root()).env_clear();
    for (flag, set) in [
        ("--json", arguments.json),
        ("--quiet", arguments.quiet),
        ("--overwrite", arguments.overwrite),
    ] {
        if set {
            home.arg(flag);
        }
    }
    Err(Failure::new(
        Kind::Environment,
        format!("cannot become the client again: {}", home.exec()),
    ))
}
