//! What a view at home shows: the inputs, and over them the results that are meant.

use std::sync::Arc;

use safelight_policies::{
    grant::{CentralGrant, CentralRule, CentralRules},
    id::JobId,
};
use safelight_seal::manifest::{Entries, Entry, EntryKind, Manifest};
use safelight_vfs::{
    content::Store,
    server::sealed_log::SealedLog,
    view::{Setup, View},
};

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::Left,
    opened::OpenedJob,
    process,
};

/// The layers of what is shown, lowest first, and the grant that a person at home has: everything may be read, and written if that is
/// thrown away.
pub(crate) struct Layers {
    pub(super) central: CentralGrant,
    pub(super) entries: Vec<Vec<Entry>>,
}

/// The inputs, and over them what was written, in order.
pub(super) fn layers(
    opened: &OpenedJob,
    written: &[Left],
    writable: bool,
) -> Result<Layers, Failure> {
    let mut manifests = vec![opened.inputs()?];
    for left in written {
        manifests.push(opened.results(left)?);
    }
    Layers::of(opened.job(), manifests, writable)
}

impl Layers {
    /// The layers of these manifests, lowest first.
    pub(crate) fn of(
        job: JobId,
        manifests: Vec<Manifest>,
        writable: bool,
    ) -> Result<Self, Failure> {
        merged(job, manifests, writable)
    }

    /// What they show together, to a person who is this user and group.
    pub(crate) fn view(
        &self,
        store: Arc<Store>,
        log: Arc<SealedLog>,
        owner: (u32, u32),
    ) -> Result<View, Failure> {
        let entries = self.entries.iter().map(|layer| Entries::of(layer));
        let entries = entries.collect::<Result<_, _>>().or_fail(Kind::Internal)?;
        let judge = safelight_policies::central::Judge::for_grant(&self.central);
        let setup = Setup {
            central: self.central.path.clone(),
            judge: judge.or_fail(Kind::Internal)?,
            writable: self.central.write,
            owner,
            clock: process::now,
        };
        View::of_layers(setup, entries, store, log).map_err(|errno| {
            Failure::new(Kind::Internal, format!("the layers do not merge: {errno}"))
        })
    }
}

fn merged(job: JobId, manifests: Vec<Manifest>, writable: bool) -> Result<Layers, Failure> {
    let Some(first) = manifests[0].trees.first() else {
        return Err(Failure::new(
            Kind::User,
            format!("{job} had no central path: there is nothing to look at"),
        ));
    };
    let rule = CentralRule {
        glob: "**".to_owned(),
        origin: "at home".to_owned(),
    };
    let rules = CentralRules {
        write: if writable {
            vec![rule.clone()]
        } else {
            Vec::new()
        },
        read: vec![rule],
        deny: Vec::new(),
    };
    let central = CentralGrant {
        path: first.path.clone(),
        write: writable,
        rules,
    };
    let single = manifests[0].trees.len() == 1;
    let entries = manifests
        .into_iter()
        .filter_map(|mut manifest| match single {
            true => manifest.trees.pop().map(|tree| tree.entries),
            false => Some(together(manifest)),
        })
        .collect();
    Ok(Layers { central, entries })
}

/// All trees of a manifest as one, below their central paths.
fn together(manifest: Manifest) -> Vec<Entry> {
    let trees = manifest.trees.into_iter();
    let mut entries: Vec<Entry> = trees
        .flat_map(|tree| below(tree.path.as_str(), tree.entries))
        .chain([directory(Vec::new())])
        .collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    // What is above several of them is there once.
    entries.dedup_by(|a, b| a.path == b.path);
    entries
}

fn directory(path: Vec<u8>) -> Entry {
    Entry {
        path,
        kind: EntryKind::Directory { opaque: false },
        mode: 0o755,
        mtime_ns: 0,
        xattrs: Vec::new(),
    }
}

/// A tree moved below its own central path, with the directories above it.
fn below(central: &str, entries: Vec<Entry>) -> Vec<Entry> {
    let central = central.trim_start_matches('/').as_bytes();
    let above = central
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(slash, _)| central[..slash].to_vec());
    let mut moved: Vec<Entry> = above.map(directory).collect();
    let place = |path: &[u8]| {
        if path.is_empty() {
            central.to_vec()
        } else {
            [central, path].join(&b'/')
        }
    };
    moved.extend(entries.into_iter().map(|mut entry| {
        entry.path = place(&entry.path);
        if let EntryKind::Link { to } = &mut entry.kind {
            *to = place(to);
        }
        entry
    }));
    moved
}

#[cfg(test)]
mod tests {
    use safelight_seal::manifest::{Kind as ManifestKind, Tree};

    use super::*;

    const JOB: JobId = JobId::from_random([1; 10]);

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry {
            path: path.as_bytes().to_vec(),
            kind,
            mode: 0o644,
            mtime_ns: 0,
            xattrs: Vec::new(),
        }
    }

    /// A manifest of trees with files right in their roots.
    fn manifest(trees: &[(&str, &[&str])]) -> Manifest {
        let file = |path: &&str| {
            let segments = Vec::new();
            entry(path, EntryKind::File { len: 0, segments })
        };
        let tree = |(central, paths): &(&str, &[&str])| Tree {
            path: central.parse().unwrap(),
            entries: [directory(Vec::new())]
                .into_iter()
                .chain(paths.iter().map(file))
                .collect(),
        };
        Manifest {
            job: JOB,
            kind: ManifestKind::Inputs,
            trees: trees.iter().map(tree).collect(),
        }
    }

    fn paths(layers: &Layers) -> Vec<Vec<String>> {
        let path = |entry: &Entry| String::from_utf8(entry.path.clone()).unwrap();
        let layer = |entries: &Vec<Entry>| entries.iter().map(path).collect();
        layers.entries.iter().map(layer).collect()
    }

    #[test]
    fn one_tree_is_shown_itself_and_several_below_their_paths() {
        let one = [
            manifest(&[("/mnt/c", &["in"])]),
            manifest(&[("/mnt/c", &["0001"])]),
            manifest(&[]),
        ];
        let layers = merged(JOB, one.to_vec(), false).unwrap();
        assert_eq!(paths(&layers), [vec!["", "in"], vec!["", "0001"]]);
        let two = [
            manifest(&[("/mnt/c", &["in"]), ("/out", &[])]),
            manifest(&[("/out", &["0001"])]),
        ];
        let layers = merged(JOB, two.to_vec(), false).unwrap();
        assert_eq!(
            paths(&layers),
            [
                vec!["", "mnt", "mnt/c", "mnt/c/in", "out"],
                vec!["", "out", "out/0001"]
            ]
        );
        for layer in &layers.entries {
            assert!(Entries::of(layer).is_ok());
        }
        assert!(merged(JOB, vec![manifest(&[])], false).is_err());
    }

    #[test]
    fn ten_thousand_results_are_as_many_layers() {
        let all: Vec<Manifest> = (0..=10_000)
            .map(|number| manifest(&[("/mnt/c", &[&format!("{number:05}")])]))
            .collect();
        let layers = merged(JOB, all, false).unwrap();
        assert_eq!(layers.entries.len(), 10_001);
        assert_eq!(layers.entries[10_000][1].path, b"10000");
    }
}
