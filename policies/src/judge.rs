//! The judge: a policy, asked by a request, answers with a grant or says which rule stands against it.
//!
//! A request can only narrow: it may ask for less time, for read-only views, and for variables that the policy lets pass.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    amount::show_seconds,
    grant::{
        CentralGrant, CentralRule, CentralRules, Grant, Limits, RootPath, Seccomp, Terms, TmpDir,
    },
    layer::Limit,
    origin::Entry,
    parse::check_variable,
    path::CentralPath,
    place::overlap,
    policy::Policy,
};

/// The most central paths of a session: the views' descriptors travel in one message.
pub const CENTRAL_MAX: usize = 16;

/// The most bytes of all variables that a request sets, names included.
pub const ENV_MAX: usize = 64 * 1024;

/// What a job asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Where shared storage is expected, and whether the job may write there.
    pub central: Vec<(CentralPath, bool)>,
    /// A shorter wall-clock limit in seconds.
    pub timeout: Option<u64>,
    /// Variables that the job sets for itself.
    pub env: BTreeMap<String, String>,
}

/// The answer no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("the policy {policy} denies {what}: {why} ({rule})")]
pub struct Denied {
    /// The policy.
    pub policy: String,
    /// What was asked for.
    pub what: String,
    /// Why it is denied.
    pub why: String,
    /// The rule as `file:line`.
    pub rule: String,
}

impl Policy {
    /// Answers a request.
    pub fn admit(&self, request: &Request) -> Result<Grant, Denied> {
        let central = self.admit_central(&request.central)?;
        let wall = self.admit_timeout(request.timeout)?;
        let env = self.admit_env(&request.env)?;
        Ok(Grant::new(Terms {
            policy: self.name.clone(),
            digest: self.digest(),
            root: self.root_paths(),
            tmp: self.tmp_dirs(),
            devices: self.layer.devices.keys().cloned().collect(),
            env,
            env_pass: self.layer.env_pass.keys().cloned().collect(),
            reach: self.layer.reach.values().map(|entry| entry.value).collect(),
            seccomp: Seccomp {
                allow: self.allowed_calls().into_keys().collect(),
                on_deny: self.on_deny.value,
            },
            limits: Limits {
                wall,
                ..self.limits
            },
            features: self
                .layer
                .features
                .iter()
                .map(|(feature, at)| (*feature, at.value))
                .collect(),
            landlock_min_abi: self.landlock_min_abi.value,
            central,
        }))
    }

    fn deny(&self, what: String, why: String, rule: &impl ToString) -> Denied {
        Denied {
            policy: self.name.to_string(),
            what,
            why,
            rule: rule.to_string(),
        }
    }

    fn admit_central(&self, asked: &[(CentralPath, bool)]) -> Result<Vec<CentralGrant>, Denied> {
        if asked.len() > CENTRAL_MAX {
            return Err(self.deny(
                format!("{} central paths", asked.len()),
                format!("a session has at most {CENTRAL_MAX}"),
                &self.origin,
            ));
        }
        let mut granted: Vec<CentralGrant> = Vec::new();
        for (path, write) in asked {
            let what = || format!("the central path {path}");
            if let Some(other) = granted.iter().find(|other| other.path.overlaps(path)) {
                let why = format!("it overlaps the central path {}", other.path);
                return Err(self.deny(what(), why, &self.origin));
            }
            if let Some((at, origin)) = self.standing_at(path.as_str()) {
                let why = format!("it overlaps {at}, which every session has of its own");
                return Err(self.deny(what(), why, &origin));
            }
            granted.push(CentralGrant {
                path: path.clone(),
                write: *write,
                rules: self.central_rules(),
            });
        }
        Ok(granted)
    }

    /// The bound path or private directory that a central path would hide or lie in.
    fn standing_at(&self, path: &str) -> Option<(&str, String)> {
        let root = self
            .layer
            .root
            .iter()
            .map(|(at, entry)| (at, &entry.origin));
        let tmp = self.layer.tmp.iter().map(|(at, entry)| (at, &entry.origin));
        root.chain(tmp)
            .find(|(at, _)| overlap(at, path))
            .map(|(at, origin)| (at.as_str(), origin.to_string()))
    }

    fn admit_timeout(&self, asked: Option<u64>) -> Result<u64, Denied> {
        let limit = self.limits.wall;
        let Some(seconds) = asked else {
            return Ok(limit);
        };
        let why = if seconds == 0 {
            "nothing ends in no time".to_owned()
        } else if seconds > limit {
            format!("its limit is {}", show_seconds(limit))
        } else {
            return Ok(seconds);
        };
        let rule = self
            .layer
            .limits
            .get(&Limit::Wall)
            .map_or_else(|| self.origin.to_string(), |at| at.origin.to_string());
        Err(self.deny(
            format!("a timeout of {}", show_seconds(seconds)),
            why,
            &rule,
        ))
    }

    fn admit_env(
        &self,
        asked: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, Denied> {
        let mut env: BTreeMap<_, _> = self
            .layer
            .env
            .iter()
            .map(|(name, entry)| (name.clone(), entry.value.clone()))
            .collect();
        let size: usize = asked
            .iter()
            .map(|(name, value)| name.len() + value.len() + 2)
            .sum();
        if size > ENV_MAX {
            let what = format!("{size} bytes of variables");
            return Err(self.deny(what, format!("at most {ENV_MAX} are taken"), &self.origin));
        }
        for (name, value) in asked {
            // The value may be a secret: it is never repeated.
            let what = || format!("the variable {name:?}");
            if let Err(shape) = check_variable(name) {
                return Err(self.deny(what(), shape.to_owned(), &self.origin));
            }
            if !self.layer.env_pass.contains_key(name) {
                let why = "it is not among those that a job may set".to_owned();
                let rule = self
                    .layer
                    .env
                    .get(name)
                    .map_or_else(|| self.origin.to_string(), |own| own.origin.to_string());
                return Err(self.deny(what(), why, &rule));
            }
            if value.contains('\0') {
                return Err(self.deny(what(), "its value has a NUL".to_owned(), &self.origin));
            }
            env.insert(name.clone(), value.clone());
        }
        Ok(env)
    }

    /// The rules over what lies below a central path.
    pub fn central_rules(&self) -> CentralRules {
        let rules = |map: &BTreeMap<String, Entry<()>>| {
            map.iter()
                .map(|(glob, entry)| CentralRule {
                    glob: glob.clone(),
                    origin: entry.origin.to_string(),
                })
                .collect()
        };
        CentralRules {
            read: rules(&self.layer.read),
            write: rules(&self.layer.write),
            deny: rules(&self.layer.deny),
        }
    }

    fn root_paths(&self) -> Vec<RootPath> {
        self.layer
            .root
            .iter()
            .map(|(at, entry)| RootPath {
                at: at.clone(),
                rights: entry.value.rights,
                missing: entry.value.missing,
                reason: entry.reason.clone(),
                origin: entry.origin.to_string(),
            })
            .collect()
    }

    fn tmp_dirs(&self) -> Vec<TmpDir> {
        self.layer
            .tmp
            .iter()
            .map(|(at, entry)| TmpDir {
                at: at.clone(),
                bytes: entry.value.bytes,
                inodes: entry.value.inodes,
                exec: entry.value.exec,
            })
            .collect()
    }
}
