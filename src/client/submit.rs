//! Handing a job in: everything that can be wrong is found first, then it is sealed, and the queue has it last.
//!
//! Until the ledger's one transaction there is no job: a submission that dies before leaves sealed objects that nothing names.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use safelight_audit::{Checkpoint, Source as LogSource};
use safelight_job::{
    Asset, JobPlan, JobRecipe, Submission,
    settings::{Central, Settings, Where},
};
use safelight_policies::{
    Policy,
    event::Control,
    id::{JobId, KemKey, ObjectId, PolicyName},
    judge::Request,
    outline::Outline,
    path::CentralPath,
};
use safelight_scheduler::{Terms, Wanted};
use safelight_seal::{key_file::ClientSecret, manifest::Tree, random::SystemRandom};
use safelight_vfs::pack::{Known, NotChosen, Packed, Progress, Selection, pack_selection};

use super::{Goods, Packing, Sealing, bundle::Bundle, earlier::Earlier, remembered::Remembered};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Homeward, Notify, Order},
    policy_source, process,
    run::{self, AuditWriter, Books},
    state::{LogOf, State},
    terminal, warden,
};

/// How long a job may wait before it starts, in seconds: media between sites are slow, and so are full queues.
const EXPIRES_AFTER: u64 = 30 * 86_400;

/// The policy of a job that names none.
const POLICY: &str = "generic";

/// The longest outline in bytes. It travels in an envelope, and that in one message to the key warden.
const OUTLINE_MAX: usize = 150 * 1024;

/// What is handed in, and what the command line says of it.
pub(crate) struct Handed {
    /// The bundle's directory.
    pub(crate) directory: PathBuf,
    /// Values of parameters.
    pub(crate) values: Vec<(String, String)>,
    /// Where it may run.
    pub(crate) place: Option<Wanted>,
    /// 0 (last) to 100 (first).
    pub(crate) priority: Option<u8>,
    /// The policy: a name or a file.
    pub(crate) policy: Option<String>,
    /// Who may read the job besides its client.
    pub(crate) readers: Vec<KemKey>,
    /// An earlier job: what it looked for is packed too, where it is there.
    pub(crate) from_audit: Option<String>,
    /// Every file is read, whatever is remembered of it.
    pub(crate) reread: bool,
    /// Says nothing but what went wrong.
    pub(crate) quiet: bool,
}

/// A job that is in the queue.
pub(crate) struct Submitted {
    pub(crate) job: JobId,
    pub(crate) policy: PolicyName,
    pub(crate) steps: u64,
    pub(crate) tasks: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Hands a job in.
pub(crate) fn submit(state: &State, handed: &Handed) -> Result<Submitted, Failure> {
    let bundle = Bundle::read(&handed.directory, &state.environments())?;
    let plan = JobPlan::read(&bundle.source(&handed.values)).or_fail(Kind::User)?;
    let spec = chosen_policy(handed, plan.settings());
    let (catalogue, name) = policy_source::load(&spec)?;
    let policy = catalogue.resolve(&name).or_fail(Kind::Config)?;
    let earlier = handed.from_audit.as_deref();
    let earlier = earlier.map(|job| Earlier::read(state, job)).transpose()?;
    let mut chosen = choose(&plan)?;
    if let Some(earlier) = earlier {
        earlier.choose(&mut chosen, handed.quiet);
    }

    let random = SystemRandom::new();
    let secret = jobs::client_secret(state, &random)?;
    let sealing = Sealing::begin(state, &secret, &random)?;
    let (outline, recipe) = split(&plan, &policy, &spec, handed, &sealing)?;
    let job = outline.job;
    let submitting = Submitting {
        state,
        plan: &plan,
        secret: &secret,
        sealing: &sealing,
        recipe,
        readers: &handed.readers,
        reread: handed.reread,
        spec: policy_source::absolute(&spec)?,
    };
    let steps = outline.steps.len() as u64;
    let tasks = outline.steps.iter().map(|step| step.tasks).sum();
    let sealed = submitting.seal(&chosen, &outline).inspect_err(|_| {
        // Nobody knows of it yet, and nobody ever will.
        let _ = state.job(job).map(fs::remove_dir_all);
    })?;
    let wanted = wanted(handed, plan.settings());
    submitting.enqueue(&outline, &sealed, wanted)?;
    Ok(Submitted {
        job,
        policy: name,
        steps,
        tasks,
        files: sealed.files,
        bytes: sealed.bytes,
    })
}

/// The command line's policy, or the job's, or one for all.
fn chosen_policy(handed: &Handed, settings: &Settings) -> String {
    if let Some(policy) = &handed.policy {
        return policy.clone();
    }
    if let Some(policy) = &settings.policy {
        return policy.to_string();
    }
    if !handed.quiet {
        terminal::say(format!(
            "the job names no policy; it runs under {POLICY} (--policy names another)"
        ));
    }
    POLICY.to_owned()
}

fn wanted(handed: &Handed, settings: &Settings) -> Wanted {
    let own = || match &settings.place {
        Where::Auto => Wanted::Auto,
        Where::Local => Wanted::Local,
        Where::Site(site) => Wanted::Site(site.clone()),
    };
    handed.place.clone().unwrap_or_else(own)
}

/// The clear half and the secret half, once the policy has granted each step.
fn split(
    plan: &JobPlan,
    policy: &Policy,
    spec: &str,
    handed: &Handed,
    sealing: &Sealing<'_>,
) -> Result<(Outline, JobRecipe), Failure> {
    let central = plan.settings().central.iter();
    let request = Request {
        central: central.map(|it| (it.path.clone(), it.write)).collect(),
        timeout: None,
        env: BTreeMap::new(),
    };
    let refused = |failure: Failure| failure.hint(format!("safelight policy show {spec}"));
    let grant = policy.admit(&request).or_fail(Kind::Denied);
    let grant = grant.map_err(refused)?;
    let submission = Submission {
        job: sealing.job(),
        client: sealing.client().clone(),
        policy: grant.terms().policy.clone(),
        policy_digest: policy.digest(),
        wall: grant.terms().limits.wall,
        expires: process::now_seconds() + EXPIRES_AFTER,
    };
    let split = plan.split(submission).or_fail(Kind::Denied);
    let (mut outline, recipe) = split.map_err(refused)?;
    outline.priority = handed.priority.unwrap_or(outline.priority);
    for step in (0..).take(outline.steps.len()) {
        run::admit(policy, &outline, step).map(drop)?;
    }
    if postcard::to_stdvec(&outline).or_fail(Kind::Internal)?.len() > OUTLINE_MAX {
        let message = "the job has more steps and requirements than fit one envelope";
        return Err(Failure::new(Kind::User, message).hint("hand it in as several jobs"));
    }
    Ok((outline, recipe))
}

/// One central directory and what is packed of it.
pub(super) struct Chosen {
    pub(super) path: CentralPath,
    pub(super) host: PathBuf,
    pub(super) write: bool,
    pub(super) selection: Selection,
}

/// Chooses what the job's assets name. Whatever is not as it should be is named, all of it.
fn choose(plan: &JobPlan) -> Result<Vec<Chosen>, Failure> {
    let (mut chosen, mut wrong) = (Vec::new(), Vec::new());
    for (index, central) in plan.settings().central.iter().enumerate() {
        match fs::canonicalize(&central.host) {
            Ok(host) if host.is_dir() => chosen.push(Chosen {
                path: central.path.clone(),
                selection: Selection::new(&host),
                host,
                write: central.write,
            }),
            Ok(_) => wrong.push(unusable(index, central, &"it is not a directory")),
            Err(error) => wrong.push(unusable(index, central, &error)),
        }
    }
    for asset in plan.assets() {
        // One below a directory that cannot be used is named with it.
        let below = |it: &&mut Chosen| below(asset, &it.path).is_some();
        let Some(chosen) = chosen.iter_mut().find(below) else {
            continue;
        };
        if let Err(error) = pick(asset, chosen) {
            let source = std::error::Error::source(&error);
            let why = source.map_or_else(|| error.to_string(), |it| format!("{error}: {it}"));
            wrong.push(format!("{} ({}): {why}", asset.host, asset.origin));
        }
    }
    match wrong.as_slice() {
        [] => Ok(chosen),
        [one] => Err(Failure::new(
            Kind::User,
            format!("the job cannot be packed: {one}"),
        )),
        many => Err(Failure::new(
            Kind::User,
            format!("the job cannot be packed:\n  {}", many.join("\n  ")),
        )),
    }
}

fn unusable(index: usize, central: &Central, why: &dyn std::fmt::Display) -> String {
    format!(
        "{} (safelight-job.toml: central[{index}].host): {why}",
        central.host
    )
}

/// An asset's path below a central path.
fn below<'a>(asset: &'a Asset, central: &CentralPath) -> Option<&'a Path> {
    Path::new(&asset.path).strip_prefix(central.as_str()).ok()
}

/// What is read is packed. What is only written is a place to write to: the directory, or that of the file.
fn pick(asset: &Asset, chosen: &mut Chosen) -> Result<(), NotChosen> {
    let path = below(asset, &chosen.path).ok_or(NotChosen::NotBelow)?;
    let Chosen { selection, .. } = chosen;
    match (asset.read, asset.directory) {
        (true, true) => selection.whole(path),
        (true, false) => selection.file(path),
        (false, true) => selection.directory(path),
        (false, false) => selection.directory(path.parent().unwrap_or(path)),
    }
}

/// A job on its way into the queue.
struct Submitting<'a> {
    state: &'a State,
    plan: &'a JobPlan,
    secret: &'a ClientSecret,
    sealing: &'a Sealing<'a>,
    recipe: JobRecipe,
    readers: &'a [KemKey],
    /// Every file is read, whatever is remembered of it.
    reread: bool,
    /// The policy, as the agent finds it.
    spec: String,
}

/// What was packed: trees, what their files were like, and how many files and bytes there are.
type Gathered = (Vec<Tree>, Vec<Remembered>, (u64, u64));

/// A job that only the queue does not know yet.
struct Ready {
    envelope: ObjectId,
    files: u64,
    bytes: u64,
    log: Checkpoint,
}

impl Submitting<'_> {
    /// Seals everything, for this site for the time being, and notes it on the job's log.
    fn seal(&self, chosen: &[Chosen], outline: &Outline) -> Result<Ready, Failure> {
        let (state, plan, sealing) = (self.state, self.plan, self.sealing);
        let client = sealing.client();
        warden::enroll_client(state, client, &self.secret.sign.public())?;
        let prekey = warden::mint_prekey(state)?;
        let (trees, remembered, (files, bytes)) = self.pack(chosen)?;
        let goods = Goods {
            trees,
            recipe: self.recipe.encode().or_fail(Kind::User)?,
            homeward: homeward(plan, chosen),
            order: Order {
                policy: self.spec.clone(),
                client: client.clone(),
                files,
                bytes,
            },
            readers: self.readers.to_vec(),
        };
        let sealed = sealing.seal(goods, outline.clone(), &prekey)?;
        let envelope = sealing.list(&sealed)?;
        if let Err(failure) = sealing.remember(&remembered) {
            // Then every file is read the next time.
            tracing::warn!("{}", failure.message());
        }
        let log = (client, outline.job, LogOf::Job);
        let (audit, _) = AuditWriter::start(state, log, LogSource::Client, &[])?;
        let noted = audit.note(Control::Packed { files, bytes });
        let log = audit.finish();
        noted?;
        Ok(Ready {
            envelope,
            files,
            bytes,
            log: log?,
        })
    }

    fn pack(&self, chosen: &[Chosen]) -> Result<Gathered, Failure> {
        let (area, key) = (self.sealing.area(), &self.secret.dedup);
        let mut packing = Packing::begin();
        let selections: Vec<_> = chosen.iter().map(|it| it.selection.clone()).collect();
        packing.expect(move |over| selections.iter().map(|it| it.measure(over)).sum());
        let (mut trees, mut remembered) = (Vec::new(), Vec::new());
        for central in chosen {
            let known = match self.reread {
                true => Known::nothing(),
                false => self.sealing.recall(&central.host),
            };
            let pack = |progress: &mut dyn FnMut(Progress)| {
                pack_selection(&central.selection, area, key, &known, progress)
            };
            let Packed { entries, facts } = packing.one(pack)?;
            trees.push(Tree {
                path: central.path.clone(),
                entries,
            });
            remembered.push(Remembered {
                host: central.host.as_os_str().as_bytes().to_vec(),
                central: central.path.clone(),
                files: facts,
            });
        }
        Ok((trees, remembered, packing.finish()))
    }

    /// From here on there is a job.
    fn enqueue(&self, outline: &Outline, ready: &Ready, wanted: Wanted) -> Result<(), Failure> {
        let terms = Terms {
            wanted,
            task_retries: outline.retries,
            dead_max: outline.wishes.failures,
        };
        let books = Books::open(self.state)?;
        let now = process::now_seconds();
        books.wait(books.ledger().submit(outline, ready.envelope, &terms, now))?;
        books.anchor(outline.job, ready.log)?;
        crate::site::ring(self.state);
        Ok(())
    }
}

fn homeward(plan: &JobPlan, chosen: &[Chosen]) -> Homeward {
    let notify = &plan.settings().notify;
    let place = |it: &Chosen| {
        let host = it.host.as_os_str().as_bytes().to_vec();
        (it.path.clone(), host, it.write)
    };
    Homeward {
        places: chosen.iter().map(place).collect(),
        audit: None,
        title: plan.name().to_owned(),
        notify: Notify {
            command: notify.command.clone(),
            url: notify.url.clone(),
        },
    }
}
