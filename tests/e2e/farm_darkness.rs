//! What a job is about is readable nowhere at the site that renders it: not on its disks, not in its hot folders, ledger and logs, not in
//! the memory of its processes, while the job runs and after it; outside the view server and the session.
//!
//! The same search finds the words where they may be, and finds one that is planted: it can fail.

use std::{collections::BTreeSet, fs, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    darkness::{Canaries, Finding, TURN, memory, note, search_directory, turned, unlinked},
    harness::{Process, Role, and_wait},
    sites::{Farm, NORTH_NODES, Site, farm_requires, until},
};

const TEMPLATE: &str = r#"
specificationVersion: jobtemplate-2023-09
name: "@title"
parameterDefinitions:
  - { name: Scene, type: PATH, objectType: FILE, dataFlow: IN, default: "@name" }
  - { name: Textures, type: PATH, objectType: DIRECTORY, dataFlow: IN, default: "@directory" }
  - { name: Out, type: PATH, objectType: DIRECTORY, dataFlow: OUT, default: "@out" }
  - { name: Artist, type: STRING, default: "@parameter" }
steps:
  - name: "@step"
    script:
      embeddedFiles:
        - { name: Run, type: TEXT, filename: run.sh, runnable: true, data: @script }
      actions:
        onRun: { command: "{{Task.File.Run}}", args: ["{{Param.Scene}}", "{{Param.Out}}", "{{Param.Artist}}"] }
"#;

const SETTINGS: &str = r#"
retries = 0
expect = ["@out/@left"]
[[central]]
host = "."
path = "/mnt/central"
write = true
[notify]
command = ["true", "@notify"]
"#;

/// A bundle in which every text is a word to look for.
fn bundle(site: &Site, name: &str, canaries: &Canaries, script: &str) {
    let filled = |text: &str| {
        let text = text.replace("@script", &serde_json::to_string(script).expect("JSON"));
        let all = canaries.0.iter();
        all.fold(text, |text, (kind, word)| {
            text.replace(&format!("@{kind}"), word)
        })
    };
    let write = |file: &str, text: &str| site.write(format!("{name}/{file}"), text);
    write("template.yaml", &filled(TEMPLATE));
    write("safelight-job.toml", &filled(SETTINGS));
    let content = format!("{}\n", canaries.get("content"));
    write(canaries.get("name"), &content.repeat(8000));
    write(
        &format!("{}/{}", canaries.get("directory"), canaries.get("texture")),
        &content,
    );
}

fn canaries() -> Canaries {
    let mut canaries = Canaries::new(&[
        "title",
        "content",
        "name",
        "directory",
        "texture",
        "out",
        "left",
        "parameter",
        "step",
        "notify",
    ]);
    let printed = turned(canaries.get("content"));
    canaries.0.push(("written", turned(&printed)));
    canaries.0.push(("printed", printed));
    canaries
}

/// Every place of the render site's, and of everybody's, where something could be left.
fn search_places(farm: &Farm, canaries: &Canaries) -> Vec<Finding> {
    let nothing = Path::new("/nonexistent");
    let (mut found, looked) = search_directory(&farm.north.seen(""), nothing, 0, canaries);
    assert!(looked > 100_000, "the site holds next to nothing: {looked}");
    // What home hands to the carrier is dark, too.
    found.extend(search_directory(&farm.home.seen("hot"), nothing, 0, canaries).0);
    for place in ["/tmp", "/var/tmp", "/dev/shm", "/run"] {
        let since = farm.outside().born();
        found.extend(search_directory(Path::new(place), nothing, since, canaries).0);
    }
    note(
        &mut found,
        "what its servers said".to_owned(),
        canaries.within(farm.north.said().as_bytes()),
    );
    found
}

/// Every process of the render site's but view servers and sessions. Answers how many were looked into.
fn search_processes(north: &Site, canaries: &Canaries) -> (Vec<Finding>, usize) {
    let (mut found, mut looked_into) = (Vec::new(), 0);
    for process in north.processes() {
        if process.role == Role::View || process.role.is_session() {
            continue;
        }
        let place = |what: &str| format!("{what} of {:?}", process.arguments);
        for what in ["cmdline", "comm", "environ"] {
            let bytes = fs::read(format!("/proc/{}/{what}", process.pid)).unwrap_or_default();
            note(&mut found, place(what), canaries.within(&bytes));
        }
        let (words, looked) = memory(process.pid, canaries);
        assert!(
            looked > 0 || !process.lives(),
            "the {} cannot be read",
            place("memory")
        );
        note(&mut found, place("memory"), words);
        for bytes in unlinked(process.pid) {
            note(&mut found, place("open file"), canaries.within(&bytes));
        }
        looked_into += 1;
    }
    (found, looked_into)
}

/// The job's own command, once it waits.
fn waiting_command(north: &Site) -> (Process, Process) {
    until("the job's command waits", || {
        let mut trees = NORTH_NODES.iter().map(|node| north.tree(node));
        trees.find_map(|tree| {
            let one = |role| tree.processes.iter().find(|it| it.role == role).cloned();
            let sleeps = tree.processes.iter().any(|it| {
                it.role == Role::Session && it.arguments.first().is_some_and(|word| word == "sleep")
            });
            sleeps.then_some(())?;
            Some((one(Role::Command)?, one(Role::View)?))
        })
    })
}

#[test]
fn nothing_of_a_job_is_readable_where_it_is_rendered() {
    if !farm_requires(&[]) {
        return;
    }
    let mut farm = Farm::at_rest();
    (farm.home.log, farm.north.log) = ("trace", "trace");
    farm.start();
    let canaries = canaries();
    let before = format!(
        "held=$(cat \"$1\"); printed=$(head -1 \"$1\" | {TURN}); echo $printed $3\n\
         cat \"$1\" | {TURN} | {TURN} > $2/{}; exec 7<\"$1\" 8>>$2/{0}",
        canaries.get("left")
    );
    let script = format!("#!/bin/sh\n{}", and_wait(&before, "echo done"));
    bundle(&farm.home, "show", &canaries, &script);
    let job = farm.submit("show", "north");

    let (command, view) = waiting_command(&farm.north);
    let (found, looked_into) = search_processes(&farm.north, &canaries);
    assert_eq!(found, [], "in processes, while it runs");
    assert!(
        looked_into >= 5,
        "only {looked_into} processes were looked into"
    );
    assert_eq!(search_places(&farm, &canaries), [], "while it runs");
    let working: usize = unlinked(view.pid).iter().map(Vec::len).sum();
    assert!(working >= 200_000, "{working} bytes in unlinked files");

    // The search can find: the view server knows names, the session what it was given, and home everything.
    let (knows, _) = memory(view.pid, &canaries);
    for kind in ["name", "directory", "left"] {
        assert!(
            knows.contains(kind),
            "the view server's memory shows {knows:?}"
        );
    }
    let (knows, _) = memory(command.pid, &canaries);
    for kind in ["content", "parameter", "printed"] {
        assert!(knows.contains(kind), "the session's memory shows {knows:?}");
    }
    let (knows, _) = search_directory(
        &farm.home.seen("show"),
        Path::new("/nonexistent"),
        0,
        &canaries,
    );
    let knows: BTreeSet<_> = knows.into_iter().flat_map(|(_, words)| words).collect();
    for kind in [
        "title",
        "content",
        "name",
        "texture",
        "parameter",
        "step",
        "notify",
    ] {
        assert!(
            knows.contains(kind),
            "the client's own directory shows {knows:?}"
        );
    }

    kill(Pid::from_raw(command.pid), Signal::SIGUSR1).expect("the command");
    farm.delivered(&job);
    farm.north.until_job(&job, &["delivered"]);
    assert_eq!(search_places(&farm, &canaries), [], "after it");
    assert_eq!(
        search_processes(&farm.north, &canaries).0,
        [],
        "in processes, after it"
    );
    let logs = farm.home.ask(&["job", "logs", &job]).ok();
    assert!(logs.out.contains(canaries.get("printed")), "{logs:?}");
    let left = format!("show/{}/{}", canaries.get("out"), canaries.get("left"));
    assert!(farm.home.read(left).contains(canaries.get("written")));

    // And a word that is planted is found.
    let planted = format!("\0{}\0", canaries.get("parameter"));
    farm.north.write("n2/planted", planted);
    assert_eq!(search_places(&farm, &canaries).len(), 1);
}

#[test]
fn a_job_that_fails_leaves_nothing_readable_where_it_failed() {
    if !farm_requires(&[]) {
        return;
    }
    let mut farm = Farm::at_rest();
    farm.north.log = "trace";
    farm.start();
    let canaries = canaries();
    let fails = "#!/bin/sh\ncat \"$1\" | tr a-z b-za | head -3 >&2; cat $2/nothing; exit 3\n";
    bundle(&farm.home, "show", &canaries, fails);
    let job = farm.submit("show", "north");
    assert_eq!(
        farm.home.until_job(&job, &["failed", "delivered"]),
        "failed"
    );
    assert_eq!(search_places(&farm, &canaries), [], "after it failed");
    assert_eq!(
        search_processes(&farm.north, &canaries).0,
        [],
        "after it failed"
    );
    let logs = farm.home.ask(&["job", "logs", &job]).ok();
    assert!(logs.out.contains(canaries.get("printed")), "{logs:?}");
}
