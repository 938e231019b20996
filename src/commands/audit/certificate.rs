//! `safelight audit certificate`: the certificate of destruction of a job, when its keys are gone.

use std::path::PathBuf;

use clap::Args;

use crate::{
    commands::{chosen::ChosenJob, key::certificate::Certificate},
    failure::Failure,
    terminal::{print_json, say},
};

/// Arguments of `certificate`.
#[derive(Debug, Args)]
pub(crate) struct CertificateArgs {
    #[command(flatten)]
    job: ChosenJob,
    /// Write it to this file
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

pub(super) fn run(arguments: &CertificateArgs) -> Result<(), Failure> {
    let (state, job) = arguments.job.find()?;
    let certificate = Certificate::of(&state, job)?;
    match &arguments.to {
        None => print_json(&certificate),
        Some(path) => {
            certificate.write(path)?;
            say(format!("the certificate is in {}", path.display()));
            Ok(())
        }
    }
}
