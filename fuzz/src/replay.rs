//! The corpus, replayed: what was found once is never found again, and no parser is starved.

use std::{collections::BTreeSet, fs, panic::catch_unwind, path::PathBuf};

use crate::{jobs, logs, sealed, seeds, signed, talk};

pub(crate) type Check = fn(&[u8]) -> bool;

pub(crate) const TARGETS: [(&str, Check, u8); 5] = [
    ("sealed", sealed::check, sealed::CHOICES),
    ("signed", signed::check, signed::CHOICES),
    ("logs", logs::check, logs::CHOICES),
    ("jobs", jobs::check, jobs::CHOICES),
    ("talk", talk::check, talk::CHOICES),
];

/// Parsers of what nobody made: they take nothing.
const REFUSES_ALL: [(&str, u8); 2] = [("sealed", 8), ("signed", 6)];

pub(crate) fn corpus(target: &str) -> PathBuf {
    seeds::root().join("fuzz/corpus").join(target)
}

#[test]
fn nothing_in_the_corpus_breaks_a_parser() {
    let _alone = crate::bounded::alone();
    for (target, check, choices) in TARGETS {
        let mut taken = BTreeSet::new();
        let mut tried = 0;
        for file in fs::read_dir(corpus(target)).expect("a corpus") {
            let path = file.expect("a file").path();
            let bytes = fs::read(&path).expect("a file");
            let held = catch_unwind(|| check(&bytes));
            match held {
                Ok(true) => taken.extend(bytes.first().map(|choice| choice % choices)),
                Ok(false) => {}
                Err(_) => panic!("{} breaks it", path.display()),
            }
            tried += 1;
        }
        assert!(tried >= usize::from(choices), "{target}: {tried} files");
        let hungry: Vec<u8> = (0..choices)
            .filter(|choice| !taken.contains(choice) && !REFUSES_ALL.contains(&(target, *choice)))
            .collect();
        assert!(
            hungry.is_empty(),
            "{target}: nothing valid for parsers {hungry:?}"
        );
    }
}

/// To write what is missing: `SAFELIGHT_GOLDEN=new cargo test --test parsers`, which replaces nothing.
#[test]
fn the_corpus_begins_with_what_our_own_code_writes() {
    let _alone = crate::bounded::alone();
    for seed in seeds::all() {
        let path = corpus(seed.target).join(&seed.name);
        if std::env::var_os("SAFELIGHT_GOLDEN").is_some_and(|it| it == "new") && !path.exists() {
            fs::create_dir_all(corpus(seed.target)).expect("a directory");
            fs::write(&path, &seed.bytes).expect("a file");
        }
        let kept = fs::read(&path).expect("a seed of the corpus");
        assert!(kept == seed.bytes, "{} has other bytes", path.display());
    }
}
