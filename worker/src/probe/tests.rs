use safelight_policies::{Catalogue, Request, id::PolicyName};

use super::*;

fn everything() -> HostReport {
    HostReport {
        kernel: "6.18".to_owned(),
        root: true,
        landlock_abi: 7,
        features: Feature::ALL
            .into_iter()
            .map(|feature| (feature, Status::Active))
            .collect(),
        concerns: Vec::new(),
    }
}

fn lacking(features: &[Feature]) -> HostReport {
    let mut report = everything();
    for feature in features {
        report.features.insert(
            *feature,
            Status::Disabled {
                why: format!("no {feature}"),
                remedy: "switch it on".to_owned(),
            },
        );
    }
    report
}

fn generic() -> safelight_policies::Grant {
    let catalogue = Catalogue::shipped().unwrap();
    let name = PolicyName::new("generic").unwrap();
    catalogue
        .resolve(&name)
        .unwrap()
        .admit(&Request::default())
        .unwrap()
}

#[test]
fn a_host_with_everything_gives_no_warning() {
    assert_eq!(check(generic().terms(), &everything()).unwrap(), []);
}

#[test]
fn a_required_feature_that_is_missing_is_refused_by_name() {
    for feature in [
        Feature::Landlock,
        Feature::Seccomp,
        Feature::UserNamespace,
        Feature::Namespaces,
        Feature::NetworkNamespace,
        Feature::Fuse,
    ] {
        let refused = check(generic().terms(), &lacking(&[feature]));
        assert!(matches!(refused, Err(Unenforceable { feature: named, .. }) if named == feature));
    }
}

#[test]
fn best_effort_is_a_warning_for_exactly_what_is_missing() {
    let two = [Feature::CgroupKill, Feature::CgroupLimits];
    let warnings = check(generic().terms(), &lacking(&two)).unwrap();
    assert_eq!(
        warnings
            .iter()
            .map(|warning| warning.feature)
            .collect::<Vec<_>>(),
        two
    );
}

#[test]
fn what_was_not_tried_is_not_believed() {
    let mut report = everything();
    report.features.remove(&Feature::Seccomp);
    assert!(matches!(
        check(generic().terms(), &report),
        Err(Unenforceable {
            feature: Feature::Seccomp,
            ..
        })
    ));
}

#[test]
fn an_old_landlock_passes_only_if_the_policy_says_that_it_is_enough() {
    let mut report = everything();
    for (abi, enough) in [(1, false), (2, true), (6, true)] {
        report.landlock_abi = abi;
        report
            .features
            .insert(Feature::Landlock, diagnose::old_landlock(abi));
        let checked = check(generic().terms(), &report);
        assert_eq!(checked.is_ok(), enough, "ABI {abi}");
        assert!(checked.is_err() || checked.is_ok_and(|warnings| warnings.len() == 1));
    }
}

#[test]
fn each_abi_says_what_it_leaves_open() {
    let Some((why, _)) = diagnose::old_landlock(3)
        .advice()
        .map(|(why, remedy)| (why.to_owned(), remedy.to_owned()))
    else {
        panic!("an old ABI is not active");
    };
    assert!(
        why.contains("TCP") && why.contains("signals") && !why.contains("truncation"),
        "{why}"
    );
}

#[test]
fn the_cause_of_a_refusal_is_told_from_its_error_number() {
    let failed = |step: &str, path: &str, errno| Failed {
        step: step.to_owned(),
        path: path.to_owned(),
        errno,
    };
    let rows = [
        (
            Feature::Landlock,
            failed("landlock", "", libc::EOPNOTSUPP),
            "disabled",
            "lsm=landlock",
        ),
        (
            Feature::Landlock,
            failed("landlock", "", libc::ENOSYS),
            "unavailable",
            "newer kernel",
        ),
        (
            Feature::UserNamespace,
            failed("user namespace", "", libc::ENOSPC),
            "disabled",
            "user.max_user_namespaces",
        ),
        (
            Feature::Fuse,
            failed("open", "/dev/fuse", libc::ENOENT),
            "unavailable",
            "modprobe fuse",
        ),
        (
            Feature::Fuse,
            failed("open", "/dev/fuse", libc::EACCES),
            "disabled",
            "chmod 0666 /dev/fuse",
        ),
        (
            Feature::Namespaces,
            failed("process table", "/proc", libc::EPERM),
            "disabled",
            "systempaths",
        ),
        (
            Feature::Namespaces,
            failed("private mounts", "/", libc::EACCES),
            "disabled",
            "apparmor",
        ),
    ];
    for (feature, failed, word, remedy) in rows {
        let status = diagnose::refused(feature, &failed, false);
        assert_eq!(status.word(), word, "{feature} {failed}");
        assert!(status.advice().unwrap().1.contains(remedy), "{status:?}");
    }
}

#[test]
fn swap_and_what_clients_share_are_concerns_only_when_they_are_on() {
    let heading = "Filename Type Size Used Priority";
    assert_eq!(diagnose::concerns(heading, "0", "0", true), []);
    let swaps = format!("{heading}\n/dev/x partition 1 0 -2");
    let all = diagnose::concerns(&swaps, "1", "1", true);
    assert_eq!(
        all.iter()
            .map(|concern| concern.what.as_str())
            .collect::<Vec<_>>(),
        ["swap is on", "KSM is on", "two threads share a core"]
    );
    assert_eq!(diagnose::concerns("", "", "", false).len(), 1);
}
