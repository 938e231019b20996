//! What a policy may say but should not say lightly.

use std::fmt;

use serde::Serialize;

use crate::{
    amount::show_bytes,
    grant::{Requirement, Rights},
    layer::Limit,
    origin::Origin,
    place::{wide, within},
    policy::Policy,
};

/// Something that deserves a second look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Where.
    pub origin: Origin,
    /// What and why.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)
    }
}

impl Policy {
    /// What deserves a second look.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = self.missing_walls();
        warnings.extend(self.wide_paths());
        warnings.extend(self.tmp_directories());
        warnings.extend(self.without_effect());
        warnings
    }

    fn missing_walls(&self) -> Vec<Warning> {
        let features = self.layer.features.iter();
        features
            .filter(|(_, at)| at.value == Requirement::Off)
            .map(|(feature, at)| {
                warning(
                    &at.origin,
                    format!("{feature} is off: one wall less around every job"),
                )
            })
            .collect()
    }

    fn wide_paths(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for (at, entry) in &self.layer.root {
            if let Some(why) = wide(at) {
                let text = format!("root path {at:?} is wide: {why}");
                warnings.push(warning(&entry.origin, text));
            }
            // Rights of nested paths add up in the kernel, so the inner path cannot have fewer.
            let executable = self.layer.root.iter().find(|(outer, other)| {
                *outer != at && within(at, outer) && other.value.rights == Rights::ReadExecute
            });
            if let (Rights::Read, Some((outer, _))) = (entry.value.rights, executable) {
                let text = format!("root path {at:?} stays executable: it lies below {outer:?}");
                warnings.push(warning(&entry.origin, text));
            }
        }
        warnings
    }

    fn tmp_directories(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut total: u64 = 0;
        for (at, entry) in &self.layer.tmp {
            total = total.saturating_add(entry.value.bytes);
            if entry.value.exec {
                let text =
                    format!("files in {at:?} may be executed: a job can bring its own programs");
                warnings.push(warning(&entry.origin, text));
            }
        }
        if let Some(memory) = self.layer.limits.get(&Limit::Memory)
            && total > memory.value
        {
            let text = format!(
                "tmp directories of {} together count against a memory limit of {}",
                show_bytes(total),
                show_bytes(memory.value)
            );
            warnings.push(warning(&memory.origin, text));
        }
        warnings
    }

    fn without_effect(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for (call, entry) in &self.layer.denied_calls {
            if !self.layer.calls.contains_key(call) {
                let text =
                    format!("denying the system call {call} changes nothing: nobody allows it");
                warnings.push(warning(&entry.origin, text));
            }
        }
        if self.layer.read.is_empty() && self.layer.write.is_empty() {
            let text = "no rule allows anything below a central path: a job sees none of its files"
                .to_owned();
            warnings.push(warning(&self.origin, text));
        }
        if let Some(entry) = self.layer.deny.get("**") {
            let text = "denying \"**\" denies every central path altogether".to_owned();
            warnings.push(warning(&entry.origin, text));
        }
        warnings
    }
}

fn warning(origin: &Origin, text: String) -> Warning {
    Warning {
        origin: origin.clone(),
        text,
    }
}
