//! While a session goes on, the client's own site learns the state of its log, and holds the site that renders to it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use safelight_audit::{
    Register, Statement,
    note::{Role, Signer},
};

use crate::{
    bundles::{TURN, all_turned, shell},
    sites::{Farm, Site, farm_requires},
};

const DENIED: i32 = 4;

/// A few seconds of looking for what is not there, and then a frame.
const SLOW: &str = "i=0; while [ $i -lt 16 ]; do test -e $1/gone-$i; sleep 0.2; i=$((i+1)); done";

/// Has a site note the state of running logs each second.
fn often(site: &Site) {
    let config = site.read("state/safelight.toml");
    assert!(config.contains("checkpoint = 300\n"), "{config}");
    let config = config.replace("checkpoint = 300\n", "checkpoint = 1\n");
    site.write("state/safelight.toml", config);
}

/// Home's copy of the register of its client at north.
fn copy(home: &Site) -> PathBuf {
    let clients = fs::read_dir(home.seen("state/audit")).expect("audit");
    let client = clients.flatten().next().expect("a client").path();
    client.join("sites/north")
}

/// What a register says of each log that it tells of more than once, oldest first, with the numbers of the entries.
fn told_twice(register: &Path) -> Vec<(u64, Statement)> {
    let register = Register::open(register).expect("register");
    let entries = register.entries(0, register.size()).expect("entries");
    let all: Vec<_> = (0..)
        .zip(&entries)
        .map(|(number, entry)| (number, Statement::read(entry).expect("statement")))
        .collect();
    let times = |log: &[u8; 16]| all.iter().filter(|(_, it)| it.log == *log).count();
    let twice = all.iter().filter(|(_, it)| times(&it.log) > 1);
    twice.map(|(number, it)| (*number, *it)).collect()
}

/// The site's register, as it would be if this had been its entry with that number: signed with the site's own key.
fn rewritten(register: &Path, key: &Path, number: u64, entry: &Statement) {
    let seed: [u8; 32] = fs::read(key).expect("key").try_into().expect("32 bytes");
    let signer = Signer::new("safelight-site", Role::Log, &seed).expect("key");
    let old = Register::open(register).expect("register");
    let (head, _) = signer.verifier().open(old.note()).expect("signed by it");
    let mut entries = old.entries(0, old.size()).expect("entries");
    entries[number as usize] = entry.text().into_bytes();
    for name in ["tile", "checkpoint"] {
        let path = register.join(name);
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    }
    Register::append_signed(register, &head.origin, &entries, &signer).expect("register");
}

/// The log that came home begins otherwise than the log that was there while the session went on: whoever holds the site's key wrote it
/// anew in between, and it is named. The control: what was really said of it holds.
#[test]
fn a_log_that_is_rewritten_while_its_job_goes_on_is_found_at_home() {
    if !farm_requires(&[]) {
        return;
    }
    let mut farm = Farm::at_rest();
    often(&farm.north);
    farm.start();
    let drawn = shell(&farm.home, "slow", 1, &format!("{SLOW}; {TURN}"), "");
    let job = farm.submit("slow", "north");
    farm.delivered(&job);
    all_turned(&farm.home, "slow", &drawn, 1);

    let copy = copy(&farm.home);
    let twice = told_twice(&copy);
    assert!(twice.len() >= 2, "nothing was told midway: {twice:?}");
    let (number, midway) = &twice[0];
    let last = &twice[twice.len() - 1].1;
    assert!(midway.records < last.records && midway.log == last.log);
    let verify = || farm.home.ask(&["audit", "verify", &job]);
    verify().ok();

    let key = farm.north.seen("state/site/audit.key");
    let witness = farm.home.seen("state/client/witness");
    fs::remove_dir_all(&witness).expect("what the client saw");
    rewritten(&copy, &key, *number, midway);
    verify().ok();
    let another = Statement {
        root: [7; 32],
        ..*midway
    };
    rewritten(&copy, &key, *number, &another);
    let said = verify().failed(DENIED);
    let expected = format!(
        "the log was rewritten at or before record {}, after it was registered",
        midway.records
    );
    assert!(said.out.contains(&expected), "{expected}: {said:?}");
}
