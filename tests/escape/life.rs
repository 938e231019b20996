//! Whatever a job does, it is over when it is over; and what it takes is bounded and told apart.

use std::{fs, path::PathBuf};

use crate::{
    ground::NEEDS,
    harness::{Host, Running, end, processes, requires, word},
};

/// Ways not to end when the time is over. `MARK` is a number of seconds by which what is left is found.
const WAYS: [(&str, &str); 7] = [
    (
        "ignores the request",
        "trap '' TERM HUP INT; while :; do sleep MARK; done",
    ),
    (
        "leaves by forking twice",
        "setsid sh -c '(trap \"\" TERM; sleep MARK) & sleep MARK' & sleep MARK",
    ),
    (
        "stops itself and its children",
        "sleep MARK & kill -STOP $!; setsid sleep MARK & kill -STOP $$; sleep MARK",
    ),
    (
        "multiplies",
        "/usr/bin/python3 -c 'import os, time\nwhile True:\n  try: os.fork() or time.sleep(MARK)\n  except OSError: time.sleep(0.1)'",
    ),
    (
        "waits for the view",
        "while :; do cat board.txt; done >/dev/null & while :; do dd if=/dev/zero of=full bs=64k count=64 conv=fsync 2>/dev/null; done & sleep MARK",
    ),
    ("waits for its output", "yes MARK"),
    (
        "waits for a pipe that nobody opens",
        "mkfifo /tmp/p; setsid sh -c 'sleep MARK > /tmp/p' & cat /tmp/p; sleep MARK",
    ),
];

fn policy(host: &Host, limits: &str) -> String {
    let text = format!(
        "schema = 1\nname = \"trial\"\nsummary = \"for a test\"\nextends = [\"generic\"]\n[limits]\n{limits}\n"
    );
    let path: PathBuf = host.write(format!("{}.toml", word(8)), text);
    path.display().to_string()
}

#[test]
fn whatever_a_job_does_when_its_time_is_over_nothing_of_it_is_left() {
    if !requires(NEEDS) {
        return;
    }
    let host = Host::new();
    let policy = policy(&host, "term_grace = \"1s\"\npids = 64\noutput = \"1MiB\"");
    let mut running = Vec::new();
    for (number, (way, script)) in WAYS.iter().enumerate() {
        host.write(format!("{number}/board.txt"), vec![b'x'; 1 << 20]);
        let mark = format!("{}{number:02}", 77_000_000 + std::process::id());
        let show = host.path(number.to_string());
        let options = ["--quiet", "--policy", &policy, "--timeout", "2s"];
        let script = script.replace("MARK", &mark);
        let mut run = host.run(&[(&show, "/mnt/central")], &options, &["sh", "-c", &script]);
        running.push((way, mark, Running::start(&mut run)));
    }
    for (way, mark, run) in running {
        let ended = run.end().failed(10);
        assert!(
            ended.err.contains("ran longer than 2 s"),
            "{way}: {ended:?}"
        );
        let left: Vec<_> = processes()
            .into_iter()
            .filter(|process| process.arguments.iter().any(|word| word.contains(&mark)))
            .collect();
        assert!(left.is_empty(), "{way}: {left:#?}");
    }
}

#[test]
fn what_takes_too_much_memory_is_ended_and_told_apart() {
    if !requires(NEEDS) {
        return;
    }
    let host = Host::new();
    let policy = policy(&host, "memory = \"200MiB\"");
    let show = host.dir("show");
    for script in [
        "/usr/bin/python3 -c 'x = b\"x\" * (500 << 20); import time; time.sleep(60)'",
        "dd if=/dev/zero of=/dev/shm/big bs=1M count=500; sleep 60",
    ] {
        let mut run = host.run(
            &[(&show, "/mnt/central")],
            &["--quiet", "--policy", &policy],
            &["sh", "-c", script],
        );
        let ended = end(&mut run).failed(10);
        assert!(ended.err.contains("out of memory"), "{ended:?}");
    }
    // The control: the same within a policy that has room for it.
    let script = "/usr/bin/python3 -c 'x = b\"x\" * (500 << 20)'; dd if=/dev/zero of=/dev/shm/big bs=1M count=500 2>/dev/null";
    end(&mut host.run(
        &[(&show, "/mnt/central")],
        &["--quiet"],
        &["sh", "-c", script],
    ))
    .ok();
    assert_eq!(fs::read_dir(&show).expect("show").count(), 0);
}
