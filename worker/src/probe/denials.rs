//! Whether what walls refuse is heard of, wall by wall.

use std::path::Path;

use super::{Status, attempt, outcome};
use crate::kernel_log::{self, Deaf};

/// The name by which a child tries to listen to a filter.
pub(super) const LISTEN: &str = "listen";

/// What of a session's refusals gets onto its log, besides those of its view, which always do.
pub fn denials() -> [(&'static str, Status); 2] {
    let exe = Path::new("/proc/self/exe");
    let calls = match attempt(exe, LISTEN).and_then(outcome) {
        Ok(()) => Status::Active,
        Err(failed) => Status::Unavailable {
            why: format!("system calls that are refused are not recorded: {failed}"),
            remedy: "run safelight where nobody else listens to its system calls".to_owned(),
        },
    };
    let paths = kernel_log::check().map_or_else(|deaf| landlock(&deaf), |()| Status::Active);
    [("seccomp", calls), ("landlock", paths)]
}

/// What it means that Landlock's refusals are not heard.
fn landlock(deaf: &Deaf) -> Status {
    let why = format!("what Landlock refuses is not recorded: {deaf}");
    match deaf {
        Deaf::Off => Status::Disabled {
            why,
            remedy: "auditctl -e 1".to_owned(),
        },
        Deaf::NotAllowed | Deaf::NoUser => Status::Disabled {
            why,
            remedy: "run safelight as root".to_owned(),
        },
        Deaf::Old { .. } => Status::Unavailable {
            why,
            remedy: "start a newer kernel (6.15 or later)".to_owned(),
        },
        Deaf::Dark | Deaf::Broken(_) => Status::Unavailable {
            why,
            remedy: "start a kernel with audit (CONFIG_AUDIT)".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_nothing_is_heard_comes_with_how_to_hear() {
        for (deaf, word, says) in [
            (Deaf::Off, "disabled", "auditctl"),
            (Deaf::NotAllowed, "disabled", "root"),
            (Deaf::Old { abi: 6 }, "unavailable", "6.15"),
        ] {
            let status = landlock(&deaf);
            assert_eq!(status.word(), word);
            assert!(status.advice().unwrap().1.contains(says), "{status:?}");
        }
    }
}
