//! What can be wrong with a policy. Each message names the file, the line and the thing.

use crate::{id::PolicyName, origin::Origin};

/// A policy that cannot be read or resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is longer than a policy may be.
    #[error("{file}: a policy of {len} bytes is too long (at most {max})")]
    TooLong {
        /// The file.
        file: String,
        /// Its length in bytes.
        len: usize,
        /// The most bytes.
        max: usize,
    },
    /// The text is not TOML, or has a field that policies do not have, or lacks one.
    #[error("{origin}: {problem}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// In the TOML parser's words.
        problem: String,
    },
    /// The file is written for another version of the schema.
    #[error(
        "{origin}: schema {found} is not known here, this version of safelight reads schema {known}"
    )]
    Schema {
        /// Where.
        origin: Origin,
        /// The schema that the file names.
        found: u32,
        /// The schema that can be read.
        known: u32,
    },
    /// A value does not have the shape it must have.
    #[error("{origin}: {what} {value:?}: {problem}")]
    Invalid {
        /// Where.
        origin: Origin,
        /// What it should be.
        what: &'static str,
        /// What was written.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The same thing is said twice in one file.
    #[error("{origin}: {what} {value:?} is already named at {first}")]
    Duplicate {
        /// Where, the second time.
        origin: Origin,
        /// Where, the first time.
        first: Origin,
        /// What it is.
        what: &'static str,
        /// What was written.
        value: String,
    },
    /// A system call that no policy may allow.
    #[error("{origin}: no policy may allow the system call {call}: {why}")]
    NeverAllowed {
        /// Where.
        origin: Origin,
        /// Its name.
        call: String,
        /// What it would open.
        why: &'static str,
    },
    /// Two policies of one name.
    #[error("{origin}: a policy named {name} exists already")]
    NameTaken {
        /// Where the second one is named.
        origin: Origin,
        /// The name.
        name: PolicyName,
    },
    /// There is no such policy.
    #[error("there is no policy named {name}; there are: {}", list(known))]
    Unknown {
        /// The name that was asked for.
        name: PolicyName,
        /// The names that exist.
        known: Vec<PolicyName>,
    },
    /// A policy extends one that does not exist.
    #[error(
        "{origin}: there is no policy named {name} to extend; there are: {}",
        list(known)
    )]
    UnknownParent {
        /// Where.
        origin: Origin,
        /// The name that was asked for.
        name: PolicyName,
        /// The names that exist.
        known: Vec<PolicyName>,
    },
    /// A policy extends itself by way of others.
    #[error("{origin}: a policy cannot extend itself: {}", chain(path))]
    Cycle {
        /// Where the circle closes.
        origin: Origin,
        /// The names from the policy to itself.
        path: Vec<PolicyName>,
    },
    /// Policies extend each other too deep.
    #[error(
        "{origin}: policies may extend each other at most {max} deep: {}",
        chain(path)
    )]
    TooDeep {
        /// Where it goes too deep.
        origin: Origin,
        /// The names on the way.
        path: Vec<PolicyName>,
        /// The most steps.
        max: usize,
    },
    /// A value that must be there is set neither in the policy nor in one that it extends.
    #[error("policy {policy}: {key} is not set, neither there nor in a policy that it extends")]
    Unset {
        /// The policy.
        policy: PolicyName,
        /// The key.
        key: String,
    },
}

fn list(names: &[PolicyName]) -> String {
    join(names, ", ")
}

fn chain(names: &[PolicyName]) -> String {
    join(names, " -> ")
}

fn join(names: &[PolicyName], between: &str) -> String {
    let names: Vec<_> = names.iter().map(PolicyName::as_str).collect();
    names.join(between)
}
