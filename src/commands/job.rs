//! `safelight job`: which jobs there are, how their attempts ended, what they printed and wrote.
//!
//! What the books hold may be shown to anyone who may read them; what a job printed and wrote opens with its client's key only.

mod attempts;
mod list;
mod logs;
mod outputs;
mod progress;
mod show;

use clap::Subcommand;

use crate::failure::Failure;

/// What is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// List the jobs of this host, newest first
    List(list::ListArgs),
    /// Show a job: where it stands and why, how far it is, and how its attempts ended
    Show(show::ShowArgs),
    /// Print what a job's command printed
    ///
    /// Of a job of many tasks, each task's log comes after a line that names the task. On a terminal, characters that could do more than
    /// be read are replaced; elsewhere the bytes are as they came.
    Logs(logs::LogsArgs),
    /// List what a job wrote
    Outputs(outputs::OutputsArgs),
}

/// Answers.
pub(crate) fn run(command: JobCommand) -> Result<(), Failure> {
    match command {
        JobCommand::List(arguments) => list::run(&arguments),
        JobCommand::Show(arguments) => show::run(&arguments),
        JobCommand::Logs(arguments) => logs::run(&arguments),
        JobCommand::Outputs(arguments) => outputs::run(&arguments),
    }
}
