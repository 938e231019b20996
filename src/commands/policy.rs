//! `safelight policy`: what the policies say, whether a file is one, and who decided what.

mod learn;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use safelight_policies::{
    Line, Policy, Warning,
    diff::Diff,
    explain::{Explanation, Query, Verdict},
    id::PolicyName,
};
use serde::Serialize;

use crate::{
    failure::{Failure, Kind, OrFail},
    policy_source,
    terminal::{print, print_json, say, table},
};

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// List the policies that ship with Safelight
    List(ListArgs),
    /// Show everything a policy allows, with the line that says so
    ///
    /// The policy is shown resolved: joined with all that it extends, the nearest statement in force. Each line ends with the file
    /// and line that it comes from. The digest is over what is allowed; two hosts with the same digest allow the same.
    Show(ShowArgs),
    /// Check a policy file: shape, names, what it extends
    ///
    /// Errors name the line and end with exit code 3. Warnings name what is allowed but deserves a second look, on standard error.
    Check(CheckArgs),
    /// Say what one policy allows that another does not
    ///
    /// Both are compared resolved, by what they come to. That they differ is a success.
    Diff(DiffArgs),
    /// Run a command with everything on the log, and write the policy that it was seen to need
    ///
    /// The command runs in a session under --policy. The new policy extends that one, and of the central paths it allows only the
    /// directories that were read and written, each with a reason. It is a draft: read it before it is used.
    Learn(learn::LearnArgs),
    /// Say whether a job may do something, by which rule, and why
    ///
    /// An answer is a success, whether it is yes or no.
    Explain(ExplainArgs),
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A shipped policy's name, or a TOML file
    policy: String,
    /// Print the reasons too
    #[arg(long)]
    reasons: bool,
    /// Print JSON, which always has the reasons
    #[arg(long)]
    json: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The TOML file
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// A shipped policy's name, or a TOML file
    first: String,
    /// Another
    second: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A shipped policy's name, or a TOML file
    policy: String,
    #[command(subcommand)]
    what: What,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// What is asked.
#[derive(Debug, Subcommand)]
enum What {
    /// A path: absolute for the system's, relative for one below a central path
    Path {
        /// Like /etc/passwd or shots/010/scene.blend
        path: String,
    },
    /// A system call
    Syscall {
        /// Its name, like openat
        name: String,
    },
    /// An address on a network
    Address {
        /// A host, with or without a port, like 192.0.2.1:443
        address: String,
    },
}

/// Does what was asked.
pub(crate) fn run(command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::List(arguments) => list(&arguments),
        PolicyCommand::Show(arguments) => show(&arguments),
        PolicyCommand::Check(arguments) => check(&arguments),
        PolicyCommand::Diff(arguments) => diff(&arguments),
        PolicyCommand::Learn(arguments) => learn::run(&arguments),
        PolicyCommand::Explain(arguments) => explain(&arguments),
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a PolicyName,
    digest: String,
    summary: &'a str,
}

fn list(arguments: &ListArgs) -> Result<(), Failure> {
    let catalogue = safelight_policies::Catalogue::shipped().or_fail(Kind::Internal)?;
    let mut listed = Vec::new();
    for (name, summary) in catalogue.list() {
        let policy = catalogue.resolve(name).or_fail(Kind::Internal)?;
        listed.push(Listed {
            name,
            digest: hex(&policy),
            summary,
        });
    }
    if arguments.json {
        return print_json(&listed);
    }
    let rows: Vec<_> = listed
        .iter()
        .map(|policy| vec![policy.name.to_string(), policy.summary.to_owned()])
        .collect();
    table(&["POLICY", "WHAT FOR"], &rows)
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a PolicyName,
    summary: &'a str,
    digest: String,
    made_of: &'a [PolicyName],
    lines: Vec<Line>,
}

fn show(arguments: &ShowArgs) -> Result<(), Failure> {
    let policy = resolve(&arguments.policy)?;
    let lines = policy.lines();
    if arguments.json {
        return print_json(&Shown {
            name: policy.name(),
            summary: policy.summary(),
            digest: hex(&policy),
            made_of: policy.lineage(),
            lines,
        });
    }
    print(format!("# {}: {}", policy.name(), policy.summary()))?;
    print(format!("# digest {}", hex(&policy)))?;
    let names: Vec<_> = policy.lineage().iter().map(PolicyName::as_str).collect();
    print(format!("# made of {}", names.join(", ")))?;
    let width = lines.iter().map(|line| line.text.len().min(56)).max();
    let width = width.unwrap_or_default();
    for line in &lines {
        let reason = match &line.reason {
            Some(reason) if arguments.reasons => format!("  {reason}"),
            _ => String::new(),
        };
        print(format!("{:width$}  # {}{reason}", line.text, line.origin))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Checked<'a> {
    name: &'a PolicyName,
    digest: String,
    warnings: Vec<Warning>,
}

fn check(arguments: &CheckArgs) -> Result<(), Failure> {
    let (catalogue, name) = policy_source::load_file(&arguments.file)?;
    let policy = catalogue.resolve(&name).or_fail(Kind::Config)?;
    let warnings = policy.warnings();
    if arguments.json {
        return print_json(&Checked {
            name: policy.name(),
            digest: hex(&policy),
            warnings,
        });
    }
    for warning in &warnings {
        say(format!("warning: {warning}"));
    }
    let count = match warnings.len() {
        0 => "no warnings".to_owned(),
        1 => "1 warning".to_owned(),
        count => format!("{count} warnings"),
    };
    print(format!(
        "{}: a valid policy, {count}, digest {}",
        policy.name(),
        policy.digest()
    ))
}

#[derive(Serialize)]
struct Differ<'a> {
    first: &'a PolicyName,
    second: &'a PolicyName,
    #[serde(flatten)]
    diff: Diff,
}

fn diff(arguments: &DiffArgs) -> Result<(), Failure> {
    let (first, second) = (resolve(&arguments.first)?, resolve(&arguments.second)?);
    let diff = first.diff(&second);
    if arguments.json {
        return print_json(&Differ {
            first: first.name(),
            second: second.name(),
            diff,
        });
    }
    for (one, other, allowances) in [(&second, &first, &diff.more), (&first, &second, &diff.less)] {
        let (one, other) = (one.name(), other.name());
        if allowances.is_empty() {
            print(format!("{one} allows nothing that {other} does not"))?;
            continue;
        }
        print(format!("what {one} allows and {other} does not:"))?;
        for allowance in allowances {
            print(format!("  {allowance}"))?;
        }
    }
    Ok(())
}

fn explain(arguments: &ExplainArgs) -> Result<(), Failure> {
    let policy = resolve(&arguments.policy)?;
    let query = match &arguments.what {
        What::Path { path } => Query::Path(path),
        What::Syscall { name } => Query::Syscall(name),
        What::Address { address } => Query::Address(address),
    };
    let answer = policy.explain(query).or_fail(Kind::Config)?;
    if arguments.json {
        return print_json(&answer);
    }
    for line in sentences(&answer) {
        print(line)?;
    }
    Ok(())
}

/// The answer for people: the verdict first.
fn sentences(answer: &Explanation) -> Vec<String> {
    let verdict = match answer.verdict {
        Verdict::Read => "may be read",
        Verdict::ReadExecute => "may be read and executed",
        Verdict::ReadWrite => "may be read and written",
        Verdict::ReadWriteExecute => "may be read, written and executed",
        Verdict::Write => "may be written, not read",
        Verdict::Traverse => "may be looked up and listed",
        Verdict::Allowed => "allowed",
        Verdict::Filtered => "allowed within limits",
        Verdict::Denied => "denied",
        Verdict::Absent => "not there",
    };
    let origin = answer
        .origin
        .as_ref()
        .map(|origin| format!("  # {origin}"))
        .unwrap_or_default();
    vec![
        verdict.to_owned(),
        format!("  by   {}{origin}", answer.rule),
        format!("  why  {}", answer.why),
    ]
}

fn resolve(spec: &str) -> Result<Policy, Failure> {
    let (catalogue, name) = policy_source::load(spec)?;
    catalogue.resolve(&name).or_fail(Kind::Config)
}

/// The whole digest; its `Display` is the short form for people.
fn hex(policy: &Policy) -> String {
    data_encoding::HEXLOWER.encode(&policy.digest().0)
}
