//! `safelight job`: which jobs there are, what runs, what failed, what is left, how attempts ended, what they printed and wrote.
//!
//! What the books hold may be shown to anyone who may read them; what a job printed and wrote opens with its client's key only.

mod attempts;
mod farm;
mod list;
mod logs;
mod outputs;
mod progress;
mod show;

use clap::Subcommand;

use super::{
    control::{self, Act},
    watch,
};
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
    /// Tell what happens to a job, down to each frame, from submission to storage, until it is over
    Watch(watch::WatchArgs),
    /// List what runs where, and which session takes too long
    ///
    /// A session takes too long if it runs three times as long as others of its step did, or, before there are any, if it used up most of its
    /// time limit.
    Running(farm::RunningArgs),
    /// List what failed and why, by step and node, what failed last first
    Failures(farm::FailuresArgs),
    /// List what is left of each job that is rendered here, and until when it will take
    ///
    /// The time follows from what tasks of each step took, and from the slots that the job has or could have now. Nothing is said where nothing
    /// is known.
    Left(farm::LeftArgs),
    /// Tell where a job was placed and why, and what keeps it from running
    Why(control::WhyArgs),
    /// Begin nothing more of a job until it is resumed; what runs goes on
    Pause(control::ActArgs),
    /// Let a paused job go on
    Resume(control::ActArgs),
    /// End a job, here and where it was sent
    Cancel(control::ActArgs),
    /// Try the tasks of a failed job again that were given up
    Retry(control::ActArgs),
}

/// Answers.
pub(crate) fn run(command: JobCommand) -> Result<(), Failure> {
    match command {
        JobCommand::List(arguments) => list::run(&arguments),
        JobCommand::Show(arguments) => show::run(&arguments),
        JobCommand::Logs(arguments) => logs::run(&arguments),
        JobCommand::Outputs(arguments) => outputs::run(&arguments),
        JobCommand::Watch(arguments) => watch::run(&arguments).map(drop),
        JobCommand::Running(arguments) => farm::running(&arguments),
        JobCommand::Failures(arguments) => farm::failures(&arguments),
        JobCommand::Left(arguments) => farm::left(&arguments),
        JobCommand::Why(arguments) => control::why(&arguments),
        JobCommand::Pause(arguments) => control::act(&arguments, Act::Pause),
        JobCommand::Resume(arguments) => control::act(&arguments, Act::Resume),
        JobCommand::Cancel(arguments) => control::act(&arguments, Act::Cancel),
        JobCommand::Retry(arguments) => control::act(&arguments, Act::Retry),
    }
}
