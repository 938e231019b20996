//! `safelight area`: the sealed objects of this host, and those that nobody refers to any more.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use safelight_policies::id::ClientAlias;
use safelight_vfs::area::{Area, Collected};

use crate::{
    cli::StateArgs,
    failure::{Failure, Kind, OrFail},
    needed::{Needed, needed},
    records::Line,
    state::State,
    terminal::{bytes, print_json, say, table},
};

/// Submissions and transfers may take this long between their first object and what names it.
const YOUNGEST: Duration = Duration::from_secs(3600);

/// What to do with areas.
#[derive(Debug, Subcommand)]
pub(crate) enum AreaCommand {
    /// Remove sealed objects that nothing on this host refers to
    ///
    /// An object stays as long as a job refers to it that can still be opened here: a job of this host's client until its keys are erased,
    /// another client's until it is over and everything has been sent. It also stays while it is young, since objects come before
    /// what names them. Jobs may be handed in and rendered meanwhile.
    Collect(CollectArgs),
}

/// Arguments of `collect`.
#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    /// Keep what was stored or asked for within this many days
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    days: u32,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON object a client
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Does what was asked.
pub(crate) fn run(command: AreaCommand) -> Result<(), Failure> {
    let AreaCommand::Collect(arguments) = command;
    let state = State::open(arguments.state.state.as_deref())?;
    let age = Duration::from_secs(u64::from(arguments.days) * 86_400).max(YOUNGEST);
    let before = SystemTime::now().checked_sub(age);
    let before = before.unwrap_or(SystemTime::UNIX_EPOCH);
    let mut rows = Vec::new();
    let mut refused = Ok(());
    for client in clients(&state.root().join("area"))? {
        match collect(&state, &client, before, arguments.dry_run) {
            Ok(Some(done)) => rows.push((client, done)),
            Ok(None) => {}
            Err(failure) => {
                say(format!("{client}: nothing is removed: {failure}"));
                refused = Err(Failure::new(
                    Kind::Environment,
                    "an area was left as it is, since it is not known what is needed",
                ));
            }
        }
    }
    print(&rows, arguments.json)?;
    refused
}

fn clients(areas: &Path) -> Result<Vec<ClientAlias>, Failure> {
    let mut clients = Vec::new();
    for entry in std::fs::read_dir(areas).or_fail(Kind::Environment)? {
        let name = entry.or_fail(Kind::Environment)?.file_name();
        let name = name.to_str().and_then(|name| ClientAlias::new(name).ok());
        clients.extend(name);
    }
    clients.sort();
    Ok(clients)
}

fn collect(
    state: &State,
    client: &ClientAlias,
    before: SystemTime,
    only_look: bool,
) -> Result<Option<Collected>, Failure> {
    let objects = match needed(state, client)? {
        Needed::Objects(objects) => objects,
        Needed::InUse(job) => {
            say(format!(
                "{client}: nothing is removed while a session of {job} runs"
            ));
            return Ok(None);
        }
    };
    let area = Area::open(state.area(client)?).or_fail(Kind::Environment)?;
    let done = area.collect(&objects, before, only_look);
    done.or_fail(Kind::Environment).map(Some)
}

fn print(rows: &[(ClientAlias, Collected)], json: bool) -> Result<(), Failure> {
    if json {
        return rows.iter().try_for_each(|(client, done)| {
            let line = Line::default()
                .with("client", client.to_string())
                .with("removed", done.removed)
                .with("bytes", done.bytes)
                .with("leftovers", done.leftovers)
                .with("needed", done.needed)
                .with("young", done.young);
            print_json(&line)
        });
    }
    let cells = rows.iter().map(|(client, done)| {
        vec![
            client.to_string(),
            done.removed.to_string(),
            bytes(done.bytes),
            done.leftovers.to_string(),
            done.needed.to_string(),
            done.young.to_string(),
        ]
    });
    let head = ["CLIENT", "REMOVED", "BYTES", "LEFTOVERS", "NEEDED", "YOUNG"];
    table(&head, &cells.collect::<Vec<_>>())
}
