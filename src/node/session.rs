//! The life of one lease on a node, top to bottom.
//!
//! It was verified ([`super::lease`]); now: the policy that the client signed, and what it grants here; a slot of this host; the job's
//! sealed objects; the log; the attempt; what was sealed, and the log itself, become objects and go to the site; the site is told.
//! Whatever fails on the way, the site learns of the end, and nothing of the session stays but sealed objects.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use safelight_audit::Source;
use safelight_bundle::Envelope;
use safelight_policies::{
    Grant,
    cause::Cause,
    event::Control,
    id::{KemKey, ObjectId},
    lease::Lease,
};
use safelight_seal::job_key::Stanza;
use safelight_vfs::protocol::Layer;

use super::{
    carry,
    protocol::{Answer, Before, Call, Ended, Sealed, Work},
    seats::Seat,
    serve::Node,
    standing,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    run::{self, Attempt, AuditWriter, Ending, Recorded, Slot},
    state::LogOf,
    store::Store,
    terminal,
    warden::{NODE_CONTEXT, Request},
};

/// How long a release may take: the site asks its warden, which syncs its disk.
const RELEASE: Duration = Duration::from_secs(60);
/// The most bytes of a part of a log; an object may be a little longer.
const PART_BYTES: u64 = 240 << 20;
/// How long the site may take to write an end down.
const END: Duration = Duration::from_secs(30);

/// A lease that is lived.
pub(super) struct Session<'a> {
    pub(super) node: &'a Node,
    pub(super) seat: &'a Seat,
    pub(super) work: &'a Work,
    pub(super) lease: &'a Lease,
    pub(super) envelope: &'a Envelope,
}

/// How it ended, and what it left in the area.
struct Outcome {
    cause: Cause,
    sealed: Option<Sealed>,
    /// The parts of the session's log.
    audit: Vec<ObjectId>,
    objects: Vec<(ObjectId, u32)>,
    failure: Option<Failure>,
}

impl Outcome {
    fn of(ending: Ending) -> Self {
        Self {
            cause: ending.cause,
            sealed: ending.sealed.map(|sealed| Sealed {
                manifest: sealed.manifest,
                log: sealed.log,
                files: sealed.files,
                bytes: sealed.bytes,
            }),
            audit: Vec::new(),
            objects: Vec::new(),
            failure: ending.failure,
        }
    }

    /// What came after the session went wrong: a success is none any more.
    fn spoil(&mut self, failure: Failure, otherwise: Cause) {
        if self.cause.is_success() {
            self.cause = failure.cause().cloned().unwrap_or(otherwise);
        }
        self.failure.get_or_insert(failure);
    }
}

impl Session<'_> {
    /// Lives it.
    pub(super) fn run(&self) {
        let began = Instant::now();
        let Lease {
            session, job, task, ..
        } = self.lease;
        self.say(&format!("begins: {job} task {task}"));
        let mut outcome = match self.prepare() {
            Ok((grant, slot)) => self.attempt(grant, &slot),
            Err(failure) => Outcome::of(self.never_ran(failure)),
        };
        if let Err(failure) = self.bring(&outcome) {
            outcome.spoil(failure, Cause::NodeLost);
            (outcome.sealed, outcome.audit) = (None, Vec::new());
            outcome.objects.clear();
        }
        let why = outcome.failure.take().map_or(String::new(), |failure| {
            format!(" ({})", terminal::shown(failure.message().as_bytes()))
        });
        let (cause, seconds) = (outcome.cause.clone(), began.elapsed().as_secs_f64());
        let answered = self.tell(outcome);
        self.clean_up(answered.is_ok());
        let counts = answered.map_or_else(
            |failure| format!("; {}", failure.message()),
            |refused| refused.map_or(String::new(), |reason| format!("; the site: {reason}")),
        );
        terminal::say(format!(
            "{session} ended: {cause}, {seconds:.1} s{why}{counts}"
        ));
    }

    fn say(&self, what: &str) {
        terminal::say(format!("{} {what}", self.lease.session));
    }

    /// Everything that comes before the log: what may run, where, and that its objects are here.
    fn prepare(&self) -> Result<(Grant, Slot), Failure> {
        let node = self.node;
        let grant = self.grant()?;
        run::check_report(&grant, &node.report).map_err(at("host"))?;
        let slot = run::claim_slot(&node.state).map_err(at("slot"))?;
        self.fetch().map_err(at("objects"))?;
        Ok((grant, slot))
    }

    /// What the policy grants, if it is the one that the client signed.
    fn grant(&self) -> Result<Grant, Failure> {
        let outline = &self.envelope.outline;
        let name = &outline.policy;
        let policy = self.node.catalogue.resolve(name).or_fail(Kind::Config);
        let policy = policy.map_err(at("policy"))?;
        if policy.digest() != outline.policy_digest {
            let message =
                format!("this node's policy {name} is not the one that the client signed");
            return Err(at("policy")(Failure::new(Kind::Denied, message)));
        }
        run::admit(&policy, outline, self.lease.task.step).map_err(at("grant"))
    }

    /// Brings what the view server will read: the job's objects, and what the steps before left.
    fn fetch(&self) -> Result<(), Failure> {
        let node = self.node;
        let store = Store::open(&node.state, &self.lease.client)?;
        let mut lists = vec![self.work.list];
        lists.extend(self.work.layers.iter().map(|layer| layer.list));
        let needed = [self.envelope.inputs, self.envelope.recipe];
        let lease = node.pulse.contact().lease();
        let wanted = |elapsed| self.seat.stop.cause().is_none() && elapsed < lease;
        node.fetching.fetch(
            &node.site,
            self.lease.job,
            (&lists, &needed),
            &store,
            &wanted,
        )
    }

    /// The attempt, with everything about it on the session's own log.
    fn attempt(&self, grant: Grant, slot: &Slot) -> Outcome {
        match self.logged(grant, slot) {
            Ok(outcome) => outcome,
            Err(failure) => Outcome::of(self.never_ran(failure)),
        }
    }

    /// The end of what did not get as far as a session. What failed because it was told to end ended because it was told to.
    fn never_ran(&self, failure: Failure) -> Ending {
        let mut ending = Ending::never_ran(failure);
        if let Some(told) = self.seat.stop.cause() {
            ending.cause = told;
        }
        ending
    }

    /// The same; an error if there is no log to put anything on.
    fn logged(&self, grant: Grant, slot: &Slot) -> Result<Outcome, Failure> {
        let lease = self.lease;
        let (session, state) = (lease.session, &self.node.state);
        let log = (&lease.client, lease.job, LogOf::Session(session));
        let others = Recorded::sources(&[], Source::View, grant.terms());
        let (audit, mut channels) = AuditWriter::start(state, log, Source::Agent, &others)?;
        let recorded = Recorded::take(&mut channels, grant.terms())?;
        audit.note(Control::Leased {
            session,
            task: lease.task,
            attempt: lease.attempt,
            fence: lease.fence.0,
            node: lease.node.clone(),
            slot: lease.slot,
        })?;
        // What a task prints is the client's; it goes into its sealed log and nowhere else.
        let null = File::options().write(true).open("/dev/null");
        let null = null.or_fail(Kind::Environment)?;
        let stop = self.seat.stop.watches();
        let attempt = Attempt {
            state,
            envelope: self.envelope,
            lease,
            layers: self.work.layers.iter().map(layer).collect(),
            slot,
            audit: &audit,
            stop: &stop,
            shown: [null.as_fd(), null.as_fd()],
            lacks: &self.node.config.lacks,
            instead: Vec::new(),
            wall: None,
            release: &|key| self.release(key),
        };
        let ending = standing::told_while(self, &audit, || attempt.run(grant, recorded));
        let mut outcome = Outcome::of(ending.unwrap_or_else(|failure| self.never_ran(failure)));
        if outcome.sealed.is_some() {
            match adopted(&attempt) {
                Ok(objects) => outcome.objects = objects,
                Err(failure) => {
                    outcome.spoil(failure, Cause::Poisoned);
                    outcome.sealed = None;
                }
            }
        }
        let ended = Control::Ended {
            session,
            cause: outcome.cause.clone(),
        };
        let noted = audit.note(ended);
        let finished = audit.finish();
        match noted.and(finished).and_then(|_| self.keep_log()) {
            Ok(parts) => {
                outcome.audit = parts.iter().map(|(object, _)| *object).collect();
                outcome.objects.extend(parts);
            }
            // No record, no result.
            Err(failure) => outcome.spoil(failure, Cause::AuditLost),
        }
        Ok(outcome)
    }

    /// Has the job's key released into a view server. We pass on what we cannot read.
    fn release(&self, view_key: KemKey) -> Result<Stanza, Failure> {
        let message = Request::message(&self.work.lease, &view_key);
        let request = Request {
            envelope: self.work.envelope.clone(),
            lease: self.work.lease.clone(),
            node_signature: self.node.key.sign(NODE_CONTEXT, &message).to_vec(),
            view_key,
        };
        let call = Call::Release {
            session: self.lease.session,
            request,
        };
        let lease = self.node.pulse.contact().lease();
        let wanted = |elapsed| self.seat.stop.cause().is_none() && elapsed < lease;
        // A fence is good for one release. If the answer is lost, so is the attempt; another node, or this one again, gets a new fence.
        let answer = self.node.site.call_unrepeated(&call, RELEASE, &wanted);
        let answer = answer.map_err(|error| {
            Failure::from_error(Kind::Environment, &error).ends_with(Cause::NodeLost)
        })?;
        let no_key = |message| Failure::new(Kind::Denied, message).ends_with(Cause::NoKey);
        match answer {
            Answer::Released { stanza } => Ok(stanza),
            Answer::Refused { reason } => Err(no_key(format!(
                "the site does not release the job's key: {reason}"
            ))),
            _ => Err(no_key("the site answered something else".to_owned())),
        }
    }

    /// Makes the session's log an object, or several if it is long.
    fn keep_log(&self) -> Result<Vec<(ObjectId, u32)>, Failure> {
        let Lease {
            client,
            job,
            session,
            ..
        } = self.lease;
        let state = &self.node.state;
        let path = state.audit_log(client, *job, LogOf::Session(*session))?;
        carry::keep_log(&path, &Store::open(state, client)?, PART_BYTES)
    }

    /// Brings everything that the session left to the site.
    fn bring(&self, outcome: &Outcome) -> Result<(), Failure> {
        let node = self.node;
        let store = Store::open(&node.state, &self.lease.client)?;
        let wanted = |_| !self.seat.stop.is_lost() && node.lingers();
        carry::send(
            &node.site,
            self.lease.job,
            &outcome.objects,
            &store,
            &wanted,
        )
        .map_err(|error| Failure::from_error(Kind::Environment, &error))
    }

    /// Tells the site how it ended, until the site answers. Answers why the site does not want it, if it does not.
    fn tell(&self, outcome: Outcome) -> Result<Option<String>, Failure> {
        let ended = Ended {
            session: self.lease.session,
            fence: self.lease.fence,
            cause: outcome.cause,
            sealed: outcome.sealed,
            audit: outcome.audit,
            objects: outcome.objects,
        };
        let call = Call::Ended(Box::new(ended));
        let answer = self.node.site.call(&call, END, &|_| self.node.lingers());
        match answer.or_fail(Kind::Environment)? {
            Answer::Settled => Ok(None),
            Answer::Refused { reason } => Ok(Some(terminal::shown(reason.as_bytes()))),
            _ => Err(super::beat::out_of_turn()),
        }
    }

    /// What is left of the session beside sealed objects goes; its log stays if the site never heard of its end.
    fn clean_up(&self, answered: bool) {
        let Lease {
            client,
            job,
            session,
            ..
        } = self.lease;
        let state = &self.node.state;
        // No slot is needed to find it, and whoever had it is gone.
        if let Ok(path) = state.job(*job) {
            let _ = fs::remove_dir_all(path.join("sessions").join(session.to_string()));
        }
        if let (true, Ok(path)) = (
            answered,
            state.audit_log(client, *job, LogOf::Session(*session)),
        ) {
            let _ = fs::remove_file(path);
        }
    }
}

/// What a step before left, as the view server wants it. That it is that is checked there.
fn layer(before: &Before) -> Layer {
    Layer {
        manifest: before.manifest,
        session: before.session,
        attempt: before.attempt,
        fence: before.fence,
    }
}

/// The attempt's sealed objects, now the area's, with lengths as lists have them.
fn adopted(attempt: &Attempt<'_>) -> Result<Vec<(ObjectId, u32)>, Failure> {
    let short = |(object, len): (ObjectId, u64)| {
        let len = u32::try_from(len).or_fail(Kind::Internal)?;
        Ok((object, len))
    };
    attempt.adopt()?.into_iter().map(short).collect()
}

/// Names the step of the preparation that failed, unless the failure knows better.
fn at(step: &'static str) -> impl Fn(Failure) -> Failure {
    move |failure| {
        if failure.cause().is_some() {
            return failure;
        }
        failure.ends_with(Cause::NotStarted {
            step: step.to_owned(),
            errno: 0,
        })
    }
}
