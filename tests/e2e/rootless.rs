//! The tier for one person: everything without root.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use crate::{
    harness::{Role, Running, and_wait, requires},
    person::Person,
};

const NEEDS: &[&str] = &["root", "fuse", "userns", "landlock", "setpriv"];

#[test]
fn an_ordinary_user_runs_a_job_and_has_the_results() {
    if !requires(NEEDS) {
        return;
    }
    let person = Person::new();
    let show = person.show();
    let job = "id -u; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; \
               tr a-z A-Z < board.txt > loud.txt; ls -d /proc/[0-9]* | wc -l; cat $0";
    let secret = person.host.path("secret.txt").display().to_string();
    let ended = person.sh(
        "666",
        &format!(
            "safelight run --central show:/mnt/central -- sh -c '{}' {secret} || exit",
            job.replace('\'', "'\\''")
        ),
    );
    // The last word is `cat`'s: what is the user's own outside the central path is not there.
    let ended = ended.failed(10);
    assert!(ended.err.contains("No such file or directory"), "{ended:?}");
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "1000",
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2"
        ]
    );
    assert!(
        !show.join("loud.txt").exists(),
        "a failed job's files came home"
    );

    let job = "tr a-z A-Z < board.txt > loud.txt";
    person
        .sh(
            "666",
            &format!("safelight run --central show:/mnt/central -- sh -c '{job}'"),
        )
        .ok();
    let result = show.join("loud.txt");
    assert_eq!(
        fs::read_to_string(&result).ok().as_deref(),
        Some("A STORYBOARD")
    );
    let metadata = fs::metadata(&result).expect("result");
    assert_eq!((metadata.uid(), metadata.gid()), (person.uid, person.uid));
    // The state is where a user's state belongs, and nobody else's.
    let state = fs::metadata(person.host.path(".local/state/safelight/client")).expect("state");
    assert_eq!((state.uid(), state.mode() & 0o777), (person.uid, 0o700));
}

#[test]
fn an_ordinary_user_mounts_a_view() {
    if !requires(NEEDS) || !requires(&["fusermount3"]) {
        return;
    }
    let person = Person::new();
    person.show();
    let script = "set -e; safelight run --quiet --central show:/mnt/central -- sh -c 'tr a-z A-Z < board.txt > loud.txt'; \
         mkdir at; safelight view mount last at; cat at/board.txt at/loud.txt; ls at; \
         grep -c \"$PWD/at .* fuse.safelight \" /proc/self/mountinfo; ! echo x > at/new; fusermount3 -u at; \
         ls -A at; grep -c \"$PWD/at .* fuse.safelight \" /proc/self/mountinfo || true; \
         while pgrep -u $(id -u) -f [_]_mount >/dev/null; do sleep 0.02; done; safelight audit verify last >&2";
    let ended = person.sh("666", script).ok();
    assert_eq!(
        ended.out, "a storyboardA STORYBOARDboard.txt\nloud.txt\n1\n0\n",
        "{ended:?}"
    );
    assert!(ended.err.contains("Read-only file system"), "{ended:?}");
}

/// Debugging a failed task at home takes two commands, and no root: what it said, and its files as it left them.
#[test]
fn an_ordinary_user_debugs_a_failed_task_with_two_commands() {
    if !requires(NEEDS) || !requires(&["fusermount3"]) {
        return;
    }
    let person = Person::new();
    let show = person.show();
    let job = "echo reading the board; tr a-z A-Z < board.txt > half.txt; echo the other half is missing >&2; exit 3";
    let run = format!("safelight run --quiet --central show:/mnt/central -- sh -c '{job}'");
    person.sh("666", &run).failed(10);
    // Nothing of it came home by itself.
    assert!(!show.join("half.txt").exists());
    let logs = person.sh("666", "safelight job logs last").ok();
    for said in ["reading the board", "the other half is missing"] {
        assert!(logs.out.contains(said), "{logs:?}");
    }
    let looked = person.sh(
        "666",
        "mkdir at; safelight view mount last at --attempt last || exit 1; cat at/board.txt at/half.txt; \
         ! echo x > at/new; fusermount3 -u at; \
         while pgrep -u $(id -u) -f [_]_mount >/dev/null; do sleep 0.02; done; \
         safelight audit show last --json",
    );
    let looked = looked.ok();
    assert!(
        looked.out.starts_with("a storyboardA STORYBOARD"),
        "{looked:?}"
    );
    assert!(looked.err.contains("Read-only file system"), "{looked:?}");
    // And that somebody looked is on the log.
    assert!(looked.out.contains("debug-access"), "{looked:?}");
    assert!(!show.join("half.txt").exists(), "looking brought it home");
}

#[test]
fn an_ordinary_users_job_cannot_reach_its_own_users_processes() {
    if !requires(NEEDS) {
        return;
    }
    let person = Person::new();
    let show = person.show();
    let program = person.host.path("safelight").display().to_string();
    let central = format!("{}:/mnt/central", show.display());
    // Job, agent and view server are one user here: only the namespaces and Landlock stand between them.
    let victim = ["run", "--quiet", "--central", &central, "--", "sh", "-c"];
    let script = and_wait("", "");
    let command: Vec<&str> = [program.as_str()]
        .into_iter()
        .chain(victim)
        .chain([script.as_str()])
        .collect();
    let mut running = Running::start(&mut person.command("666", &command));
    running.line("ready");
    let tree = running.tree();
    let view = tree.one(Role::View);
    let pids: Vec<String> = tree.processes.iter().map(|it| it.pid.to_string()).collect();
    // The same attempts as that user outside: signals arrive, and only the view server's memory is shut.
    let outside = person.sh(
        "666",
        &format!("kill -0 {0} && ! cat /proc/{0}/environ", view.pid),
    );
    outside.ok();
    let script = format!(
        "for p in {}; do [ $p = $$ ] || kill -0 $p 2>/dev/null && echo signalled $p; cat /proc/$p/environ 2>/dev/null && echo read $p; done; echo tried",
        pids.join(" ")
    );
    let ended = person
        .sh("666", &format!("{program} run --quiet -- sh -c '{script}'"))
        .ok();
    running.go_on();
    running.end().ok();
    assert_eq!(ended.out, "tried\n", "{ended:?}");
    assert!(tree.gone_within(Duration::from_millis(500)).is_empty());
}

#[test]
fn where_fuse_is_roots_alone_the_error_names_it_and_the_remedy() {
    if !requires(NEEDS) {
        return;
    }
    let person = Person::new();
    person.show();
    let ended = person
        .sh("600", "safelight run --central show:/mnt/central -- true")
        .failed(78);
    assert!(ended.err.contains("/dev/fuse"), "{ended:?}");
    assert!(ended.err.contains("chmod 0666 /dev/fuse"), "{ended:?}");
    let doctor = person.sh("600", "safelight doctor").failed(78);
    assert!(doctor.out.contains("/dev/fuse"), "{doctor:?}");
    let doctor = person.sh("666", "safelight doctor --json").ok();
    let report: serde_json::Value = serde_json::from_str(&doctor.out).expect("JSON");
    assert_eq!(report["features"]["fuse"]["status"], "active", "{doctor:?}");
    assert_eq!(report["root"], false);
}
