//! Every row of the table: in the open, in a session, and behind each wall alone.

use std::collections::BTreeSet;

use crate::{
    ground::{Ground, NEEDS, attempts, in_roots_session},
    harness::{SAFELIGHT, requires},
    table::{Place, Said, compare, rows},
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
    let not: Said = said
        .into_iter()
        .filter(|(_, said)| said != "done")
        .collect();
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
    let ground = Ground::of_root();
    let scratch = ground.path("scratch").display().to_string();
    let before = [SAFELIGHT, "__behind", "--scratch", &scratch, wall];
    compare(place, &ground.in_the_open(&before));
}

#[test]
fn what_landlock_refuses_alone() {
    behind(Place::Landlock, "landlock");
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
