# What a hostile job tries. It runs inside a session, behind one wall alone, and in the open: the acts are the same everywhere, so that one
# that would fail anyway is noticed. Each act runs in a process of its own. Prints, as JSON, what came of each: "done", or the error's name.
#
# Its argument says what there is to reach: `outside`, a directory of the host's with one file for each attempt; `pids`, processes of the
# host's; `disposable`, some that may be killed; `victim`, what a process laid out to be found; `past`, what an earlier session left;
# `scratch`, where one may write; `tools`, programs with privileges; `wait`, true if the numbers of the session's own keepers will come.
import ctypes, errno, fcntl, json, mmap, os, resource, signal, socket, stat, struct, sys, time

F = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
HIGH = 1 << 40
AT = -100
NEWUSER, NEWNS, NEWNET, NEWPID = 0x10000000, 0x20000, 0x40000000, 0x20000000
ATTEMPTS, ALLOWED, P = [], [], ""

class Refused(Exception):
    """No error number, but not done either: in a word."""

def attempt(name, **asks):
    return lambda act: ATTEMPTS.append((name, asks, act)) or act

def allowed(name, **asks):
    return lambda act: ALLOWED.append((name, asks, act)) or act

def call(number, *arguments):
    ctypes.set_errno(0)
    got = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if got < 0: raise OSError(ctypes.get_errno(), "")
    return got

def soft(act):
    """A preparation that a wall may refuse: then the act itself shows what comes of it."""
    try: return act()
    except OSError: return None

def each(pids, act):
    """Done if it is done to any of them."""
    worst = Refused("nobody")
    for pid in pids:
        try: return act(pid)
        except OSError as error: worst = error
    raise worst

def disposable(): return [F["disposable"].pop()] if F["disposable"] else F["pids"]

def to_write(path): os.close(os.open(path, os.O_WRONLY))
def scratch(name): return F["scratch"] + "/" + name
def space(size=4096): return ctypes.create_string_buffer(size)

def own_mounts():
    """In the open nothing may happen to the host's own mounts."""
    if F["open"]: call(272, NEWNS)
    else: soft(lambda: call(272, NEWNS))
    soft(lambda: call(165, b"none", b"/", None, 0x44000, None))


def a_mount(path):
    """What is a mount in a session and none on the host: there one that is stands in for it."""
    return (path if os.path.ismount(path) else "/proc").encode()

def child(act):
    """The exit code of a child that does it: 0, or the error number."""
    pid = os.fork()
    if pid == 0:
        try: act(); os._exit(0)
        except OSError as error: os._exit(error.errno or 255)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code > 0: raise OSError(code, "")
    if code < 0: raise Refused(signal.Signals(-code).name)

def output(*command):
    read, write = os.pipe()
    def run():
        os.dup2(write, 1); os.dup2(write, 2); os.execv(command[0], list(command))
    pid = os.fork()
    if pid == 0:
        try: run()
        except OSError as error: os.write(write, b"errno %d" % error.errno); os._exit(0)
    os.close(write)
    text = b""
    while part := os.read(read, 65536): text += part
    os.waitpid(pid, 0)
    text = text.decode()
    if text.startswith("errno "): raise OSError(int(text.split()[1]), "")
    return text

# --- Files of the host ----------------------------------------------------------------------------------------------------------

@attempt("read-file", path="@outside")
def _(): open(P).read()

@attempt("read-passwords", path="/etc/shadow")
def _(): open("/etc/shadow").read()

@attempt("list-directory", path="@outside")
def _(): os.listdir(F["outside"])

@attempt("stat-file", path="@outside")
def _(): os.stat(P)

@attempt("enter-directory", path="@outside")
def _(): os.chdir(F["outside"])

@attempt("link-to-file")
def _():
    soft(lambda: os.unlink(scratch("link")))
    os.symlink(P, scratch("link")); open(scratch("link")).read()

@attempt("climb-out")
def _(): open(F["scratch"] + "/.." * 40 + P).read()

@attempt("path-handle-then-open")
def _():
    place = os.open(F["outside"], os.O_PATH | os.O_DIRECTORY)
    os.close(os.open(os.path.basename(P), os.O_RDONLY, dir_fd=place))

@attempt("write-file")
def _(): open(P, "a").write("x")

@attempt("truncate-file")
def _(): os.truncate(P, 0)

@attempt("remove-file")
def _(): os.unlink(P)

@attempt("create-file")
def _(): open(F["outside"] + "/planted", "w").close(); os.unlink(F["outside"] + "/planted")

@attempt("move-file-in")
def _(): os.rename(P, scratch("moved"))

@attempt("move-file-out")
def _():
    open(scratch("mine"), "w").close()
    os.rename(scratch("mine"), F["outside"] + "/mine"); os.unlink(F["outside"] + "/mine")

@attempt("hard-link-in")
def _(): os.link(P, scratch("hard")); os.unlink(scratch("hard"))

@attempt("exchange-files")
def _():
    open(scratch("swap"), "w").close()
    call(316, AT, P.encode(), AT, scratch("swap").encode(), 2)

@attempt("change-mode")
def _(): os.chmod(P, 0o666)

@attempt("change-owner")
def _(): os.chown(P, os.getuid(), os.getgid())

@attempt("change-times")
def _(): os.utime(P, (0, 0))

@attempt("set-attribute")
def _(): os.setxattr(P, "user.x", b"x")

@attempt("write-system-file", write="/usr/lib/os-release")
def _(): to_write("/usr/lib/os-release")

@attempt("create-system-file", write="/usr/local/lib/planted")
def _():
    name = f"/usr/local/lib/planted-{os.getpid()}"
    open(name, "w").close(); os.unlink(name)

@attempt("change-system-mode", write="/usr/lib/os-release")
def _(): os.chmod("/usr/lib/os-release", 0o644)

@attempt("block-device-in-scratch")
def _(): os.mknod(scratch("block"), 0o60600, os.makedev(1, 0)); os.unlink(scratch("block"))

@attempt("character-device-in-scratch")
def _(): os.mknod(scratch("char"), 0o20600, os.makedev(1, 3)); os.unlink(scratch("char"))

@attempt("device-in-the-view")
def _(): os.mknod("node", 0o20600, os.makedev(1, 3)); os.unlink("node")

@attempt("set-user-id-program")
def _():
    if output(F["tools"] + "/id", "-u").strip() != "12345": raise Refused("no gain")

@attempt("capable-program")
def _():
    # SECBIT_NOROOT: root has what the file gives it, like anybody.
    soft(lambda: call(157, 28, 1, 0, 0, 0))
    said = output(F["tools"] + "/cat", "/proc/self/status")
    if "CapEff:\t0000000000000000" in said: raise Refused("no gain")
    if "CapEff" not in said: raise Refused(said.strip()[-40:])

@attempt("open-by-handle", call="open_by_handle_at")
def _():
    handle, mount = ctypes.create_string_buffer(struct.pack("Ii", 120, 0) + bytes(120)), ctypes.c_int()
    target = P if os.access(P, os.F_OK) else "/usr"
    call(303, AT, target.encode(), handle, ctypes.byref(mount), 0)
    place = os.open(os.path.dirname(target), os.O_RDONLY)
    os.close(call(304, place, handle, 0))

@attempt("run-from-scratch", run="/tmp/program")
def _():
    with open(scratch("program"), "wb") as file: file.write(open("/usr/bin/true", "rb").read())
    os.chmod(scratch("program"), 0o755)
    child(lambda: os.execv(scratch("program"), ["true"]))

@attempt("map-scratch-as-code")
def _():
    with open(scratch("code"), "wb+") as file:
        file.write(b"x" * 4096); file.flush()
        mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)

@attempt("run-memory", call="memfd_create")
def _():
    memory = os.memfd_create("x", 0)
    os.write(memory, open("/usr/bin/true", "rb").read())
    child(lambda: os.execve(memory, ["true"], {}))

@attempt("inherited-descriptor")
def _():
    if all(int(fd) < 3 or os.path.realpath(f"/proc/self/fd/{fd}").startswith("/proc") for fd in os.listdir("/proc/self/fd")):
        raise Refused("none")

@attempt("inherited-variable")
def _():
    if "ESCAPE_TOKEN" not in os.environ: raise Refused("none")

# --- The kernel's files ---------------------------------------------------------------------------------------------------------

@attempt("core-pattern", write="/proc/sys/kernel/core_pattern")
def _(): to_write("/proc/sys/kernel/core_pattern")

@attempt("drop-all-caches", write="/proc/sys/vm/drop_caches")
def _(): to_write("/proc/sys/vm/drop_caches")

@attempt("host-name-file", write="/proc/sys/kernel/hostname")
def _(): to_write("/proc/sys/kernel/hostname")

@attempt("read-kernel-log")
def _(): os.close(os.open("/proc/kmsg", os.O_RDONLY | os.O_NONBLOCK))

@attempt("kernel-log-device", path="/dev/kmsg")
def _(): os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))

@attempt("fuse-device", path="/dev/fuse")
def _(): os.close(os.open("/dev/fuse", os.O_RDWR))

@attempt("terminals", path="/dev/ptmx")
def _(): os.close(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))

@attempt("control-groups", path="/sys/fs/cgroup")
def _(): os.listdir("/sys/fs/cgroup")

@attempt("fuse-connections", path="/sys/fs/fuse/connections")
def _(): os.listdir("/sys/fs/fuse")

@attempt("kernel-settings", path="/sys/kernel/uevent_helper")
def _(): os.listdir("/sys/kernel")

@attempt("kernel-modules", path="/sys/module")
def _(): os.listdir("/sys/module")

@attempt("firmware", path="/sys/firmware")
def _(): os.listdir("/sys/firmware")

@attempt("daemons-sockets", path="/run")
def _(): os.listdir("/run")

# --- Mounts and namespaces ------------------------------------------------------------------------------------------------------

@attempt("mount-memory", call="mount")
def _(): own_mounts(); call(165, b"x", b"/tmp", b"tmpfs", 0, None)

@attempt("mount-bind", call="mount")
def _(): own_mounts(); call(165, b"/usr", b"/tmp", None, 4096, None)

@attempt("mount-writable", call="mount")
def _():
    own_mounts(); soft(lambda: call(165, b"/usr", b"/usr", None, 4096, None))
    call(165, None, b"/usr", None, 32 | 4096, None)

@attempt("mount-processes", call="mount")
def _(): own_mounts(); call(165, b"x", b"/tmp", b"proc", 0, None)

@attempt("mount-groups", call="mount")
def _(): own_mounts(); call(165, b"x", b"/tmp", b"cgroup2", 0, None)

@attempt("unmount", call="umount2")
def _(): own_mounts(); call(166, b"/proc", 2)

@attempt("unmount-the-view", call="umount2")
def _():
    own_mounts(); call(166, a_mount(os.getcwd()), 2)

@attempt("clear-read-only", call="mount_setattr")
def _():
    own_mounts(); call(442, AT, a_mount("/usr"), 0, struct.pack("QQQQ", 0, 1, 0, 0), 32)

@attempt("clone-mounts", call="open_tree")
def _(): own_mounts(); os.close(call(428, AT, b"/usr", 1))

@attempt("new-mount", call="fsopen")
def _(): own_mounts(); os.close(call(430, b"tmpfs", 0))

@attempt("move-mount", call="move_mount")
def _():
    own_mounts(); soft(lambda: call(165, b"x", b"/tmp", b"tmpfs", 0, None)); soft(lambda: os.mkdir("/tmp/to"))
    tree = soft(lambda: call(428, AT, b"/usr", 1))
    call(429, -1 if tree is None else tree, b"", AT, b"/tmp", 4)

@attempt("list-mounts", call="listmount")
def _(): call(458, struct.pack("IIQQ", 24, 0, 2**64 - 1, 0), space(), 16, 0)

@attempt("pivot-root", call="pivot_root")
def _():
    own_mounts(); soft(lambda: call(165, b"x", b"/tmp", b"tmpfs", 0, None)); soft(lambda: os.mkdir("/tmp/old"))
    call(155, b"/tmp", b"/tmp/old")

@attempt("change-root", call="chroot")
def _(): os.chroot("/usr")

@attempt("new-user-namespace", call="unshare")
def _(): call(272, NEWUSER)

@attempt("new-mount-namespace", call="unshare")
def _(): call(272, NEWNS)

@attempt("new-network-namespace", call="unshare")
def _(): call(272, NEWNET)

def cloned(number, *arguments):
    pid = call(number, *arguments)
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)

@attempt("clone-user-namespace", call="clone")
def _(): cloned(56, NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)

@attempt("clone-with-garbage-above", call="clone")
def _(): cloned(56, HIGH | NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)

@attempt("clone3-user-namespace", call="clone3")
def _(): cloned(435, struct.pack("11Q", NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0), 88)

@attempt("enter-namespace", call="setns")
def _(): call(308, os.open("/proc/self/ns/mnt", os.O_RDONLY), 0)

@attempt("enter-others-namespaces", call="setns")
def _(): each(F["pids"], lambda pid: call(308, os.pidfd_open(pid), NEWNS))

@attempt("write-user-map", write="/proc/self/uid_map")
def _(): to_write("/proc/self/uid_map")

# --- Other processes: another job's command and keepers, one's own keepers, the agent and the warden --------------------------------

def own_and_others(act): each(F["pids"], act)

@attempt("find-any-process")
def _():
    own, mine = {os.getpid(), os.getppid(), 1}, 0
    for pid in range(2, 65536):
        if pid in own: continue
        try: os.kill(pid, 0)
        except OSError: continue
        return
    raise Refused("nobody")

@attempt("list-processes")
def _():
    if not any(str(pid) in os.listdir("/proc") for pid in F["pids"]): raise Refused("nobody")

@attempt("signal")
def _(): own_and_others(lambda pid: os.kill(pid, 0))

@attempt("kill-the-view-server")
def _(): each(disposable() if F["open"] else F["view"], lambda pid: os.kill(pid, signal.SIGKILL))

@attempt("kill-the-agent")
def _(): each(disposable() if F["open"] else F["agent"], lambda pid: os.kill(pid, signal.SIGKILL))

@attempt("kill-the-audit-writer")
def _(): each(disposable() if F["open"] else F["audit"], lambda pid: os.kill(pid, signal.SIGKILL))

@attempt("kill-the-warden")
def _(): each(disposable() if F["open"] else F["warden"], lambda pid: os.kill(pid, signal.SIGKILL))

@attempt("kill-the-launcher")
def _(): each(disposable() if F["open"] else F["launcher"], lambda pid: os.kill(pid, signal.SIGKILL))

@attempt("kill-another-job")
def _(): each(disposable() if F["open"] else F["command"], lambda pid: os.kill(pid, signal.SIGKILL))

@attempt("kill-the-first-process")
def _():
    each(disposable() if F["open"] else [1], lambda pid: os.kill(pid, signal.SIGKILL))
    time.sleep(0.1)
    # Whoever can say this has a first process.
    if not F["open"]: raise Refused("unharmed")

@attempt("stop-the-view-server")
def _(): each(disposable() if F["open"] else F["view"], lambda pid: os.kill(pid, signal.SIGSTOP))

@attempt("signal-a-thread")
def _(): own_and_others(lambda pid: call(234, pid, pid, 0))

@attempt("forge-a-signal")
def _(): own_and_others(lambda pid: call(129, pid, 18, ctypes.create_string_buffer(struct.pack("iii", 18, 0, -1) + bytes(116))))

@attempt("process-descriptor")
def _(): own_and_others(lambda pid: os.close(os.pidfd_open(pid)))

@attempt("signal-by-descriptor")
def _(): own_and_others(lambda pid: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGCONT))

@attempt("take-a-descriptor", call="pidfd_getfd")
def _(): own_and_others(lambda pid: os.close(call(438, os.pidfd_open(pid), 0, 0)))

@attempt("trace", call="ptrace")
def _(): own_and_others(lambda pid: (call(101, 0x4206, pid, 0, 0), os.kill(pid, 0)))

@attempt("trace-the-first-process", call="ptrace")
def _(): each(F["pids"] if F["open"] else [1], lambda pid: call(101, 0x4206, pid, 0, 0))

def peek(number):
    def one(pid):
        mine = space(8)
        local = struct.pack("QQ", ctypes.addressof(mine), 8)
        call(number, pid, local, 1, struct.pack("QQ", F["victim"]["at"], 8), 1, 0)
    return one

@attempt("read-memory", call="process_vm_readv")
def _(): own_and_others(peek(310))

@attempt("write-memory", call="process_vm_writev")
def _(): own_and_others(peek(311))

@attempt("open-memory")
def _(): own_and_others(lambda pid: open(f"/proc/{pid}/mem", "rb").close())

@attempt("read-environment")
def _(): own_and_others(lambda pid: open(f"/proc/{pid}/environ").read())

@attempt("read-arguments")
def _(): own_and_others(lambda pid: open(f"/proc/{pid}/cmdline").read())

@attempt("list-descriptors")
def _(): own_and_others(lambda pid: os.listdir(f"/proc/{pid}/fd"))

@attempt("read-memory-map")
def _(): own_and_others(lambda pid: open(f"/proc/{pid}/maps").read())

@attempt("enter-by-its-root")
def _(): own_and_others(lambda pid: os.listdir(f"/proc/{pid}/root/"))

@attempt("enter-by-its-directory")
def _(): own_and_others(lambda pid: os.listdir(f"/proc/{pid}/cwd/"))

@attempt("first-process-environment")
def _(): each(F["pids"] if F["open"] else [1], lambda pid: open(f"/proc/{pid}/environ").read())

@attempt("first-process-root")
def _(): each(F["pids"] if F["open"] else [1], lambda pid: os.listdir(f"/proc/{pid}/root/"))

# From where it is: to ask for less than that is another refusal, of whoever started this with nice.
def slower(pid): return min(19, os.getpriority(os.PRIO_PROCESS, pid) + 1)

@attempt("slow-it-down")
def _(): own_and_others(lambda pid: os.setpriority(os.PRIO_PROCESS, pid, slower(pid)))

@attempt("slow-its-disk")
def _(): own_and_others(lambda pid: call(251, 1, pid, 2 << 13 | 4))

@attempt("move-it-to-a-processor")
def _(): own_and_others(lambda pid: os.sched_setaffinity(pid, os.sched_getaffinity(0)))

@attempt("schedule-it")
def _(): own_and_others(lambda pid: os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0)))

@attempt("limit-it")
def _(): own_and_others(lambda pid: resource.prlimit(pid, resource.RLIMIT_NOFILE))

@attempt("offer-it-to-the-memory-killer")
def _(): own_and_others(lambda pid: open(f"/proc/{pid}/oom_score_adj", "w").write("0"))

@attempt("advise-its-memory", call="process_madvise")
def _(): own_and_others(lambda pid: call(440, os.pidfd_open(pid), struct.pack("QQ", F["victim"]["page"], 4096), 1, 20, 0))

@attempt("compare-its-resources", call="kcmp")
def _(): own_and_others(lambda pid: call(312, pid, pid, 0, 0, 0))

@attempt("move-its-pages", call="move_pages")
def _(): own_and_others(lambda pid: call(279, pid, 0, None, None, None, 0))

@attempt("have-it-signalled")
def _():
    ours, theirs = socket.socketpair()
    own_and_others(lambda pid: fcntl.fcntl(ours, fcntl.F_SETOWN, pid))

@attempt("read-its-robust-list")
def _(): own_and_others(lambda pid: call(274, pid, ctypes.byref(ctypes.c_void_p()), ctypes.byref(ctypes.c_size_t())))

# --- Who one is -------------------------------------------------------------------------------------------------------------------

@attempt("become-root", call="setresuid")
def _(): os.setresuid(0, 0, 0)

@attempt("become-another", call="setresuid")
def _(): os.setresuid(1001, 1001, 1001)

@attempt("become-roots-group", call="setresgid")
def _(): os.setresgid(0, 0, 0)

@attempt("join-groups", call="setgroups")
def _(): os.setgroups([0])

@attempt("gain-capabilities", call="capset")
def _():
    data = struct.pack("6I", 1 << 21, 1 << 21, 0, 0, 0, 0)
    call(126, struct.pack("Ii", 0x20080522, 0), data)

@attempt("ambient-capabilities")
def _():
    soft(lambda: call(126, struct.pack("Ii", 0x20080522, 0), struct.pack("6I", 1 << 21, 1 << 21, 1 << 21, 0, 0, 0)))
    call(157, 47, 2, 21, 0, 0)

@attempt("secure-bits")
def _(): call(157, 28, 0, 0, 0, 0)

@attempt("dump-core")
def _():
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0: call(302, 0, 4, struct.pack("QQ", 4096, 4096), None)

@attempt("real-time-priority")
def _(): os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))

@attempt("higher-priority")
def _(): os.setpriority(os.PRIO_PROCESS, 0, -10)

@attempt("session-keyring", call="keyctl")
def _(): call(250, 1, b"x")

@attempt("add-key", call="add_key")
def _(): call(248, b"user", b"a", b"b", 1, -3)

@attempt("forge-a-sender")
def _():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("iii", os.getppid(), 0, 0))])

# --- Other processes' ears --------------------------------------------------------------------------------------------------------

def connect(family, address, kind=socket.SOCK_STREAM, protocol=0):
    s = socket.socket(family, kind, protocol); s.settimeout(2); s.connect(address)

@attempt("abstract-socket")
def _(): connect(socket.AF_UNIX, "\0" + F["victim"]["word"])

@attempt("socket-by-path")
def _(): connect(socket.AF_UNIX, F["victim"]["socket"])

@attempt("tcp-to-the-host", address="@tcp")
def _(): connect(socket.AF_INET, ("127.0.0.1", F["victim"]["port"]))

@attempt("tcp-by-mapped-address")
def _(): connect(socket.AF_INET6, ("::ffff:127.0.0.1", F["victim"]["port"]))

@attempt("multipath-tcp-to-the-host")
def _(): connect(socket.AF_INET, ("127.0.0.1", F["victim"]["port"]), socket.SOCK_STREAM, 262)

@attempt("fast-open-to-the-host")
def _(): socket.socket().sendto(b"x", 0x20000000, ("127.0.0.1", F["victim"]["port"]))

@attempt("udp-to-the-host")
def _():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)
    s.connect(("127.0.0.1", F["victim"]["udp"])); s.send(b"x"); s.recv(10)

@attempt("find-network-interfaces")
def _():
    if [name for _, name in socket.if_nameindex() if name not in ("lo", "tunl0", "sit0")] == []: raise Refused("none")

@attempt("netlink", call="socket")
def _(): socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)

@attempt("packets", call="socket")
def _(): socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)

@attempt("raw-ip", call="socket")
def _(): socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)

@attempt("virtual-machine-socket", call="socket")
def _(): socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM, 0)

@attempt("system-v-memory")
def _(): call(29, F["victim"]["key"], 0, 0)

@attempt("system-v-semaphores")
def _(): call(64, F["victim"]["key"], 0, 0)

@attempt("system-v-queue", call="msgget")
def _(): call(68, F["victim"]["key"], 0)

@attempt("posix-queue", call="mq_open")
def _(): os.close(call(240, F["victim"]["word"].encode(), 0, 0, None))

@attempt("shared-memory")
def _(): open("/dev/shm/" + F["victim"]["word"]).read()

@attempt("scratch-of-another")
def _(): open(F["victim"]["file"]).read()

@attempt("files-of-another-job")
def _(): open(F["victim"]["central"]).read()

@attempt("safelights-state", path="@state")
def _(): os.listdir(F["state"])

# --- What a session before this one left ------------------------------------------------------------------------------------------

@attempt("left-in-scratch")
def _(): open(F["past"]["file"]).read()

@attempt("left-in-shared-memory")
def _(): open("/dev/shm/" + F["past"]["word"]).read()

@attempt("left-in-home")
def _(): open(F["past"]["home"]).read()

@attempt("left-in-the-view")
def _(): open(F["past"]["central"]).read()

@attempt("left-system-v-memory")
def _(): call(29, F["past"]["key"], 0, 0)

@attempt("left-listening")
def _(): connect(socket.AF_UNIX, "\0" + F["past"]["word"])

@attempt("left-running")
def _():
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            words = soft(lambda: open(f"/proc/{pid}/cmdline").read()) or ""
            if F["past"]["word"] in words and '"past"' not in words: return
    raise Refused("nobody")

# --- The kernel's other doors -------------------------------------------------------------------------------------------------------

@attempt("io-uring", call="io_uring_setup")
def _(): os.close(call(425, 4, space()))

@attempt("userfaultfd", call="userfaultfd")
def _(): os.close(call(323, 0))

@attempt("bpf", call="bpf")
def _(): os.close(call(321, 0, struct.pack("IIII", 2, 4, 4, 1) + bytes(112), 128))

@attempt("performance-counters", call="perf_event_open")
def _(): os.close(call(298, struct.pack("IIQ", 1, 128, 0) + bytes(112), 0, -1, -1, 0))

@attempt("local-descriptor-table", call="modify_ldt")
def _(): call(154, 0, space(), 16)

@attempt("read-the-kernels-log", call="syslog")
def _(): call(103, 10, 0, 0)

@attempt("process-accounting", call="acct")
def _(): call(163, None)

@attempt("host-name", call="sethostname")
def _(): soft(lambda: call(272, 0x4000000)); call(170, b"x", 1)

@attempt("personality")
def _(): call(135, 0x0040000)

@attempt("watch-all-files", call="fanotify_init")
def _(): os.close(call(300, 0, 0))

@attempt("answer-for-the-kernel", call="seccomp")
def _():
    soft(lambda: call(157, 38, 1, 0, 0, 0))
    allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
    os.close(call(317, 1, 8, ctypes.create_string_buffer(struct.pack("H6xQ", 1, ctypes.addressof(allow)))))

@attempt("pages-that-others-read", call="cachestat")
def _(): call(451, os.open("/usr/bin/env", os.O_RDONLY), struct.pack("QQ", 0, 4096), space(), 0)

@attempt("pages-in-memory", call="mincore")
def _():
    with open("/usr/bin/env", "rb") as file:
        page = mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        call(27, ctypes.addressof(ctypes.c_char.from_buffer(page)), 4096, space())

@attempt("splice-own-pages", call="vmsplice")
def _():
    mine = space(8)
    call(278, os.pipe()[1], struct.pack("QQ", ctypes.addressof(mine), 8), 1, 0)

@attempt("thirty-two-bit-calls")
def _():
    # push rbx; mov eax, 20 (getpid); int 0x80; pop rbx; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3")
    got = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    if got < 0: raise OSError(-got, "")

def type_into(flags):
    tty = soft(os.openpty)
    if tty:
        os.setsid(); soft(lambda: fcntl.ioctl(tty[1], 0x540e, 0))
    key = ctypes.create_string_buffer(b"x")
    call(16, tty[1] if tty else os.pipe()[0], 0x5412 | flags, key)

@attempt("type-into-a-terminal", call="ioctl")
def _(): type_into(0)

@attempt("type-with-garbage-above", call="ioctl")
def _(): type_into(HIGH)

# --- The view -----------------------------------------------------------------------------------------------------------------------

@attempt("follow-a-clients-link-out")
def _(): open("leads-out").read()

@attempt("write-read-only-view")
def _(): open(F["readonly"] + "/planted", "w").close(); os.unlink(F["readonly"] + "/planted")

@attempt("change-read-only-view")
def _(): os.chmod(F["readonly"] + "/asset", 0o600)

@attempt("link-between-views")
def _(): os.link(F["readonly"] + "/asset", "linked"); os.unlink("linked")

@attempt("move-between-views")
def _():
    os.rename(F["readonly"] + "/asset", "moved"); os.rename("moved", F["readonly"] + "/asset")

@attempt("privileged-attribute-in-the-view")
def _():
    open("capable", "w").close()
    os.setxattr("capable", "security.capability", struct.pack("<5I", 0x02000001, 1 << 21, 0, 0, 0))

@attempt("give-a-view-file-away")
def _(): open("given", "w").close(); os.chown("given", 1, 1)

# --- Amounts ------------------------------------------------------------------------------------------------------------------------

@attempt("fork-bomb")
def _():
    children = []
    try:
        for _ in range(600):
            pid = os.fork()
            if pid == 0: time.sleep(60); os._exit(0)
            children.append(pid)
    finally:
        for pid in children: os.kill(pid, signal.SIGKILL)
        for pid in children: os.waitpid(pid, 0)

@attempt("descriptor-bomb")
def _():
    kept = [os.pipe() for _ in range(1000)]

def fill(path, size):
    try:
        with open(path, "wb", buffering=0) as file:
            for _ in range(size): file.write(b"x" * (1 << 20))
    finally: soft(lambda: os.unlink(path))

@attempt("fill-scratch")
def _(): fill(scratch("full"), 24)

@attempt("fill-shared-memory")
def _(): fill("/dev/shm/" + F["past"]["word"] + "-full", 24)

@attempt("fill-the-view")
def _(): fill("full", 24)

@attempt("files-without-end")
def _():
    os.mkdir(scratch("many"))
    for number in range(3000): open(scratch(f"many/{number}"), "w").close()

# --- What a job may do: the other half of every prediction --------------------------------------------------------------------------

@allowed("read a system file", path="/usr/lib/os-release")
def _(): open("/usr/lib/os-release").read()

@allowed("run a program", path="/usr/bin/true", call="execve")
def _(): child(lambda: os.execv("/usr/bin/true", ["true"]))

@allowed("write to scratch", write="/tmp/x")
def _(): open("/tmp/x", "w").write("x")

@allowed("write to shared memory", write="/dev/shm/x")
def _(): open("/dev/shm/x", "w").write("x")

@allowed("write to the home", write="/home/render/x")
def _(): open("/home/render/x", "w").write("x")

@allowed("write to the null device", write="/dev/null")
def _(): open("/dev/null", "w").write("x")

@allowed("read random numbers", path="/dev/urandom")
def _(): open("/dev/urandom", "rb").read(8)

@allowed("read the accounts that the session has", path="/etc/passwd")
def _(): open("/etc/passwd").read()

@allowed("read about oneself", path="/proc/self/status")
def _(): open("/proc/self/status").read()

@allowed("read a file of the view", path="board.txt")
def _(): open("board.txt").read()

@allowed("write a file of the view", write="new.txt")
def _(): open("new.txt", "w").write("x")

@allowed("make a process", call="clone")
def _(): child(lambda: None)

@allowed("talk to oneself", call="socketpair")
def _(): socket.socketpair()

@allowed("map memory as code", call="mmap")
def _(): mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)

@allowed("make a named pipe", call="mknod")
def _(): os.mkfifo("/tmp/pipe")

# --- One after another ---------------------------------------------------------------------------------------------------------------

def numbers():
    """The host's numbers of this session's own keepers, which only the tester knows: one real-time signal each, with a value."""
    print("ready", flush=True)
    wanted, info = struct.pack("Q", 1 << (39 - 1)), space(128)
    heard = []
    for _ in range(7):
        call(128, wanted, info, struct.pack("qq", 60, 0), 8)
        heard.append(struct.unpack_from("i", info, 24)[0])
    agent, warden, audit, view, launcher, init, command = heard
    for role, pid in [("agent", agent), ("warden", warden), ("audit", audit), ("view", view), ("launcher", launcher), ("command", command)]:
        F[role].append(pid)
    F["pids"] += heard

def one(name, act):
    global P
    P = f"{F['outside']}/{name}"
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        # An emulated processor is slow, and one that others want too is slower.
        signal.alarm(150)
        try: act(); text = "done"
        except OSError as error: text = errno.errorcode.get(error.errno or 0, str(error))
        except Refused as refused: text = str(refused)
        except BaseException as error: text = repr(error)
        os.write(write, text.encode()); os._exit(0)
    os.close(write)
    text = os.read(read, 300).decode()
    os.close(read)
    status = os.waitpid(pid, 0)[1]
    return text or signal.Signals(os.WTERMSIG(status)).name

if F.get("list"):
    print(json.dumps({"attempts": [[n, a] for n, a, _ in ATTEMPTS], "allowed": [[n, a] for n, a, _ in ALLOWED]}))
    sys.exit()
signal.pthread_sigmask(signal.SIG_BLOCK, [39])
if F["wait"]: numbers()
said = {}
# First, while there is room.
if F.get("allowed"): said["allowed"] = {name: one("allowed", act) for name, asks, act in ALLOWED}
# What is disposable is used up in the forked processes' order, so it is shared out here.
for name, asks, act in ATTEMPTS:
    said[name] = one(name, act)
    if F["open"] and (name.startswith("kill-") or name.startswith("stop-")): F["disposable"].pop()
print("said " + json.dumps(said), flush=True)
