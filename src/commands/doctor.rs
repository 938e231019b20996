//! `safelight doctor`: what this host can enforce, and how to get the rest.

use std::{collections::BTreeMap, ffi::OsString};

use clap::Args;
use safelight_policies::{Catalogue, Request, id::PolicyName};
use safelight_worker::{
    HostFacts, Identity, Plan,
    behind::{self, Wall},
    probe::{self, HostReport, Status},
};
use serde::Serialize;

use crate::{
    failure::{Failure, Kind, OrFail},
    policy_source,
    state::user,
    terminal::{print_json, say, table},
};

/// The policy that a host must be able to enforce to be of any use.
const LEAST: &str = "generic";

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `__without`.
#[derive(Debug, Args)]
pub(crate) struct WithoutArgs {
    /// The feature to take away: landlock, seccomp, user-namespace, namespaces or network-namespace
    feature: OsString,
    /// What to run, usually safelight itself
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Arguments of `__behind`.
#[derive(Debug, Args)]
pub(crate) struct BehindArgs {
    /// The policy whose wall it is
    #[arg(long, default_value = LEAST)]
    policy: String,
    /// Where the command may write
    #[arg(long, default_value = "/tmp")]
    scratch: String,
    /// Landlock as a kernel has it whose ABI is no newer than this
    #[arg(long, default_value_t = u32::MAX, hide_default_value = true)]
    landlock_abi: u32,
    /// The wall: landlock, seccomp, user or capabilities
    wall: OsString,
    /// What to run
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

#[derive(Serialize)]
struct Examined<'a> {
    ready: bool,
    #[serde(flatten)]
    report: &'a HostReport,
    /// Whether what walls refuse gets onto a session's log, wall by wall.
    denials: &'a BTreeMap<&'static str, Status>,
}

/// Tries every feature on this host. A success means that jobs can run here under the generic policy.
pub(crate) fn run(arguments: DoctorArgs) -> Result<(), Failure> {
    let report = probe::probe();
    let verdict = verdict(&report)?;
    let denials = BTreeMap::from(probe::denials());
    if arguments.json {
        print_json(&Examined {
            ready: verdict.is_none(),
            report: &report,
            denials: &denials,
        })?;
    } else {
        print(&report)?;
        for (wall, status) in &denials {
            say(match status.advice() {
                None => format!("denials of {wall} are recorded"),
                Some((why, remedy)) => format!("denials of {wall}: {why}; {remedy}"),
            });
        }
    }
    verdict.map_or(Ok(()), Err)
}

/// The failure of a host on which nothing can run.
fn verdict(report: &HostReport) -> Result<Option<Failure>, Failure> {
    let catalogue = Catalogue::shipped().or_fail(Kind::Internal)?;
    let policy = catalogue
        .resolve(&PolicyName::new(LEAST).or_fail(Kind::Internal)?)
        .or_fail(Kind::Internal)?;
    let grant = policy.admit(&Request::default()).or_fail(Kind::Internal)?;
    Ok(probe::check(grant.terms(), report)
        .err()
        .map(|lacking| Failure::from_error(Kind::Environment, &lacking).hint(&lacking.remedy)))
}

fn print(report: &HostReport) -> Result<(), Failure> {
    let rows: Vec<_> = report
        .features
        .iter()
        .map(|(feature, status)| {
            let (why, remedy) = status.advice().unwrap_or_default();
            [feature.as_str(), status.word(), why, remedy]
                .map(str::to_owned)
                .to_vec()
        })
        .collect();
    table(&["FEATURE", "STATUS", "WHY", "REMEDY"], &rows)?;
    say(format!(
        "kernel {}, Landlock ABI {}, {}",
        report.kernel,
        report.landlock_abi,
        if report.root { "root" } else { "not root" }
    ));
    for concern in &report.concerns {
        say(format!(
            "{}: {}; {}",
            concern.what, concern.why, concern.remedy
        ));
    }
    Ok(())
}

/// Runs a command as on a kernel without a feature. Returns only if that fails.
pub(crate) fn without(arguments: WithoutArgs) -> Result<(), Failure> {
    let words = std::iter::once(arguments.feature).chain(arguments.command);
    let error = safelight_worker::without::main(words);
    let known: Vec<_> = safelight_worker::without::names().collect();
    Err(Failure::from_error(Kind::User, &error).hint(format!("one of {}", known.join(", "))))
}

/// Runs a command behind one wall only. Returns only if that fails.
pub(crate) fn behind(arguments: &BehindArgs) -> Result<(), Failure> {
    let wall = Wall::parse(&arguments.wall).ok_or_else(|| {
        let known: Vec<_> = Wall::ALL.iter().map(|wall| wall.as_str()).collect();
        Failure::new(Kind::User, "there is no such wall")
            .hint(format!("one of {}", known.join(", ")))
    })?;
    let (catalogue, name) = policy_source::load(&arguments.policy)?;
    let policy = catalogue.resolve(&name).or_fail(Kind::Config)?;
    let grant = policy.admit(&Request::default()).or_fail(Kind::Denied)?;
    let mut facts = HostFacts::read(grant.terms()).or_fail(Kind::Environment)?;
    facts.landlock_abi = facts.landlock_abi.min(arguments.landlock_abi);
    // The last slot's: no session of this host is likely to have it.
    let own = user::session(u16::MAX);
    let identity = Identity::Root { uid: own, gid: own };
    let plan = Plan::new(grant, &facts, identity).or_fail(Kind::Environment)?;
    let error = behind::main(wall, &plan, &arguments.scratch, &arguments.command);
    Err(Failure::from_error(Kind::Environment, &error))
}
