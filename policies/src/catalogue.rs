//! The policies that exist, and how one is resolved from those that it extends.
//!
//! A policy comes after everything that it extends, and each policy is put down once: with `extends = ["a", "b"]` what `b` says stands
//! over what `a` says, and neither is undone by a base that they share.

use std::collections::BTreeMap;

use crate::{
    error::Error,
    id::PolicyName,
    layer::Layer,
    origin::Entry,
    parse::{PolicyFile, call_list},
    policy::Policy,
};

/// The most steps from a policy to the farthest that it extends.
const DEPTH_MAX: usize = 8;

/// The policies that ship with Safelight.
const SHIPPED: [(&str, &str); 7] = [
    ("base.toml", include_str!("../profiles/base.toml")),
    ("generic.toml", include_str!("../profiles/generic.toml")),
    ("povray.toml", include_str!("../profiles/povray.toml")),
    ("blender.toml", include_str!("../profiles/blender.toml")),
    ("python.toml", include_str!("../profiles/python.toml")),
    ("ffmpeg.toml", include_str!("../profiles/ffmpeg.toml")),
    ("strict.toml", include_str!("../profiles/strict.toml")),
];

/// The lists of system calls that ship with Safelight. A list never changes once released; a new one gets a new number.
const CALL_LISTS: [(&str, &str); 1] = [(
    "seccomp/renderer-v1.toml",
    include_str!("../profiles/seccomp/renderer-v1.toml"),
)];

/// Policies by name.
#[derive(Debug, Clone)]
pub struct Catalogue {
    policies: BTreeMap<PolicyName, PolicyFile>,
    call_lists: BTreeMap<String, BTreeMap<String, Entry<()>>>,
}

impl Catalogue {
    /// The policies that ship with Safelight.
    pub fn shipped() -> Result<Self, Error> {
        let call_lists = CALL_LISTS
            .iter()
            .map(|(file, text)| call_list(text, file))
            .collect::<Result<_, _>>()?;
        let mut catalogue = Self {
            policies: BTreeMap::new(),
            call_lists,
        };
        for (file, text) in SHIPPED {
            catalogue.add(text, file)?;
        }
        Ok(catalogue)
    }

    /// Adds a policy and returns the name that it gives itself. A name is given once: no file takes the place of another.
    pub fn add(&mut self, text: &str, file: &str) -> Result<PolicyName, Error> {
        let policy = PolicyFile::parse(text, file)?;
        let name = policy.name.value.clone();
        if self.policies.contains_key(&name) {
            return Err(Error::NameTaken {
                origin: policy.name.origin,
                name,
            });
        }
        self.policies.insert(name.clone(), policy);
        Ok(name)
    }

    /// The names of all policies and what each says of itself.
    pub fn list(&self) -> impl Iterator<Item = (&PolicyName, &str)> {
        self.policies
            .iter()
            .map(|(name, policy)| (name, policy.summary.as_str()))
    }

    /// A policy joined with all that it extends.
    pub fn resolve(&self, name: &PolicyName) -> Result<Policy, Error> {
        let own = self.policies.get(name).ok_or_else(|| Error::Unknown {
            name: name.clone(),
            known: self.names(),
        })?;
        let mut order = Vec::new();
        self.visit(own, &mut vec![name.clone()], &mut order)?;
        let mut layer = Layer::default();
        for policy in &order {
            layer.put(policy.layer.clone());
        }
        self.expand_calls(&mut layer)?;
        let lineage = order
            .iter()
            .map(|policy| policy.name.value.clone())
            .collect();
        Policy::new(own.name.clone(), own.summary.clone(), lineage, layer)
    }

    fn names(&self) -> Vec<PolicyName> {
        self.policies.keys().cloned().collect()
    }

    /// Appends all that a policy extends, then the policy itself, each once.
    fn visit<'a>(
        &'a self,
        policy: &'a PolicyFile,
        path: &mut Vec<PolicyName>,
        order: &mut Vec<&'a PolicyFile>,
    ) -> Result<(), Error> {
        for parent in &policy.extends {
            let name = &parent.value;
            let closes = path.contains(name);
            path.push(name.clone());
            if closes {
                return Err(Error::Cycle {
                    origin: parent.origin.clone(),
                    path: path.clone(),
                });
            }
            if path.len() > DEPTH_MAX + 1 {
                return Err(Error::TooDeep {
                    origin: parent.origin.clone(),
                    path: path.clone(),
                    max: DEPTH_MAX,
                });
            }
            // Also keeps the walk linear when many policies share what they extend.
            if !order.iter().any(|seen| seen.name() == name) {
                let file = self
                    .policies
                    .get(name)
                    .ok_or_else(|| Error::UnknownParent {
                        origin: parent.origin.clone(),
                        name: name.clone(),
                        known: self.names(),
                    })?;
                self.visit(file, path, order)?;
            }
            path.pop();
        }
        order.push(policy);
        Ok(())
    }

    /// Adds the calls of the list that the policy builds on.
    fn expand_calls(&self, layer: &mut Layer) -> Result<(), Error> {
        let Some(list) = &layer.call_list else {
            return Ok(());
        };
        let calls = self
            .call_lists
            .get(&list.value)
            .ok_or_else(|| Error::Invalid {
                origin: list.origin.clone(),
                what: "seccomp.base",
                value: list.value.clone(),
                problem: format!(
                    "there is no such list; there are: {}",
                    self.call_lists
                        .keys()
                        .map(String::as_str)
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            })?;
        for (call, entry) in calls {
            layer
                .calls
                .entry(call.clone())
                .or_insert_with(|| entry.clone());
        }
        Ok(())
    }
}
