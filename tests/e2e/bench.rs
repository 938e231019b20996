//! `safelight bench`: the shape of what it prints. What the figures are is nobody's test.

use crate::harness::{Host, end, requires};

/// A tiny run of every kind of load. Peers that are not installed are named, and whoever is there has its samples.
#[test]
fn a_bench_prints_samples_medians_ratios_and_who_is_absent() {
    if !requires(&["root", "fuse"]) {
        return;
    }
    let host = Host::new();
    let place = host.dir("bench");
    let mut bench = host.safelight();
    bench.args([
        "bench", "vfs", "--json", "--rounds", "2", "--size", "2M", "--files", "20",
    ]);
    bench.args(["--stream", "2M", "--entries", "10", "--dir"]);
    let ended = end(bench.arg(&place)).ok();
    let said: serde_json::Value = serde_json::from_str(&ended.out).expect("one line of JSON");
    assert_eq!(said["bench"], "vfs");
    for fact in ["kernel", "cores", "storage", "at"] {
        assert!(!said["host"][fact].is_null(), "{fact} in {said}");
    }
    let rows = said["rows"].as_array().expect("rows");
    for name in [
        "write",
        "read-cold",
        "read-warm",
        "random-write",
        "unpack",
        "delete",
        "seal",
        "memory-list",
        "open-many",
        "list-many",
    ] {
        assert!(
            rows.iter().any(|row| row["name"] == name),
            "{name} in {said}"
        );
    }
    for row in rows {
        let alone = row["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("memory") || name.ends_with("-many"));
        let samples = row["samples"]["safelight"].as_array().expect("samples");
        assert_eq!(samples.len(), if alone { 1 } else { 2 }, "{row}");
        assert!(samples.iter().all(|one| one.as_f64() > Some(0.0)), "{row}");
        assert!(row["median"]["safelight"].as_f64() > Some(0.0), "{row}");
    }
    let write = rows
        .iter()
        .find(|row| row["name"] == "write")
        .expect("write");
    assert!(write["ratio"]["disk"].as_f64() > Some(0.0), "{write}");
    for peer in ["gocryptfs", "securefs"] {
        let there = write["samples"][peer].is_array();
        let absent = write["absent"][peer] == "not installed";
        assert!(there != absent, "{peer} is measured or absent: {write}");
        assert_eq!(said["versions"][peer] == "not installed", absent, "{said}");
    }
    // Nothing is left of it: no mount, no process, no file.
    assert_eq!(std::fs::read_dir(&place).expect("place").count(), 0);
}

/// The log's bench prints what it says it measures, and no event of its own is lost.
#[test]
fn the_bench_of_the_log_loses_nothing() {
    if !requires(&["root", "fuse"]) {
        return;
    }
    let host = Host::new();
    let place = host.dir("bench");
    let mut bench = host.safelight();
    bench.args([
        "bench", "audit", "--json", "--rounds", "1", "--events", "2000", "--dir",
    ]);
    let ended = end(bench.arg(&place)).ok();
    let said: serde_json::Value = serde_json::from_str(&ended.out).expect("one line of JSON");
    let rows = said["rows"].as_array().expect("rows");
    let row = |name: &str| {
        rows.iter()
            .find(|row| row["name"] == name)
            .unwrap_or_else(|| panic!("{name} in {said}"))
    };
    assert_eq!(row("lost")["median"]["safelight"], 0.0);
    for name in [
        "write",
        "size",
        "verify",
        "files",
        "prove",
        "check-proof",
        "open-close",
        "programs",
    ] {
        assert!(
            row(name)["median"]["safelight"].as_f64() > Some(0.0),
            "{name} in {said}"
        );
    }
    assert!(
        row("open-close")["ratio"]["no log"].as_f64() > Some(0.0),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(&place).expect("directory").count(), 0);
}

/// Every part of a small run: two sites ship real files, and whoever else is installed brings the same.
#[test]
#[ignore = "long: two pairs of sites, and files that must be a second old"]
fn the_bench_of_bundles_ships_everything_and_nothing_twice() {
    if !requires(&["root"]) {
        return;
    }
    let host = Host::new();
    let place = host.dir("bench");
    let mut bench = host.safelight();
    bench.args(["bench", "bundle", "--json", "--rounds", "1"]);
    bench.args(["--size", "8M", "--files", "200", "--dir"]);
    let ended = end(bench.arg(&place)).ok();
    let said: serde_json::Value = serde_json::from_str(&ended.out).expect("one line of JSON");
    let rows = said["rows"].as_array().expect("rows");
    let ours = |name: &str| {
        let row = rows.iter().find(|row| row["name"] == name);
        let row = row.unwrap_or_else(|| panic!("{name} in {said}"));
        row["median"]["safelight"].as_f64()
    };
    for name in ["first", "again", "changed"] {
        assert!(ours(name) > Some(0.0), "{name} in {said}");
        let accepted = ours(&format!("{name}-accepted"));
        assert!(accepted >= ours(name), "{name} in {said}");
    }
    // 8 MiB and 200 files of 10,000 bytes; a hundredth of it is in few segments.
    assert!(ours("first-bytes") > Some(10.3), "{said}");
    assert!(ours("again-bytes") < Some(1.0), "{said}");
    let changed = ours("changed-bytes");
    assert!(changed > Some(0.1) && changed < Some(5.0), "{said}");
    for peer in ["restic", "rclone crypt", "rsync"] {
        let first = rows.iter().find(|row| row["name"] == "first");
        let first = first.expect("first");
        let there = first["samples"][peer].is_array();
        let absent = first["absent"][peer] == "not installed";
        assert!(there != absent, "{peer} is measured or absent: {first}");
    }
    assert_eq!(std::fs::read_dir(&place).expect("directory").count(), 0);
}
