//! A farm as its wrangler asks of it: one licence, what runs and what failed, who used how much, and a backup while it works.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{Host, end, requires},
    node::{Farm, NEEDS},
};

/// Frames of which each needs the one licence that there is, and a step that fails.
const TEMPLATE: &str = r##"specificationVersion: jobtemplate-2023-09
name: licensed
parameterDefinitions:
  - { name: Out, type: PATH, objectType: DIRECTORY, dataFlow: OUT, default: out }
steps:
  - name: Each
    hostRequirements:
      amounts: [ { name: amount.license.ocean, min: 1 } ]
    parameterSpace:
      taskParameterDefinitions:
        - { name: N, type: INT, range: "1-4" }
    script:
      actions:
        onRun: { command: /bin/sh, args: ["-c", "sleep 2; echo {{Task.Param.N}} > {{Param.Out}}/{{Task.Param.N}}.txt"], timeout: 60 }
  - name: Fails
    dependencies: [ { dependsOn: Each } ]
    script:
      actions:
        onRun: { command: /bin/sh, args: ["-c", "exit 7"], timeout: 60 }
"##;

const SETTINGS: &str =
    "retries = 1\n[capabilities]\n\"amount.license.ocean\" = \"amount.licence.c\"\n";

/// Sets how many licences the site has.
fn licences(farm: &Farm, count: u32) {
    let path = farm.host.path("site/safelight.toml");
    let text = fs::read_to_string(&path).expect("safelight.toml");
    assert!(text.contains("[rules.pools]"), "{text}");
    let pool = format!("[rules.pools]\n\"amount.licence.c\" = {count}");
    fs::write(&path, text.replace("[rules.pools]", &pool)).expect("safelight.toml");
}

fn rows(said: &str) -> Vec<Value> {
    let row = |line| serde_json::from_str(line).expect("JSON");
    said.lines().map(row).collect()
}

/// When attempts of the first step began and ended, to the second, in order.
fn spans(farm: &Farm, job: &str) -> Vec<(String, String)> {
    let shown = rows(&farm.site(&["job", "show", job, "--tasks", "--json"])).remove(0);
    let attempts = shown["attempts"].as_array().cloned().unwrap_or_default();
    let first = attempts.iter().filter(|it| {
        it["task"]
            .as_str()
            .is_some_and(|task| task.starts_with("0/"))
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut spans: Vec<_> = first
        .map(|it| (text(&it["leased"]), text(&it["ended"])))
        .collect();
    spans.sort();
    spans
}

#[test]
#[ignore = "long: eight frames of two seconds each, to see which of them are beside each other"]
fn one_licence_is_one_frame_at_a_time_and_two_are_two() {
    if !requires(&NEEDS) {
        return;
    }
    for count in [1, 2] {
        let farm = Farm::new(1, "");
        licences(&farm, count);
        farm.host.write("job/template.yaml", TEMPLATE);
        farm.host.write("job/safelight-job.toml", SETTINGS);
        let (_site, _node) = (farm.serve_site(), farm.serve_node());
        let job = farm.submit();
        if count == 1 {
            waits_for_it(&farm, &job);
        }
        farm.comes_to(&job, "state          failed");
        let spans = spans(&farm, &job);
        assert_eq!(spans.len(), 4);
        // Times are in words that sort. Two frames of two seconds that are beside each other overlap in whole seconds.
        let beside = spans
            .windows(2)
            .filter(|pair| pair[1].0 < pair[0].1)
            .count();
        assert_eq!(beside > 0, count == 2, "{spans:?}");
        is_told(&farm, &job);
    }
}

/// While one frame runs, the next says what it waits for.
#[track_caller]
fn waits_for_it(farm: &Farm, job: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let said = "needs 1 of amount.licence.c, and 1 of 1 are in use";
    loop {
        let running = rows(&farm.site(&["job", "running", "--json"]));
        assert!(running.len() <= 1, "{running:?}");
        if farm.site(&["job", "why", job]).contains(said) {
            break;
        }
        assert!(Instant::now() < deadline, "it never waited");
        thread::sleep(Duration::from_millis(50));
    }
    let status = farm.site(&["site", "status"]);
    assert!(status.contains("1 of 1 amount.licence.c"), "{status}");
}

/// What failed, and who used the farm.
#[track_caller]
fn is_told(farm: &Farm, job: &str) {
    let failures = rows(&farm.site(&["job", "failures", job, "--json"]));
    assert_eq!(failures.len(), 1, "{failures:?}");
    let (why, attempts) = (&failures[0]["why"], &failures[0]["attempts"]);
    assert_eq!((why, attempts), (&"exited with code 7".into(), &2.into()));
    let usage = rows(&farm.site(&["site", "usage", "--json"]));
    assert_eq!(
        (usage.len(), &usage[0]["tasks"]),
        (1, &4.into()),
        "{usage:?}"
    );
    let seconds = usage[0]["seconds"].as_u64().unwrap_or_default();
    assert!(seconds >= 8, "four frames of two seconds: {usage:?}");
}

/// A client's own site with a job in its queue, on which nothing runs.
fn site_with_a_job() -> Host {
    let host = Host::new();
    let init = ["site", "init", "--name", "film", "--role", "local"];
    end(host.safelight().args(init)).ok();
    submit(&host);
    host
}

fn submit(host: &Host) {
    host.write("job/template.yaml", TEMPLATE);
    host.write("job/safelight-job.toml", SETTINGS);
    host.dir("job/out");
    let job = host.path("job").display().to_string();
    end(host
        .safelight()
        .args(["submit", &job, "--policy", "generic", "--quiet"]))
    .ok();
}

fn jobs(host: &Host, state: &str) -> usize {
    let state = host.path(state).display().to_string();
    let list = ["job", "list", "--json", "--state", &state];
    end(host.safelight().args(list)).ok().out.lines().count()
}

#[test]
fn a_backup_is_restored_into_an_empty_state_and_nowhere_else() {
    let host = site_with_a_job();
    let at = |name: &str| host.path(name).display().to_string();
    let backup = at("backup");
    fs::create_dir_all(host.path("state/warden/prekeys")).expect("prekeys");
    host.write("state/warden/prekeys/one", "a key that is erased later");
    end(host.safelight().args(["site", "backup", &backup])).ok();
    let mode = host
        .path("backup")
        .metadata()
        .expect("backup")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(!host.path("backup/warden/prekeys/one").exists());
    let again = end(host.safelight().args(["site", "backup", &backup])).failed(2);
    assert!(again.err.contains("is there already"), "{again:?}");
    let inside = end(host
        .safelight()
        .args(["site", "backup", &at("state/backup")]))
    .failed(2);
    assert!(
        inside.err.contains("lies in the state itself"),
        "{inside:?}"
    );

    submit(&host);
    let restore = |from: &str, to: &str| {
        let (from, to) = (at(from), at(to));
        end(host
            .safelight()
            .args(["site", "restore", &from, "--state", &to]))
    };
    let full = restore("backup", "state").failed(2);
    assert!(full.err.contains("an empty state directory"), "{full:?}");
    restore("backup", "second").ok();
    assert_eq!((jobs(&host, "state"), jobs(&host, "second")), (2, 1));
    let key = |state: &str| fs::read(host.path(state).join("client/identity.key")).expect("key");
    assert_eq!(key("state"), key("second"));
    let mode = |state: &str| {
        let ledger = host.path(state).join("ledger.sqlite");
        ledger.metadata().expect("ledger").permissions().mode()
    };
    assert_eq!(mode("state"), mode("second"));

    // With the prekeys, when somebody wants them.
    end(host
        .safelight()
        .args(["site", "backup", &at("all"), "--with-prekeys"]))
    .ok();
    assert!(host.path("all/warden/prekeys/one").exists());

    // One file less, and it is not the backup that was made; without its last file it is none.
    fs::remove_file(host.path("backup/card.toml")).expect("a file of it");
    let less = restore("backup", "third").failed(3);
    assert!(less.err.contains("when it was made"), "{less:?}");
    fs::remove_file(host.path("backup/safelight-backup.json")).expect("its last file");
    let cut = restore("backup", "fourth").failed(2);
    assert!(
        cut.err.contains("is no backup, or one that was cut off"),
        "{cut:?}"
    );
}

#[test]
fn a_farm_on_which_nothing_runs_says_so() {
    let host = site_with_a_job();
    let table: [(&[&str], &str); 5] = [
        (&["job", "running"], "nothing runs"),
        (&["job", "running", "--stuck"], "nothing takes too long"),
        (&["job", "failures"], "nothing failed"),
        (&["job", "left"], "nothing is left to render here"),
        (&["site", "usage"], "nobody used a slot"),
    ];
    for (words, said) in table {
        let text = end(host.safelight().args(words)).ok();
        assert!(text.err.contains(said) && text.out.is_empty(), "{text:?}");
        let json = end(host.safelight().args([words, &["--json"]].concat())).ok();
        assert_eq!(
            (json.out.as_str(), json.err.as_str()),
            ("", ""),
            "{words:?}"
        );
    }
    // A pool has a name that no slot's own amount has.
    let path = host.path("state/safelight.toml");
    let config = fs::read_to_string(&path).expect("safelight.toml");
    let wrong = config.replace("[rules.pools]", "[rules.pools]\n\"amount.worker.vcpu\" = 4");
    assert_ne!(config, wrong);
    fs::write(&path, wrong).expect("safelight.toml");
    let refused = end(host.safelight().args(["job", "left"])).failed(3);
    assert!(
        refused.err.contains("is no amount of the whole site"),
        "{refused:?}"
    );
}

#[test]
fn a_job_is_put_before_another() {
    let host = site_with_a_job();
    submit(&host);
    let order = || {
        let said = end(host.safelight().args(["queue", "list", "new", "--json"])).ok();
        let job = |row: Value| row["job"].as_str().unwrap_or_default().to_owned();
        rows(&said.out).into_iter().map(job).collect::<Vec<_>>()
    };
    let before = order();
    let [first, second] = &before[..] else {
        panic!("two jobs: {before:?}")
    };
    let moved = end(host
        .safelight()
        .args(["queue", "move", second, "--before", first]))
    .ok();
    assert!(
        moved.err.contains("is at place 1 of the new queue"),
        "{moved:?}"
    );
    assert_eq!(order(), [second.clone(), first.clone()]);
    end(host.safelight().args(["queue", "move", second, "--last"])).ok();
    assert_eq!(order(), before);
    let nowhere = end(host.safelight().args(["queue", "move", second])).failed(2);
    assert!(nowhere.err.contains("--first"), "{nowhere:?}");
}

#[test]
fn what_a_site_puts_around_its_jobs_is_read_when_one_is_handed_in() {
    let host = site_with_a_job();
    let job = host.path("job").display().to_string();
    let hand_in = || {
        end(host
            .safelight()
            .args(["submit", &job, "--policy", "generic", "--quiet"]))
    };
    let environment = |action: &str| {
        let text = format!(
            "specificationVersion: environment-2023-09\nenvironment:\n  name: Seat\n  script:\n    actions: {action}\n"
        );
        host.write("state/environments/10-seat.yaml", text);
    };
    environment("{ onEnter: { command: seat-take } }");
    hand_in().ok();
    environment("{ onEnter: 7 }");
    let wrong = hand_in().failed(2);
    assert!(wrong.err.contains("environment 10-seat.yaml"), "{wrong:?}");
    environment("{ onEnter: { command: seat-take } }");
    host.write("state/environments/notes.txt", "nothing");
    let other = hand_in().failed(3);
    assert!(
        other.err.contains("notes.txt is no environment template"),
        "{other:?}"
    );
}
