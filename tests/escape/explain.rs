//! What `policy explain` says will happen is what happens.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    ground::{NEEDS, allowed, attempts, in_roots_session},
    harness::{Host, end, requires},
};

/// True if the policy says that it may be done. `kind` is what an attempt asks: to read, write or run a path, a call, an address.
fn may(host: &Host, kind: &str, what: &str) -> bool {
    let query = match kind {
        "path" | "write" | "run" => "path",
        "call" => "syscall",
        "address" => "address",
        other => panic!("unknown question {other}"),
    };
    let mut explain = host.safelight();
    explain.args(["policy", "explain", "generic", query, what, "--json"]);
    let said: Value = serde_json::from_str(&end(&mut explain).ok().out).expect("JSON");
    let verdict = said["verdict"].as_str().expect("a verdict").to_owned();
    assert!(
        said["why"].as_str().is_some_and(|why| !why.is_empty()),
        "{said}"
    );
    match kind {
        "write" => verdict.contains("write"),
        "run" => verdict.contains("execute"),
        "path" => verdict.contains("read"),
        // What is allowed within limits is not allowed beyond them, which is what is tried.
        _ => verdict == "allowed",
    }
}

fn filtered(host: &Host, call: &str) -> bool {
    let mut explain = host.safelight();
    explain.args(["policy", "explain", "generic", "syscall", call, "--json"]);
    end(&mut explain).ok().out.contains("\"filtered\"")
}

fn asks(asked: Value) -> BTreeMap<String, String> {
    serde_json::from_value(asked).expect("questions")
}

#[test]
fn what_is_predicted_is_what_happens() {
    if !requires(NEEDS) {
        return;
    }
    let (host, said) = (Host::new(), in_roots_session());
    let (mut predicted, mut wrong) = (0, Vec::new());
    for (name, asked) in attempts() {
        for (kind, what) in asks(asked) {
            let what = match what.as_str() {
                "@outside" => format!("/var/tmp/safelight-escape/{name}"),
                "@state" => "/var/lib/safelight".to_owned(),
                "@tcp" => "127.0.0.1:8080".to_owned(),
                what => what.to_owned(),
            };
            predicted += 1;
            if may(&host, &kind, &what) != (said[&name] == "done") {
                wrong.push(format!("{name}: {kind} {what}"));
            }
        }
    }
    assert!(predicted >= 80, "{predicted} predictions");
    for (name, asked) in allowed() {
        assert_eq!(said[&format!("allowed: {name}")], "done", "{name}");
        for (kind, what) in asks(asked) {
            let within_limits = kind == "call" && filtered(&host, &what);
            if !within_limits && !may(&host, &kind, &what) {
                wrong.push(format!("{name}: {kind} {what}"));
            }
        }
    }
    assert!(wrong.is_empty(), "predicted otherwise: {wrong:#?}");
}
