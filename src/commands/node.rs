//! `safelight node`: a render server, and the site's commands about its render servers.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use safelight_policies::id::NodeName;
use safelight_scheduler::NodeEntry;

use crate::{
    cli::StateArgs,
    failure::Failure,
    node::{self, SLOTS_MAX},
    process,
    records::{Line, utc},
    run::Books,
    site,
    state::State,
    terminal, warden,
};

/// The commands of and about render servers.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Make this host a render server of a site: make its key, and print its name and public key for the site to enroll
    Join(JoinArgs),
    /// Ask the site for work and run it, until a signal comes
    Serve(ServeArgs),
    /// At the site: trust a node, which 'safelight node join' named with its key
    Enroll(EnrollArgs),
    /// At the site: trust a node no longer
    Revoke(NamedArgs),
    /// At the site: list the nodes
    List(ListArgs),
    /// At the site: let a node end what it has and take nothing new
    Drain(NamedArgs),
    /// At the site: let a drained node take work again
    Resume(NamedArgs),
}

/// Arguments of `node enroll`.
#[derive(Debug, Args)]
pub(crate) struct EnrollArgs {
    /// The node's name
    name: NodeName,
    /// Its public key in hexadecimal digits
    key: String,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `node drain`, `node resume` and `node revoke`.
#[derive(Debug, Args)]
pub(crate) struct NamedArgs {
    /// The node's name
    name: NodeName,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `node list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `node join`.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Where the site serves its nodes, for example http://10.0.0.1:7300
    #[arg(long, value_name = "URL")]
    site: String,
    /// The node's name at its site
    #[arg(long)]
    name: NodeName,
    /// The site's card, as 'safelight site init' wrote it
    #[arg(long, value_name = "FILE")]
    card: PathBuf,
    /// How many sessions run at once; each gets an equal share of the host
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(SLOTS_MAX)))]
    slots: u16,
}

/// Arguments of `node serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    state: StateArgs,
}

/// Does what was asked.
pub(crate) fn run(command: NodeCommand) -> Result<ExitCode, Failure> {
    match command {
        NodeCommand::Join(arguments) => {
            let state = State::open(arguments.state.state.as_deref())?;
            let about = (arguments.name, arguments.site.as_str(), arguments.slots);
            node::join(&state, about, &arguments.card).map(|()| ExitCode::SUCCESS)
        }
        NodeCommand::Serve(arguments) => {
            node::serve(State::open(arguments.state.state.as_deref())?)
        }
        NodeCommand::Enroll(arguments) => enroll(&arguments).map(|()| ExitCode::SUCCESS),
        NodeCommand::Revoke(arguments) => {
            let state = State::open(arguments.state.state.as_deref())?;
            site::revoke_node(&state, &arguments.name, process::now_seconds())?;
            terminal::say(format!("{} is trusted no longer", arguments.name));
            Ok(ExitCode::SUCCESS)
        }
        NodeCommand::List(arguments) => list(&arguments).map(|()| ExitCode::SUCCESS),
        NodeCommand::Drain(arguments) => drain(&arguments, true).map(|()| ExitCode::SUCCESS),
        NodeCommand::Resume(arguments) => drain(&arguments, false).map(|()| ExitCode::SUCCESS),
    }
}

fn enroll(arguments: &EnrollArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let key = warden::parse_key(&arguments.key)?;
    site::enroll_node(&state, &arguments.name, &key)?;
    terminal::print(format!("{}  {}", key.fingerprint(), arguments.name))
}

fn drain(arguments: &NamedArgs, drained: bool) -> Result<(), Failure> {
    let books = Books::open(&State::open(arguments.state.state.as_deref())?)?;
    let (ledger, name) = (books.ledger(), &arguments.name);
    let state = if drained {
        books.wait(ledger.drain_node(name))?
    } else {
        books.wait(ledger.resume_node(name))?
    };
    terminal::say(format!("{name} is {state}"));
    Ok(())
}

fn list(arguments: &ListArgs) -> Result<(), Failure> {
    let books = Books::open(&State::open(arguments.state.state.as_deref())?)?;
    let nodes = books.wait(books.ledger().nodes())?;
    let slots = books.wait(books.ledger().slots(process::now_seconds()))?;
    let counts = |node: &NodeEntry| {
        let own = slots.iter().filter(|slot| slot.place.node == node.name);
        let busy = own.clone().filter(|slot| slot.holds.is_some()).count();
        (own.count() as u64, busy as u64)
    };
    if arguments.json {
        return nodes.iter().try_for_each(|node| {
            let (all, busy) = counts(node);
            let line = Line::default()
                .with("node", node.name.to_string())
                .with("state", node.state.to_string())
                .with("slots", all)
                .with("busy", busy)
                .with("heard", utc(node.heard_at))
                .with("faults", u64::from(node.faults))
                .with("fingerprint", node.key.fingerprint());
            terminal::print_json(&line)
        });
    }
    if nodes.is_empty() {
        terminal::say("no node has registered yet: safelight node join");
        return Ok(());
    }
    let cells = |node: &NodeEntry| {
        let (all, busy) = counts(node);
        vec![
            node.name.to_string(),
            node.state.to_string(),
            format!("{busy}/{all}"),
            utc(node.heard_at),
            node.faults.to_string(),
        ]
    };
    let rows: Vec<_> = nodes.iter().map(cells).collect();
    terminal::table(&["NODE", "STATE", "BUSY", "HEARD", "FAULTS"], &rows)
}
