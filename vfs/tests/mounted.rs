//! A view behind the kernel: real programs, real pages, then sealed and compared.
//!
//! Needs root and `/dev/fuse`. Where they are not, the tests say that they were skipped, and fail if `SAFELIGHT_REQUIRE` lists `fuse`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test's helpers fail by panicking, and a skipped test says so"
)]

mod mounting;

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::{fs::symlink, process::CommandExt},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use safelight_policies::event::{Access, Op, Verdict};

use crate::mounting::{Bench, can_mount, command, finish, noise, run};

/// Everything that `stat` and `readlink` say of a tree, but for link counts of directories, sorted.
fn about(root: &Path) -> Vec<String> {
    let what = "%y %m %s %T@ %n %P -> %l\\n";
    let text = run(&mut command(
        "find",
        &[&root, &"!", &"-type", &"d", &"-printf", &what],
    ));
    let directories = run(&mut command(
        "find",
        &[&root, &"-type", &"d", &"-printf", &"%y %m %T@ %P\\n"],
    ));
    let mut lines: Vec<String> = text
        .lines()
        .chain(directories.lines())
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

fn same(a: &Path, b: &Path) {
    run(&mut command("diff", &[&"-r", &"--no-dereference", &a, &b]));
}

/// A small project: many files, a large one, links, odd names.
fn project(root: &Path) {
    for number in 0..120 {
        let directory = root.join(format!("d{}/e{}", number % 7, number % 3));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("f{number}")), noise(number * 1111)).unwrap();
    }
    fs::write(root.join("large"), noise(17 << 20)).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    symlink("d1/e1", root.join("link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    fs::write(root.join("a name\nwith \u{e9}"), b"odd").unwrap();
}

/// What programs do to the project.
fn change(at: &Path) {
    // The inputs are copied, moved about, changed and removed.
    run(&mut command(
        "cp",
        &[&"-a", &at.join("d1"), &at.join("copied")],
    ));
    run(&mut command("mv", &[&at.join("d2"), &at.join("moved")]));
    run(&mut command("mv", &[&at.join("d3/e0"), &at.join("d2")]));
    run(&mut command("rm", &[&"-r", &at.join("d4")]));
    fs::create_dir(at.join("d4")).unwrap();
    fs::write(at.join("d4/new"), b"new").unwrap();
    fs::hard_link(at.join("large"), at.join("d4/large")).unwrap();
    run(&mut command(
        "dd",
        &[
            &"if=/dev/zero",
            &format!("of={}", at.join("large").display()),
            &"bs=70000",
            &"seek=3",
            &"count=2",
            &"conv=notrunc",
        ],
    ));
    if finish(&mut command("python3", &[&"--version"]))
        .status
        .success()
    {
        let work = at.join("work");
        fs::create_dir(&work).unwrap();
        run(&mut command(
            "python3",
            &[
                &concat!(env!("CARGO_MANIFEST_DIR"), "/tests/posix.py"),
                &work,
                &"appending",
                &"mapping",
                &"replacing_what_is_open",
                &"unlinking_what_is_open",
                &"holes",
                &"copying_what_is_still_written",
                &"lengths",
                &"names",
                &"attributes",
            ],
        ));
        // Eight gigabytes of hole are read by nobody here.
        fs::remove_file(work.join("sparse")).unwrap();
    } else {
        println!("skipped: the part that needs python3");
    }
}

#[test]
fn programs_find_what_was_packed_and_what_they_wrote_before_and_after_it_is_sealed() {
    if !can_mount("programs") {
        return;
    }
    let bench = Bench::new();
    project(&bench.at("in"));
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    let at = mounted.at.clone();
    same(&bench.at("in"), &at);

    change(&at);
    let copy = bench.at("copy");
    run(&mut command("cp", &[&"-a", &at.join("."), &copy]));
    let before = about(&at);
    let view = mounted.end();

    let result = bench.seal(&view);
    let again = bench.mount("again", &[&inputs, &result], false, &[]);
    let after = about(&again.at);
    let only = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|line| !b.contains(line)).cloned().collect()
    };
    assert_eq!(only(&before, &after), only(&after, &before));
    same(&copy, &again.at);
    let refused = finish(&mut command("touch", &[&again.at.join("new")]));
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(complaint.contains("Read-only file system"), "{complaint}");
    again.end();
}

#[test]
fn forty_mebibytes_come_back_as_they_went() {
    if !can_mount("forty_mebibytes") {
        return;
    }
    let bench = Bench::new();
    let bytes = noise(40 << 20);
    fs::write(bench.at("in/sealed"), &bytes).unwrap();
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    let sum = |path: &Path| {
        let text = run(&mut command("sha256sum", &[&path]));
        text.split(' ').next().unwrap().to_owned()
    };
    let expected = sum(&bench.at("in/sealed"));
    let (sealed, own) = (mounted.at.join("sealed"), mounted.at.join("own"));
    let mut file = File::create(&own).unwrap();
    file.write_all(&bytes).unwrap();
    file.sync_all().unwrap();
    // What is read now comes from the server, not from the kernel's pages.
    let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED;
    nix::fcntl::posix_fadvise(&file, 0, 0, advice).unwrap();
    drop(file);
    assert_eq!(sum(&sealed), expected);
    assert_eq!(sum(&own), expected);
    mounted.end();
}

#[test]
fn three_hundred_threads_and_thirty_processes_leave_nothing_behind() {
    if !can_mount("three_hundred") {
        return;
    }
    let bench = Bench::new();
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    let at = mounted.at.clone();
    let nodes = || {
        let found = nix::sys::statvfs::statvfs(&at).unwrap();
        found.files() - found.files_free()
    };
    let before = nodes();
    let threads: Vec<_> = (0..300)
        .map(|number| {
            let at = at.clone();
            thread::spawn(move || {
                for round in 0..6 {
                    let (a, b) = (
                        at.join(format!("a{number}")),
                        at.join(format!("b{}", number % 10)),
                    );
                    fs::write(&a, format!("{number} {round}")).unwrap();
                    // Ten names that thirty threads rename over each other.
                    fs::rename(&a, &b).unwrap();
                    let _ = fs::read_to_string(&b);
                    assert!(fs::read_dir(&at).unwrap().all(|entry| entry.is_ok()));
                    let _ = fs::remove_file(&b);
                }
            })
        })
        .collect();
    let script = "for i in 1 2 3 4 5 6 7 8; do mkdir $0.d && echo $i > $0.d/f && ln $0.d/f $0.l && rm -r $0.d $0.l || exit 1; done";
    let processes: Vec<_> = (0..30)
        .map(|number| {
            let name = at.join(format!("p{number}"));
            thread::spawn(move || run(&mut command("sh", &[&"-c", &script, &name])))
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    processes
        .into_iter()
        .for_each(|thread| drop(thread.join().unwrap()));
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
    let patience = Instant::now() + Duration::from_secs(10);
    while nodes() != before {
        assert!(
            Instant::now() < patience,
            "{} nodes are left over",
            nodes() - before
        );
        thread::sleep(Duration::from_millis(50));
    }
    let view = mounted.end();
    assert_eq!(bench.seal(&view).len(), 1);
}

#[test]
fn who_did_what_is_on_the_log_and_a_refusal_is_a_refusal() {
    if !can_mount("who_did_what") {
        return;
    }
    let bench = Bench::new();
    fs::create_dir(bench.at("in/secret")).unwrap();
    for name in ["open", "secret/shut"] {
        fs::write(bench.at("in").join(name), b"text").unwrap();
    }
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &["secret/**"]);
    let at = mounted.at.clone();
    assert_eq!(run(&mut command("cat", &[&at.join("open")])), "text");
    assert_eq!(run(&mut command("ls", &[&at])), "open\n");
    for (words, complaint) in [
        (["cat", "secret/shut"], "Permission denied"),
        (["touch", "secret"], "Permission denied"),
        (["cat", "none"], "No such file or directory"),
    ] {
        let refused = finish(&mut command(words[0], &[&at.join(words[1])]));
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && text.contains(complaint),
            "{words:?}: {text}"
        );
    }
    // Another user of the same host, even where the mount lets it in.
    let stranger = Command::new("cat")
        .arg(at.join("none either"))
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&stranger.stderr).contains("Permission denied"));
    mounted.end();

    let log = bench.log.0.lock().unwrap();
    let has = |op, path: &str, comm: &str, verdict: &dyn Fn(&Verdict) -> bool| {
        let full = format!("/mnt/show{path}").into_bytes();
        let fits = |access: &&Access| access.op == op && access.path == full && access.comm == comm;
        assert!(
            log.iter()
                .filter(fits)
                .any(|access| verdict(&access.verdict)),
            "{op:?} {path} {comm}: {log:#?}"
        );
    };
    let allowed = |verdict: &Verdict| *verdict == Verdict::Allowed;
    let denied = |verdict: &Verdict| matches!(verdict, Verdict::Denied { .. });
    has(Op::OpenRead, "/open", "cat", &allowed);
    has(Op::List, "", "ls", &allowed);
    has(Op::Lookup, "/secret", "cat", &denied);
    has(Op::Lookup, "/secret", "touch", &denied);
    has(Op::Lookup, "/none", "cat", &|verdict| {
        *verdict == Verdict::Missing
    });
    has(Op::Lookup, "", "cat", &denied);
    assert!(!log.iter().any(|access| access.path.ends_with(b"shut")));
}

#[test]
fn pages_that_were_not_sent_yet_are_sent_before_the_mount_is_gone() {
    if !can_mount("pages") {
        return;
    }
    let bench = Bench::new();
    fs::write(bench.at("in/a"), noise(200_000)).unwrap();
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    let mut expected = noise(200_000);
    let file = File::options()
        .read(true)
        .write(true)
        .open(mounted.at.join("a"))
        .unwrap();
    for (number, byte) in expected.iter_mut().enumerate().step_by(4099) {
        std::os::unix::fs::FileExt::write_all_at(&file, &[7], number as u64).unwrap();
        *byte = 7;
    }
    drop(file);
    let view = mounted.end();
    let result = bench.seal(&view);
    let again = bench.mount("again", &[&inputs, &result], false, &[]);
    let mut found = Vec::new();
    File::open(again.at.join("a"))
        .unwrap()
        .read_to_end(&mut found)
        .unwrap();
    assert!(found == expected);
    again.end();
}
