//! What a step needs of a host, in words that may travel in clear.
//!
//! Of capabilities that the format itself defines, what enters the outline is our own constant and never the client's spelling. One that
//! a studio or a farm made up is let through only under the name that the client's settings give it for others to see.

use std::collections::BTreeMap;

use openjd_model::job::{AmountRequirement, AttributeRequirement, HostRequirements};

use crate::{error::Error, settings::Settings, source::TEMPLATE};

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
    pub(crate) amounts: BTreeMap<String, f64>,
    pub(crate) attributes: BTreeMap<String, Vec<String>>,
}

impl Needs {
    /// Reads a step's requirements; `at` is the step's place in the template.
    pub(crate) fn read(
        at: &str,
        written: Option<&HostRequirements>,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let mut needs = Self::default();
        let Some(written) = written else {
            return Ok(needs);
        };
        for (index, amount) in written.amounts.iter().flatten().enumerate() {
            let at = format!("{at}.hostRequirements.amounts[{index}]");
            needs.amount(at, amount, settings)?;
        }
        for (index, attribute) in written.attributes.iter().flatten().enumerate() {
            let at = format!("{at}.hostRequirements.attributes[{index}]");
            needs.attribute(at, attribute, settings)?;
        }
        Ok(needs)
    }

    fn amount(
        &mut self,
        at: String,
        written: &AmountRequirement,
        settings: &Settings,
    ) -> Result<(), Error> {
        let own = AMOUNTS
            .into_iter()
            .find(|own| own.eq_ignore_ascii_case(&written.name));
        let Some(own) = own.or_else(|| settings.shown(&written.name)) else {
            return refuse(at, format!("the amount {} is", written.name));
        };
        if written.max.is_some() {
            return refuse(format!("{at}.max"), "a greatest amount is".to_owned());
        }
        if let Some(min) = written.min {
            self.amounts.insert(own.to_owned(), min);
        }
        Ok(())
    }

    fn attribute(
        &mut self,
        at: String,
        written: &AttributeRequirement,
        settings: &Settings,
    ) -> Result<(), Error> {
        let own = ATTRIBUTES
            .into_iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(&written.name));
        let Some((own, values)) = own else {
            return self.attribute_of_its_own(at, written, settings);
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
        let left = left.into_iter().map(str::to_owned).collect();
        self.attributes.insert(own.to_owned(), left);
        Ok(())
    }

    /// An attribute that the settings show to others, values and all.
    fn attribute_of_its_own(
        &mut self,
        at: String,
        written: &AttributeRequirement,
        settings: &Settings,
    ) -> Result<(), Error> {
        let Some(shown) = settings.shown(&written.name) else {
            return refuse(at, format!("the attribute {} is", written.name));
        };
        match (&written.any_of, &written.all_of) {
            (Some(any), None) => {
                self.attributes.insert(shown.to_owned(), any.clone());
            }
            (None, Some(all)) if all.len() == 1 => {
                self.attributes.insert(shown.to_owned(), all.clone());
            }
            _ => return refuse(at, "all of several values of an attribute are".to_owned()),
        }
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
