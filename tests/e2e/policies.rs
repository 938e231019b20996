//! Policies as people use them: compared, learned, and used.

use std::fs;

use crate::harness::{Host, end, requires};

#[test]
fn what_one_policy_allows_and_another_does_not_is_said_in_words() {
    let host = Host::new();
    let diff = |arguments: &[&str]| {
        end(host.safelight().args(["policy", "diff"]).args(arguments))
            .ok()
            .out
    };
    let words = diff(&["generic", "blender"]);
    for line in [
        "what blender allows and generic does not:",
        "  read /sys/devices/system/node: numpy and Cycles place memory near the processors that use it  # blender.toml:",
        "  call mbind, set_mempolicy: numpy",
        "  set the variable BLENDER_USER_SCRIPTS: ",
        "  have 64GiB of memory, not only 16GiB  # blender.toml:",
        "generic allows nothing that blender does not",
    ] {
        assert!(words.contains(line), "{line}: {words}");
    }
    assert_eq!(
        diff(&["povray", "povray"]),
        "povray allows nothing that povray does not\npovray allows nothing that povray does not\n"
    );
    let said: serde_json::Value =
        serde_json::from_str(&diff(&["strict", "generic", "--json"])).expect("JSON");
    let about: Vec<&str> = said["more"]
        .as_array()
        .expect("more")
        .iter()
        .filter_map(|it| it["about"].as_str())
        .collect();
    for kind in ["calls", "central", "limit", "wall"] {
        assert!(about.contains(&kind), "{kind}: {said}");
    }
    assert_eq!(said["less"], serde_json::json!([]), "strict is strict");
}

#[test]
fn what_a_run_was_seen_to_need_is_a_policy() {
    if !requires(&["root", "fuse", "userns", "landlock"]) {
        return;
    }
    let host = Host::new();
    host.write("show/scene/a.pov", "sphere");
    host.write("show/secret/plan.txt", "not needed");
    let central = format!("{}:/mnt/central", host.path("show").display());
    let learned = host.path("learned.toml").display().to_string();
    let script = "mkdir -p out && cat scene/a.pov > out/frame1";
    let learn = [
        "policy",
        "learn",
        "--central",
        &central,
        "--out",
        &learned,
        "--",
        "sh",
        "-c",
        script,
    ];
    end(host.safelight().args(learn)).ok();
    let text = fs::read_to_string(&learned).expect("the policy");
    assert!(text.contains("reason = \"seen"), "{text}");
    end(host.safelight().args(["policy", "check", &learned])).ok();
    let diff = end(host
        .safelight()
        .args(["policy", "diff", "generic", &learned]))
    .ok();
    assert!(
        diff.out
            .starts_with("learned allows nothing that generic does not"),
        "{diff:?}"
    );
    // The same again, for the next frame, is allowed; what it did not need is not.
    let run = |script: &str| {
        end(&mut host.run(
            &[(&host.path("show"), "/mnt/central")],
            &["--quiet", "--policy", &learned],
            &["sh", "-c", script],
        ))
    };
    run("cat scene/a.pov > out/frame2").ok();
    assert_eq!(
        fs::read_to_string(host.path("show/out/frame2"))
            .ok()
            .as_deref(),
        Some("sphere")
    );
    let refused = run("cat secret/plan.txt").failed(10);
    assert!(refused.err.contains("Permission denied"), "{refused:?}");
    // Half a run teaches nothing.
    let ended = end(host.safelight().args(["policy", "learn", "--", "false"])).failed(10);
    assert!(ended.err.contains("half a run"), "{ended:?}");
}
