//! The agent's books: the ledger, and the two keys that a site signs leases and requests with.
//!
//! On one host the agent is the site's schedule server and its only node. The keys are made at first use and enrolled with the warden,
//! which believes nothing but them.

use safelight_audit::Checkpoint;
use safelight_bundle::Envelope;
use safelight_policies::{
    cause::Cause,
    id::{JobId, KemKey, NodeName, ObjectId, SessionId, SlotIndex, TaskId, VerifyKey},
    lease::{Lease, Wrapper},
};
use safelight_scheduler::{
    Anchor, AttemptEntry, JobEntry, Leasing, Moved, Place, Report, Rules, Settlement, SqliteLedger,
};
use safelight_seal::{
    identity::SigningSecret,
    random::{Random, SystemRandom},
};
use tokio::runtime::Runtime;

use super::slot;
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs, process,
    site::Config,
    state::State,
    warden::{self, Ask, NODE_CONTEXT, Request},
};

/// A lease outlasts the wall-clock limit by this: the time to end, to seal and to commit. Seconds.
pub(crate) const LEASE_MARGIN: u64 = 3600;

/// The one task of a job that is a single command.
const TASK: TaskId = TaskId { step: 0, task: 0 };

/// The node's name on its own host.
pub(crate) const NODE: &str = "localhost";

/// A lease and what proves it.
pub(super) struct Leased {
    pub(super) lease: Lease,
    signed: Vec<u8>,
}

impl Leased {
    /// What the warden is asked: the node signs for the view server's key, so nobody else can have it released to another.
    pub(super) fn ask(&self, envelope: &[u8], view_key: KemKey, books: &Books) -> Ask {
        let node_signature = books
            .node
            .sign(NODE_CONTEXT, &Request::message(&self.signed, &view_key))
            .to_vec();
        Ask::Release(Request {
            envelope: envelope.to_vec(),
            lease: self.signed.clone(),
            node_signature,
            view_key,
        })
    }
}

/// The books of one host.
pub(crate) struct Books {
    runtime: Runtime,
    ledger: SqliteLedger,
    schedule: SigningSecret,
    node: SigningSecret,
}

impl Books {
    /// Opens the books, making them if need be.
    pub(crate) fn open(state: &State) -> Result<Self, Failure> {
        Self::open_with(state, Rules::default())
    }

    /// The same, with the numbers of the site whose state it is, if it is a site's: what is said must be what the site does.
    pub(crate) fn of_site(state: &State) -> Result<Self, Failure> {
        let rules = match Config::path(state).exists() {
            true => Config::read(state)?.rules,
            false => Rules::default(),
        };
        Self::open_with(state, rules)
    }

    /// The same, with a site's own numbers.
    pub(crate) fn open_with(state: &State, rules: Rules) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .or_fail(Kind::Environment)?;
        let ledger = runtime
            .block_on(SqliteLedger::open_with(&state.ledger(), rules))
            .or_fail(Kind::Environment)?;
        let random = SystemRandom::new();
        let schedule = site_key(state, "schedule", &random)?;
        let node = site_key(state, "node", &random)?;
        Ok(Self {
            runtime,
            ledger,
            schedule,
            node,
        })
    }

    /// Tells the warden whose leases and requests to believe.
    pub(crate) fn enroll(&self, state: &State) -> Result<(), Failure> {
        warden::enroll_schedule(state, &self.schedule.public())?;
        warden::enroll_node(state, &node_name()?, &self.node.public())
    }

    /// The ledger.
    pub(crate) fn ledger(&self) -> &SqliteLedger {
        &self.ledger
    }

    /// Waits for an answer of the ledger's.
    pub(crate) fn wait<T, E: std::error::Error>(
        &self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        self.runtime.block_on(answer).or_fail(Kind::Environment)
    }

    /// Reports, and leaves what does not fit the job's state as it is.
    pub(crate) fn report(&self, job: JobId, report: Report, now: u64) -> Result<(), Failure> {
        match self.wait(self.ledger.report(job, report, now))? {
            Moved::Refused { reason } => tracing::debug!("{job}: {report:?}: {reason}"),
            Moved::Done { .. } | Moved::Already => {}
        }
        Ok(())
    }

    /// The schedule server's public key.
    pub(crate) fn schedule(&self) -> VerifyKey {
        self.schedule.public()
    }

    /// Writes a verified job down.
    pub(super) fn admit(&self, envelope: &Envelope, signed: &[u8]) -> Result<(), Failure> {
        let object = safelight_bundle::object_id(signed);
        let admitted = self
            .ledger
            .admit_job(&envelope.outline, object, process::now_seconds());
        self.runtime.block_on(admitted).or_fail(Kind::Environment)
    }

    /// Leases the job's task to a session in a slot, and signs the lease.
    pub(super) fn lease(
        &self,
        envelope: &Envelope,
        slot: SlotIndex,
        wall: u64,
        session: SessionId,
    ) -> Result<Leased, Failure> {
        let job = envelope.outline.job;
        let place = Place {
            node: node_name()?,
            slot,
        };
        let leasing = self.ledger.lease(
            job,
            TASK,
            session,
            &place,
            process::now_seconds(),
            wall + LEASE_MARGIN,
        );
        let leased = match self.runtime.block_on(leasing).or_fail(Kind::Environment)? {
            Leasing::Leased(leased) => leased,
            Leasing::Refused { reason } => {
                return Err(Failure::new(
                    Kind::User,
                    format!("{job} is not leased: {reason}"),
                ));
            }
        };
        let lease = Lease {
            client: envelope.outline.client.clone(),
            job,
            task: TASK,
            tasks: 1,
            attempt: leased.attempt,
            fence: leased.fence,
            session,
            node: place.node,
            node_key: self.node.public(),
            slot,
            expires: leased.expires,
            wrapper: Wrapper {
                policy: envelope.outline.policy.clone(),
                digest: envelope.outline.policy_digest,
            },
        };
        let signed = sign_lease(&lease, &self.schedule)?;
        Ok(Leased { lease, signed })
    }

    /// Commits a result under the lease's fence; answers why not if the ledger refuses.
    pub(super) fn commit(
        &self,
        lease: &Lease,
        manifest: ObjectId,
        at: Checkpoint,
    ) -> Result<Option<String>, Failure> {
        let commit = self.ledger.commit(
            lease.session,
            lease.fence,
            manifest,
            Some(anchor_of(at)),
            process::now_seconds(),
        );
        Ok(
            match self.runtime.block_on(commit).or_fail(Kind::Environment)? {
                Settlement::Accepted => None,
                Settlement::Refused { reason } => Some(reason.to_string()),
            },
        )
    }

    /// Writes down that an attempt ended without a result.
    pub(super) fn end(&self, lease: &Lease, cause: &Cause) -> Result<(), Failure> {
        let end = self
            .ledger
            .end(lease.session, cause, None, process::now_seconds());
        match self.runtime.block_on(end).or_fail(Kind::Environment)? {
            Settlement::Accepted => Ok(()),
            Settlement::Refused { reason } => Err(Failure::new(
                Kind::Internal,
                format!("{} cannot be ended: {reason}", lease.session),
            )),
        }
    }

    /// Ends attempts whose agent died: they still run by the ledger, but nobody holds their slot.
    pub(super) fn reap(&self, state: &State, own: SlotIndex) -> Result<(), Failure> {
        for (session, place) in self
            .runtime
            .block_on(self.ledger.running())
            .or_fail(Kind::Environment)?
        {
            if place.slot == own || slot::is_free(state, place.slot) {
                let end = self
                    .ledger
                    .end(session, &Cause::NodeLost, None, process::now_seconds());
                let _ = self.runtime.block_on(end).or_fail(Kind::Environment)?;
            }
        }
        Ok(())
    }

    /// Notes the state of a job's log, so that it cannot be cut off unseen.
    pub(crate) fn anchor(&self, job: JobId, at: Checkpoint) -> Result<(), Failure> {
        self.runtime
            .block_on(self.ledger.set_anchor(job, anchor_of(at)))
            .or_fail(Kind::Environment)
    }

    /// The noted state of a job's log.
    pub(crate) fn checkpoint(&self, job: JobId) -> Result<Option<Checkpoint>, Failure> {
        let anchor = self
            .runtime
            .block_on(self.ledger.anchor(job))
            .or_fail(Kind::Environment)?;
        Ok(anchor.map(|anchor| Checkpoint {
            records: anchor.records,
            chain: anchor.chain,
        }))
    }

    /// The job that a person means: an id, the beginning of one, or `last`.
    pub(crate) fn find(&self, selector: &str) -> Result<JobId, Failure> {
        let found = self
            .runtime
            .block_on(self.ledger.job(selector))
            .or_fail(Kind::User);
        found
            .map(|entry| entry.id())
            .map_err(|failure| failure.hint("safelight job list"))
    }

    /// Every job, newest first.
    pub(crate) fn jobs(&self) -> Result<Vec<JobEntry>, Failure> {
        self.runtime
            .block_on(self.ledger.jobs())
            .or_fail(Kind::Environment)
    }

    /// Every attempt of a job, oldest first.
    pub(crate) fn attempts(&self, job: JobId) -> Result<Vec<AttemptEntry>, Failure> {
        self.runtime
            .block_on(self.ledger.attempts(job))
            .or_fail(Kind::Environment)
    }
}

/// Signs a lease.
pub(crate) fn sign_lease(lease: &Lease, schedule: &SigningSecret) -> Result<Vec<u8>, Failure> {
    let sign = |context: &str, body: &[u8]| schedule.sign(context, body);
    safelight_bundle::seal(lease, &schedule.public(), sign).or_fail(Kind::Internal)
}

fn anchor_of(at: Checkpoint) -> Anchor {
    Anchor {
        records: at.records,
        chain: at.chain,
    }
}

pub(crate) fn node_name() -> Result<NodeName, Failure> {
    NODE.parse().or_fail(Kind::Internal)
}

/// A key of this host's own, made at first use: `schedule` or `node`.
pub(crate) fn site_key(
    state: &State,
    name: &str,
    random: &dyn Random,
) -> Result<SigningSecret, Failure> {
    let path = state.site_key(name);
    if !path.exists() {
        let secret = SigningSecret::generate(random).or_fail(Kind::Internal)?;
        // What counts is what is read below: several jobs may be a host's first at the same time.
        jobs::make_private(&path, &secret.to_bytes()[..])?;
    }
    let bytes = zeroize::Zeroizing::new(jobs::read(&path)?);
    let seed = <&[u8; 32]>::try_from(&bytes[..])
        .map_err(|_| Failure::new(Kind::Config, format!("{} is damaged", path.display())))?;
    Ok(SigningSecret::from_bytes(seed))
}
