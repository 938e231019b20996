//! The whole command surface. The doc comments are the manual.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{client, commands, failure::Failure, run, warden};

/// Runs untrusted render jobs on shared machines without being able to see them.
#[derive(Debug, Parser)]
#[command(
    name = "safelight",
    version,
    propagate_version = true,
    max_term_width = 110
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where a host keeps its state.
#[derive(Debug, Clone, Args)]
pub(crate) struct StateArgs {
    /// The state directory [default: /var/lib/safelight as root, ~/.local/state/safelight otherwise]
    #[arg(
        long,
        value_name = "DIR",
        env = "SAFELIGHT_STATE",
        hide_env_values = true
    )]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Render real frames in the dark on this machine, and see what was read, written, denied and missing
    Demo(commands::demo::DemoArgs),
    /// Run one untrusted command in a slot of this host; no site needed
    Run(run::RunArgs),
    /// Seal a job bundle and put it into this site's queue
    Submit(commands::submit::SubmitArgs),
    /// Show what this host can enforce, and how to get the rest
    Doctor(commands::doctor::DoctorArgs),
    /// Show, check and explain policies
    #[command(subcommand)]
    Policy(commands::policy::PolicyCommand),
    /// Ask what a job touched
    #[command(subcommand)]
    Audit(commands::audit::AuditCommand),
    /// Look at a job's files as the job saw them
    #[command(subcommand)]
    View(commands::view::ViewCommand),
    /// List and show jobs
    #[command(subcommand)]
    Job(commands::job::JobCommand),
    /// Make and show this client's keys
    #[command(subcommand)]
    Key(commands::key::KeyCommand),
    /// Pack a job for somebody who may read it; check, open and compare such bundles
    #[command(subcommand)]
    Bundle(commands::bundle::BundleCommand),
    /// Remove sealed objects that nothing refers to
    #[command(subcommand)]
    Area(commands::area::AreaCommand),
    /// Make, connect and serve a site
    #[command(subcommand)]
    Site(commands::site::SiteCommand),
    /// Serve a site: short for `site serve`
    Serve(commands::site::ServeArgs),
    /// See to the hot folders between this site and others
    #[command(subcommand)]
    Hotfolder(commands::hotfolder::HotfolderCommand),
    /// Be a render server of a site, and see to a site's render servers
    #[command(subcommand)]
    Node(commands::node::NodeCommand),
    /// List and hold the queues of a site
    #[command(subcommand)]
    Queue(commands::queue::QueueCommand),
    /// List the slots of a site's nodes
    #[command(subcommand)]
    Slot(commands::slot::SlotCommand),
    /// Measure Safelight against others on this machine
    #[command(subcommand)]
    Bench(commands::bench::BenchCommand),
    /// The key warden
    #[command(subcommand, hide = true)]
    Keyd(warden::KeydCommand),
    /// See how Safelight behaves on a host that lacks a kernel feature
    #[command(name = "__without", hide = true)]
    Without(commands::doctor::WithoutArgs),
    /// See what one wall of a session refuses on its own
    #[command(name = "__behind", hide = true)]
    Behind(commands::doctor::BehindArgs),
    #[command(name = "__probe", hide = true)]
    Probe { name: String },
    #[command(name = "__agent", hide = true)]
    Agent(run::AgentArgs),
    #[command(name = "__home", hide = true)]
    Home(run::HomeArgs),
    #[command(name = "__follow", hide = true)]
    Follow(commands::follow::FollowArgs),
    #[command(name = "__client", hide = true)]
    Client(client::ClientArgs),
    #[command(name = "__mount", hide = true)]
    Mount(commands::view::ServeArgs),
}

/// Does what was asked.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let done = |outcome: Result<(), Failure>| outcome.map(|()| ExitCode::SUCCESS);
    match cli.command {
        Command::Demo(arguments) => done(commands::demo::run(&arguments)),
        Command::Run(arguments) => run::client(arguments),
        Command::Submit(arguments) => commands::submit::run(arguments),
        Command::Doctor(arguments) => done(commands::doctor::run(arguments)),
        Command::Policy(command) => done(commands::policy::run(command)),
        Command::Audit(command) => done(commands::audit::run(command)),
        Command::View(command) => commands::view::run(command),
        Command::Job(command) => done(commands::job::run(command)),
        Command::Bundle(command) => done(commands::bundle::run(command)),
        Command::Area(command) => done(commands::area::run(command)),
        Command::Key(command) => done(commands::key::run(command)),
        Command::Node(command) => commands::node::run(command),
        Command::Site(command) => commands::site::run(command),
        Command::Serve(arguments) => done(commands::site::serve(&arguments)),
        Command::Hotfolder(command) => done(commands::hotfolder::run(command)),
        Command::Queue(command) => done(commands::queue::run(command)),
        Command::Slot(command) => done(commands::slot::run(command)),
        Command::Bench(command) => done(commands::bench::run(command)),
        Command::Keyd(command) => done(warden::run(command)),
        Command::Without(arguments) => done(commands::doctor::without(arguments)),
        Command::Behind(arguments) => done(commands::doctor::behind(&arguments)),
        Command::Probe { name } => Ok(safelight_worker::probe::child_main(&name)),
        Command::Agent(arguments) => run::agent(&arguments),
        Command::Home(arguments) => run::home(&arguments),
        Command::Follow(arguments) => commands::follow::run(&arguments),
        Command::Client(arguments) => done(client::serve(&arguments)),
        Command::Mount(arguments) => done(commands::view::serve(&arguments)),
    }
}
