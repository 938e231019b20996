//! The client's part: decide early, pack, sign, and become the agent.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::Path,
    process::{Command, ExitCode},
};

use safelight_job::recipe::Recipe;
use safelight_policies::{
    Grant, Policy,
    id::{ClientAlias, JobId},
    judge::Request,
    outline::{Outline, StepOutline},
};
use safelight_seal::{key_file::ClientSecret, manifest::Tree, random::SystemRandom};
use safelight_vfs::{area::Area, pack};

use super::arguments::{Central, RunArgs};
use crate::{
    client::{Goods, Packing, Sealing},
    failure::{Failure, Kind, OrFail},
    jobs::{self, Homeward, Notify, Order},
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
    let job = submit(&state, &arguments, &grant, &policy)?;
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

/// Seals everything and leaves a signed envelope in the job's directory.
fn submit(
    state: &State,
    arguments: &RunArgs,
    grant: &Grant,
    policy: &Policy,
) -> Result<JobId, Failure> {
    // Before anything is sealed.
    let recipe = recipe(arguments)?.encode().or_fail(Kind::User)?;
    let random = SystemRandom::new();
    let secret = jobs::client_secret(state, &random)?;
    let sealing = Sealing::begin(state, &secret, &random)?;
    let (job, client) = (sealing.job(), sealing.client().clone());
    warden::enroll_client(state, &client, &secret.sign.public())?;
    let prekey = warden::mint_prekey(state)?;
    let (trees, files, bytes) = trees(arguments, sealing.area(), &secret)?;
    let goods = Goods {
        trees,
        recipe,
        homeward: homeward(arguments)?,
        order: Order {
            policy: policy_source::absolute(&arguments.policy)?,
            client: client.clone(),
            files,
            bytes,
        },
        readers: arguments.reader.iter().map(|reader| reader.0).collect(),
    };
    let outline = outline(job, client, grant, policy, process::now_seconds());
    sealing.seal(goods, outline, &prekey)?;
    if !arguments.quiet {
        terminal::say(format!(
            "{job}: sealed {files} files, {}",
            terminal::bytes(bytes)
        ));
    }
    Ok(job)
}

fn trees(
    arguments: &RunArgs,
    area: &Area,
    secret: &ClientSecret,
) -> Result<(Vec<Tree>, u64, u64), Failure> {
    let mut packing = Packing::begin();
    let mut trees = Vec::new();
    for central in &arguments.central {
        let pack = |progress: &mut dyn FnMut(pack::Progress)| {
            pack::pack(&central.host, area, &secret.dedup, progress)
        };
        trees.push(Tree {
            path: central.path.clone(),
            entries: packing.one(pack)?,
        });
    }
    let (files, bytes) = packing.finish();
    Ok((trees, files, bytes))
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
        title: String::new(),
        notify: Notify::default(),
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
        batch: None,
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
        wishes: Default::default(),
    }
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
