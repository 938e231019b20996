//! The view server as a process of its own, between an agent and a launcher that are played here: what one task left behind is what the
//! next one finds, and nothing else is.
//!
//! What serves a mount needs root and `/dev/fuse`. Where they are not, a test says that it was skipped, and fails if `SAFELIGHT_REQUIRE`
//! lists `fuse`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test's helpers fail by panicking, and a skipped test says so"
)]

use std::{
    fs::{self, File},
    io::Write,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use safelight_audit::{Body, Checkpoint, FromWriter, ToWriter};
use safelight_channel::Channel;
use safelight_policies::{
    cause::Cause,
    grant::{CentralGrant, CentralRule, CentralRules},
    id::{Fence, JobId, ObjectId, SessionId, TaskId},
};
use safelight_seal::{
    blob::Purpose,
    identity::SigningSecret,
    job_key::{JobKey, TO_VIEW},
    manifest::{Kind, Manifest, Tree},
    random::SystemRandom,
    segment::DedupKey,
};
use safelight_vfs::{
    area::Area,
    pack::pack,
    protocol::{FromView, LAYERS_MAX, Layer, Order, Sealed, ToView},
    session::{Environment, Expand, FromLauncher, SessionFile, Task, ToLauncher},
};
use tempfile::TempDir;

#[path = "server/answers.rs"]
mod answers;
#[path = "server/fences.rs"]
mod fences;

const CENTRAL: &str = "/mnt/show";
const SERVE: &str = "SAFELIGHT_TEST_SERVES";
const DONE: Cause = Cause::Exited { code: 0 };

/// Not a test but the process that the tests start: this program again, with the agent's channel on standard input.
#[test]
fn serve() {
    if std::env::var_os(SERVE).is_none() {
        return;
    }
    let outcome = safelight_vfs::server::main(&SystemRandom::new(), clock, EXPAND);
    std::process::exit(i32::from(outcome != ExitCode::SUCCESS));
}

fn clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_nanos() as u64
}

/// What the recipes of these tests mean: the output that is expected, and a file with the task's number.
const EXPAND: Expand = Expand {
    task: expand,
    around,
};

/// Tasks of step 77 are run in turn.
fn around(_recipe: &[u8], step: u32) -> Option<Option<Vec<Environment>>> {
    Some((step == 77).then(Vec::new))
}

fn expand(recipe: &[u8], task: TaskId, _most: u32) -> Option<Task> {
    let text = task.to_string().into_bytes();
    Some(Task {
        command: vec![b"render".to_vec(), text.clone()],
        directory: b"/home/render".to_vec(),
        env: Vec::new(),
        expect: vec![recipe.to_vec()],
        files: vec![SessionFile {
            // A task of step 9 carries what no launcher may be asked to write.
            name: if task.step == 9 {
                b"../number".to_vec()
            } else {
                b"number".to_vec()
            },
            bytes: text,
            runnable: false,
        }],
        timeout: None,
        notice: None,
        tasks: 1,
    })
}

fn can_mount(test: &str) -> bool {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    if nix::unistd::geteuid().is_root() && device.is_ok() {
        return true;
    }
    let required = std::env::var("SAFELIGHT_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|need| need.trim() == "fuse"),
        "{test} needs root and /dev/fuse, and SAFELIGHT_REQUIRE lists fuse"
    );
    println!("skipped: {test} needs root and /dev/fuse");
    false
}

/// A job in an area.
struct Job {
    directory: TempDir,
    area: Area,
    key: JobKey,
    client: SigningSecret,
    id: JobId,
    inputs: ObjectId,
    recipe: ObjectId,
}

impl Job {
    fn new(expect: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path().join("area")).unwrap();
        let random = SystemRandom::new();
        let (key, client) = (
            JobKey::generate(&random).unwrap(),
            SigningSecret::generate(&random).unwrap(),
        );
        let id = JobId::from_random([3; 10]);
        let from = directory.path().join("in");
        fs::create_dir(&from).unwrap();
        fs::write(from.join("scene"), "sphere").unwrap();
        fs::write(from.join("old"), "to be removed").unwrap();
        let entries = pack(&from, &area, &DedupKey::from_bytes(&[1; 32]), &mut |_| {}).unwrap();
        let manifest = Manifest {
            job: id,
            kind: Kind::Inputs,
            trees: vec![Tree::new(CENTRAL.parse().unwrap(), entries)],
        };
        let inputs = keep(
            &area,
            &manifest.sign_and_seal(&client, &key, &random).unwrap(),
        );
        let recipe = key.seal_blob(Purpose::Recipe, id.as_bytes(), expect.as_bytes(), &random);
        let recipe = keep(&area, &recipe.unwrap());
        Self {
            directory,
            area,
            key,
            client,
            id,
            inputs,
            recipe,
        }
    }

    fn order(&self, number: u8, layers: Vec<Layer>) -> Order {
        let rules = || {
            vec![CentralRule {
                glob: "**".to_owned(),
                origin: "test.toml:1".to_owned(),
            }]
        };
        Order {
            job: self.id,
            session: SessionId::from_random([number; 10]),
            attempt: 1,
            fence: Fence(u64::from(number)),
            task: TaskId {
                step: u32::from(number),
                task: 5,
            },
            tasks: 1,
            client: self.client.public(),
            inputs: self.inputs,
            recipe: self.recipe,
            layers,
            central: vec![CentralGrant {
                path: CENTRAL.parse().unwrap(),
                write: true,
                rules: CentralRules {
                    read: rules(),
                    write: rules(),
                    deny: Vec::new(),
                },
            }],
            env: Vec::new(),
            quota: 1 << 24,
            entries: 100_000,
            output: 1 << 20,
            records: 1 << 30,
            env_pass: Vec::new(),
            owner: (0, 0),
            deadline: clock() / 1_000_000_000 + 600,
            lacks: Vec::new(),
            instead: Vec::new(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Starts a view server on an order and gives it the key. Answers it, or why it refuses.
    fn start(&self, order: Order) -> Result<Server, Cause> {
        let null = File::options().write(true).open("/dev/null").unwrap();
        self.start_showing(order, &null.into())
    }

    /// As [`Job::start`], with the task's output shown somewhere.
    fn start_showing(&self, order: Order, shown: &OwnedFd) -> Result<Server, Cause> {
        let (audit, writer) = Channel::pair().unwrap();
        thread::spawn(move || drain(&writer));
        self.start_with(order, shown, audit)
    }

    /// As [`Job::start`], with an audit writer at the other end of `audit`.
    fn start_recording(&self, order: Order, audit: Channel) -> Result<Server, Cause> {
        let null = File::options().write(true).open("/dev/null").unwrap();
        self.start_with(order, &null.into(), audit)
    }

    fn start_with(&self, order: Order, shown: &OwnedFd, audit: Channel) -> Result<Server, Cause> {
        let session = order.session;
        let (agent, theirs) = Channel::pair().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "serve", "--nocapture", "--test-threads=1"])
            .env(SERVE, "1")
            .stdin(Stdio::from(theirs.into_descriptor()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (server_end, launcher) = Channel::pair().unwrap();
        let attempt = self.at(&format!("attempt-{session}"));
        let open = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        let (area, place) = (open(self.area.root()), open(&attempt));
        let descriptors = [
            &audit.as_fd(),
            &server_end.as_fd(),
            &shown.as_fd(),
            &shown.as_fd(),
            &area.as_fd(),
            &place.as_fd(),
        ]
        .map(|one| *one);
        agent.set_timeouts(Some(PATIENCE), Some(PATIENCE)).unwrap();
        launcher
            .set_timeouts(Some(PATIENCE), Some(PATIENCE))
            .unwrap();
        order.send(&agent, &descriptors).unwrap();
        let mut refused = |cause| {
            assert!(!child.wait().unwrap().success());
            Err(cause)
        };
        match hear(&agent) {
            FromView::Asks { key } => {
                let random = SystemRandom::new();
                let stanza = self.key.wrap(&key, TO_VIEW, self.id, &random).unwrap();
                agent.send(&ToView::Key { stanza }).unwrap();
            }
            FromView::Refused { cause, .. } => return refused(cause),
            other => panic!("{other:?}"),
        }
        match hear(&agent) {
            FromView::Ready => Ok(Server {
                child,
                agent,
                launcher,
                attempt,
            }),
            FromView::Refused { cause, .. } => refused(cause),
            other => panic!("{other:?}"),
        }
    }

    /// Why an order is refused.
    fn refusal(&self, order: Order) -> Cause {
        match self.start(order) {
            Ok(_) => panic!("it was not refused"),
            Err(cause) => cause,
        }
    }

    /// Runs a task whose command is `work`, and takes over what it sealed, as a commit does.
    fn run(&self, order: Order, work: impl FnOnce(&Path)) -> (Layer, Sealed) {
        let (session, attempt, fence, task) =
            (order.session, order.attempt, order.fence, order.task);
        let server = self.start(order).unwrap();
        let mounted = Mounted::new(&self.at("mount"));
        server
            .launcher
            .send_with(&FromLauncher::Mounts, &[mounted.device.as_fd()])
            .unwrap();
        let run = server.launcher.expect::<ToLauncher>().unwrap();
        let (ToLauncher::Run { command, files, .. }, output) = run.exactly::<2>().unwrap() else {
            panic!("one command")
        };
        assert_eq!(command[1], task.to_string().as_bytes());
        assert_eq!(files[0].bytes, task.to_string().as_bytes());
        assert!(matches!(hear(&server.agent), FromView::Serving));
        work(&mounted.at);
        drop((mounted, output));
        let sealed = server.end();
        self.area
            .adopt(&Area::open(server.attempt.clone()).unwrap())
            .unwrap();
        let manifest = sealed.manifest;
        let layer = Layer {
            manifest,
            session,
            attempt,
            fence,
        };
        (layer, sealed)
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

fn hear(agent: &Channel) -> FromView {
    agent.expect::<FromView>().unwrap().message
}

fn keep(area: &Area, object: &[u8]) -> ObjectId {
    let id = ObjectId(*blake3::hash(object).as_bytes());
    area.put(id, object).unwrap();
    id
}

/// An audit writer that writes nothing.
fn drain(writer: &Channel) {
    let mut records = 0;
    while let Ok(Some(incoming)) = writer.recv::<ToWriter>() {
        match incoming.message {
            ToWriter::Append { body } => {
                assert!(matches!(body, Body::Sealed { .. }));
                records += 1;
            }
            ToWriter::Sync => {
                let synced = FromWriter::Synced(Checkpoint {
                    records,
                    chain: [0; 32],
                });
                writer.send(&synced).unwrap();
            }
        }
    }
}

struct Server {
    child: Child,
    agent: Channel,
    launcher: Channel,
    attempt: PathBuf,
}

impl Server {
    /// Says that the session ended well.
    fn end(&self) -> Sealed {
        self.agent.send(&ToView::Ended { cause: DONE }).unwrap();
        match hear(&self.agent) {
            FromView::Sealed(sealed) => sealed,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A mount whose server is another process.
struct Mounted {
    at: PathBuf,
    device: File,
}

impl Mounted {
    fn new(at: &Path) -> Self {
        let device = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .unwrap();
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions",
            device.as_raw_fd()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let kind = Some("fuse.safelight");
        mount(Some("safelight"), at, kind, flags, Some(options.as_str())).unwrap();
        Self {
            at: at.to_owned(),
            device,
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let patience = Instant::now() + PATIENCE;
        while umount2(&self.at, MntFlags::empty()).is_err() && Instant::now() < patience {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

fn names(at: &Path) -> Vec<String> {
    let names = fs::read_dir(at)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_task_finds_what_the_tasks_before_it_left_in_their_order() {
    if !can_mount("a_task_finds") {
        return;
    }
    let job = Job::new("/mnt/show/picture");
    let (first, sealed) = job.run(job.order(1, vec![]), |at| {
        assert_eq!(names(at), ["old", "scene"]);
        fs::create_dir(at.join("frames")).unwrap();
        fs::write(at.join("frames/1"), "one").unwrap();
        fs::write(at.join("picture"), "of the first").unwrap();
        fs::remove_file(at.join("old")).unwrap();
    });
    assert_eq!((sealed.cause, sealed.files), (DONE, 2));
    // A task beside it, which does not see it, and writes below the same directory.
    let (second, _) = job.run(job.order(2, vec![]), |at| {
        assert_eq!(names(at), ["old", "scene"]);
        fs::create_dir(at.join("frames")).unwrap();
        fs::write(at.join("frames/2"), "two").unwrap();
        fs::write(at.join("picture"), "of the second").unwrap();
    });
    for (layers, picture) in [
        ([first, second], "of the second"),
        ([second, first], "of the first"),
    ] {
        let number = if picture == "of the first" { 3 } else { 4 };
        let (third, sealed) = job.run(job.order(number, layers.to_vec()), |at| {
            // The directories are one another's: neither task was asked to empty it.
            assert_eq!(fs::read_to_string(at.join("picture")).unwrap(), picture);
            assert_eq!(fs::read_to_string(at.join("scene")).unwrap(), "sphere");
            assert!(!at.join("old").exists());
            fs::write(at.join("film"), "both").unwrap();
        });
        // What an earlier task wrote is not this one's output, though its name is expected.
        assert_eq!((sealed.cause, sealed.files), (Cause::NoOutput, 1));
        // And only its own change is in its result.
        let kind = Kind::Result {
            session: third.session,
            attempt: third.attempt,
            fence: third.fence,
        };
        let sealed = job.area.read(third.manifest).unwrap();
        let by = job.key.attest_key().public();
        let manifest = Manifest::open(&sealed, &job.key, job.id, &kind, &by)
            .ok()
            .unwrap();
        let paths: Vec<_> = manifest.trees[0]
            .entries
            .iter()
            .map(|entry| &entry.path[..])
            .collect();
        assert_eq!(paths, [&b""[..], b"film"]);
    }
}

/// A result as a task of this job would have sealed it, signed by `by`.
fn result(job: &Job, key: &JobKey, by: &SigningSecret, id: JobId) -> Layer {
    let layer = Layer {
        manifest: ObjectId([0; 32]),
        session: SessionId::from_random([7; 10]),
        attempt: 2,
        fence: Fence(9),
    };
    let kind = Kind::Result {
        session: layer.session,
        attempt: layer.attempt,
        fence: layer.fence,
    };
    let manifest = Manifest {
        job: id,
        kind,
        trees: vec![],
    };
    let sealed = manifest
        .sign_and_seal(by, key, &SystemRandom::new())
        .unwrap();
    Layer {
        manifest: keep(&job.area, &sealed),
        ..layer
    }
}

#[test]
fn a_layer_that_no_task_of_the_job_sealed_is_refused() {
    let job = Job::new("/mnt/show/picture");
    let random = SystemRandom::new();
    let good = result(&job, &job.key, &job.key.attest_key(), job.id);
    assert!(
        job.start(job.order(1, vec![good])).is_ok(),
        "the same, untouched"
    );
    let other = JobKey::generate(&random).unwrap();
    let elsewhere = JobId::from_random([4; 10]);
    let forged = [
        // Sealed by who knows the job's key but is no task, or by the client, who signs inputs and no results.
        result(
            &job,
            &job.key,
            &SigningSecret::generate(&random).unwrap(),
            job.id,
        ),
        result(&job, &job.key, &job.client, job.id),
        // Another job's.
        result(&job, &other, &other.attest_key(), job.id),
        result(&job, &job.key, &job.key.attest_key(), elsewhere),
        // Another session's, attempt's or lease's, given out for the one that was committed.
        Layer {
            session: SessionId::from_random([8; 10]),
            ..good
        },
        Layer { attempt: 1, ..good },
        Layer {
            fence: Fence(8),
            ..good
        },
        // Something else of the same job, or nothing.
        Layer {
            manifest: job.inputs,
            ..good
        },
        Layer {
            manifest: job.recipe,
            ..good
        },
        Layer {
            manifest: ObjectId([9; 32]),
            ..good
        },
    ];
    for (row, forged) in forged.into_iter().enumerate() {
        let refusal = job.refusal(job.order(1, vec![good, forged]));
        assert_eq!(refusal, Cause::NotAuthentic, "row {row}");
    }
    // An object that was changed on the disk.
    let name = good.manifest.to_string();
    let path = job.area.root().join(&name[..2]).join(&name);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(job.refusal(job.order(1, vec![good])), Cause::NotAuthentic);
}

#[test]
fn as_many_layers_as_there_may_be_are_taken_and_not_one_more() {
    let job = Job::new("/mnt/show/picture");
    let layer = result(&job, &job.key, &job.key.attest_key(), job.id);
    let wide = |count| job.order(1, vec![layer; count]);
    assert!(job.start(wide(LAYERS_MAX)).is_ok());
    assert_eq!(job.refusal(wide(LAYERS_MAX + 1)), Cause::ViewLost);
    // The last of many is looked at like the first.
    let mut last = wide(1025);
    last.layers[1024].attempt = 1;
    assert_eq!(job.refusal(last), Cause::NotAuthentic);
}

#[test]
fn a_task_whose_files_lead_elsewhere_is_refused() {
    let job = Job::new("/mnt/show/picture");
    assert_eq!(job.refusal(job.order(9, vec![])), Cause::NotAuthentic);
}

#[test]
fn output_that_nobody_reads_is_in_the_log_and_does_not_keep_the_server() {
    if !can_mount("output_that_nobody_reads") {
        return;
    }
    let job = Job::new("/mnt/show/scene");
    let (_unread, shown) = nix::unistd::pipe().unwrap();
    let order = job.order(1, vec![]);
    let place = Kind::Result {
        session: order.session,
        attempt: order.attempt,
        fence: order.fence,
    };
    let server = job.start_showing(order, &shown).unwrap();
    let mounted = Mounted::new(&job.at("mount"));
    let mounts = FromLauncher::Mounts;
    server
        .launcher
        .send_with(&mounts, &[mounted.device.as_fd()])
        .unwrap();
    let run = server.launcher.expect::<ToLauncher>().unwrap();
    let (_, [stdout, stderr]) = run.exactly::<2>().unwrap();
    assert!(matches!(hear(&server.agent), FromView::Serving));
    // The task speaks until nobody takes it any more, and is then ended.
    let mut said = 0;
    let mut stdout = File::from(stdout);
    let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
    nix::fcntl::fcntl(&stdout, flags).unwrap();
    let mut idle = 0;
    while idle < 20 {
        match stdout.write(&[b'x'; 4096]) {
            Ok(count) => (said, idle) = (said + count, 0),
            Err(_) => {
                thread::sleep(Duration::from_millis(10));
                idle += 1;
            }
        }
    }
    drop((mounted, stdout, stderr));
    assert!(said > 100_000, "{said}");
    let begun = Instant::now();
    let sealed = server.end();
    assert!(begun.elapsed() < Duration::from_secs(15));
    let attempt = Area::open(server.attempt.clone()).unwrap();
    let log = attempt.read(sealed.log).unwrap();
    let text = job
        .key
        .open_blob(Purpose::TaskLog, &place.place(job.id), &log)
        .ok()
        .unwrap();
    assert_eq!(text.len(), said);
}
