//! Many at once on one file and one directory. Each scenario runs for a while under a watchdog: a hang is a failure with a name.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    chance::Chance,
    mounting::{Bench, Watchdog, can_mount, noise},
};

const PAGE: usize = 4096;
const PAGES: u64 = 200;

/// Who does something again and again: a name, how many of them, and what.
type Part = (usize, fn(&Path, &mut Chance));

/// The one byte that a page of the file may hold, besides zeros.
fn tag(page: u64) -> u8 {
    (page % 250) as u8 + 1
}

/// Runs the parts side by side for a while.
fn together(name: &'static str, at: &Path, parts: &[Part], time: Duration, beats: &Arc<AtomicU64>) {
    let until = Instant::now() + time;
    let mut all = Vec::new();
    for (number, (count, act)) in parts.iter().enumerate() {
        for copy in 0..*count {
            let (at, act, beats) = (at.to_owned(), *act, beats.clone());
            let seed = (number * 100 + copy) as u64;
            all.push(thread::spawn(move || {
                let mut chance = Chance::new(seed);
                while Instant::now() < until {
                    act(&at, &mut chance);
                    beats.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
    }
    let failed = all.into_iter().filter_map(|part| part.join().err()).count();
    assert_eq!(failed, 0, "{name}: parts failed");
}

/// A scenario: what is there at first, who does what, and what must be so in the end.
struct Scenario {
    name: &'static str,
    before: fn(&Path),
    parts: &'static [Part],
    after: fn(&Path),
}

fn one(at: &Path) -> PathBuf {
    at.join("one")
}

fn write_pages(at: &Path, chance: &mut Chance) {
    let Ok(file) = File::options().write(true).open(one(at)) else {
        return;
    };
    let page = chance.below(PAGES);
    file.write_all_at(&[tag(page); PAGE], page * PAGE as u64)
        .unwrap();
}

fn read_pages(at: &Path, _: &mut Chance) {
    let Ok(mut file) = File::open(one(at)) else {
        return;
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    for (page, bytes) in bytes.chunks(PAGE).enumerate() {
        let tag = tag(page as u64);
        assert!(
            bytes.iter().all(|byte| *byte == 0 || *byte == tag),
            "page {page} has other bytes"
        );
    }
}

fn cut(at: &Path, chance: &mut Chance) {
    if let Ok(file) = File::options().write(true).open(one(at)) {
        file.set_len(chance.below(PAGES * PAGE as u64)).unwrap();
    }
}

fn replace(at: &Path, chance: &mut Chance) {
    if chance.below(4) == 0 {
        let _ = fs::remove_file(one(at));
    }
    let new = at.join(format!("new{}", chance.below(1 << 40)));
    fs::write(&new, vec![tag(0); PAGE]).unwrap();
    fs::rename(&new, one(at)).unwrap();
}

fn sync(at: &Path, _: &mut Chance) {
    if let Ok(file) = File::options().write(true).open(one(at)) {
        file.sync_all().unwrap();
    }
}

const STAY: usize = 150;

fn storm(at: &Path, chance: &mut Chance) {
    let name = |chance: &mut Chance| at.join(format!("moves{}", chance.below(40)));
    let (a, b) = (name(chance), name(chance));
    match chance.below(6) {
        0 => drop(File::create(&a)),
        1 => drop(fs::remove_file(&a)),
        2 => drop(fs::create_dir(&a)),
        3 => drop(fs::remove_dir(&a)),
        4 => drop(fs::hard_link(&a, &b)),
        _ => drop(fs::rename(&a, &b)),
    }
}

/// Whatever comes and goes, what stays is told exactly once.
fn list(at: &Path, _: &mut Chance) {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for entry in fs::read_dir(at).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        *seen.entry(name).or_default() += 1;
    }
    let stayed = seen
        .iter()
        .filter(|(name, _)| name.starts_with("stays"))
        .count();
    assert_eq!(stayed, STAY, "names that stay are lost");
    assert!(
        seen.values().all(|times| *times == 1),
        "names are told twice: {seen:?}"
    );
}

/// What is open stays whole when its name goes.
fn read_what_goes(at: &Path, chance: &mut Chance) {
    let path = at.join(format!("goes{}", chance.below(20)));
    let expected = noise(150_000);
    if let Ok(mut file) = File::open(path) {
        let mut bytes = vec![0; 70_000];
        file.read_exact(&mut bytes).unwrap();
        thread::yield_now();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes == expected, "an open file changed when its name went");
    }
}

fn take_away(at: &Path, chance: &mut Chance) {
    let path = at.join(format!("goes{}", chance.below(20)));
    let _ = fs::remove_file(&path);
    let new = at.join(format!("comes{}", chance.below(1 << 40)));
    fs::write(&new, noise(150_000)).unwrap();
    fs::rename(new, path).unwrap();
}

fn nameless(at: &Path, chance: &mut Chance) {
    let path = at.join(format!("nameless{}", chance.below(1 << 40)));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    fs::remove_file(&path).unwrap();
    let bytes = noise(chance.below(200_000) as usize);
    file.write_all(&bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut found = Vec::new();
    file.read_to_end(&mut found).unwrap();
    assert!(found == bytes);
}

fn nothing(_: &Path) {}

fn empty(at: &Path) {
    assert_eq!(fs::read_dir(at).unwrap().count(), 0);
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "one file is written, read, cut, replaced and synced",
        before: |at| fs::write(one(at), vec![0; PAGE]).unwrap(),
        parts: &[
            (4, write_pages),
            (4, read_pages),
            (1, cut),
            (1, replace),
            (1, sync),
        ],
        after: |at| read_pages(at, &mut Chance::new(0)),
    },
    Scenario {
        name: "names of one directory come, go and move while it is listed",
        before: |at| {
            (0..STAY)
                .for_each(|number| drop(File::create(at.join(format!("stays{number}"))).unwrap()))
        },
        parts: &[(6, storm), (3, list)],
        after: |at| list(at, &mut Chance::new(0)),
    },
    Scenario {
        name: "files go while they are read",
        before: nothing,
        parts: &[(4, read_what_goes), (2, take_away)],
        after: nothing,
    },
    Scenario {
        name: "files without a name are written and read",
        before: nothing,
        parts: &[(8, nameless)],
        after: empty,
    },
];

fn storms(test: &'static str, time: Duration) {
    if !can_mount(test) {
        return;
    }
    let bench = Bench::new();
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    for (number, scenario) in SCENARIOS.iter().enumerate() {
        println!("{}", scenario.name);
        let at = mounted.at.join(number.to_string());
        fs::create_dir(&at).unwrap();
        (scenario.before)(&at);
        let watchdog = Watchdog::over(&mounted, scenario.name);
        together(scenario.name, &at, scenario.parts, time, &watchdog.beats());
        assert!(!watchdog.end(), "{} hung", scenario.name);
        (scenario.after)(&at);
        fs::remove_dir_all(&at).unwrap();
    }
    nothing_is_left(&mounted.at);
    mounted.end();
}

/// Every node and every byte is given back.
fn nothing_is_left(at: &Path) {
    let found = || {
        let found = nix::sys::statvfs::statvfs(at).unwrap();
        (
            found.files() - found.files_free(),
            found.blocks() - found.blocks_free(),
        )
    };
    let patience = Instant::now() + Duration::from_secs(20);
    while found() != (1, 0) {
        assert!(
            Instant::now() < patience,
            "(nodes, blocks) left over: {:?}",
            found()
        );
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn many_at_once_for_a_moment() {
    storms("many_at_once_for_a_moment", Duration::from_millis(700));
}

#[test]
#[ignore = "long: a minute for each scenario"]
fn many_at_once_for_minutes() {
    storms("many_at_once_for_minutes", Duration::from_secs(60));
}

/// A process that maps the file and reads it over and over; one that is cut off under it dies of SIGBUS, as on any file system.
const MAPPER: &str = r#"
import mmap, os, signal, sys, time
until = time.monotonic() + float(sys.argv[2])
rounds = 0
while time.monotonic() < until:
    pid = os.fork()
    if pid == 0:
        with open(sys.argv[1], "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size:
                try:
                    memory = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
                except ValueError:
                    os._exit(0)  # Cut since it was measured: mmap looks at the size as well.
                with memory:
                    for page in range(0, size // 4096):
                        bytes = set(memory[page * 4096:page * 4096 + 4096])
                        if not bytes <= {0, page % 250 + 1}:
                            os._exit(3)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (0, -signal.SIGBUS):
        sys.exit(f"page with other bytes, or {status}")
    rounds += 1
print(rounds)
"#;

fn mappers(test: &'static str, time: Duration) {
    if !can_mount(test) {
        return;
    }
    let bench = Bench::new();
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    fs::write(one(&mounted.at), vec![0; PAGE]).unwrap();
    let watchdog = Watchdog::over(&mounted, test);
    let seconds = time.as_secs_f64().to_string();
    let start = |_| -> Child {
        let mut python = Command::new("timeout");
        python
            .args(["-k", "5", "300", "python3", "-c", MAPPER])
            .arg(one(&mounted.at))
            .arg(&seconds);
        python.spawn().unwrap()
    };
    let readers: Vec<Child> = (0..4).map(start).collect();
    let parts: &[Part] = &[(2, write_pages), (1, cut)];
    together(test, &mounted.at, parts, time, &watchdog.beats());
    for mut reader in readers {
        assert!(reader.wait().unwrap().success());
    }
    assert!(!watchdog.end(), "{test} hung");
    mounted.end();
}

#[test]
fn a_file_is_cut_under_those_who_map_it() {
    mappers(
        "a_file_is_cut_under_those_who_map_it",
        Duration::from_secs(1),
    );
}

#[test]
#[ignore = "long: a minute"]
fn a_file_is_cut_under_those_who_map_it_for_a_minute() {
    mappers(
        "a_file_is_cut_under_those_who_map_it_for_a_minute",
        Duration::from_secs(60),
    );
}

/// The watchdog itself: a mount that nobody serves is a hang, and it is cut off.
#[test]
fn a_mount_that_answers_nobody_is_noticed_and_cut_off() {
    if !can_mount("a_mount_that_answers_nobody") {
        return;
    }
    let bench = Bench::new();
    let unserved = crate::mounting::unserved(&bench.at("mount"));
    let watchdog = Watchdog::patient(
        bench.at("mount"),
        "nobody serves this",
        Duration::from_millis(300),
    );
    let at = bench.at("mount");
    let waits = thread::spawn(move || fs::read_dir(at).map(drop));
    assert!(waits.join().unwrap().is_err());
    assert!(watchdog.end());
    drop(unserved);
}
