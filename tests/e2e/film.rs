//! Jobs as studios hand them in, from the client's own site to another one and back: a film, a frame that needs three tries, and two clients
//! who want the farm at the same time.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::{
    bundles::{TURN, all_turned, shell},
    carriage::Carriage,
    frames::{Picture, blender_project, copy},
    harness::{clean, end, word},
    sites::{Farm, Site, farm_requires, until},
};

/// Frames in chunks of three with a program beside them that counts what is rendered, then a film of them all.
const FILM: &str = r##"specificationVersion: jobtemplate-2023-09
extensions: [TASK_CHUNKING]
name: film
parameterDefinitions:
  - { name: Scene, type: PATH, objectType: FILE, dataFlow: IN, default: scene.blend }
  - { name: Frames, type: PATH, objectType: DIRECTORY, dataFlow: OUT, default: frames }
  - { name: Film, type: PATH, objectType: DIRECTORY, dataFlow: OUT, default: film }
steps:
  - name: Render
    stepEnvironments:
      - name: Counter
        variables: { COUNTER: "{{Session.WorkingDirectory}}/counter" }
        script:
          embeddedFiles:
            - name: Serve
              type: TEXT
              data: |
                import os, socket
                place = os.environ["COUNTER"]
                with socket.socket(socket.AF_UNIX) as server:
                    server.bind(place + ".new"); server.listen(); os.rename(place + ".new", place)
                    count = 0
                    while True:
                        asked, _ = server.accept()
                        with asked:
                            word = asked.recv(100).decode()
                            count += word == "frame"
                            asked.sendall(str(count).encode())
                            if word == "end": break
            - name: Ask
              type: TEXT
              data: |
                import os, socket, sys
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(os.environ["COUNTER"]); client.sendall(sys.argv[1].encode())
                    print("counted", client.recv(100).decode())
            - name: Begin
              type: TEXT
              runnable: true
              data: |
                #!/bin/sh
                python3 "{{Env.File.Serve}}" & echo "openjd_env: SERVER=$!"
                echo "openjd_env: ASK={{Env.File.Ask}}"
                until test -S "$COUNTER"; do sleep 0.05; done
            - name: End
              type: TEXT
              runnable: true
              data: |
                #!/bin/sh
                python3 "{{Env.File.Ask}}" end
                while kill -0 $SERVER 2>/dev/null; do sleep 0.05; done
                echo "the counter ended"
          actions:
            onEnter: { command: "{{Env.File.Begin}}", timeout: 60 }
            onExit: { command: "{{Env.File.End}}", timeout: 60 }
    parameterSpace:
      taskParameterDefinitions:
        - name: Frame
          type: CHUNK[INT]
          range: "1-7"
          chunks: { defaultTaskCount: 3, rangeConstraint: CONTIGUOUS }
    script:
      embeddedFiles:
        - name: Run
          type: TEXT
          runnable: true
          data: |
            #!/bin/bash
            set -e
            frames="{{Task.Param.Frame}}"
            blender --background "{{Param.Scene}}" --threads 1 --render-output "{{Param.Frames}}/frame#" --render-frame "${frames/-/..}"
            python3 "$ASK" frame
      actions:
        onRun: { command: "{{Task.File.Run}}", timeout: 300 }
  - name: Encode
    dependencies: [ { dependsOn: Render } ]
    script:
      actions:
        onRun:
          command: ffmpeg
          args: ["-v", "error", "-nostdin", "-framerate", "24", "-i", "{{Param.Frames}}/frame%d.png", "-pix_fmt", "yuv420p", "-c:v", "libx264", "{{Param.Film}}/film.mp4"]
          timeout: 300
"##;

/// How many pictures a film has.
fn pictures(farm: &Farm, film: &Path) -> String {
    let host = farm.outside();
    let mut probe = clean(Command::new("ffprobe"), &host.state(), host.root());
    probe.args(["-v", "error", "-count_frames", "-select_streams", "v:0"]);
    probe.args(["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"]);
    end(probe.arg(film)).ok().out.trim().to_owned()
}

#[test]
#[ignore = "long: Blender renders seven frames, then ffmpeg makes a film of them"]
fn a_film_is_rendered_in_chunks_beside_a_server_and_then_encoded() {
    if !farm_requires(&["blender", "ffmpeg", "python3"]) {
        return;
    }
    let farm = Farm::at_work();
    copy(
        &blender_project(farm.outside(), "project", &word(5)),
        &farm.home.seen("show"),
    );
    let project = farm.home.seen("show");
    let _ = fs::remove_dir_all(project.join("frames"));
    for directory in ["frames", "film"] {
        fs::create_dir(project.join(directory)).expect("a directory");
    }
    farm.home.write("show/template.yaml", FILM);
    let central = "[[central]]\nhost = \".\"\npath = \"/mnt/central\"\nwrite = true\n";
    farm.home.write("show/safelight-job.toml", central);
    let references = "assetReferences: { inputs: { directories: [assets] } }\n";
    if project.join("assets").is_dir() {
        farm.home.write("show/asset_references.yaml", references);
    }
    let job = farm.submit("show", "north");
    farm.delivered(&job);

    let mut seen = BTreeSet::new();
    for frame in 1..=7 {
        let path = project.join(format!("frames/frame{frame}.png"));
        Picture::read(&path);
        seen.insert(fs::read(path).expect("a frame"));
    }
    assert_eq!(seen.len(), 7, "each frame is another one");
    assert_eq!(pictures(&farm, &project.join("film/film.mp4")), "7");
    // Three chunks, in as many sessions as the farm thought right; each had a server of its own and ended it.
    let logs = farm.home.ask(&["job", "logs", &job]).ok().out;
    let (counted, ended) = (
        logs.matches("counted 1").count(),
        logs.matches("the counter ended").count(),
    );
    assert!((1..=3).contains(&ended) && counted >= ended, "{logs}");
    farm.queues_are_empty();
}

/// The attempts of a task at north, in order: how each ended.
fn ends(attempts: &[Value], task: &str) -> Vec<String> {
    let mut of_task: Vec<_> = attempts.iter().filter(|it| it["task"] == task).collect();
    of_task.sort_by_key(|it| it["attempt"].as_u64());
    let state = |it: &&Value| it["state"].as_str().unwrap_or_default().to_owned();
    of_task.iter().map(state).collect()
}

#[test]
#[ignore = "long: a frame fails for ten seconds"]
fn a_third_frame_that_fails_twice_is_tried_again_and_comes_home() {
    if !farm_requires(&[]) {
        return;
    }
    let farm = Farm::at_work();
    // Nothing of an attempt reaches the next one, so what makes the third frame work is time: it fails until two tries are over.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ready = since.expect("a clock").as_secs() + 10;
    let script =
        format!("if test $0 = 3 && test $(date +%s) -lt {ready}; then sleep 1; exit 9; fi; {TURN}");
    let drawn = shell(&farm.home, "show", 4, &script, "");
    let job = farm.submit("show", "north");
    farm.delivered(&job);
    all_turned(&farm.home, "show", &drawn, 4);
    let attempts = farm.north.attempts(&job);
    for task in ["0/0", "0/1", "0/3"] {
        assert_eq!(ends(&attempts, task), ["committed"], "{task}");
    }
    let third = ends(&attempts, "0/2");
    let (last, before) = third.split_last().expect("attempts");
    assert!(
        before.len() >= 2 && before.iter().all(|it| it == "failed"),
        "{third:?}"
    );
    assert_eq!(last, "committed");
    // What failed says why, to the site by its number and to the client in its own words.
    let why = farm.north.ask(&["job", "show", &job, "--tasks"]).ok().out;
    assert!(why.contains("exited with code 9"), "{why}");
    farm.queues_are_empty();
}

/// A frame that takes long enough to be seen beside others.
const SLOW: &str = "sleep 2; ";

#[test]
fn two_clients_render_side_by_side_and_neither_gets_anything_of_the_other() {
    if !farm_requires(&[]) {
        return;
    }
    let mut farm = Farm::at_rest();
    let mut south = farm.another("south", "local");
    south.trust(&farm.north);
    farm.north.trust_at(&south, "hot-south");
    let _carriage = Carriage::with(&south, &farm.north, "hot-south");
    farm.start();
    south.start("serve");
    let script = format!("{SLOW}{TURN}");
    let words = [
        shell(&farm.home, "show", 4, &script, ""),
        shell(&south, "show", 4, &script, ""),
    ];
    let ours = farm.submit("show", "north");
    let theirs = handed_in(&south);
    let nodes = until("jobs of both clients run at once", || {
        let running = farm.north.told(&["job", "running"]);
        let of = |job: &str| running.iter().any(|it| it["job"] == job);
        (of(&ours) && of(&theirs)).then_some(running)
    });
    let nodes: BTreeSet<_> = nodes.iter().map(|it| it["node"].to_string()).collect();
    assert_eq!(nodes.len(), 2, "one node has all of it");
    farm.delivered(&ours);
    assert_eq!(
        south.until_job(&theirs, &["delivered", "failed"]),
        "delivered"
    );
    all_turned(&farm.home, "show", &words[0], 4);
    all_turned(&south, "show", &words[1], 4);
    // Each client's own site knows its own job only, and each one's hot folders hold nothing of the other's.
    assert!(farm.home.job(&theirs).is_none() && south.job(&ours).is_none());
    let usage = farm.north.told(&["site", "usage"]);
    let tasks: Vec<_> = usage.iter().map(|it| it["tasks"].as_u64()).collect();
    assert_eq!(tasks, [Some(4), Some(4)], "{usage:?}");
}

/// Hands the site's `show` in; answers the job.
#[track_caller]
fn handed_in(site: &Site) -> String {
    let bundle = site.path("show").display().to_string();
    let said = site.ask(&["submit", &bundle, "--quiet", "--where", "north"]);
    said.ok().out.trim_end().to_owned()
}
