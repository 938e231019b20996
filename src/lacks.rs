//! By which lines of its output it is known what a program lacked when it failed: those that ship, and a node's own before them.
//!
//! A line proves nothing, since a job may print what it likes; it decides how a failure is called and where the task is tried again, within the
//! bounds that hold for every task.

use std::sync::Arc;

use safelight_policies::cause::Lack;
use safelight_vfs::heard::Heard;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Kind, OrFail};

/// What renderers and the libraries below them write, from their documentation and their source.
const SHIPPED: [(Lack, &str); 7] = [
    // Houdini, and what most licence clients write in other words.
    (
        Lack::Licence,
        "(?i)no licen[cs]es? (could be found|available)",
    ),
    (
        Lack::Licence,
        "(?i)(could not|cannot|failed to|unable to) (obtain|acquire|check ?out|get) (an? )?([a-z]+ )?licen[cs]e",
    ),
    // Cycles and CUDA.
    (
        Lack::GraphicsMemory,
        "(?i)out of gpu memory|cuda.{0,80}out of memory",
    ),
    (
        Lack::Graphics,
        "(?i)no compatible gpus? found|no cuda-capable device",
    ),
    // Python, C++, and the C library.
    (
        Lack::Memory,
        "^MemoryError|std::bad_alloc|Cannot allocate memory",
    ),
    (Lack::Disk, "No space left on device"),
    (Lack::PlugIn, "^ModuleNotFoundError: "),
];

/// One of a node's own, as `node.toml` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Own {
    /// What is lacked.
    what: Lack,
    /// An expression that is found in such a line.
    says: String,
}

/// What every view server of a host listens for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lacks(Arc<[(Lack, String)]>);

impl Lacks {
    /// Those that ship.
    pub(crate) fn shipped() -> Self {
        let shipped = SHIPPED
            .iter()
            .map(|(what, says)| (*what, (*says).to_owned()));
        Self(shipped.collect())
    }

    /// A node's own before those that ship.
    pub(crate) fn with(own: &[Own]) -> Result<Self, Failure> {
        let own = own.iter().map(|it| (it.what, it.says.clone()));
        let all: Vec<_> = own.chain(Self::shipped().0.iter().cloned()).collect();
        Heard::new(&all).or_fail(Kind::Config)?;
        Ok(Self(all.into()))
    }

    /// As a view server is told.
    pub(crate) fn to_order(&self) -> Vec<(Lack, String)> {
        self.0.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ships_is_known_by_what_renderers_write() {
        let first = |line: &str| {
            let found = |says: &&str| regex::Regex::new(says).unwrap().is_match(line);
            SHIPPED.iter().find(|(_, says)| found(says)).map(|it| it.0)
        };
        for (line, expected) in [
            (
                "No licenses could be found to run this application.",
                Some(Lack::Licence),
            ),
            (
                "ERROR: Unable to checkout a RenderMan license",
                Some(Lack::Licence),
            ),
            ("Could not obtain a license", Some(Lack::Licence)),
            ("System is out of GPU memory", Some(Lack::GraphicsMemory)),
            (
                "CUDA error: Out of memory in cuMemAlloc",
                Some(Lack::GraphicsMemory),
            ),
            (
                "Error: No compatible GPUs found for Cycles",
                Some(Lack::Graphics),
            ),
            ("MemoryError", Some(Lack::Memory)),
            (
                "ModuleNotFoundError: No module named 'OpenImageIO'",
                Some(Lack::PlugIn),
            ),
            ("Fra:1 Mem:8.32M licensed to nobody", None),
        ] {
            assert_eq!(first(line), expected, "{line}");
        }
    }

    #[test]
    fn a_nodes_own_come_first_and_must_be_expressions() {
        let own = |says: &str| Own {
            what: Lack::File,
            says: says.to_owned(),
        };
        let all = Lacks::with(&[own("texture .* not found")])
            .unwrap()
            .to_order();
        assert_eq!(all[0], (Lack::File, "texture .* not found".to_owned()));
        assert_eq!(all.len(), SHIPPED.len() + 1);
        let failure = Lacks::with(&[own("(")]).unwrap_err();
        assert!(
            failure.message().contains("not valid"),
            "{}",
            failure.message()
        );
    }
}
