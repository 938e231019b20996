//! Nothing of the client's is readable outside the view server and the session: not on disk, not in memory, not in a listing.
//!
//! Random words stand in everything that a client gives and a job makes. While the job runs and after it, every byte of the state, of
//! the usual temporary places, of unlinked files that are still open, and of the memory of every process of ours is searched for them.
//! The same search finds them where they may be, and finds one that is planted: it can fail.
//!
//! Of processes that are not ours only what everybody can list is searched: their memory and environment are none of our business.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::harness::{
    Host, Process, Role, Running, SAFELIGHT, Tree, and_wait, below_directory, end, processes,
    requires, word,
};

/// Words to look for, each with what it is.
pub(crate) struct Canaries(pub(crate) Vec<(&'static str, String)>);

impl Canaries {
    pub(crate) fn new(kinds: &[&'static str]) -> Self {
        Self(kinds.iter().map(|kind| (*kind, word(24))).collect())
    }

    #[track_caller]
    pub(crate) fn get(&self, kind: &str) -> &str {
        let found = self.0.iter().find(|(name, _)| *name == kind);
        &found.expect("a known kind").1
    }

    /// Which of them stand in these bytes.
    pub(crate) fn within(&self, bytes: &[u8]) -> BTreeSet<&'static str> {
        let mut begins = vec![false; 1 << 16];
        for (_, word) in &self.0 {
            begins[pair(word.as_bytes())] = true;
        }
        let mut found = BTreeSet::new();
        for (at, two) in bytes.windows(2).enumerate() {
            if begins[pair(two)] {
                let here = self.0.iter();
                let here = here.filter(|(_, word)| bytes[at..].starts_with(word.as_bytes()));
                found.extend(here.map(|(kind, _)| *kind));
            }
        }
        found
    }
}

fn pair(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

/// Where a word stood.
pub(crate) type Finding = (String, BTreeSet<&'static str>);

pub(crate) fn note(found: &mut Vec<Finding>, place: String, words: BTreeSet<&'static str>) {
    if !words.is_empty() {
        found.push((place, words));
    }
}

/// Searches every file below a directory, and every name, except below `except` and what did not change since `since`. Answers how many
/// bytes were looked at, too.
pub(crate) fn search_directory(
    root: &Path,
    except: &Path,
    since: i64,
    canaries: &Canaries,
) -> (Vec<Finding>, u64) {
    let (mut found, mut looked) = (Vec::new(), 0);
    for path in below_directory(root).unwrap_or_default() {
        let changed = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.ctime() >= since);
        if path.starts_with(except) || !changed {
            continue;
        }
        note(
            &mut found,
            format!("the name {}", path.display()),
            canaries.within(path.as_os_str().as_bytes()),
        );
        // A fifo would be waited for.
        let regular = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
        if let Some(bytes) = regular.then(|| fs::read(&path).ok()).flatten() {
            looked += bytes.len() as u64;
            note(
                &mut found,
                path.display().to_string(),
                canaries.within(&bytes),
            );
        }
        if let Ok(target) = fs::read_link(&path) {
            note(
                &mut found,
                format!("the link {}", path.display()),
                canaries.within(target.as_os_str().as_bytes()),
            );
        }
    }
    (found, looked)
}

/// A process's memory, but for what it only maps from files.
pub(crate) fn memory(pid: i32, canaries: &Canaries) -> (BTreeSet<&'static str>, u64) {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let (mut found, mut looked) = (canaries.within(maps.as_bytes()), 0);
    let Ok(mut mem) = File::open(format!("/proc/{pid}/mem")) else {
        return (found, 0);
    };
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ([range, rights, ..], name) = (&fields[..], fields.get(5).copied().unwrap_or_default())
        else {
            continue;
        };
        let from_file = name.starts_with('/') && !rights.contains('w');
        if from_file || !rights.starts_with('r') || name.starts_with("[v") {
            continue;
        }
        let bound = |text: &str| u64::from_str_radix(text, 16).ok();
        let Some((Some(begin), Some(end))) = range
            .split_once('-')
            .map(|(begin, end)| (bound(begin), bound(end)))
        else {
            continue;
        };
        let mut bytes = Vec::new();
        if mem.seek(SeekFrom::Start(begin)).is_ok() {
            let _ = mem.by_ref().take(end - begin).read_to_end(&mut bytes);
        }
        looked += bytes.len() as u64;
        found.extend(canaries.within(&bytes));
    }
    (found, looked)
}

/// What a process holds open that has no name any more, as it lies on the disk.
pub(crate) fn unlinked(pid: i32) -> Vec<Vec<u8>> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    descriptors
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
                && fs::read_link(path).is_ok_and(|to| to.to_string_lossy().ends_with("(deleted)"))
        })
        .filter_map(|path| fs::read(path).ok())
        .collect()
}

fn is_ours(process: &Process) -> bool {
    fs::read_link(format!("/proc/{}/exe", process.pid)).is_ok_and(|exe| exe == Path::new(SAFELIGHT))
}

/// Searches every process but those that may know. Answers how many of ours were looked into.
fn search_processes(tree: &Tree, canaries: &Canaries) -> (Vec<Finding>, usize) {
    let may_know: BTreeSet<i32> = tree
        .processes
        .iter()
        .filter(|process| process.role == Role::View || process.role.is_session())
        .map(|process| process.pid)
        .chain([std::process::id().cast_signed()])
        .collect();
    let (mut found, mut ours) = (Vec::new(), 0);
    for process in processes() {
        if may_know.contains(&process.pid) {
            continue;
        }
        let pid = process.pid;
        let place = |what: &str| format!("{what} of {:?}", process.arguments);
        for what in ["cmdline", "comm"] {
            let bytes = fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            note(&mut found, place(what), canaries.within(&bytes));
        }
        if !is_ours(&process) {
            continue;
        }
        ours += 1;
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        note(&mut found, place("environ"), canaries.within(&environ));
        let (words, looked) = memory(pid, canaries);
        assert!(
            looked > 0 || !process.lives(),
            "the memory of {:?} cannot be read",
            process.arguments
        );
        note(&mut found, place("memory"), words);
        for bytes in unlinked(pid) {
            note(&mut found, place("open file"), canaries.within(&bytes));
        }
    }
    (found, ours)
}

/// Searches every place where something could be left: all of the state, and what changed in places for everybody since the test began.
fn search_places(host: &Host, except: &Path, canaries: &Canaries) -> Vec<Finding> {
    let (mut found, looked) = search_directory(&host.state(), except, 0, canaries);
    assert!(looked > 1000, "the state holds next to nothing: {looked}");
    for place in ["/tmp", "/var/tmp", "/dev/shm", "/run"] {
        found.extend(search_directory(Path::new(place), except, host.born(), canaries).0);
    }
    found
}

/// A letter's successor, so that what a job makes of its input stands in no script.
pub(crate) fn turned(word: &str) -> String {
    let next = |byte: u8| if byte == b'z' { b'a' } else { byte + 1 };
    word.bytes().map(|byte| char::from(next(byte))).collect()
}

pub(crate) const TURN: &str = "tr a-z b-za";

/// A project whose every part is a word to look for; its directory's own name is one.
fn project(host: &Host, canaries: &Canaries) -> PathBuf {
    let show = Path::new("client").join(canaries.get("home"));
    let directory = show.join(canaries.get("directory"));
    host.write(
        directory.join(canaries.get("name")),
        // More than one block, so that the reads do not fit anybody's small buffers.
        format!("{}\n", canaries.get("content")).repeat(8000),
    );
    let link = host.path(&show).join(canaries.get("link"));
    std::os::unix::fs::symlink(canaries.get("target"), link).expect("link");
    host.path(show)
}

#[test]
fn while_a_job_runs_and_after_it_nothing_of_it_is_readable() {
    if !requires(&["root", "fuse", "userns", "landlock"]) {
        return;
    }
    let host = Host::new();
    let kinds = [
        "content",
        "name",
        "directory",
        "link",
        "target",
        "home",
        "parameter",
        "output name",
    ];
    let mut canaries = Canaries::new(&kinds);
    canaries
        .0
        .push(("printed", turned(canaries.get("content"))));
    canaries
        .0
        .push(("written", turned(&turned(canaries.get("content")))));
    let show = project(&host, &canaries);
    let (directory, name) = (canaries.get("directory"), canaries.get("name"));
    let before = format!(
        "held=$(cat */*)\n printed=$(head -1 {directory}/{name} | {TURN}); echo \"$printed\" \"$1\"; echo \"$printed\" >&2\n\
         cat */* | {TURN} | {TURN} > \"$2\"; exec 7<{directory}/{name} 8>>\"$2\""
    );
    let script = and_wait(&before, "echo done");
    let (parameter, output) = (canaries.get("parameter"), canaries.get("output name"));
    let mut run = host.run(
        &[(&show, "/mnt/central")],
        &["--quiet"],
        &["sh", "-c", &script, "sh", parameter, output],
    );
    // The whole of what an operator could have logged must be dark, too.
    run.env("SAFELIGHT_LOG", "trace");
    let except = host.path("client");

    let mut running = Running::start(&mut run);
    running.line("ready");
    let tree = running.tree();
    let (found, ours) = search_processes(&tree, &canaries);
    assert_eq!(found, [], "in processes, while it runs");
    assert!(
        ours >= 3,
        "agent, warden and audit writer were not looked into"
    );
    assert_eq!(
        search_places(&host, &except, &canaries),
        [],
        "while it runs"
    );

    // The working file of the view server is on the disk, holds what the job wrote, and shows none of it.
    let view = tree.one(Role::View);
    let working = unlinked(view.pid);
    let written: usize = working.iter().map(Vec::len).sum();
    assert!(written >= 200_000, "{written} bytes in unlinked files");
    for bytes in &working {
        assert_eq!(canaries.within(bytes), BTreeSet::new());
    }

    // The search can find: the view server knows the names, and the session what it was given.
    let (knows, _) = memory(view.pid, &canaries);
    for kind in ["name", "directory", "output name"] {
        assert!(
            knows.contains(kind),
            "the view server's memory shows {knows:?}"
        );
    }
    let (knows, _) = memory(tree.one(Role::Command).pid, &canaries);
    for kind in ["content", "parameter", "printed"] {
        assert!(knows.contains(kind), "the session's memory shows {knows:?}");
    }

    running.go_on();
    let ended = running.end().ok();
    assert!(ended.out.contains(canaries.get("printed")), "{ended:?}");
    // Only what the job itself printed: at home its output is its client's.
    let logged: String = ended
        .err
        .lines()
        .filter(|line| *line != canaries.get("printed"))
        .collect();
    assert_eq!(
        canaries.within(logged.as_bytes()),
        BTreeSet::new(),
        "{ended:?}"
    );
    assert_eq!(search_places(&host, &except, &canaries), [], "after it");
    let home = fs::read(show.join(output)).expect("the result at home");
    assert!(canaries.within(&home).contains("written"));

    // And a word that is planted is found.
    let planted = host.path("state/area/planted");
    fs::write(&planted, format!("\0{}\0", canaries.get("content"))).expect("file");
    let found = search_places(&host, &except, &canaries);
    assert_eq!(
        found.len(),
        2,
        "in the state, which lies below /tmp: {found:?}"
    );
    assert_eq!(found[0].0, planted.display().to_string());
}

#[test]
fn a_job_that_fails_leaves_nothing_readable_either() {
    if !requires(&["root", "fuse", "userns", "landlock"]) {
        return;
    }
    let host = Host::new();
    let kinds = [
        "content",
        "name",
        "directory",
        "link",
        "target",
        "home",
        "parameter",
        "program",
        "missing",
        "workdir",
    ];
    let canaries = Canaries::new(&kinds);
    let show = project(&host, &canaries);
    let central: &[(&Path, &str)] = &[(&show, "/mnt/central")];
    let except = host.path("client");
    let (program, parameter) = (canaries.get("program"), canaries.get("parameter"));
    let missing = format!("cat */* \"$0\" nothing-{}", canaries.get("missing"));
    let workdir = format!("/mnt/central/{}", canaries.get("workdir"));
    let attempts: [(&[&str], &[&str]); 4] = [
        (&[], &["sh", "-c", &missing, parameter]),
        (&[], &[program, parameter]),
        (&["--workdir", &workdir], &["true"]),
        (&["--expect", &workdir], &["true"]),
    ];
    for (options, command) in attempts {
        let options: Vec<&str> = ["--quiet"].iter().chain(options).copied().collect();
        let ended = end(host
            .run(central, &options, command)
            .env("SAFELIGHT_LOG", "trace"));
        assert_ne!(ended.code, Some(0), "{ended:?}");
        // What the job printed, and what its client is told at home, are its client's to read.
        let at_home = ["cat: ", "error: ", "hint: "];
        let logged: String = ended
            .err
            .lines()
            .filter(|line| !at_home.iter().any(|begin| line.starts_with(begin)))
            .collect();
        assert_eq!(
            canaries.within(logged.as_bytes()),
            BTreeSet::new(),
            "{ended:?}"
        );
        assert_eq!(
            search_places(&host, &except, &canaries),
            [],
            "after {command:?}"
        );
    }
}

#[test]
fn an_agent_that_is_killed_leaves_nothing_readable() {
    if !requires(&["root", "fuse", "userns", "landlock"]) {
        return;
    }
    let host = Host::new();
    let kinds = [
        "content",
        "name",
        "directory",
        "link",
        "target",
        "home",
        "parameter",
    ];
    let mut canaries = Canaries::new(&kinds);
    canaries
        .0
        .push(("written", turned(canaries.get("content"))));
    let show = project(&host, &canaries);
    let before = format!("cat */* | {TURN} > written; cat */* > copied; echo $1 > also");
    let script = and_wait(&before, "");
    let mut running = Running::start(&mut host.run(
        &[(&show, "/mnt/central")],
        &["--quiet"],
        &["sh", "-c", &script, "sh", canaries.get("parameter")],
    ));
    running.line("ready");
    let tree = running.tree();
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.end();
    let left = tree.gone_within(Duration::from_secs(5));
    assert!(left.is_empty(), "still there: {left:#?}");
    let found = search_places(&host, &host.path("client"), &canaries);
    assert_eq!(found, [], "after the agent was killed");
    let (found, _) = search_processes(&tree, &canaries);
    assert_eq!(found, [], "in processes, after the agent was killed");
}
