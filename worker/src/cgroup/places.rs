//! Where control groups are mounted and which of them are ours to divide, from what the kernel says. Pure.

use std::path::{Path, PathBuf};

/// Groups below which ours could be, best first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Candidates {
    pub(super) unified: Vec<PathBuf>,
    pub(super) memory: Vec<PathBuf>,
    pub(super) pids: Vec<PathBuf>,
    pub(super) why: Vec<String>,
}

impl Candidates {
    /// From `/proc/self/mountinfo` and `/proc/self/cgroup`.
    pub(super) fn parse(mountinfo: &str, cgroup: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else {
                continue;
            };
            let Some(at) = mount.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let mut filesystem = filesystem.split(' ');
            let (kind, options) = (filesystem.next(), filesystem.nth(1).unwrap_or_default());
            match kind {
                Some("cgroup2") => found.unified = unified(&at, cgroup),
                Some("cgroup") => {
                    for (controller, places) in
                        [("memory", &mut found.memory), ("pids", &mut found.pids)]
                    {
                        if !options.split(',').any(|option| option == controller) {
                            continue;
                        }
                        if own_path(cgroup, controller) == Some("/") {
                            places.push(at.clone());
                        } else {
                            found.why.push(format!(
                                "somebody else has put this process into a {controller} group"
                            ));
                        }
                    }
                }
                _ => {}
            }
        }
        if found.unified.is_empty() {
            found.why.push("cgroup v2 is not mounted".to_owned());
        }
        found
    }
}

/// The root of the hierarchy, where controllers can be had, then our own group, which may be delegated to us.
fn unified(at: &Path, cgroup: &str) -> Vec<PathBuf> {
    let own = own_path(cgroup, "").map(|own| at.join(own.trim_start_matches('/')));
    let mut places = vec![at.to_owned()];
    places.extend(own.filter(|own| own != at));
    places
}

/// Our path in a hierarchy; the empty controller is cgroup v2 (cgroups(7): `id:controllers:path`).
pub(super) fn own_path<'a>(cgroup: &'a str, controller: &str) -> Option<&'a str> {
    cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let controllers = fields.nth(1)?;
        let path = fields.next()?;
        controllers
            .split(',')
            .any(|one| one == controller)
            .then_some(path)
    })
}
