//! What a client keeps, while the process that changes it is killed: keys that rotate or are erased, objects that are collected.
//!
//! Whatever moment it was: a job opens with all its bytes until its keys are erased, and for nobody from then on.

use std::{
    fs::{self, File},
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::sys::signal::Signal;

use crate::{
    faults::Moments,
    golden::files,
    harness::{Ended, Host, Running, end, requires},
};

const NEEDS: &[&str] = &["fuse", "userns", "landlock"];

struct Keeping {
    host: Host,
    jobs: Vec<String>,
    moments: Moments,
    packed: u32,
}

impl Keeping {
    fn new(seed: u64) -> Self {
        let host = Host::new();
        let show = host.dir("show");
        host.write("show/plate.raw", vec![7; 400_000]);
        let mut run = |number: u32| {
            host.write("show/number", number.to_string());
            let script = format!("cat number plate.raw > out.{number}");
            let run = &mut host.run(&[(&show, "/mnt/c")], &["--json"], &["sh", "-c", &script]);
            end(run).ok().job()
        };
        let jobs = (0..4).map(&mut run).collect();
        Self {
            host,
            jobs,
            moments: Moments(seed),
            packed: 0,
        }
    }

    fn ask(&self, words: &[&str]) -> Ended {
        end(self.host.safelight().args(words))
    }

    /// Starts a command and kills it at a moment of its life; what it printed if it had said that it was done.
    fn killed(&mut self, words: &[&str], life: Duration) -> Option<String> {
        let life = u64::try_from(life.as_micros()).expect("time");
        let moment = self.moments.below(life);
        let running = Running::start(self.host.safelight().args(words));
        thread::sleep(Duration::from_micros(moment));
        running.signal(Signal::SIGKILL);
        let ended = running.end();
        (ended.code == Some(0)).then_some(ended.out)
    }

    /// How long a command takes, and a little more.
    fn life(&self, words: &[&str]) -> Duration {
        let began = Instant::now();
        self.ask(words).ok();
        began.elapsed() * 12 / 10
    }

    /// Every object of a job is read, and compared with its name; its manifests are opened.
    fn is_whole(&mut self, job: &str, at: &str) {
        let seen = self.ask(&["view", "ls", job]);
        assert_eq!(seen.code, Some(0), "{at}: {seen:?}");
        self.packed += 1;
        let to = self.host.path(format!("bundle-{}", self.packed));
        let packed = self.ask(&["bundle", "pack", job, to.to_str().expect("a path")]);
        assert_eq!(packed.code, Some(0), "{at}: {packed:?}");
        fs::remove_dir_all(to).expect("a bundle");
    }

    /// Makes every object look as if nobody had asked for it for years.
    fn age(&self) {
        let area = self.host.state().join("area");
        for name in files(&area).keys() {
            let file = File::options().write(true).open(area.join(name));
            file.and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH))
                .expect("an object");
        }
    }

    fn key_file(&self) -> Vec<u8> {
        fs::read(self.host.state().join("client/identity.key")).expect("a key file")
    }
}

/// True if a key file opens a job's bundle.
fn opens(keeping: &Keeping, key: &[u8], bundle: &Path) -> bool {
    let file = keeping.host.write("some.key", key);
    let path = |path: &Path| path.to_str().expect("a path").to_owned();
    let words = ["bundle", "open", &path(bundle), "--key", &path(&file)];
    keeping.ask(&words).code == Some(0)
}

fn rotated_and_collected(keeping: &mut Keeping, count: u32) {
    let rotation = keeping.life(&["key", "rotate"]);
    keeping.age();
    let collection = keeping.life(&["area", "collect"]);
    for number in 0..count {
        let old = keeping.key_file();
        let at = format!("rotation {number}");
        let done = keeping.killed(&["key", "rotate", "--json"], rotation);
        keeping.age();
        keeping.killed(&["area", "collect"], collection);
        let job = keeping.jobs[number as usize % keeping.jobs.len()].clone();
        keeping.is_whole(&job, &at);
        if let Some(said) = done {
            let bundle = keeping.host.path("acknowledged");
            let words = ["bundle", "pack", &job, bundle.to_str().expect("a path")];
            keeping.ask(&words).ok();
            let new = keeping.key_file();
            assert!(
                opens(keeping, &new, &bundle),
                "{at}: the new key opens nothing"
            );
            // Unless all that was left to do was what another one had begun, with the keys that it had made.
            let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
            assert_eq!(
                opens(keeping, &old, &bundle),
                said["finished_earlier"] == true,
                "{at}: {said}"
            );
            fs::remove_dir_all(bundle).expect("a bundle");
        }
    }
    // What was begun is brought to its end, and one more rotation is as any other.
    keeping.ask(&["key", "rotate"]).ok();
    for job in keeping.jobs.clone() {
        keeping.is_whole(&job, "in the end");
    }
}

fn erased(keeping: &mut Keeping) {
    let first = keeping.jobs.remove(0);
    let erasing = keeping.life(&["key", "erase", &first, "--yes"]);
    keeping.age();
    let collection = keeping.life(&["area", "collect"]);
    while keeping.jobs.len() > 1 {
        let job = keeping.jobs.remove(0);
        let at = format!("erasing {job}");
        let done = keeping.killed(&["key", "erase", &job, "--yes"], erasing);
        let seen = keeping.ask(&["view", "ls", &job]);
        match seen.code {
            Some(0) => assert!(done.is_none(), "{at}: it was acknowledged"),
            _ => assert!(seen.err.contains("keys were erased"), "{at}: {seen:?}"),
        }
        // Once more, if it is still to be done.
        let again = keeping.ask(&["key", "erase", &job, "--yes"]);
        assert!(matches!(again.code, Some(0 | 2)), "{at}: {again:?}");
        keeping.ask(&["view", "ls", &job]).failed(4);
        keeping.age();
        keeping.killed(&["area", "collect"], collection);
        for other in keeping.jobs.clone() {
            keeping.is_whole(&other, &at);
        }
    }
    // Everything that nobody refers to is gone after a collection that is let finish.
    keeping.age();
    keeping.ask(&["area", "collect"]).ok();
    keeping.age();
    let said = keeping.ask(&["area", "collect", "--json"]).ok();
    let said: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(said["removed"], 0, "{said}");
}

fn kills(seed: u64, count: u32) {
    let mut keeping = Keeping::new(seed);
    println!("seed {seed}");
    rotated_and_collected(&mut keeping, count);
    erased(&mut keeping);
}

#[test]
fn keys_and_objects_outlive_whoever_is_killed_while_they_change() {
    if requires(NEEDS) {
        kills(0x5afe_0001, 6);
    }
}

#[test]
#[ignore = "long: hundreds of kills"]
fn keys_and_objects_outlive_hundreds_who_are_killed_while_they_change() {
    if requires(NEEDS) {
        (1..9).for_each(|seed| kills(seed, 40));
    }
}
