//! Safelight: runs untrusted render jobs on shared machines without being able to see them.
//!
//! One binary. A process of ours that must be alone with what it holds (warden, view server, audit writer, launcher) is this binary
//! again, started with nothing but a channel on standard input.
#![forbid(unsafe_code)]

mod bench;
mod cli;
mod client;
mod commands;
mod failure;
mod farm;
mod granted;
mod jobs;
mod lacks;
mod look;
mod looked;
mod mounting;
mod needed;
mod node;
mod opened;
mod packed;
mod policy_source;
mod process;
mod proxy;
mod reader;
mod records;
mod registers;
mod results;
mod run;
mod site;
mod state;
mod store;
mod terminal;
mod warden;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // The launcher comes first: it must be single-threaded and touch as little as possible.
    if let Some(code) = process::internal_main() {
        return code;
    }
    let arguments = cli::Cli::parse();
    terminal::start_logging();
    match cli::run(arguments) {
        Ok(code) => code,
        Err(failure) => {
            terminal::complain(&failure);
            failure.exit_code()
        }
    }
}
