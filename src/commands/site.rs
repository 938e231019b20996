//! `safelight site`: making a site, making it known to another, serving it, asking how it is.

mod usage;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use safelight_bundle::Place;
use safelight_policies::id::SiteName;
use safelight_scheduler::Queue;

use crate::{
    cli::StateArgs,
    failure::{Failure, Kind, OrFail},
    process,
    records::{Line, utc},
    run::Books,
    site::{self, Card, Config, Peer, Role, Status},
    state::State,
    terminal::{bytes, files, print, print_json, say, shown},
};

/// What is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// Make a state directory a site's: keys, a card for other sites and nodes, a configuration
    ///
    /// A local site is a client's own: jobs are submitted there, rendered there or sent away. A remote site renders for others.
    Init(InitArgs),
    /// Trust another site, after its fingerprint was compared, and agree on the hot folders in between
    Enroll(EnrollArgs),
    /// Trust another site no longer: its letters are refused and no key is released for its jobs
    Revoke(RevokeArgs),
    /// Serve the site: queues, nodes, hot folders. `safelight serve` is the same
    Serve(ServeArgs),
    /// Back this site up into a new directory, also while it is served
    ///
    /// One-time prekeys are left out unless they are asked for: whoever has them, and the bundles of that time, can open those jobs after they were erased.
    Backup(BackupArgs),
    /// Put a backup back into an empty state directory, and say to other sites that it was restored
    Restore(RestoreArgs),
    /// Say that this state was restored from a backup, before it is served: letters go under new numbers from now on
    ///
    /// A site that is served finds out by itself when another site knows more of it than it does; then its first letters have been refused
    /// there, and go again. This spares them that.
    Restored(RestoredArgs),
    /// Tell who used how much of this site's slots, by client
    Usage(usage::UsageArgs),
    /// Show how the site is: queues, links to other sites, what goes wrong
    Status(StatusArgs),
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// What the site is called, here and in job descriptions
    #[arg(long)]
    name: SiteName,
    /// What it does
    #[arg(long, value_enum)]
    role: Role,
    /// Where its nodes reach it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7300")]
    listen: SocketAddr,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `enroll`.
#[derive(Debug, Args)]
pub(crate) struct EnrollArgs {
    /// The other site's card
    #[arg(value_name = "CARD")]
    card: PathBuf,
    /// The hot folder that this site writes for it: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "FOLDER")]
    out: Place,
    /// The hot folder that this site reads from it; may be the same
    #[arg(long = "in", value_name = "FOLDER")]
    r#in: Place,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The other site
    name: SiteName,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The directory to make
    #[arg(value_name = "DIR")]
    to: PathBuf,
    /// With the one-time prekeys of a remote site: jobs that wait now can be opened after a restore
    #[arg(long)]
    with_prekeys: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// A directory that `site backup` made
    #[arg(value_name = "DIR")]
    from: PathBuf,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `restored`.
#[derive(Debug, Args)]
pub(crate) struct RestoredArgs {
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Does what was asked.
pub(crate) fn run(command: SiteCommand) -> Result<ExitCode, Failure> {
    let done = |outcome: Result<(), Failure>| outcome.map(|()| ExitCode::SUCCESS);
    match command {
        SiteCommand::Init(arguments) => done(init(arguments)),
        SiteCommand::Enroll(arguments) => done(enroll(arguments)),
        SiteCommand::Revoke(arguments) => done(revoke(&arguments)),
        SiteCommand::Serve(arguments) => done(serve(&arguments)),
        SiteCommand::Backup(arguments) => done(backup(&arguments)),
        SiteCommand::Restore(arguments) => done(restore(&arguments)),
        SiteCommand::Restored(arguments) => done(restored(&arguments)),
        SiteCommand::Usage(arguments) => done(usage::run(&arguments)),
        SiteCommand::Status(arguments) => done(status(&arguments)),
    }
}

fn init(arguments: InitArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let card = site::init(&state, arguments.name, arguments.role, arguments.listen)?;
    let path = Card::path(&state);
    print(format!(
        "{}  {}",
        card.letters.fingerprint(),
        path.display()
    ))?;
    say(format!(
        "{} is a site now. Its card is for other sites and for its nodes; let people compare the fingerprint.",
        card.site
    ));
    say(
        "next: safelight site enroll CARD --out DIR --in DIR, safelight node join, safelight serve",
    );
    Ok(())
}

fn enroll(arguments: EnrollArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let card = Card::read(&arguments.card)?;
    let (name, fingerprint) = (card.site.clone(), card.letters.fingerprint());
    site::enroll(&state, card, arguments.out, arguments.r#in)?;
    print(format!("{fingerprint}  {name}"))?;
    say(format!(
        "{name} is trusted from now on. Compare the fingerprint with the one that its people see; if it differs: safelight site revoke {name}"
    ));
    Ok(())
}

fn revoke(arguments: &RevokeArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    site::revoke(&state, &arguments.name)?;
    say(format!(
        "{} is trusted no longer; a site that is being served lets go of it by itself",
        arguments.name
    ));
    Ok(())
}

/// Serves the site until somebody asks it to end.
pub(crate) fn serve(arguments: &ServeArgs) -> Result<(), Failure> {
    site::serve(&State::open(arguments.state.state.as_deref())?)
}

fn backup(arguments: &BackupArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    Config::read(&state)?;
    let to = std::path::absolute(&arguments.to).or_fail(Kind::User)?;
    let copied = site::backup(&state, &to, arguments.with_prekeys)?;
    say(format!(
        "{} with {} are in {}. It holds keys: keep it where nobody else reads it",
        files(copied.files),
        bytes(copied.bytes),
        to.display()
    ));
    Ok(())
}

fn restore(arguments: &RestoreArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let (copied, links) = site::restore(&state, &arguments.from)?;
    say(format!(
        "{} with {} are back; letters to {links} other site{} go under new numbers. What came or went after the backup is not known here",
        files(copied.files),
        bytes(copied.bytes),
        if links == 1 { "" } else { "s" }
    ));
    say("next: safelight serve");
    Ok(())
}

fn restored(arguments: &RestoredArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    Config::read(&state)?;
    let count = site::restored(&state)?;
    say(format!(
        "letters to {count} other site{} go under new numbers from now on; what came or went after the backup is not known here",
        if count == 1 { "" } else { "s" }
    ));
    Ok(())
}

fn status(arguments: &StatusArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let config = Config::read(&state)?;
    let books = Books::open_with(&state, config.rules.clone())?;
    let now = process::now_seconds();
    let said = Status::read(&state)?;
    // A site that is served says so every few seconds.
    let lives = said.as_ref().is_some_and(|said| now < said.at + 30);
    let mut line = Line::default()
        .with("site", config.name.to_string())
        .with("role", format!("{:?}", config.role).to_lowercase())
        .with("listen", config.listen.to_string())
        .with("served", lives)
        .with("last_heard", said.as_ref().map(|said| utc(said.at)));
    for queue in [Queue::New, Queue::Outsourced, Queue::Active] {
        let jobs = books.wait(books.ledger().queue(queue))?.len();
        line = line.with(queue.as_str(), jobs as u64);
    }
    let slots = books.wait(books.ledger().slots(now))?;
    let free = slots
        .iter()
        .filter(|slot| slot.unavailable.is_none())
        .count();
    line = line
        .with("slots", slots.len() as u64)
        .with("slots_free", free as u64);
    let pools = books.wait(books.ledger().pools())?.into_iter();
    let pools: Vec<_> = pools
        .map(|(name, (used, size))| format!("{used} of {size} {name}"))
        .collect();
    line = line.with("pools_used", (!pools.is_empty()).then(|| pools.join(", ")));
    show(
        &line,
        &Peer::all(&state)?,
        &said.unwrap_or_default(),
        arguments.json,
    )
}

fn show(line: &Line, peers: &[Peer], said: &Status, json: bool) -> Result<(), Failure> {
    if json {
        let peers: Vec<_> = peers
            .iter()
            .map(|peer| peer.card.site.to_string())
            .collect();
        let links = serde_json::to_value(&said.links).unwrap_or_default();
        let troubles: Vec<_> = said.troubles.iter().cloned().collect();
        let line = line.clone().with("peers", peers).with("links", links);
        return print_json(&line.with("troubles", troubles));
    }
    for (name, value) in line.fields(0).filter(|(_, value)| !value.is_null()) {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        print(format!("{name:<11}  {text}"))?;
    }
    for peer in peers {
        let name = peer.card.site.to_string();
        let link = said.links.get(&name).cloned().unwrap_or_default();
        print(format!(
            "{name:<11}  {} letters came, {} wait, {} are on their way",
            link.accepted,
            link.waiting.len(),
            link.going
        ))?;
        let wrong = link.stopped.iter().chain(&link.alarms).chain(&link.waiting);
        for what in wrong.chain(&link.refused) {
            print(format!("{:<11}  {}", "", shown(what.as_bytes())))?;
        }
    }
    for trouble in &said.troubles {
        print(format!("trouble      {}", shown(trouble.as_bytes())))?;
    }
    Ok(())
}
