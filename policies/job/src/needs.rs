//! What a step needs of a host, in words that may travel in clear.
//!
//! Only capabilities that the format itself defines are let through, and what enters the outline is our own constant, never the client's
//! spelling: a capability of a client's own would carry the client's words to the render site.

use std::collections::BTreeMap;

use openjd_model::job::{AmountRequirement, AttributeRequirement, HostRequirements};

use crate::{error::Error, source::TEMPLATE};

/// Amounts that OpenJD 2023-09 defines (3.3.1.1). Memory is in MiB, scratch in GiB.
const AMOUNTS: [&str; 5] = [
    "amount.worker.vcpu",
    "amount.worker.memory",
    "amount.worker.gpu",
    "amount.worker.gpu.memory",
    "amount.worker.disk.scratch",
];

/// Attributes that OpenJD 2023-09 defines (3.3.2.1), with those of their values that a render server can have.
const ATTRIBUTES: [(&str, &[&str]); 2] = [
    ("attr.worker.os.family", &["linux"]),
    ("attr.worker.cpu.arch", &["x86_64", "arm64"]),
];

/// Minimum amounts and required attributes, as the outline has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Needs {
    pub(crate) amounts: BTreeMap<&'static str, f64>,
    pub(crate) attributes: BTreeMap<&'static str, Vec<&'static str>>,
}

impl Needs {
    /// Reads a step's requirements; `at` is the step's place in the template.
    pub(crate) fn read(at: &str, written: Option<&HostRequirements>) -> Result<Self, Error> {
        let mut needs = Self::default();
        let Some(written) = written else {
            return Ok(needs);
        };
        for (index, amount) in written.amounts.iter().flatten().enumerate() {
            let at = format!("{at}.hostRequirements.amounts[{index}]");
            needs.amount(at, amount)?;
        }
        for (index, attribute) in written.attributes.iter().flatten().enumerate() {
            let at = format!("{at}.hostRequirements.attributes[{index}]");
            needs.attribute(at, attribute)?;
        }
        Ok(needs)
    }

    fn amount(&mut self, at: String, written: &AmountRequirement) -> Result<(), Error> {
        let own = AMOUNTS
            .into_iter()
            .find(|own| own.eq_ignore_ascii_case(&written.name));
        let Some(own) = own else {
            return refuse(at, format!("the amount {} is", written.name));
        };
        if written.max.is_some() {
            return refuse(format!("{at}.max"), "a greatest amount is".to_owned());
        }
        if let Some(min) = written.min {
            self.amounts.insert(own, min);
        }
        Ok(())
    }

    fn attribute(&mut self, at: String, written: &AttributeRequirement) -> Result<(), Error> {
        let own = ATTRIBUTES
            .into_iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(&written.name));
        let Some((own, values)) = own else {
            return refuse(at, format!("the attribute {} is", written.name));
        };
        let mut left = values.to_vec();
        if let Some(any) = &written.any_of {
            left.retain(|value| any.iter().any(|it| it.eq_ignore_ascii_case(value)));
        }
        if let Some(all) = &written.all_of {
            // A host has one system and one processor, so all of several is none.
            left.retain(|value| all.iter().all(|it| it.eq_ignore_ascii_case(value)));
        }
        if left.is_empty() {
            return refuse(at, format!("a host with this {own} is"));
        }
        self.attributes.insert(own, left);
        Ok(())
    }
}

fn refuse(at: String, thing: String) -> Result<(), Error> {
    Err(Error::Unsupported {
        file: TEMPLATE,
        at,
        thing,
    })
}
