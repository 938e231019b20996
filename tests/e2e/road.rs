//! The whole road: handed in at home, placed here or there, carried, rendered, carried back, stored, told. Nothing in between can read it.

use std::{collections::BTreeSet, path::Path};

use crate::{
    bundles::{
        Project, Renderer, Supplier, TURN, all_turned, frame_file, frames_of, shell,
        told_by_command,
    },
    frames::Picture,
    harness::Role,
    sites::{Farm, farm_requires, until},
};

/// Every frame that came home is the frame that is rendered in the open.
#[track_caller]
fn same_pictures(home: &Path, open: &Path, frames: u32) {
    for frame in 1..=frames {
        let (dark, open) = (home.join(frame_file(frame)), open.join(frame_file(frame)));
        let differs = Picture::read(&dark).differs(&Picture::read(&open));
        assert_eq!(differs, 0, "frame {frame}");
    }
}

/// Both jobs of a project, one for each site, rendered and compared.
fn both_ways(renderer: Renderer, frames: u32) {
    let farm = Farm::at_work();
    let supplier = Supplier::at(&farm.home);
    let project = Project::new(farm.outside(), renderer, frames);
    project.bundle(&farm.home, "here");
    project.bundle(&farm.home, "there");
    // Something else lies where a frame will belong.
    farm.home.write("there/frames/frame1.png", "an older take");
    let (here, there) = (farm.submit("here", "local"), farm.submit("there", "north"));
    let open = project.in_the_open(farm.outside());
    farm.delivered(&here);
    farm.delivered(&there);

    same_pictures(&frames_of(&farm.home, "here"), &open, frames);
    assert_eq!(
        farm.home.read("there/frames/frame1.png"),
        "an older take",
        "what stood there was overwritten"
    );
    let aside = farm.home.seen(format!("there/frames/frame1.{there}.png"));
    let back = frames_of(&farm.home, "there").join(frame_file(1));
    std::fs::rename(aside, back).expect("the new frame beside the older one");
    same_pictures(&frames_of(&farm.home, "there"), &open, frames);

    assert_eq!(
        Farm::committed_once(&farm.home, &here, frames.into()),
        frames as usize
    );
    assert_eq!(
        Farm::committed_once(&farm.north, &there, frames.into()),
        frames as usize
    );
    assert!(
        farm.north.job(&here).is_none(),
        "north knows a job of home's own"
    );
    until("the suppliers are told", || {
        let jobs = [&here, &there];
        let told = jobs.iter().all(|job| {
            told_by_command(&farm.home, job) == ["delivered"]
                && supplier.heard_of(job) == ["delivered"]
        });
        told.then_some(())
    });
    farm.queues_are_empty();
}

#[test]
fn povray_frames_are_the_same_from_here_and_from_there() {
    if farm_requires(&["povray"]) {
        both_ways(Renderer::Povray, 3);
    }
}

#[test]
fn blender_frames_are_the_same_from_here_and_from_there() {
    if farm_requires(&["blender"]) {
        both_ways(Renderer::Blender, 1);
    }
}

/// These words stand in these lines, in this order.
#[track_caller]
fn in_order(said: &str, words: &[&str]) {
    let mut lines = said.lines();
    for word in words {
        let found = lines.any(|line| line.contains(word));
        assert!(found, "{word:?} is missing, or out of order, in\n{said}");
    }
}

#[test]
fn a_frame_can_be_followed_from_submission_to_storage() {
    if !farm_requires(&[]) {
        return;
    }
    let farm = Farm::at_work();
    let drawn = shell(&farm.home, "show", 8, TURN, "");
    let job = farm.submit("show", "north");
    let watch = ["job", "watch", &job, "--task", "0/3"];
    let watched = farm.home.ask(&watch).ok();
    in_order(
        &watched.out,
        &[
            "new: submitted",
            "outsourced: rendered at north",
            "published: ",
            "accepted: ",
            "step 0 task 3     attempt 1 came from north: exited with code 0",
            "step 0 task 3     1 file is at home",
            "returning: ",
            "delivered: ",
        ],
    );
    let others = watched
        .out
        .lines()
        .filter(|line| line.contains("step 0 task"));
    assert_eq!(others.count(), 2, "{watched:?}");
    farm.north.until_job(&job, &["delivered"]);
    let away = farm.north.ask(&watch).ok();
    in_order(
        &away.out,
        &[
            "waiting: received",
            "running: ",
            "step 0 task 3     attempt 1 began on n",
            "step 0 task 3     attempt 1 is committed",
            "succeeded: ",
            "returning: ",
            "delivered: ",
        ],
    );
    all_turned(&farm.home, "show", &drawn, 8);
    Farm::committed_once(&farm.north, &job, 8);
    let attempts = farm.north.attempts(&job);
    let places: BTreeSet<_> = attempts
        .iter()
        .map(|attempt| format!("{} {}", attempt["node"], attempt["slot"]))
        .collect();
    assert_eq!(places.len(), 4, "not every slot worked: {places:?}");

    let logs = ["job", "logs", &job, "--task", "0/3"];
    assert_eq!(farm.home.ask(&logs).ok().out, "frame 4\n");
    let refused = farm.north.ask(&logs).failed(4);
    assert!(refused.err.contains("no client key in"), "{refused:?}");
    assert_eq!(refused.out, "");

    // Why it went there, and what it touched, is known at home.
    let why = farm.home.ask(&["job", "why", &job]).ok();
    assert!(why.out.contains("the supplier asked for north"), "{why:?}");
    farm.home.ask(&["audit", "verify", &job]).ok();
    // Every log of every session is in north's register, which came home and was seen and signed there.
    until("north's register is at home", || {
        let said = farm.home.ask(&["audit", "verify", &job, "--json"]).ok();
        let said: serde_json::Value = serde_json::from_str(&said.out).ok()?;
        let number = |name: &str| said[name].as_u64().unwrap_or(0);
        (number("registered") >= 16 && number("register_seen") >= 16).then_some(())
    });
    let files = farm.home.ask(&["audit", "files", &job]).ok();
    assert!(files.out.contains("/mnt/central/words.txt"), "{files:?}");
    let dark = farm.north.ask(&["audit", "files", &job]);
    assert!(dark.code != Some(0) && dark.out.is_empty(), "{dark:?}");

    // The same once more: what stands there already is the same.
    let again = farm.submit("show", "north");
    farm.delivered(&again);
    all_turned(&farm.home, "show", &drawn, 8);
    farm.queues_are_empty();
}

#[test]
fn a_supplier_is_told_of_a_failure_too_and_nothing_of_it_comes_home() {
    if !farm_requires(&[]) {
        return;
    }
    let farm = Farm::at_work();
    let supplier = Supplier::at(&farm.home);
    let fails = "echo frame $0 fails; echo half > $1/out/$0.txt; exit 3";
    for (bundle, place) in [("here", "local"), ("there", "north")] {
        shell(&farm.home, bundle, 2, fails, "");
        let settings = farm.home.read(format!("{bundle}/safelight-job.toml"));
        farm.home.write(
            format!("{bundle}/safelight-job.toml"),
            settings.replace("retries = 9", "retries = 0"),
        );
        let job = farm.submit(bundle, place);
        assert_eq!(
            farm.home.until_job(&job, &["failed", "delivered"]),
            "failed"
        );
        until("the supplier is told", || {
            let told = told_by_command(&farm.home, &job) == ["failed"];
            (told && supplier.heard_of(&job) == ["failed"]).then_some(())
        });
        assert_eq!(farm.home.read(format!("{bundle}/out/1.txt")), "");
        farm.queues_are_empty();
        // Why it failed is what its author wants to know.
        let logs = farm.home.ask(&["job", "logs", &job, "--task", "0/0"]).ok();
        assert_eq!(logs.out, "frame 1 fails\n", "{logs:?}");
    }
}

#[test]
fn a_job_that_is_withdrawn_ends_where_it_runs() {
    if !farm_requires(&[]) {
        return;
    }
    let farm = Farm::at_work();
    let supplier = Supplier::at(&farm.home);
    for (bundle, place, runs) in [
        ("here", "local", &farm.home),
        ("there", "north", &farm.north),
    ] {
        let begun = "echo half > $1/out/$0.txt; sleep 100";
        shell(&farm.home, bundle, 2, begun, "");
        let job = farm.submit(bundle, place);
        runs.until_job(&job, &["running"]);
        until("its command runs", || {
            let processes = runs.processes();
            let mut commands = processes.iter();
            commands
                .any(|process| process.role == Role::Command)
                .then_some(())
        });
        farm.home.ask(&["job", "cancel", &job]).ok();
        assert_eq!(farm.home.state_of(&job), "canceled");
        runs.until_job(&job, &["canceled"]);
        until("its sessions are over", || {
            let processes = runs.processes();
            let session = processes.iter().any(|process| process.role.is_session());
            let running = runs
                .attempts(&job)
                .iter()
                .any(|it| it["state"] == "running");
            (!session && !running).then_some(())
        });
        until("the supplier is told", || {
            let told = told_by_command(&farm.home, &job) == ["canceled"];
            (told && supplier.heard_of(&job) == ["canceled"]).then_some(())
        });
        assert_eq!(farm.home.read(format!("{bundle}/out/1.txt")), "");
        farm.queues_are_empty();
    }
}

const TWO_STEPS: &str = r#"
specificationVersion: jobtemplate-2023-09
name: two steps
parameterDefinitions:
  - { name: Plates, type: PATH, objectType: DIRECTORY, dataFlow: INOUT, default: plates }
steps:
  - name: Denoise
    dependencies:
      - dependsOn: Render
    parameterSpace:
      taskParameterDefinitions:
        - { name: Frame, type: INT, range: 1-2 }
    script:
      actions:
        onRun:
          command: sh
          args: ["-c", "ls {{Param.Plates}}; tr a-z A-Z < {{Param.Plates}}/raw.$0 > {{Param.Plates}}/clean.$0", "{{Task.Param.Frame}}"]
  - name: Render
    parameterSpace:
      taskParameterDefinitions:
        - { name: Frame, type: INT, range: 1-2 }
    script:
      actions:
        onRun:
          command: sh
          args: ["-c", "cat {{Param.Plates}}/start > {{Param.Plates}}/raw.$0; echo $0 >> {{Param.Plates}}/raw.$0", "{{Task.Param.Frame}}"]
"#;

#[test]
fn a_step_sees_what_the_step_before_made_here_and_there() {
    if !farm_requires(&[]) {
        return;
    }
    let farm = Farm::at_work();
    for (bundle, place) in [("here", "local"), ("there", "north")] {
        let drawn = shell(&farm.home, bundle, 1, "", "");
        farm.home
            .write(format!("{bundle}/template.yaml"), TWO_STEPS);
        farm.home.write(format!("{bundle}/plates/start"), &drawn);
        let job = farm.submit(bundle, place);
        farm.delivered(&job);
        for frame in 1..=2 {
            let read = |kind: &str| farm.home.read(format!("{bundle}/plates/{kind}.{frame}"));
            assert_eq!(read("raw"), format!("{drawn}{frame}\n"));
            assert_eq!(read("clean"), format!("{}{frame}\n", drawn.to_uppercase()));
        }
        let logs = farm.home.ask(&["job", "logs", &job, "--task", "1/0"]).ok();
        assert_eq!(logs.out, "raw.1\nraw.2\nstart\n");
    }
}
