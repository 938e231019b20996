//! What an earlier job looked for, by its audit: the inputs of a job that is handed in again.
//!
//! A log is what an untrusted command asked for. So nothing is taken that is not below a central path of the new job, nothing that leads out
//! of it, and only because the supplier says so; and it is told what was taken.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use safelight_policies::id::JobId;

use super::submit::Chosen;
use crate::{
    failure::Failure,
    opened::OpenedJob,
    records::{self, Logs, Paths, Span},
    run::Books,
    state::State,
    terminal::{say, shown},
};

/// How many names are said of a kind.
const SAID_MAX: usize = 10;

/// What an earlier job read, and looked for in vain.
pub(super) struct Earlier {
    job: JobId,
    paths: Vec<(PathBuf, Sought)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sought {
    Read,
    InVain,
}

/// What was taken of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    read: u64,
    /// Looked for in vain then, and there now.
    found: Vec<PathBuf>,
    /// Looked for in vain, and not there at home either, or not to be taken.
    still: Vec<PathBuf>,
}

impl Earlier {
    /// Reads the logs of a job, named as commands name it. A log that is not whole says nothing.
    pub(super) fn read(state: &State, job: &str) -> Result<Self, Failure> {
        let job = Books::open(state)?.find(job)?;
        let opened = OpenedJob::open(state, job)?;
        let mut paths = Paths::default();
        let logs = Logs::of(state, &opened)?;
        let walked = records::grouped(&logs, Span::default(), |group| {
            paths.add_group(group);
            Ok(())
        })?;
        walked.right()?;
        Ok(Self {
            job,
            paths: sought(&paths),
        })
    }

    /// Chooses it below the central paths, beside what the new job names itself, and says what.
    pub(super) fn choose(&self, chosen: &mut [Chosen], quiet: bool) {
        let taken = self.take(chosen);
        if quiet {
            return;
        }
        let job = self.job;
        say(format!(
            "as {job} was: {} files that it read, and {} that it looked for in vain and that are there now",
            taken.read,
            taken.found.len()
        ));
        name("now there", &taken.found);
        name("not at home either, or not to be taken", &taken.still);
    }

    fn take(&self, chosen: &mut [Chosen]) -> Taken {
        let mut taken = Taken::default();
        for (path, sought) in &self.paths {
            let central = chosen.iter_mut().find_map(|it| {
                let below = path.strip_prefix(it.path.as_str()).ok()?;
                Some((below.to_owned(), it))
            });
            let Some((below, chosen)) = central else {
                continue;
            };
            let took = pick(chosen, &below, *sought);
            match (sought, took) {
                (Sought::Read, Some(true)) => taken.read += 1,
                (Sought::Read, _) => {}
                (Sought::InVain, Some(_)) => taken.found.push(path.clone()),
                (Sought::InVain, None) => taken.still.push(path.clone()),
            }
        }
        taken
    }
}

/// Chooses one path; answers whether it is a file, if it could be chosen. A directory that was only listed shows what else is chosen.
fn pick(chosen: &mut Chosen, below: &Path, sought: Sought) -> Option<bool> {
    let kind = fs::metadata(chosen.host.join(below)).ok()?;
    let picked = match (kind.is_dir(), sought) {
        (true, Sought::Read) => return Some(false),
        (true, Sought::InVain) => chosen.selection.whole(below),
        (false, _) => chosen.selection.file(below),
    };
    picked.ok().map(|()| !kind.is_dir())
}

fn sought(paths: &Paths) -> Vec<(PathBuf, Sought)> {
    let named = paths.iter().filter_map(|(path, touched)| {
        let sought = if touched.is_missing() {
            Sought::InVain
        } else if touched.reads > 0 && !touched.made {
            Sought::Read
        } else {
            return None;
        };
        Some((PathBuf::from(std::ffi::OsStr::from_bytes(path)), sought))
    });
    named.collect()
}

fn name(what: &str, paths: &[PathBuf]) {
    for path in paths.iter().take(SAID_MAX) {
        say(format!("  {what}: {}", shown(path.as_os_str().as_bytes())));
    }
    if paths.len() > SAID_MAX {
        say(format!("  {what}: and {} more", paths.len() - SAID_MAX));
    }
}

#[cfg(test)]
mod tests {
    use safelight_policies::path::CentralPath;
    use safelight_vfs::pack::Selection;

    use super::*;

    #[test]
    fn what_was_sought_is_taken_below_the_central_path_only() {
        let host = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        for name in ["read", "now", "tex"] {
            match name {
                "tex" => fs::create_dir(host.path().join(name)).unwrap(),
                _ => fs::write(host.path().join(name), "x").unwrap(),
            }
        }
        fs::write(host.path().join("tex/a"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), host.path().join("out")).unwrap();
        let central = CentralPath::new("/mnt/c").unwrap();
        let mut chosen = [Chosen {
            path: central,
            host: host.path().to_owned(),
            write: false,
            selection: Selection::new(host.path()),
        }];
        let path = |name: &str| PathBuf::from("/mnt/c").join(name);
        let vain = |name| (path(name), Sought::InVain);
        let earlier = Earlier {
            job: JobId::from_random([1; 10]),
            paths: vec![
                (path("read"), Sought::Read),
                (path("gone"), Sought::Read),
                vain("now"),
                vain("tex"),
                vain("none"),
                vain("out"),
                vain("../secret"),
                (outside.path().join("secret"), Sought::InVain),
            ],
        };
        let taken = earlier.take(&mut chosen);
        let expected = Taken {
            read: 1,
            found: vec![path("now"), path("tex")],
            still: vec![path("none"), path("out"), path("../secret")],
        };
        assert_eq!(taken, expected);
    }
}
