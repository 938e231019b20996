//! What a hostile job tries, beyond what lies open: the kernel's calls, its own result on the way home, and what it costs its host.
//!
//! Every attempt has a control: the same act where the wall is not, so that an attempt that would fail anyway is noticed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Command,
};

use crate::harness::{Host, clean, end, requires};

const PYTHON: &str = "/usr/bin/python3";

/// Calls that lead out of a sandbox or change the host, each in a process of its own. Prints what came of each.
const CALLS: &str = r#"
import ctypes, json, os, signal, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
HIGH = 1 << 40
def call(number, *arguments):
    ctypes.set_errno(0)
    got = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if got < 0: raise OSError(ctypes.get_errno(), "")
    return got
def clone(flags):
    if call(56, flags | signal.SIGCHLD, 0, 0, 0, 0) == 0: os._exit(0)
def clone3():
    if call(435, struct.pack("11Q", 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0), 88) == 0: os._exit(0)
def run_memory():
    memory = os.memfd_create("x", 0)
    os.write(memory, open("/bin/true", "rb").read())
    if os.fork() == 0:
        try: os.execve(memory, ["true"], {})
        except OSError as error: os._exit(error.errno)
    code = os.waitstatus_to_exitcode(os.wait()[1])
    if code: raise OSError(code, "")
def map_scratch():
    import mmap
    with open("/tmp/mapped", "wb+") as file:
        file.write(b"x" * 4096); file.flush()
        os.unlink("/tmp/mapped")
        mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
def to_write(path): os.close(os.open(path, os.O_WRONLY))
def device(path):
    os.mknod(path, 0o20600, os.makedev(1, 3)); os.unlink(path)
def listener():
    allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
    call(317, 1, 8, ctypes.create_string_buffer(struct.pack("H6xQ", 1, ctypes.addressof(allow))))
def fast_open():
    address = ("127.0.0.1", 9)
    try:
        listening = socket.socket(); listening.bind(address); listening.listen()
    except OSError: pass
    socket.socket().sendto(b"x", socket.MSG_FASTOPEN, address)
space = ctypes.create_string_buffer(4096)
attempts = {
    "mount": lambda: call(165, b"x", b"/tmp", b"tmpfs", 0, None),
    "open_tree": lambda: call(428, -100, b"/usr", 1),
    "fsopen": lambda: call(430, b"tmpfs", 0),
    "listmount": lambda: call(458, struct.pack("IIQQ", 24, 0, 2**64 - 1, 0), space, 16, 0),
    "umount": lambda: call(166, b"/proc", 2),
    "chroot": lambda: os.chroot("/tmp"),
    "unshare user": lambda: call(272, 0x10000000),
    "unshare mount": lambda: call(272, 0x20000),
    "clone user": lambda: clone(0x10000000),
    "clone user, garbage above": lambda: clone(HIGH | 0x10000000),
    "clone3 user": clone3,
    "setns": lambda: call(308, os.open("/proc/self/ns/mnt", os.O_RDONLY), 0),
    "io_uring": lambda: call(425, 4, space),
    "userfaultfd": lambda: call(323, 1),
    "keyctl session": lambda: call(250, 1, b"x"),
    "keyctl session to parent": lambda: call(250, 18),
    "add_key": lambda: call(248, b"user", b"a", b"b", 1, -3),
    "personality": lambda: call(135, 0x0040000),
    "modify_ldt": lambda: call(154, 0, space, 16),
    "fanotify": lambda: call(300, 0, 0),
    "seccomp listener": listener,
    "run memory": run_memory,
    "map scratch as code": map_scratch,
    "traceme": lambda: call(101, 0, 0, 0, 0),
    "trace": lambda: call(101, 0x4206, 1, 0, 0),
    "read memory": lambda: open("/proc/1/mem").close(),
    "take a descriptor": lambda: call(438, os.pidfd_open(1), 0, 0),
    "kcmp": lambda: call(312, 1, os.getpid(), 0, 0, 0),
    "syslog": lambda: call(103, 10, 0, 0),
    "cachestat": lambda: call(451, os.open("/usr/bin/env", os.O_RDONLY), struct.pack("QQ", 0, 4096), space, 0),
    "vmsplice": lambda: call(278, os.pipe()[1], struct.pack("QQ", ctypes.addressof(space), 8), 1, 0),
    "sethostname": lambda: call(170, b"x", 1),
    "become root": lambda: os.setresuid(0, 0, 0),
    "become another": lambda: os.setresuid(1001, 1001, 1001),
    "setgroups": lambda: os.setgroups([0]),
    "real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "name_to_handle_at": lambda: call(303, -100, b"/usr", struct.pack("Ii", 120, 0) + bytes(120), space, 0),
    "device in the view": lambda: device("node"),
    "device in scratch": lambda: device("/tmp/node"),
    "write core_pattern": lambda: to_write("/proc/sys/kernel/core_pattern"),
    "write uid_map": lambda: to_write("/proc/self/uid_map"),
    "read kmsg": lambda: open("/proc/kmsg", "rb").close(),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0),
    "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "multipath": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262),
    "fast open": fast_open,
}
said = {}
for name, attempt in attempts.items():
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try: attempt(); text = "done"
        except OSError as error: text = os.strerror(error.errno or 0)
        except Exception as error: text = repr(error)
        os.write(write, text.encode()); os._exit(0)
    os.close(write)
    said[name] = os.read(read, 200).decode() or "killed"
    os.close(read); os.waitpid(child, 0)
print(json.dumps(said))
"#;

type Said = BTreeMap<String, String>;

#[track_caller]
fn said(out: &str) -> Said {
    serde_json::from_str(out.trim()).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[test]
fn the_kernels_ways_out_are_shut() {
    if !requires(&["root", "fuse", "userns", "landlock", "python3"]) {
        return;
    }
    let host = Host::new();
    // The control has namespaces of its own, so that what succeeds there hurts nobody.
    let mut control = clean(Command::new("unshare"), &host.state(), host.root());
    control.args(["--fork", "--pid", "--mount", "--net", "--ipc", "--uts"]);
    control.args(["--mount-proc", "sh", "-c"]);
    control.arg("mount -t tmpfs x /tmp && ip link set lo up; exec \"$@\"");
    control.args(["sh", PYTHON, "-c", CALLS]);
    control.current_dir(host.dir("control"));
    let open = said(&end(&mut control).ok().out);
    let show = host.dir("show");
    let inside = end(&mut host.run(
        &[(&show, "/mnt/central")],
        &["--quiet"],
        &[PYTHON, "-c", CALLS],
    ))
    .ok();
    let inside = said(&inside.out);
    assert_eq!(
        inside.keys().collect::<Vec<_>>(),
        open.keys().collect::<Vec<_>>()
    );
    let done: Vec<_> = inside.iter().filter(|(_, said)| *said == "done").collect();
    assert!(done.is_empty(), "a session may not {done:?}");
    // Kernels lack one thing or another, but most of it must be possible in the open for this to mean anything.
    let possible = open.values().filter(|said| *said == "done").count();
    assert!(possible + 6 >= open.len(), "in the open: {open:?}");
    // What programs have a fallback for is not there; what has none is refused.
    for name in ["clone3 user", "io_uring"] {
        assert_eq!(inside[name], "Function not implemented", "{name}");
    }
    for name in [
        "clone user, garbage above",
        "mount",
        "multipath",
        "fast open",
    ] {
        assert_eq!(inside[name], "Operation not permitted", "{name}");
    }
}

#[test]
fn a_result_cannot_hurt_its_client() {
    if !requires(&["root", "fuse", "userns", "landlock"]) {
        return;
    }
    let host = Host::new();
    let show = host.dir("show");
    host.write("show/keep", "mine");
    host.write("show/way", "mine");
    let script = "
        echo changed > keep; ln keep same
        rm way; mkdir way; echo x > way/x
        ln -s /etc/passwd absolute; ln -s ../outside climbing; ln -s keep fine
        echo x > run; chmod 4755 run; truncate -s 1T sparse
        printf x > \"$(printf 'a\\033[2Jb')\"
        cat absolute climbing/x; cat same way/x; ls -l run sparse";
    let central = [(&*show, "/mnt/central")];
    let ended = end(&mut host.run(&central, &[], &["sh", "-c", script])).ok();
    // The control: inside everything is as the job made it.
    assert!(ended.out.contains("changed\nx\n"), "{ended:?}");
    let read = |name: &str| fs::read_to_string(show.join(name)).expect(name);
    let about = |name: &str| fs::symlink_metadata(show.join(name)).expect(name);
    assert_eq!(
        (read("keep"), about("keep").nlink()),
        ("mine".to_owned(), 1)
    );
    assert_eq!(read("same"), "changed\n");
    assert_eq!(read("way"), "mine");
    assert_eq!(read(&format!("way.{}/x", ended.job())), "x\n");
    assert!(about("fine").is_symlink());
    for name in ["absolute", "climbing"] {
        assert!(fs::symlink_metadata(show.join(name)).is_err(), "{name}");
        assert!(
            ended
                .err
                .contains(&format!("{name} is a link that leads out")),
            "{ended:?}"
        );
    }
    assert_eq!(about("run").permissions().mode() & 0o7000, 0);
    assert_eq!(
        (about("sparse").len(), about("sparse").blocks()),
        (1 << 40, 0)
    );
    assert!(!ended.err.contains('\x1b'), "{ended:?}");
}

/// Runs what it is told with standard output in a file and standard error on a terminal of its own; prints what came to the terminal.
const TERMINAL: &str = r"
import os, pty, sys
main, end = pty.openpty()
if os.fork() == 0:
    file = os.open('out', os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(file, 1); os.dup2(end, 2); os.close(main)
    os.execv(sys.argv[1], sys.argv[1:])
os.close(end)
said = b''
try:
    while part := os.read(main, 4096): said += part
except OSError: pass
sys.stdout.write(said.decode(errors='replace'))
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
";

#[test]
fn a_terminal_is_harmless_even_if_only_one_stream_leads_to_it() {
    if !requires(&["root", "fuse", "userns", "landlock", "python3"]) {
        return;
    }
    let host = Host::new();
    let print = "printf '\\033]0;title\\007'; printf '\\033]0;title\\007' >&2";
    let run = host.run(&[], &["--quiet"], &["sh", "-c", print]);
    let mut terminal = clean(Command::new(PYTHON), &host.state(), host.root());
    terminal
        .args(["-c", TERMINAL])
        .arg(run.get_program())
        .args(run.get_args());
    let on_terminal = end(terminal.current_dir(host.root())).ok();
    assert!(on_terminal.out.contains("]0;title"), "{on_terminal:?}");
    assert!(!on_terminal.out.contains("\x1b]0;"), "{on_terminal:?}");
    // The control: a file gets what the job printed, as it is.
    let file = fs::read_to_string(host.path("out")).expect("out");
    assert_eq!(file, "\x1b]0;title\x07");
}

/// Attributes until there is no more room for them.
const ATTRIBUTES: &str = r"
import errno, os
total = 0
try:
    for number in range(100000):
        open(f'f{number}', 'w').close()
        for attribute in range(64):
            os.setxattr(f'f{number}', f'user.{attribute}', b'x' * 65000)
            total += 65000
except OSError as error:
    print(errno.errorcode[error.errno], total >> 20)
";

#[test]
fn attributes_cost_no_more_than_they_may() {
    if !requires(&["root", "fuse", "userns", "landlock", "python3"]) {
        return;
    }
    let host = Host::new();
    let show = host.dir("show");
    let central = [(&*show, "/mnt/central")];
    let mut run = host.run(&central, &["--quiet"], &[PYTHON, "-c", ATTRIBUTES]);
    let ended = end(&mut run).ok();
    let (error, mebibytes) = ended.out.trim().split_once(' ').expect("two words");
    assert_eq!(error, "ENOSPC", "{ended:?}");
    let mebibytes: u64 = mebibytes.parse().expect("a number");
    assert!((48..=64).contains(&mebibytes), "{mebibytes} MiB");
}
