//! Processes die and disks lie: nothing is left running, mounted or readable, and nothing wrong is ever shown.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{
    Ended, Host, Role, Running, SAFELIGHT, Tree, and_wait, below_directory, clean, end,
    mounts_anywhere, processes, requires, word,
};

const NEEDS: &[&str] = &["root", "fuse", "userns", "landlock"];

/// How long what remains of a session may take to be gone after its agent was killed.
const SOON: Duration = Duration::from_secs(2);

const DENIED: i32 = 4;
const JOB_FAILED: i32 = 10;
const ENVIRONMENT: i32 = 78;

// --- A job in the middle of its frame -----------------------------------------------------------------------------------------------

/// A host with an input, and a word that the job writes into its output while it runs.
struct Stage {
    host: Host,
    secret: String,
}

/// A job that has read its input and written half of its output, and what it is made of.
struct MidFrame {
    job: Running,
    tree: Tree,
    mounted: BTreeSet<String>,
}

impl Stage {
    fn new() -> Self {
        let host = Host::new();
        host.write("show/board.txt", "a storyboard\n");
        let secret = word(24);
        Self { host, secret }
    }

    fn show(&self) -> PathBuf {
        self.host.path("show")
    }

    fn run(&self, options: &[&str], script: &str) -> Command {
        self.host
            .run(&[(&self.show(), "/mnt/c")], options, &["sh", "-c", script])
    }

    fn mid_frame(&self) -> MidFrame {
        let write = format!(
            "cat board.txt > /dev/null; echo {} > half.txt; sync",
            self.secret
        );
        let mut job = Running::start(&mut self.run(&[], &and_wait(&write, "exit 0")));
        job.line("ready");
        let tree = job.tree();
        let mounted = tree.view_devices();
        assert_eq!(
            mounted.len(),
            1,
            "the positive control: the view is mounted"
        );
        MidFrame { job, tree, mounted }
    }

    /// Nothing lives, nothing is mounted, nothing of what was written can be read, nothing came home.
    fn assert_dark(&self, tree: &Tree, mounted: &BTreeSet<String>, limit: Duration) {
        let living = tree.gone_within(limit);
        assert!(living.is_empty(), "still alive: {living:#?}");
        let mounts = mounts_anywhere(mounted, &self.host.state());
        assert!(mounts.is_empty(), "still mounted: {mounts:?}");
        assert_eq!(
            holding(&self.host.state(), self.secret.as_bytes()),
            Vec::<PathBuf>::new()
        );
        assert_eq!(names(&self.show()), ["board.txt"], "nothing came home");
    }

    /// The state of the newest job, and the cause of its last attempt.
    fn last(&self) -> (String, String) {
        let said = end(self
            .host
            .safelight()
            .args(["job", "show", "last", "--json"]))
        .ok();
        let said: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let attempts = said["attempts"].as_array().cloned().unwrap_or_default();
        (
            text(&said["state"]),
            attempts
                .last()
                .map(|last| text(&last["cause"]))
                .unwrap_or_default(),
        )
    }

    /// The same host takes the next job as if nothing had been.
    fn assert_next_works(&self) {
        let ended = end(&mut self.run(&[], "cat board.txt > copy.txt")).ok();
        assert_eq!(
            fs::read(self.host.path("show/copy.txt")).expect("result"),
            b"a storyboard\n",
            "{ended:?}"
        );
        assert_eq!(self.last().0, "succeeded");
    }
}

impl MidFrame {
    fn kill(&self, role: Role) {
        kill(Pid::from_raw(self.tree.one(role).pid), Signal::SIGKILL).expect("kill");
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .expect("directory")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// The files below a directory that hold these bytes.
fn holding(directory: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let all = below_directory(directory)
        .expect("state")
        .into_iter()
        .filter(|path| path.is_file());
    all.filter(|path| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
    .collect()
}

#[test]
fn the_search_for_what_was_written_finds_what_is_there() {
    let stage = Stage::new();
    let planted = stage
        .host
        .write("state/area/planted", format!("before{}after", stage.secret));
    assert_eq!(
        holding(&stage.host.state(), stage.secret.as_bytes()),
        [planted]
    );
}

// --- Processes die ------------------------------------------------------------------------------------------------------------------

#[test]
fn a_job_whose_view_server_is_killed_fails_closed() {
    if !requires(NEEDS) {
        return;
    }
    let stage = Stage::new();
    let frame = stage.mid_frame();
    frame.kill(Role::View);
    let ended = frame.job.end().failed(JOB_FAILED);
    assert!(
        ended
            .err
            .contains("failed: the view server went away\nhint: run the job again"),
        "{ended:?}"
    );
    stage.assert_dark(&frame.tree, &frame.mounted, SOON);
    assert_eq!(
        stage.last(),
        ("failed".to_owned(), "the view server went away".to_owned())
    );
    stage.assert_next_works();
}

#[test]
fn a_job_whose_audit_writer_is_killed_ends() {
    if !requires(NEEDS) {
        return;
    }
    let stage = Stage::new();
    let frame = stage.mid_frame();
    frame.kill(Role::Audit);
    let ended = frame.job.end().failed(JOB_FAILED);
    assert!(
        ended
            .err
            .contains("failed: the audit log could not be written\nhint: "),
        "{ended:?}"
    );
    stage.assert_dark(&frame.tree, &frame.mounted, SOON);
    assert_eq!(
        stage.last(),
        (
            "failed".to_owned(),
            "the audit log could not be written".to_owned()
        )
    );
    stage.assert_next_works();
}

/// The whole session dies with its launcher, and the agent says so in order.
#[test]
fn a_job_whose_launcher_or_first_process_is_killed_ends() {
    if !requires(NEEDS) {
        return;
    }
    for role in [Role::Launcher, Role::Init] {
        let stage = Stage::new();
        let frame = stage.mid_frame();
        frame.kill(role);
        let ended = frame.job.end().failed(JOB_FAILED);
        assert!(
            ended.err.contains("failed: killed by signal 9"),
            "{role:?}: {ended:?}"
        );
        stage.assert_dark(&frame.tree, &frame.mounted, SOON);
        stage.assert_next_works();
    }
}

/// The key is in the view server by then, so the frame is finished; and it is said that the warden is gone.
#[test]
fn a_warden_that_is_killed_after_the_release_costs_no_frame() {
    if !requires(NEEDS) {
        return;
    }
    let stage = Stage::new();
    let frame = stage.mid_frame();
    frame.kill(Role::Warden);
    frame.job.go_on();
    let ended = frame.job.end().ok();
    assert!(ended.err.contains("the key warden went away"), "{ended:?}");
    assert_eq!(names(&stage.show()), ["board.txt", "half.txt"]);
}

#[test]
fn a_job_whose_warden_is_killed_before_the_release_never_starts() {
    if !requires(NEEDS) {
        return;
    }
    // The moment between the warden's start and its answer is short: it is tried until it is met.
    for _ in 0..20 {
        let stage = Stage::new();
        let job = Running::start(&mut stage.run(&[], "echo started; cp board.txt copy.txt"));
        let until = Instant::now() + Duration::from_secs(20);
        let warden = loop {
            let all = processes();
            let serves = |process: &&crate::harness::Process| {
                process.parent == job.pid()
                    && process.arguments.get(1..3) == Some(&["keyd".to_owned(), "serve".to_owned()])
            };
            if let Some(warden) = all.iter().find(serves) {
                break warden.pid;
            }
            assert!(Instant::now() < until, "no warden was seen");
        };
        kill(Pid::from_raw(warden), Signal::SIGKILL).expect("kill");
        let ended = job.end();
        if ended.code == Some(0) {
            continue;
        }
        let ended = ended.failed(JOB_FAILED);
        assert!(
            ended.err.contains(
                "failed: the key warden did not release the job's key\nhint: run the job again"
            ),
            "{ended:?}"
        );
        assert_eq!(ended.out, "", "the command never ran");
        assert_eq!(names(&stage.show()), ["board.txt"]);
        stage.assert_next_works();
        return;
    }
    panic!("the warden was never killed in time");
}

#[test]
fn when_the_agent_is_killed_everything_dies_with_it() {
    if !requires(NEEDS) {
        return;
    }
    let stage = Stage::new();
    let frame = stage.mid_frame();
    frame.kill(Role::Agent);
    stage.assert_dark(&frame.tree, &frame.mounted, SOON);
    assert_eq!(frame.job.end().signal, Some(libc::SIGKILL));
    stage.assert_next_works();
    // The slot is free, so the ledger knows that the attempt is over.
    let said = end(stage.host.safelight().args(["job", "list", "--json"])).ok();
    let states: Vec<String> = said.out.lines().map(state_of).collect();
    assert_eq!(states, ["succeeded", "failed"]);
}

fn state_of(line: &str) -> String {
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    line["state"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn asking_the_agent_to_end_cancels_the_job_in_order() {
    if !requires(NEEDS) {
        return;
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let stage = Stage::new();
        let frame = stage.mid_frame();
        frame.job.signal(signal);
        let ended = frame.job.end().failed(JOB_FAILED);
        assert!(
            ended.err.contains("failed: canceled\n"),
            "{signal}: {ended:?}"
        );
        stage.assert_dark(&frame.tree, &frame.mounted, SOON);
        assert_eq!(stage.last(), ("failed".to_owned(), "canceled".to_owned()));
        end(stage.host.safelight().args(["audit", "verify", "last"])).ok();
    }
}

// --- Disks lie ----------------------------------------------------------------------------------------------------------------------

/// The sealed objects of the state, with their lengths.
fn objects(host: &Host) -> Vec<(PathBuf, u64)> {
    let all = below_directory(&host.path("state/area")).unwrap_or_default();
    let length = |path: PathBuf| {
        fs::metadata(&path)
            .ok()
            .filter(fs::Metadata::is_file)
            .map(|it| (path, it.len()))
    };
    all.into_iter().filter_map(length).collect()
}

/// The object that holds the one large input.
fn large(host: &Host, at_least: u64) -> PathBuf {
    let found: Vec<_> = objects(host)
        .into_iter()
        .filter(|(_, len)| *len >= at_least)
        .collect();
    assert_eq!(found.len(), 1, "one large input, one large object");
    found[0].0.clone()
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("object");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 1], at).expect("write");
}

/// What was done to an object on the disk.
type Harm = fn(&Path);

/// An agent that waits a moment before it starts, so that something can be done to what the client left for it. What is slow is the
/// second `execve`: the first is strace's own.
fn late_agent(stage: &Stage, options: &[&str], script: &str, harm: impl FnOnce()) -> Ended {
    let run = stage.run(options, script);
    let mut strace = clean(
        Command::new("strace"),
        &stage.host.state(),
        stage.host.root(),
    );
    strace.args(["-qq", "-o", "/dev/null", "-e", "trace=execve"]);
    strace.args(["-e", "inject=execve:delay_enter=2000000:when=2"]);
    strace.arg(SAFELIGHT).args(run.get_args());
    let before = envelopes(&stage.host).len();
    let job = Running::start(&mut strace);
    let until = Instant::now() + Duration::from_secs(30);
    // The envelope is the last thing that the client writes.
    while envelopes(&stage.host).len() == before {
        assert!(Instant::now() < until, "the client left no envelope");
        thread::sleep(Duration::from_millis(5));
    }
    harm();
    job.end()
}

fn envelopes(host: &Host) -> Vec<PathBuf> {
    let all = below_directory(&host.path("state/jobs")).unwrap_or_default();
    all.into_iter()
        .filter(|path| path.ends_with("envelope"))
        .collect()
}

const WITH_STRACE: &[&str] = &["root", "fuse", "userns", "landlock", "strace"];

#[test]
fn a_late_agent_does_what_a_prompt_one_does() {
    if !requires(WITH_STRACE) {
        return;
    }
    let stage = Stage::new();
    late_agent(&stage, &[], "cp board.txt copy.txt", || {}).ok();
    assert_eq!(names(&stage.show()), ["board.txt", "copy.txt"]);
}

#[test]
fn a_changed_input_is_never_shown_and_named_to_its_client() {
    if !requires(WITH_STRACE) {
        return;
    }
    let harms: [(&str, Harm); 5] = [
        ("a byte of the middle", |path| flip(path, 4096 + 70_000)),
        ("a byte of the header", |path| flip(path, 13)),
        ("a byte of the last tag", |path| {
            flip(path, fs::metadata(path).expect("object").len() - 1)
        }),
        ("cut in the middle", |path| {
            let file = fs::File::options().write(true).open(path).expect("object");
            file.set_len(60_000).expect("cut");
        }),
        ("gone", |path| fs::remove_file(path).expect("object")),
    ];
    for (what, harm) in harms {
        let stage = Stage::new();
        let plain = "0123456789abcdef".repeat(10_000);
        stage.host.write("show/plate.raw", &plain);
        let read =
            "cat plate.raw > copy.raw; echo ended $?; cat plate.raw | head -c 200000; sleep 20";
        let ended = late_agent(&stage, &[], read, || harm(&large(&stage.host, 100_000)));
        let (code, err) = (ended.code, ended.err);
        assert_eq!(code, Some(JOB_FAILED), "{what}: {err}");
        let told = "failed: /mnt/c/plate.raw is not authentic\nhint: the secure area was changed behind Safelight's back; run the job again";
        assert!(err.contains(told), "{what}: {err}");
        let shown: Vec<&str> = ended
            .out
            .lines()
            .filter(|line| !line.starts_with("ended"))
            .collect();
        for line in shown {
            assert!(
                plain.contains(line),
                "{what}: something was shown that was never sealed"
            );
        }
        assert_eq!(
            names(&stage.show()),
            ["board.txt", "plate.raw"],
            "{what}: nothing came home"
        );
        assert_eq!(
            stage.last(),
            ("failed".to_owned(), "an input is not authentic".to_owned())
        );
        let log = end(stage.host.safelight().args(["audit", "export", "last"])).ok();
        let recorded = |line: &str| {
            line.contains("\"path\":\"/mnt/c/plate.raw\"")
                && line.contains("\"verdict\":\"not-authentic\"")
        };
        assert!(log.out.lines().any(recorded), "{what}: {}", log.out);
        // The client seals the same bytes to the same name, finds something else there, and replaces it.
        end(&mut stage.run(&[], "cp plate.raw copy.raw")).ok();
        let copy = fs::read_to_string(stage.host.path("show/copy.raw")).expect("copy");
        assert!(copy == plain, "{what}: healed");
    }
}

#[test]
fn a_changed_envelope_is_refused() {
    if !requires(WITH_STRACE) {
        return;
    }
    let stage = Stage::new();
    let ended = late_agent(&stage, &[], "echo started; cp board.txt copy.txt", || {
        let envelope = envelopes(&stage.host).pop().expect("envelope");
        flip(
            &envelope,
            fs::metadata(&envelope).expect("envelope").len() / 2,
        );
    });
    let ended = ended.failed(DENIED);
    assert!(ended.err.contains("\nerror: "), "{ended:?}");
    assert_eq!(
        (ended.out.as_str(), names(&stage.show())),
        ("", vec!["board.txt".to_owned()])
    );
    stage.assert_next_works();
}

/// The list of inputs, the recipe and the one input are three objects: whichever is changed or gone, nothing starts or the job ends.
#[test]
fn a_changed_or_missing_object_of_a_new_job_is_refused() {
    if !requires(WITH_STRACE) {
        return;
    }
    let harms: [Harm; 2] = [
        |path| flip(path, fs::metadata(path).expect("object").len() / 2),
        |path| fs::remove_file(path).expect("object"),
    ];
    for harm in harms {
        for which in 0..3 {
            let stage = Stage::new();
            let mut harmed = String::new();
            let ended = late_agent(&stage, &[], "cat board.txt > copy.txt; sleep 5", || {
                let mut all = objects(&stage.host);
                all.sort_by_key(|(path, len)| (*len, path.clone()));
                assert_eq!(all.len(), 3, "{all:?}");
                harmed = format!("{:?}", all[which]);
                harm(&all[which].0);
            });
            let ended = ended.failed(JOB_FAILED);
            assert!(ended.err.contains("not authentic"), "{harmed}: {ended:?}");
            assert_eq!(
                (ended.out.as_str(), names(&stage.show())),
                ("", vec!["board.txt".to_owned()])
            );
            assert_eq!(
                stage.last(),
                ("failed".to_owned(), "an input is not authentic".to_owned())
            );
            stage.assert_next_works();
        }
    }
}

#[test]
fn a_policy_that_changes_after_the_client_signed_is_refused() {
    if !requires(WITH_STRACE) {
        return;
    }
    let stage = Stage::new();
    let policy = |limit: &str| {
        let text = "schema = 1\nname = \"own\"\nsummary = \"x\"\nextends = [\"generic\"]\n[limits]\nwall = ";
        // Whole or not at all: whoever reads it meanwhile reads one of them.
        let new = stage.host.write("own.new", format!("{text}\"{limit}\"\n"));
        let own = new.with_extension("toml");
        fs::rename(new, &own).expect("a policy");
        own.display().to_string()
    };
    let own = policy("1h");
    let ended = late_agent(&stage, &["--policy", &own], "echo started", || {
        policy("2h");
    });
    let ended = ended.failed(DENIED);
    assert!(
        ended.err.contains(
            "error: the policy own is not the one that the client signed\nhint: run the job again\n"
        ),
        "{ended:?}"
    );
    assert_eq!(ended.out, "");
}

// --- No space -----------------------------------------------------------------------------------------------------------------------

/// A small disk in memory at a directory, gone with this value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(at: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&at).expect("directory");
        let options = format!("size={size},mode=0711");
        mount(
            Some("none"),
            &at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .expect("small disk");
        Self(at)
    }

    fn grow(&self, size: &str) {
        let options = format!("size={size}");
        mount(
            Some("none"),
            &self.0,
            Some("tmpfs"),
            MsFlags::MS_REMOUNT,
            Some(options.as_str()),
        )
        .expect("larger disk");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fs::File::open("/dev/urandom")
        .and_then(|mut from| from.read_exact(&mut bytes))
        .expect("random bytes");
    bytes
}

#[test]
fn a_disk_that_fills_while_packing_is_named_and_the_job_does_not_start() {
    if !requires(NEEDS) {
        return;
    }
    let stage = Stage::new();
    let disk = SmallDisk::new(stage.host.state(), "4M");
    stage.host.write("show/plate.raw", random_bytes(8 << 20));
    let ended = end(&mut stage.run(&[], "echo started")).failed(ENVIRONMENT);
    assert!(
        ended.err.contains("No space left on device")
            && ended.err.contains("hint: look at the space there"),
        "{ended:?}"
    );
    assert_eq!(ended.out, "");
    disk.grow("64M");
    stage.assert_next_works();
}

#[test]
fn a_disk_that_fills_while_rendering_fails_the_job_and_nothing_half_comes_home() {
    if !requires(NEEDS) {
        return;
    }
    let stage = Stage::new();
    let disk = SmallDisk::new(stage.host.state(), "6M");
    let mut run = stage.run(&[], "head -c 30000000 /dev/zero | tr '\\0' x > frame.raw; echo writer $?; sync; sleep 1; exit 0");
    let ended = end(&mut run).failed(JOB_FAILED);
    assert!(
        ended.err.contains("error: job-") && ended.err.contains("hint: look at the disk's space"),
        "{ended:?}"
    );
    assert_eq!(names(&stage.show()), ["board.txt"]);
    disk.grow("64M");
    stage.assert_next_works();
    let said = end(stage.host.safelight().args(["job", "list", "--json"])).ok();
    let states: Vec<String> = said.out.lines().map(state_of).collect();
    assert_eq!(states, ["succeeded", "failed"], "{said:?}");
}

#[test]
fn a_log_that_cannot_grow_ends_the_job() {
    if !requires(NEEDS) {
        return;
    }
    let stage = Stage::new();
    let disk = SmallDisk::new(stage.host.path("state/audit"), "64K");
    // Each name that is not there is a record.
    let many = "i=0; while [ $i -lt 3000 ]; do test -e missing-$i; i=$((i+1)); done; echo through; sleep 20";
    let ended = end(&mut stage.run(&[], many)).failed(JOB_FAILED);
    assert!(
        ended
            .err
            .contains("failed: the audit log could not be written\nhint: look at the disk's space"),
        "{ended:?}"
    );
    assert_eq!(names(&stage.show()), ["board.txt"]);
    disk.grow("16M");
    stage.assert_next_works();
}

#[test]
fn a_job_that_writes_more_than_its_quota_fails() {
    if !requires(NEEDS) {
        return;
    }
    let stage = Stage::new();
    let text = "schema = 1\nname = \"own\"\nsummary = \"x\"\nextends = [\"generic\"]\n[limits]\nquota = \"1MiB\"\n";
    let own = stage.host.write("own.toml", text).display().to_string();
    let write = |count: u32| format!("head -c {count} /dev/zero | tr '\\0' x > frame.raw");
    let ended = end(&mut stage.run(&["--policy", &own], &write(3 << 20))).failed(JOB_FAILED);
    assert!(
        ended.err.contains("failed: a write to the view failed\nhint: look at the disk's space and at the policy's quota"),
        "{ended:?}"
    );
    assert_eq!(names(&stage.show()), ["board.txt"]);
    end(&mut stage.run(&["--policy", &own], &write(1 << 19))).ok();
    assert_eq!(
        fs::metadata(stage.host.path("show/frame.raw"))
            .expect("frame")
            .len(),
        1 << 19
    );
}

// --- Any moment ---------------------------------------------------------------------------------------------------------------------

/// Numbers that are the same in every run of the test: xorshift64* (Vigna 2016).
pub(crate) struct Moments(pub(crate) u64);

impl Moments {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit
    }
}

/// Processes of the program under test that nobody owns any more: their parent died.
fn orphans() -> BTreeSet<(i32, u64)> {
    let ours = |process: &crate::harness::Process| {
        process.parent == 1
            && process
                .arguments
                .first()
                .is_some_and(|program| program == SAFELIGHT)
    };
    processes()
        .into_iter()
        .filter(ours)
        .map(|process| (process.pid, process.started))
        .collect()
}

/// Kills a run at `count` moments of its life; after each, everything is whole or absent and the next run succeeds.
fn killed_at_moments(seed: u64, count: u32) {
    let mut moments = Moments(seed);
    let stage = Stage::new();
    let plate = random_bytes(3 << 20);
    stage.host.write("show/plate.raw", &plate);
    let script = format!(
        "cat plate.raw plate.raw > frame.raw; echo {} > note.txt",
        stage.secret
    );
    let whole = [plate.as_slice(), plate.as_slice()].concat();
    let began = Instant::now();
    end(&mut stage.run(&["--overwrite"], &script)).ok();
    // The whole life of a run and a little more.
    let life = u64::try_from(began.elapsed().as_micros()).expect("time") * 11 / 10;
    let before = orphans();
    for number in 0..count {
        for name in ["frame.raw", "note.txt"] {
            let _ = fs::remove_file(stage.host.path("show").join(name));
        }
        let moment = moments.below(life);
        let job = Running::start(&mut stage.run(&[], &script));
        thread::sleep(Duration::from_micros(moment));
        let tree = job.tree();
        let mounted = tree.view_devices();
        job.signal(Signal::SIGKILL);
        job.end();
        let at = format!("seed {seed}, number {number}, {moment} of {life} µs");
        let living = tree.gone_within(SOON);
        assert!(living.is_empty(), "{at}: still alive: {living:#?}");
        let left = mounts_anywhere(&mounted, &stage.host.state());
        assert!(left.is_empty(), "{at}: still mounted: {left:?}");
        assert_eq!(
            holding(&stage.host.state(), stage.secret.as_bytes()),
            Vec::<PathBuf>::new(),
            "{at}"
        );
        for (name, expected) in [
            ("frame.raw", whole.as_slice()),
            ("note.txt", format!("{}\n", stage.secret).as_bytes()),
        ] {
            if let Ok(bytes) = fs::read(stage.show().join(name)) {
                assert!(bytes == expected, "{at}: {name} came home, but not whole");
            }
        }
        for name in names(&stage.show()) {
            assert!(
                ["board.txt", "frame.raw", "note.txt", "plate.raw"].contains(&name.as_str()),
                "{at}: {name}"
            );
        }
        end(&mut stage.run(&[], "cat board.txt > /dev/null")).ok();
        accounted(&stage, &at, whole.len() as u64);
    }
    // Whatever was started between a look and a kill is gone by now too.
    let until = Instant::now() + SOON;
    while !orphans().is_subset(&before) && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    let left: BTreeSet<_> = orphans().difference(&before).copied().collect();
    assert!(left.is_empty(), "orphans: {left:?}");
}

/// No job is said to run, and each that is said to have succeeded has its whole result in the area.
fn accounted(stage: &Stage, at: &str, frame: u64) {
    let said = end(stage.host.safelight().args(["job", "list", "--json"])).ok();
    for line in said.out.lines().take(2) {
        let job: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let (id, state) = (
            job["job"].as_str().expect("id"),
            job["state"].as_str().expect("state"),
        );
        assert!(
            ["succeeded", "failed", "waiting"].contains(&state),
            "{at}: {line}"
        );
        let outputs = end(stage
            .host
            .safelight()
            .args(["job", "outputs", id, "--json"]));
        if state == "succeeded" && !outputs.ok().out.is_empty() {
            let outputs = end(stage
                .host
                .safelight()
                .args(["job", "outputs", id, "--json"]))
            .ok();
            assert!(
                outputs.out.contains(&format!("\"bytes\":{frame}")),
                "{at}: {outputs:?}"
            );
        }
        let verified = end(stage.host.safelight().args(["audit", "verify", id]));
        assert!(
            verified.code == Some(0) || torn_or_absent(&verified),
            "{at}: {verified:?}"
        );
    }
}

/// A log of a job that was killed may end in a record that is not whole, or not have begun.
fn torn_or_absent(verified: &Ended) -> bool {
    ["no audit log yet", "incomplete", "torn"]
        .iter()
        .any(|word| verified.err.contains(word))
}

#[test]
fn killed_at_any_moment_everything_is_whole_or_absent() {
    if requires(NEEDS) {
        killed_at_moments(0x5afe_1197, 10);
    }
}

#[test]
#[ignore = "long tier: a hundred kills; run by make test-all"]
fn killed_at_a_hundred_moments_everything_is_whole_or_absent() {
    if requires(NEEDS) {
        killed_at_moments(0xda12_c200_1d, 100);
    }
}

/// Cutting the log's end off, or changing it, is seen; a record that a crash cut short is told apart from both.
#[test]
fn a_log_that_was_changed_is_never_believed() {
    if !requires(NEEDS) {
        return;
    }
    let stage = Stage::new();
    end(&mut stage.run(&[], "cat board.txt > copy.txt")).ok();
    let all = below_directory(&stage.host.path("state/audit")).expect("audit");
    let log = all.iter().find(|path| path.is_file()).expect("log");
    let whole = fs::read(log).expect("log");
    let verify = || end(stage.host.safelight().args(["audit", "verify", "last"]));
    verify().ok();
    for at in [whole.len() / 3, whole.len() / 2, whole.len() - 3] {
        flip(log, at as u64);
        let ended = verify().failed(DENIED);
        assert!(
            ended.err.contains("record "),
            "the record is named: {ended:?}"
        );
        flip(log, at as u64);
    }
    let mut file = fs::File::options().write(true).open(log).expect("log");
    file.set_len(whole.len() as u64 * 2 / 3).expect("cut");
    let ended = verify().failed(DENIED);
    assert!(ended.err.contains("the log of job-"), "{ended:?}");
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.write_all(&whole))
        .expect("put back");
    verify().ok();
}

/// The writer makes the file before it writes to it: in between it may die, and that is no attack.
#[test]
fn a_log_that_has_not_begun_is_told_from_one_that_was_emptied() {
    if !requires(NEEDS) {
        return;
    }
    let stage = Stage::new();
    let frame = stage.mid_frame();
    frame.kill(Role::Agent);
    stage.assert_dark(&frame.tree, &frame.mounted, SOON);
    let all = below_directory(&stage.host.path("state/audit")).expect("audit");
    let log = all.into_iter().find(|path| path.is_file()).expect("log");
    // Killed before its end, a job has a log that the ledger never noted.
    fs::write(&log, "").expect("log");
    let verify = || end(stage.host.safelight().args(["audit", "verify", "last"]));
    let ended = verify().failed(2);
    assert!(ended.err.contains("has no audit log yet"), "{ended:?}");
    end(&mut stage.run(&[], "true")).ok();
    let all = below_directory(&stage.host.path("state/audit")).expect("audit");
    for file in all.iter().filter(|path| path.is_file()) {
        fs::write(file, "").expect("log");
    }
    let ended = verify().failed(DENIED);
    assert!(
        ended.err.contains("was changed: ") && ended.out.contains("its file is empty"),
        "{ended:?}"
    );
}
