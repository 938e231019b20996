//! A project that is handed in again: what the other site holds does not travel twice, and what changed does.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    bundles::shell,
    carriage::Act,
    sites::{Farm, farm_requires},
};

/// Says the length of the project's file, and its first word.
const LOOK: &str = "(wc -c < $1/words.txt; head -c 5 $1/words.txt) > $1/out/$0.txt";

/// Far more than a letter, a manifest or a result has.
const LARGE: usize = 3 << 20;

#[test]
fn what_the_other_site_holds_does_not_travel_again() {
    if !farm_requires(&[]) {
        return;
    }
    let farm = Farm::at_work();
    shell(&farm.home, "show", 1, LOOK, "");
    let carried = Arc::new(Mutex::new(0));
    let counts = Arc::clone(&carried);
    farm.carriage.rule(move |parcel| {
        if parcel.to_north && !parcel.is_letter() {
            *counts.lock().unwrap_or_else(PoisonError::into_inner) += parcel.bytes.len();
        }
        Act::Carry
    });
    let taken = || std::mem::take(&mut *carried.lock().unwrap_or_else(PoisonError::into_inner));
    let rendered = |words: &str| {
        farm.home.write("show/words.txt", words);
        let _ = std::fs::remove_file(farm.home.seen("show/out/1.txt"));
        let job = farm.submit("show", "north");
        farm.delivered(&job);
        (farm.home.read("show/out/1.txt"), taken())
    };
    let first = format!("first{}", "a".repeat(LARGE));
    let said = format!("{}\nfirst", LARGE + 5);
    let (saw, bytes) = rendered(&first);
    assert_eq!(saw, said);
    assert!(bytes > LARGE, "{bytes} bytes went the first time");
    let (saw, bytes) = rendered(&first);
    assert_eq!(saw, said);
    assert!(bytes < LARGE / 2, "{bytes} bytes went again");
    let (saw, bytes) = rendered(&first.replace("first", "other"));
    assert_eq!(saw, said.replace("first", "other"));
    assert!(bytes > LARGE, "{bytes} bytes went of what was changed");
}
