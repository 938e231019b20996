//! The hot folders as an operator sees and handles them, and a site that comes back from a backup.

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    bundles::{TURN, all_turned, shell},
    carriage::Act,
    harness::{SAFELIGHT, below_directory, end},
    sites::{Farm, Site, farm_requires, until},
};

/// One folder, as `hotfolder status` has it.
fn folder(site: &Site, of: &str, way: &str) -> Value {
    let mut folders = site.told(&["hotfolder", "status", of]).into_iter();
    let found = folders.find(|folder| folder["way"] == way);
    found.expect("two folders for each link")
}

fn quarantine(site: &Site) -> Vec<Value> {
    site.told(&["hotfolder", "quarantine"])
}

/// The prekeys of which the warden has the private half.
fn prekeys(site: &Site) -> usize {
    let all = fs::read_dir(site.seen("state/warden/prekeys"));
    all.expect("prekeys").count()
}

#[test]
fn a_result_that_home_refused_keeps_its_key_and_goes_again_when_somebody_says_so() {
    if !farm_requires(&[]) {
        return;
    }
    let mut farm = Farm::at_rest();
    let config = farm.home.read("state/safelight.toml");
    let hasty = config.replace("patience = 3600", "patience = 1");
    assert_ne!(config, hasty);
    farm.home.write("state/safelight.toml", hasty);
    farm.start();
    // Whoever carries what comes back changes a byte of each object.
    let spoil = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&spoil);
    farm.carriage.rule(move |parcel| {
        let is_blob = parcel.name.starts_with("blobs") && !parcel.bytes.starts_with(b"SLBLOBS");
        if !still.load(Ordering::Relaxed) || parcel.to_north || !is_blob {
            return Act::Carry;
        }
        let mut bytes = parcel.bytes.clone();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        Act::Damage(bytes)
    });
    let drawn = shell(&farm.home, "show", 1, TURN, "");
    let before = prekeys(&farm.north);
    let job = farm.submit("show", "north");
    until("north has its result back", || {
        let all = quarantine(&farm.north).into_iter();
        all.filter(|it| it["way"] == "out")
            .find(|it| it["kind"] == "result")
    });
    let kept = quarantine(&farm.north);
    assert_eq!(kept.len(), 1, "{kept:#?}");
    assert_eq!(kept[0]["job"], job.as_str());
    assert!(kept[0]["code"].is_string(), "{kept:#?}");
    assert_eq!(folder(&farm.north, "home", "out")["aside"], 1);
    // At home it is set aside, with the same reason.
    let aside = quarantine(&farm.home);
    assert_eq!(
        (aside.len(), &aside[0]["code"]),
        (1, &kept[0]["code"]),
        "{aside:#?}"
    );
    assert_eq!(folder(&farm.home, "north", "in")["aside"], 1);
    // North tells its people, and does not forget how to open the job.
    until("north is troubled", || {
        let said = farm.north.told(&["site", "status"]).remove(0);
        said["troubles"]
            .to_string()
            .contains("kept back")
            .then_some(())
    });
    farm.north.until_job(&job, &["returning"]);
    let opened = prekeys(&farm.north);
    assert!(opened >= before, "the key was erased: {opened} of {before}");

    spoil.store(false, Ordering::Relaxed);
    let entry = kept[0]["entry"].as_str().expect("a name");
    let unknown = farm.north.ask(&["hotfolder", "retry", "home", "none"]);
    assert!(
        unknown
            .failed(2)
            .err
            .contains("nothing of the name none was refused")
    );
    farm.north.ask(&["hotfolder", "retry", "home", entry]).ok();
    farm.delivered(&job);
    all_turned(&farm.home, "show", &drawn, 1);
    farm.north.until_job(&job, &["delivered"]);
    assert!(quarantine(&farm.north).is_empty());
    let stem = aside[0]["entry"].as_str().expect("a name");
    farm.home
        .ask(&["hotfolder", "quarantine", "--discard", stem])
        .ok();
    assert!(quarantine(&farm.home).is_empty());
    until("nothing troubles north", || {
        let said = farm.north.told(&["site", "status"]).remove(0);
        (!said["troubles"].to_string().contains("kept back")).then_some(())
    });
}

/// Copies a state directory, or puts the copy back.
fn copy(site: &Site, from: &str, to: &str) {
    let _ = fs::remove_dir_all(site.seen(to));
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(site.seen(from)).arg(site.seen(to));
    end(&mut copy).ok();
}

/// North gave prekeys in advance long ago.
fn long_ago(north: &Site) {
    let peers = below_directory(&north.seen("state/peers")).expect("peers");
    for path in peers
        .iter()
        .filter(|path| path.extension().is_some_and(|it| it == "supplied"))
    {
        let hour = SystemTime::now() - Duration::from_secs(3_600);
        let file = fs::File::options().write(true).open(path).expect("a file");
        file.set_modified(hour).expect("an hour ago");
    }
}

#[test]
#[ignore = "long: two restores one after the other"]
fn a_site_that_was_restored_finds_out_and_goes_on() {
    if !farm_requires(&[]) {
        return;
    }
    let mut farm = Farm::at_work();
    let drawn = shell(&farm.home, "show", 1, TURN, "");
    let job = farm.submit("show", "north");
    farm.delivered(&job);
    farm.home.kill("serve");
    copy(&farm.home, "state", "backup");
    farm.home.start("serve");
    for name in ["two", "three"] {
        let drawn = shell(&farm.home, name, 1, TURN, "");
        let job = farm.submit(name, "north");
        farm.delivered(&job);
        all_turned(&farm.home, name, &drawn, 1);
    }
    farm.home.kill("serve");
    copy(&farm.home, "backup", "state");
    long_ago(&farm.north);
    farm.home.start("serve");
    all_turned(&farm.home, "show", &drawn, 1);
    // Under a number that was used, with a prekey that was used.
    let drawn = shell(&farm.home, "four", 1, TURN, "");
    let first = farm.submit("four", "north");
    until("home knows that it was restored", || {
        folder(&farm.home, "north", "in")["alarms"]
            .to_string()
            .contains("restored")
            .then_some(())
    });
    assert!(farm.home.said().contains("A new run of numbers began"));
    until("north refused a number, and nothing else", || {
        let refused = quarantine(&farm.north);
        assert!(
            refused.iter().all(|it| it["code"] == "replayed"),
            "{refused:#?}"
        );
        (!refused.is_empty()).then_some(())
    });
    // What was sealed for a prekey that was used cannot be opened there, and says so; the next job has one of its own.
    let ends = ["delivered", "failed"];
    farm.home.until_job(&first, &ends);
    let second = farm.submit("four", "north");
    farm.delivered(&second);
    all_turned(&farm.home, "four", &drawn, 1);

    // Who knows it before spares the other site the first letters.
    farm.home.kill("serve");
    copy(&farm.home, "backup", "state");
    long_ago(&farm.north);
    let said = farm.home.ask(&["site", "restored"]).ok();
    assert!(
        said.err
            .contains("letters to 1 other site go under new numbers"),
        "{said:?}"
    );
    let before = quarantine(&farm.north).len();
    farm.home.start("serve");
    let drawn = shell(&farm.home, "five", 1, TURN, "");
    let third = farm.submit("five", "north");
    farm.delivered(&third);
    all_turned(&farm.home, "five", &drawn, 1);
    assert_eq!(quarantine(&farm.north).len(), before);
    let served = farm.home.ask(&["site", "restored"]).failed(2);
    assert!(served.err.contains("is being served already"), "{served:?}");
}

#[test]
fn a_folder_that_is_gone_is_told_with_the_next_step() {
    if !farm_requires(&[]) {
        return;
    }
    let farm = Farm::at_rest();
    let folders = farm.home.told(&["hotfolder", "status"]);
    let ways: Vec<_> = folders
        .iter()
        .map(|it| (&it["way"], &it["state"]))
        .collect();
    let [out, into, ok] = ["out", "in", "ok"].map(Value::from);
    assert_eq!(ways, [(&out, &ok), (&into, &ok)]);
    assert!(
        folders
            .iter()
            .all(|it| it["room"].as_u64().is_some_and(|room| room > 0))
    );
    fs::remove_file(farm.home.seen("hot/out/safelight-hotfolder")).expect("the marker");
    fs::rename(farm.home.seen("hot/in"), farm.home.seen("hot/elsewhere")).expect("a rename");
    assert_eq!(
        folder(&farm.home, "north", "out")["state"],
        "not-a-hot-folder"
    );
    assert_eq!(folder(&farm.home, "north", "in")["state"], "gone");
    let text = farm.home.ask(&["hotfolder", "status"]).ok().out;
    assert!(
        text.contains("hint: mount it, or name the right folder"),
        "{text}"
    );
    let unknown = farm.home.ask(&["hotfolder", "status", "south"]).failed(2);
    assert!(
        unknown.err.contains("no site south is enrolled"),
        "{unknown:?}"
    );
}

/// The words are the same wherever the job was rendered, and so is the way out of it.
#[test]
fn what_a_job_looked_for_in_vain_goes_with_the_next() {
    if !farm_requires(&[]) {
        return;
    }
    let farm = Farm::at_work();
    let script = "(cat $1/brush.txt; cat $1/nowhere.txt; cat $1/words.txt) 2>/dev/null > $1/out/$0.txt; true";
    let drawn = shell(&farm.home, "show", 1, script, "");
    // It is there, and nothing in the bundle names it.
    farm.home.write("show/brush.txt", "a brush of ");
    for place in ["north", "local"] {
        let _ = fs::remove_file(farm.home.seen("show/out/1.txt"));
        let job = farm.submit("show", place);
        farm.delivered(&job);
        assert_eq!(farm.home.read("show/out/1.txt"), drawn, "at {place}");
        let missing = farm.home.ask(&["audit", "missing", &job]).ok();
        assert!(
            missing.out.contains("/brush.txt") && missing.out.contains("/nowhere.txt"),
            "{missing:?}"
        );
        let way_out = format!("safelight submit DIR --from-audit {job}");
        assert!(missing.err.contains(&way_out), "{missing:?}");

        fs::remove_file(farm.home.seen("show/out/1.txt")).expect("the poorer one");
        let mut submit = farm.home.inside(SAFELIGHT);
        submit.arg("submit").arg(farm.home.path("show"));
        let said = end(submit.args(["--where", place, "--from-audit", &job])).ok();
        assert!(
            said.err
                .contains("1 that it looked for in vain and that are there now"),
            "{said:?}"
        );
        assert!(
            said.err.contains("now there: ") && said.err.contains("not at home either"),
            "{said:?}"
        );
        let next = said.out.trim_end();
        farm.delivered(next);
        let text = farm.home.read("show/out/1.txt");
        assert_eq!(text, format!("a brush of {drawn}"), "at {place}");
        let missing = farm.home.ask(&["audit", "missing", next]).ok();
        assert!(!missing.out.contains("/brush.txt"), "{missing:?}");
    }
}
