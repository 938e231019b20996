//! Our contender: a session's view as a job has it, without the job.
//!
//! Area, manifest, audit writer and view server are the real ones, in processes of their own. The bench plays the three others: the
//! warden, since it made the key; the agent; and the launcher, since it mounts the view where the other contenders can be compared with it.

use std::{
    fs::{self, File},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use safelight_audit::Source;
use safelight_channel::Channel;
use safelight_job::Recipe;
use safelight_policies::{
    Catalogue, Request,
    cause::Cause,
    grant::Terms,
    id::{Fence, JobId, PolicyName, TaskId},
};
use safelight_seal::{
    blob::Purpose,
    identity::SigningSecret,
    job_key::{JobKey, TO_VIEW},
    manifest::{Entry, Kind as ManifestKind, Manifest, Tree},
    random::{Random, SystemRandom},
};
use safelight_vfs::{
    area::Area,
    protocol::Order,
    session::{FromLauncher, ToLauncher},
};

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs, mounting, process,
    run::{AuditWriter, Slot, ViewIo, ViewServer, claim_slot},
    state::{LogOf, State},
};

/// Where the job believes that it is.
const CENTRAL: &str = "/mnt/bench";

/// The policy of which the rules are asked at each access.
const POLICY: &str = "generic";

/// A day: no lease ends in the middle of a bench.
const LEASE: u64 = 86_400;

/// A job that was packed, of which any number of sessions may be started one after another.
pub(super) struct Job {
    state: State,
    key: JobKey,
    client: SigningSecret,
    id: JobId,
    objects: [safelight_policies::id::ObjectId; 2],
    terms: Terms,
}

/// A session that stands.
pub(super) struct Session {
    view: Option<ViewServer>,
    audit: Option<AuditWriter>,
    mount: PathBuf,
    mounted: bool,
    /// What the session's command would write to, until it has ended.
    output: Option<[OwnedFd; 2]>,
    _slot: Slot,
}

impl Job {
    /// Seals entries, which `pack` makes, as the inputs of a job of its own, in a state below `directory`.
    pub(super) fn new(
        directory: &Path,
        quota: u64,
        pack: impl FnOnce(&Area) -> Result<Vec<Entry>, Failure>,
    ) -> Result<Self, Failure> {
        let random = SystemRandom::new();
        let state = State::open(Some(directory))?;
        let client = SigningSecret::generate(&random).or_fail(Kind::Internal)?;
        let key = JobKey::generate(&random).or_fail(Kind::Internal)?;
        let id = JobId::from_random(draw(&random)?);
        let alias = jobs::alias(&client.public())?;
        let area = Area::open(state.area(&alias)?).or_fail(Kind::Environment)?;
        let central = CENTRAL.parse().or_fail(Kind::Internal)?;
        let inputs = Manifest {
            job: id,
            kind: ManifestKind::Inputs,
            trees: vec![Tree::new(central, pack(&area)?)],
        };
        let inputs = inputs
            .sign_and_seal(&client, &key, &random)
            .or_fail(Kind::Internal)?;
        let recipe = recipe()?;
        let recipe = key
            .seal_blob(Purpose::Recipe, id.as_bytes(), &recipe, &random)
            .or_fail(Kind::Internal)?;
        let put = |bytes: &[u8]| {
            let name = safelight_bundle::object_id(bytes);
            area.put(name, bytes)
                .or_fail(Kind::Environment)
                .map(|()| name)
        };
        Ok(Self {
            objects: [put(&inputs)?, put(&recipe)?],
            terms: terms(quota)?,
            state,
            key,
            client,
            id,
        })
    }

    /// Starts a session and mounts its view at an empty directory.
    pub(super) fn start(&self, mount: &Path) -> Result<Session, Failure> {
        let alias = jobs::alias(&self.client.public())?;
        let slot = claim_slot(&self.state)?;
        let session = crate::run::draw_session()?;
        let log = (&alias, self.id, LogOf::Session(session));
        let (audit, mut channels) =
            AuditWriter::start(&self.state, log, Source::Agent, &[Source::View])?;
        let of_view = channels
            .pop()
            .ok_or_else(|| Failure::new(Kind::Internal, "the audit writer has too few channels"))?;
        let (server_end, launcher) = Channel::pair().or_fail(Kind::Environment)?;
        let open = |path: PathBuf| {
            File::open(path)
                .map(OwnedFd::from)
                .or_fail(Kind::Environment)
        };
        let null = open("/dev/null".into())?;
        let io = ViewIo {
            audit: of_view,
            launcher: server_end,
            shown: [null.as_fd(), null.as_fd()],
            area: &open(self.state.area(&alias)?)?,
            attempt: &open(self.state.session(self.id, session, slot.index.0)?)?,
        };
        let (view, asked) = ViewServer::start(&self.state, slot.index.0, self.order(session), &io)?;
        drop(io);
        let random = SystemRandom::new();
        let stanza = self.key.wrap(&asked, TO_VIEW, self.id, &random);
        view.unlock(stanza.or_fail(Kind::Internal)?)?;
        let output = stand(&view, &launcher, mount)?;
        Ok(Session {
            view: Some(view),
            audit: Some(audit),
            mount: mount.to_owned(),
            mounted: true,
            output: Some(output),
            _slot: slot,
        })
    }

    fn order(&self, session: safelight_policies::id::SessionId) -> Order {
        let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
        let [inputs, recipe] = self.objects;
        Order {
            job: self.id,
            session,
            attempt: 1,
            fence: Fence(1),
            task: TaskId { step: 0, task: 0 },
            tasks: 1,
            client: self.client.public(),
            inputs,
            recipe,
            layers: Vec::new(),
            central: self.terms.central.clone(),
            env: Vec::new(),
            quota: self.terms.limits.quota,
            entries: self.terms.limits.entries,
            output: 1 << 20,
            records: self.terms.limits.records,
            env_pass: Vec::new(),
            lacks: Vec::new(),
            instead: Vec::new(),
            owner: (uid.as_raw(), gid.as_raw()),
            deadline: process::now_seconds() + LEASE,
        }
    }
}

impl Session {
    /// The process id of the view server.
    pub(super) fn server(&self) -> Option<u32> {
        self.view.as_ref().map(ViewServer::pid)
    }

    /// Ends the session as a success and has what it wrote sealed. Answers how long that took.
    pub(super) fn seal(mut self) -> Result<Duration, Failure> {
        self.unmount();
        // Else the server waits for what the command may still say.
        self.output = None;
        let Some(view) = self.view.take() else {
            return Ok(Duration::ZERO);
        };
        let begun = Instant::now();
        view.seal(&Cause::Exited { code: 0 })?;
        let took = begun.elapsed();
        view.finish();
        Ok(took)
    }

    fn unmount(&mut self) {
        if std::mem::replace(&mut self.mounted, false) {
            mounting::unmount(&self.mount);
        }
    }
}

/// Ends in order: the mount, its server, the log.
impl Drop for Session {
    fn drop(&mut self) {
        self.unmount();
        if let Some(view) = self.view.take() {
            view.finish();
        }
        if let Some(audit) = self.audit.take() {
            // What the log says of a bench is of no use to anybody.
            let _ = audit.finish();
        }
    }
}

/// Mounts the view and takes the command that it hands over, as a launcher does.
fn stand(view: &ViewServer, launcher: &Channel, mount: &Path) -> Result<[OwnedFd; 2], Failure> {
    let device = mounting::mount_at(mount)?;
    let stood = launcher
        .send_with(&FromLauncher::Mounts, &[device.as_fd()])
        .and_then(|()| launcher.expect::<ToLauncher>()?.exactly::<2>())
        .or_fail(Kind::Environment)
        .and_then(|(_, output): (ToLauncher, _)| {
            view.serving()?;
            let device = fs::metadata(mount).or_fail(Kind::Environment)?.dev();
            safelight_worker::caching::let_cache(&[(libc::major(device), libc::minor(device))]);
            Ok(output)
        });
    if stood.is_err() {
        mounting::unmount(mount);
    }
    stood
}

/// What the policy grants to a job that writes at its central path.
fn terms(quota: u64) -> Result<Terms, Failure> {
    let name: PolicyName = POLICY.parse().or_fail(Kind::Internal)?;
    let catalogue = Catalogue::shipped().or_fail(Kind::Internal)?;
    let policy = catalogue.resolve(&name).or_fail(Kind::Internal)?;
    let request = Request {
        central: vec![(CENTRAL.parse().or_fail(Kind::Internal)?, true)],
        ..Request::default()
    };
    let mut terms = policy
        .admit(&request)
        .or_fail(Kind::Internal)?
        .terms()
        .clone();
    terms.limits.quota = quota;
    Ok(terms)
}

/// A command that nobody runs.
fn recipe() -> Result<Vec<u8>, Failure> {
    let recipe = Recipe {
        command: vec![b"true".to_vec()],
        directory: CENTRAL.as_bytes().to_vec(),
        env: std::collections::BTreeMap::new(),
        expect: Vec::new(),
        title: "bench".to_owned(),
    };
    recipe.encode().or_fail(Kind::Internal)
}

fn draw(random: &SystemRandom) -> Result<[u8; 10], Failure> {
    let mut bytes = [0; 10];
    random.fill(&mut bytes).or_fail(Kind::Internal)?;
    Ok(bytes)
}
