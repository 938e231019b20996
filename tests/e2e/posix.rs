//! What POSIX promises, inside a real session: the suites as the session's user, and what would keep a view from answering.

use std::{fs, path::PathBuf};

use crate::harness::{Host, end, requires, suite};

const JOB_FAILED: i32 = 10;

const NEEDS: &[&str] = &["root", "fuse", "userns", "landlock"];

/// A suite, where `make setup` puts it, in a directory of a client's.
fn with_suite(host: &Host, name: &str) -> PathBuf {
    let show = host.dir("show");
    fs::create_dir_all(show.join("work")).expect("directory");
    let suite = suite(name).expect("suite");
    fs::copy(suite, show.join(name)).expect("suite");
    show
}

#[test]
fn pjdfstest_in_a_session() {
    if !requires(&[NEEDS, &["pjdfstest"]].concat()) {
        return;
    }
    let host = Host::new();
    let show = with_suite(&host, "pjdfstest");
    let config = "[features]\nposix_fallocate = {}\nrename_ctime = {}\nutime_now = {}\nutimensat = {}\n[settings]\nnaptime = 0.01\n\
                  [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"render\", \"render\"]]\n";
    fs::write(show.join("pjdfstest.toml"), config).expect("configuration");
    let command = "cp pjdfstest.toml /tmp && env NO_COLOR=1 ./pjdfstest -c /tmp/pjdfstest.toml -p work -s /tmp";
    let ended = end(&mut host.run(&[(&show, "/mnt/c")], &[], &["sh", "-c", command])).ok();
    let with = |verdict: &str| {
        ended
            .out
            .lines()
            .filter(|line| line.ends_with(verdict))
            .count()
    };
    assert!(with(" ok") >= 250 && with(" FAILED") == 0, "{ended:?}");
    // What is left out is what needs root, and what the document lists.
    let listed = include_str!("../../docs/semantics.md");
    let mut name = "";
    for line in ended.out.lines() {
        match line.strip_suffix(" skipped") {
            Some(skipped) => name = skipped.trim(),
            None if line.starts_with('\t') => assert!(
                line.contains("requires root privileges")
                    || line.contains("allow_remount")
                    || listed.contains(&format!("| `{name}` |")),
                "{name}: {line}"
            ),
            None => name = "",
        }
    }
}

#[test]
fn fsx_in_a_session() {
    if !requires(&[NEEDS, &["fsx"]].concat()) {
        return;
    }
    let host = Host::new();
    let show = with_suite(&host, "fsx");
    let config = "flen = 400007\n[opsize]\nmin = 1\nmax = 131073\n[weights]\nmapwrite = 10\nmapread = 10\npunch_hole = 5\nclose_open = 1\n\
                  posix_fallocate = 1\ncopy_file_range = 2\nfsync = 1\n";
    fs::write(show.join("fsx.toml"), config).expect("configuration");
    let command = "./fsx -f fsx.toml -N 2000 -S 3 -P /tmp work/file && sha256sum < work/file";
    let ended = end(&mut host.run(&[(&show, "/mnt/c")], &[], &["sh", "-c", command])).ok();
    assert!(
        ended.out.contains("All operations completed A-OK!"),
        "{ended:?}"
    );
    // What came home is what the session saw last.
    let sum = end(std::process::Command::new("sha256sum")
        .stdin(fs::File::open(show.join("work/file")).expect("result")))
    .ok();
    assert!(ended.out.ends_with(&sum.out), "{ended:?} {sum:?}");
}

/// A time that the library between us and the kernel cannot hold: its event loop would end, and who asked would wait beyond any signal.
#[test]
fn a_request_that_cannot_be_answered_ends_the_session_and_hangs_nobody() {
    if !requires(&[NEEDS, &["python3"]].concat()) {
        return;
    }
    let host = Host::new();
    host.write("show/file", "x");
    let show = host.path("show");
    let script = |seconds: &str| {
        format!(
            "import ctypes, struct; libc = ctypes.CDLL(None); print(libc.utimensat(-100, b'file', struct.pack('qqqq', *[{seconds}, 1] * 2), 0))"
        )
    };
    let run = |seconds: &str| {
        end(&mut host.run(
            &[(&show, "/mnt/c")],
            &[],
            &["python3", "-c", &script(seconds)],
        ))
    };
    assert_eq!(
        run("1 - (1 << 63)").ok().out,
        "0\n",
        "the control: a second later is fine"
    );
    let ended = run("-(1 << 63)").failed(JOB_FAILED);
    assert!(ended.err.contains("the view server went away"), "{ended:?}");
    run("0").ok();
}
