//! A resolved policy: everything said, by whichever file said it, and nothing left open.
//!
//! Its digest is over the canonical text, which says what is allowed and nothing else: two sites that allow the same thing under the
//! same name have the same digest, wherever their files lie and however they give their reasons.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    amount::{show_bytes, show_seconds},
    error::Error,
    grant::{Feature, Limits, Missing, OnDeny, Requirement, Rights},
    id::{PolicyDigest, PolicyName},
    layer::{Layer, Limit},
    origin::{At, Entry, Origin},
    place::overlap,
    reach::REACH_MAX,
};

/// A policy, ready to answer.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(crate) name: PolicyName,
    pub(crate) origin: Origin,
    pub(crate) summary: String,
    pub(crate) lineage: Vec<PolicyName>,
    pub(crate) layer: Layer,
    pub(crate) limits: Limits,
    pub(crate) on_deny: At<OnDeny>,
    pub(crate) landlock_min_abi: At<u32>,
}

/// One statement of a resolved policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What is said, in the canonical text.
    pub text: String,
    /// Where it is said.
    pub origin: Origin,
    /// Why, if it is an allowance or a denial.
    pub reason: Option<String>,
}

impl Policy {
    pub(crate) fn new(
        name: At<PolicyName>,
        summary: String,
        lineage: Vec<PolicyName>,
        layer: Layer,
    ) -> Result<Self, Error> {
        let At {
            value: name,
            origin,
        } = name;
        let unset = |key: &str| Error::Unset {
            policy: name.clone(),
            key: key.to_owned(),
        };
        let limit = |limit: Limit| {
            layer
                .limits
                .get(&limit)
                .map(|at| at.value)
                .ok_or_else(|| unset(limit.shape().0))
        };
        let limits = Limits {
            memory: limit(Limit::Memory)?,
            pids: limit(Limit::Pids)?,
            wall: limit(Limit::Wall)?,
            term_grace: limit(Limit::TermGrace)?,
            output: limit(Limit::Output)?,
            files: limit(Limit::Files)?,
            quota: limit(Limit::Quota)?,
            entries: limit(Limit::Entries)?,
            records: limit(Limit::Records)?,
            // Where no policy says anything, none is set.
            io: layer.limits.get(&Limit::Io).map(|at| at.value),
        };
        let on_deny = layer
            .on_deny
            .clone()
            .ok_or_else(|| unset("seccomp.on_deny"))?;
        let landlock_min_abi = layer
            .landlock_min_abi
            .clone()
            .ok_or_else(|| unset("features.landlock-min-abi"))?;
        if layer.call_list.is_none() {
            return Err(unset("seccomp.base"));
        }
        let silent = |feature: &&Feature| !layer.features.contains_key(feature);
        if let Some(feature) = Feature::ALL.iter().find(silent) {
            return Err(unset(&format!("features.{feature}")));
        }
        check_tmp(&layer)?;
        check_reach(&layer)?;
        Ok(Self {
            name,
            origin,
            summary,
            lineage,
            layer,
            limits,
            on_deny,
            landlock_min_abi,
        })
    }

    /// Its name.
    pub fn name(&self) -> &PolicyName {
        &self.name
    }

    /// What it says of itself.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The policies that it is made of, the farthest first, itself last.
    pub fn lineage(&self) -> &[PolicyName] {
        &self.lineage
    }

    /// The amounts it allows.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The BLAKE3 hash of the canonical text.
    pub fn digest(&self) -> PolicyDigest {
        PolicyDigest(*blake3::hash(self.canonical().as_bytes()).as_bytes())
    }

    /// What the policy allows, line by line, sorted within each kind.
    pub fn canonical(&self) -> String {
        let mut text = format!("safelight policy 1 {}\n", self.name);
        for line in self.lines() {
            text.push_str(&line.text);
            text.push('\n');
        }
        text
    }

    /// Every statement in force with its origin.
    pub fn lines(&self) -> Vec<Line> {
        let layer = &self.layer;
        let mut lines = Vec::new();
        push(&mut lines, &layer.root, |at, bind| {
            let rights = match bind.rights {
                Rights::Read => "r",
                Rights::ReadExecute => "rx",
            };
            let missing = match bind.missing {
                Missing::Error => "",
                Missing::Skip => " if-there",
            };
            format!("root {} {rights}{missing}", quoted(at))
        });
        push(&mut lines, &layer.tmp, |at, tmp| {
            let exec = if tmp.exec { " exec" } else { "" };
            format!(
                "tmp {} {} {} files{exec}",
                quoted(at),
                show_bytes(tmp.bytes),
                tmp.inodes
            )
        });
        push(&mut lines, &layer.devices, |name, ()| {
            format!("device {}", quoted(name))
        });
        push(&mut lines, &layer.env, |name, value| {
            format!("env {name}={}", quoted(value))
        });
        push(&mut lines, &layer.env_pass, |name, ()| {
            format!("env-pass {name}")
        });
        push(&mut lines, &layer.reach, |_, address| {
            format!("reach tcp {address}")
        });
        lines.extend(self.scalar_lines());
        push(&mut lines, &self.allowed_calls(), |call, ()| {
            format!("call {call}")
        });
        push(&mut lines, &layer.read, |glob, ()| {
            format!("central read {}", quoted(glob))
        });
        push(&mut lines, &layer.write, |glob, ()| {
            format!("central write {}", quoted(glob))
        });
        push(&mut lines, &layer.deny, |glob, ()| {
            format!("central deny {}", quoted(glob))
        });
        lines
    }

    fn scalar_lines(&self) -> Vec<Line> {
        let line = |text: String, origin: &Origin| Line {
            text,
            origin: origin.clone(),
            reason: None,
        };
        let mut lines = Vec::new();
        for (limit, at) in &self.layer.limits {
            let amount = match limit {
                Limit::Wall | Limit::TermGrace => show_seconds(at.value),
                Limit::Pids | Limit::Files | Limit::Entries => at.value.to_string(),
                Limit::Memory | Limit::Output | Limit::Quota | Limit::Records | Limit::Io => {
                    show_bytes(at.value)
                }
            };
            lines.push(line(format!("{} {amount}", limit.shape().0), &at.origin));
        }
        for (feature, at) in &self.layer.features {
            let wanted = match at.value {
                Requirement::Require => "require",
                Requirement::BestEffort => "best-effort",
                Requirement::Off => "off",
            };
            lines.push(line(format!("features.{feature} {wanted}"), &at.origin));
        }
        let abi = &self.landlock_min_abi;
        lines.push(line(
            format!("features.landlock-min-abi {}", abi.value),
            &abi.origin,
        ));
        let answer = match self.on_deny.value {
            OnDeny::Errno => "errno",
            OnDeny::Kill => "kill",
        };
        lines.push(line(
            format!("seccomp.on_deny {answer}"),
            &self.on_deny.origin,
        ));
        lines
    }

    /// The calls that are allowed once the denied ones are taken away.
    pub(crate) fn allowed_calls(&self) -> BTreeMap<String, Entry<()>> {
        self.layer
            .calls
            .iter()
            .filter(|(call, _)| !self.layer.denied_calls.contains_key(*call))
            .map(|(call, entry)| (call.clone(), entry.clone()))
            .collect()
    }
}

/// Addresses are reached through a proxy out of a network that is the session's own; there are not more than can be handed over.
fn check_reach(layer: &Layer) -> Result<(), Error> {
    let Some((_, first)) = layer.reach.first_key_value() else {
        return Ok(());
    };
    let invalid = |origin: &Origin, value: String, problem: &str| Error::Invalid {
        origin: origin.clone(),
        what: "address",
        value,
        problem: problem.to_owned(),
    };
    if layer.reach.len() > REACH_MAX {
        let problem = format!("a policy has at most {REACH_MAX}");
        let value = format!("{} addresses", layer.reach.len());
        return Err(invalid(&first.origin, value, &problem));
    }
    let network = layer.features.get(&Feature::NetworkNamespace);
    match network {
        Some(at) if at.value != Requirement::Require => Err(invalid(
            &at.origin,
            first.value.to_string(),
            "the policy does not require a network of the session's own, so every address is reached, not this one",
        )),
        _ => Ok(()),
    }
}

/// A private directory may neither hide nor hold another, nor a bound path.
fn check_tmp(layer: &Layer) -> Result<(), Error> {
    for (at, entry) in &layer.tmp {
        let root = layer
            .root
            .iter()
            .find(|(root, _)| overlap(at, root))
            .map(|(root, other)| (root, &other.origin));
        let tmp = layer
            .tmp
            .iter()
            .find(|(other, _)| *other != at && overlap(at, other))
            .map(|(tmp, other)| (tmp, &other.origin));
        if let Some((other, origin)) = root.or(tmp) {
            return Err(Error::Invalid {
                origin: entry.origin.clone(),
                what: "tmp directory",
                value: at.clone(),
                problem: format!("it overlaps {other:?} of {origin}"),
            });
        }
    }
    Ok(())
}

fn push<T>(
    lines: &mut Vec<Line>,
    map: &BTreeMap<String, Entry<T>>,
    text: impl Fn(&str, &T) -> String,
) {
    lines.extend(map.iter().map(|(key, entry)| Line {
        text: text(key, &entry.value),
        origin: entry.origin.clone(),
        reason: Some(entry.reason.clone()),
    }));
}

/// Text in quotes, with everything outside printable ASCII escaped the same way by every version of this program.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_default())
}
