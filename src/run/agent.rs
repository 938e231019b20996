//! The agent's part: who may run what, in which slot, under which lease. It holds no key and reads nothing of the client's.
//!
//! Verify what the client signed; judge again; claim a slot; lease; start the audit writer; make the attempt; anchor the log; let the
//! client take its results home. The attempt itself is told in [`super::attempt`], its end in [`super::settle`].

use std::{
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Command, ExitCode},
};

use safelight_audit::Source;
use safelight_bundle::Envelope;
use safelight_policies::{
    Grant, Policy, cause::Cause, event::Control, id::SessionId, judge::Request, outline::Outline,
};
use safelight_seal::random::{Random, SystemRandom};
use safelight_worker::{
    facts::HostFacts,
    plan::{Identity, Plan},
    probe::{self, HostReport},
};

use super::{
    arguments::AgentArgs,
    attempt::{Attempt, Ending},
    books::{Books, Leased},
    doors::Recorded,
    servers::{AuditWriter, KeyWarden},
    settle::Settlement,
    signals::Signals,
    slot::{self, Slot},
};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Order},
    lacks::Lacks,
    policy_source, process,
    state::{LogOf, State, user},
    terminal,
    warden::{self, Ask},
};

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
    books.reap(&state, slot.index)?;
    books.enroll(&state)?;
    books.admit(&envelope, &signed)?;
    let leased = books.lease(
        &envelope,
        slot.index,
        grant.terms().limits.wall,
        draw_session()?,
    )?;
    let held = Held {
        state: &state,
        order: &order,
        envelope: &envelope,
        signed: &signed,
        slot: &slot,
        books: &books,
        signals: &signals,
    };
    // Whatever goes wrong while the lease is held, the ledger learns of its end, and the client what there is to know.
    if let Err(failure) = held.run(&leased, grant) {
        terminal::complain(&failure);
        let cause = failure.cause().cloned().unwrap_or(Cause::NodeLost);
        // It may have ended before, and then nothing changes.
        let _ = books.end(&leased.lease, &cause);
    }
    become_client(&state, arguments, leased.lease.attempt)
}

/// What is there while a lease is held.
struct Held<'a> {
    state: &'a State,
    order: &'a Order,
    envelope: &'a Envelope,
    signed: &'a [u8],
    slot: &'a Slot,
    books: &'a Books,
    signals: &'a Signals,
}

impl Held<'_> {
    /// One attempt, with everything about it on the log.
    fn run(&self, leased: &Leased, grant: Grant) -> Result<(), Failure> {
        let others = Recorded::sources(&[Source::Warden], Source::View, grant.terms());
        let outline = &self.envelope.outline;
        let log = (&outline.client, outline.job, LogOf::Job);
        let (audit, mut channels) = AuditWriter::start(self.state, log, Source::Agent, &others)?;
        let lease = &leased.lease;
        audit.note(Control::Packed {
            files: self.order.files,
            bytes: self.order.bytes,
        })?;
        audit.note(Control::Leased {
            session: lease.session,
            task: lease.task,
            attempt: lease.attempt,
            fence: lease.fence.0,
            node: lease.node.clone(),
            slot: lease.slot,
        })?;
        let recorded = Recorded::take(&mut channels, grant.terms())?;
        let warden = channels
            .pop()
            .ok_or_else(|| Failure::new(Kind::Internal, "the audit writer has too few channels"))?;
        let warden = KeyWarden::start(self.state, warden)?;
        let (out, err) = (io::stdout(), io::stderr());
        let attempt = Attempt {
            state: self.state,
            envelope: self.envelope,
            lease: &leased.lease,
            layers: Vec::new(),
            slot: self.slot,
            audit: &audit,
            stop: &[(self.signals.watch(), Cause::Canceled)],
            shown: [out.as_fd(), err.as_fd()],
            lacks: &Lacks::shipped(),
            instead: Vec::new(),
            wall: None,
            release: &|key| warden.release(&leased.ask(self.signed, key, self.books)),
        };
        let ending = attempt.run(grant, recorded);
        let ending = ending.unwrap_or_else(Ending::never_ran);
        // One command, one attempt: from here on this site has no way into the job any more.
        let (job, prekey) = (leased.lease.job, self.envelope.prekey);
        if let Err(failure) = warden.erase(&Ask::Erase { job, prekey }) {
            tracing::error!("{failure}");
        }
        let settlement = Settlement {
            attempt: &attempt,
            books: self.books,
        };
        let settled = settlement.settle(&ending);
        warden.finish();
        let anchor = audit.finish();
        if let Some(failure) = &ending.failure {
            terminal::complain(failure);
        }
        settled?;
        self.books.anchor(leased.lease.job, anchor?)
    }
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
    admit(&policy, &envelope.outline, 0)
}

/// What the policy grants to a task of this step. The client signed what it asks for.
pub(crate) fn admit(policy: &Policy, outline: &Outline, step: u32) -> Result<Grant, Failure> {
    let timeout = outline.steps.get(step as usize).map(|step| step.timeout);
    let request = Request {
        central: outline.central.clone(),
        timeout,
        env: std::collections::BTreeMap::new(),
    };
    policy.admit(&request).map_err(|denied| {
        Failure::from_error(Kind::Denied, &denied)
            .hint(format!("safelight policy show {}", outline.policy))
    })
}

/// What the kernel cannot enforce, this host must not run.
pub(crate) fn check_host(grant: &Grant) -> Result<(), Failure> {
    check_report(grant, &probe::probe())
}

/// The same, for a host that was looked at before.
pub(crate) fn check_report(grant: &Grant, report: &HostReport) -> Result<(), Failure> {
    let warnings = probe::check(grant.terms(), report).map_err(|lacking| {
        Failure::from_error(Kind::Environment, &lacking)
            .hint(&lacking.remedy)
            .hint("safelight doctor")
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

/// The id of a session that is to be.
pub(crate) fn draw_session() -> Result<SessionId, Failure> {
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
