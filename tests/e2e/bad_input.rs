//! What a user does wrong is an error that names the thing and the next step, with the exit code of who has to act.
//!
//! The whole of standard error is asserted, since that is what the user has. `JOB` stands for the job's id and `HERE` for the
//! test's own directory.

use std::{fs, os::unix::fs::PermissionsExt, process::Command, time::Duration};

use crate::harness::{Ended, Host, SAFELIGHT, clean, end, requires};

const USER: i32 = 2;
const CONFIG: i32 = 3;
const DENIED: i32 = 4;
const JOB_FAILED: i32 = 10;
const ENVIRONMENT: i32 = 78;

/// Standard error with what differs from run to run taken out.
fn talk(host: &Host, ended: &Ended) -> String {
    let mut text = ended
        .err
        .replace(&host.root().display().to_string(), "HERE");
    if let Some(begin) = text.find("job-") {
        let length = text[begin..].find(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        let job = text[begin..begin + length.unwrap_or(text.len() - begin)].to_owned();
        text = text.replace(&job, "JOB");
    }
    text
}

#[track_caller]
fn says(host: &Host, ended: Ended, code: i32, lines: &[&str]) {
    let ended = ended.failed(code);
    assert_eq!(talk(host, &ended).lines().collect::<Vec<_>>(), lines);
    assert_eq!(ended.out, "", "an error is no data");
}

/// A host with a directory `show` in it.
fn host() -> Host {
    let host = Host::new();
    host.write("show/board.txt", "a secret storyboard\n");
    host
}

fn run(host: &Host, options: &[&str], command: &[&str]) -> Ended {
    end(&mut host.run(&[(&host.path("show"), "/mnt/c")], options, command))
}

/// `safelight run OPTIONS -- true`, and nothing of a job on the disk afterwards.
#[track_caller]
fn refused(host: &Host, options: &[&str], code: i32, lines: &[&str]) {
    let ended = end(host
        .safelight()
        .arg("run")
        .args(options)
        .args(["--", "true"]));
    says(host, ended, code, lines);
    let jobs = fs::read_dir(host.path("state/jobs"))
        .map(Iterator::count)
        .unwrap_or_default();
    assert_eq!(jobs, 0, "a refused job leaves nothing");
}

#[test]
fn a_policy_that_is_not_there_is_named_with_those_that_are() {
    let host = host();
    refused(
        &host,
        &["--policy", "nope"],
        USER,
        &[
            "error: there is no policy named \"nope\"; there are: base, blender, ffmpeg, generic, povray, python, strict",
            "hint: 'safelight policy list' says what each is for",
        ],
    );
    let file = host.path("none.toml").display().to_string();
    refused(
        &host,
        &["--policy", &file],
        USER,
        &[
            "error: cannot read the policy HERE/none.toml: No such file or directory (os error 2)",
            "hint: 'safelight policy list' shows those that need no file",
        ],
    );
}

#[test]
fn a_policy_that_does_not_parse_is_named_by_its_line() {
    let host = host();
    let begin = "schema = 1\nname = \"own\"\nsummary = \"x\"\nextends = [\"generic\"]\n";
    for (text, message) in [
        (
            "bogus = 3\n",
            "error: HERE/own.toml:5: unknown field `bogus`, expected one of `schema`, `name`, `summary`, `extends`, `root`, `tmp`, `device`, `env`, `env_pass`, `reach`, `seccomp`, `limits`, `features`, `central`",
        ),
        ("[limits]\nquota = 5\n", "error: HERE/own.toml:6: "),
        ("[[root]\n", "error: HERE/own.toml:5: "),
    ] {
        let file = host
            .write("own.toml", format!("{begin}{text}"))
            .display()
            .to_string();
        let ended = end(host
            .safelight()
            .args(["run", "--policy", &file, "--", "true"]))
        .failed(CONFIG);
        assert!(talk(&host, &ended).starts_with(message), "{ended:?}");
    }
}

#[test]
fn a_path_that_cannot_be_central_is_refused_with_the_reason() {
    let host = host();
    let show = host.path("show").display().to_string();
    for (path, reason) in [
        ("mnt/c", "it is not absolute"),
        ("/", "it is the root directory"),
        ("/usr/share/farm", "it lies on a system directory"),
        ("/etc", "it lies on a system directory"),
        ("/tmp/farm", "it lies on a system directory"),
        ("/mnt/../etc", "it has an empty, '.' or '..' part"),
        ("/mnt//c", "it has an empty, '.' or '..' part"),
        ("/mnt/c/", "it has an empty, '.' or '..' part"),
    ] {
        let central = format!("{show}:{path}");
        let error = format!(
            "error: invalid value 'HERE/show:{path}' for '--central <HOST_DIR:PATH[:ro]>': \
             \"{path}\" cannot be a central path: {reason}"
        );
        let lines = [error.as_str(), "", "For more information, try '--help'."];
        refused(&host, &["--central", &central], USER, &lines);
    }
}

#[test]
fn central_paths_that_overlap_are_refused() {
    let host = host();
    let show = host.path("show").display().to_string();
    for (second, overlap) in [
        ("/mnt/c/d", "/mnt/c"),
        ("/mnt", "/mnt/c"),
        ("/mnt/c", "/mnt/c"),
    ] {
        let (one, two) = (format!("{show}:/mnt/c"), format!("{show}:{second}"));
        let error = format!(
            "error: the policy generic denies the central path {second}: \
             it overlaps the central path {overlap} (generic.toml:4)"
        );
        let lines = [error.as_str(), "hint: safelight policy show generic"];
        refused(
            &host,
            &["--central", &one, "--central", &two],
            DENIED,
            &lines,
        );
    }
}

#[test]
fn a_directory_of_yours_that_is_none_is_named() {
    let host = host();
    let here = host.root().display().to_string();
    let hint = "hint: name a directory of yours that the command is to see at /mnt/c";
    refused(
        &host,
        &["--central", &format!("{here}/nowhere:/mnt/c")],
        USER,
        &[
            "error: HERE/nowhere cannot be read: No such file or directory (os error 2)",
            hint,
        ],
    );
    refused(
        &host,
        &["--central", &format!("{here}/show/board.txt:/mnt/c")],
        USER,
        &["error: HERE/show/board.txt is not a directory", hint],
    );
}

#[test]
fn what_cannot_travel_is_named() {
    let host = host();
    let pipe = host.path("show/pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("pipe");
    let central = format!("{}:/mnt/c", host.path("show").display());
    refused(
        &host,
        &["--central", &central],
        USER,
        &[
            "error: HERE/show/pipe is neither a file nor a directory nor a symbolic link, so it cannot travel",
        ],
    );
}

/// Root reads everything, so this one is asked as somebody else.
#[test]
fn a_file_that_cannot_be_read_is_named() {
    if !requires(&["root", "setpriv"]) {
        return;
    }
    let host = host();
    fs::set_permissions(
        host.path("show/board.txt"),
        fs::Permissions::from_mode(0o000),
    )
    .expect("mode");
    fs::set_permissions(host.root(), fs::Permissions::from_mode(0o777)).expect("mode");
    let program = host.path("safelight");
    fs::copy(SAFELIGHT, &program).expect("a copy that anybody may start");
    let mut run = clean(Command::new("setpriv"), &host.state(), host.root());
    run.args(["--reuid=1530000001", "--regid=1530000001", "--clear-groups"])
        .arg(&program);
    run.arg("run")
        .arg("--central")
        .arg(format!("{}:/mnt/c", host.path("show").display()));
    let ended = end(run.args(["--", "true"]));
    // A host whose /dev/fuse is for root alone says that first, as it is known before anything is read.
    if ended.code == Some(ENVIRONMENT) && ended.err.contains("/dev/fuse") {
        println!("skipped: a_file_that_cannot_be_read_is_named needs a /dev/fuse for everybody");
        return;
    }
    says(
        &host,
        ended,
        USER,
        &["error: cannot read HERE/show/board.txt: Permission denied (os error 13)"],
    );
}

#[test]
fn an_expected_file_lies_below_a_central_path() {
    let host = host();
    let central = format!("{}:/mnt/c", host.path("show").display());
    for path in ["/other/frame.png", "frame.png", "/mnt/central/frame.png"] {
        let error = format!("error: {path} is expected but lies below no --central path");
        let lines = [
            error.as_str(),
            "hint: only what a command writes below a central path comes home",
        ];
        refused(
            &host,
            &["--central", &central, "--expect", path],
            USER,
            &lines,
        );
    }
    refused(
        &host,
        &[
            "--central",
            &central,
            "--expect",
            "/mnt/c/../../etc/frame.png",
        ],
        USER,
        &[
            "error: an expected output must be an absolute path of at most 4095 bytes without '.', '..' and '//'",
        ],
    );
}

#[test]
fn a_timeout_beyond_the_policy_is_denied_by_the_line_that_says_so() {
    let host = host();
    let ended = end(host
        .safelight()
        .args(["run", "--timeout", "2d", "--", "true"]));
    let ended = ended.failed(DENIED);
    let (begin, end_of_rule) = (
        "error: the policy generic denies a timeout of 2d: its limit is 1d (base.toml:",
        ")\nhint: safelight policy show generic\n",
    );
    assert!(
        ended.err.starts_with(begin) && ended.err.ends_with(end_of_rule),
        "{ended:?}"
    );
    refused(
        &host,
        &["--timeout", "soon"],
        USER,
        &[
            "error: invalid value 'soon' for '--timeout <TIME>': expected a time such as 90, 90s, 15m, 2h or 1d",
            "",
            "For more information, try '--help'.",
        ],
    );
}

#[test]
fn a_command_must_be_there() {
    let host = host();
    says(
        &host,
        end(host.safelight().args(["run", "--", ""])),
        USER,
        &["error: the command is empty"],
    );
    let none = end(host.safelight().args(["run", "--"])).failed(USER);
    assert!(
        none.err
            .contains("the following required arguments were not provided:\n  <CMD>..."),
        "{none:?}"
    );
}

/// The lines of a job that was packed and looked at these many files: read, written, denied, missing.
fn packed(counts: [u32; 4]) -> [String; 2] {
    let [read, written, denied, missing] = counts;
    [
        "JOB: sealed 1 files, 20 B".to_owned(),
        format!("JOB: {read} read, {written} written, {denied} denied, {missing} missing"),
    ]
}

#[track_caller]
fn job_fails(options: &[&str], command: &[&str], counts: [u32; 4], lines: &[&str]) {
    if !requires(&["fuse", "userns", "landlock"]) {
        return;
    }
    let host = host();
    let ended = run(&host, options, command);
    let packed = packed(counts);
    let expected: Vec<&str> = packed
        .iter()
        .map(String::as_str)
        .chain(lines.iter().copied())
        .collect();
    says(&host, ended, JOB_FAILED, &expected);
    let names: Vec<_> = fs::read_dir(host.path("show"))
        .expect("show")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(names, ["board.txt"], "what a failed job wrote stays away");
}

const MOUNT: &str = "hint: safelight view mount JOB DIR --attempt last";
const MISSING: &str = "hint: safelight audit missing JOB";
const REFUSED: &str = "hint: safelight audit denied JOB";

#[test]
fn a_program_that_is_not_there_is_named() {
    const HINT: &str = "hint: the program must be in the session's PATH or below a central path, and executable: safelight policy show POLICY";
    job_fails(
        &[],
        &["no-such-renderer", "--frame", "1"],
        [0, 0, 0, 0],
        &[
            "error: JOB failed: the program no-such-renderer: No such file or directory (os error 2)",
            HINT,
        ],
    );
    job_fails(
        &[],
        &["/mnt/c/board.txt"],
        [0, 0, 0, 0],
        &[
            "error: JOB failed: the program /mnt/c/board.txt: Permission denied (os error 13)",
            HINT,
        ],
    );
}

#[test]
fn a_working_directory_that_is_not_there_is_named() {
    job_fails(
        &["--workdir", "/mnt/c/none"],
        &["true"],
        [0, 0, 0, 1],
        &[
            "error: JOB failed: the working directory /mnt/c/none: No such file or directory (os error 2)",
            "hint: name a directory that is there with --workdir",
        ],
    );
}

#[test]
fn a_renderer_that_fails_is_told_with_its_code_and_what_it_did_not_find() {
    job_fails(
        &[],
        &["sh", "-c", "test -e texture.png; echo x > half.png; exit 7"],
        [0, 1, 0, 1],
        &[
            "error: JOB failed: exited with code 7",
            MISSING,
            REFUSED,
            MOUNT,
        ],
    );
}

#[test]
fn a_renderer_that_dies_is_told_with_its_signal() {
    job_fails(
        &[],
        &["sh", "-c", "kill -SEGV $$"],
        [0, 0, 0, 0],
        &[
            "error: JOB failed: killed by signal 11",
            MISSING,
            REFUSED,
            MOUNT,
        ],
    );
}

#[test]
fn a_renderer_that_writes_nothing_is_no_success() {
    job_fails(
        &["--expect", "/mnt/c/frame.png"],
        &["true"],
        [0, 0, 0, 1],
        &[
            "error: JOB failed: an expected output is missing",
            MISSING,
            MOUNT,
        ],
    );
    // What was sent in is not an output, whatever its name.
    job_fails(
        &["--expect", "/mnt/c/board.txt"],
        &["true"],
        [0, 0, 0, 1],
        &[
            "error: JOB failed: an expected output is missing",
            MISSING,
            MOUNT,
        ],
    );
}

#[test]
fn a_renderer_that_hangs_is_ended_at_its_limit() {
    let began = std::time::Instant::now();
    job_fails(
        &["--timeout", "1s"],
        &["sleep", "1000"],
        [0, 0, 0, 0],
        &[
            "error: JOB failed: ran longer than 1 s",
            "hint: give it more time with --timeout, or a policy with a higher limit",
            MOUNT,
        ],
    );
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

/// Forked twice, in a session of its own, deaf to signals: PID 1 ends, and with it everything.
#[test]
fn a_daemon_that_a_renderer_leaves_behind_dies_with_the_session() {
    if !requires(&["fuse", "userns", "landlock"]) {
        return;
    }
    let host = host();
    // A length of sleep that is nobody else's.
    let seconds = format!("86{}", std::process::id());
    let daemon = format!(
        "trap '' TERM HUP INT; (setsid sh -c 'trap \"\" TERM; sleep {seconds} & sleep {seconds}' >/dev/null 2>&1 &) ; sleep 2; exit 0"
    );
    let sleeping = || {
        let all = crate::harness::processes();
        all.into_iter()
            .filter(|process| process.arguments.contains(&seconds))
            .count()
    };
    let mut job = crate::harness::Running::start(&mut host.run(
        &[(&host.path("show"), "/mnt/c")],
        &[],
        &["sh", "-c", &format!("{daemon}; echo never")],
    ));
    let mut seen = 0;
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while seen == 0 && std::time::Instant::now() < until {
        seen = sleeping();
    }
    assert!(seen > 0, "the daemon ran");
    let _ = &mut job;
    job.end().ok();
    assert_eq!(sleeping(), 0, "the daemon outlived its session");
}

#[test]
fn a_job_that_is_not_there_is_named() {
    let host = host();
    let show = |what: &str| end(host.safelight().args(["audit", "show", what]));
    says(
        &host,
        show("last"),
        USER,
        &["error: there is no job yet", "hint: safelight job list"],
    );
    says(
        &host,
        show("xyz"),
        USER,
        &[
            "error: no job has an id that begins with \"xyz\"",
            "hint: safelight job list",
        ],
    );
    let bad = show("../x").failed(USER);
    assert!(bad.err.contains("\"../x\""), "{bad:?}");
}

#[test]
fn a_client_without_a_key_is_told_how_to_make_one() {
    let host = host();
    says(
        &host,
        end(host.safelight().args(["key", "show"])),
        USER,
        &[
            "error: this client has no keys yet: there is no HERE/state/client/identity.key",
            "hint: safelight key new",
        ],
    );
}

#[test]
fn a_key_that_is_damaged_is_named() {
    if !requires(&["fuse", "userns", "landlock"]) {
        return;
    }
    let host = host();
    end(host.safelight().args(["key", "new"])).ok();
    host.write("state/client/identity.key", "not a key");
    let ended = run(&host, &[], &["true"]).failed(CONFIG);
    let text = talk(&host, &ended);
    assert!(
        text.starts_with("error: HERE/state/client/identity.key: "),
        "{text}"
    );
    assert!(
        text.ends_with("hint: restore the key file from a backup\n"),
        "{text}"
    );
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named() {
    let host = host();
    host.write("file", "");
    let ended = end(host
        .safelight()
        .args(["key", "new", "--state"])
        .arg(host.path("file")));
    says(
        &host,
        ended,
        ENVIRONMENT,
        &[
            "error: cannot prepare HERE/file: File exists (os error 17)",
            "hint: name another place with --state DIR",
        ],
    );
    let ended = end(host
        .safelight()
        .args(["key", "new", "--state", "/proc/safelight"]));
    says(
        &host,
        ended,
        ENVIRONMENT,
        &[
            "error: cannot prepare /proc/safelight: No such file or directory (os error 2)",
            "hint: name another place with --state DIR",
        ],
    );
}
