//! The client's part: decide early, pack, sign, and become the agent.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::Path,
    process::{Command, ExitCode},
};

use safelight_bundle::{Envelope, Prekey};
use safelight_job::recipe::Recipe;
use safelight_policies::{
    Grant, Policy,
    id::{ClientAlias, JobId, KemKey, ObjectId},
    judge::Request,
    outline::{Outline, StepOutline},
};
use safelight_seal::{
    blob::Purpose,
    job_key::{JobKey, TO_CLIENT, TO_WARDEN},
    key_file::ClientSecret,
    manifest::{Kind as ManifestKind, Manifest, Tree},
    random::{Random, SystemRandom},
};
use safelight_vfs::{area::Area, pack};

use super::arguments::{Central, RunArgs};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Homeward, Order},
    policy_source, process,
    state::State,
    terminal, warden,
};

/// The priority of a job that somebody waits for: in the middle.
const PRIORITY: u8 = 50;

/// How long a job may wait before it starts, in seconds.
const EXPIRES_AFTER: u64 = 7 * 86_400;

/// Packs what was asked for and becomes the agent. Returns only if something is wrong, or after a dry run.
pub(crate) fn run(arguments: RunArgs) -> Result<ExitCode, Failure> {
    let (catalogue, name) = policy_source::load(&arguments.policy)?;
    let policy = catalogue.resolve(&name).or_fail(Kind::Config)?;
    let grant = policy
        .admit(&request(&arguments))
        .map_err(|denied| refused(&denied, &arguments.policy))?;
    if arguments.dry_run {
        return super::agent::print_plan(grant).map(|()| ExitCode::SUCCESS);
    }
    check_places(&arguments.central)?;
    // An early no costs nothing; a late one costs the packing.
    super::agent::check_host(&grant)?;

    let state = State::open(arguments.state.state.as_deref())?;
    let random = SystemRandom::new();
    let secret = jobs::client_secret(&state, &random)?;
    warden::enroll_client(
        &state,
        &jobs::alias(&secret.sign.public())?,
        &secret.sign.public(),
    )?;
    let prekey = warden::mint_prekey(&state)?;
    let client = Client {
        state: &state,
        arguments: &arguments,
        secret: &secret,
        random: &random,
    };
    let job = client.submit(&grant, &policy, &prekey)?;
    become_agent(&state, job, &arguments)
}

pub(super) fn request(arguments: &RunArgs) -> Request {
    Request {
        central: arguments
            .central
            .iter()
            .map(|central| (central.path.clone(), central.write))
            .collect(),
        timeout: arguments.timeout.map(|timeout| timeout.as_secs()),
        env: BTreeMap::new(),
    }
}

pub(super) fn refused(denied: &dyn std::error::Error, policy: &str) -> Failure {
    Failure::from_error(Kind::Denied, denied).hint(format!("safelight policy show {policy}"))
}

/// A missing directory is named before anything is sealed.
fn check_places(centrals: &[Central]) -> Result<(), Failure> {
    for central in centrals {
        let wrong = |what: String| {
            let message = format!("{} {what}", central.host.display());
            let path = &central.path;
            let hint = format!("name a directory of yours that the command is to see at {path}");
            Failure::new(Kind::User, message).hint(hint)
        };
        match std::fs::metadata(&central.host) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(wrong("is not a directory".to_owned())),
            Err(error) => return Err(wrong(format!("cannot be read: {error}"))),
        }
    }
    Ok(())
}

/// What the client is, and what it draws.
struct Client<'a> {
    state: &'a State,
    arguments: &'a RunArgs,
    secret: &'a ClientSecret,
    random: &'a dyn Random,
}

impl Client<'_> {
    /// Seals everything and leaves a signed envelope in the job's directory.
    fn submit(&self, grant: &Grant, policy: &Policy, prekey: &Prekey) -> Result<JobId, Failure> {
        let Self {
            state,
            arguments,
            secret,
            random,
        } = *self;
        // Before anything is sealed.
        let recipe = recipe(arguments)?.encode().or_fail(Kind::User)?;
        let job = new_job(random)?;
        let alias = jobs::alias(&secret.sign.public())?;
        let area = Area::open(state.area(&alias)?).or_fail(Kind::Environment)?;
        let key = JobKey::generate(random).or_fail(Kind::Internal)?;
        let (manifest, files, bytes) = inputs(job, arguments, &area, secret)?;
        let sealed = manifest
            .sign_and_seal(&secret.sign, &key, random)
            .or_fail(Kind::Internal)?;
        let inputs = store(&area, &sealed)?;
        let blob = |purpose, bytes: &[u8]| {
            key.seal_blob(purpose, job.as_bytes(), bytes, random)
                .or_fail(Kind::Internal)
        };
        let recipe = store(&area, &blob(Purpose::Recipe, &recipe)?)?;
        let home = blob(
            Purpose::Home,
            &postcard::to_stdvec(&homeward(arguments)?).or_fail(Kind::Internal)?,
        )?;
        let outline = outline(job, alias, grant, policy, process::now_seconds());
        let order = Order {
            policy: policy_source::absolute(&arguments.policy)?,
            client: outline.client.clone(),
            files,
            bytes,
        };
        let envelope = self.envelope(outline, &key, inputs, recipe, prekey)?;
        let directory = state.job(job)?;
        jobs::write_private(&directory.join("home"), &home)?;
        jobs::write_private(
            &directory.join("order.json"),
            &serde_json::to_vec(&order).or_fail(Kind::Internal)?,
        )?;
        jobs::write_private(&directory.join("envelope"), &envelope)?;
        if !arguments.quiet {
            terminal::say(format!(
                "{job}: sealed {files} files, {}",
                terminal::bytes(bytes)
            ));
        }
        Ok(job)
    }

    /// The signed envelope: the job key wrapped to the site's one-time prekey and to this client, and nothing that says what the job is.
    fn envelope(
        &self,
        outline: Outline,
        key: &JobKey,
        inputs: ObjectId,
        recipe: ObjectId,
        prekey: &Prekey,
    ) -> Result<Vec<u8>, Failure> {
        let secret = self.secret;
        let stanza = |to: &KemKey, purpose| {
            let stanza = key
                .wrap(to, purpose, outline.job, self.random)
                .or_fail(Kind::Internal)?;
            postcard::to_stdvec(&stanza).or_fail(Kind::Internal)
        };
        let issued = process::now_seconds();
        let envelope = Envelope {
            version: safelight_bundle::ENVELOPE_VERSION,
            client_verify: secret.sign.public(),
            client_kem: secret.kem.public(),
            inputs,
            recipe,
            prekey: prekey.id,
            site: prekey.site,
            stanza_for_site: stanza(&prekey.key, TO_WARDEN)?,
            stanza_for_client: stanza(&secret.kem.public(), TO_CLIENT)?,
            issued,
            expires: outline.expires,
            outline,
        };
        safelight_bundle::seal(&envelope, &envelope.client_verify, |context, body| {
            secret.sign.sign(context, body)
        })
        .or_fail(Kind::Internal)
    }
}

fn inputs(
    job: JobId,
    arguments: &RunArgs,
    area: &Area,
    secret: &ClientSecret,
) -> Result<(Manifest, u64, u64), Failure> {
    let spinner = terminal::spinner("sealing");
    let (mut files, mut bytes) = (0, 0);
    let mut trees = Vec::new();
    for central in &arguments.central {
        let mut last = pack::Progress::default();
        let entries = pack::pack(&central.host, area, &secret.dedup, &mut |progress| {
            last = progress;
            spinner.set_message(format!(
                "{} files, {}",
                files + progress.files,
                terminal::bytes(bytes + progress.bytes)
            ));
        });
        trees.push(Tree {
            path: central.path.clone(),
            entries: entries.map_err(|error| unpacked(&error))?,
        });
        files += last.files;
        bytes += last.bytes;
    }
    spinner.finish_and_clear();
    trees.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((
        Manifest {
            job,
            kind: ManifestKind::Inputs,
            trees,
        },
        files,
        bytes,
    ))
}

fn unpacked(error: &pack::Error) -> Failure {
    match error {
        pack::Error::Store { .. } => Failure::from_error(Kind::Environment, error)
            .hint("look at the space there, or name another place with --state DIR"),
        _ => Failure::from_error(Kind::User, error),
    }
}

fn recipe(arguments: &RunArgs) -> Result<Recipe, Failure> {
    let bytes = |text: &OsStr| text.as_bytes().to_vec();
    let directory = match (&arguments.workdir, arguments.central.first()) {
        (Some(directory), _) => bytes(directory),
        (None, Some(central)) => central.path.as_str().as_bytes().to_vec(),
        (None, None) => b"/".to_vec(),
    };
    for path in &arguments.expect {
        let below = |central: &Central| Path::new(path).strip_prefix(central.path.as_str()).is_ok();
        if !arguments.central.iter().any(below) {
            let path = Path::new(path).display();
            let message = format!("{path} is expected but lies below no --central path");
            let hint = "only what a command writes below a central path comes home";
            return Err(Failure::new(Kind::User, message).hint(hint));
        }
    }
    Ok(Recipe {
        command: arguments.command.iter().map(|word| bytes(word)).collect(),
        directory,
        env: BTreeMap::new(),
        expect: arguments.expect.iter().map(|path| bytes(path)).collect(),
        title: String::new(),
    })
}

fn homeward(arguments: &RunArgs) -> Result<Homeward, Failure> {
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map(|path| path.as_os_str().as_bytes().to_vec())
            .or_fail(Kind::Environment)
    };
    let mut places = Vec::new();
    for central in &arguments.central {
        let host = std::fs::canonicalize(&central.host).or_fail(Kind::User)?;
        places.push((
            central.path.clone(),
            host.as_os_str().as_bytes().to_vec(),
            central.write,
        ));
    }
    Ok(Homeward {
        places,
        audit: arguments.audit.as_deref().map(absolute).transpose()?,
    })
}

fn outline(job: JobId, client: ClientAlias, grant: &Grant, policy: &Policy, now: u64) -> Outline {
    let terms = grant.terms();
    let step = StepOutline {
        tasks: 1,
        depends_on: Vec::new(),
        amounts: BTreeMap::new(),
        attributes: BTreeMap::new(),
        timeout: terms.limits.wall,
    };
    Outline {
        job,
        client,
        priority: PRIORITY,
        policy: terms.policy.clone(),
        policy_digest: policy.digest(),
        steps: vec![step],
        expires: now + EXPIRES_AFTER,
        central: terms
            .central
            .iter()
            .map(|central| (central.path.clone(), central.write))
            .collect(),
        retries: Some(0),
    }
}

fn new_job(random: &dyn Random) -> Result<JobId, Failure> {
    let mut bytes = [0; 10];
    random.fill(&mut bytes).or_fail(Kind::Internal)?;
    Ok(JobId::from_random(bytes))
}

fn store(area: &Area, object: &[u8]) -> Result<ObjectId, Failure> {
    let id = ObjectId(*blake3::hash(object).as_bytes());
    area.put(id, object).or_fail(Kind::Environment)?;
    Ok(id)
}

/// Replaces this program by the agent. Memory, arguments and environment of the client end here.
fn become_agent(state: &State, job: JobId, arguments: &RunArgs) -> Result<ExitCode, Failure> {
    let mut agent = Command::new(process::executable()?);
    agent
        .arg("__agent")
        .arg("--job")
        .arg(job.to_string())
        .arg("--state")
        .arg(state.root())
        .env_clear();
    for (flag, set) in [
        ("--json", arguments.json),
        ("--quiet", arguments.quiet),
        ("--overwrite", arguments.overwrite),
    ] {
        if set {
            agent.arg(flag);
        }
    }
    if let Ok(filter) = std::env::var("SAFELIGHT_LOG") {
        agent.env("SAFELIGHT_LOG", filter);
    }
    Err(Failure::new(
        Kind::Environment,
        format!("cannot become the agent: {}", agent.current_dir("/").exec()),
    ))
}
