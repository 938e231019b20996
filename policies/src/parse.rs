//! Reads the text of one policy file and checks every statement in it.
//!
//! The text is hostile: its length is bounded before it is parsed, and nothing in it is trusted to have a shape. An error names the line.

mod statement;

use std::{collections::BTreeMap, sync::Arc};

use serde::de::DeserializeOwned;
use serde_spanned::Spanned;

use crate::{
    error::Error,
    id::PolicyName,
    layer::Layer,
    origin::{At, Entry, Origin},
    text::{CallListText, PolicyText},
};
use statement::insert;

pub(crate) use statement::check_variable;

/// The schema that this version reads.
const SCHEMA: u32 = 1;

/// The longest policy in bytes.
const TEXT_MAX: usize = 256 * 1024;

/// The longest reason, summary or value in bytes.
const PROSE_MAX: usize = 4096;

/// A policy file by itself: read and checked, not yet joined with those that it extends.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    pub(crate) name: At<PolicyName>,
    pub(crate) summary: String,
    pub(crate) extends: Vec<At<PolicyName>>,
    pub(crate) layer: Layer,
}

impl PolicyFile {
    /// Reads a policy. `file` is what errors and origins call it.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let reader = Reader::new(text, file)?;
        let raw: PolicyText = reader.toml()?;
        reader.schema(&raw.schema)?;
        Ok(Self {
            name: reader.policy_name(&raw.name)?,
            summary: reader.prose("summary", &raw.summary)?,
            extends: raw
                .extends
                .iter()
                .map(|name| reader.policy_name(name))
                .collect::<Result<_, _>>()?,
            layer: reader.layer(raw)?,
        })
    }

    /// The policy's name.
    pub fn name(&self) -> &PolicyName {
        &self.name.value
    }
}

/// Reads a versioned list of system calls.
pub(crate) fn call_list(
    text: &str,
    file: &str,
) -> Result<(String, BTreeMap<String, Entry<()>>), Error> {
    let reader = Reader::new(text, file)?;
    let raw: CallListText = reader.toml()?;
    reader.schema(&raw.schema)?;
    Ok((
        reader.policy_name(&raw.name)?.value.to_string(),
        reader.calls(&raw.allow, true)?,
    ))
}

struct Reader<'a> {
    text: &'a str,
    file: Arc<str>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, file: &str) -> Result<Self, Error> {
        if text.len() > TEXT_MAX {
            return Err(Error::TooLong {
                file: file.to_owned(),
                len: text.len(),
                max: TEXT_MAX,
            });
        }
        Ok(Self {
            text,
            file: file.into(),
        })
    }

    fn toml<T: DeserializeOwned>(&self) -> Result<T, Error> {
        toml::from_str(self.text).map_err(|error| Error::Syntax {
            origin: Origin::of(
                &self.file,
                self.text,
                error.span().map_or(0, |span| span.start),
            ),
            // The message repeats keys of the text, which may hold what a terminal obeys.
            problem: error
                .message()
                .chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect(),
        })
    }

    fn origin<T>(&self, spanned: &Spanned<T>) -> Origin {
        Origin::of(&self.file, self.text, spanned.span().start)
    }

    fn at<T, U>(&self, spanned: &Spanned<T>, value: U) -> At<U> {
        At {
            value,
            origin: self.origin(spanned),
        }
    }

    fn invalid<T, V: ToString>(
        &self,
        what: &'static str,
        spanned: &Spanned<T>,
        value: &V,
        problem: impl Into<String>,
    ) -> Error {
        Error::Invalid {
            origin: self.origin(spanned),
            what,
            value: value.to_string(),
            problem: problem.into(),
        }
    }

    fn check<T>(
        &self,
        what: &'static str,
        text: &Spanned<String>,
        checked: Result<T, impl Into<String>>,
    ) -> Result<T, Error> {
        checked.map_err(|problem| self.invalid(what, text, text.get_ref(), problem))
    }

    fn schema(&self, schema: &Spanned<u32>) -> Result<(), Error> {
        let found = *schema.get_ref();
        if found == SCHEMA {
            return Ok(());
        }
        Err(Error::Schema {
            origin: self.origin(schema),
            found,
            known: SCHEMA,
        })
    }

    fn policy_name(&self, text: &Spanned<String>) -> Result<At<PolicyName>, Error> {
        let name = PolicyName::new(text.get_ref()).map_err(|error| error.expected);
        Ok(self.at(
            text,
            self.check(
                "name",
                text,
                name.map_err(|shape| format!("expected {shape}")),
            )?,
        ))
    }

    /// Text for people: one line, not empty, nothing that a terminal would obey.
    fn prose(&self, what: &'static str, text: &Spanned<String>) -> Result<String, Error> {
        let prose = text.get_ref().trim();
        let checked = if prose.is_empty() {
            Err("it is empty")
        } else if prose.len() > PROSE_MAX {
            Err("it is longer than 4,096 bytes")
        } else if prose.chars().any(char::is_control) {
            Err("it has a control character")
        } else {
            Ok(prose.to_owned())
        };
        self.check(what, text, checked)
    }

    fn entry<T>(
        &self,
        at: &Spanned<String>,
        reason: &Spanned<String>,
        value: T,
    ) -> Result<Entry<T>, Error> {
        Ok(Entry {
            value,
            origin: self.origin(at),
            reason: self.prose("reason", reason)?,
        })
    }

    fn layer(&self, raw: PolicyText) -> Result<Layer, Error> {
        Ok(Layer {
            root: self.unique("path", &raw.root, |item| self.root(item))?,
            tmp: self.unique("tmp directory", &raw.tmp, |item| self.tmp(item))?,
            devices: self.unique("device", &raw.device, |item| self.device(item))?,
            env: self.unique("variable", &raw.env, |item| self.env(item))?,
            env_pass: self.unique("variable", &raw.env_pass, |item| self.env_pass(item))?,
            reach: self.unique("address", &raw.reach, |item| self.reach(item))?,
            call_list: raw
                .seccomp
                .base
                .as_ref()
                .map(|base| self.at(base, base.get_ref().clone())),
            on_deny: raw
                .seccomp
                .on_deny
                .as_ref()
                .map(|answer| self.at(answer, *answer.get_ref())),
            calls: self.calls(&raw.seccomp.allow, true)?,
            denied_calls: self.calls(&raw.seccomp.deny, false)?,
            limits: self.limits(&raw.limits)?,
            features: self.features(&raw.features),
            landlock_min_abi: self.landlock_min_abi(&raw.features)?,
            drops_central: raw
                .central
                .inherit
                .as_ref()
                .is_some_and(|inherit| !inherit.get_ref()),
            read: self.unique("glob", &raw.central.read, |item| self.glob(item))?,
            write: self.unique("glob", &raw.central.write, |item| self.glob(item))?,
            deny: self.unique("glob", &raw.central.deny, |item| self.glob(item))?,
        })
    }

    /// Reads a list whose items have keys, and refuses a key that comes twice.
    fn unique<Item, T>(
        &self,
        what: &'static str,
        items: &[Item],
        read: impl Fn(&Item) -> Result<(String, Entry<T>), Error>,
    ) -> Result<BTreeMap<String, Entry<T>>, Error> {
        let mut map = BTreeMap::new();
        for item in items {
            let (key, entry) = read(item)?;
            insert(&mut map, what, key, entry)?;
        }
        Ok(map)
    }
}
