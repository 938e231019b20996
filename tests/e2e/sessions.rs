//! Sessions that run actions in turn: what stands around tasks is entered and left, and what it says and starts is there in between.

use std::fs;

use crate::{
    harness::requires,
    node::{Farm, NEEDS},
};

/// A job whose tasks need what stands around them: a variable, one that its environment makes up, a secret, and a process that runs.
const TEMPLATE: &str = r##"specificationVersion: jobtemplate-2023-09
extensions: [REDACTED_ENV_VARS]
name: sittings
parameterDefinitions:
  - { name: Out, type: PATH, objectType: DIRECTORY, dataFlow: OUT, default: out }
jobEnvironments:
  - name: Room
    variables: { ROOM: cellar }
    script:
      embeddedFiles:
        - name: Begin
          type: TEXT
          runnable: true
          data: |
            #!/bin/sh
            sleep 1000 &
            echo "openjd_env: SERVER=$!"
            echo "openjd_redacted_env: PASS=SECRET"
            echo "the room is $ROOM"
        - name: End
          type: TEXT
          runnable: true
          data: |
            #!/bin/sh
            kill $SERVER && echo "left the $ROOM with SECRET"
      actions:
        onEnter: { command: "{{Env.File.Begin}}", timeout: 30 }
        onExit: { command: "{{Env.File.End}}", timeout: 30 }
steps:
  - name: Each
    stepEnvironments:
      - name: Inner
        variables: { ROOM: attic }
    parameterSpace:
      taskParameterDefinitions:
        - { name: N, type: INT, range: "1-6" }
    script:
      embeddedFiles:
        - name: Run
          type: TEXT
          runnable: true
          data: |
            #!/bin/sh
            set -e
            kill -0 $SERVER
            test "$PASS" = SECRET
            echo "$ROOM $PASS"
            echo "{{Task.Param.N}} $ROOM" > "{{Param.Out}}/{{Task.Param.N}}.txt"
      actions:
        onRun: { command: "{{Task.File.Run}}", timeout: 60 }
  - name: All
    dependencies: [ { dependsOn: Each } ]
    script:
      actions:
        onRun: { command: /bin/sh, args: ["-c", "cat {{Param.Out}}/*.txt > {{Param.Out}}/all"], timeout: 60 }
"##;

#[test]
fn an_environment_is_entered_once_for_several_tasks_and_left_again() {
    if !requires(&NEEDS) {
        return;
    }
    let farm = Farm::new(1, "");
    farm.host.write(
        "job/template.yaml",
        TEMPLATE.replace("SECRET", &farm.canary),
    );
    let (_site, node) = (farm.serve_site(), farm.serve_node());
    let job = farm.submit();
    farm.arrives_with("1 attic\n2 attic\n3 attic\n4 attic\n5 attic\n6 attic\n");
    let log = fs::read_to_string(farm.host.path("node.log")).expect("log");
    // Six tasks and the one after them. Each slot begins with one task; what they took says that the others fit few sessions.
    let sessions = log.matches("begins").count();
    assert!((3..=6).contains(&sessions), "{log}");
    let text = farm.site(&["job", "logs", &job]);
    assert_eq!(
        text.matches("the room is cellar").count(),
        sessions,
        "{text}"
    );
    assert_eq!(
        text.matches("left the cellar with ********").count(),
        sessions
    );
    assert_eq!(text.matches("attic ********").count(), 6, "{text}");
    // The secret is in nothing that was printed after it was said, nor where it was said.
    assert!(!text.contains(&farm.canary), "{text}");
    drop(node);
}

/// What stands inside cannot be begun.
const FAILS: &str = r##"specificationVersion: jobtemplate-2023-09
name: fails
parameterDefinitions:
  - { name: Out, type: PATH, objectType: DIRECTORY, dataFlow: OUT, default: out }
steps:
  - name: Each
    stepEnvironments:
      - name: Outer
        script:
          actions:
            onEnter: { command: /bin/sh, args: ["-c", "echo outer begins"] }
            onExit: { command: /bin/sh, args: ["-c", "echo outer ends"] }
      - name: Inner
        script:
          actions:
            onEnter: { command: /bin/sh, args: ["-c", "echo inner begins; exit 7"] }
            onExit: { command: /bin/sh, args: ["-c", "echo inner ends"] }
    script:
      actions:
        onRun: { command: /bin/sh, args: ["-c", "echo never"] }
"##;

#[test]
fn what_was_begun_is_left_from_the_inside_out_though_it_failed() {
    if !requires(&NEEDS) {
        return;
    }
    let farm = Farm::new(1, "");
    farm.host.write("job/template.yaml", FAILS);
    farm.host.write("job/safelight-job.toml", "retries = 0\n");
    let (_site, node) = (farm.serve_site(), farm.serve_node());
    let job = farm.submit();
    node.says("exited with code 7", 1);
    farm.comes_to(&job, "failed");
    let text = farm.site(&["job", "logs", &job]);
    let order = ["outer begins", "inner begins", "inner ends", "outer ends"];
    let places: Vec<_> = order.iter().map(|line| text.find(line)).collect();
    assert!(
        places.is_sorted() && places[0].is_some(),
        "{places:?} {text}"
    );
    assert!(!text.contains("never"), "{text}");
}
