//! `safelight node`: a render server, and the site's commands about its render servers.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use safelight_policies::id::NodeName;

use crate::{
    cli::StateArgs,
    failure::Failure,
    node::{self, SLOTS_MAX},
    state::State,
};

/// The commands of and about render servers.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Make this host a render server of a site: make its key, and print its name and public key for the site to enroll
    Join(JoinArgs),
    /// Ask the site for work and run it, until a signal comes
    Serve(ServeArgs),
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
    }
}
