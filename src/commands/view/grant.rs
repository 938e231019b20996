//! `safelight view grant|grants|revoke`: who may look at a job away from home, given and taken back by the job's client.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf, time::Duration};

use clap::Args;
use safelight_audit::Source;
use safelight_bundle::{DebugGrant, GRANT_VERSION, Prekey};
use safelight_policies::{
    event::Control,
    id::{GrantId, JobId, SiteName, VerifyKey},
};
use safelight_scheduler::Target;
use safelight_seal::random::{Random, SystemRandom};

use crate::{
    cli::StateArgs,
    commands::chosen::ChosenTask,
    failure::{Failure, Kind, OrFail},
    granted, jobs,
    opened::OpenedJob,
    process, records,
    results::task_name,
    run::{Books, duration},
    site::{Peer, Role, errand},
    state::State,
    terminal,
    warden::parse_key,
};

/// So many prekeys of a site are left for jobs.
const RESERVED: u64 = 2;

/// Let one person look at a job at the site that renders it, for a while
///
/// Writes a file for that person, who shows it there with `safelight view mount JOB DIR --grant FILE`. It is worth nothing to anybody else, and
/// nothing at another site. Everything that is seen by it is on this job's log.
#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    /// The job: its id, the beginning of it, or `last`
    job: String,
    /// The site that renders it
    #[arg(long, value_name = "SITE")]
    site: SiteName,
    /// Who may look: `verify_key` in what `safelight key show` prints for that person, 64 hexadecimal digits
    #[arg(long, value_name = "KEY", value_parser = key)]
    operator: VerifyKey,
    /// How long it holds (15m, 2h, 3d; at most 30d)
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "2h")]
    limit: Duration,
    /// Not before so much time is over
    #[arg(long, value_name = "TIME", value_parser = duration)]
    after: Option<Duration>,
    #[command(flatten)]
    task: ChosenTask,
    /// Write it here [default: its number, in this directory]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
}

/// List the grants that were given for a job
#[derive(Debug, Args)]
pub(crate) struct GrantsArgs {
    /// The job: its id, the beginning of it, or `last`
    #[arg(default_value = "last")]
    job: String,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Take a grant back
///
/// The site is told by the next letter; who looks by it then sees nothing any more.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The grant's number
    number: GrantId,
    #[command(flatten)]
    state: StateArgs,
}

fn key(text: &str) -> Result<VerifyKey, String> {
    parse_key(text).map_err(|failure| failure.message())
}

pub(super) fn grant(arguments: &GrantArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let books = Books::open(&state)?;
    let job = books.find(&arguments.job)?;
    let opened = OpenedJob::open(&state, job)?;
    let task = arguments.task.of(&opened.envelope.outline)?;
    let site = site(&state, &books, job, &arguments.site)?;
    let (random, now) = (SystemRandom::new(), process::now_seconds());
    let mut number = [0; 10];
    random.fill(&mut number).or_fail(Kind::Internal)?;
    let prekey = prekey(&books, &site, JobId::from_random(number), &arguments.site)?;
    let secret = jobs::client_secret(&state, &random)?;
    let stanza = opened.key.read_key().wrap(&prekey.key, job, &random);
    let from = now + arguments.after.unwrap_or_default().as_secs();
    let grant = DebugGrant {
        version: GRANT_VERSION,
        number: GrantId::from_random(number),
        client: opened.envelope.outline.client.clone(),
        client_verify: secret.sign.public(),
        job,
        task,
        site,
        operator: arguments.operator,
        issued: now,
        from,
        expires: from.saturating_add(arguments.limit.as_secs()),
        prekey: prekey.id,
        stanza: stanza.or_fail(Kind::Internal)?.to_bytes().to_vec(),
    };
    let sign = |context: &str, bytes: &[u8]| secret.sign.sign(context, bytes);
    let signed = safelight_bundle::seal(&grant, &grant.client_verify, sign).or_fail(Kind::User)?;
    granted::keep(&state, &grant, &signed)?;
    note(&state, &opened, &said(&grant, &arguments.site))?;
    // No record, no grant: it leaves the client's directory only now.
    let number = grant.number;
    let out = arguments.out.clone();
    let out = out.unwrap_or_else(|| PathBuf::from(number.to_string()));
    write(&out, &signed)?;
    terminal::say(format!(
        "{}: {}",
        out.display(),
        said(&grant, &arguments.site)
    ));
    terminal::say(format!("take it back with: safelight view revoke {number}"));
    terminal::print(number)
}

/// The site's key, if it was given the job.
fn site(state: &State, books: &Books, job: JobId, name: &SiteName) -> Result<VerifyKey, Failure> {
    let peers = Peer::all(state)?;
    let found = peers
        .iter()
        .find(|peer| peer.card.site == *name && peer.card.role == Role::Remote);
    let peer = found.ok_or_else(|| {
        let message = format!("no site {name} renders for this one");
        Failure::new(Kind::User, message).hint("safelight site status")
    })?;
    let placed = books.wait(books.ledger().placement(job))?;
    let there = Target::There(name.clone());
    if placed.is_none_or(|placement| placement.target != there) {
        let message = format!("{job} was not sent to {name}");
        return Err(Failure::new(Kind::User, message).hint(format!("safelight job show {job}")));
    }
    Ok(peer.card.letters)
}

/// A one-time prekey of the site for the grant itself, which has it for good.
fn prekey(books: &Books, site: &VerifyKey, of: JobId, name: &SiteName) -> Result<Prekey, Failure> {
    let ledger = books.ledger();
    let few = || {
        let message = format!("too few one-time prekeys of {name} are left for jobs");
        Failure::new(Kind::Environment, message)
            .hint("it sends others for those that were used: revoke grants that nobody needs, or ask again later")
    };
    if books.wait(ledger.prekeys_left(site))? <= RESERVED {
        return Err(few());
    }
    let signed = books.wait(ledger.take_prekey(site, of))?.ok_or_else(few)?;
    safelight_bundle::open(&signed, site).or_fail(Kind::Denied)
}

/// A grant in words, for people and for the log.
fn said(grant: &DebugGrant, site: &SiteName) -> String {
    let task = grant.task.map(task_name).map(|it| format!(" task {it}"));
    format!(
        "{} lets operator {} look at {}{} at {site} from {} to {}",
        grant.number,
        grant.operator.fingerprint(),
        grant.job,
        task.unwrap_or_default(),
        records::utc(grant.from),
        records::utc(grant.expires)
    )
}

fn note(state: &State, opened: &OpenedJob, how: &str) -> Result<(), Failure> {
    let event = Control::DebugAccess {
        uid: nix::unistd::getuid().as_raw(),
        how: how.to_owned(),
    };
    records::note(state, opened, Source::Client, event)
}

/// Writes the file; one that is there stays as it is.
fn write(path: &PathBuf, signed: &[u8]) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        let message = format!("cannot write {}: {error}", path.display());
        Failure::new(Kind::User, message).hint("name another file with --out")
    };
    let mut file = fs::OpenOptions::new();
    let file = file.write(true).create_new(true).mode(0o644).open(path);
    let mut file = file.map_err(cannot)?;
    file.write_all(signed).map_err(cannot)?;
    file.sync_all().map_err(cannot)
}

pub(super) fn grants(arguments: &GrantsArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let books = Books::open(&state)?;
    let job = books.find(&arguments.job)?;
    let (peers, now) = (Peer::all(&state)?, process::now_seconds());
    let mut rows = Vec::new();
    for grant in granted::of_job(&state, job)? {
        let known = peers.iter().find(|peer| peer.card.letters == grant.site);
        let site = known.map_or_else(|| grant.site.fingerprint(), |it| it.card.site.to_string());
        let word = match grant.check_time(now) {
            _ if granted::is_revoked(&state, &grant) => "revoked",
            Ok(()) => "holds",
            Err(safelight_bundle::NotNow::Early) => "not yet",
            Err(safelight_bundle::NotNow::Expired) => "expired",
        };
        if arguments.json {
            let line = records::Line::default()
                .with("grant", grant.number.to_string())
                .with("job", job.to_string())
                .with("site", site)
                .with("operator", grant.operator.fingerprint())
                .with("task", grant.task.map(task_name))
                .with("from", grant.from)
                .with("expires", grant.expires)
                .with("state", word);
            terminal::print_json(&line)?;
            continue;
        }
        rows.push(vec![
            grant.number.to_string(),
            site,
            grant.operator.fingerprint(),
            grant.task.map(task_name).unwrap_or_default(),
            records::utc(grant.expires),
            word.to_owned(),
        ]);
    }
    match arguments.json {
        true => Ok(()),
        false => terminal::table(
            &["GRANT", "SITE", "OPERATOR", "TASK", "UNTIL", "STATE"],
            &rows,
        ),
    }
}

pub(super) fn revoke(arguments: &RevokeArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let number = arguments.number;
    let grant = granted::find(&state, number)?.ok_or_else(|| {
        let message = format!("no {number} was given here");
        Failure::new(Kind::User, message).hint("safelight view grants JOB")
    })?;
    let books = Books::open(&state)?;
    let before = granted::is_revoked(&state, &grant);
    let (subject, now) = (number.to_string(), process::now_seconds());
    let add = books
        .ledger()
        .add_errand(errand::REVOKE, &subject, grant.job, now);
    books.wait(add)?;
    granted::revoke(&state, &grant)?;
    if before {
        terminal::say(format!("{number} was revoked before"));
        return Ok(());
    }
    terminal::say(format!(
        "{number} is revoked; its site is told by the next letter"
    ));
    // It is revoked, whatever else of the job can be read: keys that were erased leave nothing to put on a log.
    let opened = OpenedJob::open(&state, grant.job)?;
    note(&state, &opened, &format!("{number} is revoked"))
}
