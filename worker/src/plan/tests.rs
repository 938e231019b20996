use std::collections::BTreeMap;

use proptest::prelude::*;
use safelight_policies::{
    Catalogue, Request,
    grant::{CentralGrant, CentralRules, Missing, OnDeny, Rights, RootPath, Seccomp, TmpDir},
    id::{PolicyDigest, PolicyName},
    path::CentralPath,
};

use super::*;
use crate::facts::Kind;

const ROOT: Identity = Identity::Root {
    uid: 64_000,
    gid: 64_000,
};

/// A merged-usr host with a recent kernel, whatever host the test runs on.
fn host() -> HostFacts {
    let link = |target: &str| Kind::Symlink(target.to_owned());
    let paths = [
        ("/usr", Kind::Directory),
        ("/bin", link("usr/bin")),
        ("/sbin", link("usr/sbin")),
        ("/lib", link("usr/lib")),
        ("/lib64", link("usr/lib64")),
        ("/etc/ld.so.cache", Kind::File),
        ("/dev/null", Kind::File),
        ("/dev/urandom", Kind::File),
    ];
    HostFacts {
        landlock_abi: 7,
        paths: paths
            .into_iter()
            .map(|(path, kind)| (path.to_owned(), kind))
            .collect(),
    }
}

fn root(at: &str, rights: Rights, missing: Missing) -> RootPath {
    RootPath {
        at: at.to_owned(),
        rights,
        missing,
        reason: "a test".to_owned(),
        origin: "trial.toml:3".to_owned(),
    }
}

fn tmp(at: &str) -> TmpDir {
    TmpDir {
        at: at.to_owned(),
        bytes: 1 << 20,
        inodes: 100,
        exec: false,
    }
}

fn central(at: &str) -> CentralGrant {
    CentralGrant {
        path: CentralPath::new(at).unwrap(),
        write: true,
        rules: CentralRules {
            read: Vec::new(),
            write: Vec::new(),
            deny: Vec::new(),
        },
    }
}

fn terms() -> Terms {
    Terms {
        policy: PolicyName::new("trial").unwrap(),
        digest: PolicyDigest([7; 32]),
        root: vec![
            root("/usr", Rights::ReadExecute, Missing::Error),
            root("/bin", Rights::ReadExecute, Missing::Skip),
            root("/etc/ld.so.cache", Rights::Read, Missing::Skip),
            root("/etc/absent", Rights::Read, Missing::Skip),
        ],
        tmp: vec![tmp("/tmp"), tmp("/dev/shm")],
        devices: vec!["null".to_owned(), "urandom".to_owned()],
        env: BTreeMap::new(),
        env_pass: Vec::new(),
        reach: Vec::new(),
        seccomp: Seccomp {
            allow: [
                "read", "write", "openat", "close", "execve", "clone", "ioctl", "socket",
            ]
            .map(str::to_owned)
            .to_vec(),
            on_deny: OnDeny::Errno,
        },
        limits: Limits {
            memory: 1 << 30,
            pids: 64,
            wall: 60,
            term_grace: 5,
            output: 1 << 16,
            files: 64,
            quota: 1 << 20,
            entries: 1000,
            records: 1 << 20,
            io: None,
        },
        features: BTreeMap::new(),
        landlock_min_abi: 2,
        central: vec![central("/projects"), central("/mnt/central")],
    }
}

fn plan(terms: &Terms) -> Result<Plan, Error> {
    Plan::from_terms(terms, &host(), ROOT)
}

#[test]
fn a_plan_reads_step_by_step() {
    insta::assert_snapshot!(plan(&terms()).unwrap());
}

#[test]
fn every_shipped_policy_makes_a_plan_for_this_host_that_fits_a_message() {
    let catalogue = Catalogue::shipped().unwrap();
    let names: Vec<_> = catalogue.list().map(|(name, _)| name.clone()).collect();
    assert!(names.len() >= 3);
    for name in names {
        let grant = catalogue
            .resolve(&name)
            .unwrap()
            .admit(&Request::default())
            .unwrap();
        let facts = HostFacts::read(grant.terms()).unwrap();
        match Plan::new(grant, &facts, ROOT) {
            Ok(plan) => assert!(
                postcard::to_stdvec(&plan).unwrap().len() < safelight_channel::MESSAGE_MAX / 2
            ),
            // A renderer that is not installed here.
            Err(Error::Missing { .. }) => assert!(!["base", "generic"].contains(&name.as_str())),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[test]
fn views_keep_the_order_of_the_grant() {
    assert_eq!(
        plan(&terms()).unwrap().views().collect::<Vec<_>>(),
        ["/projects", "/mnt/central"]
    );
}

#[test]
fn no_session_runs_as_root_or_as_no_user() {
    for id in [0, 0xffff, u32::MAX] {
        for identity in [
            Identity::Root {
                uid: id,
                gid: 64_000,
            },
            Identity::Root {
                uid: 64_000,
                gid: id,
            },
            Identity::Rootless { uid: id, gid: 1000 },
        ] {
            let made = Plan::from_terms(&terms(), &host(), identity);
            assert!(matches!(made, Err(Error::Identity { .. })), "{identity:?}");
        }
    }
}

#[test]
fn what_cannot_be_planned_is_refused_with_its_name() {
    type Change = fn(&mut Terms);
    let rows: [(Change, &str); 12] = [
        (
            |t| t.root.push(root("/gone", Rights::Read, Missing::Error)),
            "/gone does not exist on this host, and the policy needs it (trial.toml:3)",
        ),
        (
            |t| t.root.push(root("/tmp", Rights::Read, Missing::Skip)),
            "no error: what is missing claims nothing",
        ),
        (
            |t| t.tmp.push(tmp("/usr")),
            "/usr is claimed twice: as a private directory and as a host path",
        ),
        (
            |t| t.tmp.push(tmp("/mnt/central/deep")),
            "/mnt/central/deep is claimed twice: as a part of a view and as a private directory",
        ),
        (
            |t| t.tmp.push(tmp("/proc")),
            "/proc is claimed twice: as the process table and as a private directory",
        ),
        (
            |t| t.tmp.push(tmp("/etc/passwd")),
            "/etc/passwd is claimed twice: as a private directory and as a made-up file",
        ),
        (
            |t| t.tmp.push(tmp("/a/../b")),
            "\"/a/../b\" cannot be a path of the session: it is not absolute and normal",
        ),
        (
            |t| t.devices.push("sda".into()),
            "/dev/sda is not one of the devices that a session can have",
        ),
        (
            |t| t.devices.push("../etc/shadow".into()),
            "/dev/../etc/shadow is not one of the devices that a session can have",
        ),
        (
            |t| t.seccomp.allow.push("unshare".into()),
            "the system call unshare can never be granted to a session",
        ),
        (
            |t| t.seccomp.allow.push("opne".into()),
            "\"opne\" is not a system call",
        ),
        (
            |t| t.central = (0..17).map(|n| central(&format!("/c{n}"))).collect(),
            "17 central paths are more than the 16 that a session can have",
        ),
    ];
    for (change, says) in rows {
        let mut terms = terms();
        change(&mut terms);
        let said = match plan(&terms) {
            Ok(_) => "no error: what is missing claims nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(said, says);
    }
}

#[test]
fn a_required_landlock_that_is_too_old_stops_the_plan_and_best_effort_says_so() {
    let mut terms = terms();
    let old = |abi| HostFacts {
        landlock_abi: abi,
        ..host()
    };
    for abi in [0, 1] {
        let made = Plan::from_terms(&terms, &old(abi), ROOT);
        assert!(matches!(
            made,
            Err(Error::Unenforceable(Unenforceable {
                feature: Feature::Landlock,
                ..
            }))
        ));
    }
    assert_eq!(
        Plan::from_terms(&terms, &old(2), ROOT)
            .unwrap()
            .landlock
            .unwrap()
            .abi,
        2
    );
    terms
        .features
        .insert(Feature::Landlock, Requirement::BestEffort);
    let made = Plan::from_terms(&terms, &old(0), ROOT).unwrap();
    assert_eq!(made.landlock, None);
    assert!(made.notes().iter().any(|note| note.contains("no Landlock")));
    terms.features.insert(Feature::Landlock, Requirement::Off);
    assert_eq!(plan(&terms).unwrap().landlock, None);
}

#[test]
fn the_walls_that_a_view_leans_on_cannot_be_off() {
    for feature in [Feature::UserNamespace, Feature::Namespaces, Feature::Fuse] {
        let mut terms = terms();
        terms.features.insert(feature, Requirement::Off);
        assert!(
            matches!(plan(&terms), Err(Error::AlwaysNeeded { feature: named }) if named == feature)
        );
    }
}

#[test]
fn what_a_policy_does_not_mention_is_required() {
    let plan = plan(&terms()).unwrap();
    assert!(Feature::ALL.into_iter().all(|feature| plan.has(feature)));
    assert!(plan.network_namespace && plan.filters.is_some() && plan.landlock.is_some());
}

proptest! {
    /// Whatever paths a policy names, a plan has each path once, parents first, and nothing below a view.
    #[test]
    fn a_plan_is_a_tree(paths in proptest::collection::vec("(/[ab]){1,4}", 0..8), views in proptest::collection::vec("(/[cab]){1,3}", 0..3)) {
        let mut terms = terms();
        terms.tmp = paths.iter().map(|path| tmp(path)).collect();
        terms.central = views.iter().map(|view| central(view)).collect();
        if let Ok(plan) = plan(&terms) {
            let at: Vec<_> = plan.mounts.iter().map(|mount| mount.at().to_owned()).collect();
            for (index, path) in at.iter().enumerate() {
                for later in &at[index + 1..] {
                    prop_assert_ne!(path, later);
                    let view = views.contains(later);
                    prop_assert!(view || !path.starts_with(&format!("{later}/")), "{} before {}", path, later);
                }
                for view in &views {
                    let below = format!("{view}/");
                    prop_assert!(!path.starts_with(&below));
                }
            }
        }
    }

    /// A plan survives the way to the launcher.
    #[test]
    fn a_plan_arrives_as_it_was_sent(abi in 2u32..=7) {
        let facts = HostFacts { landlock_abi: abi, ..host() };
        let plan = Plan::from_terms(&terms(), &facts, ROOT).unwrap();
        let bytes = postcard::to_stdvec(&plan).unwrap();
        prop_assert_eq!(postcard::from_bytes::<Plan>(&bytes).unwrap(), plan);
    }
}
