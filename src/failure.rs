//! Failures as a user sees them: what went wrong, what to do next, and the exit code.
//!
//! Exit codes are stable: a code is never given a second meaning, and a retired one is never given out again.

use std::{
    fmt::{self, Display, Write as _},
    process::ExitCode,
};

use safelight_policies::cause::Cause;

/// Who has to act, which fixes the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command line asks for something that does not exist or does not fit together.
    User,
    /// A configuration or policy file is wrong.
    Config,
    /// The policy denies it.
    Denied,
    /// This host cannot enforce what the policy requires, or lacks something it needs.
    Environment,
    /// The job ran, or was about to, and failed.
    JobFailed,
    /// Safelight itself failed.
    Internal,
}

impl Kind {
    /// The one table of exit codes. 1 is left to the shell's own failures, 2 is what clap uses for a command line it cannot parse.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::User => 2,
            Self::Config => 3,
            Self::Denied => 4,
            Self::Environment => 78,
            Self::JobFailed => 10,
            Self::Internal => 70,
        }
    }
}

/// A failure: the message names the thing, the hints say what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    hints: Vec<String>,
    cause: Option<Cause>,
}

impl Failure {
    /// A failure with a message.
    pub(crate) fn new(kind: Kind, message: impl Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            hints: Vec::new(),
            cause: None,
        }
    }

    /// A failure from an error: its message followed by those of its causes.
    pub(crate) fn from_error(kind: Kind, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let _ = write!(message, ": {error}");
            cause = error.source();
        }
        Self::new(kind, message)
    }

    /// Adds a next step.
    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// Says how an attempt ends that this failure ends.
    pub(crate) fn ends_with(mut self, cause: Cause) -> Self {
        self.cause = Some(cause);
        self
    }

    /// How an attempt ends that this failure ends, if the failure knows.
    pub(crate) fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Who has to act.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What went wrong, without the next steps.
    pub(crate) fn message(&self) -> String {
        self.message.clone()
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.exit_code())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for hint in &self.hints {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Turns any error into a failure of a kind.
pub(crate) trait OrFail<T> {
    /// The value, or a failure of this kind with the error's message and causes.
    fn or_fail(self, kind: Kind) -> Result<T, Failure>;
}

impl<T, E: std::error::Error> OrFail<T> for Result<T, E> {
    fn or_fail(self, kind: Kind) -> Result<T, Failure> {
        self.map_err(|error| Failure::from_error(kind, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_distinct_and_fixed() {
        let kinds = [
            Kind::User,
            Kind::Config,
            Kind::Denied,
            Kind::Environment,
            Kind::JobFailed,
            Kind::Internal,
        ];
        assert_eq!(kinds.map(Kind::exit_code), [2, 3, 4, 78, 10, 70]);
    }

    #[test]
    fn a_failure_names_its_causes_and_the_next_step() {
        let error = std::io::Error::other("inner");
        let failure = Failure::from_error(Kind::User, &error).hint("try again");
        assert_eq!(failure.to_string(), "error: inner\nhint: try again");
    }
}
