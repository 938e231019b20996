//! What the tests of a mounted view share: an area with what was packed into it, a view of it behind the kernel, programs that end.

#![allow(dead_code, reason = "each test binary uses the part that it needs")]

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};
use safelight_policies::{
    central::Judge,
    event::Access,
    grant::{CentralGrant, CentralRule, CentralRules},
    id::ObjectId,
};
use safelight_seal::{
    manifest::{Entries, Entry, Tree},
    random::SystemRandom,
    segment::DedupKey,
    working::WorkingKey,
};
use safelight_vfs::{
    area::Area,
    commit,
    content::Store,
    log::{Log, Lost},
    lower::Segments,
    pack::pack,
    serve,
    upper::{Quota, Upper},
    view::{Setup, View},
};
use tempfile::TempDir;

/// True if a view can be mounted here.
pub(crate) fn can_mount(test: &str) -> bool {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let can = nix::unistd::geteuid().is_root() && device.is_ok();
    can || absent(test, "fuse", "root and /dev/fuse")
}

/// Where a suite is that is built from its crate: where `make setup` puts it, or in the path. None where it is not, and that is said.
pub(crate) fn tool(test: &str, name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools/bin");
    let found = [built]
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        absent(test, name, &format!("{name} (make setup installs it)"));
    }
    found
}

/// Says that a test is skipped, and fails where `SAFELIGHT_REQUIRE` lists what is absent.
fn absent(test: &str, need: &str, what: &str) -> bool {
    let required = std::env::var("SAFELIGHT_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|listed| listed.trim() == need);
    assert!(
        !required,
        "{test} needs {what}, and SAFELIGHT_REQUIRE lists {need}"
    );
    println!("skipped: {test} needs {what}");
    false
}

#[derive(Debug, Default)]
pub(crate) struct Kept(pub(crate) Mutex<Vec<Access>>);

impl Log for Kept {
    fn record(&self, access: Access) -> Result<(), Lost> {
        self.0.lock().unwrap().push(access);
        Ok(())
    }

    fn not_authentic(&self, object: ObjectId) {
        panic!("{object} is not authentic");
    }
}

pub(crate) fn clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_nanos() as u64
}

/// A client's directory, an area, and what was packed of the one into the other.
pub(crate) struct Bench {
    directory: TempDir,
    pub(crate) area: Area,
    pub(crate) log: Arc<Kept>,
    /// Bytes that a session may write.
    pub(crate) quota: Quota,
    /// True for a view that lets several users in.
    pub(crate) many: bool,
    /// Where the session's own blocks go, if not beside all else.
    pub(crate) upper: Option<PathBuf>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path().join("area")).unwrap();
        for name in ["in", "mount", "again", "copy"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let log = Arc::default();
        Self {
            directory,
            area,
            log,
            quota: Quota {
                bytes: 1 << 33,
                entries: 1 << 20,
            },
            many: false,
            upper: None,
        }
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    pub(crate) fn pack(&self) -> Vec<Entry> {
        let key = DedupKey::from_bytes(&[1; 32]);
        pack(&self.at("in"), &self.area, &key, &mut |_| {}).unwrap()
    }

    pub(crate) fn mount(
        &self,
        at: &str,
        layers: &[&[Entry]],
        writable: bool,
        deny: &[&str],
    ) -> Mounted {
        let rules = |globs: &[&str]| {
            let rule = |glob: &&str| CentralRule {
                glob: (*glob).to_owned(),
                origin: "test.toml:1".to_owned(),
            };
            globs.iter().map(rule).collect()
        };
        let grant = CentralGrant {
            path: "/mnt/show".parse().unwrap(),
            write: writable,
            rules: CentralRules {
                read: rules(&["**"]),
                write: rules(&["**"]),
                deny: rules(deny),
            },
        };
        let setup = Setup {
            judge: Judge::for_grant(&grant).unwrap(),
            central: grant.path,
            writable,
            owner: (0, 0),
            clock,
        };
        let upper = writable.then(|| {
            let key = WorkingKey::generate(&SystemRandom::new()).unwrap();
            let file = match &self.upper {
                Some(directory) => tempfile::tempfile_in(directory),
                None => tempfile::tempfile(),
            };
            Upper::new(file.unwrap(), key, self.quota)
        });
        let area = Area::open(self.area.root()).unwrap();
        let store = Arc::new(Store::new(Segments::new(area), upper));
        let layers = layers.iter().map(|layer| Entries::of(layer).unwrap());
        let mut view = View::of_layers(setup, layers.collect(), store, self.log.clone()).unwrap();
        if self.many {
            view = view.for_many_users();
        }
        Mounted::new(Arc::new(view), self.at(at))
    }

    pub(crate) fn seal(&self, view: &View) -> Vec<Entry> {
        let outputs = commit::seal(view, &self.area, &SystemRandom::new()).unwrap();
        Tree::new(view.central().clone(), outputs.entries).entries
    }
}

/// A view, mounted.
pub(crate) struct Mounted {
    pub(crate) view: Arc<View>,
    pub(crate) at: PathBuf,
    server: Option<JoinHandle<std::io::Result<()>>>,
}

/// A mount as a view has it, that nobody serves yet.
pub(crate) fn unserved(at: &Path) -> File {
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .unwrap();
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
        device.as_raw_fd()
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("safelight"),
        at,
        Some("fuse.safelight"),
        flags,
        Some(options.as_str()),
    )
    .unwrap();
    device
}

impl Mounted {
    pub(crate) fn new(view: Arc<View>, at: PathBuf) -> Self {
        let device = unserved(&at);
        let served = view.clone();
        let server = thread::spawn(move || serve(served, device.into(), 2));
        Self {
            view,
            at,
            server: Some(server),
        }
    }

    /// Takes the mount away and waits for the server's end.
    pub(crate) fn end(mut self) -> Arc<View> {
        let patience = Instant::now() + Duration::from_secs(20);
        while let Err(errno) = umount2(&self.at, MntFlags::UMOUNT_NOFOLLOW) {
            assert!(
                errno == Errno::EBUSY && Instant::now() < patience,
                "cannot unmount: {errno}"
            );
            thread::sleep(Duration::from_millis(50));
        }
        let server = self.server.take().unwrap();
        server.join().unwrap().unwrap();
        self.view.clone()
    }
}

/// Fails a test that makes no progress: says where every thread stands, and cuts the mount off so that nobody waits for it for ever.
pub(crate) struct Watchdog {
    beats: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    watcher: Option<JoinHandle<bool>>,
}

impl Watchdog {
    pub(crate) fn over(mounted: &Mounted, name: &'static str) -> Self {
        Self::patient(mounted.at.clone(), name, Duration::from_secs(90))
    }

    pub(crate) fn patient(at: PathBuf, name: &'static str, patience: Duration) -> Self {
        let (beats, done) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (watched, over) = (beats.clone(), done.clone());
        let watcher = thread::spawn(move || {
            let (mut last, mut since) = (0, Instant::now());
            while !over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(100));
                let now = watched.load(Ordering::Relaxed);
                if now != last {
                    (last, since) = (now, Instant::now());
                }
                if since.elapsed() > patience {
                    println!("HANG: {name} stands still at beat {now}\n{}", stacks());
                    let _ = umount2(&at, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
                    return true;
                }
            }
            false
        });
        Self {
            beats,
            done,
            watcher: Some(watcher),
        }
    }

    /// What is to be told of progress, by adding to it.
    pub(crate) fn beats(&self) -> Arc<AtomicU64> {
        self.beats.clone()
    }

    /// True if it had to step in.
    pub(crate) fn end(mut self) -> bool {
        self.done.store(true, Ordering::Relaxed);
        self.watcher.take().unwrap().join().unwrap()
    }
}

/// Where each thread of this process stands in the kernel, as far as that may be read.
fn stacks() -> String {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let about = |task: fs::DirEntry| {
        let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let (comm, stack) = (read("comm"), read("stack"));
        format!("{} {comm}{stack}\n", task.file_name().display())
    };
    tasks.flatten().map(about).collect()
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.server.is_some() {
            let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        }
    }
}

/// Runs a program, which must succeed in time.
pub(crate) fn run(program: &mut Command) -> String {
    let output = finish(program);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(
        output.status.success(),
        "{program:?}: {}\n{out}{err}",
        output.status
    );
    out
}

/// A program that hangs is ended, so that a defect of ours is a failure and not a wait.
pub(crate) fn finish(program: &mut Command) -> Output {
    let mut patient = Command::new("timeout");
    patient
        .args(["-k", "5", "120"])
        .arg(program.get_program())
        .args(program.get_args());
    patient.output().unwrap()
}

pub(crate) fn command(program: &str, words: &[&dyn AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(program);
    command.args(words);
    command
}

pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}
