//! What can be wrong with a job as people wrote it.
//!
//! These errors are for the client, on the client's own site: they name the file, the place in it and the thing, and so may repeat the
//! client's words. Errors of a sealed recipe, which others see, are in [`crate::expand`] and repeat none.

use openjd_model::ModelError;
use safelight_policies::path::NotCentral;

/// A job that cannot be submitted as it is written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is longer than any real one.
    #[error("{file} has {len} bytes (at most {max})")]
    TooLong {
        /// Which file.
        file: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The most.
        max: usize,
    },
    /// A file is not the document that it should be.
    #[error("cannot read {file}")]
    Document {
        /// Which file.
        file: &'static str,
        /// What the library says, with the place.
        source: Box<ModelError>,
    },
    /// The settings are not the TOML that they should be.
    #[error("cannot read {file}")]
    Settings {
        /// Which file.
        file: &'static str,
        /// What the parser says, with line and column.
        source: Box<toml::de::Error>,
    },
    /// The template, with these values, is not a job.
    #[error("{file} with its parameter values is not a job")]
    Job {
        /// Which file.
        file: &'static str,
        /// What the library says, with the place.
        source: Box<ModelError>,
    },
    /// The format has it; this version of Safelight does not.
    #[error("{file}: {at}: {thing} not supported yet")]
    Unsupported {
        /// Which file.
        file: &'static str,
        /// Where in it.
        at: String,
        /// What, with its verb.
        thing: String,
    },
    /// Something cannot be as it is.
    #[error("{file}: {at}: {reason}")]
    Invalid {
        /// Which file.
        file: &'static str,
        /// Where in it.
        at: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A central path cannot be one.
    #[error("{file}: {at}")]
    Central {
        /// Which file.
        file: &'static str,
        /// Where in it.
        at: String,
        /// Why not.
        source: NotCentral,
    },
    /// A path is needed that the job cannot see.
    #[error("{file}: {at}: {path:?} lies below no central path")]
    Outside {
        /// Which file.
        file: &'static str,
        /// Where in it.
        at: String,
        /// The path as written.
        path: String,
    },
    /// A path is to be written below a central path that is only read.
    #[error("{file}: {at}: {path:?} is to be written, but its central path is not (write = true)")]
    ReadOnly {
        /// Which file.
        file: &'static str,
        /// Where in it.
        at: String,
        /// The path as written.
        path: String,
    },
    /// A step does not become a command.
    #[error("template.yaml: steps: {step:?} does not become a command")]
    Expand {
        /// The step's name.
        step: String,
        /// Why not.
        source: crate::expand::Error,
    },
    /// An environment that the site puts around every job cannot be one.
    #[error("environment {name}")]
    Environment {
        /// Its name.
        name: String,
        /// What is wrong.
        source: Box<Error>,
    },
    /// A step may run longer than the policy lets any session run.
    #[error("step {step:?} may take {timeout} s, but the policy ends a session after {wall} s")]
    TooSlow {
        /// The step's name.
        step: String,
        /// Its limit in seconds.
        timeout: u64,
        /// The policy's limit in seconds.
        wall: u64,
    },
}

impl Error {
    pub(crate) fn invalid(file: &'static str, at: impl Into<String>, reason: &'static str) -> Self {
        let at = at.into();
        Self::Invalid { file, at, reason }
    }

    pub(crate) fn document(file: &'static str) -> impl Fn(ModelError) -> Self {
        move |source| Self::Document {
            file,
            source: Box::new(source),
        }
    }

    pub(crate) fn job(source: ModelError) -> Self {
        Self::Job {
            file: crate::source::TEMPLATE,
            source: Box::new(source),
        }
    }
}
