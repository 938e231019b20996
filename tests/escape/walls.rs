//! Every row of the table: in the open, in a session, and behind each wall alone.

use std::collections::BTreeSet;

use crate::{
    ground::{Ground, NEEDS, attempts, in_roots_session},
    harness::{SAFELIGHT, requires},
    kernel::{lacking, landlock_abi, left_out},
    table::{Place, Said, compare, compare_landlock, landlock_since, rows},
};

#[test]
fn each_row_has_an_attempt_and_each_attempt_a_row() {
    if !requires(&["python3"]) {
        return;
    }
    let rows: BTreeSet<String> = rows().into_keys().collect();
    let attempts: BTreeSet<String> = attempts().into_iter().map(|(name, _)| name).collect();
    let differ: Vec<_> = rows.symmetric_difference(&attempts).collect();
    assert!(differ.is_empty(), "in one of the two only: {differ:?}");
    assert!(rows.len() >= 100, "{} rows", rows.len());
}

/// An act that would fail anyway proves nothing.
#[test]
fn in_the_open_everything_is_done() {
    if !requires(NEEDS) {
        return;
    }
    let said = Ground::of_root().in_the_open(&[]);
    let mut not: Said = said
        .into_iter()
        .filter(|(_, said)| said != "done")
        .collect();
    // What this kernel is too old for it says itself, and it is named.
    for (act, why) in lacking() {
        assert_eq!(not.remove(act).as_deref(), Some("ENOSYS"), "{act}");
        left_out(act, &why);
    }
    assert_eq!(not, Said::new());
}

#[test]
fn in_a_session_nothing_is_done() {
    if !requires(NEEDS) {
        return;
    }
    compare(Place::Session, in_roots_session());
}

#[test]
fn in_a_session_of_an_ordinary_user_nothing_is_done() {
    if !requires(NEEDS) {
        return;
    }
    let ground = Ground::of_a_person();
    let open = ground.in_the_open(&[]);
    let inside = ground.in_a_session("");
    compare(Place::Session, &inside);
    // What an ordinary user cannot do anyway, root's session has shown; most of it this user can.
    let done = open.values().filter(|said| *said == "done").count();
    assert!(
        done >= 100,
        "in the open an ordinary user does {done}: {open:#?}"
    );
}

#[test]
fn what_the_namespaces_refuse_alone() {
    if !requires(NEEDS) {
        return;
    }
    let off = "[features]\nlandlock = \"off\"\nseccomp = \"off\"";
    compare(Place::Namespaces, &Ground::of_root().in_a_session(off));
}

fn behind(place: Place, wall: &str) {
    if !requires(NEEDS) {
        return;
    }
    compare(place, &alone(&[wall]));
}

/// What is refused by one wall, with nothing else around it.
fn alone(wall: &[&str]) -> Said {
    let ground = Ground::of_root();
    let scratch = ground.path("scratch").display().to_string();
    let before = [&[SAFELIGHT, "__behind", "--scratch", &scratch][..], wall].concat();
    ground.in_the_open(&before)
}

#[test]
fn what_landlock_refuses_alone() {
    if !requires(NEEDS) {
        return;
    }
    // What came with a newer one is a wall that is not there: it must let through.
    let abi = landlock_abi();
    compare_landlock(abi, &alone(&["landlock"]));
    let newer = landlock_since()
        .into_iter()
        .filter(|(_, since)| *since > abi);
    for (act, since) in newer {
        left_out(
            &act,
            &format!("Landlock refuses it since ABI {since}, other walls always"),
        );
    }
}

/// What stands in for the newer kinds of Landlock is tried in the kernels that lack them; here, that no more than those is lacking.
#[test]
#[ignore = "long: all acts three times"]
fn an_older_landlock_refuses_all_but_what_came_later() {
    if !requires(NEEDS) {
        return;
    }
    let newest = landlock_abi();
    for abi in [2, 3, 6].into_iter().filter(|abi| *abi < newest) {
        let older = abi.to_string();
        let said = alone(&["--landlock-abi", &older, "landlock"]);
        compare_landlock(abi, &said);
    }
}

#[test]
fn what_the_filter_refuses_alone() {
    behind(Place::Seccomp, "seccomp");
}

#[test]
fn what_a_user_of_its_own_refuses_alone() {
    behind(Place::User, "user");
}

#[test]
fn what_the_lack_of_capabilities_refuses_alone() {
    behind(Place::Capabilities, "capabilities");
}
